//! The header that opens every frame: its fields, its bytes and its checksum.

use crate::class::Lane;
use crate::frame::FrameKind;

use super::error::CodecError;

/// Bytes of a header.
pub const HEADER_LEN: usize = 48;
/// Where the checksum of the header is, and the length that it covers.
const CRC_AT: usize = 44;
/// Opens a Hello or an Answer at byte 16 of its header.
pub const MAGIC: [u8; 6] = *b"STELLA";
/// The version of the wire format, right after [`MAGIC`].
pub const WIRE_VERSION: u16 = 1;

/// Byte offset of the magic, which is the place of `seq` in the other kinds.
const MAGIC_AT: usize = 16;

/// Bits of the flags byte.
pub(super) mod flag {
    /// A Lost answers a resume.
    pub(in crate::codec) const RESUME: u8 = 0x01;
    /// A hello that insists.
    pub(in crate::codec) const INSIST: u8 = 0x02;
    /// A heartbeat that asks for an answer.
    pub(in crate::codec) const ASK: u8 = 0x04;
    /// A request with a time to live.
    pub(in crate::codec) const TTL: u8 = 0x08;
    /// Where the number of the call begins.
    pub(in crate::codec) const CALL_SHIFT: u8 = 4;
    /// Mask of the number of the call, after the shift.
    pub(in crate::codec) const CALL_MASK: u8 = 0x07;
}

/// The fields, as in the table of [`codec`](super).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: FrameKind,
    pub(super) flags: u8,
    pub(super) lane: u8,
    pub(super) code: u8,
    pub(super) front_len: u32,
    pub(super) data_len: u32,
    pub(super) body_crc: u32,
    pub(super) seq: u64,
    pub(super) id: u64,
    pub(super) message_type: u32,
    pub(super) version: u16,
    pub(super) compat: u16,
    pub(super) aux: u32,
}

/// The `seq` of a Hello or Answer: magic and version.
pub(super) const fn greeting() -> u64 {
    let [a, b, c, d, e, f] = MAGIC;
    let [low, high] = WIRE_VERSION.to_le_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, low, high])
}

impl Header {
    /// A header of `kind` with zeroes.
    pub(super) const fn new(kind: FrameKind) -> Self {
        Self {
            kind,
            flags: 0,
            lane: 0,
            code: 0,
            front_len: 0,
            data_len: 0,
            body_crc: 0,
            seq: 0,
            id: 0,
            message_type: 0,
            version: 0,
            compat: 0,
            aux: 0,
        }
    }

    /// Bytes of the frame that follow the header.
    pub(super) const fn body_len(&self) -> usize {
        match self.kind {
            FrameKind::Announce => self.front_len as usize,
            _ => self.front_len as usize + self.data_len as usize,
        }
    }

    /// The lane.
    pub(super) fn lane(&self) -> Result<Lane, CodecError> {
        Lane::from_index(self.lane).ok_or(self.bad("lane"))
    }

    /// The error that names `field` of this frame.
    pub(super) const fn bad(&self, field: &'static str) -> CodecError {
        CodecError::BadField {
            frame: self.kind,
            field,
        }
    }

    /// Its bytes, with their checksum.
    #[inline]
    pub(super) fn to_bytes(self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0] = self.kind as u8;
        bytes[1] = self.flags;
        bytes[2] = self.lane;
        bytes[3] = self.code;
        bytes[4..8].copy_from_slice(&self.front_len.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.data_len.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.body_crc.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.seq.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.id.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.message_type.to_le_bytes());
        bytes[36..38].copy_from_slice(&self.version.to_le_bytes());
        bytes[38..40].copy_from_slice(&self.compat.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.aux.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..CRC_AT]);
        bytes[44..48].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header and checks its checksum and its kind.
    #[inline]
    pub(super) fn from_bytes(bytes: &[u8; HEADER_LEN]) -> Result<Self, CodecError> {
        if crc32c::crc32c(&bytes[..CRC_AT]) != u32_at(bytes, CRC_AT) {
            return Err(CodecError::HeaderChecksum);
        }
        let kind =
            FrameKind::from_wire(bytes[0]).ok_or(CodecError::UnknownKind { number: bytes[0] })?;
        Ok(Self {
            kind,
            flags: bytes[1],
            lane: bytes[2],
            code: bytes[3],
            front_len: u32_at(bytes, 4),
            data_len: u32_at(bytes, 8),
            body_crc: u32_at(bytes, 12),
            seq: u64_at(bytes, 16),
            id: u64_at(bytes, 24),
            message_type: u32_at(bytes, 32),
            version: u16_at(bytes, 36),
            compat: u16_at(bytes, 38),
            aux: u32_at(bytes, 40),
        })
    }
}

/// Judges the frozen part of a first frame, which no checksum of a stranger covers.
pub(super) fn check_greeting(bytes: &[u8; HEADER_LEN]) -> Result<(), CodecError> {
    if bytes[MAGIC_AT..MAGIC_AT + MAGIC.len()] != MAGIC {
        return Err(CodecError::NotStellate);
    }
    match u16_at(bytes, MAGIC_AT + MAGIC.len()) {
        WIRE_VERSION => Ok(()),
        theirs => Err(CodecError::Version { theirs }),
    }
}

fn array_at<const N: usize>(bytes: &[u8; HEADER_LEN], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

fn u16_at(bytes: &[u8; HEADER_LEN], at: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, at))
}

fn u32_at(bytes: &[u8; HEADER_LEN], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

fn u64_at(bytes: &[u8; HEADER_LEN], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}
