//! One connection of a byte stream: TCP, or whatever else [`ByteStream`] is implemented for.
//!
//! ```text
//!   Open ── close(Drain) ─► Draining ── all written, FIN ─► Lingering ── peer's FIN, linger ─┐
//!     │                        │                                                             ▼
//!     └── fault, peer, Abort ──┴───────────────────────────► Ended(cause) ── reported ─► Closed
//! ```
//!
//! A drain waits for the peer's FIN before the socket goes: a socket dropped with unread bytes
//! sends a reset, which can overtake and destroy what was sent last.

use std::future::Future;
use std::io::IoSlice;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use stellate_protocol::codec::{CodecError, Decoder, First, Outbound};
use stellate_protocol::{Frame, Lane, Parcel, Seq};
use tokio::io::{AsyncReadExt, ReadBuf};
use tokio::runtime::Handle;
use tokio::time::{Instant, Sleep};

use super::pool::Pool;
use super::spin::Spin;
use super::stream::ByteStream;
use super::{ByteCut, TcpOptions};
use crate::address::Address;
use crate::bell::Ear;
use crate::fault::LinkFault;
use crate::limits::LinkLimits;
use crate::link::{
    BYTES_PER_POLL, Batch, CloseHow, FRAMES_PER_POLL, Full, FullBytes, Link, LinkClosed, Parked,
    Token,
};
use crate::tokens::Tokens;
use crate::wire::FrameWriter;

/// Pieces of memory in one vectored write.
const GATHER_MAX: usize = LinkLimits::STREAM.gather_max;
/// Fewest bytes that a read asks for.
const SPARE_MIN: usize = 8 * 1024;

/// Reads that fill less than a quarter of a large buffer before it is given back.
const SMALL_READS_MAX: u8 = 64;

/// What outlives a change of reactors.
struct Core {
    peer: Address,
    limits: LinkLimits,
    writer: FrameWriter,
    tokens: Tokens,
    decoder: Decoder,
    /// Read and not decoded.
    input: Bytes,
    pool: Arc<Pool>,
    read_size: usize,
    read_min: usize,
    read_max: usize,
    small_reads: u8,
    spin: Duration,
    linger: Duration,
    cut: Option<ByteCut>,
    /// Somebody was told that there is no room.
    starved: bool,
    /// Draining, once attached again.
    draining: bool,
    /// What broke the sending direction, while the receiving one is read to its end.
    send_fault: Option<LinkFault>,
}

enum State {
    Open,
    Draining,
    Lingering(Pin<Box<Sleep>>),
    Ended(LinkFault),
    Closed,
}

pub(crate) struct StreamLink<S> {
    stream: Option<S>,
    state: State,
    ear: Ear,
    reading: Reading,
    spin: Spin,
    core: Core,
}

/// What is known of the next read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// It found nothing, and the bell will ring when that changes.
    Waits,
    /// It may find something.
    Asks,
    /// The bell rang: it is likely to.
    Called,
}

impl<S: ByteStream> StreamLink<S> {
    pub(crate) fn new(
        stream: S,
        peer: Address,
        limits: LinkLimits,
        options: &TcpOptions,
        pool: Arc<Pool>,
        first: First,
    ) -> Self {
        let core = Core {
            peer,
            limits,
            writer: FrameWriter::default(),
            tokens: Tokens::default(),
            decoder: Decoder::new(options.wire, first),
            input: Bytes::new(),
            pool,
            read_size: options.read_min.max(SPARE_MIN),
            read_min: options.read_min.max(SPARE_MIN),
            read_max: options.read_max.max(options.read_min),
            small_reads: 0,
            spin: options.spin,
            linger: options.linger,
            cut: options.cut.clone(),
            starved: false,
            draining: false,
            send_fault: None,
        };
        Self::made(stream, State::Open, core)
    }

    fn made(stream: S, state: State, core: Core) -> Self {
        let (ear, reading, spin) = (Ear::new(), Reading::Asks, Spin::new(core.spin));
        Self { stream: Some(stream), state, ear, reading, spin, core }
    }

    /// Writes until all is written, the kernel is full, or enough for one poll (F7).
    /// Whether there is more to do at once.
    fn flush(&mut self, cx: &mut Context<'_>, out: &mut Batch) -> Result<bool, LinkFault> {
        let Some(stream) = &mut self.stream else {
            return Ok(false);
        };
        let core = &mut self.core;
        let mut moved = 0;
        while !core.writer.is_empty() && core.send_fault.is_none() {
            if moved >= BYTES_PER_POLL {
                return Ok(true);
            }
            let n = match core.write(Pin::new(stream), cx) {
                Poll::Pending => break,
                Poll::Ready(Err(error)) if error.kind() == std::io::ErrorKind::Interrupted => {
                    continue;
                }
                Poll::Ready(Err(error)) => {
                    // What the peer said before it went is still to be read (S9).
                    core.send_fault = Some(LinkFault::from_io(&error));
                    break;
                }
                Poll::Ready(Ok(n)) => n,
            };
            moved += n;
            let completed = core.writer.advance(n);
            core.tokens.sent(completed, out);
            if core.cut.as_ref().is_some_and(|cut| cut.wrote(n)) {
                return Err(LinkFault::Injected);
            }
        }
        if core.writer.is_empty() && core.tokens.open() > 0 {
            // A submit without bytes is over too, also with nothing behind it (F1).
            core.tokens.sent(core.writer.advance(0), out);
        }
        if core.starved && core.writer.len() <= core.limits.send_bytes / 2 {
            core.starved = false;
            out.room = true;
        }
        Ok(false)
    }

    /// Reads and decodes until nothing is left or enough for one poll (F7).
    /// Whether there is more to do at once.
    fn fill(&mut self, cx: &mut Context<'_>, out: &mut Batch) -> Result<bool, LinkFault> {
        let Some(stream) = &mut self.stream else {
            return Ok(false);
        };
        let core = &mut self.core;
        let mut moved = 0;
        let frames_max = out.frames.len() + FRAMES_PER_POLL;
        if self.reading == Reading::Waits {
            return Ok(false);
        }
        loop {
            let decoded = out.frames.len();
            let full = core.decoder.decode_into(&mut core.input, &mut out.frames, frames_max);
            if core.pool.is_short() {
                out.frames[decoded..].iter_mut().for_each(own_memory);
            }
            if full.map_err(LinkFault::Malformed)? || moved >= BYTES_PER_POLL {
                return Ok(true);
            }
            let reading = std::mem::replace(&mut self.reading, Reading::Asks);
            match core.read(stream, reading, cx) {
                Poll::Pending => {
                    self.reading = Reading::Waits;
                    return Ok(false);
                }
                Poll::Ready(Ok(0)) => return Err(core.end_of_stream()),
                Poll::Ready(Ok(n)) => moved += n,
                Poll::Ready(Err(error)) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Poll::Ready(Err(error)) => return Err(LinkFault::from_io(&error)),
            }
        }
    }

    /// Waits, or looks again soon. A look is the reactor's: it asks the kernel for what came on any of
    /// its sockets, without sleeping, before this link's task has its next turn.
    fn rest(&mut self, came: bool, moved: bool, again: bool, cx: &mut Context<'_>) {
        if again || !matches!((&self.state, self.reading), (State::Open, Reading::Waits)) {
            return self.spin.works();
        }
        if !moved {
            // Woken for something else; that ends no wait.
            if !self.spin.is_looking() {
                return;
            }
            // Should the peer, or whoever has something for it, want this very core.
            std::thread::yield_now();
        }
        let now = Instant::now();
        if came {
            self.spin.came(now);
        }
        if self.spin.waits(now, moved) {
            let woken_after_a_look = pin!(tokio::task::yield_now()).poll(cx);
            debug_assert!(woken_after_a_look.is_pending());
        }
    }

    /// Reads to the peer's FIN and drops what comes.
    fn discard(&mut self, cx: &mut Context<'_>) -> Result<bool, LinkFault> {
        let Some(stream) = &mut self.stream else {
            return Ok(false);
        };
        let core = &mut self.core;
        let mut moved = 0;
        while moved < BYTES_PER_POLL {
            core.input.clear();
            match core.read(stream, Reading::Asks, cx) {
                Poll::Pending => return Ok(false),
                Poll::Ready(Ok(0) | Err(_)) => return Err(LinkFault::ClosedHere),
                Poll::Ready(Ok(n)) => moved += n,
            }
        }
        Ok(true)
    }

    /// One step of the state machine; whether there is more to do at once.
    fn step(&mut self, cx: &mut Context<'_>, out: &mut Batch) -> Result<bool, LinkFault> {
        let again = match &mut self.state {
            State::Open => self.flush(cx, out)? | self.fill(cx, out)?,
            State::Draining => {
                let again = self.flush(cx, out)? | self.fill(cx, out)?;
                if let Some(fault) = self.core.send_fault.take() {
                    return Err(fault);
                }
                if self.core.writer.is_empty() {
                    return self.finish(cx);
                }
                again
            }
            State::Lingering(sleep) => {
                if sleep.as_mut().poll(cx).is_ready() {
                    return Err(LinkFault::ClosedHere);
                }
                self.discard(cx)?
            }
            State::Ended(cause) => return Err(cause.clone()),
            State::Closed => false,
        };
        Ok(again)
    }

    /// All is written: says FIN and waits for the peer's.
    fn finish(&mut self, cx: &mut Context<'_>) -> Result<bool, LinkFault> {
        if let Some(stream) = &mut self.stream
            && let Poll::Ready(Err(error)) = Pin::new(stream).poll_shutdown(cx)
        {
            return Err(LinkFault::from_io(&error));
        }
        let linger = Box::pin(tokio::time::sleep(self.core.linger));
        self.state = State::Lingering(linger);
        Ok(true)
    }

    /// The last report: every open token fails (F1), every buffer goes (F8).
    fn end(&mut self, cause: LinkFault, out: &mut Batch) {
        let cause = match (cause, self.core.send_fault.take()) {
            (LinkFault::ClosedByPeer, Some(fault)) => fault,
            (cause, _) => cause,
        };
        if let Some(stream) = self.stream.take()
            && !cause.is_orderly()
        {
            stream.reset();
        }
        self.core.tokens.fail_open(out);
        self.core.writer.clear();
        self.core.decoder.forget_all();
        self.core.input = Bytes::new();
        self.state = State::Closed;
        out.closed = Some(LinkClosed { cause });
    }
}

/// Not inlined: an array of so many slices costs more than a small write, also where it is not used.
#[inline(never)]
fn write_vectored<S: ByteStream>(
    queue: &Outbound,
    stream: Pin<&mut S>,
    cx: &mut Context<'_>,
) -> Poll<std::io::Result<usize>> {
    let mut slices = [IoSlice::new(&[]); GATHER_MAX];
    let filled = queue.io_slices(&mut slices);
    stream.poll_write_vectored(cx, &slices[..filled])
}

/// Users hold much of what was read: what this one keeps is to cost what it is.
#[cold]
fn own_memory(frame: &mut Frame<Parcel>) {
    if let Frame::Message(message) | Frame::Announce(message) = frame {
        message.payload.own_memory();
    }
}

impl Core {
    fn write<S: ByteStream>(
        &mut self,
        stream: Pin<&mut S>,
        cx: &mut Context<'_>,
    ) -> Poll<std::io::Result<usize>> {
        let queue = self.writer.queue();
        if let Some(cut) = &self.cut
            && cut.is_armed()
        {
            let first = queue.chunk();
            return stream.poll_write(cx, &first[..cut.allowed(first.len())]);
        }
        match queue.as_one() {
            Some(one) => stream.poll_write(cx, one),
            None => write_vectored(queue, stream, cx),
        }
    }

    fn read<S: ByteStream>(
        &mut self,
        stream: &mut S,
        reading: Reading,
        cx: &mut Context<'_>,
    ) -> Poll<std::io::Result<usize>> {
        if let Some(mut body) = self.decoder.direct() {
            return pin!(stream.read_buf(&mut body)).poll(cx);
        }
        // No buffer is taken before there is something to put into it.
        if reading == Reading::Asks {
            ready!(stream.poll_may_read(cx))?;
        }
        let kept = self.input.len();
        let mut buffer = self.pool.take_at_hand(self.read_size.max(kept + SPARE_MIN));
        // Half a frame, at most a short body and its header: it goes on in the new buffer.
        buffer[..kept].copy_from_slice(&self.input);
        // Unlike `try_read` it knows that a short read was the last one for now.
        let mut space = ReadBuf::new(&mut buffer[kept..]);
        let read = Pin::new(&mut *stream).poll_read(cx, &mut space);
        let read = read.map_ok(|()| space.filled().len());
        match read {
            Poll::Ready(Ok(n)) if n > 0 => {
                self.adapt(n, buffer.len() - kept);
                self.input = self.pool.lend(buffer, kept + n);
            }
            _ => self.pool.put_at_hand(buffer),
        }
        read
    }

    /// Large reads while there is much to read.
    fn adapt(&mut self, n: usize, spare: usize) {
        if n == spare && spare >= self.read_size / 2 {
            self.read_size = (self.read_size * 2).min(self.read_max);
            self.small_reads = 0;
        } else if self.read_size > self.read_min && n < self.read_size / 4 {
            self.small_reads += 1;
            if self.small_reads >= SMALL_READS_MAX {
                self.small_reads = 0;
                self.read_size = self.read_min;
            }
        }
    }

    fn end_of_stream(&self) -> LinkFault {
        if self.decoder.is_between_frames() && self.input.is_empty() {
            LinkFault::ClosedByPeer
        } else {
            LinkFault::Truncated
        }
    }
}

impl<S: ByteStream> Link for StreamLink<S> {
    fn limits(&self) -> &LinkLimits {
        &self.core.limits
    }

    fn peer(&self) -> Address {
        self.core.peer.clone()
    }

    fn submit(&mut self, frame: Frame<Parcel>) -> Result<Token, Full> {
        let open = matches!(self.state, State::Open);
        if !open || self.room() == 0 {
            self.core.starved |= open;
            return Err(Full::new(frame, !open));
        }
        if let Err(error) = self.core.writer.push(&frame) {
            self.state = State::Ended(LinkFault::Malformed(error));
        }
        self.core.starved |= self.room() == 0;
        Ok(self.core.tokens.issue())
    }

    fn takes_bytes(&self) -> bool {
        true
    }

    fn spare_bytes(&mut self) -> Outbound {
        self.core.writer.take_spare()
    }

    fn submit_bytes(&mut self, frames: Outbound) -> Result<Token, FullBytes> {
        let open = matches!(self.state, State::Open);
        if !open || self.room() == 0 {
            self.core.starved |= open;
            return Err(FullBytes { frames, closed: !open });
        }
        self.core.writer.push_bytes(frames);
        self.core.starved |= self.room() == 0;
        Ok(self.core.tokens.issue())
    }

    fn expect(&mut self, lane: Lane, seq: Seq, data_len: u32) {
        match self.core.decoder.expect(lane, seq, data_len) {
            Ok(()) | Err(CodecError::AlreadyExpected { .. }) => {}
            Err(error) if matches!(self.state, State::Open | State::Draining) => {
                self.state = State::Ended(LinkFault::Malformed(error));
            }
            Err(_) => {}
        }
    }

    fn room(&self) -> usize {
        match self.state {
            State::Open => self.core.limits.send_bytes.saturating_sub(self.core.writer.len()),
            _ => 0,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, out: &mut Batch) -> Poll<()> {
        if matches!(self.state, State::Closed) {
            return Poll::Pending;
        }
        let before = (out.frames.len(), out.done, out.room);
        if self.ear.listen(cx) {
            self.reading = Reading::Called;
        }
        let bell = self.ear.lend();
        let step = self.step(&mut Context::from_waker(&bell), out);
        self.ear.put_back(bell);
        let again = match step {
            Ok(again) => again,
            Err(cause) => {
                self.end(cause, out);
                true
            }
        };
        let moved = before != (out.frames.len(), out.done, out.room);
        if self.spin.is_on() {
            self.rest(out.frames.len() > before.0, moved, again, cx);
        }
        if again || moved {
            out.idle = !again;
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    fn close(&mut self, how: CloseHow) {
        match (how, &self.state) {
            (_, State::Closed | State::Ended(_)) => {}
            (CloseHow::Drain, State::Open) => self.state = State::Draining,
            (CloseHow::Drain, _) => {}
            (CloseHow::Abort, _) => {
                if let Some(stream) = &self.stream {
                    stream.reset();
                }
                self.state = State::Ended(LinkFault::ClosedHere);
            }
        }
    }

    fn detach(mut self: Box<Self>) -> Result<Box<dyn Parked>, LinkFault> {
        match &self.state {
            State::Open => {}
            State::Draining => self.core.draining = true,
            State::Ended(cause) => return Err(cause.clone()),
            State::Lingering(_) | State::Closed => return Err(LinkFault::ClosedHere),
        }
        let stream = self.stream.ok_or(LinkFault::ClosedHere)?;
        let stream = stream.park().map_err(|error| LinkFault::from_io(&error))?;
        Ok(Box::new(StreamParked::<S> { stream, core: self.core }))
    }
}

struct StreamParked<S: ByteStream> {
    stream: S::Parked,
    core: Core,
}

impl<S: ByteStream> Parked for StreamParked<S> {
    fn attach(self: Box<Self>) -> Result<Box<dyn Link>, LinkFault> {
        if Handle::try_current().is_err() {
            return Err(LinkFault::NoRuntime);
        }
        let stream = S::unpark(self.stream).map_err(|error| LinkFault::from_io(&error))?;
        let state = if self.core.draining { State::Draining } else { State::Open };
        Ok(Box::new(StreamLink::made(stream, state, self.core)))
    }
}
