//! Admission: the user's word on a peer whose session is born or resumes.

use bytes::Bytes;
use stellate_actors::inbox::AdmissionAsk;
use stellate_protocol::event::Decision;
use stellate_protocol::{EntityName, Identity, Incarnation, Instance, Role};

use crate::connection::Connection;

/// A peer is at the door. For the actor that registered with
/// [`admission`](crate::Hosting::admission).
///
/// Unanswered, and dropped, it is held: what the peer sends is received and kept in order up to
/// the window, and not delivered. After `hold_max` the peer is refused.
///
/// A peer that comes back on another link is at the door again, with what it offers by then: from
/// there on only the answer to that request counts. `hold_max` goes on from the first request: a peer
/// whose links flap is not held for longer, and a later request has what is left of it.
#[derive(Debug)]
#[must_use = "a request dropped unanswered holds the peer, and refuses it after hold_max"]
pub struct AdmissionRequest {
    /// Who it is.
    pub peer: Identity,
    /// What it offers, say the epoch of its newest map.
    pub metadata: Bytes,
    /// Whether the session was up before and comes back on a new link.
    pub resumed: bool,
    ticket: AdmissionTicket,
}

impl actix::Message for AdmissionRequest {
    type Result = ();
}

impl AdmissionRequest {
    pub(crate) fn new(ask: AdmissionAsk) -> Self {
        let (peer, metadata, resumed) = (ask.peer, ask.metadata.clone(), ask.resumed);
        Self { peer, metadata, resumed, ticket: AdmissionTicket { ask, answered: false } }
    }

    /// The session in question.
    pub fn connection(&self) -> Connection {
        self.ticket.connection()
    }

    /// The peer's name.
    pub fn name(&self) -> EntityName {
        self.peer.name
    }

    /// Which messenger of the peer.
    pub fn role(&self) -> Option<Role> {
        self.peer.role
    }

    /// Which start of the peer.
    pub fn instance(&self) -> Instance {
        self.peer.instance
    }

    /// Which boot of the peer, if it said so.
    pub fn incarnation(&self) -> Option<Incarnation> {
        self.peer.incarnation
    }

    /// Lets it in.
    pub fn accept(self) {
        self.ticket.accept();
    }

    /// Keeps it out. `reason` is for people: both ends tell it in their logs, at `info` with the peer, the
    /// other its first 256 bytes, and neither in an event or error. With no link at that moment the other
    /// end does not hear of it.
    pub fn refuse(self, reason: impl Into<String>) {
        self.ticket.refuse(reason);
    }

    /// Not yet: the ticket takes the answer later, within `hold_max`.
    pub fn hold(mut self) -> AdmissionTicket {
        self.ticket.hold();
        self.ticket
    }
}

/// The answer that is still owed to a peer that is held. Dropping it leaves the peer held until
/// `hold_max` is over, which refuses it.
///
/// It answers its own request and no later one: once the session has come back on another link, and
/// asked again, neither [`accept`](Self::accept) nor [`refuse`](Self::refuse) of this ticket does
/// anything.
#[derive(Debug)]
#[must_use = "dropping it leaves the peer held, and refused after hold_max"]
pub struct AdmissionTicket {
    ask: AdmissionAsk,
    answered: bool,
}

impl AdmissionTicket {
    /// The session in question.
    pub fn connection(&self) -> Connection {
        Connection::of(&self.ask.session)
    }

    /// The peer.
    pub fn peer(&self) -> &Identity {
        &self.ask.peer
    }

    /// Lets it in: what was held is delivered now.
    pub fn accept(mut self) {
        self.answer(Decision::Accept);
    }

    /// Keeps it out; `reason` is for people, as in [`AdmissionRequest::refuse`].
    pub fn refuse(mut self, reason: impl Into<String>) {
        self.answer(Decision::Refuse(reason.into()));
    }

    fn hold(&mut self) {
        self.answer(Decision::Hold);
    }

    fn answer(&mut self, decision: Decision) {
        self.answered = true;
        self.ask.answer(decision);
    }
}

impl Drop for AdmissionTicket {
    fn drop(&mut self) {
        if !self.answered {
            self.hold();
        }
    }
}
