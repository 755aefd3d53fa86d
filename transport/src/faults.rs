//! Faults at frame edges: wraps any transport and breaks exactly what a test names.
//!
//! ```text
//!   session ── submit ──► [Sent edges] ──► inner link ──► … ──► inner link ──► [Received edges] ──► session
//! ```
//!
//! A plan counts each kind of edge in each direction, for each session apart and over all its links:
//! "the second `Message` that is sent" means the second of a session, whatever others do. The frames of
//! a link, both ways, are those of the session that its hello names; so are those of a dial that lost a
//! race, though what it was to carry goes on in the session of the winner. Dials and accepts come
//! before any hello and are nobody's: a plan counts them together, as it does the frames of a link on
//! which there was no hello. What a rule holds back holds back everything behind it too: faults never
//! reorder (F3).

mod counts;
mod gate;
mod link;
mod transport;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stellate_protocol::{FrameKind, SessionId};

pub use self::counts::SESSIONS_MAX;
use self::counts::{Counts, Sessions};
pub use self::gate::Gate;
use crate::link::Transport;
use crate::trace::SessionTag;

/// Most injected faults that a plan remembers; older ones are forgotten.
pub const HITS_MAX: usize = 1024;

/// Where a fault can sit: a kind of frame, a dial, an accept. `stellate::testing` has it as `FrameKind`
/// too; the kinds of frames alone are [`FrameKind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)] // The names are those of the frames.
pub enum Edge {
    /// Any frame.
    Any,
    /// A dial of this side, of whatever session; direction `Sent`.
    Dial,
    /// An accepted link of this side, of whatever session; direction `Received`.
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
    /// Which one of its kind and direction it was in its session, from 1.
    pub nth: u64,
    /// The session, as a [trace](crate::trace) shows it; [`SessionTag::NONE`] of a dial, an accept, and
    /// before a hello.
    pub session: SessionTag,
}

/// A plan of faults. Cloning copies a handle: rules may be added while it runs. It tells the last
/// [`SESSIONS_MAX`] sessions apart.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    plan: Arc<Mutex<Plan>>,
}

#[derive(Debug, Default)]
struct Plan {
    rules: Vec<Rule>,
    /// Of all sessions together.
    seen: Counts,
    sessions: Sessions,
    hits: VecDeque<Hit>,
}

#[derive(Debug)]
struct Rule {
    edge: Edge,
    direction: Direction,
    nth: u64,
    fault: Fault,
    /// What sessions had passed already when it began to count.
    from: Vec<(Arc<Counts>, u64)>,
}

impl Rule {
    /// Which passage of that session it waits for.
    fn due(&self, session: &Arc<Counts>) -> u64 {
        let from = self.from.iter().find(|(counts, _)| Arc::ptr_eq(counts, session));
        self.nth.saturating_add(from.map_or(0, |(_, passed)| *passed))
    }
}

impl Faults {
    /// An empty plan: everything passes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a fault for the `nth` passage of a session, from 1, counted from its start over all its
    /// links. It happens once, in the first session that comes so far; of dials and accepts it is the
    /// `nth` of the plan. Two rules for one passage happen on it and on the next.
    pub fn on(&self, edge: impl Into<Edge>, direction: Direction, nth: u64, fault: Fault) -> &Self {
        let edge = edge.into();
        self.lock().rules.push(Rule { edge, direction, nth, fault, from: Vec::new() });
        self
    }

    /// The same, counted from now: the `nth` passage of a session that is still to come.
    pub fn on_next(
        &self,
        edge: impl Into<Edge>,
        direction: Direction,
        nth: u64,
        fault: Fault,
    ) -> &Self {
        let edge = edge.into();
        let mut plan = self.lock();
        let passed = |counts: &Arc<Counts>| (counts.clone(), counts.get(edge, direction));
        let from = plan.sessions.iter().map(passed).filter(|(_, passed)| *passed > 0).collect();
        plan.rules.push(Rule { edge, direction, nth, fault, from });
        drop(plan);
        self
    }

    /// How often that edge was passed so far, by all sessions together.
    pub fn seen(&self, edge: impl Into<Edge>, direction: Direction) -> u64 {
        self.lock().seen.get(edge.into(), direction)
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

    /// The counts of the session that a hello names.
    fn session(&self, id: SessionId) -> Arc<Counts> {
        self.lock().sessions.enter(id)
    }

    /// Counts a passage, of nobody if no session is given, and says what happens on it.
    fn pass(
        &self,
        edge: Edge,
        direction: Direction,
        session: Option<&Arc<Counts>>,
    ) -> Option<Fault> {
        self.lock().pass(edge, direction, session)
    }

    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Plan {
    fn pass(
        &mut self,
        edge: Edge,
        direction: Direction,
        session: Option<&Arc<Counts>>,
    ) -> Option<Fault> {
        let session = session.unwrap_or(&self.sessions.nobody);
        self.seen.bump(edge, direction);
        let nth = session.bump(edge, direction);
        let nth_any = match edge {
            Edge::Dial | Edge::Accept => 0,
            _ => {
                self.seen.bump(Edge::Any, direction);
                session.bump(Edge::Any, direction)
            }
        };
        let due = |rule: &Rule| {
            let count = if rule.edge == Edge::Any { nth_any } else { nth };
            (rule.edge == edge || rule.edge == Edge::Any)
                && rule.direction == direction
                && count > 0
                && count >= rule.due(session)
        };
        let rule = self.rules.iter().position(due)?;
        let rule = self.rules.remove(rule);
        if self.hits.len() == HITS_MAX {
            self.hits.pop_front();
        }
        self.hits.push_back(Hit { edge, direction, nth, session: session.session });
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
        assert!(faults.pass(Edge::Message, Direction::Sent, None).is_none());
        assert!(faults.pass(Edge::Message, Direction::Received, None).is_none());
        assert!(faults.pass(Edge::Ack, Direction::Sent, None).is_none());
        assert!(faults.pass(Edge::Message, Direction::Sent, None).is_some());
        assert!(faults.pass(Edge::Message, Direction::Sent, None).is_none());
        assert!(faults.pass(Edge::Ack, Direction::Received, None).is_none());
        assert!(faults.pass(Edge::Ack, Direction::Received, None).is_some());
        assert_eq!(faults.seen(FrameKind::Message, Direction::Sent), 3);
        let nths: Vec<u64> = faults.hits().iter().map(|hit| hit.nth).collect();
        assert_eq!(nths, [2, 2]);
    }
}
