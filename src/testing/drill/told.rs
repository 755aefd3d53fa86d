//! What the actors of a drill tell the checkers: what they sent, got, and heard of.

use std::time::Duration;

use stellate_actors::supervise::{Cause, Intensity};
use stellate_protocol::event::{ClassCounts, EndCause, Fate};
use stellate_protocol::{Class, EntityName, Identity, Instance};

use crate::event::Counts;
use crate::request_error::RequestError;

/// A message's place: its session as the sender numbers it, its class, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) key: u64,
    pub(super) class: Class,
    /// From 1, in the order in which the session took them.
    pub(super) n: u64,
}

/// How a message was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Plain,
    Receipt,
    /// With a timeout, it need not be delivered.
    Ask {
        timed: bool,
    },
}

/// How a request, or the wait for a receipt, ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// A reply, with the number that it repeats; for receipts, that it was handled.
    Got(u64),
    /// No time was left; or it was not handed out because of that.
    TooLate,
    NotSent,
    MaybeHandled,
    Panicked,
    NoReply,
    /// What must not be.
    Wrong(String),
}

impl From<RequestError> for Answer {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Timeout | RequestError::Expired => Self::TooLate,
            RequestError::SessionEnded { fate: Fate::NotSent, .. } => Self::NotSent,
            RequestError::SessionEnded { fate: Fate::MaybeHandled, .. } => Self::MaybeHandled,
            RequestError::HandlerPanicked => Self::Panicked,
            RequestError::NoReply => Self::NoReply,
            other => Self::Wrong(other.to_string()),
        }
    }
}

/// A message that came back with the end of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Back {
    pub(super) class: Class,
    pub(super) n: u64,
    pub(super) was_sent: bool,
}

/// The end of a session.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub(super) cause: EndCause,
    pub(super) counts: [ClassCounts; Class::COUNT],
    /// In the order in which they came back.
    pub(super) back: Vec<Back>,
}

impl End {
    pub(super) fn new(cause: EndCause, counts: Counts, back: Vec<Back>) -> Self {
        Self { cause, counts: Class::ALL.map(|class| counts[class]), back }
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) enum Told {
    /// The actor's value was built.
    Started,
    /// An actor at that path is about to panic, with these words.
    Panics {
        path: &'static str,
        words: String,
    },
    /// A lane of messages to one peer begins, or has nothing more to send.
    Lane(bool),
    /// A session has taken a message.
    Took {
        to: EntityName,
        place: Place,
        way: Way,
    },
    /// A handler was called with a message of the peer's, of that name and life; `key` is the
    /// session here.
    Delivered {
        key: u64,
        from: (EntityName, u64),
        place: Place,
        intact: bool,
    },
    /// The handler is done with it.
    Finished {
        key: u64,
        from: (EntityName, u64),
        place: Place,
    },
    /// The peer owns it.
    Received(Place),
    /// How a request or a receipt ended.
    Answered(Place, Answer),
    /// The user closed or aborted the session.
    Closed(u64),
    /// The node's messenger is there, and is that.
    Booted(Identity),
    /// The user let that instance in.
    LetIn(Instance),
    /// Two live processes use that name.
    Conflict(EntityName),
    /// The messenger woke so late.
    Late(Duration),
    /// Events of sessions.
    Connected {
        key: u64,
        peer: EntityName,
        instance: Instance,
    },
    Ended {
        key: u64,
        peer: EntityName,
        end: Box<End>,
    },
    /// Something that must not be, whatever else is.
    Wrong {
        invariant: &'static str,
        text: String,
    },
    /// The messenger's tree gave up, and is down.
    GaveUp(Box<LastWord>),
}

/// A group that gave up, or passed a failure on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Handed {
    /// Its path; none is the root.
    pub(super) group: String,
    /// The path of who failed in it.
    pub(super) child: String,
    /// What it was allowed, if it does not pass everything on.
    pub(super) intensity: Option<Intensity>,
}

/// The last word of a tree (V3).
#[derive(Clone, Debug)]
pub(super) struct LastWord {
    /// The chain of causes as it is shown.
    pub(super) text: String,
    /// From the root down.
    pub(super) handed: Vec<Handed>,
    /// What the first cause said, if that was a panic.
    pub(super) words: Option<String>,
    /// Links that the network says the node still has open.
    pub(super) open: usize,
}

impl LastWord {
    pub(super) fn new(cause: &Cause, open: usize) -> Self {
        let shown: Vec<String> = cause.chain().map(ToString::to_string).collect();
        let handed = cause.chain().filter_map(|cause| {
            let (group, child, intensity) = match cause {
                Cause::Exhausted { group, child, intensity, .. } => {
                    (group, child, Some(*intensity))
                }
                Cause::Escalated { group, child, .. } => (group, child, None),
                _ => return None,
            };
            Some(Handed { group: group.to_string(), child: child.to_string(), intensity })
        });
        let words = match cause.first() {
            Cause::Panicked { message } => Some(message.to_string()),
            _ => None,
        };
        Self { text: shown.join("; because "), handed: handed.collect(), words, open }
    }
}
