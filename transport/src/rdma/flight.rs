//! Submits of a link: how much of them is here, which are over, and in which order that is told. Pure.
//!
//! ```text
//!   submit ─┬─ frame: queued ─► sent in messages ─► over when its last SEND completes
//!           └─ chunk: queued ─► offered in pieces ─► over when the peer has read them
//!             the oldest is over ──► told (F1: each once, in the order of submits)
//! ```
//!
//! Frames may pass chunks; each of both keeps its order.

use std::collections::VecDeque;

/// All submits that are not told.
#[derive(Debug, Default)]
pub(super) struct Flight {
    /// In order, as runs of one kind.
    order: VecDeque<(Kind, u64)>,
    frames: Way,
    chunks: Way,
    /// Messages of frames that completed.
    completed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Frame,
    Chunk,
}

/// Submits of one kind.
#[derive(Debug, Default)]
struct Way {
    /// Bytes that are not over, whether posted or not.
    bytes: usize,
    /// What was posted and is not over.
    legs: VecDeque<Leg>,
    /// Submits that are over, and not told.
    over: u64,
}

/// A message of frames, or an offer.
#[derive(Debug)]
struct Leg {
    /// That end with it.
    submits: u64,
    bytes: usize,
}

/// The peer released offers that were never made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overreleased;

impl Flight {
    /// A frame of so many bytes is accepted.
    pub(super) fn accept_frame(&mut self, bytes: usize) {
        self.frames.bytes += bytes;
        self.submitted(Kind::Frame);
    }

    /// A chunk of so many bytes is accepted.
    pub(super) fn accept_chunk(&mut self, bytes: usize) {
        self.chunks.bytes += bytes;
        self.submitted(Kind::Chunk);
    }

    fn submitted(&mut self, kind: Kind) {
        match self.order.back_mut() {
            Some((last, count)) if *last == kind => *count += 1,
            _ => self.order.push_back((kind, 1)),
        }
    }

    /// A message of frames leaves, with the ends of so many submits: its number.
    pub(super) fn frames(&mut self, submits: u64, bytes: usize) -> u64 {
        self.frames.legs.push_back(Leg { submits, bytes });
        self.completed + self.frames.legs.len() as u64
    }

    /// An offer leaves, with the ends of so many submits: the last of a chunk with one.
    pub(super) fn offer(&mut self, submits: u64, bytes: usize) {
        self.chunks.legs.push_back(Leg { submits, bytes });
    }

    /// Offers that were made and not read.
    pub(super) fn offers_open(&self) -> usize {
        self.chunks.legs.len()
    }

    /// All messages of frames up to that number are out.
    pub(super) fn sent(&mut self, number: u64) {
        let count = number.saturating_sub(self.completed);
        self.completed += count;
        self.frames.end(count as usize);
    }

    /// The peer has read so many more.
    pub(super) fn released(&mut self, offers: u16) -> Result<(), Overreleased> {
        let offers = usize::from(offers);
        if offers > self.offers_open() {
            return Err(Overreleased);
        }
        self.chunks.end(offers);
        Ok(())
    }

    /// Submits that are over now and were not told.
    pub(super) fn take_over(&mut self) -> u64 {
        let mut told = 0;
        while let Some((kind, left)) = self.order.front_mut() {
            let way = match kind {
                Kind::Frame => &mut self.frames,
                Kind::Chunk => &mut self.chunks,
            };
            let over = way.over.min(*left);
            way.over -= over;
            *left -= over;
            told += over;
            if *left > 0 {
                break;
            }
            self.order.pop_front();
        }
        told
    }

    /// Bytes of frames that are not over.
    pub(super) fn frame_bytes(&self) -> usize {
        self.frames.bytes
    }

    /// Bytes of chunks that are not over.
    pub(super) fn chunk_bytes(&self) -> usize {
        self.chunks.bytes
    }

    /// Whether all that was accepted was told.
    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

impl Way {
    /// The oldest so many are over.
    fn end(&mut self, count: usize) {
        let count = count.min(self.legs.len());
        for Leg { submits, bytes } in self.legs.drain(..count) {
            self.over += submits;
            self.bytes -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f1_submits_are_told_in_order_whatever_is_over_first() {
        let mut flight = Flight::default();
        (0..3).for_each(|_| flight.accept_frame(100));
        flight.accept_chunk(1000);
        (0..2).for_each(|_| flight.accept_frame(10));
        assert_eq!(flight.frames(3, 300), 1);
        flight.offer(1, 1000);
        assert_eq!(flight.frames(2, 20), 2);
        flight.sent(2);
        assert_eq!(flight.take_over(), 3, "the chunk is not read");
        assert_eq!((flight.frame_bytes(), flight.chunk_bytes()), (0, 1000), "though more are out");
        assert_eq!(flight.released(2), Err(Overreleased));
        assert_eq!(flight.released(1), Ok(()));
        assert_eq!((flight.take_over(), flight.chunk_bytes(), flight.is_empty()), (3, 0, true));
        assert_eq!(flight.offers_open(), 0);
    }

    #[test]
    fn f2_a_chunk_that_frames_pass_is_not_told_before_it_was_offered() {
        let mut flight = Flight::default();
        flight.accept_chunk(1000);
        (0..2).for_each(|_| flight.accept_frame(10));
        let number = flight.frames(2, 20);
        flight.sent(number);
        assert_eq!((flight.take_over(), flight.is_empty()), (0, false));
        flight.offer(0, 600);
        flight.offer(1, 400);
        assert_eq!((flight.released(1), flight.take_over()), (Ok(()), 0), "a part of it");
        assert_eq!((flight.released(1), flight.take_over()), (Ok(()), 3));
        assert!(flight.is_empty());
    }
}
