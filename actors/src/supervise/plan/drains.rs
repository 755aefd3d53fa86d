//! Children that are built once more for what they owe: they failed while they drained, or were down
//! when they, or their group, were told to stop.

use std::time::Duration;

use super::super::cause::Cause;
use super::super::history::What;
use super::super::node::{Kind, Mode, Node, NodeId, Output, Phase};
use super::super::policy::{Restart, Strategy, Time};
use super::Plan;

/// V2: nothing starts again sooner. It is not the back-off, which would outlast most drain periods.
pub(super) const PAUSE: Duration = Duration::from_millis(1);

impl Plan {
    /// Whether a group is going down and will not come up again.
    fn ends(&self, id: NodeId) -> bool {
        let Some(Node { parent, removing, kind: Kind::Group(group), .. }) = self.nodes.get(&id)
        else {
            return false;
        };
        matches!(group.mode, Mode::Stopping | Mode::Failing { .. })
            && (*removing || id == NodeId::ROOT || self.ends(*parent))
    }

    /// A group is going down. If it is for good, its children that are down have not had their time to
    /// drain: they get it once, in their turn. Whether there are any.
    pub(super) fn drain_down(&mut self, id: NodeId) -> bool {
        if !self.ends(id) {
            return false;
        }
        let Some(group) = self.group(id).filter(|group| !group.drains && !group.at_once) else {
            return false;
        };
        let undrained = group.down.iter().copied().filter(|id| !self.is_spent(*id)).collect();
        let Some(group) = self.group_mut(id) else {
            return false;
        };
        (group.drains, group.told, group.undrained) = (true, false, undrained);
        !group.undrained.is_empty()
    }

    fn is_spent(&self, id: NodeId) -> bool {
        self.nodes.get(&id).is_some_and(|node| node.spent)
    }

    /// A child, or a group, that is down is to go alone. Whether it is first given its time to drain, now
    /// or in its turn.
    pub(super) fn drains_late(&mut self, now: Time, id: NodeId) -> bool {
        let Some(parent) = self.nodes.get(&id).map(|node| node.parent) else {
            return false;
        };
        let Some(group) = self.group(parent) else {
            return false;
        };
        if group.drains {
            return group.undrained.contains(&id);
        }
        if group.at_once || self.is_spent(id) {
            return false;
        }
        self.rouse(parent);
        self.order_drain(now, id);
        true
    }

    /// One of a group that is down is to drain: it counts as stopping until that is done, and so do
    /// those that it lies in.
    fn rouse(&mut self, id: NodeId) {
        let Some(&Node { parent, phase: Phase::Down, .. }) = self.nodes.get(&id) else {
            return;
        };
        self.rouse(parent);
        self.set_mode(id, Mode::Stopping);
        self.set_phase(id, Phase::Stopping);
    }

    /// Its turn has come, or it goes alone.
    pub(super) fn order_drain(&mut self, now: Time, id: NodeId) {
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        node.stop_by = None;
        if let Kind::Child(_) = node.kind {
            self.outputs.push_back(Output::Start { node: id, after: PAUSE });
        }
        self.stop(now, id, false);
    }

    /// A child has failed that owes something. Whether it was told to stop and is built once more for
    /// that, within what is left of its drain period: S4. It counts as any restart (V2), and one that
    /// is refused is no failure of the group. Where nothing is restarted nothing is for this.
    pub(super) fn drains_on(&mut self, now: Time, id: NodeId, cause: &Cause) -> bool {
        let Some(Node {
            kind: Kind::Child(options), phase: Phase::Stopping, parent, removing, ..
        }) = self.nodes.get(&id)
        else {
            return false;
        };
        let (restart, parent, removing) = (options.restart, *parent, *removing);
        let Some(group) = self.group(parent) else {
            return false;
        };
        let spec = group.spec;
        // It starts again, in its turn, or drains when it turns out that it does not.
        let again = !removing && !self.ends(parent);
        if again || restart == Restart::Never || spec.strategy == Strategy::Escalate {
            return false;
        }
        let Some(node) = self.nodes.get_mut(&id) else {
            return false;
        };
        let left = node.stop_by.map_or(Duration::ZERO, |by| by.saturating_sub(now));
        let path = node.path.clone();
        let (attempt, after) = node.next_restart(now, &spec);
        let Some(group) = self.group_mut(parent) else {
            return false;
        };
        if after >= left || !group.window.admit(now, spec.intensity) {
            return false;
        }
        self.record(path.clone(), What::of(cause));
        self.record(path, What::Restarting { attempt, after });
        self.outputs.push_back(Output::Start { node: id, after });
        self.outputs.push_back(Output::Stop { node: id, drain: left });
        true
    }
}
