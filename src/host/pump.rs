//! Drains an actor's inbox, inside the actor's context: no envelope per message, one lock and one
//! wake per batch.
//!
//! * **V1**, **S2** What was taken out of the inbox lies outside the actor value: a handler that
//!   panics costs the message in hand, and the next incarnation goes on with the one after it.
//! * **S1** One batch at a time, in order.
//! * Nothing is handed out while the actor waits or stops: then the inbox fills, and with it the
//!   window of the peer.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as Task, Poll};

use actix::dev::ActorFuture;
use actix::{Actor, ActorContext, ActorState, AsyncContext, Context};
use stellate_actors::inbox::{Arrived, Inbox, Item, Notice};
use stellate_actors::node::Node;
use stellate_protocol::frame::UndeliverableReason;

use super::table::{Table, Unfit};
use crate::admission::AdmissionRequest;
use crate::event::SessionEvent;

/// An inbox in the router. Dropped, it is out of it, and what waited in it is answered.
pub(super) struct Registration {
    pub(super) node: Node,
    pub(super) inbox: Arc<Inbox>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        retire(&self.node, &self.inbox);
    }
}

/// Nobody handles what is in the inbox, nor what would come. Doing it again changes nothing.
pub(super) fn retire(node: &Node, inbox: &Arc<Inbox>) {
    node.router().unregister(inbox);
    inbox.close();
}

/// What one actor works off, through all its incarnations.
pub(super) struct Work<A: Actor> {
    registration: Registration,
    table: Table<A>,
    batch: RefCell<VecDeque<Item>>,
    /// Items handed out in one go before the actor's other futures are polled.
    drain: usize,
}

impl<A: Actor<Context = Context<A>>> Work<A> {
    pub(super) fn new(registration: Registration, table: Table<A>) -> Self {
        let drain = registration.node.limits().inbox_drain.max(1) as usize;
        Self {
            registration,
            table,
            batch: RefCell::default(),
            drain,
        }
    }

    fn hand_out(&self, item: Item, actor: &mut A, ctx: &mut Context<A>) {
        match item {
            Item::Message(arrived) => self.hand_out_message(arrived, actor, ctx),
            Item::Notice(Notice::Admission(ask)) => {
                if let Some(admit) = self.table.admission {
                    admit(actor, AdmissionRequest::new(*ask), ctx);
                }
            }
            Item::Notice(notice) => {
                if let (Some(tell), Some((event, held))) =
                    (self.table.events, SessionEvent::of(notice))
                {
                    tell(actor, event, ctx);
                    drop(held);
                }
            }
        }
    }

    #[inline]
    fn hand_out_message(&self, mut arrived: Arrived, actor: &mut A, ctx: &mut Context<A>) {
        let node = &self.registration.node;
        if arrived
            .expires()
            .is_some_and(|expires| node.now_nanos() >= expires)
        {
            arrived.expire();
            return;
        }
        let Some(deliver) = self.table.get(arrived.kind()) else {
            // Routed here and not known here: the router and the table were made from one list.
            arrived.reject(UndeliverableReason::UnknownType);
            return;
        };
        // None: its session has ended, and what it counted as undelivered stays that (S4, S6).
        let Some(parcel) = arrived.open() else { return };
        if let Err(unfit) = deliver(actor, arrived, parcel, ctx) {
            self.tell_unfit(*unfit);
        }
    }

    /// Tells both sides of a message that does not decode.
    #[cold]
    fn tell_unfit(&self, unfit: Unfit) {
        let Unfit {
            mut arrived,
            parcel,
            reason,
        } = unfit;
        arrived.reject(reason);
        if let Some(events) = self.registration.node.router().routes().events().first() {
            events.push_notice(Notice::Undeliverable(
                Box::new(arrived),
                reason,
                Some(parcel),
            ));
        }
    }
}

impl<A: Actor> Drop for Work<A> {
    fn drop(&mut self) {
        // The actor is gone for good: who waits for an answer must not wait for ever.
        for item in self.batch.take() {
            if let Item::Message(mut arrived) = item {
                arrived.reject(UndeliverableReason::UnknownType);
            }
        }
    }
}

/// The future in the context of one incarnation.
pub(super) struct Pump<A: Actor> {
    pub(super) work: Rc<Work<A>>,
}

impl<A: Actor<Context = Context<A>>> ActorFuture<A> for Pump<A> {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        actor: &mut A,
        ctx: &mut Context<A>,
        task: &mut Task<'_>,
    ) -> Poll<()> {
        let work = &*self.work;
        for _ in 0..work.drain {
            if ctx.waiting() {
                if ctx.state() == ActorState::Stopping {
                    // It may decide to go on; if not, this is not polled again.
                    task.waker().wake_by_ref();
                }
                return Poll::Pending;
            }
            // Taken out, and the borrow over, before it is handed out: a panic costs this one.
            let next = work.batch.borrow_mut().pop_front();
            let item = match next {
                Some(item) => item,
                None => match self.take_batch(task) {
                    Some(item) => item,
                    None => return Poll::Pending,
                },
            };
            work.hand_out(item, actor, ctx);
        }
        task.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<A: Actor> Pump<A> {
    /// The first item of the next batch, if there is one now.
    fn take_batch(&self, task: &mut Task<'_>) -> Option<Item> {
        let work = &*self.work;
        let mut batch = work.batch.borrow_mut();
        let taken = work
            .registration
            .inbox
            .poll_take(task, &mut batch, work.drain);
        taken.is_ready().then(|| batch.pop_front())?
    }
}
