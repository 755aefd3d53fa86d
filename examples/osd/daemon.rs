//! The daemons, whole: each a messenger with the actors in it, and the cluster of them.
//!
//! ```text
//!   messenger osd.N ── tree ─┬─ store   the database, on a thread of its own
//!                            ├─ osd     the logic, on a thread of its own
//!                            └─ admin   commands, on the messenger's thread
//! ```
//!
//! A boot asks its [`Site`] where it is, and nothing here knows more: the same daemons run in
//! virtual time, in one process and as many processes.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use stellate::prelude::*;
use stellate::testing::{Blueprint, BootError, Faults, Site};

use super::admin::Admin;
use super::check::Witness;
use super::lane::LaneNumbers;
use super::messages::{Boot, CutLink, Get, GetMap, GetStatus, PanicNow, Put, Replicate};
use super::mon::Mon;
use super::osd::{Lasting, Osd};
use super::sabotage::Sabotage;
use super::store::{Keeps, Store};

/// The one monitor.
pub(crate) const MONITOR: EntityName = EntityName::mon(0);
/// Where the client of a test is.
pub(crate) const CLIENT: EntityName = EntityName::client(1);

/// Limits for machines that are near each other: a peer that comes back is found at once.
pub(crate) fn limits() -> Limits {
    Limits {
        backoff_max: Duration::from_millis(200),
        drain_max: Duration::from_secs(2),
        ..Limits::default()
    }
}

/// A monitor and OSDs from 0 on, which keep so many copies of each object. `sabotage`: how their
/// storage paths lie, if they do.
pub(crate) fn blueprint(osds: u64, replicas: u32, sabotage: Option<Sabotage>) -> Blueprint {
    blueprint_keeping(Keeps::InDatabase, osds, replicas, sabotage)
}

/// The same, with objects kept in that way.
pub(crate) fn blueprint_keeping(
    keeps: Keeps,
    osds: u64,
    replicas: u32,
    sabotage: Option<Sabotage>,
) -> Blueprint {
    let monitor = Blueprint::new()
        .node(MONITOR, move |site| async move { boot_monitor(&site, replicas).await });
    (0..osds).fold(monitor, |cluster, osd| {
        let boot = move |site| async move { boot_osd(&site, keeps, sabotage).await };
        cluster.node(EntityName::osd(osd), boot)
    })
}

/// Starts an OSD. It is in the map when its actor has reached the monitor.
///
/// # Errors
/// What the store or the messenger says.
pub(crate) async fn boot_osd(
    site: &Site,
    keeps: Keeps,
    sabotage: Option<Sabotage>,
) -> Result<(), BootError> {
    let shelf = keeps.open(site)?;
    let faults = Faults::new();
    let messenger = site
        .messenger()
        .transport(faults.wrap(site.transport()))
        .policy(EntityKind::OSD, Policy::lossless_peer())
        .accept(EntityKind::CLIENT, Policy::stateful_server())
        .dial(EntityKind::MON, Policy::lossless_client())
        .limits(limits())
        .build()
        .await?;
    let store = messenger
        .supervise("store", move || Store::new(shelf.clone()), Restart::default())
        .start()?;
    let lasting = Lasting {
        osd: site.name().number().unwrap_or_default(),
        messenger: messenger.clone(),
        monitor: messenger.connect(MONITOR, site.address_of(MONITOR).await)?,
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
    Ok(())
}

/// Starts a monitor.
///
/// # Errors
/// What the messenger says.
pub(crate) async fn boot_monitor(site: &Site, replicas: u32) -> Result<(), BootError> {
    let messenger = site
        .messenger()
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
    Ok(())
}
