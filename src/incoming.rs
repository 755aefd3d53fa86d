//! A message in front of its handler.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use bytes::Bytes;
use stellate_actors::inbox::Arrived;
use stellate_protocol::{Class, Seq};

use crate::connection::Connection;
use crate::encode::pack_reply;
use crate::message::{Message, Outgoing};

/// A message that arrived, with its data and the right to answer it.
///
/// While it lives it takes a place in its class's window: the peer may send so many more messages
/// only. Dropping it is being done with it. A request that has no reply then is answered
/// [`NoReply`](crate::RequestError::NoReply), or
/// [`HandlerPanicked`](crate::RequestError::HandlerPanicked) if the thread is unwinding, or if it was
/// held by a hosted actor, its state or a future in its context, and is dropped with it. A message
/// sent with `try_send` counts as handled, but for the same two cases (S3).
///
/// It is `Send`: it may be kept, or moved to another actor or thread, and be done later. What is
/// kept of [`data`](Self::data) beyond it is a slice of a receive buffer, counted against
/// [`Limits::user_held`](crate::Limits), by each transport for itself and over RDMA by each device;
/// while there is more of that, data arrives in memory of its own size, which is the user's. Over RDMA
/// data that was pulled lies in registered memory of about its size, which `PoolOptions::kept_max`
/// bounds instead, and beyond that in the user's.
pub struct Incoming<M: Message> {
    /// The typed part.
    pub message: M,
    /// The data segment: a slice of what it was received in, or memory of its own (see above).
    pub data: Bytes,
    arrived: Arrived,
}

impl<M: Message> actix::Message for Incoming<M> {
    type Result = ();
}

impl<M: Message> Incoming<M> {
    pub(crate) fn new(message: M, data: Bytes, arrived: Arrived) -> Self {
        Self { message, data, arrived }
    }

    /// The session it came on.
    pub fn connection(&self) -> Connection {
        Connection::of(self.arrived.session())
    }

    /// Its class.
    pub fn class(&self) -> Class {
        self.arrived.class()
    }

    /// Its place among the messages of its class in this session, from 1.
    pub fn seq(&self) -> Seq {
        self.arrived.seq()
    }

    /// Whether its sender waits for a reply.
    pub fn is_request(&self) -> bool {
        self.arrived.is_request()
    }

    /// Replies. Synchronous, and never waits: the requester has reserved the room. The reply goes
    /// in the class of the request, whatever class it was given.
    ///
    /// True if it goes to the requester. False if nobody waits for a reply, since the message is no
    /// request; or if the reply does not encode: that is logged, and the requester gets `NoReply`.
    /// Of a reply over the requester's limits, that is all it learns:
    /// [`ReplyTooLarge`](crate::RequestError::ReplyTooLarge).
    pub fn reply(self, reply: impl Into<Outgoing<M::Reply>>) -> bool {
        respond::<M>(self.arrived, reply.into())
    }

    /// Drops the message and its data, and keeps the right to answer, to be done later, elsewhere.
    pub fn defer(self) -> Deferred<M> {
        Deferred { arrived: self.arrived, message: PhantomData }
    }

    /// The message, its data, and the right to answer, each for itself.
    pub fn into_parts(self) -> (M, Bytes, Deferred<M>) {
        let Self { message, data, arrived } = self;
        (message, data, Deferred { arrived, message: PhantomData })
    }

    pub(crate) fn into_arrived(self) -> Arrived {
        self.arrived
    }
}

impl<M: Message> Deref for Incoming<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.message
    }
}

impl<M: Message> DerefMut for Incoming<M> {
    fn deref_mut(&mut self) -> &mut M {
        &mut self.message
    }
}

impl<M: Message + fmt::Debug> fmt::Debug for Incoming<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("message", &self.message)
            .field("data", &self.data.len())
            .field("class", &self.class())
            .finish_non_exhaustive()
    }
}

/// The right to answer a message, which is not done before this is dropped or used. Everything
/// said of [`Incoming`] holds for it: it takes a place in the window.
#[must_use = "dropping it is being done with the message"]
pub struct Deferred<M: Message> {
    arrived: Arrived,
    message: PhantomData<fn() -> M>,
}

impl<M: Message> Deferred<M> {
    /// The session that the message came on.
    pub fn connection(&self) -> Connection {
        Connection::of(self.arrived.session())
    }

    /// Its class.
    pub fn class(&self) -> Class {
        self.arrived.class()
    }

    /// Whether its sender waits for a reply.
    pub fn is_request(&self) -> bool {
        self.arrived.is_request()
    }

    /// As [`Incoming::reply`].
    pub fn reply(self, reply: impl Into<Outgoing<M::Reply>>) -> bool {
        respond::<M>(self.arrived, reply.into())
    }

    /// Done, without a reply; the same as dropping it.
    pub fn done(self) {}
}

impl<M: Message> fmt::Debug for Deferred<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deferred").field("type", &M::TYPE).finish_non_exhaustive()
    }
}

fn respond<M: Message>(mut arrived: Arrived, reply: Outgoing<M::Reply>) -> bool {
    if !arrived.is_request() {
        return false;
    }
    match pack_reply::<M>(&reply.body, reply.data) {
        Ok(parcel) => arrived.reply(parcel),
        Err(error) => {
            tracing::error!(request = %M::TYPE, %error, "a reply does not encode");
            false
        }
    }
}
