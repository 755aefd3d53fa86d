//! Bytes on their way out, gathered so that one vectored write takes all that is queued.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

/// Longest piece that is copied to its neighbours, bytes; a longer one is kept as a handle.
///
/// Below a page the copy costs less than one more entry in the vector of a system call.
pub const COPY_MAX: usize = 4096;

/// Largest copy buffer that is kept when everything is written, bytes.
const KEEP_MAX: usize = 1024 * 1024;

/// Encoded frames that wait for the transport.
///
/// Small pieces lie one after the other in one buffer, which is used again when it was written
/// out; long ones are handles between them. It has no limit of its own: the transport stops
/// encoding when [`len`](Self::len) is enough for one write.
#[derive(Debug)]
pub struct Outbound {
    copied: BytesMut,
    pieces: VecDeque<Piece>,
    len: usize,
    /// Longest piece that is copied.
    copy_max: usize,
}

#[derive(Debug)]
enum Piece {
    /// So many bytes of `copied`, in order.
    Copied(usize),
    Shared(Bytes),
}

impl Default for Outbound {
    fn default() -> Self {
        Self::copying(COPY_MAX)
    }
}

impl Outbound {
    /// An empty one, without memory.
    pub fn new() -> Self {
        Self::default()
    }

    /// One that copies pieces of so many bytes at most, for who does not write with system calls.
    pub fn copying(copy_max: usize) -> Self {
        Self { copied: BytesMut::new(), pieces: VecDeque::new(), len: 0, copy_max }
    }

    /// Gives memory of more than `bytes` back, if all is written.
    pub fn shrink_to(&mut self, bytes: usize) {
        if self.is_empty() && self.copied.try_reclaim(bytes + 1) {
            self.copied = BytesMut::new();
        }
    }

    /// Makes room for so many more bytes of copies.
    pub fn reserve(&mut self, bytes: usize) {
        self.copied.reserve(bytes);
    }

    /// Appends what waits in `other`, without copying it.
    pub fn append(&mut self, mut other: Self) {
        if self.is_empty() {
            *self = other;
            return;
        }
        self.len += other.len;
        for piece in other.pieces {
            self.pieces.push_back(match piece {
                Piece::Copied(len) => Piece::Shared(other.copied.split_to(len).freeze()),
                shared => shared,
            });
        }
    }

    /// Bytes that are not written yet.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether all is written.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of it that are copies: what a buffer is needed for.
    pub fn copied(&self) -> usize {
        self.copied.len()
    }

    /// How many slices a write of everything takes.
    pub fn segments(&self) -> usize {
        self.pieces.len()
    }

    /// All that is to be written, if it is one piece.
    #[inline]
    pub fn as_one(&self) -> Option<&[u8]> {
        if self.pieces.len() > 1 { None } else { Some(self.chunk()) }
    }

    /// Fills `slices` from the front with what is to be written and says how many it filled.
    pub fn io_slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut copied = &self.copied[..];
        let mut filled = 0;
        for (slot, piece) in slices.iter_mut().zip(&self.pieces) {
            *slot = match piece {
                Piece::Copied(len) => {
                    let (now, later) = copied.split_at(*len);
                    copied = later;
                    IoSlice::new(now)
                }
                Piece::Shared(bytes) => IoSlice::new(bytes),
            };
            filled += 1;
        }
        filled
    }

    /// Takes the first `n` bytes away, because they were written.
    ///
    /// More than [`len`](Self::len) takes all.
    pub fn advance(&mut self, n: usize) {
        let mut n = n.min(self.len);
        self.len -= n;
        while n > 0 {
            let Some(piece) = self.pieces.front_mut() else {
                break;
            };
            let step = match piece {
                Piece::Copied(len) => {
                    let step = n.min(*len);
                    self.copied.advance(step);
                    *len -= step;
                    if *len == 0 {
                        self.pieces.pop_front();
                    }
                    step
                }
                Piece::Shared(bytes) => {
                    let step = n.min(bytes.len());
                    bytes.advance(step);
                    if bytes.is_empty() {
                        self.pieces.pop_front();
                    }
                    step
                }
            };
            n -= step;
        }
        if self.len == 0 && self.copied.capacity() > KEEP_MAX {
            self.copied = BytesMut::new();
        }
    }

    /// Takes the last piece out, if it is a handle and not a copy.
    pub fn take_last_handle(&mut self) -> Option<Bytes> {
        match self.pieces.pop_back()? {
            Piece::Shared(bytes) => {
                self.len -= bytes.len();
                Some(bytes)
            }
            copied @ Piece::Copied(_) => {
                self.pieces.push_back(copied);
                None
            }
        }
    }

    /// Forgets everything, as after the loss of the link.
    pub fn clear(&mut self) {
        self.advance(self.len);
    }

    /// Appends a copy.
    #[inline]
    pub(super) fn put_slice(&mut self, bytes: &[u8]) {
        self.copied.extend_from_slice(bytes);
        self.grew(bytes.len());
    }

    /// Appends a copy or, when long, the handle.
    #[inline]
    pub(super) fn put_bytes(&mut self, bytes: &Bytes) {
        if bytes.len() <= self.copy_max {
            if !bytes.is_empty() {
                self.put_slice(bytes);
            }
        } else {
            self.len += bytes.len();
            self.pieces.push_back(Piece::Shared(bytes.clone()));
        }
    }

    /// Lets `write` append to the copies.
    pub(super) fn put_with(&mut self, write: impl FnOnce(&mut BytesMut)) {
        let before = self.copied.len();
        write(&mut self.copied);
        self.grew(self.copied.len() - before);
    }

    #[inline]
    fn grew(&mut self, by: usize) {
        if by == 0 {
            return;
        }
        self.len += by;
        match self.pieces.back_mut() {
            Some(Piece::Copied(len)) => *len += by,
            _ => self.pieces.push_back(Piece::Copied(by)),
        }
    }
}

impl Buf for Outbound {
    fn remaining(&self) -> usize {
        self.len
    }

    fn chunk(&self) -> &[u8] {
        match self.pieces.front() {
            Some(Piece::Copied(len)) => &self.copied[..*len],
            Some(Piece::Shared(bytes)) => bytes,
            None => &[],
        }
    }

    fn advance(&mut self, n: usize) {
        Self::advance(self, n);
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.io_slices(slices)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(bytes: usize) -> Outbound {
        let mut out = Outbound::new();
        out.put_slice(&vec![7; bytes]);
        out.advance(bytes);
        out
    }

    #[test]
    fn the_memory_of_what_was_written_is_used_again_up_to_a_bound() {
        let mut short = written(1000);
        short.shrink_to(1000);
        short.reserve(1000);
        let place = short.copied.as_ptr();
        short.put_slice(&[8; 1000]);
        assert_eq!(short.copied.as_ptr(), place, "what was reserved is enough");

        let mut kept = written(1000);
        kept.shrink_to(1024);
        assert!(kept.copied.try_reclaim(1000), "it fits");
        let mut long = written(2000);
        long.shrink_to(1024);
        assert!(!long.copied.try_reclaim(1), "given back");

        let mut waits = Outbound::new();
        waits.put_slice(&[7; 4000]);
        waits.advance(3000);
        waits.shrink_to(1024);
        assert_eq!((waits.len(), waits.copied.len()), (1000, 1000), "what waits stays");
    }
}
