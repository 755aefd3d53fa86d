//! Why a message was not taken: whose fault it is, and the message back.

use std::fmt;

use stellate_actors::shared::Refusal;
use stellate_protocol::event::EndCause;
use stellate_protocol::{Blame, Class};

use crate::message::{FrontError, Outgoing};
use crate::raw::RawMessage;

/// Why `send`, `reserve` or `send_raw` did not take a message.
#[derive(Debug)]
pub enum SendError {
    /// The session is over; nothing sent on this connection will ever arrive (S6). Connect again.
    SessionEnded {
        /// Why it ended; `None` while it is closing.
        cause: Option<EndCause>,
        /// The message, where one was given.
        message: Option<Box<RawMessage>>,
    },
    /// Over the peer's limits, or over our whole outbox: split it.
    TooLarge(Box<RawMessage>),
    /// There is no room left for more than was reserved.
    Full(Box<RawMessage>),
    /// The message's own `Serialize` failed, or wrote what no reader would take.
    Front(FrontError),
}

impl SendError {
    pub(crate) fn new(class: Class, refusal: Refusal) -> Self {
        let raw = |parcel| Box::new(RawMessage::new(class, parcel));
        match refusal {
            Refusal::Full(parcel) => Self::Full(raw(parcel)),
            Refusal::TooLarge(parcel) => Self::TooLarge(raw(parcel)),
            Refusal::Ended(parcel, cause) => {
                Self::SessionEnded { cause, message: Some(raw(parcel)) }
            }
        }
    }

    /// The message, encoded, unless encoding it is what failed or none was given.
    pub fn into_message(self) -> Option<RawMessage> {
        match self {
            Self::SessionEnded { message, .. } => message.map(|message| *message),
            Self::TooLarge(message) | Self::Full(message) => Some(*message),
            Self::Front(_) => None,
        }
    }

    /// Who is to blame; nobody for a session that ended in order.
    pub fn blame(&self) -> Option<Blame> {
        match self {
            Self::SessionEnded { cause, .. } => cause.as_ref().and_then(blame_of),
            Self::TooLarge(_) | Self::Full(_) | Self::Front(_) => Some(Blame::Local),
        }
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SessionEnded { cause, .. } => ended(f, *cause),
            Self::TooLarge(message) => too_large(f, message.front().len(), message.data().len()),
            Self::Full(_) => f.write_str("the message is longer than the room reserved for it"),
            Self::Front(error) => write!(f, "the message does not encode: {error}"),
        }
    }
}

impl std::error::Error for SendError {}

/// Why `try_send` or `permit.send` did not take a message: it is in here.
pub enum TrySendError<M> {
    /// No room now; [`Writable`](crate::SessionEvent::Writable) tells when to try again.
    Full(Outgoing<M>),
    /// Over the peer's limits, or over our whole outbox: split it.
    TooLarge(Outgoing<M>),
    /// The session is over; nothing sent on this connection will ever arrive (S6). Connect again.
    SessionEnded {
        /// Why it ended; `None` while it is closing.
        cause: Option<EndCause>,
        /// The message.
        message: Outgoing<M>,
    },
    /// The message's own `Serialize` failed, or wrote what no reader would take.
    Front {
        /// What is wrong.
        error: FrontError,
        /// The message.
        message: Outgoing<M>,
    },
}

impl<M> TrySendError<M> {
    pub(crate) fn new(class: Class, body: M, refusal: Refusal) -> Self {
        let message = |data| Outgoing { body, data, class };
        match refusal {
            Refusal::Full(parcel) => Self::Full(message(parcel.into_data())),
            Refusal::TooLarge(parcel) => Self::TooLarge(message(parcel.into_data())),
            Refusal::Ended(parcel, cause) => {
                Self::SessionEnded { cause, message: message(parcel.into_data()) }
            }
        }
    }

    /// The message.
    pub fn into_message(self) -> Outgoing<M> {
        match self {
            Self::Full(message) | Self::TooLarge(message) => message,
            Self::SessionEnded { message, .. } | Self::Front { message, .. } => message,
        }
    }

    /// Whether a later try may succeed.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full(_))
    }

    /// Who is to blame; nobody for a full outbox or a session that ended in order.
    pub fn blame(&self) -> Option<Blame> {
        match self {
            Self::Full(_) => None,
            Self::SessionEnded { cause, .. } => cause.as_ref().and_then(blame_of),
            Self::TooLarge(_) | Self::Front { .. } => Some(Blame::Local),
        }
    }
}

impl<M> fmt::Display for TrySendError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.write_str("the outbox is full: try again when it is writable"),
            Self::TooLarge(message) => too_large(f, 0, message.data.len()),
            Self::SessionEnded { cause, .. } => ended(f, *cause),
            Self::Front { error, .. } => write!(f, "the message does not encode: {error}"),
        }
    }
}

impl<M> fmt::Debug for TrySendError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.write_str("Full(..)"),
            Self::TooLarge(_) => f.write_str("TooLarge(..)"),
            Self::SessionEnded { cause, .. } => {
                write!(f, "SessionEnded {{ cause: {cause:?}, .. }}")
            }
            Self::Front { error, .. } => write!(f, "Front {{ error: {error:?}, .. }}"),
        }
    }
}

impl<M> std::error::Error for TrySendError<M> {}

fn too_large(f: &mut fmt::Formatter<'_>, front: usize, data: usize) -> fmt::Result {
    if front > 0 {
        write!(f, "a front of {front} bytes with ")?;
    }
    write!(f, "{data} bytes of data is over the peer's limits or our outbox: split it")
}

fn ended(f: &mut fmt::Formatter<'_>, cause: Option<EndCause>) -> fmt::Result {
    match cause {
        Some(cause) => write!(f, "the session has ended: {}", describe(&cause)),
        None => f.write_str("the session is closing: connect again for a new one"),
    }
}

/// What a cause means and what to do about it, for people.
pub(crate) fn describe(cause: &EndCause) -> String {
    let text = match cause {
        EndCause::ClosedHere => "closed here",
        EndCause::ClosedByPeer => "closed by the peer",
        EndCause::PeerRestarted => "the peer restarted: connect again and tell it what it missed",
        EndCause::Superseded => "a newer incarnation of the same name is known",
        EndCause::Refused(reason) => {
            return format!(
                "the peer refused the hello ({reason:?}): check name and configuration"
            );
        }
        EndCause::PolicyMismatch => {
            "the two policies make no promise together: a pair is a client and a server, or two \
             peers"
        }
        EndCause::AdmissionRefused => "admission was refused",
        EndCause::Unreachable => "the peer was never reached: check the address",
        EndCause::TimedOut => "without a link for too long",
        EndCause::LinkLost => "the link of a lossy session broke: connect again",
        EndCause::ProtocolViolation { at: Some((class, seq)) } => {
            return format!("the peer broke the protocol at message {seq} of class {class}");
        }
        EndCause::ProtocolViolation { at: None } => "the peer broke the protocol",
        EndCause::InternalFault => "the session's own actor failed, here or there",
    };
    text.into()
}

/// Whom to blame for the end of a session.
pub(crate) fn blame_of(cause: &EndCause) -> Option<Blame> {
    match cause {
        EndCause::ClosedHere
        | EndCause::ClosedByPeer
        | EndCause::PeerRestarted
        | EndCause::Superseded => None,
        EndCause::Refused(_) | EndCause::PolicyMismatch | EndCause::AdmissionRefused => {
            Some(Blame::PeerIncompatible)
        }
        EndCause::Unreachable | EndCause::TimedOut | EndCause::LinkLost => Some(Blame::Transport),
        EndCause::ProtocolViolation { .. } => Some(Blame::PeerMisbehaved),
        EndCause::InternalFault => Some(Blame::Local),
    }
}
