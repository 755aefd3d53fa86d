//! Submits on their way: which are over, and in which order that is told. Pure.
//!
//! ```text
//!   submit ─► flight ─┬─ frames: over when their last SEND completes
//!                     └─ chunk:  over when the peer has read it
//!             the front is over ──► told (F1: each once, in the order of submits)
//! ```

use std::collections::VecDeque;

/// What is on its way.
#[derive(Debug, Default)]
pub(super) struct Flight {
    legs: VecDeque<Leg>,
    /// Messages of frames that completed.
    sent: u64,
    /// Chunks that were read.
    released: u64,
    /// Offers made.
    offers: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Leg {
    over: Over,
    submits: u64,
    bytes: usize,
}

#[derive(Debug)]
enum Over {
    Sent(u64),
    Released(u64),
}

/// The peer released offers that were never made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overreleased;

impl Flight {
    /// The `number`th message of frames left, with the ends of so many submits.
    pub(super) fn frames(&mut self, number: u64, submits: u64, bytes: usize) {
        self.bytes += bytes;
        self.legs.push_back(Leg { over: Over::Sent(number), submits, bytes });
    }

    /// An offer left, with the ends of so many submits: the last of a chunk with one.
    pub(super) fn offer(&mut self, submits: u64, bytes: usize) {
        self.offers += 1;
        self.bytes += bytes;
        self.legs.push_back(Leg { over: Over::Released(self.offers), submits, bytes });
    }

    /// Offers that were made and not read.
    pub(super) fn offers_open(&self) -> u64 {
        self.offers - self.released
    }

    /// All messages of frames up to that number are out.
    pub(super) fn sent(&mut self, number: u64) {
        self.sent = self.sent.max(number);
    }

    /// The peer has read so many more.
    pub(super) fn released(&mut self, offers: u16) -> Result<(), Overreleased> {
        let released = self.released + u64::from(offers);
        if released > self.offers {
            return Err(Overreleased);
        }
        self.released = released;
        Ok(())
    }

    /// Submits that are over now and were not told.
    pub(super) fn take_over(&mut self) -> u64 {
        let mut submits = 0;
        while let Some(leg) = self.legs.front() {
            let over = match leg.over {
                Over::Sent(number) => number <= self.sent,
                Over::Released(number) => number <= self.released,
            };
            if !over {
                break;
            }
            submits += leg.submits;
            self.bytes -= leg.bytes;
            self.legs.pop_front();
        }
        submits
    }

    /// Bytes that are not over.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.legs.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f1_submits_are_over_in_order_whatever_is_first() {
        let mut flight = Flight::default();
        flight.frames(1, 3, 300);
        flight.offer(1, 1000);
        flight.frames(2, 2, 20);
        flight.sent(2);
        assert_eq!((flight.take_over(), flight.bytes()), (3, 1020), "the chunk is not read");
        assert_eq!(flight.released(2), Err(Overreleased));
        assert_eq!(flight.released(1), Ok(()));
        assert_eq!((flight.take_over(), flight.bytes(), flight.is_empty()), (3, 0, true));
        assert_eq!(flight.offers_open(), 0);
    }
}
