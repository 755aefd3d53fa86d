//! The buffers that links read into, lent to the messages in them and counted (S7).
//!
//! ```text
//!   pool ─► read ─┬─ little came: copied to memory of its size, the buffer is back at once
//!                 └─ much came: lent ─► the last message in it is gone ─► pool
//! ```
//!
//! A message is a slice of what it was read with, so one that its user keeps keeps all of that. The
//! pool knows how much is out; beyond `user_held` a link copies each message to memory of its
//! own size, and what users keep costs what they keep and no more. A link that reads nothing
//! holds no buffer.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// What came is not longer than this, in bytes, and lies beside what counts it: one allocation for
/// a small message instead of two.
const SHORT: usize = 192;

/// Bytes of buffers that are kept for the next read.
const FREE_MAX: usize = 4 * 1024 * 1024;

thread_local! {
    /// The buffer of the last read on this thread that found little: the next takes it without a
    /// lock. One for each thread that moves links, of at most `read_max` bytes.
    static AT_HAND: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Of one transport, shared by its links.
#[derive(Debug)]
pub(crate) struct Pool {
    free: Mutex<Free>,
    /// Bytes of what is lent.
    lent: AtomicUsize,
    user_held: usize,
}

#[derive(Debug, Default)]
struct Free {
    /// By their length.
    buffers: BTreeMap<usize, Vec<Vec<u8>>>,
    bytes: usize,
}

impl Pool {
    pub(crate) fn new(user_held: usize) -> Arc<Self> {
        Arc::new(Self { free: Mutex::default(), lent: AtomicUsize::new(0), user_held })
    }

    /// Bytes that messages hold of it.
    pub(crate) fn lent(&self) -> usize {
        self.lent.load(Ordering::Relaxed)
    }

    /// Whether more is lent than users may hold.
    pub(crate) fn is_short(&self) -> bool {
        self.lent() > self.user_held
    }

    /// A buffer of that length, with anything in it.
    pub(crate) fn take(&self, len: usize) -> Vec<u8> {
        let mut free = self.free();
        let buffer = free.buffers.get_mut(&len).and_then(Vec::pop);
        if buffer.is_some() {
            free.bytes -= len;
        }
        drop(free);
        buffer.unwrap_or_else(|| vec![0; len])
    }

    /// As [`take`](Self::take), preferably the one that this thread [put](Self::put_at_hand) last.
    pub(crate) fn take_at_hand(&self, len: usize) -> Vec<u8> {
        // A thread that is torn down has none at hand.
        let at_hand = AT_HAND.try_with(Cell::take).unwrap_or_default();
        if at_hand.len() == len { at_hand } else { self.swap(at_hand, len) }
    }

    /// The thread's links read more than they did, or less.
    #[cold]
    fn swap(&self, buffer: Vec<u8>, len: usize) -> Vec<u8> {
        if !buffer.is_empty() {
            self.put(buffer);
        }
        self.take(len)
    }

    /// Takes a buffer back that nobody has a part of, for this thread's next read.
    pub(crate) fn put_at_hand(&self, buffer: Vec<u8>) {
        let _ = AT_HAND.try_with(|at_hand| at_hand.set(buffer));
    }

    /// Takes a buffer back.
    pub(crate) fn put(&self, buffer: Vec<u8>) {
        let mut free = self.free();
        if free.bytes + buffer.len() <= FREE_MAX {
            free.bytes += buffer.len();
            free.buffers.entry(buffer.len()).or_default().push(buffer);
        }
    }

    /// The first `len` bytes of a buffer that was taken, to be cut into messages.
    pub(crate) fn lend(self: &Arc<Self>, buffer: Vec<u8>, len: usize) -> Bytes {
        let whole = len >= buffer.len() / 4;
        if len <= SHORT && !whole {
            let mut bytes = [0; SHORT];
            bytes[..len].copy_from_slice(&buffer[..len]);
            self.put_at_hand(buffer);
            self.lent.fetch_add(SHORT, Ordering::Relaxed);
            let mut bytes = Bytes::from_owner(Short { bytes, pool: self.clone() });
            bytes.truncate(len);
            return bytes;
        }
        let (buffer, spare) = match whole {
            true => (buffer, None),
            false => (buffer[..len].to_vec(), Some(buffer)),
        };
        if let Some(spare) = spare {
            self.put_at_hand(spare);
        }
        self.lent.fetch_add(buffer.len(), Ordering::Relaxed);
        let mut bytes = Bytes::from_owner(Lent { buffer, pool: self.clone(), whole });
        bytes.truncate(len);
        bytes
    }

    fn free(&self) -> std::sync::MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What messages are slices of.
struct Lent {
    buffer: Vec<u8>,
    pool: Arc<Pool>,
    /// A buffer of the pool, not a copy.
    whole: bool,
}

/// As [`Lent`], of a copy that is [`SHORT`].
struct Short {
    bytes: [u8; SHORT],
    pool: Arc<Pool>,
}

impl AsRef<[u8]> for Short {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Short {
    fn drop(&mut self) {
        self.pool.lent.fetch_sub(SHORT, Ordering::Relaxed);
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.pool.lent.fetch_sub(self.buffer.len(), Ordering::Relaxed);
        if self.whole {
            self.pool.put(std::mem::take(&mut self.buffer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 64 * 1024;

    #[test]
    fn s7_what_is_lent_is_counted_until_the_last_slice_is_gone() {
        let pool = Pool::new(SIZE);
        let mut much = pool.lend(pool.take(SIZE), SIZE / 2);
        assert_eq!((much.len(), pool.lent(), pool.is_short()), (SIZE / 2, SIZE, false));
        let little = pool.lend(pool.take(SIZE), 1_000);
        assert_eq!((little.len(), pool.lent(), pool.is_short()), (1_000, SIZE + 1_000, true));
        let least = pool.lend([7; SIZE].to_vec(), 100);
        assert_eq!(least, [7; 100][..]);
        assert_eq!(pool.lent(), SIZE + 1_000 + SHORT, "as much as it takes");
        let slice = much.split_to(3);
        drop(much);
        assert_eq!(pool.lent(), SIZE + 1_000 + SHORT, "a slice keeps all of it");
        drop((slice, little, least));
        assert_eq!((pool.lent(), pool.is_short()), (0, false));
    }

    #[test]
    fn f8_buffers_come_back_and_the_spare_ones_are_bounded() {
        let pool = Pool::new(SIZE);
        let address = {
            let lent = pool.lend(pool.take(SIZE), SIZE);
            lent.as_ptr()
        };
        let again = pool.take(SIZE);
        assert_eq!(again.as_ptr(), address, "the same memory again");
        drop(again);
        let many: Vec<_> = (0..100).map(|_| pool.lend(pool.take(SIZE), SIZE)).collect();
        drop(many);
        assert_eq!(pool.free().bytes, FREE_MAX);
        assert_eq!(pool.lent(), 0);
    }

    #[test]
    fn s7_a_thread_keeps_one_buffer_at_hand_and_gives_it_back_for_another() {
        let pool = Pool::new(SIZE);
        let first = pool.take_at_hand(SIZE);
        let address = first.as_ptr();
        // Little came: what is lent is a copy, and the buffer is at hand at once.
        let little = pool.lend(first, 10);
        assert_eq!((little.len(), pool.lent(), pool.free().bytes), (10, SHORT, 0));
        let again = pool.take_at_hand(SIZE);
        assert_eq!(again.as_ptr(), address, "the same memory, without the pool");
        pool.put_at_hand(again);
        let larger = pool.take_at_hand(2 * SIZE);
        assert_eq!((larger.len(), pool.free().bytes), (2 * SIZE, SIZE), "the other is the pool's");
    }
}
