//! A link with a plan of faults on both its directions.
//!
//! ```text
//!   each direction:  Free ── Block, Delay ─► Held ── gate opens, time is over ─► Free
//!                      └──── StallAfter ───► Stalled (for ever)
//! ```

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use stellate_protocol::{Frame, Lane, Parcel, Seq};
use tokio::time::Sleep;

use super::counts::Counts;
use super::{Direction, Fault, Faults, Gate};
use crate::address::Address;
use crate::fault::LinkFault;
use crate::limits::LinkLimits;
use crate::link::{Batch, CloseHow, Done, Full, Link, LinkClosed, Parked, Token};
use crate::tokens::Tokens;
use crate::wire::frame_cost;

/// Bytes that a held receiving direction keeps before it stops reading.
const HELD_BYTES_MAX: usize = 1024 * 1024;

/// What a direction waits for.
pub(super) enum Hold {
    None,
    Gate(Gate),
    Delay(Pin<Box<Sleep>>),
    Stalled,
    /// The link is cut instead.
    Cut,
}

impl Hold {
    pub(super) fn of(fault: Fault) -> Self {
        match fault {
            Fault::Block(gate) => Self::Gate(gate),
            Fault::Delay(span) => Self::Delay(Box::pin(tokio::time::sleep(span))),
            Fault::StallAfter => Self::Stalled,
            Fault::Fail => Self::Cut,
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let free = match self {
            Self::None => return Poll::Ready(()),
            Self::Gate(gate) => gate.poll_open(cx),
            Self::Delay(sleep) => sleep.as_mut().poll(cx),
            Self::Stalled | Self::Cut => return Poll::Pending,
        };
        if free.is_ready() {
            *self = Self::None;
        }
        free
    }
}

/// The plan of a link, and whose passages it counts.
struct Passages {
    faults: Faults,
    /// The one that the hello names.
    session: Option<Arc<Counts>>,
}

impl Passages {
    /// Counts a frame at the edge, and says what happens on it.
    fn pass(&mut self, frame: &Frame<Parcel>, direction: Direction) -> Option<Fault> {
        if let Frame::Hello(hello) = frame {
            self.session = Some(self.faults.session(hello.session));
        }
        self.faults.pass(frame.kind().into(), direction, self.session.as_ref())
    }
}

/// Frames that wait in one direction; the first has been counted if `counted`.
struct Side {
    hold: Hold,
    frames: VecDeque<Frame<Parcel>>,
    bytes: usize,
    counted: bool,
}

impl Side {
    fn new() -> Self {
        Self { hold: Hold::None, frames: VecDeque::new(), bytes: 0, counted: false }
    }

    fn push(&mut self, frame: Frame<Parcel>) {
        self.bytes += frame_cost(&frame);
        self.frames.push_back(frame);
    }

    /// A frame comes to the edge: back if it passes at once, as most do; else it is kept here.
    fn meet(
        &mut self,
        frame: Frame<Parcel>,
        passages: &mut Passages,
        direction: Direction,
    ) -> Option<Frame<Parcel>> {
        if !self.frames.is_empty() || !matches!(self.hold, Hold::None) {
            self.push(frame);
            return None;
        }
        if self.takes(passages.pass(&frame, direction)) {
            return Some(frame);
        }
        self.push(frame);
        self.counted = true;
        None
    }

    /// What the plan says of the frame at the edge. Whether that passes at once; else it is held.
    fn takes(&mut self, fault: Option<Fault>) -> bool {
        let Some(fault) = fault else {
            return true;
        };
        let after = matches!(fault, Fault::StallAfter);
        self.hold = Hold::of(fault);
        after
    }

    fn pop(&mut self) -> Option<Frame<Parcel>> {
        let frame = self.frames.pop_front()?;
        self.bytes -= frame_cost(&frame);
        self.counted = false;
        Some(frame)
    }

    fn clear(&mut self) {
        self.frames.clear();
        self.bytes = 0;
    }

    /// Whether what held the first frame is over. An error cuts the link.
    fn held(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, LinkFault> {
        match &mut self.hold {
            Hold::Cut => Err(LinkFault::Injected),
            hold => Ok(hold.poll(cx)),
        }
    }

    /// Whether the first frame may pass now. An error cuts the link.
    fn admit(
        &mut self,
        cx: &mut Context<'_>,
        passages: &mut Passages,
        direction: Direction,
    ) -> Result<Poll<()>, LinkFault> {
        if self.held(cx)?.is_pending() {
            return Ok(Poll::Pending);
        }
        let Some(frame) = self.frames.front() else {
            return Ok(Poll::Pending);
        };
        if !self.counted {
            self.counted = true;
            let fault = passages.pass(frame, direction);
            if !self.takes(fault) {
                return self.held(cx);
            }
        }
        Ok(Poll::Ready(()))
    }
}

pub(super) struct FaultLink {
    inner: Box<dyn Link>,
    passages: Passages,
    tokens: Tokens,
    inner_done: u64,
    sending: Side,
    receiving: Side,
    starved: bool,
    closing: Option<CloseHow>,
    inner_closed: Option<LinkClosed>,
    reported: bool,
    scratch: Batch,
}

impl FaultLink {
    pub(super) fn new(inner: Box<dyn Link>, faults: Faults) -> Self {
        Self {
            inner,
            passages: Passages { faults, session: None },
            tokens: Tokens::default(),
            inner_done: 0,
            sending: Side::new(),
            receiving: Side::new(),
            starved: false,
            closing: None,
            inner_closed: None,
            reported: false,
            scratch: Batch::default(),
        }
    }

    /// Passes held frames on to the inner link.
    fn drive_sending(&mut self, cx: &mut Context<'_>) -> Result<(), LinkFault> {
        while !self.sending.frames.is_empty() && self.inner.room() > 0 {
            if self.sending.admit(cx, &mut self.passages, Direction::Sent)?.is_pending() {
                return Ok(());
            }
            let Some(frame) = self.sending.pop() else {
                return Ok(());
            };
            self.submit_inner(frame);
        }
        Ok(())
    }

    fn submit_inner(&mut self, frame: Frame<Parcel>) {
        if let Err(full) = self.inner.submit(frame) {
            // It closed meanwhile: its report follows.
            drop(full);
        }
    }

    /// Polls the inner link once and takes its report apart; whether it is ready. Whether it is idle
    /// stays in the scratch batch.
    fn drive_inner(&mut self, cx: &mut Context<'_>, out: &mut Batch) -> Poll<()> {
        self.scratch.clear();
        if self.inner_closed.is_some() || self.receiving.bytes >= HELD_BYTES_MAX {
            return Poll::Pending;
        }
        let polled = self.inner.poll(cx, &mut self.scratch);
        for frame in self.scratch.frames.drain(..) {
            out.frames.extend(self.receiving.meet(frame, &mut self.passages, Direction::Received));
        }
        if let Some(Done { upto, failed }) = self.scratch.done.take() {
            let over = upto.0 - self.inner_done;
            self.inner_done = upto.0;
            // Failed ones are reported with ours, at the end.
            self.tokens.sent(over - failed.min(over), out);
        }
        // It may have had room all along, but for chunks.
        out.room |= self.scratch.room;
        self.inner_closed = self.scratch.closed.take().or(self.inner_closed.take());
        polled
    }

    fn drive_receiving(&mut self, cx: &mut Context<'_>, out: &mut Batch) -> Result<(), LinkFault> {
        while !self.receiving.frames.is_empty() {
            let side = &mut self.receiving;
            if matches!(side.hold, Hold::Stalled) {
                // A stalled direction never moves again: what arrives is dropped, so it stays
                // bounded.
                side.clear();
                return Ok(());
            }
            if side.admit(cx, &mut self.passages, Direction::Received)?.is_pending() {
                return Ok(());
            }
            out.frames.extend(side.pop());
        }
        Ok(())
    }

    fn cut(&mut self, cx: &mut Context<'_>, out: &mut Batch, cause: LinkFault) {
        if self.inner_closed.is_none() {
            self.inner.close(CloseHow::Abort);
            self.scratch.clear();
            let _ = self.inner.poll(cx, &mut self.scratch);
        }
        self.finish(out, cause);
    }

    fn finish(&mut self, out: &mut Batch, cause: LinkFault) {
        self.sending.clear();
        self.receiving.clear();
        self.tokens.fail_open(out);
        out.closed = Some(LinkClosed { cause });
        self.reported = true;
    }

    /// One step; whether there is more to do at once.
    fn try_poll(&mut self, cx: &mut Context<'_>, out: &mut Batch) -> Result<bool, LinkFault> {
        self.drive_sending(cx)?;
        if self.closing == Some(CloseHow::Drain) && self.sending.frames.is_empty() {
            self.inner.close(CloseHow::Drain);
        }
        // One report of the inner link, then the caller's turn: its bound is ours (F7).
        let ready = self.drive_inner(cx, out).is_ready();
        let idle = self.scratch.idle;
        let held = self.sending.frames.len();
        self.drive_sending(cx)?;
        self.drive_receiving(cx, out)?;
        out.idle = idle && held == 0 && self.receiving.frames.is_empty();
        // What went into room that has just come is moved by another poll of the inner link.
        Ok((ready && !idle) || self.sending.frames.len() < held)
    }
}

impl Link for FaultLink {
    fn limits(&self) -> &LinkLimits {
        self.inner.limits()
    }

    fn peer(&self) -> Address {
        self.inner.peer()
    }

    fn submit(&mut self, frame: Frame<Parcel>) -> Result<Token, Full> {
        let closed = self.reported || self.closing.is_some() || self.inner_closed.is_some();
        if closed || self.room() == 0 {
            self.starved = true;
            return Err(Full::new(frame, closed));
        }
        if let Some(frame) = self.sending.meet(frame, &mut self.passages, Direction::Sent) {
            self.submit_inner(frame);
        }
        self.starved |= self.room() == 0;
        Ok(self.tokens.issue())
    }

    fn takes_chunks(&self) -> bool {
        self.inner.takes_chunks()
    }

    fn expect(&mut self, lane: Lane, seq: Seq, data_len: u32) {
        self.inner.expect(lane, seq, data_len);
    }

    fn room(&self) -> usize {
        if self.reported || self.closing.is_some() {
            return 0;
        }
        self.inner.room().saturating_sub(self.sending.bytes)
    }

    fn poll(&mut self, cx: &mut Context<'_>, out: &mut Batch) -> Poll<()> {
        if self.reported {
            return Poll::Pending;
        }
        if self.closing == Some(CloseHow::Abort) {
            self.cut(cx, out, LinkFault::ClosedHere);
            return Poll::Ready(());
        }
        let before = (out.frames.len(), out.done);
        let again = match self.try_poll(cx, out) {
            Ok(again) => again,
            Err(cause) => {
                self.cut(cx, out, cause);
                return Poll::Ready(());
            }
        };
        let delivered = self.receiving.frames.is_empty();
        if delivered && let Some(closed) = self.inner_closed.take() {
            self.finish(out, closed.cause);
        } else if self.starved && self.room() > 0 {
            self.starved = false;
            out.room = true;
        }
        let reported = before != (out.frames.len(), out.done) || out.room || self.reported;
        if again || reported { Poll::Ready(()) } else { Poll::Pending }
    }

    fn close(&mut self, how: CloseHow) {
        if self.closing != Some(CloseHow::Abort) {
            self.closing = Some(how);
        }
    }

    fn detach(self: Box<Self>) -> Result<Box<dyn Parked>, LinkFault> {
        let this = *self;
        let inner = this.inner.detach()?;
        Ok(Box::new(FaultParked {
            inner,
            rest: Rest {
                passages: this.passages,
                tokens: this.tokens,
                inner_done: this.inner_done,
                sending: this.sending,
                receiving: this.receiving,
                starved: this.starved,
                closing: this.closing,
            },
        }))
    }
}

/// What a fault link keeps while its inner link is between two reactors.
struct Rest {
    passages: Passages,
    tokens: Tokens,
    inner_done: u64,
    sending: Side,
    receiving: Side,
    starved: bool,
    closing: Option<CloseHow>,
}

struct FaultParked {
    inner: Box<dyn Parked>,
    rest: Rest,
}

impl Parked for FaultParked {
    fn attach(self: Box<Self>) -> Result<Box<dyn Link>, LinkFault> {
        let Self { inner, rest } = *self;
        let mut link = FaultLink::new(inner.attach()?, rest.passages.faults);
        link.passages.session = rest.passages.session;
        link.tokens = rest.tokens;
        link.inner_done = rest.inner_done;
        link.sending = rest.sending;
        link.receiving = rest.receiving;
        link.starved = rest.starved;
        link.closing = rest.closing;
        Ok(Box::new(link))
    }
}
