//! One queue pair as a link.
//!
//! ```text
//!   Open ── close(Drain) ─► Draining ── all done, farewell ─► Lingering ── peer left, linger ─┐
//!     │                        │                                                              ▼
//!     └── fault, peer, Abort ──┴──────────────► Burying(cause) ── all is home ─► Closed, told once
//! ```
//!
//! A link posts on its own queue pair from its own thread; the endpoint brings completions, a
//! batch at a time. Why a link ends it learns from completions, in order: what the peer sent
//! before it left is read first. Burying is the endpoint's: it moves the queue pair to error, and
//! no buffer is used again before it came home.
//!
//! * **F1** A submit is over when its SEND completed, or when the peer has read its chunk.
//! * **F3** Frames arrive as they were submitted, with one freedom: a chunk takes its place when it
//!   has been read, so later frames may pass it, also while it waits for memory here. Chunks never
//!   pass each other.
//! * **F6** See `credit.rs`; the receive of a message is posted again before its credit is
//!   returned, and never waits for a user.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use stellate_protocol::codec::{Decoder, First, Outbound, encode};
use stellate_protocol::frame::Chunk;
use stellate_protocol::{Frame, Lane, Parcel, Seq};
use tokio::time::Sleep;

use super::credit::Credits;
use super::endpoint::Endpoint;
use super::flight::Flight;
use super::greeting::Greeting;
use super::inbox::Inbox;
use super::interest::Share;
use super::options::RdmaOptions;
use super::pool::Pool;
use super::sends::Sends;
use super::sink::{OFFER_MAX, Sinks};
use super::verbs::{Completion, Device, QpTag, QueuePair, Remote, WorkFault};
use crate::address::Address;
use crate::fault::LinkFault;
use crate::limits::LinkLimits;
use crate::link::{Batch, CloseHow, Full, Link, LinkClosed, Parked, Token};
use crate::tokens::Tokens;

/// What the endpoint makes a link of.
pub(super) struct Parts {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) tag: QpTag,
    pub(super) pair: Arc<dyn QueuePair>,
    pub(super) device: Arc<dyn Device>,
    pub(super) pool: Arc<Pool>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) peer: Address,
    pub(super) theirs: Greeting,
    /// READs that may be under way at once.
    pub(super) reads: u8,
    pub(super) dialled: bool,
}

/// What a SEND or READ on its way carries.
pub(super) enum Sent {
    /// The so many-th message of frames.
    Frames(u64),
    /// An offer, a return, a farewell.
    Other,
    Read,
}

/// What waits to be sent, in order.
pub(super) enum Mark {
    /// So many bytes of the stream, the end of a submit.
    Frame(usize),
    Chunk(Box<Chunk<Parcel>>),
}

/// Of what there was no room.
#[derive(Debug, Default)]
struct Starved {
    frames: bool,
    chunks: bool,
}

pub(super) enum State {
    Open,
    Draining,
    Lingering(Pin<Box<Sleep>>),
    Burying(LinkFault),
    Closed,
}

pub(super) struct RdmaLink {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) tag: QpTag,
    pub(super) pair: Arc<dyn QueuePair>,
    pub(super) device: Arc<dyn Device>,
    pub(super) pool: Arc<Pool>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) peer: Address,
    pub(super) limits: LinkLimits,
    pub(super) options: Arc<RdmaOptions>,
    pub(super) state: State,
    /// Whether it may speak: the dialler does first.
    pub(super) heard: bool,

    pub(super) credits: Credits,
    pub(super) sends: Sends<Sent>,
    /// SENDs under way: each has a slot.
    pub(super) sends_open: u32,
    /// What the endpoint does for them.
    share: Share,
    /// Why work failed that was sent.
    pub(super) failed: Option<WorkFault>,
    /// Bytes of a message: the smaller of the two sides' slots.
    pub(super) message_max: usize,
    pub(super) inline_max: usize,
    /// Encoded frames, and where each ends.
    pub(super) stream: Outbound,
    pub(super) marks: VecDeque<Mark>,
    /// Chunks whose turn it is: they wait for nothing but memory.
    pub(super) chunks: VecDeque<Box<Chunk<Parcel>>>,
    pub(super) flight: Flight,
    /// What the peer is reading.
    pub(super) exports: VecDeque<(Remote, Bytes)>,
    pub(super) tokens: Tokens,
    /// It had no room for frames, or for chunks.
    starved: Starved,

    pub(super) mail: VecDeque<Completion>,
    pub(super) receives: u32,
    pub(super) decoder: Decoder,
    /// What is left of the message that is being decoded.
    pub(super) input: Bytes,
    /// The first part of a frame that is longer than a message.
    pub(super) partial: BytesMut,
    pub(super) sinks: Sinks,
    /// Offers that were read and that the peer was not told of.
    pub(super) released: u16,
    pub(super) farewell: bool,
}

impl RdmaLink {
    pub(super) fn new(parts: Parts) -> Self {
        let options = parts.endpoint.options().clone();
        let first = if parts.dialled { First::Answer } else { First::Hello };
        let info = parts.device.info();
        let granted = parts.pair.granted();
        let depth = options.queue_pair(info);
        let slot = options.pool.slot.min(parts.theirs.slot as usize);
        Self {
            limits: options.limits(),
            state: State::Open,
            heard: parts.dialled,
            credits: Credits::new(depth.recv_depth, parts.theirs.ring),
            sends: Sends::new(depth.send_depth),
            sends_open: 0,
            share: Share::new(&parts.endpoint.interest),
            failed: None,
            message_max: slot,
            inline_max: granted.inline_max as usize,
            stream: Outbound::new(),
            marks: VecDeque::new(),
            chunks: VecDeque::new(),
            flight: Flight::default(),
            exports: VecDeque::new(),
            tokens: Tokens::default(),
            starved: Starved::default(),
            mail: VecDeque::new(),
            receives: 0,
            decoder: Decoder::new(options.wire, first),
            input: Bytes::new(),
            partial: BytesMut::new(),
            sinks: Sinks::new(
                parts.pool.clone(),
                options.wire.data_max,
                parts.reads,
                options.read_bytes,
            ),
            released: 0,
            farewell: false,
            endpoint: parts.endpoint,
            tag: parts.tag,
            pair: parts.pair,
            device: parts.device,
            pool: parts.pool,
            inbox: parts.inbox,
            peer: parts.peer,
            options,
        }
    }

    fn is_over(&self) -> bool {
        matches!(self.state, State::Burying(_) | State::Closed)
    }

    /// One step of the state machine; whether there is more to do at once.
    fn step(&mut self, cx: &mut Context<'_>, out: &mut Batch) -> Result<bool, LinkFault> {
        let again = self.receive(cx, out)?;
        match &mut self.state {
            State::Open => {
                self.pump(cx)?;
                self.report(out);
            }
            State::Draining => {
                self.pump(cx)?;
                self.report(out);
                if self.flight.is_empty() && self.say_farewell()? {
                    let linger = tokio::time::sleep(self.options.linger);
                    self.state = State::Lingering(Box::pin(linger));
                    return Ok(true);
                }
            }
            State::Lingering(sleep) => {
                if sleep.as_mut().poll(cx).is_ready() {
                    return Err(LinkFault::ClosedHere);
                }
                self.pump(cx)?;
            }
            State::Burying(_) | State::Closed => {}
        }
        Ok(again)
    }

    /// Tells what is over, and that there is room again.
    fn report(&mut self, out: &mut Batch) {
        let over = self.flight.take_over();
        self.tokens.sent(over, out);
        let half = self.limits.send_bytes / 2;
        if self.starved.frames && self.taken() <= half {
            self.starved.frames = false;
            out.room = true;
        }
        if self.starved.chunks && self.flight.chunk_bytes() <= half {
            self.starved.chunks = false;
            out.room = true;
        }
    }

    /// Bytes of the room for frames that are taken. Chunks that nobody [asked
    /// for](Link::takes_chunks) count there, so that there is an end to them.
    fn taken(&self) -> usize {
        let most = self.limits.send_bytes + OFFER_MAX as usize;
        self.flight.frame_bytes() + self.flight.chunk_bytes().saturating_sub(most)
    }

    /// Whether it waits for what it sent, rather than for its peer.
    fn waits(&self) -> bool {
        !matches!(self.state, State::Open)
            || self.starved.frames
            || self.starved.chunks
            || self.sinks.is_reading()
            || self.sends.room() == 0
            || self.sends_open >= self.options.sends / 2
            || self.flight.frame_bytes() + self.flight.chunk_bytes() > self.limits.send_bytes / 2
    }

    /// It is over: nothing more is sent or read, and what is posted comes home.
    fn bury(&mut self, cause: LinkFault) {
        self.stream.clear();
        self.marks.clear();
        self.chunks.clear();
        self.mail.clear();
        self.input = Bytes::new();
        self.partial = BytesMut::new();
        self.decoder.forget_all();
        self.sinks.clear();
        self.state = State::Burying(cause);
        // From here on the endpoint waits, for all of it.
        let _ = self.share.set(false, false);
        self.endpoint.bury(self.tag);
    }

    /// All is home: the last report.
    fn end(&mut self, cause: LinkFault, out: &mut Batch) {
        self.withdraw_all();
        self.tokens.fail_open(out);
        self.state = State::Closed;
        out.closed = Some(LinkClosed { cause });
    }

    fn withdraw_all(&mut self) {
        for (remote, _) in self.exports.drain(..) {
            self.device.withdraw(remote);
        }
    }
}

impl Link for RdmaLink {
    fn limits(&self) -> &LinkLimits {
        &self.limits
    }

    fn peer(&self) -> Address {
        self.peer.clone()
    }

    fn submit(&mut self, frame: Frame<Parcel>) -> Result<Token, Full> {
        let open = matches!(self.state, State::Open);
        if !open || self.room() == 0 {
            self.starved.frames |= open;
            return Err(Full::new(frame, !open));
        }
        match frame {
            Frame::Chunk(chunk) if chunk.len > 0 && chunk.part.is_some() => {
                self.flight.accept_chunk(chunk.len as usize);
                self.marks.push_back(Mark::Chunk(Box::new(chunk)));
            }
            frame => {
                let before = self.stream.len();
                if let Err(error) = encode(&frame, &mut self.stream) {
                    self.inbox.open().ended.get_or_insert(LinkFault::Malformed(error));
                }
                let len = self.stream.len() - before;
                self.flight.accept_frame(len);
                self.marks.push_back(Mark::Frame(len));
            }
        }
        self.starved.frames |= self.room() == 0;
        self.starved.chunks |= !self.takes_chunks();
        Ok(self.tokens.issue())
    }

    fn takes_chunks(&self) -> bool {
        self.flight.chunk_bytes() < self.limits.send_bytes
    }

    fn expect(&mut self, lane: Lane, seq: Seq, data_len: u32) {
        if !self.is_over()
            && let Err(fault) = self.sinks.expect(lane, seq, data_len)
        {
            self.inbox.open().ended.get_or_insert(fault);
        }
    }

    fn room(&self) -> usize {
        match self.state {
            State::Open => self.limits.send_bytes.saturating_sub(self.taken()),
            _ => 0,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, out: &mut Batch) -> Poll<()> {
        if matches!(self.state, State::Closed) {
            return Poll::Pending;
        }
        let before = (out.frames.len(), out.done, out.room);
        let mut again = false;
        if !self.is_over() {
            match self.step(cx, out) {
                Ok(more) => {
                    again = more;
                    let wish = self.share.set(self.waits(), self.sends_open > 0);
                    self.endpoint.grant(wish);
                }
                Err(cause) => {
                    // What was sent before the end is told as sent.
                    self.report(out);
                    self.bury(cause);
                }
            }
        }
        if let State::Burying(cause) = &self.state {
            let cause = cause.clone();
            let mut mail = self.inbox.open();
            let home = mail.home;
            mail.completions.clear();
            if !home {
                mail.watch(cx.waker());
            }
            drop(mail);
            if home {
                self.end(cause, out);
                return Poll::Ready(());
            }
        }
        if again || before != (out.frames.len(), out.done, out.room) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    fn close(&mut self, how: CloseHow) {
        match (how, &self.state) {
            (_, State::Closed | State::Burying(_)) => {}
            (CloseHow::Drain, State::Open) => self.state = State::Draining,
            (CloseHow::Drain, _) => {}
            (CloseHow::Abort, _) => self.bury(LinkFault::ClosedHere),
        }
    }

    fn detach(self: Box<Self>) -> Result<Box<dyn Parked>, LinkFault> {
        match &self.state {
            State::Open | State::Draining => Ok(Box::new(RdmaParked(self))),
            State::Burying(cause) => Err(cause.clone()),
            State::Lingering(_) | State::Closed => Err(LinkFault::ClosedHere),
        }
    }
}

impl std::fmt::Debug for RdmaLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RdmaLink({} to {})", self.tag.0, self.peer)
    }
}

impl Drop for RdmaLink {
    fn drop(&mut self) {
        if !self.is_over() {
            self.bury(LinkFault::ClosedHere);
        }
        self.withdraw_all();
    }
}

/// It belongs to no reactor: its descriptors are the endpoint's.
struct RdmaParked(Box<RdmaLink>);

impl Parked for RdmaParked {
    fn attach(self: Box<Self>) -> Result<Box<dyn Link>, LinkFault> {
        Ok(self.0)
    }
}
