//! One end of a simulated link: runs the codec, and moves frames between it and the network.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use stellate_protocol::codec::{CodecError, Decoder, First, HEADER_LEN, WireLimits};
use stellate_protocol::frame::Verdict;
use stellate_protocol::{Frame, FrameKind, Lane, Parcel, Seq};
use tokio::time::{Duration, Sleep};

use super::flow::Item;
use super::net::{Event, Net, Shared};
use super::passage;
use super::run::Run;
use crate::address::Address;
use crate::fault::LinkFault;
use crate::limits::{Boundary, FirstSpeaker, LinkLimits, Readiness};
use crate::link::{
    BYTES_PER_POLL, Batch, CloseHow, FRAMES_PER_POLL, Full, Link, LinkClosed, Parked, Token,
};
use crate::tokens::Tokens;
use crate::trace::{Event as Traced, Passage, SessionTag, What};

/// A submitted frame.
struct Pending {
    bytes: Run,
    passage: Passage,
    slots: u32,
    /// Of a hello.
    session: Option<SessionTag>,
    /// An answer that lets the dialler in.
    accepts: bool,
    /// Nobody submitted it, so nobody waits for it to be done.
    forged: bool,
}

pub(super) struct SimLink {
    shared: Arc<Shared>,
    link: u64,
    end: usize,
    peer: Address,
    limits: LinkLimits,
    decoder: Decoder,
    input: BytesMut,
    pending: VecDeque<Pending>,
    queued: usize,
    tokens: Tokens,
    starved: bool,
    draining: bool,
    ended: Option<LinkFault>,
    reported: bool,
    /// Of a fabric that wakes nobody: when to look again.
    look_again: Option<Pin<Box<Sleep>>>,
}

impl SimLink {
    pub(super) fn new(
        shared: Arc<Shared>,
        link: u64,
        end: usize,
        peer: Address,
        wire: WireLimits,
        first: First,
    ) -> Self {
        let net = shared.lock();
        let profile = net.wires.get(link).map_or(net.profile, |wire| wire.profile);
        drop(net);
        Self {
            shared,
            link,
            end,
            peer,
            limits: profile.limits,
            decoder: Decoder::new(wire, first),
            input: BytesMut::new(),
            pending: VecDeque::new(),
            queued: 0,
            tokens: Tokens::default(),
            starved: false,
            draining: false,
            ended: None,
            reported: false,
            look_again: None,
        }
    }

    /// Packs a frame as it is to arrive, where somebody tampers with what is sent.
    fn pack_tampered(&mut self, frame: &Frame<Parcel>) -> Result<(), LinkFault> {
        let Some(tamper) = self.shared.lock().tamper_of(self.link, self.end) else {
            return self.pack(frame);
        };
        let frame = tamper.change(frame.clone());
        self.pack(&frame)?;
        if let Some(packed) = self.pending.back_mut() {
            let bytes = std::mem::take(&mut packed.bytes);
            packed.bytes = tamper.damage(frame.kind(), bytes.join()).into();
        }
        if tamper.repeats(frame.kind(), &self.limits) {
            self.pack(&frame)?;
            self.pending.back_mut().into_iter().for_each(|packed| packed.forged = true);
        }
        Ok(())
    }

    fn pack(&mut self, frame: &Frame<Parcel>) -> Result<(), LinkFault> {
        let bytes = self.shared.encoded(frame).map_err(LinkFault::Malformed)?;
        let kind = frame.kind();
        let body = (bytes.len() - HEADER_LEN) as u32;
        let in_slot = matches!(kind, FrameKind::Message | FrameKind::Announce | FrameKind::Chunk);
        if in_slot && self.limits.boundary == Boundary::Message && body > self.limits.slot_bytes {
            return Err(LinkFault::OverSlot { len: body, slot: self.limits.slot_bytes });
        }
        self.queued += bytes.len();
        let slots = match frame {
            Frame::Grant(grant) => grant.slots,
            _ => 0,
        };
        let (session, accepts) = match frame {
            Frame::Hello(hello) => (Some(hello.session.into()), false),
            Frame::Answer(answer) => (None, matches!(answer.verdict, Verdict::Accepted { .. })),
            _ => (None, false),
        };
        let read = self.shared.read.load(Ordering::Relaxed);
        let passage = passage::of(frame, &bytes, read);
        let forged = false;
        self.pending.push_back(Pending { bytes, passage, slots, session, accepts, forged });
        Ok(())
    }

    /// Hands submitted frames to the network, as far as the window goes.
    fn flush(&mut self, net: &mut Net, out: &mut Batch) -> Result<(), LinkFault> {
        let now = net.now();
        let (mut moved, mut done) = (0, 0);
        while let Some(wire) = net.wires.get_mut(self.link)
            && wire.takes(self.end)
            && let Some(packed) = self.pending.pop_front()
        {
            let Pending { bytes, mut passage, slots, session, accepts, forged } = packed;
            let dialler_first = self.limits.first_speaker == FirstSpeaker::Dialer;
            if dialler_first && self.end == 1 && !wire.ends[1].heard {
                net.violation(self.link, self.end, LinkFault::SpokeFirst);
                net.kill(self.link, LinkFault::Reset);
                return Err(LinkFault::SpokeFirst);
            }
            self.queued -= bytes.len();
            wire.session = session.unwrap_or(wire.session);
            let flow = &mut wire.flows[self.end];
            let kind = passage.kind;
            passage.sent = now;
            flow.accept(Item::Bytes { bytes, kind, ends: Some(passage) });
            if slots > 0 && !wire.flows[1 - self.end].repost(slots, &self.limits) {
                net.violation(self.link, self.end, LinkFault::Overposted);
                return Err(LinkFault::Overposted);
            }
            if slots > 0 {
                let (link, end) = (self.link, 1 - self.end);
                net.at(now + 1, Event::Arrive { link, end });
            }
            if accepts {
                net.accepted(self.link);
            }
            moved += 1;
            done += u64::from(!forged);
        }
        if moved > 0 {
            net.pump(self.link, self.end, now);
        }
        self.tokens.sent(done, out);
        if self.starved && self.queued <= self.limits.send_bytes / 2 {
            self.starved = false;
            out.room = true;
        }
        Ok(())
    }

    /// Takes what arrived out of the inbox; whether there may be more at once.
    fn fill(&mut self, net: &mut Net, out: &mut Batch) -> Result<bool, LinkFault> {
        let now = net.now();
        let Some(wire) = net.wires.get(self.link) else {
            return Err(LinkFault::Reset);
        };
        if wire.ends[self.end].gone {
            // The node crashed under it.
            return Err(LinkFault::Reset);
        }
        let slow = net.nodes.get(wire.places[self.end].0 as usize).and_then(|node| node.slow);
        let (mut frames, mut bytes) = (0, 0);
        while frames < FRAMES_PER_POLL && bytes < BYTES_PER_POLL {
            match self.take(net, now, slow) {
                None => return Ok(false),
                Some(Item::End(LinkFault::ClosedByPeer)) => {
                    let between = self.decoder.is_between_frames() && self.input.is_empty();
                    return Err(if between {
                        LinkFault::ClosedByPeer
                    } else {
                        LinkFault::Truncated
                    });
                }
                Some(Item::End(fault)) => return Err(fault),
                Some(Item::Bytes { bytes: run, ends, .. }) => {
                    bytes += run.len();
                    frames += self.decode(net, now, run, ends, out)?;
                }
            }
        }
        Ok(true)
    }

    /// The next item, within what a slow reader may take in this tick.
    fn take(&self, net: &mut Net, now: u64, slow: Option<u32>) -> Option<Item> {
        let flow = &mut net.wires.get_mut(self.link)?.flows[1 - self.end];
        if let Some(per_tick) = slow {
            if flow.read_at != now {
                (flow.read_at, flow.read_bytes) = (now, 0);
            }
            if flow.read_bytes >= u64::from(per_tick) && flow.has_arrived() {
                let (link, end) = (self.link, self.end);
                net.at(now + 1, Event::Wake { link, end });
                return None;
            }
        }
        let full = !flow.has_window();
        let item = flow.take()?;
        flow.read_bytes += item.len() as u64;
        if full && flow.has_window() {
            net.wake(self.link, 1 - self.end);
        }
        Some(item)
    }

    /// Takes bytes that arrived, and with the last ones of a frame what the trace says of it.
    fn decode(
        &mut self,
        net: &mut Net,
        now: u64,
        mut run: Run,
        mut ends: Option<Passage>,
        out: &mut Batch,
    ) -> Result<usize, LinkFault> {
        let before = out.frames.len();
        let apart = ends.is_some() && !run.tail.is_empty() && self.input.is_empty();
        let decoded = match apart {
            true => self.decoder.decode_apart(&mut run.head, &run.tail),
            false => Ok(None),
        };
        let decoded = match decoded {
            Ok(Some(frame)) => {
                out.frames.push(frame);
                Ok(())
            }
            Ok(None) => {
                let head = self.decode_piece(run.head, out);
                head.and_then(|()| self.decode_piece(run.tail, out))
            }
            Err(error) => Err(error),
        };
        let frames = out.frames.len() - before;
        if frames > 0 {
            self.record(net, now, ends.take());
        }
        if let (Some(passage), Some(wire)) = (ends, net.wires.get_mut(self.link)) {
            wire.flows[1 - self.end].lost.push(passage);
        }
        decoded.map(|()| frames).map_err(LinkFault::Malformed)
    }

    fn decode_piece(&mut self, mut piece: Bytes, out: &mut Batch) -> Result<(), CodecError> {
        while !piece.is_empty() {
            // As a stream transport does: a long body goes straight into its final buffer.
            match self.decoder.direct() {
                Some(mut body) => {
                    let n = body.remaining_mut().min(piece.len());
                    body.put_slice(&piece.split_to(n));
                }
                None => {
                    let piece = std::mem::take(&mut piece);
                    if self.input.is_empty() {
                        // Nobody else has the bytes of a frame that came whole.
                        self.input =
                            piece.try_into_mut().unwrap_or_else(|shared| (&shared[..]).into());
                    } else {
                        let whole = self.decoder.gathers().max(self.input.len() + piece.len());
                        self.input.reserve(whole - self.input.len());
                        self.input.extend_from_slice(&piece);
                    }
                }
            }
            while let Some(frame) = self.decoder.decode(&mut self.input)? {
                out.frames.push(frame);
            }
        }
        Ok(())
    }

    /// A frame has arrived: appends it to the trace (D1).
    fn record(&self, net: &mut Net, now: u64, passage: Option<Passage>) {
        let Some(wire) = net.wires.get_mut(self.link) else {
            return;
        };
        wire.ends[self.end].heard = true;
        let (node, peer) = (wire.places[1 - self.end], Some(wire.places[self.end]));
        if let Some(passage) = passage {
            let (link, session, what) = (self.link, wire.session, What::Frame(passage));
            net.trace.add(Traced { tick: now, node, peer, link, session, what });
        }
    }

    /// Whether a step would change nothing.
    fn is_at_rest(&self, net: &Net) -> bool {
        let waits = self.starved || self.draining || self.ended.is_some();
        !waits
            && self.pending.is_empty()
            && net.wires.get(self.link).is_some_and(|wire| {
                !wire.ends[self.end].gone && !wire.flows[1 - self.end].has_arrived()
            })
    }

    /// One step; whether there is more to do at once.
    fn step(&mut self, net: &mut Net, out: &mut Batch) -> Result<bool, LinkFault> {
        if let Some(cause) = self.ended.take() {
            return Err(cause);
        }
        self.flush(net, out)?;
        let again = self.fill(net, out)?;
        let drained =
            net.wires.get(self.link).is_none_or(|wire| !wire.flows[self.end].is_waiting());
        if self.draining && self.pending.is_empty() && drained {
            net.leave(self.link, self.end, true);
            return Err(LinkFault::ClosedHere);
        }
        Ok(again)
    }

    fn end(&mut self, net: &mut Net, cause: LinkFault, out: &mut Batch) {
        net.tell_link(self.link, self.end, What::Closed(cause.word()));
        net.leave(self.link, self.end, false);
        self.tokens.fail_open(out);
        self.pending.clear();
        self.queued = 0;
        self.decoder.forget_all();
        self.input = BytesMut::new();
        self.look_again = None;
        self.reported = true;
        out.closed = Some(LinkClosed { cause });
    }

    fn sleep(&mut self, net: &mut Net, cx: &mut Context<'_>) {
        if self.limits.readiness == Readiness::Wakes {
            if let Some(wire) = net.wires.get_mut(self.link) {
                match &mut wire.ends[self.end].waker {
                    Some(waker) => waker.clone_from(cx.waker()),
                    none => *none = Some(cx.waker().clone()),
                }
            }
            return;
        }
        let tick = Duration::from_millis(1);
        loop {
            let sleep = self.look_again.get_or_insert_with(|| Box::pin(tokio::time::sleep(tick)));
            if sleep.as_mut().poll(cx).is_pending() {
                return;
            }
            self.look_again = None;
        }
    }
}

impl Link for SimLink {
    fn limits(&self) -> &LinkLimits {
        &self.limits
    }

    fn peer(&self) -> Address {
        self.peer.clone()
    }

    fn submit(&mut self, frame: Frame<Parcel>) -> Result<Token, Full> {
        let closed = self.reported || self.draining || self.ended.is_some();
        if closed || self.room() == 0 {
            self.starved |= !closed;
            return Err(Full::new(frame, closed));
        }
        let packed = match self.shared.tampers.load(Ordering::Relaxed) {
            true => self.pack_tampered(&frame),
            false => self.pack(&frame),
        };
        if let Err(fault) = packed {
            if !matches!(fault, LinkFault::Malformed(_)) {
                let (link, end) = (self.link, self.end);
                self.shared.lock().violation(link, end, fault.clone());
            }
            self.ended = Some(fault);
        }
        self.starved |= self.room() == 0;
        Ok(self.tokens.issue())
    }

    fn expect(&mut self, lane: Lane, seq: Seq, data_len: u32) {
        match self.decoder.expect(lane, seq, data_len) {
            Ok(()) | Err(CodecError::AlreadyExpected { .. }) => {}
            Err(error) => self.ended = Some(LinkFault::Malformed(error)),
        }
    }

    fn room(&self) -> usize {
        if self.reported || self.draining || self.ended.is_some() {
            return 0;
        }
        self.limits.send_bytes.saturating_sub(self.queued)
    }

    fn poll(&mut self, cx: &mut Context<'_>, out: &mut Batch) -> Poll<()> {
        if self.reported {
            return Poll::Pending;
        }
        let before = (out.frames.len(), out.done, out.room);
        let shared = self.shared.clone();
        let mut net = shared.lock_as_it_was();
        let again = if self.is_at_rest(&net) {
            self.sleep(&mut net, cx);
            false
        } else {
            net.look_at_clock();
            match self.step(&mut net, out) {
                Ok(again) => {
                    self.sleep(&mut net, cx);
                    again
                }
                Err(cause) => {
                    self.end(&mut net, cause, out);
                    true
                }
            }
        };
        shared.wake_all(net);
        out.idle = !again;
        if again || before != (out.frames.len(), out.done, out.room) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    fn close(&mut self, how: CloseHow) {
        if self.reported {
            return;
        }
        match how {
            CloseHow::Drain => {
                self.draining = true;
                self.shared.lock().leaving(self.link, self.end);
            }
            CloseHow::Abort => {
                self.draining = false;
                self.ended = Some(LinkFault::ClosedHere);
            }
        }
    }

    fn detach(mut self: Box<Self>) -> Result<Box<dyn Parked>, LinkFault> {
        if self.reported {
            return Err(LinkFault::ClosedHere);
        }
        self.look_again = None;
        Ok(Box::new(SimParked(self)))
    }
}

impl Drop for SimLink {
    fn drop(&mut self) {
        if !self.reported {
            self.shared.change(|net| net.leave(self.link, self.end, false));
        }
    }
}

/// A simulated link belongs to no reactor.
struct SimParked(Box<SimLink>);

impl Parked for SimParked {
    fn attach(self: Box<Self>) -> Result<Box<dyn Link>, LinkFault> {
        Ok(self.0)
    }
}
