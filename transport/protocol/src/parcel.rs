//! The payload of production: a typed front and a raw data segment, both by handle.

use bytes::Bytes;

use crate::frame::Payload;

/// A message as its bytes. Cloning copies two handles, never the bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Parcel {
    /// Number of the message type.
    pub kind: u32,
    /// Version of the type that encoded the front.
    pub version: u16,
    /// Oldest version whose reader can understand the front.
    pub compat: u16,
    /// The encoded body.
    pub front: Bytes,
    /// The data segment; empty while it is only announced.
    pub data: Bytes,
    /// Length of the data segment, also while it is only announced.
    pub data_len: u32,
}

impl Payload for Parcel {
    fn front_len(&self) -> u32 {
        self.front.len() as u32
    }

    fn data_len(&self) -> u32 {
        self.data_len
    }

    fn announced(&self) -> Self {
        Self { data: Bytes::new(), ..self.clone() }
    }

    fn attach(&mut self, pulled: Self) {
        self.data = pulled.data;
    }

    fn empty() -> Self {
        Self::default()
    }
}
