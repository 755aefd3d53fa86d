//! Faults at frame edges: wraps any transport and breaks exactly what a test names.
//!
//! ```text
//!   session ── submit ──► [Sent edges] ──► inner link ──► … ──► inner link ──► [Received edges] ──► session
//! ```
//!
//! A plan counts each kind of edge in each direction, over all links made by the transports it
//! wraps, so "the second `Message` that is sent" means the second of the session when the plan
//! wraps one messenger's transport and that has one session. What a rule holds back holds back
//! everything behind it too: faults never reorder (F3).

mod gate;
mod link;
mod transport;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stellate_protocol::FrameKind;

pub use self::gate::Gate;
use crate::link::Transport;

/// Most injected faults that a plan remembers; older ones are forgotten.
pub const HITS_MAX: usize = 1024;

/// Where a fault can sit: a kind of frame, a dial, an accept. `stellate::testing` has it as `FrameKind`
/// too; the kinds of frames alone are [`FrameKind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)] // The names are those of the frames.
pub enum Edge {
    /// Any frame.
    Any,
    /// A dial of this side; direction `Sent`.
    Dial,
    /// An accepted link of this side; direction `Received`.
    Accept,
    Hello,
    HelloAnswer,
    Resume,
    ResumeAnswer,
    Lost,
    Message,
    Announce,
    Pull,
    Chunk,
    Ack,
    Grant,
    Heartbeat,
    Admitted,
    Close,
}

impl From<FrameKind> for Edge {
    fn from(kind: FrameKind) -> Self {
        match kind {
            FrameKind::Hello => Self::Hello,
            FrameKind::HelloAnswer => Self::HelloAnswer,
            FrameKind::Resume => Self::Resume,
            FrameKind::ResumeAnswer => Self::ResumeAnswer,
            FrameKind::Lost => Self::Lost,
            FrameKind::Message => Self::Message,
            FrameKind::Announce => Self::Announce,
            FrameKind::Pull => Self::Pull,
            FrameKind::Chunk => Self::Chunk,
            FrameKind::Ack => Self::Ack,
            FrameKind::Grant => Self::Grant,
            FrameKind::Heartbeat => Self::Heartbeat,
            FrameKind::Admitted => Self::Admitted,
            FrameKind::Close => Self::Close,
        }
    }
}

/// Which way, seen from the side whose transport is wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// Out.
    Sent,
    /// In.
    Received,
}

/// What happens at the edge.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The frame is lost and its link cut at both ends; a dial fails; an accepted link is cut.
    Fail,
    /// It and all behind it wait for the gate.
    Block(Gate),
    /// It passes, and nothing after it ever does: a half-open link. A dial never ends; an accepted
    /// link is up at its dialler and never read here, and links behind it are accepted as ever.
    StallAfter,
    /// It and all behind it wait that long.
    Delay(Duration),
}

/// A fault that was injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// What passed there.
    pub edge: Edge,
    /// Which way.
    pub direction: Direction,
    /// Which one of its kind and direction it was, from 1.
    pub nth: u64,
}

/// A plan of faults. Cloning copies a handle: rules may be added while it runs.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    plan: Arc<Mutex<Plan>>,
}

#[derive(Debug, Default)]
struct Plan {
    rules: Vec<Rule>,
    seen: Vec<(Edge, Direction, u64)>,
    hits: VecDeque<Hit>,
}

#[derive(Debug)]
struct Rule {
    edge: Edge,
    direction: Direction,
    nth: u64,
    fault: Fault,
}

impl Faults {
    /// An empty plan: everything passes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a fault for the `nth` passage, from 1, counted from the start of the plan. It
    /// happens once. Two rules for one passage happen on it and on the next.
    pub fn on(&self, edge: impl Into<Edge>, direction: Direction, nth: u64, fault: Fault) -> &Self {
        let edge = edge.into();
        self.lock().rules.push(Rule { edge, direction, nth, fault });
        self
    }

    /// The same, counted from now: the `nth` passage that is still to come.
    pub fn on_next(
        &self,
        edge: impl Into<Edge>,
        direction: Direction,
        nth: u64,
        fault: Fault,
    ) -> &Self {
        let edge = edge.into();
        let seen = self.seen(edge, direction);
        self.on(edge, direction, seen + nth, fault)
    }

    /// How often that edge was passed so far.
    pub fn seen(&self, edge: impl Into<Edge>, direction: Direction) -> u64 {
        self.lock().count(edge.into(), direction)
    }

    /// What was injected, oldest first, at most [`HITS_MAX`].
    pub fn hits(&self) -> Vec<Hit> {
        self.lock().hits.iter().copied().collect()
    }

    /// Drops the rules that have not happened.
    pub fn clear(&self) -> &Self {
        self.lock().rules.clear();
        self
    }

    /// `inner` with this plan on all its links.
    pub fn wrap(&self, inner: Arc<dyn Transport>) -> Arc<dyn Transport> {
        Arc::new(transport::FaultTransport::new(inner, self.clone()))
    }

    /// Counts a passage and says what happens on it.
    fn pass(&self, edge: Edge, direction: Direction) -> Option<Fault> {
        self.lock().pass(edge, direction)
    }

    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Plan {
    fn count(&self, edge: Edge, direction: Direction) -> u64 {
        let found = self.seen.iter().find(|seen| (seen.0, seen.1) == (edge, direction));
        found.map_or(0, |seen| seen.2)
    }

    fn bump(&mut self, edge: Edge, direction: Direction) -> u64 {
        let found = self.seen.iter_mut().find(|seen| (seen.0, seen.1) == (edge, direction));
        if let Some(seen) = found {
            seen.2 += 1;
            return seen.2;
        }
        self.seen.push((edge, direction, 1));
        1
    }

    fn pass(&mut self, edge: Edge, direction: Direction) -> Option<Fault> {
        let nth = self.bump(edge, direction);
        let nth_any = match edge {
            Edge::Dial | Edge::Accept => 0,
            _ => self.bump(Edge::Any, direction),
        };
        let due = |rule: &Rule| {
            let count = if rule.edge == Edge::Any { nth_any } else { nth };
            (rule.edge == edge || rule.edge == Edge::Any)
                && rule.direction == direction
                && count >= rule.nth
                && count > 0
        };
        let rule = self.rules.iter().position(due)?;
        let rule = self.rules.remove(rule);
        if self.hits.len() == HITS_MAX {
            self.hits.pop_front();
        }
        self.hits.push_back(Hit { edge, direction, nth });
        Some(rule.fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nth_of_a_kind_is_counted_apart_from_other_kinds_and_directions() {
        let faults = Faults::new();
        faults.on(FrameKind::Message, Direction::Sent, 2, Fault::Fail);
        faults.on(Edge::Any, Direction::Received, 3, Fault::Fail);
        assert!(faults.pass(Edge::Message, Direction::Sent).is_none());
        assert!(faults.pass(Edge::Message, Direction::Received).is_none());
        assert!(faults.pass(Edge::Ack, Direction::Sent).is_none());
        assert!(faults.pass(Edge::Message, Direction::Sent).is_some());
        assert!(faults.pass(Edge::Message, Direction::Sent).is_none());
        assert!(faults.pass(Edge::Ack, Direction::Received).is_none());
        assert!(faults.pass(Edge::Ack, Direction::Received).is_some());
        assert_eq!(faults.seen(FrameKind::Message, Direction::Sent), 3);
        let nths: Vec<u64> = faults.hits().iter().map(|hit| hit.nth).collect();
        assert_eq!(nths, [2, 2]);
    }
}
