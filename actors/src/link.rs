//! One link: moves frames between a transport and a session, and decides nothing.
//!
//! ```text
//!   Greeting ── first frame is a hello ──► given to the endpoint, this actor ends
//!   Bound    ── frames ──► SessionActor      ◄── Transmit, Expect, Hang
//!   Draining ── sends what was submitted, then ends
//! ```
//!
//! A panic here is a link fault: the exit hook tells the session, which dials again.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context as TaskContext, Poll};

use actix::{
    Actor, ActorContext, ActorFuture, Addr, AsyncContext, Context, Handler, Message, Running,
};
use stellate_protocol::codec::Outbound;
use stellate_protocol::event::LinkFacts;
use stellate_protocol::{Frame, Lane, LinkId, Parcel, Payload, Seq};
use stellate_transport::{Batch, CloseHow, Link, LinkFault, Parked, Token};

use crate::endpoint::Greeted;
use crate::node::Node;
use crate::session::SessionActor;
use crate::supervise::{Recipe, Restart, TreeError};

/// Rounds of the link in one turn of the actor: then others get theirs (F7).
const ROUNDS: usize = 4;

/// What a link actor is for.
pub(crate) enum Role {
    /// Waits for a hello, and gives its place back when dropped.
    Greeting(#[allow(dead_code)] Handshake),
    /// Serves a session.
    Bound(Addr<SessionActor>),
    /// Sends the rest.
    Draining,
}

/// A place among the accepted links that have not said hello (`handshakes_max`).
pub(crate) struct Handshake(Option<Node>);

impl Handshake {
    /// Takes a place, if there is one.
    pub(crate) fn take(node: &Node) -> Option<Self> {
        let inner = node.inner();
        let max = inner.limits.handshakes_max;
        let more = |count: u32| (count < max).then_some(count + 1);
        let taken = inner.handshakes.fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        taken.ok().map(|_| Self(Some(node.clone())))
    }
}

impl Handshake {
    /// Gives the place back unused, without waking anybody: it was never missing.
    pub(crate) fn leave(mut self) {
        if let Some(node) = self.0.take() {
            node.inner().handshakes.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        let Some(node) = self.0.take() else { return };
        let inner = node.inner();
        if inner.handshakes.fetch_sub(1, Ordering::AcqRel) == inner.limits.handshakes_max {
            crate::listener::wake_all(&node);
        }
    }
}

/// A link on its way to the thread that will own it.
pub(crate) enum Carried {
    Here(Box<dyn Link>),
    Parked(Box<dyn Parked>),
}

impl Carried {
    /// Gets it ready for another thread, unless it stays.
    pub(crate) fn pack(link: Box<dyn Link>, stays: bool) -> Result<Self, LinkFault> {
        if stays { Ok(Self::Here(link)) } else { link.detach().map(Self::Parked) }
    }

    pub(crate) fn land(self) -> Result<Box<dyn Link>, LinkFault> {
        match self {
            Self::Here(link) => Ok(link),
            Self::Parked(parked) => parked.attach(),
        }
    }
}

/// What the session needs to know of a link.
pub(crate) fn facts(link: &dyn Link) -> LinkFacts {
    let limits = link.limits();
    LinkFacts { slots: limits.recv_slots, slot_bytes: limits.slot_bytes }
}

/// Frames for the link, in order.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Transmit {
    pub(crate) load: Load,
    pub(crate) bytes: u64,
}

/// What a link is given to send.
pub(crate) enum Load {
    Frames(Vec<Frame<Parcel>>),
    /// Encoded, for a link that takes bytes.
    Bytes(Outbound),
}

/// What the link had no room for.
enum Waiting {
    Frame(Frame<Parcel>),
    Bytes(Outbound),
}

/// Submits it; gives it back if there is no room, unless there never will be.
fn submit(link: &mut dyn Link, waiting: Waiting) -> Result<Token, Option<Waiting>> {
    match waiting {
        Waiting::Frame(frame) => {
            link.submit(frame).map_err(|full| (!full.closed).then_some(Waiting::Frame(*full.frame)))
        }
        Waiting::Bytes(frames) => link
            .submit_bytes(frames)
            .map_err(|full| (!full.closed).then_some(Waiting::Bytes(full.frames))),
    }
}

/// A pull follows: prepare its buffer.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Expect {
    pub(crate) lane: Lane,
    pub(crate) seq: Seq,
    pub(crate) data_len: u32,
}

/// End the link.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Hang(pub(crate) CloseHow);

/// Report at once what waits to be read (S9).
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Flush;

/// What a link tells its session.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct FromLink {
    pub(crate) link: LinkId,
    pub(crate) frames: Vec<Frame<Parcel>>,
    /// Bytes of earlier `Transmit`s that are done.
    pub(crate) sent: u64,
    pub(crate) closed: Option<LinkFault>,
    /// Answers a `Flush`.
    pub(crate) flushed: bool,
}

/// The actor of one link.
pub(crate) struct LinkActor {
    id: LinkId,
    link: Option<Box<dyn Link>>,
    role: Role,
    node: Node,
    batch: Batch,
    /// Frames that the link had no room for; bounded by what the session has in flight.
    backlog: VecDeque<Waiting>,
    /// The last token of each `Transmit`, and its bytes.
    batches: VecDeque<(Token, u64)>,
    /// Bytes of the `Transmit`s that are still in the backlog.
    unsubmitted: VecDeque<(usize, u64)>,
    /// Bytes that are done and that the session was not told of.
    sent: u64,
    /// It waits for no more than this before it is told: half of what it may have in flight, so
    /// that it never starves. Mostly it is told with the frames that come in.
    sent_max: u64,
    flush: bool,
    hang: Option<CloseHow>,
}

impl LinkActor {
    /// Starts the actor of `link` on this thread.
    pub(crate) fn start(
        node: &Node,
        id: LinkId,
        link: Box<dyn Link>,
        role: Role,
    ) -> Result<Addr<Self>, TreeError> {
        let session = match &role {
            Role::Bound(session) => Some(session.clone()),
            _ => None,
        };
        let mut seat = Some((link, role));
        let owner = node.clone();
        let recipe = Recipe::new(move || {
            let (link, role) = match seat.take() {
                Some((link, role)) => (Some(link), role),
                None => (None, Role::Draining),
            };
            let sent_max = link.as_ref().map_or(0, |link| link.limits().send_bytes as u64 / 2);
            Self {
                id,
                link,
                role,
                sent: 0,
                sent_max,
                node: owner.clone(),
                batch: Batch::default(),
                backlog: VecDeque::new(),
                batches: VecDeque::new(),
                unsubmitted: VecDeque::new(),
                flush: false,
                hang: None,
            }
        })
        .on_exit(move |exit| {
            if let (true, Some(session)) = (exit.cause.is_failure(), &session) {
                session.do_send(FromLink::closed(id, LinkFault::NoRuntime));
            }
        });
        let path = format!("links/{}", id.0);
        node.tree().spawn(&path, recipe, Restart::Never)
    }

    /// Moves what can be moved; true if there may be more.
    fn turn(&mut self, ctx: &mut Context<Self>, cx: &mut TaskContext<'_>) -> bool {
        self.submit_backlog();
        let Some(link) = self.link.as_mut() else {
            ctx.stop();
            return false;
        };
        let more = link.poll(cx, &mut self.batch).is_ready();
        if !self.batch.is_empty() || self.flush {
            self.report(ctx);
        }
        more && self.link.is_some()
    }

    /// No session watches it any more: a peer that takes nothing must not keep it for ever.
    fn limit_drain(&self, ctx: &mut Context<Self>) {
        ctx.run_later(self.node.inner().limits.drain_max, |actor, ctx| {
            tracing::debug!(link = actor.id.0, "the rest is not taken in time");
            actor.link = None;
            ctx.stop();
        });
    }

    /// Submits what a `Transmit` brings, or as much as the link has room for.
    fn submit_all(&mut self, load: Load, bytes: u64) {
        let before = self.backlog.len();
        match load {
            Load::Bytes(frames) => self.backlog.push_back(Waiting::Bytes(frames)),
            Load::Frames(frames) => self.backlog.extend(frames.into_iter().map(Waiting::Frame)),
        }
        self.unsubmitted.push_back((self.backlog.len() - before, bytes));
        self.submit_backlog();
    }

    fn submit_backlog(&mut self) {
        let Some(link) = self.link.as_mut() else {
            return;
        };
        while let Some(waiting) = self.backlog.pop_front() {
            match submit(&mut **link, waiting) {
                Ok(token) => {
                    if let Some((left, bytes)) = self.unsubmitted.front_mut() {
                        *left -= 1;
                        if *left == 0 {
                            self.batches.push_back((token, *bytes));
                            self.unsubmitted.pop_front();
                        }
                    }
                }
                Err(refused) => {
                    if let Some(waiting) = refused {
                        self.backlog.push_front(waiting);
                    }
                    break;
                }
            }
        }
        if self.backlog.is_empty()
            && let Some(how) = self.hang.take()
        {
            link.close(how);
        }
    }

    /// Tells whom it concerns what the link reported.
    fn report(&mut self, ctx: &mut Context<Self>) {
        let next = Vec::with_capacity(self.batch.frames.len());
        let frames = std::mem::replace(&mut self.batch.frames, next);
        if let Some(done) = self.batch.done {
            while let Some((token, bytes)) = self.batches.front()
                && *token <= done.upto
            {
                self.sent += bytes;
                self.batches.pop_front();
            }
        }
        let closed = self.batch.closed.take().map(|closed| closed.cause);
        let flushed = std::mem::take(&mut self.flush);
        self.batch.clear();
        let over = closed.is_some();
        match &self.role {
            Role::Bound(session) => {
                if !session.connected() {
                    // Its session died: the last word is the transport's.
                    self.role = Role::Draining;
                    if let Some(link) = &mut self.link {
                        link.close(CloseHow::Abort);
                    }
                } else if !frames.is_empty() || self.sent > self.sent_max || over || flushed {
                    session.do_send(FromLink {
                        link: self.id,
                        frames,
                        sent: std::mem::take(&mut self.sent),
                        closed,
                        flushed,
                    });
                }
            }
            Role::Greeting(_) if !frames.is_empty() => return self.greeted(ctx, frames, over),
            Role::Greeting(_) if over => {
                tracing::debug!(link = self.id.0, ?closed, "a link ended before its hello");
            }
            Role::Greeting(_) | Role::Draining => {}
        }
        if over {
            self.link = None;
            ctx.stop();
        }
    }

    /// The first frame is here: a hello and nothing else, or the link is dropped.
    fn greeted(&mut self, ctx: &mut Context<Self>, mut frames: Vec<Frame<Parcel>>, over: bool) {
        let first = if frames.len() == 1 { frames.pop() } else { None };
        if let (Some(Frame::Hello(hello)), false, Some(link)) = (first, over, self.link.take()) {
            let endpoint = crate::shared::lock(&self.node.inner().endpoint).clone();
            if let Some(endpoint) = endpoint {
                endpoint.do_send(Greeted { id: self.id, link, hello });
            }
        }
        self.link = None;
        ctx.stop();
    }
}

impl FromLink {
    pub(crate) fn closed(link: LinkId, fault: LinkFault) -> Self {
        Self { link, frames: Vec::new(), sent: 0, closed: Some(fault), flushed: false }
    }
}

impl Actor for LinkActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if let Role::Greeting(_) = self.role {
            let timeout = self.node.inner().limits.hello_timeout;
            ctx.run_later(timeout, |actor, ctx| {
                if let Role::Greeting(_) = actor.role {
                    tracing::debug!(link = actor.id.0, "no hello in time");
                    actor.link = None;
                    ctx.stop();
                }
            });
        }
        if let Role::Draining = self.role {
            self.limit_drain(ctx);
        }
        ctx.spawn(LinkPump);
    }

    /// Told to stop by the tree it first sends the rest: the peer would miss a last word, and dial
    /// a messenger that is gone until `standby_max`.
    fn stopping(&mut self, _: &mut Self::Context) -> Running {
        match (&self.role, &self.link) {
            (Role::Draining, Some(_)) => Running::Continue,
            _ => Running::Stop,
        }
    }
}

/// Drives the link whenever the actor is woken.
struct LinkPump;

impl ActorFuture<LinkActor> for LinkPump {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        actor: &mut LinkActor,
        ctx: &mut Context<LinkActor>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<()> {
        for _ in 0..ROUNDS {
            if !actor.turn(ctx, cx) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Handler<Transmit> for LinkActor {
    type Result = ();

    fn handle(&mut self, message: Transmit, _: &mut Self::Context) {
        if self.link.is_some() {
            self.submit_all(message.load, message.bytes);
        }
    }
}

impl Handler<Expect> for LinkActor {
    type Result = ();

    fn handle(&mut self, message: Expect, _: &mut Self::Context) {
        if let Some(link) = &mut self.link {
            link.expect(message.lane, message.seq, message.data_len);
        }
    }
}

impl Handler<Hang> for LinkActor {
    type Result = ();

    fn handle(&mut self, message: Hang, ctx: &mut Self::Context) {
        match message.0 {
            CloseHow::Drain => {
                self.hang = Some(CloseHow::Drain);
                self.limit_drain(ctx);
            }
            CloseHow::Abort => {
                self.link = None;
                ctx.stop();
            }
        }
        self.role = Role::Draining;
    }
}

impl Handler<Flush> for LinkActor {
    type Result = ();

    fn handle(&mut self, _: Flush, _: &mut Self::Context) {
        self.flush = true;
    }
}

/// Bytes that a frame takes on its way out, about: what the session paces itself by.
pub(crate) fn frame_bytes(frame: &Frame<Parcel>) -> u64 {
    const HEADER: u64 = 64;
    match frame {
        Frame::Message(message) => {
            let payload = &message.payload;
            HEADER + u64::from(payload.front_len()) + u64::from(payload.data_len())
        }
        Frame::Announce(message) => HEADER + u64::from(message.payload.front_len()),
        Frame::Chunk(chunk) => HEADER + u64::from(chunk.len),
        _ => HEADER,
    }
}
