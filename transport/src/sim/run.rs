//! Bytes on a simulated link: what was copied together, and behind it the user's own, by handle.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use stellate_protocol::codec::Outbound;

/// Longest piece of a frame that is copied to its neighbours, bytes: the copy costs less than what a
/// handle of its own does. Longer ones are the sender's own bytes all the way, so that a simulation
/// has each in memory once.
pub(super) const COPY_MAX: usize = 512;

/// Bytes in one piece or two.
#[derive(Clone, Debug, Default)]
pub(super) struct Run {
    pub(super) head: Bytes,
    pub(super) tail: Bytes,
}

impl Run {
    /// Takes all that was encoded.
    pub(super) fn of(encoded: &mut Outbound) -> Self {
        let tail = encoded.take_last_handle().unwrap_or_default();
        let head = match encoded.as_one() {
            Some(head) => Bytes::copy_from_slice(head),
            None => return Self { head: encoded.copy_to_bytes(encoded.len()), tail },
        };
        encoded.clear();
        Self { head, tail }
    }

    pub(super) fn len(&self) -> usize {
        self.head.len() + self.tail.len()
    }

    /// Cuts the first `at` bytes off, of those that are there.
    pub(super) fn split_to(&mut self, at: usize) -> Self {
        let in_tail = at.saturating_sub(self.head.len());
        let head = self.head.split_to(at - in_tail);
        let tail = if in_tail > 0 { self.tail.split_to(in_tail) } else { Bytes::new() };
        Self { head, tail }
    }

    /// Keeps the first `len` bytes.
    pub(super) fn truncate(&mut self, len: usize) {
        self.tail.truncate(len.saturating_sub(self.head.len()));
        self.head.truncate(len);
    }

    /// All of it in one piece.
    pub(super) fn join(self) -> Bytes {
        if self.tail.is_empty() {
            return self.head;
        }
        let mut all = BytesMut::with_capacity(self.len());
        all.put(self.head);
        all.put(self.tail);
        all.freeze()
    }
}

impl From<Bytes> for Run {
    fn from(head: Bytes) -> Self {
        Self { head, tail: Bytes::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wherever_it_is_cut_its_bytes_are_the_same() {
        let all = Bytes::from_static(b"0123456789");
        for seam in 0..=10 {
            let run = || Run { head: all.slice(..seam), tail: all.slice(seam..) };
            assert_eq!((run().len(), run().join()), (10, all.clone()));
            for at in 0..=10 {
                let (mut rest, mut first) = (run(), run());
                assert_eq!(rest.split_to(at).join(), all[..at]);
                assert_eq!(rest.join(), all[at..]);
                first.truncate(at);
                assert_eq!((first.len(), first.join()), (at, all.slice(..at)));
            }
        }
    }
}
