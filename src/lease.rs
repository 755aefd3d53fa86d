//! Memory for the data of a message, from where a transport sends without a copy.

use std::fmt;
use std::ops::{Deref, DerefMut};

use bytes::{Bytes, BytesMut};

/// Memory to fill and send, of [`Messenger::lease`](crate::Messenger::lease).
///
/// ```text
///   lease ─► fill ─► freeze ─► message.with(bytes) ─► sent ─► the last handle is gone ─► free again
/// ```
///
/// It has anything in it: fill what you send.
pub struct Lease {
    memory: Memory,
}

enum Memory {
    /// Of a transport's own pool.
    Registered(stellate_transport::Lease),
    Plain(BytesMut),
}

impl Lease {
    pub(crate) fn new(registered: Option<stellate_transport::Lease>, len: usize) -> Self {
        let memory = match registered {
            Some(lease) => Memory::Registered(lease),
            None => Memory::Plain(BytesMut::zeroed(len)),
        };
        Self { memory }
    }

    /// Whether it lies in a transport's pool: links over that device send it without a copy, if it
    /// is larger than a slot. Else it is memory like any other, which an RDMA link copies once.
    pub fn is_registered(&self) -> bool {
        matches!(self.memory, Memory::Registered(_))
    }

    /// All its bytes as message data.
    pub fn freeze(self) -> Bytes {
        let len = self.len();
        self.freeze_to(len)
    }

    /// Its first `len` bytes, or all if it has fewer, as message data.
    pub fn freeze_to(self, len: usize) -> Bytes {
        match self.memory {
            Memory::Registered(lease) => lease.freeze(len),
            Memory::Plain(mut bytes) => {
                bytes.truncate(len);
                bytes.freeze()
            }
        }
    }
}

impl Deref for Lease {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.memory {
            Memory::Registered(lease) => lease,
            Memory::Plain(bytes) => bytes,
        }
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.memory {
            Memory::Registered(lease) => lease,
            Memory::Plain(bytes) => bytes,
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lease({} bytes, registered: {})", self.len(), self.is_registered())
    }
}
