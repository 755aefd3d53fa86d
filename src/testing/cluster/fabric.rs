//! What the messages of a cluster go over, by name.

use stellate_transport::rdma::fake::Personality;
use stellate_transport::sim::Profile;

/// A fabric in virtual time: the simulated network in one of its profiles, or the RDMA driver on a
/// NIC that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fabric {
    /// `sim://`, as this stack behaves.
    Net(Profile),
    /// `rdma://`, over the driver of production and a NIC of this kind.
    Nic(Personality),
}

impl Fabric {
    /// All of them: every profile, then the NICs.
    pub fn all() -> impl Iterator<Item = Self> {
        let nics = [Personality::ROCE, Personality::IWARP].map(Self::Nic);
        Profile::ALL.into_iter().map(Self::Net).chain(nics)
    }

    /// Its name, as the command line and case files know it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Net(profile) => profile.name,
            Self::Nic(Personality { fabric, .. }) => match fabric {
                stellate_transport::rdma::verbs::Fabric::IWarp => "nic-iwarp",
                _ => "nic-roce",
            },
        }
    }

    /// The one of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::all().find(|fabric| fabric.name() == name)
    }
}

impl Default for Fabric {
    fn default() -> Self {
        Self::Net(Profile::STREAM)
    }
}

impl From<Profile> for Fabric {
    fn from(profile: Profile) -> Self {
        Self::Net(profile)
    }
}

impl From<Personality> for Fabric {
    fn from(personality: Personality) -> Self {
        Self::Nic(personality)
    }
}
