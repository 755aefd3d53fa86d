//! The four traits of a transport, and the laws that every transport keeps.
//!
//! ```text
//!   Transport ── dial ─────────────► Link ── submit ► … ► Done      (one per accepted frame)
//!       │                             │
//!       └─ listen ► Listener ─ accept ┘── poll ► frames, done, room, closed
//!
//!   Link: Open ── close(Drain) ─► Draining ─┐
//!           │ ── close(Abort) ──────────────┼─► Closed: reported once, then silent
//!           └──── fault or peer ────────────┘
//! ```
//!
//! The interface is completion-shaped and frame-shaped: submit work, get its `Done`, never block.
//! It is not a byte stream. One contract suite, `tests/contract.rs`, holds every transport to:
//!
//! * **F1** Every accepted submit yields exactly one `Done`, also after close.
//! * **F2** A buffer belongs to the transport until its `Done`: the link holds the handle.
//! * **F3** The frames of a link arrive whole and in order, or the link closes. Chunks keep their own
//!   order and may arrive later than other frames that were submitted behind them.
//! * **F4** Nothing arrives after `closed` was reported.
//! * **F5** A refused submit leaves no trace, and gives the frame back.
//! * **F6** Slots spent never exceed slots granted.
//! * **F7** The work of one poll is bounded: [`FRAMES_PER_POLL`], [`BYTES_PER_POLL`].
//! * **F8** Dropping a link, listener or transport returns every buffer.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use stellate_protocol::codec::{Outbound, WireLimits};
use stellate_protocol::{Frame, Lane, Parcel, Seq};

use crate::address::Address;
use crate::error::{AcceptError, DialError, ListenError};
use crate::fault::LinkFault;
use crate::limits::LinkLimits;
use crate::rdma::Lease;

/// Most frames that one poll of a link reports (F7).
pub const FRAMES_PER_POLL: usize = 256;
/// Bytes after which one poll of a link stops, in each direction (F7). One read may overshoot.
pub const BYTES_PER_POLL: usize = 1024 * 1024;

/// Makes links of one scheme. A cheap handle.
pub trait Transport: Send + Sync {
    /// The scheme of the addresses it serves.
    fn scheme(&self) -> &'static str;

    /// The limits of the links it will make. A link's own [`Link::limits`] is the last word.
    fn limits(&self) -> &LinkLimits;

    /// Dials. The link belongs to the runtime that polls the future; dropping the future gives
    /// the dial up without a trace. There is no time limit here but the fabric's own: the caller
    /// sets one.
    ///
    /// # Errors
    /// The future resolves to a [`DialError`] that says who is to blame.
    fn dial(&self, to: &Address) -> BoxFuture<'static, Result<Box<dyn Link>, DialError>>;

    /// Listens. Must be called in the runtime that will poll the listener.
    ///
    /// # Errors
    /// [`ListenError`], for example when the port is in use.
    fn listen(&self, at: &Address) -> Result<Box<dyn Listener>, ListenError>;

    /// The same transport for a messenger that takes frames of these limits, which overrule what it was
    /// made with: a link that refuses what the peer was allowed to send would end the session. None if
    /// it goes by them already, or does not decode.
    fn taking(&self, wire: WireLimits) -> Option<Arc<dyn Transport>> {
        let _ = wire;
        None
    }

    /// What drives all its links, where they share a source of events: somebody is to poll it from
    /// now on, until it is dropped. None if there is nothing to drive, or somebody does already;
    /// a transport that nobody asked drives itself.
    fn engine(&self) -> Option<Box<dyn Engine>> {
        None
    }

    /// Memory that this transport sends from without a copy, at least `len` bytes; none if it has
    /// none, or not so much.
    fn lease(&self, len: usize) -> Option<Lease> {
        let _ = len;
        None
    }
}

/// Drives the links of one transport. Dropping it ends them all, each with its fault, and the
/// listeners with it; what is dialled meanwhile fails, until another engine is taken.
pub trait Engine: Send {
    /// Does what is to be done, a bounded amount (F7), and sees to it that the task is woken for
    /// more.
    fn poll(&mut self, cx: &mut Context<'_>);
}

impl fmt::Debug for dyn Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Engine")
    }
}

/// Accepts links at one address until it is dropped.
pub trait Listener: Send {
    /// Where it listens, with the port that the system chose if it was asked for port 0.
    fn local(&self) -> Address;

    /// The next link. Its peer has not said a word: nothing about it is known yet.
    ///
    /// # Errors
    /// After [`AcceptError::Transient`] the caller waits a little and polls again; after
    /// [`AcceptError::Fatal`] the listener accepts no more.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Box<dyn Link>, AcceptError>>;
}

/// One socket, queue pair or virtual wire. Disposable: a session outlives its links.
///
/// The driver calls [`submit`](Self::submit) for all it has, then [`poll`](Self::poll) until that
/// is pending, and again when woken or after the next submit.
pub trait Link: Send {
    /// What it can do.
    fn limits(&self) -> &LinkLimits;

    /// Where the other end is; of an accepted link, where it dialled from. For people only.
    fn peer(&self) -> Address;

    /// Takes a frame, to be moved by the next [`poll`](Self::poll). Tokens are consecutive,
    /// starting at 1. Never blocks, never calls the system.
    ///
    /// A [`Frame::Chunk`] carries the whole message in `part` and goes as the bytes that it names.
    ///
    /// # Errors
    /// [`Full`] with the frame: nothing was taken (F5). While [`room`](Self::room) is above zero
    /// and the link is open, a link refuses nothing.
    fn submit(&mut self, frame: Frame<Parcel>) -> Result<Token, Full>;

    /// Whether it has room for a chunk, too. A link that has memory of its own to send chunks from
    /// may have none left for a while, and takes other frames meanwhile (S9); it says
    /// [`room`](Batch::room) when it takes chunks again. One that is submitted all the same takes room
    /// from other frames. A link that [takes bytes](Self::takes_bytes) is not asked.
    fn takes_chunks(&self) -> bool {
        true
    }

    /// Whether it takes frames as bytes, with [`submit_bytes`](Self::submit_bytes) as well: a link
    /// that sends a stream of them anyway.
    fn takes_bytes(&self) -> bool {
        false
    }

    /// An empty batch for [`submit_bytes`](Self::submit_bytes), with the memory of one that was sent
    /// if there is some.
    fn spare_bytes(&mut self) -> Outbound {
        Outbound::new()
    }

    /// Takes whole frames, encoded one behind the other: one submit, with one token. Otherwise as
    /// [`submit`](Self::submit); the room may be exceeded by one such submit.
    ///
    /// # Errors
    /// [`FullBytes`]: nothing was taken (F5); a link that [takes no bytes](Self::takes_bytes)
    /// never does.
    fn submit_bytes(&mut self, frames: Outbound) -> Result<Token, FullBytes> {
        Err(FullBytes { frames, closed: true })
    }

    /// The session is about to ask for the data of that announcement: prepare its final buffer.
    /// `data_len` is within the session's own limit; the buffer is allocated as data arrives or
    /// at once, as the transport likes.
    fn expect(&mut self, lane: Lane, seq: Seq, data_len: u32);

    /// Bytes that [`submit`](Self::submit) still takes; a frame may overshoot. 0 when closed.
    fn room(&self) -> usize;

    /// Moves bytes both ways, a bounded amount (F7), and appends what happened to `out`.
    ///
    /// Ready: poll again, also when `out` got nothing, unless it says that the link is idle. Pending:
    /// nothing to report, the task will be woken when that changes. After `closed` was reported it is
    /// pending for ever (F4).
    fn poll(&mut self, cx: &mut Context<'_>, out: &mut Batch) -> Poll<()>;

    /// Ends the link. `closed` is reported by a later poll, after the `Done` of every token (F1).
    /// Idempotent; an abort overrules a drain.
    fn close(&mut self, how: CloseHow);

    /// Leaves this thread's reactor, with the bytes read ahead and what was not sent yet.
    ///
    /// # Errors
    /// [`LinkFault`] if the link is closed, or the reactor does not let it go: it is gone then.
    fn detach(self: Box<Self>) -> Result<Box<dyn Parked>, LinkFault>;
}

impl fmt::Debug for dyn Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({})", self.peer())
    }
}

impl fmt::Debug for dyn Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Listener({})", self.local())
    }
}

impl fmt::Debug for dyn Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Transport({})", self.scheme())
    }
}

/// A link between two reactors.
pub trait Parked: Send {
    /// Joins the reactor of the thread it is called on.
    ///
    /// # Errors
    /// [`LinkFault`] if that reactor does not take it.
    fn attach(self: Box<Self>) -> Result<Box<dyn Link>, LinkFault>;
}

impl fmt::Debug for dyn Parked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Parked")
    }
}

/// Names an accepted submit of one link; the nth accepted is `Token(n)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// A refused submit: the frame comes back untouched (F5).
#[derive(Debug)]
pub struct Full {
    /// The frame.
    pub frame: Box<Frame<Parcel>>,
    /// Whether it never will be taken, since the link is closed or closing.
    pub closed: bool,
}

impl Full {
    pub(crate) fn new(frame: Frame<Parcel>, closed: bool) -> Self {
        Self { frame: Box::new(frame), closed }
    }
}

/// A refused submit of bytes: they come back untouched (F5).
#[derive(Debug)]
pub struct FullBytes {
    /// The encoded frames.
    pub frames: Outbound,
    /// Whether they never will be taken.
    pub closed: bool,
}

/// How to close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseHow {
    /// Send what was accepted, then close.
    Drain,
    /// Close now; what was not sent is done as failed.
    Abort,
}

/// What one or several polls of a link report. Reuse it: its vector keeps its room.
#[derive(Debug, Default)]
pub struct Batch {
    /// Frames that arrived, in order.
    pub frames: Vec<Frame<Parcel>>,
    /// Accepted submits that are over, cumulative.
    pub done: Option<Done>,
    /// A link that had no room, or none for chunks, has room again.
    pub room: bool,
    /// The link is closed; comes after everything else in the batch, and once.
    pub closed: Option<LinkClosed>,
    /// Another poll would be pending now: the link wakes its task when that changes. A link need
    /// not say so; one that does saves its driver a poll for each batch.
    pub idle: bool,
}

impl Batch {
    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.done.is_none() && !self.room && self.closed.is_none()
    }

    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.frames.clear();
        self.done = None;
        self.room = false;
        self.closed = None;
        self.idle = false;
    }

    /// Joins a later report.
    pub(crate) fn note_done(&mut self, later: Done) {
        let failed = self.done.map_or(0, |done| done.failed) + later.failed;
        self.done = Some(Done { upto: later.upto, failed });
    }
}

/// All tokens up to one are over, each exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// The last one that is over.
    pub upto: Token,
    /// How many of the last ones reported here were not sent whole. Failures come only at the
    /// end of a link. That a frame was sent says nothing about whether it arrived.
    pub failed: u64,
}

/// The last word of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkClosed {
    /// Why.
    pub cause: LinkFault,
}
