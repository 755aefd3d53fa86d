//! Registered memory as handles that cannot overlap.
//!
//! ```text
//!   Arena::allocate ─┬─► Arena    kept by the device while it is registered
//!                    └─► BytesMut cut into Bufs by the pool
//!   Buf (one owner, writable) ── freeze ──► Bytes (shared, read only) ── last one gone ──► pool
//!                             ── post ────► the NIC's, until its completion
//! ```
//!
//! A [`Buf`] is the only handle of its bytes. Posting it gives it away, so nobody here touches what
//! the NIC writes. All of this is safe code on top of [`bytes`]: the memory stays allocated as long
//! as any handle does, also after the device is gone.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

/// Names a region of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegionId(pub u64);

/// Bytes at the start of an arena that nobody uses: they keep its memory allocated, and keep what
/// follows on a cache line of its own.
const ANCHOR: usize = 64;

/// Memory to be registered, in one piece.
#[derive(Debug)]
pub struct Arena {
    anchor: BytesMut,
    len: usize,
}

impl Arena {
    /// Allocates `len` zeroed bytes, and a little: what keeps them, and they themselves.
    pub fn allocate(len: usize) -> (Self, BytesMut) {
        let mut memory = BytesMut::zeroed(ANCHOR + len);
        let anchor = memory.split_to(ANCHOR);
        (Self { anchor, len }, memory)
    }

    /// Where it begins, for `ibv_reg_mr`.
    pub fn addr(&self) -> u64 {
        self.anchor.as_ptr().addr() as u64
    }

    /// How long it is, for `ibv_reg_mr`: with what keeps it.
    pub fn len(&self) -> usize {
        ANCHOR + self.len
    }

    /// Never: it has what keeps it.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The same as a pointer that may be written through, for `ibv_reg_mr`.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.anchor.as_mut_ptr()
    }

    /// Whether `len` bytes at `addr` are within it.
    pub fn contains(&self, addr: u64, len: usize) -> bool {
        let begin = self.addr() + ANCHOR as u64;
        let end = begin + self.len as u64;
        addr >= begin && addr.checked_add(len as u64).is_some_and(|last| last <= end)
    }
}

/// Takes the memory of a [`Buf`] back when the last handle is gone.
pub trait Home: Send + Sync + fmt::Debug {
    /// Takes it.
    fn take_back(&self, memory: BytesMut);
}

/// A piece of registered memory that one owner has.
pub struct Buf {
    memory: BytesMut,
    region: RegionId,
    home: Option<Arc<dyn Home>>,
}

impl Buf {
    /// `memory` lies in `region`; it goes to `home` when it is dropped, if there is one.
    pub(crate) fn new(memory: BytesMut, region: RegionId, home: Option<Arc<dyn Home>>) -> Self {
        Self { memory, region, home }
    }

    /// A buffer of somebody's own registration, which has no pool to come home to.
    pub fn lone(memory: BytesMut, region: RegionId) -> Self {
        Self::new(memory, region, None)
    }

    /// The region it lies in.
    pub fn region(&self) -> RegionId {
        self.region
    }

    /// Where it lies.
    pub fn addr(&self) -> u64 {
        self.memory.as_ptr().addr() as u64
    }

    /// For the NIC alone: to be written only while nobody has the buffer but the implementation.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.memory.as_mut_ptr()
    }

    /// Splits off its first `len` bytes, or all if it has fewer. Both come home apart, unless they
    /// are [joined](Self::join) again.
    pub(crate) fn split_to(&mut self, len: usize) -> Self {
        let len = len.min(self.memory.len());
        let memory = self.memory.split_to(len);
        Self { memory, region: self.region, home: self.home.clone() }
    }

    /// Joins it with what lies right behind it; gives that back if it does not.
    pub(crate) fn join(&mut self, mut next: Self) -> Result<(), Self> {
        if self.addr() + self.memory.len() as u64 != next.addr() {
            return Err(next);
        }
        self.memory.unsplit(std::mem::take(&mut next.memory));
        next.home = None;
        Ok(())
    }

    /// The first `len` bytes, to be shared; the whole comes home when the last handle is gone.
    pub fn freeze(self, len: usize) -> Bytes {
        let mut bytes = Bytes::from_owner(Frozen(self));
        bytes.truncate(len);
        bytes
    }
}

impl Deref for Buf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory
    }
}

impl DerefMut for Buf {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory
    }
}

impl Drop for Buf {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            home.take_back(std::mem::take(&mut self.memory));
        }
    }
}

impl fmt::Debug for Buf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buf({} bytes in region {})", self.memory.len(), self.region.0)
    }
}

struct Frozen(Buf);

impl AsRef<[u8]> for Frozen {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Shared bytes that lie in a region: sent or exported where they lie.
#[derive(Clone, Debug)]
pub struct Piece {
    /// The bytes.
    pub bytes: Bytes,
    /// The region.
    pub region: RegionId,
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Debug, Default)]
    struct Count(Mutex<usize>);

    impl Home for Count {
        fn take_back(&self, memory: BytesMut) {
            *self.0.lock().unwrap() += memory.len();
        }
    }

    #[test]
    fn parts_that_are_joined_are_the_whole_again() {
        let (arena, memory) = Arena::allocate(100);
        let home = Arc::new(Count::default());
        let mut rest = Buf::new(memory, RegionId(1), Some(home.clone()));
        let begin = rest.addr();
        let mut whole = rest.split_to(30);
        let second = rest.split_to(30);
        let rest = whole.join(rest).expect_err("not right behind");
        whole.join(second).expect("right behind");
        whole.join(rest).expect("right behind");
        assert_eq!((whole.len(), whole.addr()), (100, begin));
        drop(arena);
        drop(whole);
        assert_eq!(*home.0.lock().unwrap(), 100);
    }

    #[test]
    fn f8_memory_comes_home_with_its_last_handle() {
        let (arena, memory) = Arena::allocate(4096);
        let addr = memory.as_ptr().addr() as u64;
        assert!(arena.contains(addr, 4096) && !arena.contains(addr, 4097));
        assert!(!arena.contains(arena.addr(), 1), "what keeps it is nobody's");
        let home = Arc::new(Count::default());
        let mut buf = Buf::new(memory, RegionId(1), Some(home.clone()));
        buf[..2].copy_from_slice(b"ab");
        let bytes = buf.freeze(2);
        assert_eq!((&bytes[..], bytes.as_ptr().addr() as u64), (&b"ab"[..], addr));
        let slice = bytes.slice(1..);
        drop(bytes);
        assert_eq!(*home.0.lock().unwrap(), 0);
        drop((slice, arena));
        assert_eq!(*home.0.lock().unwrap(), 4096);
    }
}
