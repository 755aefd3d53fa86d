//! For tests of daemons: messengers in virtual time, faults at every frame edge, a recorder of
//! events, the verbs of the supervision tree.
//!
//! # A test in virtual time
//!
//! Two messengers, a fault, and what must hold after it. The whole of it:
//!
//! ```
//! use stellate::prelude::*;
//! use stellate::testing::{Direction, Fault, Faults, FrameKind, virtual_time};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Ping(u32);
//! impl Message for Ping { const TYPE: MessageType = MessageType::new(0x0101); type Reply = u32; }
//!
//! struct Osd { pings: u32 }
//! impl Actor for Osd { type Context = Context<Self>; }
//! impl Handler<Incoming<Ping>> for Osd {
//!     type Result = ();
//!     fn handle(&mut self, ping: Incoming<Ping>, _: &mut Self::Context) {
//!         self.pings += 1;
//!         ping.reply(self.pings);
//!     }
//! }
//!
//! # fn main() {
//! virtual_time(7, async |world| {
//!     let faults = Faults::new();
//!     faults.on(FrameKind::Message, Direction::Sent, 1, Fault::Fail); // lost, and its link with it
//!     let osd = world.messenger(EntityName::osd(1)).build().await.unwrap();
//!     osd.supervise("osd", || Osd { pings: 0 }, Restart::default()).handle::<Ping>().start().unwrap();
//!     osd.ready();
//!     let client = world.messenger(EntityName::osd(2));
//!     let client = client.transport(faults.wrap(world.transport("osd.2"))).build().await.unwrap();
//!     client.ready();
//!     let connection = client.connect(EntityName::osd(1), "sim://osd.1").unwrap();
//!     assert_eq!(connection.request(Ping(1)).await.unwrap().body, 1); // handled once, for all that
//!     assert_eq!(connection.counters().resumes_sent, 1);
//!     world.sleep(std::time::Duration::from_secs(15 * 60)).await; // takes no time
//!     assert!(connection.is_up());
//! });
//! # }
//! ```
//!
//! # Faults at frame edges
//!
//! A plan of [`Faults`] wraps any transport, virtual or real, and breaks what it names: the nth
//! passage of a kind of frame in one direction fails, waits at a [`Gate`], is the last that
//! passes, or comes late. It is counted for each session apart, over all its links: a link's frames
//! are those of the session that its hello names. Dials and accepts, which come before any hello, are
//! counted over the whole plan.
//!
//! ```
//! # use std::sync::Arc;
//! # use stellate::prelude::*;
//! use stellate::testing::{Direction, Fault, Faults, FrameKind, Tcp};
//! # async fn cut(name: EntityName) -> Result<Messenger, BuildError> {
//! let faults = Faults::new();
//! // Its third message is lost, and the link with it.
//! faults.on(FrameKind::Message, Direction::Sent, 3, Fault::Fail);
//! let tcp = faults.wrap(Arc::new(Tcp::new()));
//! let messenger = Messenger::builder(name).transport(tcp).build().await?;
//! # Ok(messenger)
//! # }
//! ```
//!
//! # What to look at
//!
//! | | |
//! | --- | --- |
//! | [`Cluster`] | nodes that crash and start again, faults from a script, checkers |
//! | [`Blueprint`] | one description of a cluster: in virtual time, in one process, as processes |
//! | [`sweep`] | many seeds; the first that fails is recorded and drawn, and its faults cut down to a [`FaultCase`] |
//! | [`Recorder`] | every event of a messenger's sessions |
//! | [`Connection::state`](crate::Connection::state), [`counters`](crate::Connection::counters), [`why`](crate::Connection::why) | a session: where it stands, what it counted, what it waits for |
//! | [`Faults::seen`], [`Faults::hits`] | which frames passed, which faults struck |
//! | [`SimNet`] | cuts, partitions, stalls, slow readers, refused dials; links |
//! | [`trace`] | every event of a run, in order: frames, links, faults, sessions, calls into your actors |
//! | [`Chart`] | the same as a sequence chart, one HTML file to look at and click through |
//! | [`Messenger::tree`](crate::Messenger::tree) | the verbs `kill`, `panic`, `pause`, `resume` by path, and what happened |

mod blueprint;
mod chart;
mod cluster;
pub mod drill;
mod recorder;
mod rng;
mod shrink;
mod sweep;
mod world;

pub use blueprint::{
    Blueprint, Deploy, DeployError, Deployment, SEAT_VARIABLE, START_MAX, STOP_MAX, Seat,
    SeatError, Site, Storage,
};
pub use chart::Chart;
pub use cluster::{
    Action, BootError, Breach, Checker, Clock, Cluster, Disk, DiskFile, DiskFull, FILE_MAX, Fabric,
    Happening, NicFault, NodeHandle, NodeName, Outcome, Running, SETTLE_WITHIN, Script, Seen, Skew,
    Step,
};
pub use recorder::{RECORDED_MAX, Recorder};
pub use rng::Rng;
pub use stellate_actors::supervise::{
    Cause, Entry, Mark, Phase as NodePhase, Tree, TreeError, WaitError, What,
};
pub use stellate_transport::faults::{
    Direction, Edge, Edge as FrameKind, Fault, Faults, Gate, Hit,
};
pub use stellate_transport::rdma;
pub use stellate_transport::sim::{self, SimNet};
pub use stellate_transport::trace;
pub use stellate_transport::{Tcp, TcpOptions, Transport};
pub use sweep::{
    CASE_VARIABLE, CHARTS_VARIABLE, FaultCase, SEED_VARIABLE, SEEDS_VARIABLE, SHRINK_RUNS, Sweep,
    sweep,
};
pub(crate) use world::is_virtual_time;
pub use world::{VIRTUAL_TIME_MAX, World, virtual_time, virtual_time_over};
