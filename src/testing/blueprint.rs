//! One description of a cluster, and three ways to run it.
//!
//! ```text
//!                  ┌─► simulate ─► Cluster       one thread, virtual time, faults from a seed
//!   Blueprint ─────┼─► deploy ───► Deployment    this process, real time, TCP
//!    nodes, boots  └─► deploy, with a process for each node: started, killed, started again
//! ```
//!
//! A node is a name and a *boot*: what the daemon's `main` would do. It gets a [`Site`], which says
//! where it is: how to make its messenger, where its peers listen, where its data may be. The boot
//! is the same everywhere, and so are the actors that it starts.
//!
//! ```
//! use stellate::prelude::*;
//! use stellate::testing::{Blueprint, BootError, Site};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Ping(u64);
//! impl Message for Ping { const TYPE: MessageType = MessageType::new(0x0101); type Reply = u64; }
//!
//! struct Pong;
//! impl Actor for Pong { type Context = Context<Self>; }
//! impl Handler<Incoming<Ping>> for Pong {
//!     type Result = ();
//!     fn handle(&mut self, ping: Incoming<Ping>, _: &mut Self::Context) {
//!         let n = ping.0;
//!         ping.reply(n + 1);
//!     }
//! }
//!
//! async fn boot(site: Site) -> Result<(), BootError> {
//!     let messenger = site.messenger().build().await?;
//!     messenger.supervise("pong", || Pong, Restart::default()).handle::<Ping>().start()?;
//!     messenger.ready();
//!     Ok(())
//! }
//!
//! let (one, two) = (EntityName::osd(1), EntityName::osd(2));
//! let pair = Blueprint::new().node(one, boot).node(two, boot);
//!
//! // In virtual time.
//! let outcome = pair.simulate(7).run(async |cluster| {
//!     let peer = cluster.messenger(one).unwrap().connect(two, "sim://osd.2").unwrap();
//!     assert_eq!(peer.request(Ping(1)).await.unwrap().body, 2);
//! });
//! outcome.assert_held();
//!
//! // In real time, over TCP.
//! # let home = std::env::temp_dir().join(format!("stellate-doc-{}", std::process::id()));
//! actix_rt::System::new().block_on(async {
//!     let deployment = pair.deploy(&home).start().await.unwrap();
//!     let (mine, to) = (deployment.messenger(one).unwrap(), deployment.address_of(two).unwrap());
//!     assert_eq!(mine.connect(two, to).unwrap().request(Ping(1)).await.unwrap().body, 2);
//!     deployment.stop().await;
//! });
//! # let _ = std::fs::remove_dir_all(&home);
//! ```

mod deployment;
mod process;
mod seat;
mod site;

use std::fmt;
use std::future::Future;
use std::path::Path;
use std::rc::Rc;

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use stellate_protocol::EntityName;

use super::cluster::{BootError, Cluster};

pub use self::deployment::{Deploy, DeployError, Deployment, START_MAX, STOP_MAX};
pub use self::seat::{SEAT_VARIABLE, Seat, SeatError};
pub use self::site::{Site, Storage};

type Boot = dyn Fn(Site) -> LocalBoxFuture<'static, Result<(), BootError>>;

/// The description of a cluster: its nodes, in the order in which they start, and how each boots.
/// Cloning copies handles.
#[derive(Clone, Default)]
pub struct Blueprint {
    nodes: Vec<(EntityName, Rc<Boot>)>,
}

impl Blueprint {
    /// A cluster without nodes.
    pub fn new() -> Self {
        Self::default()
    }

    /// A node, and how it boots: at the start, and each time it is started again. The boot returns
    /// when the node is up; what runs on, it has hosted or spawned. Another of that name takes its
    /// place.
    #[must_use]
    pub fn node<F>(mut self, name: EntityName, boot: impl Fn(Site) -> F + 'static) -> Self
    where
        F: Future<Output = Result<(), BootError>> + 'static,
    {
        self.nodes.retain(|(other, _)| *other != name);
        let boot: Rc<Boot> = Rc::new(move |site| boot(site).boxed_local());
        self.nodes.push((name, boot));
        self
    }

    /// The nodes, in the order in which they start.
    pub fn names(&self) -> Vec<EntityName> {
        self.nodes.iter().map(|(name, _)| *name).collect()
    }

    /// The cluster in virtual time, from a seed: add a script, checkers, a network, and `run` it.
    /// There nodes boot in the order of their names.
    pub fn simulate(&self, seed: u64) -> Cluster {
        self.nodes.iter().fold(Cluster::new(seed), |cluster, (name, boot)| {
            let boot = boot.clone();
            cluster.node(*name, move |handle| boot(Site::simulated(handle)))
        })
    }

    /// The cluster in real time over TCP, with a directory in which each node has its own. All of
    /// it is in this process, if nothing else is said.
    pub fn deploy(&self, home: impl AsRef<Path>) -> Deploy {
        Deploy::new(self.clone(), home.as_ref().to_owned())
    }

    /// Boots the node of a seat in this process: what a process does that was started for it, with
    /// [`Seat::from_env`]. Resolves when it is up.
    ///
    /// # Errors
    /// What its boot says, or that the blueprint has no such node.
    pub async fn sit(&self, seat: Seat) -> Result<Site, BootError> {
        let boot = self.boot_of(seat.name).ok_or_else(|| DeployError::Unknown(seat.name))?;
        let site = Site::real(seat);
        boot(site.clone()).await?;
        site.report()?;
        Ok(site)
    }

    fn boot_of(&self, name: EntityName) -> Option<Rc<Boot>> {
        self.nodes.iter().find(|(other, _)| *other == name).map(|(_, boot)| boot.clone())
    }
}

impl fmt::Debug for Blueprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blueprint").field("nodes", &self.names()).finish()
    }
}
