//! Why a completion queue cannot be overrun: each queue pair takes places for all it can post. Pure.
//!
//! ```text
//!   free ── take: send or receive depth ──► taken ── pair destroyed ──► leaving
//!     ▲                                                                        │
//!     └────────────────── the queue was polled until it was empty ─────────────┘
//! ```
//!
//! A destroyed pair may leave completions behind, so its places are free only when the queue has
//! been seen empty since.

/// The places of one completion queue.
#[derive(Debug)]
pub(super) struct CqRoom {
    depth: u32,
    taken: u32,
    leaving: u32,
}

impl CqRoom {
    pub(super) fn new(depth: u32) -> Self {
        Self { depth, taken: 0, leaving: 0 }
    }

    /// Whether so many places are free.
    pub(super) fn has(&self, places: u32) -> bool {
        places <= self.depth - self.taken - self.leaving
    }

    /// Takes so many places, if they are free.
    pub(super) fn take(&mut self, places: u32) -> bool {
        let fits = self.has(places);
        if fits {
            self.taken += places;
        }
        fits
    }

    /// The pair that had them is destroyed.
    pub(super) fn leave(&mut self, places: u32) {
        let places = places.min(self.taken);
        self.taken -= places;
        self.leaving += places;
    }

    /// The queue was empty for a moment.
    pub(super) fn drained(&mut self) {
        self.leaving = 0;
    }

    /// Places that pairs have.
    pub(super) fn taken(&self) -> u32 {
        self.taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_free_again_only_when_the_queue_was_empty() {
        let mut room = CqRoom::new(10);
        assert!(room.take(6) && room.take(4) && !room.take(1));
        room.leave(6);
        assert!(!room.take(1), "its completions may still lie there");
        room.drained();
        assert!(room.take(6) && !room.take(1));
        room.leave(100);
        assert_eq!(room.taken(), 0);
    }
}
