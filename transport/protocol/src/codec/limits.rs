//! How long things may be, so that no announced length governs memory.

use crate::frame::{FrameKind, Terms};
use crate::limits::Limits;

use super::error::CodecError;
use super::header::Header;

/// Longest front of a Hello or an Answer that this version can send, with room to grow, bytes.
pub const HELLO_MAX: u32 = 32 * 1024;
/// Longest front of an Ack, Close and the other small frames, bytes.
pub const CONTROL_MAX: u32 = 1024;

/// What a decoder accepts. The same numbers are told to the peer in [`Terms`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireLimits {
    /// Longest front of a message, bytes.
    pub front_max: u32,
    /// Longest announced data segment, bytes.
    pub data_max: u32,
    /// Longest data segment that comes with its message, bytes.
    pub slot_bytes: u32,
    /// Longest front of a Hello or Answer, bytes.
    pub hello_max: u32,
}

impl Default for WireLimits {
    /// What [`Limits::default`] promises to take.
    fn default() -> Self {
        Self::from(&Limits::default())
    }
}

impl From<&Limits> for WireLimits {
    /// A link must take what its messenger's session said it takes.
    fn from(limits: &Limits) -> Self {
        Self {
            front_max: limits.front_max,
            data_max: limits.data_max,
            slot_bytes: limits.slot_bytes,
            hello_max: HELLO_MAX,
        }
    }
}

impl WireLimits {
    /// The limits that hold for a peer that was told `terms`.
    pub const fn from_terms(terms: &Terms) -> Self {
        Self {
            front_max: terms.front_max,
            data_max: terms.data_max,
            slot_bytes: terms.slot_bytes,
            hello_max: HELLO_MAX,
        }
    }

    /// Judges the lengths of a header; chunks are judged by what was pulled.
    pub(super) fn check(&self, header: &Header) -> Result<(), CodecError> {
        let (front_what, front_max, data_what, data_max) = match header.kind {
            FrameKind::Message => ("front", self.front_max, "eager data", self.slot_bytes),
            FrameKind::Announce => ("front", self.front_max, "announced data", self.data_max),
            FrameKind::Chunk => ("front of a chunk", 0, "chunk", self.data_max),
            FrameKind::Hello
            | FrameKind::HelloAnswer
            | FrameKind::Resume
            | FrameKind::ResumeAnswer
            | FrameKind::Lost => ("hello", self.hello_max, "data of a hello", 0),
            FrameKind::Pull
            | FrameKind::Ack
            | FrameKind::Grant
            | FrameKind::Heartbeat
            | FrameKind::Admitted
            | FrameKind::Close => ("record", CONTROL_MAX, "data of a record", 0),
        };
        within(front_what, header.front_len, front_max)?;
        within(data_what, header.data_len, data_max)
    }
}

/// `len <= max`, or the error that says so.
pub(super) fn within(what: &'static str, len: u32, max: u32) -> Result<(), CodecError> {
    if len <= max {
        return Ok(());
    }
    Err(CodecError::TooLong { what, len: len.into(), max: max.into() })
}
