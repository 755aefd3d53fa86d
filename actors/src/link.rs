//! The life of one link: its greeting, its end, and what the tree orders. It decides nothing.
//!
//! ```text
//!   Greeting ── first frame is a hello ──► given to the endpoint, this actor ends
//!   Bound    ── its session moves it, see `Line`         ◄── Hang, Broke
//!   Draining ── sends what was submitted, then ends
//! ```
//!
//! A panic here, or of the transport, is a link fault: the exit hook tells the session, which dials
//! again.

mod line;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context as TaskContext, Poll};

use actix::{
    Actor, ActorContext, ActorFuture, Addr, AsyncContext, Context, Handler, Message, Running,
};
use stellate_protocol::event::LinkFacts;
use stellate_protocol::{Frame, LinkId, Parcel};
use stellate_transport::limits::Boundary;
use stellate_transport::{Batch, CloseHow, Link, LinkFault, Parked};

use crate::endpoint::Greeted;
use crate::node::Node;
use crate::session::SessionActor;
use crate::supervise::{Recipe, Restart, TreeError};
pub(crate) use line::{Line, Moved};

/// Rounds of a link in one turn of an actor: then others get theirs (F7).
pub(crate) const ROUNDS: usize = 4;

/// What a link actor is for.
pub(crate) enum Role {
    /// Waits for a hello, and gives its place back when dropped.
    Greeting(#[allow(dead_code)] Handshake),
    /// Serves a session, which moves it.
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
    let whole = limits.boundary == Boundary::Message;
    LinkFacts { slots: limits.recv_slots, slot_bytes: limits.slot_bytes, whole }
}

/// End the link.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Hang(pub(crate) CloseHow);

/// The transport panicked while the session moved it.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Broke(pub(crate) Arc<str>);

/// What a link's actor tells its session.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) enum FromLink {
    /// It is gone, and did not say so itself.
    Lost(LinkId, LinkFault),
    /// It moves again.
    Resumed,
}

/// A link that serves a session.
#[derive(Clone)]
pub(crate) struct Bound {
    pub(crate) actor: Addr<LinkActor>,
    pub(crate) line: Line,
}

impl Bound {
    /// Ends it.
    pub(crate) fn hang(&self, how: CloseHow) {
        self.actor.do_send(Hang(how));
    }
}

/// The actor of one link.
pub(crate) struct LinkActor {
    id: LinkId,
    line: Line,
    role: Role,
    node: Node,
    batch: Batch,
}

impl LinkActor {
    /// Starts the actor of `link` on this thread.
    pub(crate) fn start(
        node: &Node,
        id: LinkId,
        link: Box<dyn Link>,
        role: Role,
    ) -> Result<Bound, TreeError> {
        let session = match &role {
            Role::Bound(session) => Some(session.clone()),
            _ => None,
        };
        let line = Line::new(link);
        let mut role = Some(role);
        let (owner, own) = (node.clone(), line.clone());
        let recipe = Recipe::new(move || Self {
            id,
            line: own.clone(),
            role: role.take().unwrap_or(Role::Draining),
            node: owner.clone(),
            batch: Batch::default(),
        });
        let (gone, held) = (session.clone(), line.clone());
        let recipe = recipe.on_exit(move |exit| {
            held.clear();
            if let (true, Some(session)) = (exit.cause.is_failure(), &gone) {
                session.do_send(FromLink::Lost(id, LinkFault::NoRuntime));
            }
        });
        let held = line.clone();
        let recipe = recipe.on_pause(move |paused| {
            held.pause(paused);
            if let (false, Some(session)) = (paused, &session) {
                session.do_send(FromLink::Resumed);
            }
        });
        let path = format!("links/{}", id.0);
        let actor = node.tree().spawn(&path, recipe, Restart::Never)?;
        Ok(Bound { actor, line })
    }

    /// Moves what can be moved; true if there may be more.
    fn turn(&mut self, ctx: &mut Context<Self>, cx: &mut TaskContext<'_>) -> bool {
        if !self.line.is_there() {
            ctx.stop();
            return false;
        }
        let more = match self.line.poll(cx, &mut self.batch) {
            Moved::More => true,
            Moved::Last | Moved::Idle => false,
            Moved::Broke(message) => panic!("{message}"),
        };
        let closed = self.batch.closed.take().map(|closed| closed.cause);
        let frames = std::mem::take(&mut self.batch.frames);
        self.batch.clear();
        if !matches!(self.role, Role::Greeting(_)) {
            return more;
        }
        if !frames.is_empty() {
            self.greeted(ctx, frames, closed.is_some());
            return false;
        }
        if closed.is_some() {
            tracing::debug!(link = self.id.0, ?closed, "a link ended before its hello");
        }
        more
    }

    /// No session watches it any more: a peer that takes nothing must not keep it for ever.
    fn limit_drain(&self, ctx: &mut Context<Self>) {
        ctx.run_later(self.node.inner().limits.drain_max, |actor, ctx| {
            tracing::debug!(link = actor.id.0, "the rest is not taken in time");
            actor.drop_link(ctx);
        });
    }

    fn drop_link(&self, ctx: &mut Context<Self>) {
        self.line.clear();
        ctx.stop();
    }

    /// The first frame is here: a hello and nothing else, or the link is dropped.
    fn greeted(&mut self, ctx: &mut Context<Self>, mut frames: Vec<Frame<Parcel>>, over: bool) {
        let first = if frames.len() == 1 { frames.pop() } else { None };
        if let (Some(Frame::Hello(hello)), false, Some(link)) = (first, over, self.line.take()) {
            let endpoint = crate::shared::lock(&self.node.inner().endpoint).clone();
            if let Some(endpoint) = endpoint {
                endpoint.do_send(Greeted { id: self.id, link, hello });
            }
        }
        self.drop_link(ctx);
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
                    actor.drop_link(ctx);
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
        match self.role {
            Role::Draining if self.line.is_there() => Running::Continue,
            _ => Running::Stop,
        }
    }
}

/// Drives the link whenever the actor is woken, unless a session does.
struct LinkPump;

impl ActorFuture<LinkActor> for LinkPump {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        actor: &mut LinkActor,
        ctx: &mut Context<LinkActor>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<()> {
        if let Role::Bound(_) = actor.role {
            return Poll::Pending;
        }
        for _ in 0..ROUNDS {
            if !actor.turn(ctx, cx) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Handler<Hang> for LinkActor {
    type Result = ();

    fn handle(&mut self, message: Hang, ctx: &mut Self::Context) {
        self.role = Role::Draining;
        match message.0 {
            CloseHow::Drain => {
                self.line.close(CloseHow::Drain);
                self.limit_drain(ctx);
            }
            CloseHow::Abort => self.drop_link(ctx),
        }
    }
}

impl Handler<Broke> for LinkActor {
    type Result = ();

    /// The tree is to know it for what it is.
    fn handle(&mut self, message: Broke, _: &mut Self::Context) {
        panic!("{}", message.0);
    }
}
