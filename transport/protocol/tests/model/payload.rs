//! The smallest payload that still has everything: one byte that names it, and data to pull.

use stellate_protocol::frame::Payload;

/// A message of the model: named by `id`, with `data` bytes that may be still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Word {
    pub(crate) id: u8,
    data: u8,
    here: bool,
}

impl Word {
    pub(crate) fn new(id: u8, data: u8) -> Self {
        Self { id, data, here: true }
    }

    /// Whether all of it arrived.
    pub(crate) fn is_whole(&self) -> bool {
        self.here
    }
}

impl Payload for Word {
    fn front_len(&self) -> u32 {
        u32::from(self.id != 0)
    }

    fn data_len(&self) -> u32 {
        u32::from(self.data)
    }

    fn announced(&self) -> Self {
        Self { here: false, ..*self }
    }

    fn attach(&mut self, pulled: Self) {
        self.here = pulled.here && pulled.id == self.id && pulled.data == self.data;
    }

    fn empty() -> Self {
        Self::new(0, 0)
    }
}
