//! Messengers in virtual time, on one thread, from one seed.
//!
//! ```text
//!   virtual_time ── runtime with a paused clock ── LocalSet ──► your test
//!        └─► World: SimNet, seed ──► builder of osd.1, builder of osd.2, …
//! ```
//!
//! * The clock stands while anything can run and jumps to the next timer when nothing can: 15
//!   minutes of silence take milliseconds.
//! * **D1** The same seed, the same test and the same binary give the same run, frame by frame.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use stellate_protocol::EntityName;
use stellate_transport::Transport;
use stellate_transport::sim::{Profile, SimNet};
use tokio::task::LocalSet;
use tokio::time::Instant;

use crate::builder::MessengerBuilder;
use crate::messenger::Messenger;

/// Virtual time after which a test is taken to hang.
pub const VIRTUAL_TIME_MAX: Duration = Duration::from_secs(6 * 3600);

/// Runs `test` in virtual time, with a network of byte streams, and gives back what it gives.
///
/// All that it starts runs on this thread: messengers, hosted actors, plain actors, spawned local
/// futures. There is no actix system, and with it no other thread that would have another clock:
/// a messenger of yours runs here whatever its `arbiters`, and so do actors of every `Placement`.
/// Sockets do not work here, nor does [`actix::System::current`].
///
/// What is left running when the test returns is dropped.
///
/// # Panics
/// If `test` does, if it has not ended after [`VIRTUAL_TIME_MAX`] (so does a test that hangs, and
/// at once), inside another runtime, or if the system gives no runtime.
pub fn virtual_time<T>(seed: u64, test: impl AsyncFnOnce(World) -> T) -> T {
    virtual_time_over(Profile::STREAM, seed, test)
}

/// The same over another fabric.
///
/// # Panics
/// As [`virtual_time`].
pub fn virtual_time_over<T>(profile: Profile, seed: u64, test: impl AsyncFnOnce(World) -> T) -> T {
    run_paused(async { test(World::new(profile, seed)).await })
}

thread_local! {
    static IS_VIRTUAL: Cell<bool> = const { Cell::new(false) };
}

/// Whether time is virtual here.
pub(crate) fn is_virtual_time() -> bool {
    IS_VIRTUAL.get()
}

/// The thread's time is real again when this is gone.
struct Virtual;

impl Drop for Virtual {
    fn drop(&mut self) {
        IS_VIRTUAL.set(false);
    }
}

/// Runs something in virtual time, on this thread.
pub(super) fn run_paused<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap_or_else(|error| panic!("the system gives no runtime: {error}"));
    let whole = async {
        match tokio::time::timeout(VIRTUAL_TIME_MAX, test).await {
            Ok(output) => output,
            Err(_) => panic!("the test has not ended after {VIRTUAL_TIME_MAX:?} of virtual time"),
        }
    };
    let local = LocalSet::new();
    let _virtual = Virtual;
    IS_VIRTUAL.set(true);
    local.block_on(&runtime, whole)
}

/// A virtual network, the clock, and builders of messengers that live there.
pub struct World {
    net: SimNet,
    seed: u64,
    built: Cell<u64>,
    start: Instant,
}

impl World {
    fn new(profile: Profile, seed: u64) -> Self {
        let net = SimNet::with_profile(seed, profile);
        Self { net, seed, built: Cell::new(0), start: Instant::now() }
    }

    /// A messenger on a node of its name, bound at `sim://NAME`: `sim://osd.1`. Each call draws
    /// another instance, so the second one for a name is its next life.
    pub fn messenger(&self, name: EntityName) -> MessengerBuilder {
        self.messenger_on(&node_of(name), name)
    }

    /// A messenger on another node than that of its name: say two processes with one name.
    pub fn messenger_on(&self, node: &str, name: EntityName) -> MessengerBuilder {
        self.built.set(self.built.get() + 1);
        Messenger::builder(name)
            .transport(self.transport(node))
            .bind(format!("sim://{node}").as_str())
            .trace(self.net.scribe(node))
            .arbiters(0)
            // Any odd number: one step apart are the seeds of two tests.
            .seed(self.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(self.built.get()))
    }

    /// The transport of a node, to wrap a plan of faults around:
    /// `world.messenger(name).transport(faults.wrap(world.transport("osd.1")))`.
    pub fn transport(&self, node: &str) -> Arc<dyn Transport> {
        Arc::new(self.net.transport(node))
    }

    /// The network: its faults, its links, its trace.
    pub fn net(&self) -> &SimNet {
        &self.net
    }

    /// The process dies: its node leaves the network without a word, and its actors stop. Peers
    /// learn what the fabric tells them. Then the name may be built again.
    ///
    /// Hosted actors are stopped in order, as by a shutdown, since in one process nothing else can
    /// take them away; nothing that they send then leaves the node.
    pub async fn crash(&self, messenger: &Messenger) {
        self.crash_on(&node_of(messenger.name()), messenger).await;
    }

    /// The same for one that was built with [`messenger_on`](Self::messenger_on).
    pub async fn crash_on(&self, node: &str, messenger: &Messenger) {
        self.net.crash(node);
        messenger.tree().shutdown().await;
    }

    /// Virtual time since the test began.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Lets that much time pass.
    pub fn sleep(&self, span: Duration) -> impl Future<Output = ()> + use<> {
        tokio::time::sleep(span)
    }

    /// Waits for a state that has no event, by looking: at first once a tick, in a long wait less
    /// often, so that it ends at most a 32nd of itself late.
    ///
    /// # Panics
    /// After an hour of virtual time: `what` did not come.
    pub async fn until(&self, what: &str, mut done: impl FnMut() -> bool) {
        const PATIENCE: Duration = Duration::from_secs(3600);
        let start = Instant::now();
        while !done() {
            assert!(start.elapsed() < PATIENCE, "waited an hour of virtual time for {what}");
            tokio::time::sleep(Duration::from_millis(1).max(start.elapsed() / 32)).await;
        }
    }
}

/// The node of an entity; `?` of an anonymous one is a letter as any other.
fn node_of(name: EntityName) -> String {
    name.to_string()
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("seed", &self.seed)
            .field("tick", &self.net.tick())
            .finish_non_exhaustive()
    }
}
