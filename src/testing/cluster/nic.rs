//! A cluster whose messages go over the RDMA driver, on NICs in virtual time.
//!
//! ```text
//!   osd.1 ── Rdma ── fake0 of 10.0.0.1 ─┐
//!                                       ├─ FakeNet: the same faults as the network's, and a NIC's own
//!   osd.2 ── Rdma ── fake0 of 10.0.0.2 ─┘
//! ```

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stellate_protocol::EntityName;
use stellate_transport::rdma::fake::{CmWord, FakeNet, Personality, WorkFault};
use stellate_transport::rdma::{PoolOptions, Rdma, RdmaOptions};
use stellate_transport::sim::{CutAfter, LinkEnd, LinkInfo, Quality};
use stellate_transport::{Address, Transport};

use super::script::Action;

/// The first port of a node; its nth messenger listens n further on.
const PORT: u16 = 6_800;
/// Bytes that a host without memory may register: not even slots for one link.
const NO_MEMORY: usize = 4096;

/// What goes wrong with the NIC of a node, on a fabric that has NICs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum NicFault {
    /// All its queue pairs are in error: what is posted is flushed.
    Broken,
    /// The next work completes as "retry exceeded".
    RetryExceeded,
    /// The next work completes as "receiver not ready, retries exceeded".
    ReceiverNotReady,
    /// The next work completes as a remote operation error.
    RemoteOperation,
    /// What is sent to it finds no receive: tried again on InfiniBand and RoCE, fatal on iWARP.
    NotReady,
    /// The device is gone; then it is plugged in again.
    Removed,
    /// The next word that a connection is up does not come.
    EstablishedLost,
    /// The next word that a connection is over does not come.
    DisconnectedLost,
    /// Words that connections are up come late, after the first messages.
    EstablishedLate,
    /// It may register no more memory.
    NoMemory,
    /// It may make no more queue pairs.
    NoPairs,
}

impl NicFault {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Broken,
        Self::RetryExceeded,
        Self::ReceiverNotReady,
        Self::RemoteOperation,
        Self::NotReady,
        Self::Removed,
        Self::EstablishedLost,
        Self::DisconnectedLost,
        Self::EstablishedLate,
        Self::NoMemory,
        Self::NoPairs,
    ];

    /// Whether it lasts until it is undone; the others strike once.
    pub(super) fn lasts(self) -> bool {
        use NicFault::*;
        matches!(self, NotReady | Removed | EstablishedLate | NoMemory | NoPairs)
    }
}

/// The NICs of all nodes.
pub(super) struct Nics {
    fake: FakeNet,
    personality: Personality,
    hosts: BTreeMap<EntityName, IpAddr>,
}

impl Nics {
    pub(super) fn new(
        seed: u64,
        personality: Personality,
        names: impl Iterator<Item = EntityName>,
    ) -> Self {
        // From 10.0.0.1 on.
        let ip = |n: u32| IpAddr::V4(Ipv4Addr::from(0x0a00_0001 + n));
        let hosts = names.zip(0..).map(|(name, n)| (name, ip(n))).collect();
        Self { fake: FakeNet::new(seed), personality, hosts }
    }

    fn ip(&self, name: EntityName) -> IpAddr {
        // A name that no node has is dialled in vain, as any address may be.
        self.hosts.get(&name).copied().unwrap_or(IpAddr::V4(Ipv4Addr::new(10, 255, 255, 255)))
    }

    /// The transport of the next life of a node. A host begins whole: without its device or memory
    /// for a link its listener would not begin at all.
    pub(super) fn transport(&self, name: EntityName) -> Arc<dyn Transport> {
        let ip = self.ip(name);
        let verbs = self.fake.host(ip, self.personality);
        self.fake.restore_device(ip);
        self.fake.limit_memory(ip, self.personality.locked_max);
        self.fake.limit_pairs(ip, self.personality.qp_max);
        // Small, for clusters of many nodes: what a drill sends at once fits into it.
        let pool = PoolOptions { arena: 1 << 20, ..PoolOptions::default() };
        Arc::new(Rdma::with(verbs, RdmaOptions { pool, ..RdmaOptions::default() }))
    }

    pub(super) fn address(&self, name: EntityName, nth: u16) -> Address {
        let port = PORT.wrapping_add(nth);
        Address::new("rdma", &format!("{}:{port}", self.ip(name)))
            .unwrap_or_else(|error| unreachable!("an IP and a port are an address: {error}"))
    }

    pub(super) fn set_quality(&self, quality: Quality) {
        self.fake.set_quality(quality);
    }

    pub(super) fn crash(&self, name: EntityName) {
        self.fake.crash(self.ip(name));
    }

    pub(super) fn heal_all(&self) {
        self.fake.heal_all();
    }

    pub(super) fn trace_hash(&self) -> u64 {
        self.fake.trace_hash()
    }

    /// The connections that work at one end at least, between nodes by name.
    pub(super) fn links(&self) -> Vec<LinkInfo> {
        let named = |link: LinkInfo| {
            let (dialler, acceptor) = (self.named(link.dialler), self.named(link.acceptor));
            LinkInfo { dialler, acceptor, ..link }
        };
        self.fake.links().into_iter().map(named).collect()
    }

    /// How connections ended, in the same way.
    pub(super) fn ends(&self) -> Vec<LinkEnd> {
        let named = |end: LinkEnd| {
            let (dialler, acceptor) = (self.named(end.dialler), self.named(end.acceptor));
            LinkEnd { dialler, acceptor, ..end }
        };
        self.fake.ends().into_iter().map(named).collect()
    }

    /// The node that has that address; the address itself, if none has.
    fn named(&self, ip: String) -> String {
        let found = self.hosts.iter().find(|(_, of)| of.to_string() == ip);
        found.map_or(ip, |(name, _)| name.to_string())
    }

    /// The first rule of the fabric that the driver broke.
    pub(super) fn violation(&self) -> Option<String> {
        self.fake.violations().first().map(|violation| format!("{violation:?}"))
    }

    /// What of a fault is the fabric's: how many that was, `None` if it concerns no NIC.
    pub(super) fn strike(&self, action: &Action) -> Option<u64> {
        let fake = &self.fake;
        let ip = |name: &EntityName| self.ip(*name);
        match action {
            Action::Cut { a, b } => return Some(fake.cut_between(ip(a), ip(b)) as u64),
            Action::CutAfterFrames { from, to, frames } => {
                fake.cut_after(ip(from), ip(to), CutAfter::Frames((*frames).max(1)));
            }
            Action::CutAfterBytes { from, to, bytes } => {
                fake.cut_after(ip(from), ip(to), CutAfter::Bytes((*bytes).max(1)));
            }
            Action::OneWay { from, to, .. } => fake.partition(ip(from), ip(to), true),
            Action::Partition { side, .. } => self.across(side, true),
            Action::Refuse { node, .. } => fake.refuse_dials(ip(node), true),
            Action::BlackHole { node, .. } => fake.black_hole_dials(ip(node), true),
            Action::Stall { from, to, lasts } => fake.stall(ip(from), ip(to), ticks(*lasts)),
            Action::Weather { quality, .. } => fake.set_quality(*quality),
            Action::Nic { node, fault, lasts } => self.strike_nic(ip(node), *fault, *lasts),
            // A NIC is as fast as its wire, checks what it carries, and is its host's only one.
            Action::Slow { .. } | Action::Tamper { .. } | Action::Twin { .. } => return Some(0),
            Action::Crash { .. }
            | Action::Panic { .. }
            | Action::Pause { .. }
            | Action::Step { .. } => return None,
        }
        Some(1)
    }

    fn strike_nic(&self, ip: IpAddr, fault: NicFault, lasts: Duration) {
        let fake = &self.fake;
        match fault {
            NicFault::Broken => fake.break_pairs(ip),
            NicFault::RetryExceeded => fake.fail_next(ip, WorkFault::RetryExceeded),
            NicFault::ReceiverNotReady => fake.fail_next(ip, WorkFault::ReceiverNotReady),
            NicFault::RemoteOperation => fake.fail_next(ip, WorkFault::RemoteOperation),
            NicFault::NotReady => fake.not_ready(ip, ticks(lasts)),
            NicFault::Removed => fake.remove_device(ip),
            NicFault::EstablishedLost => fake.lose_words(ip, CmWord::Established, 1),
            NicFault::DisconnectedLost => fake.lose_words(ip, CmWord::Disconnected, 1),
            NicFault::EstablishedLate => {
                fake.delay_words(ip, CmWord::Established, ticks(lasts).min(500));
            }
            NicFault::NoMemory => fake.limit_memory(ip, NO_MEMORY),
            NicFault::NoPairs => fake.limit_pairs(ip, 0),
        }
    }

    /// Undoes what lasts; `quality` is how good ways were at first.
    pub(super) fn relent(&self, action: &Action, quality: Quality) {
        let fake = &self.fake;
        let ip = |name: &EntityName| self.ip(*name);
        match action {
            Action::OneWay { from, to, .. } => fake.partition(ip(from), ip(to), false),
            Action::Partition { side, .. } => self.across(side, false),
            Action::Refuse { node, .. } => fake.refuse_dials(ip(node), false),
            Action::BlackHole { node, .. } => fake.black_hole_dials(ip(node), false),
            Action::Weather { .. } => fake.set_quality(quality),
            Action::Nic { node, fault, .. } => match fault {
                NicFault::NotReady => fake.not_ready(ip(node), 0),
                NicFault::Removed => fake.restore_device(ip(node)),
                NicFault::EstablishedLate => fake.delay_words(ip(node), CmWord::Established, 0),
                NicFault::NoMemory => fake.limit_memory(ip(node), self.personality.locked_max),
                NicFault::NoPairs => fake.limit_pairs(ip(node), self.personality.qp_max),
                _ => {}
            },
            _ => {}
        }
    }

    fn across(&self, side: &[EntityName], blocked: bool) {
        for a in side {
            for b in self.hosts.keys().filter(|b| !side.contains(b)) {
                self.fake.partition(self.ip(*a), self.ip(*b), blocked);
            }
        }
    }
}

fn ticks(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
