//! Dials for the sessions of one arbiter. When and whether is the session's to say; where, and the
//! random part of its back-off, come from here.
//!
//! The dials that are out belong to the recipe: when this actor is rebuilt each session whose dial
//! was lost hears that it failed, and backs off.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context as TaskContext, Poll};

use actix::{Actor, ActorFuture, Addr, AsyncContext, Context, Handler, Message};
use futures::future::{AbortHandle, Abortable, LocalBoxFuture};
use futures::stream::{FuturesUnordered, Stream};
use stellate_protocol::directory::SessionKey;
use stellate_transport::{Address, DialError, Link};

use crate::node::Node;
use crate::session::{DialEnded, SessionActor};
use crate::supervise::Recipe;

/// Dial this for that session.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct DialFor {
    pub(crate) key: SessionKey,
    /// Which of the session's dials it is.
    pub(crate) turn: u64,
    pub(crate) session: Addr<SessionActor>,
    pub(crate) address: Option<Address>,
}

/// The session's dial is not wanted any more.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct CancelFor(pub(crate) SessionKey);

struct Out {
    session: Addr<SessionActor>,
    turn: u64,
    abort: AbortHandle,
}

type Outs = Rc<RefCell<BTreeMap<SessionKey, Out>>>;
type Ended = Option<(SessionKey, u64, Result<Box<dyn Link>, DialError>)>;

/// The actor that dials.
pub(crate) struct ReconnectSupervisor {
    node: Node,
    outs: Outs,
    dials: FuturesUnordered<LocalBoxFuture<'static, Ended>>,
    seed: u64,
}

impl ReconnectSupervisor {
    pub(crate) fn recipe(node: Node, seed: u64) -> Recipe<Self> {
        let outs = Outs::default();
        let lost = outs.clone();
        Recipe::new(move || Self {
            node: node.clone(),
            outs: outs.clone(),
            dials: FuturesUnordered::new(),
            seed,
        })
        .on_start(move |actor, ctx| {
            for (_, Out { session, turn, .. }) in std::mem::take(&mut *lost.borrow_mut()) {
                let result = Err(DialError::Unreachable);
                session.do_send(DialEnded { turn, result, jitter: actor.jitter() });
            }
            ctx.spawn(DialPump);
        })
    }

    /// The next jitter (a multiplicative generator; its quality does not matter, its seed does).
    fn jitter(&mut self) -> u16 {
        self.seed =
            self.seed.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        (self.seed >> 48) as u16
    }

    fn ended(&mut self, key: SessionKey, turn: u64, result: Result<Box<dyn Link>, DialError>) {
        let current = self.outs.borrow().get(&key).is_some_and(|out| out.turn == turn);
        if !current {
            return;
        }
        let out = self.outs.borrow_mut().remove(&key);
        let jitter = self.jitter();
        if let Err(error) = &result {
            tracing::debug!(session = key.0, %error, "a dial failed");
        }
        if let Some(out) = out {
            out.session.do_send(DialEnded { turn, result, jitter });
        }
    }
}

impl Actor for ReconnectSupervisor {
    type Context = Context<Self>;
}

impl Handler<DialFor> for ReconnectSupervisor {
    type Result = ();

    fn handle(&mut self, dial: DialFor, _: &mut Self::Context) {
        let DialFor { key, turn, session, address } = dial;
        let (abort, registration) = AbortHandle::new_pair();
        // For a session that is gone: one that waits gives up by itself, by its own clock.
        let timeout = self.node.limits().hello_timeout;
        let target = address.as_ref().and_then(|to| self.node.transport(to).map(|t| t.dial(to)));
        let dialling = async move {
            let result = match target {
                Some(dial) => match tokio::time::timeout(timeout, dial).await {
                    Ok(result) => result,
                    Err(_) => Err(DialError::TimedOut),
                },
                // Nowhere to dial: the peer has to come to us.
                None => Err(DialError::Unreachable),
            };
            (key, turn, result)
        };
        let abortable = Abortable::new(dialling, registration);
        self.dials.push(Box::pin(async move { abortable.await.ok() }));
        if let Some(old) = self.outs.borrow_mut().insert(key, Out { session, turn, abort }) {
            old.abort.abort();
        }
    }
}

impl Handler<CancelFor> for ReconnectSupervisor {
    type Result = ();

    fn handle(&mut self, cancel: CancelFor, _: &mut Self::Context) {
        if let Some(out) = self.outs.borrow_mut().remove(&cancel.0) {
            out.abort.abort();
        }
    }
}

struct DialPump;

impl ActorFuture<ReconnectSupervisor> for DialPump {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        actor: &mut ReconnectSupervisor,
        _: &mut Context<ReconnectSupervisor>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<()> {
        while let Poll::Ready(Some(ended)) = Pin::new(&mut actor.dials).poll_next(cx) {
            if let Some((key, turn, result)) = ended {
                actor.ended(key, turn, result);
            }
        }
        Poll::Pending
    }
}
