//! Cuts a link after so many bytes, wherever in a frame that is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const DISARMED: u64 = u64::MAX;

/// Counts down the bytes that links with this handle write; at zero the link that wrote the last
/// of them is reset, and the counter is disarmed. Cloning copies a handle.
#[derive(Clone, Debug)]
pub struct ByteCut {
    left: Arc<AtomicU64>,
}

impl ByteCut {
    /// Cuts after `bytes` more bytes.
    pub fn after(bytes: u64) -> Self {
        Self { left: Arc::new(AtomicU64::new(bytes)) }
    }

    /// Cuts nothing until it is armed.
    pub fn disarmed() -> Self {
        Self::after(DISARMED)
    }

    /// Arms it, again or anew.
    pub fn arm(&self, bytes: u64) {
        self.left.store(bytes, Ordering::Relaxed);
    }

    /// Whether it has still to cut.
    pub fn is_armed(&self) -> bool {
        self.left.load(Ordering::Relaxed) != DISARMED
    }

    /// How many of `len` bytes may be written.
    pub(super) fn allowed(&self, len: usize) -> usize {
        let left = self.left.load(Ordering::Relaxed);
        len.min(usize::try_from(left).unwrap_or(usize::MAX))
    }

    /// Notes that `n` bytes were written; whether this was the last of them.
    pub(super) fn wrote(&self, n: usize) -> bool {
        let left = self.left.load(Ordering::Relaxed);
        if left == DISARMED {
            return false;
        }
        let rest = left.saturating_sub(n as u64);
        self.arm(if rest == 0 { DISARMED } else { rest });
        rest == 0
    }
}
