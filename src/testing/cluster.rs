//! A cluster in a box: real messengers and your real actors on one thread, in virtual time, with
//! faults, from one seed.
//!
//! ```text
//!   Cluster ── run ──► boot every node ─► script of faults, and what you do ─► heal ─► settle ─► finish
//!                          │                         │                                 │
//!                          └── NodeHandle ── notes ──┴──► checkers ◄───────────────────┘
//! ```
//!
//! A node is a name and a *boot*: an async function that gets a [`NodeHandle`] and starts what the
//! daemon's `main` would, messengers and actors, the same types that run in production. A crash
//! drops all of it at once, wherever it waits; then boot is called again, for the next life, and
//! finds on [`NodeHandle::disk`] what survived.
//!
//! ```
//! use std::time::Duration;
//! use stellate::prelude::*;
//! use stellate::testing::{Action, Cluster, NodeHandle, Script};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Add(u64);
//! impl Message for Add { const TYPE: MessageType = MessageType::new(0x0101); type Reply = u64; }
//!
//! struct Sum { node: NodeHandle }
//! impl Actor for Sum { type Context = Context<Self>; }
//! impl Handler<Incoming<Add>> for Sum {
//!     type Result = ();
//!     fn handle(&mut self, add: Incoming<Add>, _: &mut Self::Context) {
//!         let file = self.node.disk().file("sum");
//!         let before = file.read_at(0, 8).try_into().map_or(0, u64::from_le_bytes);
//!         file.write_at(0, &(before + add.0).to_le_bytes()).unwrap();
//!         file.sync();
//!         add.reply(before + 1);
//!     }
//! }
//!
//! async fn boot(node: NodeHandle) -> Result<(), stellate::testing::BootError> {
//!     let messenger = node.messenger().build().await?;
//!     let own = node.clone();
//!     messenger
//!         .supervise("sum", move || Sum { node: own.clone() }, Restart::default())
//!         .handle::<Add>()
//!         .start()?;
//!     messenger.ready();
//!     Ok(())
//! }
//!
//! # fn main() {
//! let (one, two) = (EntityName::osd(1), EntityName::osd(2));
//! let outage = Action::Crash { node: two, down: Duration::from_secs(3) };
//! let outcome = Cluster::new(7)
//!     .node(one, boot)
//!     .node(two, boot)
//!     .script(Script::new().at(Duration::from_secs(1), outage))
//!     .run(async |cluster| {
//!         let ask = async || {
//!             let messenger = cluster.messenger(one).unwrap();
//!             let peer = messenger.connect(two, "sim://osd.2").unwrap();
//!             peer.request(Add(1)).await
//!         };
//!         assert_eq!(ask().await.unwrap().body, 1);
//!         cluster.sleep(Duration::from_secs(2)).await;
//!         // It is down: the request waits, finds another instance, and fails with its session.
//!         assert!(ask().await.is_err());
//!         assert_eq!(ask().await.unwrap().body, 2);
//!     });
//! outcome.assert_held();
//! # }
//! ```
//!
//! * **D1** The same seed, description and binary give the same [`Outcome::trace_hash`].
//! * **S8** After healing, all that checkers wait for comes about within [`Cluster::settle_within`].

mod check;
mod clock;
mod disk;
mod fabric;
mod life;
mod nic;
mod node;
mod outcome;
mod panics;
mod play;
mod running;
mod script;
mod stand_in;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use stellate_protocol::EntityName;
use stellate_transport::sim::{Profile, Quality, SimNet};
use stellate_transport::trace::Sink;
use tokio::time::Instant;

pub(in crate::testing) use self::check::Desk;
use self::check::What as Told;
use self::nic::Nics;
use self::running::{Inner, Slot};
use super::world::run_paused;

pub use self::check::{Breach, Checker, Seen, What as Happening};
pub use self::clock::{Clock, Skew};
pub use self::disk::{Disk, DiskFile, DiskFull, FILE_MAX};
pub use self::fabric::Fabric;
pub use self::nic::NicFault;
pub use self::node::NodeHandle;
pub use self::outcome::Outcome;
pub(in crate::testing) use self::panics::are_breaches;
pub use self::running::Running;
pub use self::script::{Action, NodeName, Script, Step};
pub(in crate::testing) use self::stand_in::played_instead;

/// What a boot may fail with.
pub type BootError = Box<dyn std::error::Error>;

type Boot = dyn Fn(NodeHandle) -> LocalBoxFuture<'static, Result<(), BootError>>;

/// Time that everything may take to come about after healing, if nothing is said.
pub const SETTLE_WITHIN: Duration = Duration::from_secs(120);

/// The description of a cluster, and how to break it.
#[must_use = "nothing happens before `run`"]
pub struct Cluster {
    seed: u64,
    fabric: Fabric,
    quality: Quality,
    nodes: BTreeMap<EntityName, (Rc<Boot>, Skew)>,
    script: Script,
    checkers: Vec<Box<dyn Checker>>,
    settle_within: Duration,
    record: usize,
    sink: Option<Sink>,
}

impl Cluster {
    /// A cluster without nodes, over a network of byte streams.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            fabric: Fabric::default(),
            quality: Quality::default(),
            nodes: BTreeMap::new(),
            script: Script::new(),
            checkers: Vec::new(),
            settle_within: SETTLE_WITHIN,
            record: 0,
            sink: None,
        }
    }

    /// Over another fabric: a [`Profile`] of the simulated network, or the RDMA driver on a fake NIC
    /// of some [`Personality`](stellate_transport::rdma::fake::Personality). There nodes are dialled
    /// at [`NodeHandle::address_of`], and neither tapes nor charts show frames.
    pub fn fabric(mut self, fabric: impl Into<Fabric>) -> Self {
        self.fabric = fabric.into();
        self
    }

    /// Over the simulated network as that stack behaves.
    pub fn profile(self, profile: Profile) -> Self {
        self.fabric(profile)
    }

    /// How good all ways are; see [`Running::net`] for single ones.
    pub fn quality(mut self, quality: Quality) -> Self {
        self.quality = quality;
        self
    }

    /// A node, and how it boots: at the start, and after each crash. The boot returns when the
    /// node is up; what runs on, it has spawned or hosted.
    ///
    /// Nodes boot in order of their names, each up to where it first waits. Another of that name
    /// takes its place.
    pub fn node<F>(mut self, name: EntityName, boot: impl Fn(NodeHandle) -> F + 'static) -> Self
    where
        F: Future<Output = Result<(), BootError>> + 'static,
    {
        let boot: Rc<Boot> = Rc::new(move |node| boot(node).boxed_local());
        self.nodes.insert(name, (boot, Skew::default()));
        self
    }

    /// How wrong the clock of a node is that was described before.
    pub fn skew(mut self, name: EntityName, skew: Skew) -> Self {
        if let Some((_, of_node)) = self.nodes.get_mut(&name) {
            *of_node = skew;
        }
        self
    }

    /// What goes wrong, and when. Played beside the test, from when every node is up.
    pub fn script(mut self, script: Script) -> Self {
        self.script = script;
        self
    }

    /// Somebody who judges the run.
    pub fn checker(mut self, checker: impl Checker + 'static) -> Self {
        self.checkers.push(Box::new(checker));
        self
    }

    /// Time that all that checkers wait for may take after healing (S8).
    pub fn settle_within(mut self, span: Duration) -> Self {
        self.settle_within = span;
        self
    }

    /// Keeps the newest `max` events for [`Outcome::tape`], to read them as lines or draw them as a
    /// chart; none if nothing is said. The run is the same.
    pub fn record(mut self, max: usize) -> Self {
        self.record = max;
        self
    }

    /// Hands every event to `sink` as it happens, beside what is kept: for runs of any length. It
    /// must not use the network.
    pub fn stream(mut self, sink: Sink) -> Self {
        self.sink = Some(sink);
        self
    }

    /// Runs it: boots all nodes, plays the script beside `drive`, heals, waits until checkers are
    /// settled, and lets them finish. A breach ends it where it is seen.
    ///
    /// # Panics
    /// If `drive` does, which in a [`sweep`](super::sweep) is a breach, `panic`; as
    /// [`virtual_time`](super::virtual_time) otherwise.
    pub fn run(self, drive: impl AsyncFnOnce(Running)) -> Outcome {
        let Self { seed, fabric, quality, nodes, script, checkers, settle_within, record, sink } =
            self;
        let script = stand_in::in_place_of(script);
        run_paused(async move {
            let (profile, nics) = match fabric {
                Fabric::Net(profile) => (profile, None),
                Fabric::Nic(personality) => {
                    let nics = Nics::new(seed, personality, nodes.keys().copied());
                    nics.set_quality(quality);
                    (Profile::STREAM, Some(Arc::new(nics)))
                }
            };
            let net = SimNet::with_profile(seed, profile);
            net.start_clock();
            net.set_quality(quality);
            net.record(record);
            if let Some(sink) = sink {
                net.stream(sink);
            }
            let desk = Arc::new(Desk::new(checkers, Some(net.clone())));
            let slot = |name: &EntityName, (boot, skew): (Rc<Boot>, Skew)| Slot {
                boot,
                clock: Clock::new(skew),
                disk: Disk::new(seed ^ super::Rng::fork(0, &name.to_string()).next_u64()),
                lives: 0,
                now: None,
                twins: Vec::new(),
            };
            let nodes = nodes.into_iter().map(|(name, of)| (name, slot(&name, of))).collect();
            let running = Running {
                inner: Rc::new(Inner {
                    net,
                    nics,
                    seed,
                    desk: desk.clone(),
                    quality,
                    nodes: RefCell::new(nodes),
                    faults: Cell::new(0),
                }),
            };
            let phases = phases(&running, &script, drive, settle_within);
            {
                let mut phases = std::pin::pin!(phases.fuse());
                let mut broken = std::pin::pin!(desk.broken.notified().fuse());
                futures::select_biased! {
                    () = broken => {}
                    () = phases => {}
                }
            }
            Outcome::of(&running, script)
        })
    }
}

/// All phases of a run, one after the other.
async fn phases(
    running: &Running,
    script: &Script,
    drive: impl AsyncFnOnce(Running),
    settle_within: Duration,
) {
    let desk = &running.inner.desk;
    running.start_all().await;
    let begin = Instant::now();
    let played = play::play(running, script, begin);
    let drive = panics::watch(desk, drive(running.clone()));
    futures::future::join(drive, played).await;
    running.heal().await;
    if let Some(first) = running.names().first() {
        desk.tell(*first, 0, Told::Healed);
    }
    let healed = Instant::now();
    while !desk.is_settled() {
        if healed.elapsed() > settle_within {
            let waits = desk.waits_for();
            let text = format!("not settled {settle_within:?} after healing: {waits}");
            return desk.report(Breach::new("S8", text));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    desk.finish();
    if let Some(violation) = running.net().violations().first() {
        desk.report(Breach::new("F6", format!("{violation:?}")));
    }
    if let Some(violation) = running.inner.nics.as_ref().and_then(|nics| nics.violation()) {
        desk.report(Breach::new("F6", violation));
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("seed", &self.seed)
            .field("fabric", &self.fabric.name())
            .field("nodes", &self.nodes.keys().collect::<Vec<_>>())
            .field("steps", &self.script.steps().len())
            .finish_non_exhaustive()
    }
}
