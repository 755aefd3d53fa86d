//! What an actor that registered for events is told.

use std::ops::Index;
use std::time::Duration;

use stellate_actors::inbox::{Arrived, Notice};
use stellate_protocol::event::{ClassCounts, End, EndCause, Event};
use stellate_protocol::frame::UndeliverableReason;
use stellate_protocol::{Class, Identity, Parcel};

use crate::connection::Connection;
use crate::raw::{RawMessage, Unacked};

/// Something happened to a session. For actors that registered with
/// [`events`](crate::Hosting::events).
///
/// For one actor, the end of a session comes before every message and every event of the session
/// after it (S6), whatever threads they live on. While the link of an old instance is probed the new
/// one waits, at most `probe`; if both turn out to live, `NameConflict` is told and both go on. A
/// stateless server, which looks nobody up by name, waits for ends that are there already only.
/// Every end gives exactly one event, an `Ended` or a `Reset` (S4), also while the messenger
/// [shuts down](crate::Messenger::shutdown), with the exceptions named there.
#[derive(Debug)]
#[non_exhaustive]
pub enum SessionEvent {
    /// Up for the first time.
    Connected {
        /// The session.
        connection: Connection,
        /// The peer.
        peer: Identity,
        /// The peer receives and keeps what we send, and delivers it once its user admits us.
        held: bool,
    },
    /// The peer's user has admitted us: what was held is being delivered.
    Admitted {
        /// The session.
        connection: Connection,
    },
    /// Up again after the loss of a link; nothing was lost.
    Resumed {
        /// The session.
        connection: Connection,
        /// As in `Connected`.
        held: bool,
    },
    /// A session has ended and the policy goes on with a fresh one by itself: the peer has lost its
    /// memory of the old one. Nothing is sent again unless you do.
    Reset {
        /// The session that ended.
        old: Connection,
        /// The one that goes on.
        new: Connection,
        /// Why.
        cause: EndCause,
        /// The numbers of the old one.
        counts: Counts,
        /// The messages of the old one that the peer is not known to have received.
        unacked: Unacked,
    },
    /// A session has ended.
    Ended {
        /// The session.
        connection: Connection,
        /// Why.
        cause: EndCause,
        /// Its numbers.
        counts: Counts,
        /// Its messages that the peer is not known to have received.
        unacked: Unacked,
    },
    /// Two live processes use the peer's name. Both sessions stay.
    NameConflict {
        /// The session that was there before.
        connection: Connection,
    },
    /// A message was not handed to a handler: one of ours there, or one of the peer's here.
    Undeliverable {
        /// The session.
        connection: Connection,
        /// Whose message it was.
        origin: Origin,
        /// Its class.
        class: Class,
        /// Why.
        reason: UndeliverableReason,
        /// The message, where it is still known: one of the peer's, or one of ours that never left.
        message: Option<RawMessage>,
    },
    /// A `try_send` found the outbox full, and now there is room.
    Writable {
        /// The session.
        connection: Connection,
    },
    /// The messenger woke so late that the peer's silence may be our own fault. A thread is blocked
    /// or the machine is overloaded.
    LocalStall {
        /// The session.
        connection: Connection,
        /// How late.
        late: Duration,
    },
}

/// Which side sent a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// This side.
    Here,
    /// The peer.
    There,
}

impl actix::Message for SessionEvent {
    type Result = ();
}

impl SessionEvent {
    /// The session it is about; for a `Reset` the one that goes on.
    pub fn connection(&self) -> &Connection {
        match self {
            Self::Connected { connection, .. }
            | Self::Admitted { connection }
            | Self::Resumed { connection, .. }
            | Self::Reset { new: connection, .. }
            | Self::Ended { connection, .. }
            | Self::NameConflict { connection }
            | Self::Undeliverable { connection, .. }
            | Self::Writable { connection }
            | Self::LocalStall { connection, .. } => connection,
        }
    }

    /// The event of a notice, and what must live until it was handled: a message that cannot be
    /// delivered keeps its place in the window until then, which bounds these events (S7).
    pub(crate) fn of(notice: Notice) -> Option<(Self, Option<Box<Arrived>>)> {
        let event = match notice {
            Notice::Event(session, event) => Self::of_session(Connection::of(&session), *event),
            Notice::Reset { old, new, end } => {
                let End { cause, counts, unacked, .. } = *end;
                Self::Reset {
                    old: Connection::of(&old),
                    new: Connection::of(&new),
                    cause,
                    counts: Counts(counts),
                    unacked: Unacked::new(unacked),
                }
            }
            Notice::Writable(session) => Self::Writable { connection: Connection::of(&session) },
            Notice::Undeliverable(arrived, reason, parcel) => {
                let class = arrived.class();
                let parcel = parcel.or_else(|| arrived.parcel().cloned());
                let event = Self::Undeliverable {
                    connection: Connection::of(arrived.session()),
                    origin: Origin::There,
                    class,
                    reason,
                    message: parcel.map(|parcel| RawMessage::new(class, parcel)),
                };
                return Some((event, Some(arrived)));
            }
            Notice::Admission(_) => return None,
        };
        Some((event, None))
    }

    fn of_session(connection: Connection, event: Event<Parcel>) -> Self {
        match event {
            Event::Connected { peer, held } => Self::Connected { connection, peer, held },
            Event::Admitted => Self::Admitted { connection },
            Event::Resumed { held } => Self::Resumed { connection, held },
            Event::NameConflict => Self::NameConflict { connection },
            Event::Undeliverable { class, reason, payload } => Self::Undeliverable {
                connection,
                origin: Origin::Here,
                class,
                reason,
                message: payload.map(|parcel| RawMessage::new(class, parcel)),
            },
            Event::LocalStall { late } => {
                Self::LocalStall { connection, late: Duration::from_nanos(late) }
            }
            Event::Ended(end) => Self::Ended {
                connection,
                cause: end.cause,
                counts: Counts(end.counts),
                unacked: Unacked::new(end.unacked),
            },
        }
    }
}

/// The numbers of a session at its end, by class (S4): `counts[Class::Normal].unacked`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([ClassCounts; Class::COUNT]);

impl Counts {
    /// Messages accepted by `send` and not known to be received by the peer, in all classes.
    pub fn unacked(&self) -> u64 {
        self.0.iter().map(|counts| counts.unacked).sum()
    }

    /// Messages received here and never handed to a handler, in all classes.
    pub fn undelivered(&self) -> u64 {
        self.0.iter().map(|counts| counts.undelivered).sum()
    }

    /// Messages accepted here that were handed to handlers there, in all classes, if the peer said
    /// so: exact, or unknown.
    pub fn peer_delivered(&self) -> Option<u64> {
        self.0.iter().map(|counts| counts.peer_delivered).sum()
    }
}

impl Index<Class> for Counts {
    type Output = ClassCounts;

    fn index(&self, class: Class) -> &ClassCounts {
        &self.0[class.index()]
    }
}
