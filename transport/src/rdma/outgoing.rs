//! What a link sends: frames packed into slots, chunks as offers, and what it returns.
//!
//! ```text
//!   frames ──copied──► slot ── SEND ──► (inline if short)
//!   chunk ─┬─ its data lies in the pool: offered where it lies           (no copy)
//!          └─ it is the user's own:      copied once to bulk memory, then offered
//! ```
//!
//! A chunk that no memory is left for waits, and frames pass it: signs of life above all (S9).

use std::task::Context;

use bytes::{Buf as _, Bytes};
use stellate_protocol::Parcel;
use stellate_protocol::codec::checksum;
use stellate_protocol::frame::Chunk;

use super::header::{HEADER, Header, Kind, OFFER, Offer};
use super::link::{Mark, RdmaLink, Sent};
use super::memory::{Buf, Piece};
use super::pool::Use;
use super::sink::{OFFER_MAX, OFFERS_MAX};
use super::verbs::{ReadWork, SendWork, WorkId};
use crate::fault::LinkFault;

impl RdmaLink {
    /// Sends what may be sent, then returns what is due.
    pub(super) fn pump(&mut self, cx: &mut Context<'_>) -> Result<(), LinkFault> {
        self.pump_reads(cx)?;
        let mut stuck = false;
        while self.heard && self.may_send() {
            if !stuck && !self.chunks.is_empty() {
                stuck = !self.send_offer(cx)?;
                continue;
            }
            match self.marks.pop_front() {
                None => break,
                Some(Mark::Chunk(chunk)) => self.chunks.push_back(chunk),
                Some(frame) => {
                    self.marks.push_front(frame);
                    self.send_frames()?;
                }
            }
        }
        self.send_return()
    }

    /// Whether a message with content may go now.
    fn may_send(&self) -> bool {
        self.credits.content() > 0 && self.has_slot()
    }

    /// Whether a SEND more may be under way.
    fn has_slot(&self) -> bool {
        self.sends_open < self.options.sends && self.sends.room() > 0
    }

    /// Posts READs of what is offered, as many as both sides allow.
    fn pump_reads(&mut self, cx: &mut Context<'_>) -> Result<(), LinkFault> {
        while self.sends.room() > 0
            && let Some((offer, sink)) = self.sinks.next_read(cx.waker())
        {
            let number = self.sends.post_alone(Sent::Read);
            let read = ReadWork { sink, remote: offer.remote };
            self.pair.post_read(WorkId(number), read).map_err(|_| self.not_posted())?;
        }
        Ok(())
    }

    /// What a refused post means: the queues have room, so the pair is broken or gone.
    pub(super) fn not_posted(&self) -> LinkFault {
        let mut mail = self.inbox.open();
        mail.ended.take().or_else(|| mail.hint.take()).unwrap_or(LinkFault::Reset)
    }

    /// Fills a slot with whole frames, or with a piece of one that is longer.
    fn send_frames(&mut self) -> Result<(), LinkFault> {
        let Some(mut slot) = self.pool.slot() else {
            return Err(LinkFault::DeviceGone);
        };
        let (mut len, mut submits) = (HEADER, 0);
        while let Some(Mark::Frame(left)) = self.marks.front_mut() {
            let space = self.message_max - len;
            let whole = *left <= space;
            if !whole && len > HEADER {
                break;
            }
            let step = space.min(*left);
            self.stream.copy_to_slice(&mut slot[len..len + step]);
            len += step;
            *left -= step;
            if !whole {
                break;
            }
            self.marks.pop_front();
            submits += 1;
        }
        let number = self.flight.frames(submits, len - HEADER);
        self.post(slot, len, Kind::Frames, Sent::Frames(number))
    }

    /// Offers a chunk, or the next piece of one; false if there is no memory to offer it from.
    fn send_offer(&mut self, cx: &mut Context<'_>) -> Result<bool, LinkFault> {
        if self.flight.offers_open() >= OFFERS_MAX / 2 {
            return Ok(false);
        }
        let Some(chunk) = self.chunks.front_mut() else {
            return Ok(true);
        };
        let Some(data) = chunk_data(chunk, chunk.len.min(OFFER_MAX)) else {
            // The session cuts chunks out of what it has.
            return Err(LinkFault::BadMessage);
        };
        let piece = match self.pool.find(&data) {
            Some(piece) => piece,
            None => match self.pool.passing(data.len(), Use::Offers, cx.waker()) {
                Some(block) => copied(block, &data),
                None => return Ok(false),
            },
        };
        let remote = self.device.export(&piece).map_err(|_| LinkFault::DeviceGone)?;
        let (lane, seq, offset) = (chunk.lane, chunk.seq, chunk.offset);
        let (len, crc) = (piece.bytes.len() as u32, checksum(&piece.bytes));
        (chunk.offset, chunk.len) = (offset + len, chunk.len - len);
        let last = chunk.len == 0;
        self.exports.push_back((remote, piece.bytes));
        if last {
            self.chunks.pop_front();
        }
        self.flight.offer(u64::from(last), len as usize);
        let Some(mut slot) = self.pool.slot() else {
            return Err(LinkFault::DeviceGone);
        };
        Offer { lane, seq, offset, len, crc, remote }.write(&mut slot[HEADER..]);
        self.post(slot, OFFER, Kind::Offer, Sent::Other)?;
        Ok(true)
    }

    /// Returns credit, or says what was read, in a message of its own if none goes anyway.
    fn send_return(&mut self) -> Result<(), LinkFault> {
        let due = self.credits.is_due() || self.released > 0;
        if !due || !self.heard || !self.credits.may_return() || !self.has_slot() {
            return Ok(());
        }
        match self.pool.slot() {
            Some(slot) => self.post(slot, HEADER, Kind::Return, Sent::Other),
            None => Err(LinkFault::DeviceGone),
        }
    }

    /// Says that nothing more comes; whether it could.
    pub(super) fn say_farewell(&mut self) -> Result<bool, LinkFault> {
        // An acceptor that was told nothing may say nothing: it just leaves.
        if !self.heard {
            return Err(LinkFault::ClosedHere);
        }
        if !self.credits.may_return() || !self.has_slot() {
            return Ok(false);
        }
        match self.pool.slot() {
            Some(slot) => {
                self.post(slot, HEADER, Kind::Farewell, Sent::Other)?;
                Ok(true)
            }
            None => Err(LinkFault::DeviceGone),
        }
    }

    fn post(&mut self, mut slot: Buf, len: usize, kind: Kind, sent: Sent) -> Result<(), LinkFault> {
        let credits = self.credits.spend();
        let released = std::mem::take(&mut self.released);
        Header { kind, credits, released }.write(&mut slot);
        self.sends_open += 1;
        // Exact: a frame in front, or an offer, goes next if there are credit and place, and then
        // signals.
        let more = self.may_send() && matches!(self.marks.front(), Some(Mark::Frame(_)));
        let (number, signalled) = self.sends.post(sent, more && self.sends.room() > 1);
        let send = SendWork {
            head: slot,
            head_len: len as u32,
            pieces: Vec::new(),
            signalled,
            inline: len <= self.inline_max,
        };
        self.pair.post_send(WorkId(number), send).map_err(|_| self.not_posted())
    }
}

/// The first bytes of a chunk.
fn chunk_data(chunk: &Chunk<Parcel>, len: u32) -> Option<Bytes> {
    let data = chunk.part.as_ref()?.data_bytes();
    let begin = chunk.offset as usize;
    let end = begin.checked_add(len as usize)?;
    (end <= data.len()).then(|| data.slice(begin..end))
}

/// As much of it as fits.
fn copied(mut block: Buf, data: &Bytes) -> Piece {
    let (len, region) = (data.len().min(block.len()), block.region());
    block[..len].copy_from_slice(&data[..len]);
    Piece { bytes: block.freeze(len), region }
}
