//! What two sides tell each other in the private data of a connection: 56 bytes at most. Pure.
//!
//! ```text
//!   hello, answer: "stl\1" · len u8 · version u8 · reads u8 · 0 · ring u32 · slot u32
//!   refusal:       "stl\2" · len u8 · version u8 · reason u8 · 0 · needed u64 · available u64
//! ```
//!
//! Little endian. What arrives may be longer than what was sent, so it says its own length. A hello
//! or answer of another version is none; a refusal is read whatever version refuses, and what a later
//! one appends to it is not: else nobody would learn that the versions differ.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::credit::RING_MIN;

/// Of this page.
const VERSION: u8 = 1;
/// Shortest and longest slot that makes sense.
const SLOT: std::ops::RangeInclusive<u32> = 512..=1024 * 1024;
/// Longest ring that makes sense.
const RING_MAX: u32 = 16 * 1024;

/// What one side says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Greeting {
    /// Receives that it keeps posted.
    pub(super) ring: u32,
    /// Bytes that each takes.
    pub(super) slot: u32,
    /// READs that it lets the other side have outstanding, one at least.
    pub(super) reads: u8,
}

/// Why a listener does not take a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Registered memory for the rings: needed and available, bytes.
    Memory { needed: u64, available: u64 },
    /// Too many links are being accepted: how many, and the limit.
    Busy { waiting: u64, limit: u64 },
    /// What was said is not of this version.
    Version,
    /// The device or the process has no more queue pairs.
    Exhausted,
}

/// What was said is none of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoGreeting;

impl Greeting {
    pub(super) fn encode(self) -> Bytes {
        let mut out = BytesMut::with_capacity(16);
        out.put_slice(b"stl\x01");
        out.put_slice(&[16, VERSION, self.reads, 0]);
        out.put_u32_le(self.ring);
        out.put_u32_le(self.slot);
        out.freeze()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, NoGreeting> {
        let mut body = body(bytes, *b"stl\x01", 16)?;
        if body.get_u8() != VERSION {
            return Err(NoGreeting);
        }
        let reads = body.get_u8();
        body.advance(1);
        let greeting = Self { reads, ring: body.get_u32_le(), slot: body.get_u32_le() };
        let Self { ring, slot, reads } = greeting;
        if !(RING_MIN..=RING_MAX).contains(&ring) || !SLOT.contains(&slot) || reads == 0 {
            return Err(NoGreeting);
        }
        Ok(greeting)
    }
}

impl Refusal {
    pub(super) fn encode(self) -> Bytes {
        let (reason, needed, available) = match self {
            Self::Memory { needed, available } => (1, needed, available),
            Self::Busy { waiting, limit } => (2, waiting, limit),
            Self::Version => (3, 0, 0),
            Self::Exhausted => (4, 0, 0),
        };
        let mut out = BytesMut::with_capacity(24);
        out.put_slice(b"stl\x02");
        out.put_slice(&[24, VERSION, reason, 0]);
        out.put_u64_le(needed);
        out.put_u64_le(available);
        out.freeze()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, NoGreeting> {
        let mut body = body(bytes, *b"stl\x02", 24)?;
        body.advance(1);
        let reason = body.get_u8();
        body.advance(1);
        let (first, second) = (body.get_u64_le(), body.get_u64_le());
        match reason {
            1 => Ok(Self::Memory { needed: first, available: second }),
            2 => Ok(Self::Busy { waiting: first, limit: second }),
            3 => Ok(Self::Version),
            4 => Ok(Self::Exhausted),
            _ => Err(NoGreeting),
        }
    }
}

/// What follows magic and length, from the version on: `len - 5` bytes at least.
fn body(bytes: &[u8], magic: [u8; 4], len: usize) -> Result<&[u8], NoGreeting> {
    let Some(said) = bytes.get(4) else {
        return Err(NoGreeting);
    };
    let said = usize::from(*said);
    if bytes[..4] != magic || said < len || said > bytes.len() {
        return Err(NoGreeting);
    }
    Ok(&bytes[5..said])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rdma::verbs::GREETING_MAX;

    #[test]
    fn greetings_are_read_back_also_with_padding() {
        let greeting = Greeting { ring: 64, slot: 8192, reads: 16 };
        let refusals = [
            Refusal::Memory { needed: 1 << 40, available: 7 },
            Refusal::Busy { waiting: 64, limit: 64 },
            Refusal::Version,
            Refusal::Exhausted,
        ];
        for padding in [0, 1, 40, 180] {
            let padded = |bytes: Bytes| [&bytes[..], &vec![0; padding]].concat();
            assert_eq!(Greeting::decode(&padded(greeting.encode())), Ok(greeting));
            for refusal in refusals {
                assert!(refusal.encode().len() <= GREETING_MAX);
                assert_eq!(Refusal::decode(&padded(refusal.encode())), Ok(refusal));
            }
        }
        assert!(greeting.encode().len() <= GREETING_MAX);
    }

    #[test]
    fn a_refusal_by_another_version_is_understood_and_its_hello_is_not() {
        let mut refusal = Refusal::Version.encode().to_vec();
        refusal[5] = VERSION + 1;
        assert_eq!(Refusal::decode(&refusal), Ok(Refusal::Version));
        let mut hello = Greeting { ring: 64, slot: 8192, reads: 16 }.encode().to_vec();
        hello[5] = VERSION + 1;
        assert_eq!(Greeting::decode(&hello), Err(NoGreeting));
    }

    #[test]
    fn what_is_no_greeting_is_refused_and_never_read_past() {
        let good = Greeting { ring: 64, slot: 8192, reads: 16 }.encode();
        for cut in 0..good.len() {
            assert_eq!(Greeting::decode(&good[..cut]), Err(NoGreeting), "{cut}");
        }
        for at in 0..good.len() {
            for value in 0..=255 {
                let mut bytes = good.to_vec();
                bytes[at] = value;
                // Any answer will do, but no panic, and nothing absurd.
                if let Ok(greeting) = Greeting::decode(&bytes) {
                    assert!(greeting.ring >= RING_MIN && SLOT.contains(&greeting.slot));
                    assert!(greeting.reads > 0, "else no pull would ever move");
                }
                let _ = Refusal::decode(&bytes);
            }
        }
        assert_eq!(Refusal::decode(&good), Err(NoGreeting));
    }
}
