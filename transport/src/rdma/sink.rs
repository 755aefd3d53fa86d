//! Pulled data on its way in: offers are read, in order, into the final buffer of their message.
//!
//! ```text
//!   expect ─► Sink ◄── offer ── READ, a bounded number at once ──► piece ── last one ──► data
//!     placed: in pool memory, where the user gets it        (no copy)
//!     copied: piece by piece to memory of its own           (one copy: too long, or the pool low)
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use bytes::{Bytes, BytesMut};
use stellate_protocol::codec::{ChunkFault, CodecError, checksum};
use stellate_protocol::frame::Chunk;
use stellate_protocol::{Frame, FrameKind, Lane, Parcel, Seq};

use super::header::Offer;
use super::memory::Buf;
use super::pool::{Pool, Use};
use crate::fault::LinkFault;

/// Offers that wait to be read. An honest peer has fewer, as its own limit is the same.
pub(super) const OFFERS_MAX: usize = 1024;

/// Most bytes of an offer: a longer chunk is offered in pieces.
pub(super) const OFFER_MAX: u32 = 128 * 1024;

/// All pulls of a link.
#[derive(Debug)]
pub(super) struct Sinks {
    pool: Arc<Pool>,
    data_max: u32,
    sinks: BTreeMap<(usize, u64), Sink>,
    waiting: VecDeque<Offer>,
    reading: VecDeque<Offer>,
    /// Bytes of those that are being read.
    reading_bytes: u32,
    reads_max: usize,
    bytes_max: u32,
}

#[derive(Debug)]
struct Sink {
    len: u32,
    /// Offered so far.
    offered: u32,
    /// Arrived so far.
    arrived: u32,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Placed { done: Option<Buf>, rest: Buf },
    Copied(BytesMut),
}

impl Sinks {
    pub(super) fn new(pool: Arc<Pool>, data_max: u32, reads_max: u8, bytes_max: u32) -> Self {
        Self {
            pool,
            data_max,
            sinks: BTreeMap::new(),
            waiting: VecDeque::new(),
            reading: VecDeque::new(),
            reading_bytes: 0,
            reads_max: usize::from(reads_max),
            bytes_max,
        }
    }

    /// Makes room for the data of one message, by our own decision.
    pub(super) fn expect(&mut self, lane: Lane, seq: Seq, len: u32) -> Result<(), LinkFault> {
        if len > self.data_max {
            let error = CodecError::TooLong {
                what: "announced data",
                len: u64::from(len),
                max: u64::from(self.data_max),
            };
            return Err(LinkFault::Malformed(error));
        }
        let pool = &self.pool;
        self.sinks.entry((lane.index(), seq.0)).or_insert_with(|| {
            let place = match pool.bulk(len as usize, Use::Kept) {
                Some(rest) => Place::Placed { done: None, rest },
                None => Place::Copied(BytesMut::with_capacity(len as usize)),
            };
            Sink { len, offered: 0, arrived: 0, place }
        });
        Ok(())
    }

    /// The peer offers a piece.
    pub(super) fn offered(&mut self, offer: Offer) -> Result<(), LinkFault> {
        let Offer { lane, seq, offset, len, .. } = offer;
        let unexpected =
            |fault| LinkFault::Malformed(CodecError::UnexpectedChunk { lane, seq, fault });
        if self.waiting.len() >= OFFERS_MAX {
            return Err(LinkFault::BadMessage);
        }
        let Some(sink) = self.sinks.get_mut(&(lane.index(), seq.0)) else {
            return Err(unexpected(ChunkFault::NotPulled));
        };
        if len == 0 {
            return Err(unexpected(ChunkFault::Empty));
        }
        if offset != sink.offered {
            return Err(unexpected(ChunkFault::Offset { at: offset, want: sink.offered }));
        }
        if len > OFFER_MAX {
            return Err(LinkFault::BadMessage);
        }
        let end = u64::from(offset) + u64::from(len);
        if end > u64::from(sink.len) {
            return Err(unexpected(ChunkFault::Beyond { end, len: sink.len }));
        }
        sink.offered += len;
        self.waiting.push_back(offer);
        Ok(())
    }

    /// The next READ and where it goes to; none if nothing is offered, enough is under way, or
    /// the pool has nothing to read into, of which the task is told.
    pub(super) fn next_read(&mut self, waker: &Waker) -> Option<(Offer, Buf)> {
        if self.reading.len() >= self.reads_max {
            return None;
        }
        let offer = *self.waiting.front()?;
        let bytes = self.reading_bytes.saturating_add(offer.len);
        if bytes > self.bytes_max && !self.reading.is_empty() {
            return None;
        }
        let sink = self.sinks.get_mut(&(offer.lane.index(), offer.seq.0))?;
        let len = offer.len as usize;
        let buf = match &mut sink.place {
            Place::Placed { rest, .. } => rest.split_to(len),
            // Only what is read is given away; the rest of the block waits beside it.
            Place::Copied(_) => self.pool.passing(len, Use::Reads, waker)?.split_to(len),
        };
        self.waiting.pop_front();
        self.reading_bytes = bytes;
        self.reading.push_back(offer);
        Some((offer, buf))
    }

    /// Whether READs are under way.
    pub(super) fn is_reading(&self) -> bool {
        !self.reading.is_empty()
    }

    /// The oldest READ is done: the chunk, with all the data if it was the last.
    pub(super) fn arrived(&mut self, buf: Buf) -> Result<Frame<Parcel>, LinkFault> {
        let offer = self.reading.pop_front().ok_or(LinkFault::BadMessage)?;
        self.reading_bytes = self.reading_bytes.saturating_sub(offer.len);
        if checksum(&buf) != offer.crc {
            let frame = FrameKind::Chunk;
            return Err(LinkFault::Malformed(CodecError::BodyChecksum { frame }));
        }
        let Offer { lane, seq, offset, len, .. } = offer;
        let key = (lane.index(), seq.0);
        let sink = self.sinks.get_mut(&key).ok_or(LinkFault::BadMessage)?;
        sink.arrived += len;
        match &mut sink.place {
            Place::Copied(data) => data.extend_from_slice(&buf),
            Place::Placed { done: Some(done), .. } => {
                done.join(buf).map_err(|_| LinkFault::BadMessage)?;
            }
            Place::Placed { done, .. } => *done = Some(buf),
        }
        let part = if sink.arrived == sink.len {
            self.sinks.remove(&key).map(|sink| Parcel::of_data(sink.data()))
        } else {
            None
        };
        Ok(Frame::Chunk(Chunk { lane, seq, offset, len, part }))
    }

    /// Forgets everything; buffers come home, except what is being read.
    pub(super) fn clear(&mut self) {
        self.sinks.clear();
        self.waiting.clear();
        self.reading.clear();
        self.reading_bytes = 0;
    }
}

impl Sink {
    fn data(self) -> Bytes {
        match self.place {
            Place::Copied(data) => data.freeze(),
            Place::Placed { done: Some(mut done), rest } => {
                // The rest of the block goes with it, so that it comes home in one piece; if it
                // does not fit it comes home by itself.
                let _ = done.join(rest);
                done.freeze(self.len as usize)
            }
            Place::Placed { done: None, .. } => Bytes::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use stellate_protocol::Class;

    use super::super::fake::{FakeNet, Personality};
    use super::super::pool::PoolOptions;
    use super::super::verbs::Remote;
    use super::*;

    const PIECE: u32 = 1000;

    fn sinks(reads: u8, bytes: u32) -> Sinks {
        let fake = FakeNet::new(1);
        let host = fake.host(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), Personality::ROCE);
        let name = host.devices().expect("devices")[0].name.clone();
        let device = host.open(&name).expect("opens");
        let pool = Pool::new(device, PoolOptions::default()).expect("a pool");
        Sinks::new(pool, 1 << 20, reads, bytes)
    }

    fn offer(piece: u32) -> Offer {
        let remote = Remote { addr: 0, rkey: 0 };
        let (lane, seq) = (Lane::messages(Class::Bulk), Seq(1));
        // The checksum of what nobody wrote there.
        let crc = checksum(&[0; PIECE as usize]);
        Offer { lane, seq, offset: piece * PIECE, len: PIECE, crc, remote }
    }

    /// So many of ten READs are under way at first, and one more with each that is done.
    fn under_way(mut sinks: Sinks) -> usize {
        sinks.expect(Lane::messages(Class::Bulk), Seq(1), 10 * PIECE).expect("room");
        (0..10).for_each(|piece| sinks.offered(offer(piece)).expect("in order"));
        let mut posted = VecDeque::new();
        let post = |sinks: &mut Sinks, posted: &mut VecDeque<Buf>| {
            while let Some((_, mut buf)) = sinks.next_read(Waker::noop()) {
                buf.fill(0);
                posted.push_back(buf);
            }
        };
        post(&mut sinks, &mut posted);
        let most = posted.len();
        let mut left = 10 - most;
        while let Some(buf) = posted.pop_front() {
            sinks.arrived(buf).expect("whole");
            post(&mut sinks, &mut posted);
            left = left.saturating_sub(1);
            assert!(posted.len() <= most);
        }
        assert_eq!((left, sinks.reading_bytes), (0, 0), "all were read");
        most
    }

    #[test]
    fn reads_under_way_are_bounded_by_their_number_and_their_bytes() {
        assert_eq!(under_way(sinks(3, u32::MAX)), 3);
        assert_eq!(under_way(sinks(16, 4 * PIECE)), 4);
        assert_eq!(under_way(sinks(16, 4 * PIECE + 999)), 4);
        assert_eq!(under_way(sinks(16, 1)), 1, "one at least");
    }
}
