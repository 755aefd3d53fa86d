//! The state of the fake fabric, and the agenda of what happens when.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use bytes::Bytes;
use tokio::time::{Duration, Instant};

use super::cm::{Channel, Id};
use super::device::{Cq, Region};
use super::pair::Pair;
use super::{CmWord, Counts, Personality, Violation};
use crate::rdma::audience::Audience;
use crate::rdma::verbs::{AsyncEvent, CmEventKind, WorkFault};
use crate::sim::rng::Rng;
use crate::sim::{CutAfter, LinkEnd, Quality};

/// Violations that are kept.
const VIOLATIONS_MAX: usize = 100;

/// The fabric, shared by its handles.
#[derive(Debug)]
pub(super) struct Shared {
    world: Mutex<World>,
}

impl Shared {
    pub(super) fn new(seed: u64) -> Self {
        Self { world: Mutex::new(World::new(seed)) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn is_locked(&self) -> bool {
        self.world.try_lock().is_err()
    }

    /// Changes the world, and wakes and drops outside of the lock what that brings.
    pub(super) fn change<T>(&self, with: impl FnOnce(&mut World) -> T) -> T {
        let mut world = self.lock();
        let result = with(&mut world);
        let wakes = std::mem::take(&mut world.wakes);
        let homeward = std::mem::take(&mut world.homeward);
        drop(world);
        drop(homeward);
        wakes.into_iter().for_each(Waker::wake);
        result
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let world = self.world.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(waker) = world.driver.take() {
            waker.wake();
        }
    }
}

#[derive(Clone, Debug)]
pub(super) enum Event {
    /// The send queue of a pair has something that may arrive.
    Deliver { pair: u32 },
    /// Work of a pair is acknowledged.
    Acknowledge { pair: u32, serial: u64 },
    /// Something is told on a channel.
    Word { id: u64, kind: CmEventKind },
    /// A request to connect comes to the other host.
    Request { id: u64, since: u64 },
    /// The answer to it comes back.
    Accepted { child: u64, private: Bytes },
    /// The peer has left.
    Left { id: u64 },
}

#[derive(Debug)]
pub(super) struct Host {
    pub(super) ip: IpAddr,
    pub(super) personality: Personality,
    /// As it was at first.
    pub(super) born: Personality,
    pub(super) present: bool,
    pub(super) forbidden: bool,
    pub(super) refuses: bool,
    pub(super) swallows: bool,
    pub(super) not_ready_until: u64,
    pub(super) failures: VecDeque<WorkFault>,
    /// SENDs until one is refused; 0: none is.
    pub(super) break_at_post: u32,
    pub(super) receive_at_arm: bool,
    pub(super) lost_words: BTreeMap<CmWord, u32>,
    pub(super) late_words: BTreeMap<CmWord, u64>,
    /// Who has its device open.
    pub(super) audience: Audience,
    /// How often its completion queues were armed.
    pub(super) arms: u64,
}

/// What goes home when the lock is released: buffers of the pool.
pub(super) type Homeward = Vec<Box<dyn Send>>;

pub(super) struct World {
    pub(super) hosts: Vec<Host>,
    pub(super) channels: BTreeMap<u64, Channel>,
    pub(super) ids: BTreeMap<u64, Id>,
    pub(super) listeners: BTreeMap<SocketAddr, u64>,
    pub(super) pairs: BTreeMap<u32, Pair>,
    pub(super) cqs: BTreeMap<u64, Cq>,
    pub(super) regions: BTreeMap<u64, Region>,
    /// By host and address: how often, and what.
    pub(super) exports: BTreeMap<(usize, u64), (u32, Bytes)>,
    pub(super) blocked: BTreeSet<(usize, usize)>,
    /// Planned cuts, by the way that is counted.
    pub(super) cuts: BTreeMap<(usize, usize), CutAfter>,
    pub(super) stalled: BTreeMap<(usize, usize), u64>,
    pub(super) quality: Quality,
    pub(super) violations: Vec<Violation>,
    /// How connections ended, the newest last.
    pub(super) ends: VecDeque<LinkEnd>,
    /// Over everything that arrived (D1).
    pub(super) trace: u64,
    pub(super) rng: Rng,
    pub(super) wakes: Vec<Waker>,
    pub(super) homeward: Homeward,
    pub(super) driver: Option<Waker>,
    pub(super) driven: bool,
    agenda: BTreeMap<(u64, u64), Event>,
    serial: u64,
    origin: Option<Instant>,
    armed: Option<u64>,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "World({} hosts, {} queue pairs)", self.hosts.len(), self.pairs.len())
    }
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            hosts: Vec::new(),
            channels: BTreeMap::new(),
            ids: BTreeMap::new(),
            listeners: BTreeMap::new(),
            pairs: BTreeMap::new(),
            cqs: BTreeMap::new(),
            regions: BTreeMap::new(),
            exports: BTreeMap::new(),
            blocked: BTreeSet::new(),
            cuts: BTreeMap::new(),
            stalled: BTreeMap::new(),
            quality: Quality::default(),
            violations: Vec::new(),
            ends: VecDeque::new(),
            trace: 0xcbf2_9ce4_8422_2325,
            rng: Rng::new(seed),
            wakes: Vec::new(),
            homeward: Vec::new(),
            driver: None,
            driven: false,
            agenda: BTreeMap::new(),
            serial: 0,
            origin: None,
            armed: None,
        }
    }

    pub(super) fn add_host(&mut self, ip: IpAddr, personality: Personality) -> usize {
        if let Some(host) = self.hosts.iter().position(|host| host.ip == ip) {
            return host;
        }
        self.hosts.push(Host {
            ip,
            personality,
            born: personality,
            present: true,
            forbidden: false,
            refuses: false,
            swallows: false,
            not_ready_until: 0,
            failures: VecDeque::new(),
            break_at_post: 0,
            receive_at_arm: false,
            lost_words: BTreeMap::new(),
            late_words: BTreeMap::new(),
            audience: Audience::default(),
            arms: 0,
        });
        self.hosts.len() - 1
    }

    /// The host of that address, made with defaults if there is none.
    pub(super) fn host_at(&mut self, ip: IpAddr) -> &mut Host {
        let host = self.add_host(ip, Personality::ROCE);
        &mut self.hosts[host]
    }

    pub(super) fn index_of(&self, ip: IpAddr) -> Option<usize> {
        self.hosts.iter().position(|host| host.ip == ip)
    }

    pub(super) fn block(&mut self, a: IpAddr, b: IpAddr, blocked: bool) {
        let (Some(a), Some(b)) = (self.index_of(a), self.index_of(b)) else {
            return;
        };
        for way in [(a, b), (b, a)] {
            if blocked {
                self.blocked.insert(way);
            } else {
                self.blocked.remove(&way);
            }
        }
    }

    pub(super) fn is_blocked(&self, from: usize, to: usize) -> bool {
        self.blocked.contains(&(from, to)) || self.blocked.contains(&(to, from))
    }

    pub(super) fn violation(&mut self, violation: Violation) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(violation);
        }
    }

    /// A device tells something by itself.
    pub(super) fn tell_of_device(&mut self, host: usize, event: AsyncEvent) {
        let wakes = self.hosts[host].audience.tell(event);
        self.wakes.extend(wakes);
    }

    /// Appends something that arrived to the hash: FNV-1a over words.
    pub(super) fn record(&mut self, words: &[u64]) {
        for byte in words.iter().flat_map(|word| word.to_le_bytes()) {
            self.trace = (self.trace ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    pub(super) fn counts(&self, ip: IpAddr) -> Counts {
        let Some(host) = self.index_of(ip) else {
            return Counts::default();
        };
        let regions = self.regions.values().filter(|region| region.host == host);
        Counts {
            channels: self.channels.values().filter(|channel| channel.host == host).count(),
            identifiers: self.ids.values().filter(|id| id.host == host).count(),
            queue_pairs: self.pairs.values().filter(|pair| pair.host == host).count(),
            completion_queues: self.cqs.values().filter(|cq| cq.host == host).count(),
            regions: regions.clone().count(),
            registered: regions.map(|region| region.arena.len()).sum(),
            exports: self
                .exports
                .iter()
                .filter(|((at, _), _)| *at == host)
                .map(|(_, (count, _))| *count as usize)
                .sum(),
        }
    }

    /// Starts the clock, if it does not run yet.
    pub(super) fn start(&mut self) {
        self.origin.get_or_insert_with(Instant::now);
    }

    /// Ticks since the start.
    pub(super) fn now(&self) -> u64 {
        self.origin.map_or(0, |origin| origin.elapsed().as_millis() as u64)
    }

    pub(super) fn instant(&self, tick: u64) -> Option<Instant> {
        Some(self.origin? + Duration::from_millis(tick))
    }

    pub(super) fn serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// A time for something to travel.
    pub(super) fn travel(&mut self) -> u64 {
        let jitter = self.rng.below(u64::from(self.quality.jitter) + 1);
        u64::from(self.quality.latency.max(1)) + jitter
    }

    pub(super) fn at(&mut self, tick: u64, event: Event) {
        let serial = self.serial();
        self.agenda.insert((tick, serial), event);
        if self.armed.is_none_or(|armed| tick < armed) {
            self.wakes.extend(self.driver.take());
        }
    }

    /// Runs what is due and says when the next is.
    pub(super) fn run_due(&mut self) -> Option<u64> {
        let now = self.now();
        loop {
            let Some(entry) = self.agenda.first_entry() else {
                self.armed = None;
                return None;
            };
            let tick = entry.key().0;
            if tick > now {
                self.armed = Some(tick);
                return Some(tick);
            }
            let event = entry.remove();
            match event {
                Event::Deliver { pair } => self.deliver(pair),
                Event::Acknowledge { pair, serial } => self.acknowledge(pair, serial),
                Event::Word { id, kind } => self.tell(id, kind),
                Event::Request { id, since } => self.request(id, since),
                Event::Accepted { child, private } => self.accepted(child, private),
                Event::Left { id } => self.left(id),
            }
        }
    }

    /// The process on a host is gone: all it had is, and nobody is told.
    pub(super) fn crash(&mut self, ip: IpAddr) {
        let Some(host) = self.index_of(ip) else {
            return;
        };
        let pairs: Vec<u32> =
            self.pairs.iter().filter(|(_, p)| p.host == host).map(|(n, _)| *n).collect();
        for pair in pairs {
            self.over(pair, false);
            self.destroy_pair(pair);
        }
        let ids: Vec<u64> =
            self.ids.iter().filter(|(_, id)| id.host == host).map(|(n, _)| *n).collect();
        for id in ids {
            self.forget_id(id);
        }
        self.exports.retain(|(at, _), _| *at != host);
        // The next process finds the device as it was, and what was wrong with this one is over.
        self.hosts[host].audience = Audience::default();
        self.hosts[host].failures.clear();
        self.hosts[host].present = true;
    }
}
