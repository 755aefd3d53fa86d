//! Drains an actor's inbox, inside the actor's context: no envelope per message, one lock and one
//! wake per batch.
//!
//! * **V1**, **S2** What was taken out of the inbox lies outside the actor value: a handler that
//!   panics costs the message in hand, and the next incarnation goes on with the one after it.
//! * **S1** One batch at a time, in order.
//! * Nothing is handed out while the actor waits or stops: then the inbox fills, and with it the
//!   window of the peer.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as Task, Poll};

use actix::dev::ActorFuture;
use actix::{Actor, ActorContext, ActorState, AsyncContext, Context};
use stellate_actors::inbox::{Arrived, Batch, Inbox, Notice, done_together};
use stellate_actors::node::{Node, OwnThread};
use stellate_protocol::frame::UndeliverableReason;

use super::calls::Calls;
use super::table::{Table, Unfit};
use crate::admission::AdmissionRequest;
use crate::event::SessionEvent;

/// An inbox in the router, and the thread in front of which it lies. Dropped, as when its actor has
/// left the tree for good or was never taken in, it is out of the router, what waited in it is
/// answered, and the thread stops.
pub(super) struct Registration {
    pub(super) node: Node,
    pub(super) inbox: Arc<Inbox>,
    /// If the actor has one of its own. Held for its drop only.
    #[allow(dead_code, reason = "dropping it is its use")]
    pub(super) thread: Option<OwnThread>,
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
    batch: RefCell<Batch>,
    /// In simulation, who writes down each call.
    calls: Option<Calls>,
    /// Items handed out in one go before the actor's other futures are polled.
    drain: usize,
}

impl<A: Actor<Context = Context<A>>> Work<A> {
    pub(super) fn new(registration: Registration, table: Table<A>) -> Self {
        let drain = registration.node.limits().inbox_drain.max(1) as usize;
        let calls = registration.node.scribe().map(|scribe| Calls {
            scribe: scribe.clone(),
            actor: registration.inbox.name().into(),
        });
        Self { registration, table, batch: RefCell::default(), calls, drain }
    }

    /// Whether there is something to tell the actor that it must hear before it goes: an end, with the
    /// messages that come back (S4).
    pub(super) fn has_news(&self) -> bool {
        !self.batch.borrow().notices.is_empty() || self.registration.inbox.notices() > 0
    }

    /// What goes before all messages.
    #[inline]
    fn take_notice(&self) -> Option<Notice> {
        self.batch.borrow_mut().notices.pop_front()
    }

    fn hand_out_notice(&self, notice: Notice, actor: &mut A, ctx: &mut Context<A>) {
        match notice {
            Notice::Admission(ask) => {
                if let Some(admit) = self.table.admission {
                    if let Some(calls) = &self.calls {
                        calls.admission(ask.session.tag());
                    }
                    admit(actor, AdmissionRequest::new(*ask), ctx);
                }
            }
            notice => {
                if let (Some(tell), Some((event, held))) =
                    (self.table.events, SessionEvent::of(notice))
                {
                    if let Some(calls) = &self.calls {
                        calls.event(event.connection().handle().shared().tag());
                    }
                    tell(actor, event, ctx);
                    drop(held);
                }
            }
        }
    }

    /// Hands out the message in front of the batch. It is looked at in its place and moved once:
    /// on a busy stream, moving messages is what costs most.
    #[inline]
    fn hand_out_message(&self, actor: &mut A, ctx: &mut Context<A>) {
        let mut guard = self.batch.borrow_mut();
        if guard.messages.front().is_some_and(Arrived::must_wait) {
            // Its session's replies wait: the inbox parks it, and goes on with the others (S7).
            return self.registration.inbox.put_back(&mut guard);
        }
        let batch = &mut guard.messages;
        let Some(arrived) = batch.front_mut() else {
            return;
        };
        let node = &self.registration.node;
        let expires = arrived.expires();
        if expires.is_some_and(|expires| node.now_nanos() >= expires) {
            arrived.expire();
            batch.pop_front();
            return;
        }
        let Some(deliver) = self.table.get(arrived.kind()) else {
            // Routed here and not known here: the router and the table were made from one list.
            arrived.reject(UndeliverableReason::UnknownType);
            batch.pop_front();
            return;
        };
        // None: its session has ended, and what it counted as undelivered stays that (S4, S6).
        let Some(parcel) = arrived.open() else {
            batch.pop_front();
            return;
        };
        if let Some(calls) = &self.calls {
            calls.message(arrived, parcel.kind);
        }
        drop(guard);
        if let Err(unfit) = deliver(actor, InHand(&self.batch), parcel, ctx) {
            self.tell_unfit(*unfit);
        }
    }

    /// Tells both sides of a message that does not decode.
    #[cold]
    fn tell_unfit(&self, unfit: Unfit) {
        let Unfit { mut arrived, parcel, reason } = unfit;
        arrived.reject(reason);
        if let Some(events) = self.registration.node.router().routes().events().first() {
            events.push_notice(Notice::Undeliverable(Box::new(arrived), reason, Some(parcel)));
        }
    }
}

impl<A: Actor> Drop for Work<A> {
    fn drop(&mut self) {
        // The actor is gone for good: who waits for an answer must not wait for ever.
        for mut arrived in self.batch.take().messages {
            arrived.reject(UndeliverableReason::UnknownType);
        }
    }
}

/// The message in front of a batch, opened, and still in its place. Taken out where it is put
/// before the handler; dropped otherwise, as when its `Deserialize` panics (V1).
pub(crate) struct InHand<'a>(&'a RefCell<Batch>);

impl InHand<'_> {
    /// The message. There always is one: whoever made this has seen it in front.
    #[inline]
    pub(crate) fn take(self) -> Option<Arrived> {
        let batch = std::mem::ManuallyDrop::new(self).0;
        batch.borrow_mut().messages.pop_front()
    }
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        self.0.borrow_mut().messages.pop_front();
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
        let _together = done_together();
        let mut taken = false;
        for _ in 0..work.drain {
            if ctx.waiting() {
                // It may take long: what is not handed out is in front of the actor, also for those
                // who ask what waits.
                let mut batch = work.batch.borrow_mut();
                if !batch.is_empty() {
                    work.registration.inbox.put_back(&mut batch);
                }
                if ctx.state() == ActorState::Stopping {
                    // It may decide to go on; if not, this is not polled again.
                    task.waker().wake_by_ref();
                }
                return Poll::Pending;
            }
            if work.batch.borrow().is_empty() && !self.take_batch(&mut taken, task) {
                return Poll::Pending;
            }
            let notice = work.take_notice();
            // Taken out, and the borrow over, before it is handed out: a panic costs this one.
            match notice {
                Some(notice) => work.hand_out_notice(notice, actor, ctx),
                None => work.hand_out_message(actor, ctx),
            }
        }
        task.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<A: Actor> Pump<A> {
    /// Whether there is a next batch now. `taken`: there was one before in this poll. What came
    /// after an earlier poll may be what woke this one.
    fn take_batch(&self, taken: &mut bool, task: &mut Task<'_>) -> bool {
        let work = &*self.work;
        let mut batch = work.batch.borrow_mut();
        if std::mem::replace(taken, true) && batch.is_last() {
            return false;
        }
        let taken = work.registration.inbox.poll_batch(task, &mut batch, work.drain);
        taken.is_ready()
    }
}
