//! What an actor is told that is not a message.

use std::sync::Arc;

use bytes::Bytes;
use stellate_protocol::event::{Decision, End, EndCause, Event};
use stellate_protocol::frame::UndeliverableReason;
use stellate_protocol::{Identity, Parcel, Question};

use super::Arrived;
use crate::shared::{SessionShared, Staged};

/// A question to the user's admission.
#[derive(Debug)]
pub struct AdmissionAsk {
    /// The session that is born or resumes.
    pub session: Arc<SessionShared>,
    /// Number of the question.
    pub question: Question,
    /// The peer.
    pub peer: Identity,
    /// What it offers.
    pub metadata: Bytes,
    /// Whether the session was up before.
    pub resumed: bool,
}

impl AdmissionAsk {
    /// Answers. Later answers overrule `Hold` only; once the session has asked again this answers
    /// nothing.
    pub fn answer(&self, decision: Decision) {
        self.session.stage(Staged::Admission { question: self.question, decision });
    }
}

/// Something for a user's actor that is not a message.
#[derive(Debug)]
pub enum Notice {
    /// An event of a session.
    Event(Arc<SessionShared>, Box<Event<Parcel>>),
    /// The session goes on as another by itself, after this end.
    Reset {
        /// The session that ended.
        old: Arc<SessionShared>,
        /// The one after.
        new: Arc<SessionShared>,
        /// How the old one ended.
        end: Box<End<Parcel>>,
    },
    /// A message that nobody here can handle; its sender is told when this is dropped.
    Undeliverable(Box<Arrived>, UndeliverableReason, Option<Parcel>),
    /// A try to send found the outbox full, and now there is room.
    Writable(Arc<SessionShared>),
    /// A question to the admission.
    Admission(Box<AdmissionAsk>),
}

impl Notice {
    /// Bytes of messages that it gives back. Those that replace each other give back none.
    pub(super) fn bytes(&self) -> u64 {
        let end = |end: &End<Parcel>| end.unacked.iter().map(|one| one.payload.bytes()).sum();
        match self {
            Self::Event(_, event) => match &**event {
                Event::Ended(ended) => end(ended),
                Event::Undeliverable { payload, .. } => payload.as_ref().map_or(0, Parcel::bytes),
                _ => 0,
            },
            Self::Reset { end: ended, .. } => end(ended),
            Self::Undeliverable(_, _, parcel) => parcel.as_ref().map_or(0, Parcel::bytes),
            Self::Writable(_) | Self::Admission(_) => 0,
        }
    }

    pub(super) fn is_replaced_by(&self, later: &Self) -> bool {
        match (self, later) {
            (Self::Event(session, event), Self::Event(other, later)) => {
                Arc::ptr_eq(session, other) && later.replaces(event)
            }
            (Self::Writable(session), Self::Writable(other)) => Arc::ptr_eq(session, other),
            // Not asked yet: the answer to the later question is the one that counts.
            (Self::Admission(ask), Self::Admission(later)) => {
                Arc::ptr_eq(&ask.session, &later.session)
            }
            _ => false,
        }
    }

    /// The cause, if it is an end.
    pub fn end_cause(&self) -> Option<EndCause> {
        match self {
            Self::Event(_, event) => match &**event {
                Event::Ended(end) => Some(end.cause),
                _ => None,
            },
            Self::Reset { end, .. } => Some(end.cause),
            _ => None,
        }
    }
}
