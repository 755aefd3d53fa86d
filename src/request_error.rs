//! How a request ends, if not with a reply: whose fault it is, and whether it may have been handled.

use std::fmt;

use stellate_actors::shared::Refusal;
use stellate_protocol::event::{CallResult, EndCause, Fate};
use stellate_protocol::frame::{Outcome, UndeliverableReason};
use stellate_protocol::{Blame, Class, Parcel};

use crate::message::{FrontError, TooNew};
use crate::raw::RawMessage;
use crate::send_error::{blame_of, describe};

/// How a request ended, if not with a reply.
#[derive(Debug)]
pub enum RequestError {
    /// No answer in time; it may have been handled.
    Timeout,
    /// The session ended first.
    SessionEnded {
        /// What may have become of the request.
        fate: Fate,
        /// Why the session ended; `None` while it is closing.
        cause: Option<EndCause>,
    },
    /// The handler panicked with the request in hand, or its actor was given up with it: panicked
    /// over another message, was killed or removed. It may have done part of its work.
    HandlerPanicked,
    /// The handler was done with the request and had not replied.
    NoReply,
    /// A handler there has replied, with more than this side's `front_max` or `data_max`: the reply was
    /// dropped there, and the request is handled all the same. Ask for less at once, or raise the
    /// limit here.
    ReplyTooLarge,
    /// The peer has no handler that can take it. [`TooLarge`](UndeliverableReason::TooLarge) is said
    /// here, of what was sent before the peer's limits were known and is over them.
    Undeliverable(UndeliverableReason),
    /// Its time was over before it was handed out: it was not handled.
    Expired,
    /// Something here.
    Local(RequestFault),
}

/// What went wrong with a request on this side.
#[derive(Debug)]
pub enum RequestFault {
    /// The request is over the peer's limits, or over our whole outbox: split it.
    TooLarge(Box<RawMessage>),
    /// `requests_max` are open already.
    TooManyRequests,
    /// The request's own `Serialize` failed, or wrote what no reader would take.
    Front(FrontError),
    /// The reply does not decode as the request's `Reply`.
    BadReply(FrontError),
    /// The reply was written by a version of the type that this side does not understand.
    ReplyTooNew(TooNew),
}

impl RequestError {
    /// `result` is not a reply; `cause` is that of an end.
    pub(crate) fn of(result: CallResult<Parcel>, cause: Option<EndCause>) -> Self {
        match result {
            CallResult::Answered(Outcome::HandlerPanicked, _) => Self::HandlerPanicked,
            CallResult::Answered(Outcome::Expired, _) => Self::Expired,
            // One's own message comes back, with its bytes, and is never sent. What a peer says so of is
            // its reply, and an answer that is no reply has no bytes.
            CallResult::Answered(Outcome::Undeliverable(UndeliverableReason::TooLarge), parcel)
                if parcel.bytes() == 0 =>
            {
                Self::ReplyTooLarge
            }
            CallResult::Answered(Outcome::Undeliverable(reason), _) => Self::Undeliverable(reason),
            CallResult::Answered(Outcome::NoReply | Outcome::Handled | Outcome::Reply, _) => {
                Self::NoReply
            }
            CallResult::Timeout => Self::Timeout,
            CallResult::SessionEnded(fate) => Self::SessionEnded { fate, cause },
            CallResult::NoRoom => Self::Local(RequestFault::TooManyRequests),
        }
    }

    pub(crate) fn not_sent(cause: Option<EndCause>) -> Self {
        Self::SessionEnded { fate: Fate::NotSent, cause }
    }

    pub(crate) fn refused(class: Class, refusal: Refusal) -> Self {
        match refusal {
            Refusal::Ended(_, cause) => Self::not_sent(cause),
            // There was room, but as many calls as a session can hold wait to be fetched.
            Refusal::Full(_) => Self::Local(RequestFault::TooManyRequests),
            Refusal::TooLarge(parcel) => {
                Self::Local(RequestFault::TooLarge(Box::new(RawMessage::new(class, parcel))))
            }
        }
    }

    /// Whether the request certainly was not handled, so that it may be sent again as it is.
    pub fn is_unhandled(&self) -> bool {
        match self {
            Self::SessionEnded { fate, .. } => *fate == Fate::NotSent,
            Self::Undeliverable(_) | Self::Expired => true,
            Self::Local(fault) => {
                !matches!(fault, RequestFault::BadReply(_) | RequestFault::ReplyTooNew(_))
            }
            Self::Timeout | Self::HandlerPanicked | Self::NoReply | Self::ReplyTooLarge => false,
        }
    }

    /// Who is to blame; nobody for a session that ended in order.
    pub fn blame(&self) -> Option<Blame> {
        match self {
            Self::Timeout | Self::Expired => Some(Blame::Transport),
            Self::SessionEnded { cause, .. } => cause.as_ref().and_then(blame_of),
            Self::HandlerPanicked | Self::NoReply => Some(Blame::PeerMisbehaved),
            Self::Undeliverable(UndeliverableReason::TooLarge) => Some(Blame::Local),
            Self::Undeliverable(_) | Self::ReplyTooLarge => Some(Blame::PeerIncompatible),
            Self::Local(RequestFault::BadReply(_) | RequestFault::ReplyTooNew(_)) => {
                Some(Blame::PeerIncompatible)
            }
            Self::Local(_) => Some(Blame::Local),
        }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("no reply in time; the request may have been handled"),
            Self::SessionEnded { fate, cause } => {
                let fate = match fate {
                    Fate::NotSent => "was never sent",
                    Fate::MaybeHandled => "may have been handled",
                };
                let cause = cause.as_ref().map_or("it is closing".into(), describe);
                write!(f, "the session has ended ({cause}) and the request {fate}")
            }
            Self::HandlerPanicked => f.write_str("the peer's handler panicked with the request"),
            Self::NoReply => f.write_str("the peer's handler was done and had not replied"),
            Self::ReplyTooLarge => f.write_str(
                "the request was handled there, and its reply is over our limits: ask for less, or raise \
                 data_max or front_max here",
            ),
            Self::Undeliverable(reason) => f.write_str(undeliverable(*reason)),
            Self::Expired => f.write_str("the request's time was over before it was handed out"),
            Self::Local(fault) => fault.fmt(f),
        }
    }
}

impl std::error::Error for RequestError {}

impl fmt::Display for RequestFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge(_) => f.write_str("the request is over the peer's limits: split it"),
            Self::TooManyRequests => f.write_str("requests_max are open already: wait for some"),
            Self::Front(error) => write!(f, "the request does not encode: {error}"),
            Self::BadReply(error) => write!(f, "the reply does not decode: {error}"),
            Self::ReplyTooNew(error) => write!(f, "the reply cannot be read: {error}"),
        }
    }
}

/// What the reason means, for people.
fn undeliverable(reason: UndeliverableReason) -> &'static str {
    match reason {
        UndeliverableReason::UnknownType => "nobody there handles the message's type",
        UndeliverableReason::BadFront => "the message's front does not decode there",
        UndeliverableReason::TooNew => "the message demands a newer version of its type there",
        UndeliverableReason::TooLarge => "the message is over the peer's limits: split it",
    }
}
