//! What a sender holds after a send: places to ask how far the message got (S3).

use stellate_actors::handle::Reply;
use stellate_protocol::Class;
use stellate_protocol::event::{CallResult, EndCause};
use stellate_protocol::frame::Outcome;

use crate::connection::Connection;
use crate::request_error::RequestError;

/// The place of a sent message in its class. Costs nothing; ask with
/// [`Connection::received`](crate::Connection::received) whether the peer owns the message.
#[derive(Debug, PartialEq, Eq)]
pub struct Sent {
    pub(crate) class: Class,
    pub(crate) position: u64,
}

impl Sent {
    /// Its class.
    pub fn class(&self) -> Class {
        self.class
    }

    /// Its place among the messages of its class in this session, from 1.
    pub fn position(&self) -> u64 {
        self.position
    }
}

/// Tells how far a message got that was sent with `try_send`. Dropping it changes nothing for the
/// message.
#[derive(Debug)]
pub struct Receipt {
    pub(crate) connection: Connection,
    pub(crate) sent: Sent,
    pub(crate) handled: Reply,
}

impl Receipt {
    /// The place of the message in its class.
    pub fn sent(&self) -> &Sent {
        &self.sent
    }

    /// Waits until the peer owns the message, and with it all before it in its class: it is out of
    /// the outbox and will not be replayed.
    ///
    /// # Errors
    /// The session's end came first; the message may be among its `unacked`.
    pub async fn received(&self) -> Result<(), SessionEnded> {
        let Sent { class, position } = self.sent;
        let received = self.connection.handle().received(class, position).await;
        received.map_err(|cause| SessionEnded { cause })
    }

    /// Waits until the peer's handler has returned, or its future resolved. A handler that
    /// unwound has not handled the message, nor has a future that was dropped with its actor.
    ///
    /// # Errors
    /// [`RequestError`]: `HandlerPanicked`, `Undeliverable`, or `SessionEnded` with what may have
    /// become of it.
    pub async fn handled(self) -> Result<(), RequestError> {
        let Self { connection, handled, .. } = self;
        match handled.await {
            CallResult::Answered(Outcome::Handled | Outcome::Reply | Outcome::NoReply, _) => Ok(()),
            CallResult::SessionEnded(fate) => {
                // Its cause follows in the same turn of the session.
                let cause = connection.ended().await;
                Err(RequestError::SessionEnded { fate, cause })
            }
            other => Err(RequestError::of(other, None)),
        }
    }
}

/// The session ended before that was known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionEnded {
    /// Why it ended.
    pub cause: Option<EndCause>,
}

impl std::fmt::Display for SessionEnded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.cause {
            Some(cause) => {
                write!(f, "the session has ended: {}", crate::send_error::describe(cause))
            }
            None => f.write_str("the session is closing"),
        }
    }
}

impl std::error::Error for SessionEnded {}
