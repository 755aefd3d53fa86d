//! The fake device: regions, completion queues, and its removal.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::task::Waker;

use super::Violation;
use super::pair::{Pair, PairState};
use super::world::World;
use crate::rdma::memory::Arena;
use crate::rdma::verbs::{Access, AsyncEvent, CmEventKind, Completion, Fabric, Operation};

#[derive(Debug)]
pub(super) struct Region {
    pub(super) host: usize,
    /// Whose protection domain it is in.
    pub(super) device: u64,
    pub(super) arena: Arena,
    pub(super) access: Access,
}

#[derive(Debug)]
pub(super) struct Cq {
    pub(super) host: usize,
    pub(super) depth: u32,
    /// By queue pair: each pair's are in order, the pairs are not.
    pub(super) entries: BTreeMap<u32, VecDeque<Completion>>,
    /// Entries of pairs that are destroyed: they still take places.
    pub(super) stale: u32,
    pub(super) armed: bool,
    /// What is in it is not seen before it is armed.
    pub(super) hidden: bool,
    pub(super) woken: bool,
    pub(super) broken: bool,
    pub(super) waker: Option<Waker>,
}

impl Cq {
    fn len(&self) -> u32 {
        self.stale + self.entries.values().map(|entries| entries.len() as u32).sum::<u32>()
    }
}

impl World {
    pub(super) fn push_completion(&mut self, cq: u64, number: u32, completion: Completion) {
        let Some(queue) = self.cqs.get_mut(&cq) else {
            self.homeward.push(Box::new(completion.buf));
            return;
        };
        if queue.broken || queue.len() >= queue.depth {
            let overrun = !queue.broken;
            self.homeward.push(Box::new(completion.buf));
            if overrun {
                self.violation(Violation::CqOverrun);
                self.queue_broke(cq);
            }
            return;
        }
        let late = &mut self.hosts[queue.host].receive_at_arm;
        queue.hidden |= completion.operation == Operation::Receive && std::mem::take(late);
        queue.entries.entry(number).or_default().push_back(completion);
        if std::mem::take(&mut queue.armed) {
            queue.woken = true;
            self.wakes.extend(queue.waker.take());
        }
    }

    /// Nothing comes out of a completion queue any more, and its device says so.
    fn queue_broke(&mut self, cq: u64) {
        let Some(queue) = self.cqs.get_mut(&cq) else {
            return;
        };
        queue.broken = true;
        let host = queue.host;
        self.tell_of_device(host, AsyncEvent::CqError(cq));
    }

    pub(super) fn break_queue(&mut self, ip: IpAddr, nth: usize) {
        let Some(host) = self.index_of(ip) else {
            return;
        };
        let mut queues = self.cqs.iter().filter(|(_, queue)| queue.host == host);
        let Some((&cq, _)) = queues.nth(nth) else {
            return;
        };
        self.queue_broke(cq);
        let on_it = |pair: &Pair| [pair.cqs.sent, pair.cqs.received].contains(&cq);
        let pairs: Vec<u32> =
            self.pairs.iter().filter(|(_, pair)| on_it(pair)).map(|(number, _)| *number).collect();
        for pair in pairs {
            self.flush_pair(pair);
        }
    }

    /// Takes up to `max` completions: the seed decides between pairs.
    pub(super) fn poll_completions(
        &mut self,
        cq: u64,
        max: usize,
        out: &mut Vec<Completion>,
    ) -> usize {
        let mut taken = 0;
        while taken < max && self.cqs.get(&cq).is_some_and(|queue| !queue.hidden) {
            let Some(queue) = self.cqs.get(&cq) else { break };
            let pairs = queue.entries.len() as u64;
            if pairs == 0 {
                break;
            }
            let nth = self.rng.below(pairs) as usize;
            let Some(queue) = self.cqs.get_mut(&cq) else { break };
            let Some(number) = queue.entries.keys().nth(nth).copied() else { break };
            if let Some(entries) = queue.entries.get_mut(&number) {
                out.extend(entries.pop_front());
                taken += 1;
                if entries.is_empty() {
                    queue.entries.remove(&number);
                }
            }
        }
        if taken < max
            && let Some(queue) = self.cqs.get_mut(&cq)
        {
            queue.stale = 0;
        }
        taken
    }

    /// The completions of a destroyed pair give their buffers back, and lie there.
    pub(super) fn forget_completions(&mut self, cq: u64, number: u32) {
        if let Some(queue) = self.cqs.get_mut(&cq)
            && let Some(entries) = queue.entries.remove(&number)
        {
            queue.stale += entries.len() as u32;
            self.homeward.push(Box::new(entries));
        }
    }

    /// Whether a region may be read by peers.
    pub(super) fn is_readable(&self, region: u64, addr: u64, len: usize) -> bool {
        self.regions.get(&region).is_some_and(|region| {
            region.access == Access::RemoteRead && region.arena.contains(addr, len)
        })
    }

    pub(super) fn remove_device(&mut self, ip: IpAddr) {
        let Some(host) = self.index_of(ip) else {
            return;
        };
        self.hosts[host].present = false;
        // Adapters may say so themselves; soft devices do not, and wait until nobody has them.
        if self.hosts[host].personality.fabric != Fabric::RoCE {
            self.tell_of_device(host, AsyncEvent::DeviceFatal);
        }
        let of_host = self.pairs.iter().filter(|(_, pair)| pair.host == host);
        let lost: Vec<u32> = of_host.map(|(number, _)| *number).collect();
        for number in lost {
            self.over(number, false);
            if let Some(pair) = self.pairs.get_mut(&number) {
                pair.state = PairState::Lost;
            }
        }
        let bound = self.ids.iter().filter(|(_, id)| id.host == host && id.bound);
        let ids: Vec<u64> = bound.map(|(id, _)| *id).collect();
        for id in ids {
            self.tell(id, CmEventKind::DeviceRemoval);
        }
    }
}
