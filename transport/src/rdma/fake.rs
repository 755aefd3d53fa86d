//! A NIC in virtual time: verbs and rdma_cm without a device, with every fault they have.
//!
//! ```text
//!   host a ── Verbs ─┐     ┌ queue pairs: SENDs and READs, in order, RNR, retries, flush ┐
//!                    ├─ FakeNet: one agenda of ticks, one seed                           │
//!   host b ── Verbs ─┘     └ rdma_cm: requests, answers, late and lost events ───────────┘
//! ```
//!
//! It does what libibverbs and librdmacm do, and is stricter where hardware is careless: READs of
//! memory that is not exported, more READs than agreed, an acceptor that speaks first, a SEND
//! without a receive and an overrun completion queue are all listed in
//! [`FakeNet::violations`]. Completions of different queue pairs come in an order that the seed
//! decides. The same seed and the same calls give the same [`FakeNet::trace_hash`] (D1).

mod cm;
mod device;
mod disturb;
mod driver;
mod handles;
mod links;
mod pair;
#[cfg(test)]
mod tests;
mod world;

use std::net::IpAddr;
use std::sync::{Arc, MutexGuard};

use self::handles::FakeVerbs;
use self::world::{Shared, World};
pub use super::verbs::WorkFault;
use super::verbs::{Fabric, Verbs};
use crate::sim::{CutAfter, LinkEnd, LinkInfo, Quality};

/// What a fake device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Personality {
    /// What it runs on.
    pub fabric: Fabric,
    /// Most inline data; more is refused.
    pub inline_max: u32,
    /// Most segments of a SEND.
    pub segments_max: u32,
    /// Most work in each queue of a queue pair.
    pub qp_depth_max: u32,
    /// Most queue pairs.
    pub qp_max: u32,
    /// Most entries of a completion queue.
    pub cq_depth_max: u32,
    /// READs outstanding, both ways.
    pub reads_max: u8,
    /// Bytes that may be registered: the limit of locked memory.
    pub locked_max: usize,
}

impl Personality {
    /// Soft RoCE, roughly.
    pub const ROCE: Self = Self {
        fabric: Fabric::RoCE,
        inline_max: 512,
        segments_max: 32,
        qp_depth_max: 16 * 1024,
        qp_max: 64 * 1024,
        cq_depth_max: 32 * 1024,
        reads_max: 128,
        locked_max: 1 << 30,
    };
    /// Soft iWARP, roughly: no receive is fatal, little inline, six segments.
    pub const IWARP: Self =
        Self { fabric: Fabric::IWarp, inline_max: 80, segments_max: 6, ..Self::ROCE };
}

/// An event of the connection manager that can be lost or late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CmWord {
    /// That a connection is up.
    Established,
    /// That it is over.
    Disconnected,
}

/// A rule of the fabric that its user broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A SEND found no receive.
    NoReceive,
    /// More READs outstanding than the peer allows.
    TooManyReads,
    /// A READ of memory that is not exported.
    NotExported,
    /// The acceptor sent before it had received.
    SpokeFirst,
    /// A completion queue was overrun.
    CqOverrun,
    /// A region was given back while work was posted in it, or a device closed with queue pairs.
    InUse,
}

/// What a host has of its device and of rdma_cm: all of it comes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Event channels.
    pub channels: usize,
    /// Connection identifiers.
    pub identifiers: usize,
    /// Queue pairs.
    pub queue_pairs: usize,
    /// Completion queues.
    pub completion_queues: usize,
    /// Regions.
    pub regions: usize,
    /// Bytes registered.
    pub registered: usize,
    /// Exports that were not withdrawn.
    pub exports: usize,
}

/// The fabric between the fake hosts. Cloning copies a handle.
#[derive(Clone, Debug)]
pub struct FakeNet {
    shared: Arc<Shared>,
}

impl FakeNet {
    /// Without hosts.
    pub fn new(seed: u64) -> Self {
        Self { shared: Arc::new(Shared::new(seed)) }
    }

    /// The libraries of the host with that address, which has one device, `fake0`.
    pub fn host(&self, ip: IpAddr, personality: Personality) -> Arc<dyn Verbs> {
        let host = self.world().add_host(ip, personality);
        Arc::new(FakeVerbs { shared: self.shared.clone(), host })
    }

    /// Whether nothing gets through between two hosts. Senders try again, then give up.
    pub fn partition(&self, a: IpAddr, b: IpAddr, blocked: bool) {
        self.world().block(a, b, blocked);
    }

    /// How good all ways are. Bandwidth is left out: a NIC has enough.
    pub fn set_quality(&self, quality: Quality) {
        self.world().quality = quality;
    }

    /// Cuts all connections between two hosts: both ends are in error. How many.
    pub fn cut_between(&self, a: IpAddr, b: IpAddr) -> usize {
        self.shared.change(|world| world.cut_between(a, b))
    }

    /// Cuts the connections between two hosts when so much more has come from one of them.
    pub fn cut_after(&self, from: IpAddr, to: IpAddr, when: CutAfter) {
        self.world().cut_after(from, to, when);
    }

    /// Nothing moves from one host to another for so many ticks. Hardware waits.
    pub fn stall(&self, from: IpAddr, to: IpAddr, ticks: u64) {
        self.world().stall(from, to, ticks);
    }

    /// Whether dials to a host are refused, as if nobody listened.
    pub fn refuse_dials(&self, host: IpAddr, refuse: bool) {
        self.world().host_at(host).refuses = refuse;
    }

    /// Whether dials to a host get no answer.
    pub fn black_hole_dials(&self, host: IpAddr, swallow: bool) {
        self.world().host_at(host).swallows = swallow;
    }

    /// The next work that a host sends fails like this, and its queue pair with it.
    pub fn fail_next(&self, host: IpAddr, fault: WorkFault) {
        self.world().host_at(host).failures.push_back(fault);
    }

    /// The so-many-th SEND that a host posts from now on, 1 at least, is refused: what it posted before
    /// arrived, and then its queue pair broke. A NIC is that fast between two posts.
    pub fn break_at_post(&self, host: IpAddr, nth: u32) {
        self.world().host_at(host).break_at_post = nth;
    }

    /// What a host receives next is not seen before its queue is armed again, as what comes right
    /// between a look that found nothing and the arming.
    pub fn receive_at_arm(&self, host: IpAddr) {
        self.world().host_at(host).receive_at_arm = true;
    }

    /// For so many ticks what is sent to a host finds no receive, whatever it has posted.
    pub fn not_ready(&self, host: IpAddr, ticks: u64) {
        self.world().not_ready(host, ticks);
    }

    /// No fault is left that was planned or lasts; devices are there, as large as they were.
    pub fn heal_all(&self) {
        self.shared.change(World::heal_all);
    }

    /// Loses the next so many events of that kind on their way to a host.
    pub fn lose_words(&self, host: IpAddr, word: CmWord, count: u32) {
        self.world().host_at(host).lost_words.insert(word, count);
    }

    /// Delays all events of that kind on their way to a host by so many ticks.
    pub fn delay_words(&self, host: IpAddr, word: CmWord, ticks: u64) {
        self.world().host_at(host).late_words.insert(word, ticks);
    }

    /// Changes how much a host may register from now on.
    pub fn limit_memory(&self, host: IpAddr, bytes: usize) {
        self.world().host_at(host).personality.locked_max = bytes;
    }

    /// Changes how many queue pairs a host may have.
    pub fn limit_pairs(&self, host: IpAddr, pairs: u32) {
        self.world().host_at(host).personality.qp_max = pairs;
    }

    /// Refuses everything on a host as if its RDMA files were not to be opened.
    pub fn forbid(&self, host: IpAddr, forbidden: bool) {
        self.world().host_at(host).forbidden = forbidden;
    }

    /// Moves all queue pairs of a host to error, as a fault of its NIC.
    pub fn break_pairs(&self, host: IpAddr) {
        self.shared.change(|world| world.break_pairs(host));
    }

    /// Breaks the so-many-th completion queue of a host, in the order of their making: a fault of its
    /// NIC, with every queue pair on it in error.
    pub fn break_queue(&self, host: IpAddr, nth: usize) {
        self.shared.change(|world| world.break_queue(host, nth));
    }

    /// Takes a host's device away: its queue pairs complete nothing any more.
    pub fn remove_device(&self, host: IpAddr) {
        self.shared.change(|world| world.remove_device(host));
    }

    /// Plugs a device in again.
    pub fn restore_device(&self, host: IpAddr) {
        self.shared.change(|world| world.restore_device(host));
    }

    /// The process of a host is gone without a word: nobody is told.
    pub fn crash(&self, host: IpAddr) {
        self.shared.change(|world| world.crash(host));
    }

    /// Connections of which one end at least has a queue pair that works, oldest first, by the number
    /// of the dialler's: each node is an address. An end is open while its queue pair works. Of frames
    /// and bytes it counts SENDs, and no bytes.
    pub fn links(&self) -> Vec<LinkInfo> {
        self.world().links()
    }

    /// How connections ended, oldest first: the newest 16,384. By whom is who first
    /// moved its queue pair to error, disconnected or destroyed it, which may be the one that was told
    /// that the other leaves; a NIC's fault is nobody's.
    pub fn ends(&self) -> Vec<LinkEnd> {
        self.world().ends.iter().cloned().collect()
    }

    /// What a host has.
    pub fn counts(&self, host: IpAddr) -> Counts {
        self.world().counts(host)
    }

    /// How often completion queues of a host were armed: each time its user was about to sleep.
    pub fn arms(&self, host: IpAddr) -> u64 {
        self.world().host_at(host).arms
    }

    /// Rules that were broken, the first few.
    pub fn violations(&self) -> Vec<Violation> {
        self.world().violations.clone()
    }

    /// Hash over everything that arrived, in order (D1).
    pub fn trace_hash(&self) -> u64 {
        self.world().trace
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.shared.lock()
    }
}
