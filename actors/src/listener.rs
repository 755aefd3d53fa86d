//! Accepts links at one address, as many as may be greeting at once.
//!
//! The socket belongs to the recipe, not to the actor value: a panic loses no connection that
//! waits in the backlog. A listener whose socket died binds again, as often as it takes.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use actix::{Actor, ActorFuture, Addr, AsyncContext, Context, Handler, Message};
use stellate_transport::{AcceptError, Address, Link, Listener};

use crate::link::{Handshake, LinkActor, Role};
use crate::node::Node;
use crate::shared::lock;
use crate::supervise::{Recipe, Restart, TreeError};

/// Links accepted in one turn: then others get theirs.
const ACCEPTS: usize = 32;
/// The wait after the machine ran out of descriptors.
const RETRY: Duration = Duration::from_millis(100);

type Socket = Rc<RefCell<Option<Box<dyn Listener>>>>;

/// The actor of one listening address.
pub(crate) struct ListenerActor {
    node: Node,
    at: Address,
    socket: Socket,
    paused: bool,
}

/// Look again whether links may be accepted.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Run;

/// Starts the actor of a bound listener on this thread.
pub(crate) fn start(node: &Node, listener: Box<dyn Listener>) -> Result<(), TreeError> {
    let at = listener.local();
    let path = format!("listener-{}", lock(&node.inner().listeners).len());
    let socket: Socket = Rc::new(RefCell::new(Some(listener)));
    let owner = node.clone();
    let recipe = Recipe::new(move || ListenerActor {
        node: owner.clone(),
        at: at.clone(),
        socket: socket.clone(),
        paused: false,
    });
    let listener = node.tree().spawn(&path, recipe, Restart::default())?;
    lock(&node.inner().listeners).push(listener);
    Ok(())
}

/// Lets every listener look again.
pub(crate) fn wake_all(node: &Node) {
    let listeners: Vec<Addr<ListenerActor>> = lock(&node.inner().listeners).clone();
    for listener in listeners {
        listener.do_send(Run);
    }
}

impl ListenerActor {
    fn accept(&mut self, link: Box<dyn Link>, place: Handshake) {
        let id = self.node.next_link();
        if let Err(error) = LinkActor::start(&self.node, id, link, Role::Greeting(place)) {
            tracing::debug!(%error, "an accepted link finds no place in the tree");
        }
    }

    fn failed(&mut self, error: &AcceptError, ctx: &mut Context<Self>) {
        match error {
            AcceptError::Transient(..) => {
                tracing::warn!(at = %self.at, %error, "accepting pauses");
                self.paused = true;
                ctx.run_later(RETRY, |actor, ctx| {
                    actor.paused = false;
                    // Through the mailbox: the pump has had its turn before this timer.
                    ctx.address().do_send(Run);
                });
            }
            AcceptError::Fatal(..) => {
                tracing::error!(at = %self.at, %error, "the listener binds again");
                self.socket.borrow_mut().take();
                self.bind_again(ctx);
            }
        }
    }

    /// Binds the address anew, and tries again until it can.
    fn bind_again(&mut self, ctx: &mut Context<Self>) {
        let Some(transport) = self.node.transport(&self.at) else {
            return;
        };
        match transport.listen(&self.at) {
            Ok(listener) => {
                *self.socket.borrow_mut() = Some(listener);
                ctx.address().do_send(Run);
            }
            Err(error) => {
                tracing::error!(at = %self.at, %error, "cannot listen again");
                ctx.run_later(RETRY, Self::bind_again);
            }
        }
    }
}

impl Actor for ListenerActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if self.socket.borrow().is_none() {
            self.bind_again(ctx);
        }
        ctx.spawn(AcceptPump);
    }
}

impl Handler<Run> for ListenerActor {
    type Result = ();

    /// Being woken is all: the pump runs after it.
    fn handle(&mut self, _: Run, _: &mut Self::Context) {}
}

struct AcceptPump;

impl ActorFuture<ListenerActor> for AcceptPump {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        actor: &mut ListenerActor,
        ctx: &mut Context<ListenerActor>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<()> {
        if !actor.node.inner().ready.load(Ordering::Acquire) || actor.paused {
            return Poll::Pending;
        }
        for _ in 0..ACCEPTS {
            let Some(place) = Handshake::take(&actor.node) else {
                return Poll::Pending;
            };
            let accepted = match actor.socket.borrow_mut().as_mut() {
                Some(listener) => listener.poll_accept(cx),
                None => Poll::Pending,
            };
            match accepted {
                Poll::Ready(Ok(link)) => actor.accept(link, place),
                Poll::Ready(Err(error)) => {
                    actor.failed(&error, ctx);
                    return Poll::Pending;
                }
                Poll::Pending => {
                    place.leave();
                    return Poll::Pending;
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
