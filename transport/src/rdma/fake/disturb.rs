//! What goes wrong on the fabric beside what NICs do wrong: cuts, stalls, work that fails.

use std::net::IpAddr;

use super::pair::PairState;
use super::world::World;
use crate::rdma::verbs::WorkFault;
use crate::sim::{CutAfter, Quality};

impl World {
    fn way(&self, from: IpAddr, to: IpAddr) -> Option<(usize, usize)> {
        Some((self.index_of(from)?, self.index_of(to)?))
    }

    pub(super) fn cut_between(&mut self, a: IpAddr, b: IpAddr) -> usize {
        let Some((a, b)) = self.way(a, b) else {
            return 0;
        };
        self.cut_pairs(a, b)
    }

    /// Connections from host to host that are up, either way round.
    fn cut_pairs(&mut self, a: usize, b: usize) -> usize {
        let host_of = |number: &u32| self.pairs.get(number).map(|pair| pair.host);
        let between = |from: usize, to: Option<usize>| {
            (from, to) == (a, Some(b)) || (from, to) == (b, Some(a))
        };
        let up = self.pairs.iter().filter(|(_, pair)| pair.state == PairState::Up);
        let cut: Vec<u32> = up
            .filter(|(_, pair)| between(pair.host, pair.peer.as_ref().and_then(host_of)))
            .map(|(number, _)| *number)
            .collect();
        cut.iter().for_each(|number| self.break_pair(*number));
        cut.len().div_ceil(2)
    }

    pub(super) fn cut_after(&mut self, from: IpAddr, to: IpAddr, when: CutAfter) {
        if let Some(way) = self.way(from, to) {
            self.cuts.insert(way, when);
        }
    }

    /// A SEND of so many bytes has come from one host to another; cuts, if that was planned or the
    /// ways are bad.
    pub(super) fn count_arrival(&mut self, from: usize, to: usize, len: u64) {
        let planned = self.cuts.get_mut(&(from, to)).is_some_and(|when| match when {
            CutAfter::Frames(left) => {
                *left = left.saturating_sub(1);
                *left == 0
            }
            CutAfter::Bytes(left) => {
                *left = left.saturating_sub(len);
                *left == 0
            }
        });
        if planned {
            self.cuts.remove(&(from, to));
        }
        let chance = self.quality.cut_chance;
        if planned || self.rng.chance(chance) {
            self.cut_pairs(from, to);
        }
    }

    pub(super) fn stall(&mut self, from: IpAddr, to: IpAddr, ticks: u64) {
        self.start();
        let until = self.now() + ticks;
        if let Some(way) = self.way(from, to) {
            self.stalled.insert(way, until);
        }
    }

    /// Until when nothing moves from one host to another; none if it does.
    pub(super) fn stalled_until(&self, from: usize, to: usize) -> Option<u64> {
        let until = self.stalled.get(&(from, to)).copied()?;
        (until > self.now()).then_some(until)
    }

    pub(super) fn not_ready(&mut self, host: IpAddr, ticks: u64) {
        self.start();
        let until = self.now() + ticks;
        self.host_at(host).not_ready_until = until;
    }

    pub(super) fn is_ready(&self, host: usize) -> bool {
        self.hosts[host].not_ready_until <= self.now()
    }

    /// How the next work of a host is to fail, if it is.
    pub(super) fn next_failure(&mut self, host: usize) -> Option<WorkFault> {
        self.hosts[host].failures.pop_front()
    }

    pub(super) fn restore_device(&mut self, ip: IpAddr) {
        self.host_at(ip).present = true;
    }

    pub(super) fn heal_all(&mut self) {
        self.blocked.clear();
        self.cuts.clear();
        self.stalled.clear();
        self.quality = Quality { cut_chance: 0, ..self.quality };
        for host in &mut self.hosts {
            host.personality = host.born;
            (host.present, host.forbidden) = (true, false);
            (host.refuses, host.swallows) = (false, false);
            host.not_ready_until = 0;
            host.failures.clear();
            (host.break_at_post, host.receive_at_arm) = (0, false);
            host.lost_words.clear();
            host.late_words.clear();
        }
    }
}
