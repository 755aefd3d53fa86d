//! The running hash over everything that the network delivered (D1).

/// FNV-1a over words: cheap, and order counts.
#[derive(Clone, Debug)]
pub(super) struct Trace {
    hash: u64,
    events: u64,
}

impl Trace {
    pub(super) fn new() -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, events: 0 }
    }

    /// Appends one event.
    pub(super) fn add(&mut self, words: &[u64]) {
        self.events += 1;
        for word in words {
            for byte in word.to_le_bytes() {
                self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn events(&self) -> u64 {
        self.events
    }
}
