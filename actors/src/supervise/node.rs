//! The nodes of the tree as the plan sees them: children and groups, without any actor.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::cause::Cause;
use super::history::What;
use super::policy::{ChildOptions, Supervisor, Time, Window, draw, salt};

/// A node, for ever: numbers are not used again, and grow in start order, an outer group's beyond all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(super) u64);

impl NodeId {
    /// The root group.
    pub const ROOT: Self = Self(0);
    /// Added to the number of a node that is to stop before all that have none of it.
    pub(super) const OUTER: u64 = 1 << 63;
}

/// Where a node stands, from its parent's point of view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Not running, and nothing under way.
    Down,
    /// Told to start, perhaps after a delay.
    Starting,
    /// Running.
    Up,
    /// Told to stop.
    Stopping,
}

/// What a group is busy with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Every child is up or on its own way there.
    Running,
    /// Children are being started; the first to start waits for the delay.
    Starting { after: Duration },
    /// Children younger than `from` are being stopped; then `Starting`.
    Restarting { from: NodeId, after: Duration },
    /// Children are being stopped because the group failed.
    Failing { cause: Cause },
    /// Children are being stopped because the group was told to.
    Stopping,
    /// No child runs, and none may.
    Down,
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) path: Arc<str>,
    /// Itself for the root.
    pub(super) parent: NodeId,
    pub(super) phase: Phase,
    /// Leaves the tree as soon as it is down.
    pub(super) removing: bool,
    /// Its group gave up over it: it is not built again, whatever it owes.
    pub(super) spent: bool,
    /// Restarts in a row.
    pub(super) attempts: u32,
    /// Restarts ever: salts the jitter.
    pub(super) restarts: u64,
    /// Set from start to failure.
    pub(super) up_since: Option<Time>,
    /// Until when it may drain, once it is told to stop.
    pub(super) stop_by: Option<Time>,
    pub(super) kind: Kind,
}

impl Node {
    /// Counts a restart: which one in a row it is, and how long it waits.
    pub(super) fn next_restart(&mut self, now: Time, spec: &Supervisor) -> (u32, Duration) {
        let up_since = self.up_since.take();
        if up_since.is_some_and(|at| now.saturating_sub(at) >= spec.backoff.reset_after) {
            self.attempts = 0;
        }
        self.attempts = self.attempts.saturating_add(1);
        self.restarts = self.restarts.wrapping_add(1);
        let drawn = draw(spec.seed, salt(&self.path) ^ self.restarts);
        (self.attempts, spec.backoff.delay(self.attempts, drawn))
    }
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Child(ChildOptions),
    Group(Box<Group>),
}

#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) spec: Supervisor,
    pub(super) window: Window,
    pub(super) mode: Mode,
    /// Children that are down, in start order.
    pub(super) down: BTreeSet<NodeId>,
    /// All others, in start order.
    pub(super) alive: BTreeSet<NodeId>,
    /// How many of the others are on their way up.
    pub(super) starting: usize,
    /// With [`StopOrder::Together`](super::policy::StopOrder): all were told to stop.
    pub(super) told: bool,
    /// Children are dropped rather than drained.
    pub(super) at_once: bool,
    /// While it ends: what is down, may owe something, and has yet to drain.
    pub(super) undrained: BTreeSet<NodeId>,
    /// While it ends: these were told.
    pub(super) drains: bool,
}

impl Group {
    pub(super) fn new(spec: Supervisor, mode: Mode) -> Self {
        Self {
            spec,
            window: Window::default(),
            mode,
            down: BTreeSet::new(),
            alive: BTreeSet::new(),
            starting: 0,
            told: false,
            at_once: false,
            undrained: BTreeSet::new(),
            drains: false,
        }
    }
}

/// What happened, told to the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A child's actor has started.
    Started(NodeId),
    /// A child's actor has ended, in answer to an order or not.
    Exited(NodeId, Cause),
    /// The same of a failure, and the child's recipe owes something yet: one that was told to stop is
    /// built again to do it, if its back-off, its drain period and the restarts of its group allow.
    Owing(NodeId, Cause),
    /// A node is to leave the tree, within its drain period or at once.
    Remove {
        /// The node.
        node: NodeId,
        /// Drop it rather than let it drain.
        at_once: bool,
    },
    /// The whole tree is to end.
    Shutdown,
}

/// What is to be done, read from the plan until there is no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Build the child's actor after a delay. Answered by `Exited` or `Owing` once, and before that
    /// perhaps by `Started`.
    Start {
        /// The child.
        node: NodeId,
        /// The delay.
        after: Duration,
    },
    /// Stop the child's actor, or forget its pending start. Answered by `Exited` or `Owing`.
    Stop {
        /// The child.
        node: NodeId,
        /// How long it may drain.
        drain: Duration,
    },
    /// The child, which is down, has left the tree.
    Retire {
        /// The child.
        node: NodeId,
    },
    /// For the history.
    Record {
        /// Whose.
        path: Arc<str>,
        /// What.
        what: What,
    },
}

/// Why a node cannot be had or made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TreeError {
    /// A node of that path exists, or is still on its way out.
    Taken,
    /// No such child or group.
    NotFound,
    /// The node is a group and the verb is for children, or the other way round.
    WrongKind,
    /// A name is empty, or has an empty part.
    BadName,
    /// The tree, or the group, is shutting down.
    ShuttingDown,
    /// The arbiter that was to run the child has ended.
    ArbiterGone,
}

impl std::fmt::Display for TreeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Taken => "the path is taken",
            Self::NotFound => "no such child or group",
            Self::WrongKind => "not for this kind of node",
            Self::BadName => "a name is empty",
            Self::ShuttingDown => "the tree is shutting down",
            Self::ArbiterGone => "the arbiter has ended",
        })
    }
}

impl std::error::Error for TreeError {}
