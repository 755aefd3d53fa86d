//! How often each edge was passed, by each session.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use stellate_protocol::SessionId;

use super::{Direction, Edge};
use crate::trace::SessionTag;

/// Sessions that a plan tells apart. Beyond that the one whose latest hello was the longest ago is
/// forgotten: if it comes again it counts from one.
pub const SESSIONS_MAX: usize = 4096;

const EDGES: usize = Edge::Close as usize + 1;

/// The passages of one session, over all its links. Changed under the lock of the plan only.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) session: SessionTag,
    passed: [[AtomicU64; EDGES]; 2],
}

impl Counts {
    fn at(&self, edge: Edge, direction: Direction) -> &AtomicU64 {
        &self.passed[direction as usize][edge as usize]
    }

    pub(super) fn get(&self, edge: Edge, direction: Direction) -> u64 {
        self.at(edge, direction).load(Ordering::Relaxed)
    }

    /// Counts a passage, and says which one it was, from 1.
    pub(super) fn bump(&self, edge: Edge, direction: Direction) -> u64 {
        self.at(edge, direction).fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// The counts of a plan.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    /// Of dials, accepts, and links on which there was no hello.
    pub(super) nobody: Arc<Counts>,
    /// The one with the latest hello is last.
    known: VecDeque<(SessionId, Arc<Counts>)>,
}

impl Sessions {
    /// A hello names that session.
    pub(super) fn enter(&mut self, id: SessionId) -> Arc<Counts> {
        let known = self.known.iter().position(|(known, _)| *known == id);
        let counts = match known.and_then(|at| self.known.remove(at)) {
            Some((_, counts)) => counts,
            None => Arc::new(Counts { session: id.into(), ..Counts::default() }),
        };
        if self.known.len() == SESSIONS_MAX {
            self.known.pop_front();
        }
        self.known.push_back((id, counts.clone()));
        counts
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Counts>> {
        self.known.iter().map(|(_, counts)| counts).chain([&self.nobody])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s7_the_session_that_said_hello_the_longest_ago_is_forgotten() {
        let mut sessions = Sessions::default();
        let bump = |counts: Arc<Counts>| counts.bump(Edge::Message, Direction::Sent);
        for id in 0..SESSIONS_MAX as u128 {
            assert_eq!(bump(sessions.enter(SessionId(id))), 1);
        }
        assert_eq!(bump(sessions.enter(SessionId(0))), 2, "its second link");
        sessions.enter(SessionId(u128::MAX));
        assert_eq!(sessions.iter().count(), SESSIONS_MAX + 1);
        assert_eq!(bump(sessions.enter(SessionId(0))), 3);
        assert_eq!(bump(sessions.enter(SessionId(1))), 1);
    }
}
