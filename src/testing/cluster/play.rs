//! Plays a script: does each step at its time, and undoes what lasts when it is over.

use std::time::Duration;

use stellate_actors::supervise::Tree;
use stellate_protocol::EntityName;
use stellate_transport::sim::{CutAfter, Origin};
use stellate_transport::trace::{SessionTag, What};
use tokio::time::Instant;

use super::running::Running;
use super::script::{Action, Script};

/// Something to do at a time: a step, or the end of one.
struct Due<'a> {
    at: Duration,
    action: &'a Action,
    over: bool,
}

/// Plays the whole script; resolves when the last step that lasts is over.
pub(super) async fn play(running: &Running, script: &Script, begin: Instant) {
    let mut agenda = Vec::new();
    for step in script.steps() {
        agenda.push(Due { at: step.at, action: &step.action, over: false });
        if let Some(lasts) = step.action.lasts() {
            agenda.push(Due { at: step.at + lasts, action: &step.action, over: true });
        }
    }
    agenda.sort_by_key(|due| due.at);
    let mut active: Vec<&Action> = Vec::new();
    let mut starts = Vec::new();
    for Due { at, action, over } in agenda {
        tokio::time::sleep_until(begin + at).await;
        if !over {
            active.push(action);
            let struck = running.strike(action);
            running.inner.faults.set(running.inner.faults.get() + struck);
            continue;
        }
        if let Some(place) = active.iter().position(|other| std::ptr::eq(*other, action)) {
            active.remove(place);
        }
        if let Action::Crash { node, .. } = action {
            let (running, node) = (running.clone(), *node);
            starts.push(tokio::task::spawn_local(async move { running.start(node).await }));
        } else {
            running.relent(action);
            // Another step of the kind may still last, on the same node.
            let alike = |other: &&&Action| other.lasts().is_some() && other.overlaps(action);
            active.iter().filter(alike).for_each(|other| {
                running.strike(other);
            });
        }
    }
    for start in starts {
        // A start that panicked has told so itself.
        let _ = start.await;
    }
}

impl Action {
    /// How long it lasts, where something has to be undone.
    pub fn lasts(&self) -> Option<Duration> {
        match self {
            Self::OneWay { lasts, .. }
            | Self::Partition { lasts, .. }
            | Self::Refuse { lasts, .. }
            | Self::BlackHole { lasts, .. }
            | Self::Slow { lasts, .. }
            | Self::Weather { lasts, .. }
            | Self::Pause { lasts, .. }
            | Self::Tamper { lasts, .. }
            | Self::Twin { lasts, .. }
            | Self::Crash { down: lasts, .. } => Some(*lasts),
            Self::Nic { fault, lasts, .. } => fault.lasts().then_some(*lasts),
            _ => None,
        }
    }

    /// Whether undoing one may undo the other: partitions share ways, others their node. What dies
    /// stays dead.
    fn overlaps(&self, other: &Self) -> bool {
        if matches!(self, Self::Crash { .. } | Self::Twin { .. }) {
            return false;
        }
        if let (Self::Nic { node, fault, .. }, Self::Nic { node: at, fault: of, .. }) =
            (self, other)
        {
            return (node, fault) == (at, of);
        }
        let ways = |action: &Self| matches!(action, Self::OneWay { .. } | Self::Partition { .. });
        (ways(self) && ways(other)) || std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

impl Running {
    /// Does what a script may ask for, now; how many faults that was. What lasts has to be undone
    /// with [`relent`](Self::relent).
    pub fn strike(&self, action: &Action) -> u64 {
        let struck = self.strike_net(action);
        let nics = self.inner.nics.as_ref();
        nics.and_then(|nics| nics.strike(action)).unwrap_or(struck)
    }

    fn strike_net(&self, action: &Action) -> u64 {
        let net = self.net();
        match action {
            Action::Cut { a, b } => net.cut_between(&a.to_string(), &b.to_string()) as u64,
            Action::CutAfterFrames { from, to, frames } => {
                self.cut_after(*from, *to, CutAfter::Frames((*frames).max(1)))
            }
            Action::CutAfterBytes { from, to, bytes } => {
                self.cut_after(*from, *to, CutAfter::Bytes((*bytes).max(1)))
            }
            Action::OneWay { from, to, .. } => {
                net.partition_one_way(&from.to_string(), &to.to_string());
                1
            }
            Action::Partition { side, .. } => {
                self.each_way_across(side, |a, b| net.partition(a, b));
                1
            }
            Action::Refuse { node, .. } => {
                net.refuse_dials(&node.to_string(), true);
                1
            }
            Action::BlackHole { node, .. } => {
                net.black_hole_dials(&node.to_string(), true);
                1
            }
            Action::Slow { node, bytes_per_ms, .. } => {
                net.slow_reader(&node.to_string(), Some((*bytes_per_ms).max(1)));
                1
            }
            Action::Stall { from, to, lasts } => {
                net.stall(&from.to_string(), &to.to_string(), lasts.as_millis() as u64);
                1
            }
            Action::Weather { quality, .. } => {
                net.set_quality(*quality);
                1
            }
            Action::Crash { node, .. } => {
                let was_up = self.is_up(*node);
                self.crash(*node);
                u64::from(was_up)
            }
            Action::Panic { node, actor } => self.order(*node, |tree| tree.panic(actor).is_ok()),
            Action::Pause { node, actor, .. } => {
                self.order(*node, |tree| tree.pause(actor).is_ok())
            }
            Action::Nic { node, fault, .. } => {
                if self.inner.nics.is_some() {
                    let note = What::Note(format!("NIC: {fault:?}").as_str().into());
                    net.scribe(&node.to_string()).tell(SessionTag::NONE, note);
                }
                0
            }
            Action::Tamper { from, to, how, .. } => {
                net.tamper(&from.to_string(), &to.to_string(), Some(*how));
                1
            }
            Action::Twin { node, .. } => self.start_twin(*node),
            Action::Step { node, by_ms } => {
                let nodes = self.inner.nodes.borrow();
                let clock = nodes.get(node).map(|slot| slot.clock.clone());
                clock.map_or(0, |clock| {
                    clock.step(*by_ms);
                    1
                })
            }
        }
    }

    /// Undoes what lasts; a node that is down stays down.
    pub fn relent(&self, action: &Action) {
        let net = self.net();
        if let Some(nics) = &self.inner.nics {
            nics.relent(action, self.inner.quality);
        }
        match action {
            Action::OneWay { from, to, .. } => net.heal(&from.to_string(), &to.to_string()),
            Action::Partition { side, .. } => self.each_way_across(side, |a, b| net.heal(a, b)),
            Action::Refuse { node, .. } => net.refuse_dials(&node.to_string(), false),
            Action::BlackHole { node, .. } => net.black_hole_dials(&node.to_string(), false),
            Action::Slow { node, .. } => net.slow_reader(&node.to_string(), None),
            Action::Weather { .. } => net.set_quality(self.inner.quality),
            Action::Pause { node, actor, .. } => {
                self.order(*node, |tree| tree.resume(actor).is_ok());
            }
            Action::Tamper { from, to, .. } => {
                net.tamper(&from.to_string(), &to.to_string(), None);
            }
            Action::Twin { node, .. } => self.end_twin(*node),
            _ => {}
        }
    }

    /// Gives an order to the trees of a node, if it runs: 1 if one took it.
    fn order(&self, node: EntityName, order: impl Fn(&Tree) -> bool) -> u64 {
        let messengers = self.node(node).map(|node| node.messengers()).unwrap_or_default();
        let taken = messengers.iter().filter(|messenger| order(messenger.tree())).count();
        u64::from(taken > 0)
    }

    /// The oldest link between two nodes dies when so much more has come from one of them.
    fn cut_after(&self, from: EntityName, to: EntityName, when: CutAfter) -> u64 {
        let (from, to) = (from.to_string(), to.to_string());
        let links = self.net().links();
        let found = links.iter().find_map(|link| {
            if (&link.dialler, &link.acceptor) == (&from, &to) {
                Some((link.id, Origin::Dialler))
            } else if (&link.acceptor, &link.dialler) == (&from, &to) {
                Some((link.id, Origin::Acceptor))
            } else {
                None
            }
        });
        found.map_or(0, |(link, origin)| {
            self.net().cut_after(link, origin, when);
            1
        })
    }

    fn each_way_across(&self, side: &[EntityName], mut with: impl FnMut(&str, &str)) {
        let names = self.names();
        for a in side {
            for b in names.iter().filter(|b| !side.contains(b)) {
                with(&a.to_string(), &b.to_string());
            }
        }
    }
}
