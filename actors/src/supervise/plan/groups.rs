//! How a group comes up and goes down: child by child, in order.

use std::time::Duration;

use super::super::cause::Cause;
use super::super::history::What;
use super::super::node::{Mode, NodeId, Phase};
use super::super::policy::{StopOrder, Strategy, Time};
use super::Plan;

impl Plan {
    pub(super) fn go_up(&mut self, now: Time, id: NodeId, after: Duration) {
        let Some(group) = self.group_mut(id) else {
            return;
        };
        if group.down.is_empty() && group.starting == 0 {
            group.mode = Mode::Running;
            if let Some(node) = self.nodes.get_mut(&id) {
                node.up_since = Some(now);
            }
            return self.set_phase(id, Phase::Up);
        }
        if group.spec.strategy != Strategy::RestForOne {
            for child in group.down.clone() {
                self.start(child, after);
            }
        } else if group.starting == 0
            && let Some(&child) = group.down.first()
        {
            group.mode = Mode::Starting { after: Duration::ZERO };
            self.start(child, after);
        }
    }

    /// Stops the next child in reverse order, of those after `from`; false when all of them are
    /// down.
    pub(super) fn go_down(&mut self, now: Time, id: NodeId, from: Option<NodeId>) -> bool {
        let Some(group) = self.group_mut(id) else {
            return false;
        };
        let after = |child: &NodeId| from.is_none_or(|from| *child > from);
        let at_once = group.at_once;
        if at_once {
            group.undrained.clear();
        }
        let Some(last) = group.alive.last().max(group.undrained.last()).copied().filter(after)
        else {
            // It may have begun to go down before it was known that it ends.
            let drains = self.drain_down(id);
            if drains {
                self.todo.push_back(id);
            }
            return drains;
        };
        if at_once || group.spec.stop_order == StopOrder::Together {
            // Told once: to look again at each exit would cost O(n) every time.
            if !std::mem::replace(&mut group.told, true) {
                let all: Vec<_> = group.alive.iter().rev().copied().take_while(after).collect();
                let late = std::mem::take(&mut group.undrained);
                all.into_iter().for_each(|child| self.stop_unless_stopping(now, child, at_once));
                late.into_iter().rev().for_each(|child| self.order_drain(now, child));
            }
        } else if group.undrained.remove(&last) {
            self.order_drain(now, last);
        } else {
            self.stop_unless_stopping(now, last, false);
        }
        true
    }

    fn stop_unless_stopping(&mut self, now: Time, id: NodeId, at_once: bool) {
        if at_once || self.phase(id) != Some(Phase::Stopping) {
            self.stop(now, id, at_once);
        }
    }

    pub(super) fn group_down(&mut self, now: Time, id: NodeId, cause: Option<Cause>) {
        let Some(node) = self.nodes.get(&id) else {
            return;
        };
        let (parent, removing, ordered) =
            (node.parent, node.removing, node.phase == Phase::Stopping);
        self.set_mode(id, Mode::Down);
        if let Some(group) = self.group_mut(id) {
            group.window.clear();
        }
        if id == NodeId::ROOT {
            self.forget(id);
            self.ended = Some(cause);
            return self.record("".into(), What::ShutDown);
        }
        self.set_phase(id, Phase::Down);
        if removing {
            self.forget(id);
        } else if let Some(cause) = cause.filter(|_| !ordered) {
            let to = self.path(parent).unwrap_or_default();
            let path = self.path(id).unwrap_or_default();
            self.record(path, What::Escalated { to });
            self.failed(now, parent, id, cause);
        }
    }
}
