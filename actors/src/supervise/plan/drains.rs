//! A child that fails while it drains: built once more, for what it owes.

use std::time::Duration;

use super::super::cause::Cause;
use super::super::history::What;
use super::super::node::{Kind, Mode, Node, NodeId, Output, Phase};
use super::super::policy::{Restart, Strategy, Time};
use super::Plan;

impl Plan {
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
