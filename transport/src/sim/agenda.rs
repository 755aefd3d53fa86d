//! What happens when: events by tick, and within a tick as the seed has it.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// An event with its place.
struct Due<E> {
    /// Tick, what was drawn, and a number that tells the rest apart.
    at: (u64, u64, u64),
    event: E,
}

impl<E> PartialEq for Due<E> {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl<E> Eq for Due<E> {}

impl<E> PartialOrd for Due<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Due<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at.cmp(&other.at)
    }
}

/// See the module. A heap, so that an event costs no allocation.
pub(super) struct Agenda<E> {
    heap: BinaryHeap<Reverse<Due<E>>>,
    added: u64,
}

impl<E> Agenda<E> {
    pub(super) fn new() -> Self {
        Self { heap: BinaryHeap::new(), added: 0 }
    }

    pub(super) fn add(&mut self, tick: u64, drawn: u64, event: E) {
        self.added += 1;
        let at = (tick, drawn, self.added);
        self.heap.push(Reverse(Due { at, event }));
    }

    /// When the next is due.
    #[inline]
    pub(super) fn next_tick(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse(due)| due.at.0)
    }

    /// The next, if it is due at `now`.
    #[inline]
    pub(super) fn take_due(&mut self, now: u64) -> Option<E> {
        if self.next_tick()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(due)| due.event)
    }
}
