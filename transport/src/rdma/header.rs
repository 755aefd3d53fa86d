//! What every message of a link begins with, and the two that carry no frames. Pure.
//!
//! ```text
//!   8 bytes:  kind u8 · 0 · credits u16 · released u16 · 0 u16        then, by kind:
//!     Frames    whole encoded frames, or a piece of one that is longer than a slot
//!     Offer     lane u8 · 0 ×3 · seq u64 · offset u32 · len u32 · crc u32 · addr u64 · rkey u32
//!     Return    nothing: it returns credits, or says that offers were read
//!     Farewell  nothing: no more frames will come
//! ```
//!
//! Little endian. An offer stands for a chunk of pulled data: the receiver READs it into place and
//! says `released`, in order, with any later message. Its crc32c is that of the bytes.

use bytes::{Buf, BufMut};
use stellate_protocol::{Lane, Seq};

use super::verbs::Remote;

/// Bytes of the common header.
pub(super) const HEADER: usize = 8;
/// Bytes of an offer with its header.
pub(super) const OFFER: usize = HEADER + 36;

/// What a message carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Frames = 1,
    Offer = 2,
    Return = 3,
    Farewell = 4,
}

/// The common header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    /// Receives posted again.
    pub(super) credits: u16,
    /// Offers that were read, oldest first.
    pub(super) released: u16,
}

/// A chunk to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) lane: Lane,
    pub(super) seq: Seq,
    pub(super) offset: u32,
    pub(super) len: u32,
    pub(super) crc: u32,
    pub(super) remote: Remote,
}

/// Bytes that are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoMessage;

impl Header {
    pub(super) fn write(self, mut out: &mut [u8]) {
        out.put_slice(&[self.kind as u8, 0]);
        out.put_u16_le(self.credits);
        out.put_u16_le(self.released);
        out.put_u16_le(0);
    }

    pub(super) fn read(bytes: &[u8]) -> Result<Self, NoMessage> {
        let mut bytes = bytes.get(..HEADER).ok_or(NoMessage)?;
        let kind = match bytes.get_u16_le() {
            1 => Kind::Frames,
            2 => Kind::Offer,
            3 => Kind::Return,
            4 => Kind::Farewell,
            _ => return Err(NoMessage),
        };
        Ok(Self { kind, credits: bytes.get_u16_le(), released: bytes.get_u16_le() })
    }
}

impl Offer {
    /// Behind the header, which is written apart.
    pub(super) fn write(&self, mut out: &mut [u8]) {
        out.put_slice(&[self.lane.index() as u8, 0, 0, 0]);
        out.put_u64_le(self.seq.0);
        out.put_u32_le(self.offset);
        out.put_u32_le(self.len);
        out.put_u32_le(self.crc);
        out.put_u64_le(self.remote.addr);
        out.put_u32_le(self.remote.rkey);
    }

    pub(super) fn read(bytes: &[u8]) -> Result<Self, NoMessage> {
        let mut bytes = bytes.get(HEADER..OFFER).ok_or(NoMessage)?;
        let lane = Lane::from_index(bytes.get_u8()).ok_or(NoMessage)?;
        bytes.advance(3);
        Ok(Self {
            lane,
            seq: Seq(bytes.get_u64_le()),
            offset: bytes.get_u32_le(),
            len: bytes.get_u32_le(),
            crc: bytes.get_u32_le(),
            remote: Remote { addr: bytes.get_u64_le(), rkey: bytes.get_u32_le() },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_back_and_what_is_none_is_refused() {
        let header = Header { kind: Kind::Offer, credits: 7, released: 513 };
        let offer = Offer {
            lane: Lane::from_index(5).unwrap(),
            seq: Seq(u64::MAX - 3),
            offset: 1,
            len: 2,
            crc: 3,
            remote: Remote { addr: u64::MAX, rkey: 9 },
        };
        let mut bytes = [0; OFFER];
        header.write(&mut bytes);
        offer.write(&mut bytes[HEADER..]);
        assert_eq!((Header::read(&bytes), Offer::read(&bytes)), (Ok(header), Ok(offer)));
        for cut in 0..OFFER {
            assert_eq!(Offer::read(&bytes[..cut]), Err(NoMessage));
        }
        assert_eq!(Header::read(&bytes[..HEADER - 1]), Err(NoMessage));
        bytes[HEADER] = 200;
        assert_eq!(Offer::read(&bytes), Err(NoMessage));
        bytes[0] = 9;
        assert_eq!(Header::read(&bytes), Err(NoMessage));
    }
}
