//! What a link receives: messages out of its ring, and what becomes of its own work.

use std::sync::Arc;
use std::task::Context;

use bytes::{BufMut, Bytes};

use super::header::{HEADER, Header, Kind, Offer};
use super::link::{RdmaLink, Sent, State};
use super::memory::Buf;
use super::pool::KeptSlot;
use super::verbs::{Completion, Operation, WorkFault, WorkId};
use crate::fault::LinkFault;
use crate::link::{BYTES_PER_POLL, Batch, FRAMES_PER_POLL};

/// Marks the work ids of receives, which are apart from those of sends.
pub(super) const RECEIVE: u32 = 0x8000_0000;

impl RdmaLink {
    /// Takes in what completed, a bounded amount (F7); whether there is more at once.
    pub(super) fn receive(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Batch,
    ) -> Result<bool, LinkFault> {
        let mut mail = self.inbox.open();
        mail.watch(cx.waker());
        if self.mail.is_empty() {
            std::mem::swap(&mut self.mail, &mut mail.completions);
        } else {
            self.mail.append(&mut mail.completions);
        }
        let ended = mail.ended.clone();
        drop(mail);
        let frames_max = out.frames.len() + FRAMES_PER_POLL;
        let mut bytes = 0;
        loop {
            if self.decode(out, frames_max)? || bytes >= BYTES_PER_POLL {
                return Ok(true);
            }
            if self.farewell {
                return Err(match self.state {
                    State::Lingering(_) => LinkFault::ClosedHere,
                    _ => LinkFault::ClosedByPeer,
                });
            }
            if out.frames.len() >= frames_max {
                return Ok(true);
            }
            let Some(completion) = self.mail.pop_front() else {
                break;
            };
            bytes += completion.result.unwrap_or(0) as usize;
            self.completed(completion, out)?;
        }
        match ended {
            Some(fault) => Err(fault),
            None => Ok(false),
        }
    }

    fn completed(&mut self, completion: Completion, out: &mut Batch) -> Result<(), LinkFault> {
        let Completion { work, operation, result, buf, .. } = completion;
        let len = match (operation, result) {
            (_, Ok(len)) => len as usize,
            (Operation::Receive, Err(fault)) => {
                return Err(self.broken(self.failed.unwrap_or(fault)));
            }
            (_, Err(fault)) => {
                // What was received before is read first: the flush of the receives ends the link.
                if self.failed.is_none() {
                    self.pair.to_error();
                }
                if self.failed.is_none_or(|failed| failed == WorkFault::Flushed) {
                    self.failed = Some(fault);
                }
                return Ok(());
            }
        };
        match operation {
            Operation::Receive => match buf {
                Some(buf) => self.message(buf, len),
                None => Err(LinkFault::BadMessage),
            },
            Operation::Send | Operation::Read => {
                let (flight, open) = (&mut self.flight, &mut self.sends_open);
                let over = self.sends.complete(work.0, |sent| match sent {
                    Sent::Frames(number) => {
                        *open -= 1;
                        flight.sent(number);
                    }
                    Sent::Other => *open -= 1,
                    Sent::Read => {}
                });
                // Work that nobody posted: the implementation is wrong.
                over.map_err(|_| LinkFault::Work(WorkFault::LocalProtection))?;
                if operation == Operation::Read {
                    let frame = self.sinks.arrived(buf.ok_or(LinkFault::BadMessage)?)?;
                    self.released = self.released.saturating_add(1);
                    if !matches!(self.state, State::Lingering(_)) {
                        out.frames.push(frame);
                    }
                }
                Ok(())
            }
        }
    }

    /// Work failed: why the link ends.
    fn broken(&self, fault: WorkFault) -> LinkFault {
        if matches!(self.state, State::Lingering(_)) {
            return LinkFault::ClosedHere;
        }
        match fault {
            WorkFault::Flushed => {
                let mail = self.inbox.open();
                mail.ended.clone().or_else(|| mail.hint.clone()).unwrap_or(LinkFault::Reset)
            }
            WorkFault::DeviceFatal => LinkFault::DeviceGone,
            WorkFault::ReceiverNotReady => LinkFault::Underflow,
            fault => LinkFault::Work(fault),
        }
    }

    /// A message arrived: posts a receive in its place, then looks at it.
    fn message(&mut self, buf: Buf, len: usize) -> Result<(), LinkFault> {
        self.heard = true;
        let header = match buf.get(..len).map(Header::read) {
            Some(Ok(header)) => header,
            _ => return Err(LinkFault::BadMessage),
        };
        let offer = match header.kind {
            Kind::Offer => Some(Offer::read(&buf[..len]).map_err(|_| LinkFault::BadMessage)?),
            _ => None,
        };
        let body = match header.kind {
            Kind::Frames => self.keep(buf, len)?,
            _ => {
                self.post_receive(buf)?;
                Bytes::new()
            }
        };
        self.credits.returned(header.credits).map_err(|_| LinkFault::BadMessage)?;
        self.flight.released(header.released).map_err(|_| LinkFault::BadMessage)?;
        for _ in 0..header.released {
            if let Some((remote, _)) = self.exports.pop_front() {
                self.device.withdraw(remote);
            }
        }
        match header.kind {
            Kind::Frames => self.input = body,
            Kind::Offer => {
                if let Some(offer) = offer {
                    self.sinks.offered(offer)?;
                }
            }
            Kind::Return => {}
            Kind::Farewell => self.farewell = true,
        }
        Ok(())
    }

    /// What arrived, without its header. Much is left where it is, and another slot is posted in
    /// its place; little, or more than may be kept, is copied.
    fn keep(&mut self, buf: Buf, len: usize) -> Result<Bytes, LinkFault> {
        let spare = if len >= buf.len() / 4 { self.pool.replace() } else { None };
        match spare {
            Some((fresh, kept)) => {
                self.post_receive(fresh)?;
                let bytes = Bytes::from_owner(KeptSlot { buf, kept });
                Ok(bytes.slice(HEADER..len))
            }
            None => {
                let bytes = Bytes::copy_from_slice(&buf[HEADER..len]);
                self.post_receive(buf)?;
                Ok(bytes)
            }
        }
    }

    fn post_receive(&mut self, buf: Buf) -> Result<(), LinkFault> {
        let number = RECEIVE | (self.receives & !RECEIVE);
        self.receives = self.receives.wrapping_add(1);
        let posted = self.pair.post_recv(WorkId(number), buf);
        posted.map_err(|_| self.not_posted())?;
        self.credits.posted();
        Ok(())
    }

    /// Decodes what has arrived; whether it stopped because that are enough frames.
    fn decode(&mut self, out: &mut Batch, frames_max: usize) -> Result<bool, LinkFault> {
        if matches!(self.state, State::Lingering(_)) {
            // Nobody wants it any more.
            self.input = Bytes::new();
            return Ok(false);
        }
        let malformed = LinkFault::Malformed;
        while !self.partial_is_idle() {
            let frames = &mut out.frames;
            if self.decoder.decode_into(&mut self.partial, frames, frames_max).map_err(malformed)? {
                return Ok(true);
            }
            if self.partial_is_idle() {
                break;
            }
            if self.input.is_empty() {
                return Ok(false);
            }
            if let Some(mut body) = self.decoder.direct() {
                let n = body.remaining_mut().min(self.input.len());
                body.put_slice(&self.input.split_to(n));
            } else {
                self.partial.extend_from_slice(&std::mem::take(&mut self.input));
            }
        }
        let frames = &mut out.frames;
        if self.decoder.decode_into(&mut self.input, frames, frames_max).map_err(malformed)? {
            return Ok(true);
        }
        // The first part of a frame that goes on in the next message.
        self.partial.extend_from_slice(&self.input);
        self.input = Bytes::new();
        Ok(false)
    }

    /// Whether nothing of an earlier message waits for its end.
    fn partial_is_idle(&mut self) -> bool {
        self.partial.is_empty() && self.decoder.is_between_frames()
    }
}

/// Posts a whole ring, before the connection.
pub(super) fn fill_ring(
    pair: &Arc<dyn super::verbs::QueuePair>,
    pool: &Arc<super::pool::Pool>,
    ring: u32,
) -> Result<(), super::verbs::VerbsError> {
    use super::verbs::{VerbsError, VerbsErrorKind};
    for number in 0..ring {
        let none = || VerbsError::new("ibv_post_recv", VerbsErrorKind::Exhausted);
        let buf = pool.slot().ok_or_else(none)?;
        pair.post_recv(WorkId(RECEIVE | (0x4000_0000 + number)), buf)
            .map_err(|refused| refused.error)?;
    }
    Ok(())
}
