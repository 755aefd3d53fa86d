//! Moves messages from the mailbox that outlives its actors into the actor of the day.
//!
//! actix would own the mailbox inside `ContextFut` and lose it with the actor. Here every
//! incarnation gets a fresh context whose address points at the lasting mailbox, and this item,
//! first in that context, feeds it. It keeps actix's rules: nothing is handled while the actor
//! waits or stops, and messages keep their order. Two things are better than in actix: timers and
//! streams get their turn every [`BATCH`] messages, and the actor does not end when its last
//! address is dropped, since it belongs to the tree.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as Task, Poll};

use actix::dev::channel::AddressReceiver;
use actix::dev::{ActorFuture, EnvelopeProxy};
use actix::{Actor, ActorContext, AsyncContext, Context};
use futures::Stream;

use super::recipe::Owes;

/// Messages handled in one go before the actor's other items are polled.
pub const BATCH: usize = 64;

pub(super) type Mailbox<A> = Rc<RefCell<AddressReceiver<A>>>;

/// What one incarnation and its child future tell each other.
#[derive(Debug, Default)]
pub(super) struct Probe {
    /// `started`, and all it waited for, is done.
    pub(super) started: Cell<bool>,
    /// Panic at the next poll.
    pub(super) panic: RefCell<Option<Arc<str>>>,
    /// Stop when the mailbox is empty and nothing is owed.
    pub(super) draining: Cell<bool>,
    /// Asked the actor to stop in this poll. Once a poll, or an actor that declines would spin.
    pub(super) asked: Cell<bool>,
}

impl Probe {
    /// Panics if that was ordered.
    pub(super) fn trip(&self) {
        let message = self.panic.borrow_mut().take();
        if let Some(message) = message {
            panic!("{message}");
        }
    }
}

pub(super) struct Pump<A: Actor<Context = Context<A>>> {
    pub(super) mailbox: Mailbox<A>,
    pub(super) probe: Rc<Probe>,
    pub(super) owes: Option<Owes>,
}

impl<A: Actor<Context = Context<A>>> ActorFuture<A> for Pump<A> {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        actor: &mut A,
        ctx: &mut Context<A>,
        task: &mut Task<'_>,
    ) -> Poll<()> {
        let this = self.get_mut();
        this.probe.started.set(true);
        this.probe.trip();
        for _ in 0..BATCH {
            if ctx.waiting() {
                return Poll::Pending;
            }
            // Taken out before it is handled: a panic in the handler costs this message and no
            // borrow.
            let next = Pin::new(&mut *this.mailbox.borrow_mut()).poll_next(task);
            let Poll::Ready(Some(mut envelope)) = next else {
                if this.probe.draining.get() {
                    if this.owes.as_ref().is_some_and(|owes| owes()) {
                        // What does it is polled after this.
                        task.waker().wake_by_ref();
                    } else if !this.probe.asked.replace(true) {
                        ctx.stop();
                    }
                }
                return Poll::Pending;
            };
            envelope.handle(actor, ctx);
        }
        task.waker().wake_by_ref();
        Poll::Pending
    }
}
