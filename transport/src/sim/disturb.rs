//! What goes wrong on the network: cuts, deaths, partitions, stalls, slow readers, crashes.

use super::flow::Flow;
use super::net::{Event, Net};
use super::wire::Wire;
use crate::fault::LinkFault;
use crate::limits::CloseNotice;
use crate::trace::What;

impl Net {
    /// Both ends die of the same fault.
    pub(super) fn kill(&mut self, link: u64, fault: LinkFault) {
        self.over(link, None);
        if let Some(wire) = self.wires.get_mut(link) {
            wire.dead = true;
            for flow in &mut wire.flows {
                flow.lose();
                flow.end_with(fault.clone());
            }
        }
        self.tell_lost(link);
        self.wake(link, 0);
        self.wake(link, 1);
    }

    /// The way is gone. Who learns of it is the profile's affair.
    pub(super) fn cut(&mut self, link: u64) {
        let now = self.now();
        let Some(wire) = self.wires.get_mut(link) else {
            return;
        };
        if wire.dead {
            return;
        }
        let notice = wire.profile.limits.close_notice;
        self.over(link, None);
        self.tell_link(link, 0, What::Cut);
        if notice == CloseNotice::Always {
            self.kill(link, LinkFault::Reset);
            return;
        }
        if let Some(wire) = self.wires.get_mut(link) {
            wire.dead = true;
        }
        for end in 0..2 {
            let busy = self.wires.get_mut(link).is_some_and(|wire| {
                let flow = &mut wire.flows[end];
                let busy = flow.is_busy();
                flow.lose();
                busy
            });
            if busy {
                self.start_giving_up(link, end, now);
            }
            // What waits for room may go now, into the void.
            self.wake(link, end);
        }
        self.tell_lost(link);
    }

    pub(super) fn cut_where(&mut self, which: impl Fn(&Wire) -> bool) -> usize {
        let links: Vec<u64> = self
            .wires
            .iter()
            .filter(|(_, wire)| !wire.dead && which(wire))
            .map(|(link, _)| link)
            .collect();
        links.iter().for_each(|link| self.cut(*link));
        links.len()
    }

    /// An end that cannot get something through dies after a while, on fabrics that notice.
    pub(super) fn start_giving_up(&mut self, link: u64, end: usize, now: u64) {
        let Some(wire) = self.wires.get_mut(link) else {
            return;
        };
        if wire.dead {
            wire.flows[end].lose();
        }
        if let Some(patience) = wire.profile.gives_up
            && !wire.ends[end].giving_up
        {
            wire.ends[end].giving_up = true;
            let tick = now + patience.as_millis() as u64;
            self.at(tick, Event::GiveUp { link, end });
        }
        self.tell_lost(link);
    }

    pub(super) fn give_up(&mut self, link: u64, end: usize) {
        let Some(wire) = self.wires.get(link) else {
            return;
        };
        let blocked = self.is_blocked(wire.places[end], wire.places[1 - end]);
        let Some(wire) = self.wires.get_mut(link) else {
            return;
        };
        wire.ends[end].giving_up = false;
        if !wire.dead && !blocked {
            return;
        }
        self.over(link, None);
        let Some(wire) = self.wires.get_mut(link) else {
            return;
        };
        wire.dead = true;
        wire.flows[end].lose();
        wire.flows[1 - end].lose();
        wire.flows[1 - end].end_with(LinkFault::TimedOut);
        self.tell_lost(link);
        self.wake(link, end);
    }

    pub(super) fn set_blocked(&mut self, from: &str, to: &str, blocked: bool) {
        self.start();
        let before = std::mem::replace(&mut self.path(from, to).blocked, blocked);
        if before != blocked {
            let what = if blocked { What::Partition } else { What::Heal };
            self.tell(from, Some(to), what);
        }
        if !blocked {
            let tick = self.now() + 1;
            self.touch_flows(tick, |sender, receiver| (sender, receiver) == (from, to));
        }
    }

    pub(super) fn stall(&mut self, from: &str, to: &str, ticks: u64) {
        self.start();
        self.tell(from, Some(to), What::Stall { ticks });
        let until = self.now() + ticks;
        for wire in self.wires.values_mut() {
            for end in 0..2 {
                if (&*wire.nodes[end], &*wire.nodes[1 - end]) == (from, to) {
                    wire.flows[end].stalled_until = until;
                }
            }
        }
        self.touch_flows(until, |sender, receiver| (sender, receiver) == (from, to));
    }

    /// Looks at all directions between such nodes again, at `tick`.
    fn touch_flows(&mut self, tick: u64, which: impl Fn(&str, &str) -> bool) {
        let mut touched = Vec::new();
        for (link, wire) in self.wires.iter() {
            for end in 0..2 {
                if which(&wire.nodes[end], &wire.nodes[1 - end]) {
                    touched.push((link, end));
                }
            }
        }
        for (link, end) in touched {
            self.at(tick, Event::Arrive { link, end });
            self.at(tick, Event::Pump { link, end });
        }
    }

    pub(super) fn set_slow(&mut self, node: &str, bytes_per_tick: Option<u32>) {
        self.start();
        self.node(node).slow = bytes_per_tick;
        let tick = self.now() + 1;
        let mut ends = Vec::new();
        for (link, wire) in self.wires.iter() {
            ends.extend((0..2).filter(|end| &*wire.nodes[*end] == node).map(|end| (link, end)));
        }
        for (link, end) in ends {
            self.at(tick, Event::Wake { link, end });
        }
    }

    /// Whether there is anything to heal.
    fn is_ill(&self) -> bool {
        let now = self.now();
        let stalled = |flow: &Flow| flow.stalled_until > now;
        self.paths.values().any(|path| path.blocked)
            || self.nodes.iter().any(|node| node.refuses || node.swallows || node.slow.is_some())
            || self.wires.iter().any(|(_, wire)| wire.flows.iter().any(stalled))
    }

    pub(super) fn heal_all(&mut self) {
        self.start();
        if self.is_ill() {
            self.tell_all(What::HealAll);
        }
        self.paths.values_mut().for_each(|path| (path.blocked, path.tamper) = (false, None));
        let names = self.trace.names.nodes().to_vec();
        for name in names {
            let healed = self.node(&name);
            (healed.refuses, healed.swallows) = (false, false);
            if healed.slow.is_some() {
                self.set_slow(&name, None);
            }
        }
        for wire in self.wires.values_mut() {
            for flow in &mut wire.flows {
                (flow.stalled_until, flow.cut_after) = (0, None);
            }
        }
        let tick = self.now() + 1;
        self.touch_flows(tick, |_, _| true);
    }

    pub(super) fn crash(&mut self, node: &str) {
        self.start();
        self.tell(node, None, What::Crash);
        self.node(node).life += 1;
        let mut gone = Vec::new();
        self.listeners.retain(|_, backlog| {
            let stays = &*backlog.node != node;
            if !stays {
                gone.extend(backlog.waker.take());
            }
            stays
        });
        self.wakes.append(&mut gone);
        self.dials.retain(|_, dial| &*dial.from != node);
        let ends: Vec<(u64, usize)> = self
            .wires
            .iter()
            .filter(|(_, wire)| wire.touches(node))
            .flat_map(|(link, wire)| {
                let of_node = |end: &usize| &*wire.nodes[*end] == node;
                let ends: Vec<usize> = (0..2).filter(of_node).collect();
                ends.into_iter().map(move |end| (link, end))
            })
            .collect();
        for (link, end) in ends {
            // A kernel that lives on says so for a stream; queue pairs go without a word.
            self.wake(link, end);
            self.over(link, None);
            let told = self.wires.get(link).map(|wire| wire.profile.limits.close_notice);
            if told != Some(CloseNotice::Always) {
                self.cut(link);
            }
            self.leave(link, end, false);
        }
    }
}
