//! Pulled data on its way in: one final buffer per pull, filled piece by piece.
//!
//! A buffer is allocated by our own decision to pull, never by what a peer announces, and the
//! pieces have to follow each other without a gap.

use bytes::BytesMut;

use crate::class::Lane;
use crate::frame::{Chunk, FrameKind};
use crate::id::Seq;
use crate::parcel::Parcel;

use super::crc;
use super::decode::Input;
use super::error::{ChunkFault, CodecError};
use super::header::Header;

/// All pulls whose data is not complete.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    expected: Vec<Expected>,
}

#[derive(Debug)]
struct Expected {
    lane: Lane,
    seq: Seq,
    len: u32,
    buffer: BytesMut,
}

/// A chunk of which some bytes are still to come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    header: Header,
    /// Its pull. Stable: pulls are only added while a piece is under way.
    index: usize,
    /// Bytes of the piece that the checksum covers already.
    checked: usize,
    crc: u32,
}

impl Piece {
    fn start(&self) -> usize {
        self.header.aux as usize
    }

    fn end(&self) -> usize {
        self.start() + self.header.data_len as usize
    }
}

impl Assembler {
    /// Makes room for the data of one message.
    pub(super) fn expect(&mut self, lane: Lane, seq: Seq, len: u32) -> Result<(), CodecError> {
        if self.find(lane, seq).is_some() {
            return Err(CodecError::AlreadyExpected { lane, seq });
        }
        self.expected.push(Expected {
            lane,
            seq,
            len,
            buffer: BytesMut::with_capacity(len as usize),
        });
        Ok(())
    }

    /// Drops all buffers.
    pub(super) fn clear(&mut self) {
        self.expected.clear();
    }

    /// Bytes of all final buffers.
    pub(super) fn reserved(&self) -> u64 {
        self.expected.iter().map(|pull| u64::from(pull.len)).sum()
    }

    fn find(&self, lane: Lane, seq: Seq) -> Option<usize> {
        self.expected.iter().position(|pull| pull.lane == lane && pull.seq == seq)
    }

    /// Finds the place of a chunk from its header alone.
    pub(super) fn begin(&self, header: Header) -> Result<Piece, CodecError> {
        let (lane, seq) = (header.lane()?, Seq(header.seq));
        let unexpected = |fault| CodecError::UnexpectedChunk { lane, seq, fault };
        let index = self.find(lane, seq).ok_or_else(|| unexpected(ChunkFault::NotPulled))?;
        let pull = &self.expected[index];
        if header.data_len == 0 {
            return Err(unexpected(ChunkFault::Empty));
        }
        if header.aux as usize != pull.buffer.len() {
            return Err(unexpected(ChunkFault::Offset {
                at: header.aux,
                want: pull.buffer.len() as u32,
            }));
        }
        let end = u64::from(header.aux) + u64::from(header.data_len);
        if end > u64::from(pull.len) {
            return Err(unexpected(ChunkFault::Beyond { end, len: pull.len }));
        }
        Ok(Piece { header, index, checked: 0, crc: 0 })
    }

    /// The final buffer of a piece, and how much of the piece is missing there.
    pub(super) fn missing(&mut self, piece: &Piece) -> (&mut BytesMut, usize) {
        let buffer = &mut self.expected[piece.index].buffer;
        let missing = piece.end().saturating_sub(buffer.len());
        (buffer, missing)
    }

    /// Takes in what was read directly and what is in `input`; the chunk if it is complete.
    pub(super) fn fill(
        &mut self,
        piece: &mut Piece,
        input: &mut impl Input,
    ) -> Result<Option<Chunk<Parcel>>, CodecError> {
        let (buffer, missing) = self.missing(piece);
        let copy = missing.min(input.len());
        buffer.extend_from_slice(&input[..copy]);
        input.advance(copy);
        let fresh = &buffer[piece.start() + piece.checked..];
        piece.crc = crc::append(piece.crc, fresh);
        piece.checked += fresh.len();
        if buffer.len() < piece.end() {
            return Ok(None);
        }
        if piece.crc != piece.header.body_crc {
            return Err(CodecError::BodyChecksum { frame: FrameKind::Chunk });
        }
        Ok(Some(self.complete(piece)))
    }

    fn complete(&mut self, piece: &Piece) -> Chunk<Parcel> {
        let pull = &self.expected[piece.index];
        let (lane, seq) = (pull.lane, pull.seq);
        let whole = piece.end() == pull.len as usize;
        let part = whole.then(|| {
            let pull = self.expected.swap_remove(piece.index);
            Parcel::of_data(pull.buffer.freeze())
        });
        Chunk { lane, seq, offset: piece.header.aux, len: piece.header.data_len, part }
    }
}
