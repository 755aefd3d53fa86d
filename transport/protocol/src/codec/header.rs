//! The header that opens every frame: its fields, its bytes and its checksum.

use crate::class::Lane;
use crate::frame::FrameKind;

use super::crc;
use super::error::CodecError;

/// Bytes of a header.
pub const HEADER_LEN: usize = 48;
/// Opens a Hello or an Answer at byte 16 of its header.
pub const MAGIC: [u8; 6] = *b"STELLA";
/// The version of the wire format, right after [`MAGIC`].
pub const WIRE_VERSION: u16 = 1;

/// Byte offset of the magic, which is the place of `seq` in the other kinds.
const MAGIC_AT: usize = 16;
/// Byte offset of the version.
const VERSION_AT: usize = MAGIC_AT + MAGIC.len();

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
        CodecError::BadField { frame: self.kind, field }
    }

    /// Its bytes, with their checksum.
    ///
    /// Put together as words: narrow stores right before the wide loads of the checksum would
    /// stall it longer than it takes.
    #[inline]
    pub(super) fn to_bytes(self) -> [u8; HEADER_LEN] {
        let mut words = [
            u64::from(self.kind as u8)
                | u64::from(self.flags) << 8
                | u64::from(self.lane) << 16
                | u64::from(self.code) << 24
                | u64::from(self.front_len) << 32,
            u64::from(self.data_len) | u64::from(self.body_crc) << 32,
            self.seq,
            self.id,
            u64::from(self.message_type)
                | u64::from(self.version) << 32
                | u64::from(self.compat) << 48,
            u64::from(self.aux),
        ];
        words[5] |= u64::from(crc::crc(&Aligned::new(&words).0)) << 32;
        Aligned::new(&words).0
    }

    /// Reads a header and checks its checksum and its kind.
    #[inline]
    pub(super) fn from_bytes(bytes: &[u8; HEADER_LEN]) -> Result<Self, CodecError> {
        let mut words = [0; HEADER_LEN / 8];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        let crc = (words[5] >> 32) as u32;
        words[5] &= u64::from(u32::MAX);
        if crc::crc(&Aligned::new(&words).0) != crc {
            return Err(CodecError::HeaderChecksum);
        }
        let kind =
            FrameKind::from_wire(bytes[0]).ok_or(CodecError::UnknownKind { number: bytes[0] })?;
        let [first, lengths, seq, id, types, last] = words;
        Ok(Self {
            kind,
            flags: (first >> 8) as u8,
            lane: (first >> 16) as u8,
            code: (first >> 24) as u8,
            front_len: (first >> 32) as u32,
            data_len: lengths as u32,
            body_crc: (lengths >> 32) as u32,
            seq,
            id,
            message_type: types as u32,
            version: (types >> 32) as u16,
            compat: (types >> 48) as u16,
            aux: last as u32,
        })
    }
}

/// The bytes of a header where the checksum takes whole words.
#[repr(align(8))]
struct Aligned([u8; HEADER_LEN]);

impl Aligned {
    #[inline]
    fn new(words: &[u64; HEADER_LEN / 8]) -> Self {
        let mut bytes = [0; HEADER_LEN];
        for (bytes, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
            *bytes = word.to_le_bytes();
        }
        Self(bytes)
    }
}

/// Judges the frozen part of a first frame, which no checksum of a stranger covers.
pub(super) fn check_greeting(bytes: &[u8; HEADER_LEN]) -> Result<(), CodecError> {
    if bytes[MAGIC_AT..VERSION_AT] != MAGIC {
        return Err(CodecError::NotStellate);
    }
    match u16::from_le_bytes([bytes[VERSION_AT], bytes[VERSION_AT + 1]]) {
        WIRE_VERSION => Ok(()),
        theirs => Err(CodecError::Version { theirs }),
    }
}
