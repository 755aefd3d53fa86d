//! A virtual network, seeded and in virtual time.
//!
//! ```text
//!   SimTransport(node a) ─┐                                  ┌─ SimTransport(node b)
//!      SimLink ── Flow: bandwidth, latency, cuts, slots ─► SimLink
//!                         └──────── Net, one driver task ────┘
//! ```
//!
//! Everything runs on one thread, on tokio's paused clock, in ticks of 1 ms; every hop takes at
//! least one. What happens within a tick is ordered by the seed. Links really run the codec, and
//! on stream profiles their bytes are cut at arbitrary places. Every fault is a method here.
//!
//! * **D1** The same seed and the same calls give the same [`SimNet::trace_hash`].
//! * **F6** A frame that finds no posted receive does what the profile says, and a receive posted
//!   beyond the ring ends the link; both are listed in [`SimNet::violations`].

mod agenda;
mod disturb;
mod driver;
mod flow;
mod link;
mod net;
mod passage;
mod profile;
pub(crate) mod rng;
mod run;
mod scribe;
mod tamper;
mod trace;
mod transport;
mod wire;
mod wires;

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};

pub use self::flow::CutAfter;
pub(crate) use self::net::LINK_ENDS_MAX;
use self::net::{Net, Shared};
pub use self::profile::Profile;
pub use self::scribe::Scribe;
pub use self::tamper::{Tamper, UnknownTamper};
pub use self::transport::SimTransport;
pub use self::wire::{LinkEnd, LinkInfo, Violation};
use crate::trace::{Sink, Tape, What};

/// The scheme.
pub(crate) const SCHEME: &str = "sim";

/// How good the way from one node to another is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quality {
    /// Ticks that everything takes, at least 1.
    pub latency: u32,
    /// Up to so many ticks more, drawn for each frame or piece; order is kept.
    pub jitter: u32,
    /// Bytes per tick; none is unlimited.
    pub bandwidth: Option<u32>,
    /// Chance that a link is cut when a frame arrives, in millionths.
    pub cut_chance: u32,
}

impl Default for Quality {
    fn default() -> Self {
        Self { latency: 1, jitter: 1, bandwidth: None, cut_chance: 0 }
    }
}

/// Which end of a link, as seen from the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// What the dialler sends.
    Dialler = 0,
    /// What the acceptor sends.
    Acceptor = 1,
}

impl Origin {
    /// That end of a link.
    pub(crate) fn of(end: usize) -> Self {
        if end == 0 { Self::Dialler } else { Self::Acceptor }
    }
}

/// The network. Cloning copies a handle.
#[derive(Clone)]
pub struct SimNet {
    shared: Arc<Shared>,
}

impl SimNet {
    /// A network of byte streams.
    pub fn new(seed: u64) -> Self {
        Self::with_profile(seed, Profile::STREAM)
    }

    /// A network of one kind of fabric.
    pub fn with_profile(seed: u64, profile: Profile) -> Self {
        Self { shared: Arc::new(Shared::new(seed, profile)) }
    }

    /// The transport of a node, by a name like `osd.1`; it listens at `sim://osd.1`, or at
    /// `sim://osd.1:7` if it needs several addresses. After [`crash`](Self::crash) the node's
    /// older handles are dead and this makes a new one.
    pub fn transport(&self, node: &str) -> SimTransport {
        SimTransport::new(self.shared.clone(), node)
    }

    /// Sets the quality of all ways that have none of their own.
    pub fn set_quality(&self, quality: Quality) {
        self.net().quality = quality;
    }

    /// Sets the quality of the way from one node to another.
    pub fn set_quality_between(&self, from: &str, to: &str, quality: Quality) {
        self.net().path(from, to).quality = Some(quality);
    }

    /// Nothing gets through either way until healed; what is sent waits.
    pub fn partition(&self, a: &str, b: &str) {
        self.partition_one_way(a, b);
        self.partition_one_way(b, a);
    }

    /// Nothing gets from one node to another until healed.
    pub fn partition_one_way(&self, from: &str, to: &str) {
        self.change(|net| net.set_blocked(from, to, true));
    }

    /// Both ways are open again.
    pub fn heal(&self, a: &str, b: &str) {
        self.change(|net| {
            net.set_blocked(a, b, false);
            net.set_blocked(b, a, false);
        });
    }

    /// No partition, refusal, black hole, slow reader, stall, tampering or planned cut is left.
    pub fn heal_all(&self) {
        self.change(Net::heal_all);
    }

    /// Whether dials to the node are refused, as if nobody listened.
    pub fn refuse_dials(&self, node: &str, refuse: bool) {
        let mut net = self.net();
        net.node(node).refuses = refuse;
        net.tell(node, None, What::Refuse(refuse));
    }

    /// Whether dials to the node get no answer.
    pub fn black_hole_dials(&self, node: &str, swallow: bool) {
        let mut net = self.net();
        net.node(node).swallows = swallow;
        net.tell(node, None, What::Ignore(swallow));
    }

    /// Bytes per tick and link that the node reads; none is no limit.
    pub fn slow_reader(&self, node: &str, bytes_per_tick: Option<u32>) {
        self.change(|net| {
            net.set_slow(node, bytes_per_tick);
            net.tell(node, None, What::Slow { bytes_per_tick });
        });
    }

    /// Nothing moves on any link from one node to another for so many ticks.
    pub fn stall(&self, from: &str, to: &str, ticks: u64) {
        self.change(|net| net.stall(from, to, ticks));
    }

    /// What is done to frames that one node sends to another from now on; none lets them pass as
    /// they are. What is under way has passed.
    pub fn tamper(&self, from: &str, to: &str, tamper: Option<Tamper>) {
        self.shared.tampers.store(true, Ordering::Relaxed);
        self.net().set_tamper(from, to, tamper);
    }

    /// Cuts a link now: what is in flight is lost. Who is told depends on the profile.
    pub fn cut(&self, link: u64) {
        self.change(|net| net.cut(link));
    }

    /// Cuts all links between two nodes now; how many.
    pub fn cut_between(&self, a: &str, b: &str) -> usize {
        self.change(|net| net.cut_where(|wire| wire.is_between(a, b)))
    }

    /// Cuts all links now; how many.
    pub fn cut_all(&self) -> usize {
        self.change(|net| net.cut_where(|_| true))
    }

    /// Cuts a link when so much more has arrived in one direction.
    pub fn cut_after(&self, link: u64, from: Origin, when: CutAfter) {
        if let Some(wire) = self.net().wires.get_mut(link) {
            wire.flows[from as usize].cut_after = Some(when);
        }
    }

    /// The node dies: its links and listeners are gone, and the node's transports do nothing any
    /// more. Its peers learn what the profile tells them.
    pub fn crash(&self, node: &str) {
        self.change(|net| net.crash(node));
    }

    /// The links that are up at one end at least, oldest first.
    pub fn links(&self) -> Vec<LinkInfo> {
        let net = self.net();
        net.wires.iter().map(|(id, wire)| wire.info(id)).collect()
    }

    /// Those between two nodes.
    pub fn links_between(&self, a: &str, b: &str) -> Vec<LinkInfo> {
        let net = self.net();
        let between = net.wires.iter().filter(|(_, wire)| wire.is_between(a, b));
        between.map(|(id, wire)| wire.info(id)).collect()
    }

    /// How links ended, oldest first: the newest 16,384. One that is closed by an end that still
    /// sends the rest is among them, and among the [`links`](Self::links) until it is gone.
    pub fn ends(&self) -> Vec<LinkEnd> {
        self.net().ends.iter().cloned().collect()
    }

    /// Those between two nodes.
    pub fn ends_between(&self, a: &str, b: &str) -> Vec<LinkEnd> {
        self.net().ends.iter().filter(|end| end.is_between(a, b)).cloned().collect()
    }

    /// Hash over every event so far, in order, recorded or not (D1).
    pub fn trace_hash(&self) -> u64 {
        self.net().trace.hash()
    }

    /// How many events the hash covers.
    pub fn trace_events(&self) -> u64 {
        self.net().trace.events()
    }

    /// How many messages arrived, replies among them; one that came twice is two.
    pub fn messages(&self) -> u64 {
        self.net().trace.messages()
    }

    /// Starts the clock by which events are told, if it does not run yet. Dials and listeners start
    /// it too: where all messages go over another fabric there are none.
    pub fn start_clock(&self) {
        self.net().start();
    }

    /// Keeps the newest `max` events from now on, at most
    /// [`TAPE_EVENTS_MAX`](crate::trace::TAPE_EVENTS_MAX); 0 keeps none, as at first.
    pub fn record(&self, max: usize) {
        let mut net = self.net();
        net.trace.keep(max);
        self.shared.read.store(net.trace.is_read(), Ordering::Relaxed);
    }

    /// Hands every event from now on to `sink`, beside what is kept: for runs of any length. It is
    /// called with the network locked, and must not use it.
    pub fn stream(&self, sink: Sink) {
        self.shared.read.store(true, Ordering::Relaxed);
        self.net().trace.stream(sink);
    }

    /// Nothing is kept or streamed any more; what was kept is forgotten.
    pub fn stop_recording(&self) {
        self.shared.read.store(false, Ordering::Relaxed);
        self.net().trace.stop();
    }

    /// Whether events are kept or streamed.
    pub fn is_recording(&self) -> bool {
        self.net().trace.is_read()
    }

    /// What was recorded, and the frames that are still on their way.
    pub fn tape(&self) -> Tape {
        self.net().tape()
    }

    /// Something happened to the cluster as a whole: it is in the trace.
    pub fn tell(&self, what: What) {
        self.net().tell_all(what);
    }

    /// A node's hand in the trace.
    pub fn scribe(&self, node: &str) -> Scribe {
        Scribe::new(self.shared.clone(), node)
    }

    /// Ticks since the network was first used.
    pub fn tick(&self) -> u64 {
        self.net().now()
    }

    /// Laws that the users of links broke (F6 and its like), the first few.
    pub fn violations(&self) -> Vec<Violation> {
        self.net().violations.clone()
    }

    fn net(&self) -> MutexGuard<'_, Net> {
        self.shared.lock()
    }

    fn change<T>(&self, with: impl FnOnce(&mut Net) -> T) -> T {
        self.shared.change(with)
    }
}
