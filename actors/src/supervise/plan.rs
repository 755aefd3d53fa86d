//! The decisions of supervision, and nothing else: exits and times in, orders out.
//!
//! No actor, no clock, no task: the tree's handle and the children's futures are the shell around
//! it.
//!
//! ```text
//!  child    Down ─Start─► Starting ─Started─► Up ─Stop─► Stopping
//!            ▲               │ Exited          │ Exited     │ Exited
//!            └───────────────┴────────┬────────┴────────────┘
//!                                     ▼ not ordered: a failure, judged by the group;
//!                                       ordered, and it owes something: Start and Stop, as for
//!                                       who is down for a restart and is told to go
//!
//!  group    Running ─failure─► one-for-one ──────────► Start(child, delay)
//!              ▲      │        rest-for-one ► Restarting ─younger down─► Starting
//!              │      │        escalate, or none left ► Failing ─all down─► failure of the parent
//!              └──────┴──────── all up ◄──────────────────────────────────┘
//! ```
//!
//! * **V2** Between two starts of one child lies a delay of at least 1 ms, and at most `max`
//!   restarts lie in any window of a group.
//! * **V3** A failure that is refused by the window goes up; from the root it ends the tree, with
//!   its chain.
//! * Of each child at most one actor lives at a time: `Start` is put out for children that are
//!   `Down` only, or whose actor has just failed.
//! * Every call costs O(log n) per child it touches.

mod drains;
mod groups;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use drains::PAUSE;

use super::cause::{Cause, Fate};
use super::history::What;
use super::node::{Group, Input, Kind, Mode, Node, NodeId, Output, Phase, TreeError};
use super::policy::{ChildOptions, Restart, Strategy, Supervisor, Time};

/// The whole tree's supervision state.
#[derive(Clone, Debug)]
pub struct Plan {
    nodes: BTreeMap<NodeId, Node>,
    paths: BTreeMap<Arc<str>, NodeId>,
    next: u64,
    outputs: VecDeque<Output>,
    /// Groups to look at again.
    todo: VecDeque<NodeId>,
    ended: Option<Option<Cause>>,
}

impl Plan {
    /// A tree that has a root group only.
    pub fn new(spec: Supervisor) -> Self {
        let path: Arc<str> = "".into();
        let root = Node {
            path: path.clone(),
            parent: NodeId::ROOT,
            phase: Phase::Up,
            removing: false,
            spent: false,
            attempts: 0,
            restarts: 0,
            up_since: None,
            stop_by: None,
            kind: Kind::Group(Box::new(Group::new(spec, Mode::Running))),
        };
        Self {
            nodes: BTreeMap::from([(NodeId::ROOT, root)]),
            paths: BTreeMap::from([(path, NodeId::ROOT)]),
            next: 1,
            outputs: VecDeque::new(),
            todo: VecDeque::new(),
            ended: None,
        }
    }

    /// Adds a child to the group its path lies in, and starts it, unless that group is being
    /// restarted: then in its turn.
    pub fn add_child(
        &mut self,
        now: Time,
        path: &str,
        options: ChildOptions,
    ) -> Result<NodeId, TreeError> {
        let id = self.add(path, Kind::Child(options), 0)?;
        self.settle(now);
        Ok(id)
    }

    /// Adds an empty group.
    pub fn add_group(
        &mut self,
        now: Time,
        path: &str,
        spec: Supervisor,
    ) -> Result<NodeId, TreeError> {
        let id = self.add(path, Kind::Group(Box::new(Group::new(spec, Mode::Down))), 0)?;
        self.settle(now);
        Ok(id)
    }

    /// Adds an empty group that counts as started after everything else, also after what is added
    /// later: it is the first that its own group stops. For what the others are to see the end of. Not in
    /// a rest-for-one group, where what came later would have to start before it.
    pub fn add_outer_group(
        &mut self,
        now: Time,
        path: &str,
        spec: Supervisor,
    ) -> Result<NodeId, TreeError> {
        let parent = self.find(path.rsplit_once('/').map_or("", |(parent, _)| parent));
        let group = parent.and_then(|parent| self.group(parent));
        if group.is_some_and(|group| group.spec.strategy == Strategy::RestForOne) {
            return Err(TreeError::WrongKind);
        }
        let kind = Kind::Group(Box::new(Group::new(spec, Mode::Down)));
        let id = self.add(path, kind, NodeId::OUTER)?;
        self.settle(now);
        Ok(id)
    }

    /// The node at a path.
    pub fn find(&self, path: &str) -> Option<NodeId> {
        self.paths.get(path).copied()
    }

    /// Where a node stands; `None` when it has left the tree.
    pub fn phase(&self, node: NodeId) -> Option<Phase> {
        self.nodes.get(&node).map(|node| node.phase)
    }

    /// Whether the node is a group.
    pub fn is_group(&self, node: NodeId) -> bool {
        matches!(self.nodes.get(&node), Some(Node { kind: Kind::Group(_), .. }))
    }

    /// The path of a node.
    pub fn path(&self, node: NodeId) -> Option<Arc<str>> {
        self.nodes.get(&node).map(|node| node.path.clone())
    }

    /// The children and groups that lie in a group, oldest first.
    pub fn members(&self, group: NodeId) -> Vec<NodeId> {
        let Some(group) = self.group(group) else {
            return Vec::new();
        };
        let mut members: Vec<_> = group.down.iter().chain(&group.alive).copied().collect();
        members.sort_unstable();
        members
    }

    /// The number of nodes, the root included.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no node left, not even the root: the tree has ended.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Once the tree has ended: `Some(None)` after a shutdown, `Some(Some(cause))` after a failure
    /// of the root.
    pub fn ended(&self) -> Option<&Option<Cause>> {
        self.ended.as_ref()
    }

    /// What becomes of a child that has just exited.
    pub fn fate(&self, node: NodeId, after: Option<Duration>) -> Fate {
        match (self.nodes.get(&node), after) {
            (None, _) => Fate::Ends,
            (Some(node), Some(after)) if node.phase != Phase::Down => {
                Fate::Restarts { attempt: node.attempts, after }
            }
            (Some(_), _) => Fate::Waits,
        }
    }

    /// Takes in what happened. Inputs about nodes that have left are ignored.
    pub fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::Started(id) => self.started(now, id),
            Input::Exited(id, cause) => self.exited(now, id, cause),
            Input::Owing(id, cause) => {
                if !self.drains_on(now, id, &cause) {
                    self.exited(now, id, cause);
                }
            }
            Input::Remove { node, at_once } => self.remove(now, node, at_once),
            Input::Shutdown => self.stop(now, NodeId::ROOT, false),
        }
        self.settle(now);
    }

    /// Records something the plan has no part in, in its place.
    pub fn note(&mut self, path: Arc<str>, what: What) {
        self.record(path, what);
    }

    /// The next order, oldest first.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn add(&mut self, path: &str, kind: Kind, rank: u64) -> Result<NodeId, TreeError> {
        if path.is_empty() || path.split('/').any(str::is_empty) {
            return Err(TreeError::BadName);
        }
        if self.ended.is_some() {
            return Err(TreeError::ShuttingDown);
        }
        if self.paths.contains_key(path) {
            return Err(TreeError::Taken);
        }
        let parent = self.find(path.rsplit_once('/').map_or("", |(parent, _)| parent));
        let parent = parent.ok_or(TreeError::NotFound)?;
        let id = NodeId(self.next | rank);
        if self.group(parent).is_some() && self.goes_down(parent) {
            return Err(TreeError::ShuttingDown);
        }
        let Some(group) = self.group_mut(parent) else {
            return Err(TreeError::WrongKind);
        };
        let running = group.mode == Mode::Running;
        group.down.insert(id);
        self.next += 1;
        let path: Arc<str> = path.into();
        self.paths.insert(path.clone(), id);
        let node = Node {
            path,
            parent,
            phase: Phase::Down,
            removing: false,
            spent: false,
            attempts: 0,
            restarts: 0,
            up_since: None,
            stop_by: None,
            kind,
        };
        self.nodes.insert(id, node);
        if running {
            self.start(id, Duration::ZERO);
        } else {
            self.todo.push_back(parent);
        }
        Ok(id)
    }

    /// Whether a group, or one that it lies in, is being stopped. What came into one that is down
    /// already would never start, nor end.
    fn goes_down(&self, group: NodeId) -> bool {
        let above = |at: &NodeId| {
            let parent = self.nodes.get(at).map(|node| node.parent);
            parent.filter(|_| *at != NodeId::ROOT)
        };
        let mut groups = std::iter::successors(Some(group), above).filter_map(|at| self.group(at));
        groups.any(|group| matches!(group.mode, Mode::Stopping | Mode::Failing { .. }))
    }

    fn started(&mut self, now: Time, id: NodeId) {
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        let path = node.path.clone();
        let starting = node.phase == Phase::Starting;
        if starting {
            node.up_since = Some(now);
        }
        self.record(path, What::Started);
        if starting {
            self.set_phase(id, Phase::Up);
        }
    }

    fn exited(&mut self, now: Time, id: NodeId, cause: Cause) {
        let Some(node) = self.nodes.get(&id) else {
            return;
        };
        let Kind::Child(options) = node.kind else {
            return;
        };
        let (path, parent, phase, removing) =
            (node.path.clone(), node.parent, node.phase, node.removing);
        if phase != Phase::Down || cause == Cause::Lost {
            self.record(path, What::of(&cause));
        }
        self.set_phase(id, Phase::Down);
        let ordered = matches!(phase, Phase::Stopping | Phase::Down);
        let done = match options.restart {
            Restart::Always => false,
            Restart::OnFailure => !ordered && !cause.is_failure(),
            Restart::Never => true,
        };
        if removing || done || cause == Cause::Lost {
            self.forget(id);
        } else if !ordered {
            self.failed(now, parent, id, cause);
        }
    }

    /// Judges the failure of `child`, which is down: V2, V3.
    fn failed(&mut self, now: Time, parent: NodeId, child: NodeId, cause: Cause) {
        let Some(path) = self.path(child) else { return };
        let Some(group) = self.group_mut(parent) else {
            return;
        };
        if matches!(group.mode, Mode::Failing { .. } | Mode::Stopping | Mode::Down) {
            return;
        }
        let (spec, cause) = (group.spec, Box::new(cause));
        let admitted =
            spec.strategy != Strategy::Escalate && group.window.admit(now, spec.intensity);
        if !admitted {
            let group = self.path(parent).unwrap_or_default();
            let cause = match spec.strategy {
                Strategy::Escalate => Cause::Escalated { group, child: path, cause },
                _ => Cause::Exhausted { group, child: path, intensity: spec.intensity, cause },
            };
            if let Some(node) = self.nodes.get_mut(&child) {
                // Of a group that gave up others may owe something yet.
                node.spent = matches!(node.kind, Kind::Child(_));
            }
            return self.give_up(parent, cause);
        }
        let Some(node) = self.nodes.get_mut(&child) else {
            return;
        };
        let (attempt, after) = node.next_restart(now, &spec);
        self.record(path, What::Restarting { attempt, after });
        match spec.strategy {
            Strategy::RestForOne => self.restart_rest(parent, child, after),
            _ => self.start(child, after),
        }
    }

    fn restart_rest(&mut self, parent: NodeId, child: NodeId, after: Duration) {
        let Some(group) = self.group_mut(parent) else {
            return;
        };
        let (from, after) = match group.mode {
            Mode::Restarting { from, after: pending } => (from.min(child), after.max(pending)),
            _ => (child, after),
        };
        group.mode = Mode::Restarting { from, after };
        group.told = false;
        self.todo.push_back(parent);
    }

    fn give_up(&mut self, id: NodeId, cause: Cause) {
        let Some(path) = self.path(id) else { return };
        self.record(path, What::GaveUp { cause: cause.clone() });
        if let Some(group) = self.group_mut(id) {
            group.mode = Mode::Failing { cause };
            group.told = false;
            self.todo.push_back(id);
        }
        self.drain_down(id);
    }

    fn remove(&mut self, now: Time, id: NodeId, at_once: bool) {
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        if id == NodeId::ROOT {
            return self.stop(now, id, at_once);
        }
        node.removing = true;
        if node.phase != Phase::Down {
            self.stop(now, id, at_once);
        } else if at_once || !self.drains_late(now, id) {
            self.forget(id);
        }
    }

    /// Orders a node down that is not.
    fn stop(&mut self, now: Time, id: NodeId, at_once: bool) {
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        match &mut node.kind {
            Kind::Child(options) => {
                let drain = if at_once { Duration::ZERO } else { options.drain };
                // Told again it has no more time than before.
                let by = now.saturating_add(drain);
                let by = *node.stop_by.insert(node.stop_by.map_or(by, |known| known.min(by)));
                let drain = by.saturating_sub(now);
                self.outputs.push_back(Output::Stop { node: id, drain });
            }
            Kind::Group(group) => {
                group.at_once |= at_once;
                group.told = false;
                if !matches!(group.mode, Mode::Failing { .. }) {
                    group.mode = Mode::Stopping;
                }
                self.todo.push_back(id);
                self.drain_down(id);
            }
        }
        self.set_phase(id, Phase::Stopping);
    }

    /// Orders a node up that is down.
    fn start(&mut self, id: NodeId, after: Duration) {
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        (node.stop_by, node.spent) = (None, false);
        match &mut node.kind {
            Kind::Child(_) => self.outputs.push_back(Output::Start { node: id, after }),
            Kind::Group(group) => {
                group.mode = Mode::Starting { after };
                group.drains = false;
                self.todo.push_back(id);
            }
        }
        self.set_phase(id, Phase::Starting);
    }

    /// Takes a node that is down, and all below it, out of the tree.
    fn forget(&mut self, id: NodeId) {
        let Some(node) = self.nodes.remove(&id) else {
            return;
        };
        self.paths.remove(&node.path);
        if let Some(parent) = self.group_mut(node.parent) {
            parent.down.remove(&id);
            parent.alive.remove(&id);
            parent.undrained.remove(&id);
            self.todo.push_back(node.parent);
        }
        match node.kind {
            Kind::Child(_) => self.outputs.push_back(Output::Retire { node: id }),
            Kind::Group(group) => {
                group.down.into_iter().chain(group.alive).for_each(|id| self.forget(id))
            }
        }
        if id != NodeId::ROOT {
            self.record(node.path, What::Removed);
        }
    }

    /// Looks at every group whose children have changed, until nothing moves.
    fn settle(&mut self, now: Time) {
        while let Some(id) = self.todo.pop_front() {
            let Some(group) = self.group(id) else {
                continue;
            };
            match group.mode.clone() {
                Mode::Down => {}
                // One drained, for a child of it that was to go, while the others came up.
                Mode::Running if !group.down.is_empty() => {
                    self.set_mode(id, Mode::Starting { after: PAUSE });
                }
                Mode::Running => {}
                Mode::Starting { after } => self.go_up(now, id, after),
                Mode::Restarting { from, after } => {
                    if !self.go_down(now, id, Some(from)) {
                        self.set_mode(id, Mode::Starting { after });
                    }
                }
                Mode::Failing { cause } => {
                    if !self.go_down(now, id, None) {
                        self.group_down(now, id, Some(cause));
                    }
                }
                Mode::Stopping => {
                    if !self.go_down(now, id, None) {
                        self.group_down(now, id, None);
                    }
                }
            }
        }
    }

    fn set_mode(&mut self, id: NodeId, mode: Mode) {
        if let Some(group) = self.group_mut(id) {
            group.mode = mode;
            self.todo.push_back(id);
        }
    }

    /// Sets a node's phase and keeps its parent's books.
    fn set_phase(&mut self, id: NodeId, phase: Phase) {
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        let (old, parent) = (std::mem::replace(&mut node.phase, phase), node.parent);
        if old == phase || id == NodeId::ROOT {
            return;
        }
        let Some(group) = self.group_mut(parent) else {
            return;
        };
        group.starting += usize::from(phase == Phase::Starting);
        group.starting -= usize::from(old == Phase::Starting);
        if phase == Phase::Down {
            group.alive.remove(&id);
            group.down.insert(id);
        } else {
            group.down.remove(&id);
            group.alive.insert(id);
        }
        self.todo.push_back(parent);
    }

    fn group(&self, id: NodeId) -> Option<&Group> {
        match self.nodes.get(&id).map(|node| &node.kind) {
            Some(Kind::Group(group)) => Some(group),
            _ => None,
        }
    }

    fn group_mut(&mut self, id: NodeId) -> Option<&mut Group> {
        match self.nodes.get_mut(&id).map(|node| &mut node.kind) {
            Some(Kind::Group(group)) => Some(group),
            _ => None,
        }
    }

    fn record(&mut self, path: Arc<str>, what: What) {
        self.outputs.push_back(Output::Record { path, what });
    }
}
