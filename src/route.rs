//! Messages for an actor that the messenger does not host: one envelope each.
//!
//! ```text
//!   Inbox ─► Forward (hosted, inline) ─ try_send ─► Recipient<Incoming<M>>
//!                 └── full: waits for this one, takes no more
//! ```
//!
//! In order: while one waits for room in the recipient's mailbox, the inbox is not drained, and
//! the peer's window fills behind it.

use actix::prelude::SendError;
use actix::{Actor, ActorContext, Context, ContextFutureSpawner, Handler};
use actix::{Recipient, WrapFuture};
use stellate_protocol::frame::UndeliverableReason;

use crate::incoming::Incoming;
use crate::message::Message;

/// Hands messages of one type on.
pub(crate) struct Forward<M: Message> {
    recipient: Recipient<Incoming<M>>,
}

impl<M: Message> Forward<M> {
    pub(crate) fn new(recipient: Recipient<Incoming<M>>) -> Self {
        Self { recipient }
    }
}

impl<M: Message> Actor for Forward<M> {
    type Context = Context<Self>;
}

impl<M: Message> Handler<Incoming<M>> for Forward<M> {
    type Result = ();

    fn handle(&mut self, incoming: Incoming<M>, ctx: &mut Self::Context) {
        match self.recipient.try_send(incoming) {
            Ok(()) => {}
            Err(SendError::Full(incoming)) => {
                let sent = self.recipient.send(incoming);
                let sent = async move {
                    // A recipient that ends with it in hand drops it, which is being done with it.
                    let _ = sent.await;
                };
                sent.into_actor(self).wait(ctx);
            }
            Err(SendError::Closed(incoming)) => {
                incoming.into_arrived().reject(UndeliverableReason::UnknownType);
                tracing::warn!(message = %M::TYPE, "the recipient of a route has ended");
                ctx.stop();
            }
        }
    }
}
