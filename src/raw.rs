//! Messages in their encoded form: what comes back when a session could not carry them.

use bytes::Bytes;
use stellate_protocol::event::Unacked as Taken;
use stellate_protocol::frame::Call;
use stellate_protocol::{Class, Parcel};

use crate::message::{
    Body, FrontError, Message, MessageType, Outgoing, Stamp, TooNew, decode_front,
};

/// An encoded message: taken back from a session, or not understood here.
///
/// It can be sent again as it is with [`Connection::send_raw`](crate::Connection::send_raw), or
/// turned back into what it was with [`downcast`](Self::downcast).
#[derive(Clone, Debug)]
pub struct RawMessage {
    class: Class,
    parcel: Parcel,
}

impl RawMessage {
    pub(crate) fn new(class: Class, parcel: Parcel) -> Self {
        Self { class, parcel }
    }

    pub(crate) fn into_parcel(self) -> (Class, Parcel) {
        (self.class, self.parcel)
    }

    /// Its type, version and compatible-back-to version.
    pub fn stamp(&self) -> Stamp {
        Stamp {
            message_type: self.message_type(),
            version: self.parcel.version,
            compat: self.parcel.compat,
        }
    }

    /// The number of its type.
    pub fn message_type(&self) -> MessageType {
        MessageType::new(self.parcel.kind)
    }

    /// Its class.
    pub fn class(&self) -> Class {
        self.class
    }

    /// The encoded typed part.
    pub fn front(&self) -> &[u8] {
        self.parcel.front()
    }

    /// The data segment.
    pub fn data(&self) -> Bytes {
        self.parcel.data_bytes()
    }

    /// The message as it was before it was sent, if it is an `M`.
    ///
    /// # Errors
    /// [`DowncastError`], with the message in it.
    pub fn downcast<M: Message>(self) -> Result<Outgoing<M>, DowncastError> {
        self.typed::<M, M>()
    }

    fn typed<M: Message, B: Body>(self) -> Result<Outgoing<B>, DowncastError> {
        match self.decode::<M, B>() {
            Ok(body) => Ok(Outgoing { body, data: self.parcel.into_data(), class: self.class }),
            Err(reason) => Err(DowncastError { reason, message: Box::new(self) }),
        }
    }

    fn decode<M: Message, B: Body>(&self) -> Result<B, DowncastReason> {
        if self.message_type() != M::TYPE {
            return Err(DowncastReason::OtherType(self.message_type()));
        }
        self.stamp().check::<M>().map_err(DowncastReason::TooNew)?;
        decode_front(self.parcel.front()).map_err(DowncastReason::Front)
    }
}

/// A message taken back from a session that ended: not known to be received by the peer.
#[derive(Clone, Debug)]
pub struct UnackedMessage {
    message: RawMessage,
    sent: bool,
    reply: bool,
    call: Call,
}

impl UnackedMessage {
    pub(crate) fn new(taken: Taken<Parcel>) -> Self {
        let Taken { class, reply, sent, call, payload } = taken;
        Self { message: RawMessage::new(class, payload), sent, reply, call }
    }

    /// The message in its encoded form.
    pub fn raw(&self) -> &RawMessage {
        &self.message
    }

    /// The same, by value: to send it again, say.
    pub fn into_raw(self) -> RawMessage {
        self.message
    }

    /// Whether it was ever put on a link: then the peer may have it, and a second copy may be one
    /// too many.
    pub fn was_sent(&self) -> bool {
        self.sent
    }

    /// Whether it answers a request.
    pub fn is_reply(&self) -> bool {
        self.reply
    }

    /// Whether somebody here waited for its reply; they have been told.
    pub fn is_request(&self) -> bool {
        matches!(self.call, Call::Request { .. })
    }

    /// The message as it was before it was sent, if it is an `M` and no reply.
    ///
    /// # Errors
    /// [`DowncastError`], with the message in it.
    pub fn downcast<M: Message>(self) -> Result<Outgoing<M>, DowncastError> {
        if self.reply {
            let reason = DowncastReason::Reply;
            return Err(DowncastError { reason, message: Box::new(self.message) });
        }
        self.message.downcast()
    }

    /// The reply as it was before it was sent, if it answers an `M`.
    ///
    /// # Errors
    /// [`DowncastError`], with the message in it.
    pub fn downcast_reply<M: Message>(self) -> Result<Outgoing<M::Reply>, DowncastError> {
        if !self.reply {
            let reason = DowncastReason::NoReply;
            return Err(DowncastError { reason, message: Box::new(self.message) });
        }
        self.message.typed::<M, M::Reply>()
    }
}

/// The messages that a session gives back at its end (S4).
///
/// The oldest first within a class. Dropping it drops them.
#[derive(Clone, Debug, Default)]
pub struct Unacked {
    messages: Vec<Taken<Parcel>>,
}

impl Unacked {
    pub(crate) fn new(messages: Vec<Taken<Parcel>>) -> Self {
        Self { messages }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Takes them out. What the iterator has not given when it is dropped is dropped with it.
    pub fn drain(&mut self) -> impl ExactSizeIterator<Item = UnackedMessage> + use<> {
        std::mem::take(&mut self.messages).into_iter().map(UnackedMessage::new)
    }
}

/// An encoded message that is not what was asked for; it is in here.
#[derive(Debug)]
pub struct DowncastError {
    /// What is wrong.
    pub reason: DowncastReason,
    /// The message.
    pub message: Box<RawMessage>,
}

/// What is wrong with a downcast.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DowncastReason {
    /// It is of this type.
    OtherType(MessageType),
    /// It is a reply.
    Reply,
    /// It is none.
    NoReply,
    /// A newer version of the type wrote it.
    TooNew(TooNew),
    /// Its front does not decode.
    Front(FrontError),
}

impl std::fmt::Display for DowncastError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.reason {
            DowncastReason::OtherType(found) => write!(f, "the message is of type {found}"),
            DowncastReason::Reply => f.write_str("the message is a reply: use downcast_reply"),
            DowncastReason::NoReply => f.write_str("the message is not a reply: use downcast"),
            DowncastReason::TooNew(error) => error.fmt(f),
            DowncastReason::Front(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for DowncastError {}
