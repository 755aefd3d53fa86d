//! Children that are built once more for what they owe: they failed while they drained, or were down
//! when they, or their group, were told to stop.

use std::time::Duration;

use super::super::cause::Cause;
use super::super::history::What;
use super::super::node::{Group, Kind, Mode, Node, NodeId, Output, Phase};
use super::super::policy::{Restart, Strategy, Time};
use super::Plan;

/// V2: nothing starts again sooner.
const PAUSE_MIN: Duration = Duration::from_millis(1);

impl Group {
    /// It is told to stop. Children that are down because it restarts have not had their time to
    /// drain: they get it in their turn.
    pub(super) fn stop(&mut self) {
        match self.mode {
            Mode::Failing { .. } | Mode::Stopping => return,
            Mode::Running => {}
            Mode::Starting { after } | Mode::Restarting { after, .. } => {
                self.pause = after;
                self.undrained = self.down.clone();
            }
            // As the group that it lies in says.
            Mode::Down => self.undrained = self.down.clone(),
        }
        self.mode = Mode::Stopping;
    }
}

impl Plan {
    /// A child, or a group, that is down is to go. Whether it has first been given its time to drain,
    /// and so may yet start for it.
    pub(super) fn drains_late(&mut self, now: Time, id: NodeId) -> bool {
        let parent = self.nodes.get(&id).map(|node| node.parent);
        let Some(group) = parent.and_then(|parent| self.group(parent)) else {
            return false;
        };
        match group.mode {
            Mode::Starting { after } | Mode::Restarting { after, .. } => {
                self.order_drain(now, id, after);
                true
            }
            _ => group.undrained.contains(&id),
        }
    }

    /// The turn has come of one of those that were down when their group was told to stop.
    pub(super) fn drain_late(&mut self, now: Time, id: NodeId) {
        let parent = self.nodes.get(&id).map(|node| node.parent);
        if let Some(group) = parent.and_then(|parent| self.group(parent)) {
            self.order_drain(now, id, group.pause);
        }
    }

    fn order_drain(&mut self, now: Time, id: NodeId, pause: Duration) {
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        node.stop_by = None;
        match &mut node.kind {
            Kind::Child(_) => {
                let after = pause.max(PAUSE_MIN);
                self.outputs.push_back(Output::Start { node: id, after });
            }
            Kind::Group(group) => group.pause = pause,
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
        // It starts again in any case, in its turn.
        let again = matches!(group.mode, Mode::Restarting { .. }) && !removing;
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
