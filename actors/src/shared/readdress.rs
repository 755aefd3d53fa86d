//! Whether a session can go on over other addresses: what is known at once, before it tries.

use std::sync::Arc;

use stellate_protocol::EntityName;
use stellate_protocol::event::EndCause;
use stellate_protocol::session::Phase;
use stellate_transport::Address;

use super::{SessionShared, Staged};

/// What a session may dial.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reach {
    /// Its policy dials.
    pub(crate) dials: bool,
    /// Of the transports that are built in.
    pub(crate) schemes: Arc<[&'static str]>,
}

/// Why a session stays where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReaddressError {
    /// No address was given.
    NoAddress,
    /// No transport for the scheme.
    NoTransport(Address),
    /// The policy towards that peer is a server's, which never dials.
    NeverDials(EntityName),
    /// It is lossy and up: it ends with its link, so it cannot leave it.
    Lossy,
    /// It is closing or has ended.
    Ended(Option<EndCause>),
}

impl SessionShared {
    /// Goes on over those addresses, the first first; nothing changes if it cannot.
    ///
    /// # Errors
    /// [`ReaddressError`].
    pub(crate) fn readdress(&self, addresses: Vec<Address>) -> Result<(), ReaddressError> {
        if addresses.is_empty() {
            return Err(ReaddressError::NoAddress);
        }
        let unserved = |to: &&Address| !self.reach.schemes.contains(&to.scheme());
        if let Some(stranger) = addresses.iter().find(unserved) {
            return Err(ReaddressError::NoTransport(stranger.clone()));
        }
        if !self.reach.dials {
            return Err(ReaddressError::NeverDials(self.target));
        }
        let snapshot = self.snapshot();
        if matches!(snapshot.phase, Some(Phase::Finishing | Phase::Ended)) {
            return Err(ReaddressError::Ended(self.intake().err().flatten()));
        }
        if snapshot.lossy && snapshot.peer.is_some() {
            return Err(ReaddressError::Lossy);
        }
        self.intake().map_err(ReaddressError::Ended)?;
        self.stage(Staged::Readdress(addresses));
        Ok(())
    }
}
