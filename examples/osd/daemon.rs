//! One OSD, whole: a messenger with the actors in it.
//!
//! ```text
//!   messenger osd.N ── tree ─┬─ store   the database, on a thread of its own
//!                            ├─ osd     the logic, on a thread of its own
//!                            └─ admin   commands, on the messenger's thread
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use stellate::prelude::*;
use stellate::testing::Faults;
use stellate_transport::Tcp;

use super::admin::Admin;
use super::check::Witness;
use super::lane::LaneNumbers;
use super::messages::{Boot, CutLink, Get, GetMap, GetStatus, PanicNow, Put, Replicate};
use super::mon::Mon;
use super::osd::{Lasting, Osd};
use super::sabotage::Sabotage;
use super::store::{self, Store};

type Trouble = Box<dyn std::error::Error>;

/// How to run an OSD.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Its number.
    pub(crate) osd: u64,
    /// Where the monitor listens.
    pub(crate) monitor: String,
    /// The file of its database.
    pub(crate) store: PathBuf,
    /// How its storage path lies, if it does.
    pub(crate) sabotage: Option<Sabotage>,
}

/// An OSD that runs.
pub(crate) struct Daemon {
    pub(crate) messenger: Messenger,
    pub(crate) faults: Faults,
}

/// Limits for machines that are near each other: a peer that comes back is found at once.
pub(crate) fn limits() -> Limits {
    Limits {
        backoff_max: Duration::from_millis(200),
        drain_max: Duration::from_secs(2),
        ..Limits::default()
    }
}

impl Daemon {
    /// Starts it. It is in the map when its actor has reached the monitor.
    ///
    /// # Errors
    /// What the store or the messenger says.
    pub(crate) async fn start(config: Config) -> Result<Self, Trouble> {
        let Config { osd, monitor, store, sabotage } = config;
        let database = store::open(&store)?;
        let faults = Faults::new();
        let messenger = Messenger::builder(EntityName::osd(osd))
            .bind("tcp://127.0.0.1:0")
            .transport(faults.wrap(Arc::new(Tcp::new())))
            .policy(EntityKind::OSD, Policy::lossless_peer())
            .accept(EntityKind::CLIENT, Policy::stateful_server())
            .dial(EntityKind::MON, Policy::lossless_client())
            .limits(limits())
            .build()
            .await?;
        let store = messenger
            .supervise("store", move || Store::new(database.clone()), Restart::default())
            .start()?;
        let lasting = Lasting {
            osd,
            messenger: messenger.clone(),
            monitor: messenger.connect(EntityName::mon(0), monitor.as_str())?,
            store,
            witness: Witness::default(),
            numbers: LaneNumbers::default(),
            fuse: Arc::new(AtomicBool::new(false)),
            sabotage,
        };
        let (witness, fuse) = (lasting.witness.clone(), lasting.fuse.clone());
        messenger
            .supervise("osd", move || Osd::new(lasting.clone()), Restart::default())
            .handle::<Put>()
            .handle::<Replicate>()
            .handle::<Get>()
            .events()
            .admission()
            .start()?;
        let (node, plan) = (messenger.clone(), faults.clone());
        let admin = move || Admin {
            messenger: node.clone(),
            faults: plan.clone(),
            witness: witness.clone(),
            fuse: fuse.clone(),
        };
        messenger
            .supervise("admin", admin, Restart::default())
            .handle::<GetStatus>()
            .handle::<CutLink>()
            .handle::<PanicNow>()
            .placement(Placement::Inline)
            .start()?;
        messenger.ready();
        Ok(Self { messenger, faults })
    }

    /// Drains and stops.
    pub(crate) async fn stop(self) {
        self.messenger.shutdown().await;
    }
}

/// Starts a monitor; its address is among `local_addresses`.
///
/// # Errors
/// What the messenger says.
pub(crate) async fn start_monitor(replicas: u32) -> Result<Messenger, Trouble> {
    let messenger = Messenger::builder(EntityName::mon(0))
        .bind("tcp://127.0.0.1:0")
        .accept(EntityKind::OSD, Policy::stateful_server())
        .accept(EntityKind::CLIENT, Policy::stateful_server())
        .limits(limits())
        .build()
        .await?;
    messenger
        .supervise("mon", move || Mon::new(replicas), Restart::default())
        .handle::<Boot>()
        .handle::<GetMap>()
        .placement(Placement::Inline)
        .start()?;
    messenger.ready();
    Ok(messenger)
}
