//! What a sender holds after a send: places to ask how far the message got (S3).

use stellate_actors::handle::Reply;
use stellate_protocol::event::{CallResult, EndCause, Returned};
use stellate_protocol::frame::Outcome;
use stellate_protocol::{Blame, Class};

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
    /// [`NotReceived`]: the session's end came first, and the message may be among its `unacked`;
    /// or it came back.
    pub async fn received(&self) -> Result<(), NotReceived> {
        let Sent { class, position } = self.sent;
        let received = self.connection.handle().received(class, position).await;
        received.map_err(NotReceived::new)
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

/// Why a message will never be known to be received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotReceived {
    /// The session ended before that was known.
    SessionEnded {
        /// Why it ended.
        cause: Option<EndCause>,
    },
    /// It was sent before the peer's limits were known, and is over them: it came back as
    /// [`Undeliverable`](crate::SessionEvent::Undeliverable), or as the outcome of its call.
    TooLarge,
    /// `requests_max` calls were open when its turn came: it was never sent.
    TooManyRequests,
}

impl NotReceived {
    pub(crate) fn new(why: stellate_actors::shared::NotReceived) -> Self {
        use stellate_actors::shared::NotReceived as Why;
        match why {
            Why::Ended(cause) => Self::SessionEnded { cause },
            Why::Returned(Returned::TooLarge) => Self::TooLarge,
            Why::Returned(Returned::NoRoom) => Self::TooManyRequests,
        }
    }

    /// Who is to blame; nobody for a session that ended in order.
    pub fn blame(&self) -> Option<Blame> {
        match self {
            Self::SessionEnded { cause } => cause.as_ref().and_then(crate::send_error::blame_of),
            Self::TooLarge | Self::TooManyRequests => Some(Blame::Local),
        }
    }
}

impl std::fmt::Display for NotReceived {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::SessionEnded { cause: Some(cause) } => {
                write!(f, "the session has ended: {}", crate::send_error::describe(cause))
            }
            Self::SessionEnded { cause: None } => f.write_str("the session is closing"),
            Self::TooLarge => f.write_str("the message is over the peer's limits: split it"),
            Self::TooManyRequests => f.write_str("too many calls were open: await some first"),
        }
    }
}

impl std::error::Error for NotReceived {}
