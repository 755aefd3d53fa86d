//! What was heard of each instance, for some time also after its last session here ended (S6).
//!
//! A hello may lie on its way longer than its session lives. Without this memory it would begin
//! the session again: a phantom on a link that nobody holds, and a second birth of one id.

use std::collections::{BTreeMap, VecDeque};

use crate::id::{Attempt, Instance, SessionId};

/// Instances without a session here that are remembered, oldest forgotten first (S7).
const PAST_MAX: usize = 1024;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Heard {
    latest: Attempt,
    /// Sessions with it.
    live: u32,
    /// The last session that ended, by both of its ids.
    over: Option<[SessionId; 2]>,
    /// It stands in `past`.
    past: bool,
}

/// By instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Memory {
    heard: BTreeMap<Instance, Heard>,
    past: VecDeque<Instance>,
}

impl Memory {
    /// A session with `instance` begins, or is bound to it.
    pub(super) fn begins(&mut self, instance: Instance) {
        self.heard.entry(instance).or_default().live += 1;
    }

    /// `attempt` of `instance` was heard of.
    pub(super) fn hears(&mut self, instance: Instance, attempt: Attempt) {
        let heard = self.heard.entry(instance).or_default();
        heard.latest = heard.latest.max(attempt);
    }

    /// A session with `instance` is over.
    pub(super) fn ends(&mut self, instance: Instance, ids: [SessionId; 2]) {
        let Some(heard) = self.heard.get_mut(&instance) else {
            return;
        };
        heard.live = heard.live.saturating_sub(1);
        heard.over = Some(ids);
        if !std::mem::replace(&mut heard.past, true) {
            self.past.push_back(instance);
        }
        while self.past.len() > PAST_MAX {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some(oldest) = self.past.pop_front() else {
            return;
        };
        if let Some(heard) = self.heard.get_mut(&oldest) {
            heard.past = false;
            if heard.live == 0 {
                self.heard.remove(&oldest);
            }
        }
    }

    /// Whether a later dial of that instance was heard of.
    pub(super) fn is_old(&self, instance: Instance, attempt: Attempt) -> bool {
        let heard = self.heard.get(&instance);
        heard.is_some_and(|heard| attempt <= heard.latest)
    }

    /// Whether that session is known to be over.
    pub(super) fn is_over(&self, instance: Instance, id: SessionId) -> bool {
        let heard = self.heard.get(&instance);
        heard.is_some_and(|heard| heard.over.is_some_and(|ids| ids.contains(&id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s6_an_ended_session_is_remembered_and_s7_not_for_ever() {
        let mut memory = Memory::default();
        let [first, other] = [Instance(1), Instance(2)];
        for instance in [first, other] {
            memory.begins(instance);
            memory.hears(instance, Attempt(3));
        }
        // One of two sessions with it is over.
        memory.begins(other);
        memory.ends(other, [SessionId(5), SessionId(6)]);
        memory.ends(first, [SessionId(7), SessionId(8)]);
        assert!(memory.is_old(first, Attempt(3)) && !memory.is_old(first, Attempt(4)));
        assert!(memory.is_over(first, SessionId(8)) && !memory.is_over(other, SessionId(8)));
        for instance in 0..2 * PAST_MAX as u128 {
            memory.begins(Instance(100 + instance));
            memory.ends(Instance(100 + instance), [SessionId(9); 2]);
        }
        assert!(!memory.is_old(first, Attempt(3)), "forgotten in time");
        assert!(memory.is_old(other, Attempt(3)), "a live one is kept");
        assert_eq!(memory.heard.len(), PAST_MAX + 1);
    }
}
