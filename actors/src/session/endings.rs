//! Events, and the one end of a session: sealed, counted exactly, told once (S4).

use std::sync::Arc;

use stellate_protocol::event::{Ask, CallResult, Decision, End, EndCause, Event, Fate, Unacked};
use stellate_protocol::frame::{Call, Close, CloseReason};
use stellate_protocol::session::Phase;
use stellate_protocol::{Frame, Lane, Parcel, SessionId, Time};
use stellate_transport::CloseHow;

use super::{Driver, Held};
use crate::inbox::Notice;
use crate::link::Bound;
use crate::node::Node;
use crate::shared::{SessionShared, Staged, lock};

impl Driver {
    pub(super) fn tell(&mut self, event: Event<Parcel>) {
        if let Event::Ended(end) = event {
            return self.finish(end);
        }
        tracing::debug!(session = self.shared.key.0, peer = %self.shared.target, ?event);
        let shared = &self.shared;
        self.node.notify(|| Notice::Event(shared.clone(), Box::new(event.clone())));
        if event == Event::NameConflict {
            // Told first: those who waited for an end may speak now (S6).
            self.node.conflicts(shared);
        }
    }

    /// Takes it in and tells people of a refusal. An answer to a request that was overtaken refuses nobody.
    pub(super) fn input_and_tell(&mut self, now: Time, staged: Staged) {
        let refusal = match &staged {
            Staged::Admission { decision: Decision::Refuse(reason), .. } => Some(reason.clone()),
            _ => None,
        };
        self.input(now, staged.into_input());
        if let Some(reason) = refusal
            && self.core.as_ref().is_some_and(|core| core.phase() == Phase::Ended)
        {
            let peer = &self.shared.target;
            tracing::info!(session = self.shared.key.0, %peer, ?reason, "admission refused");
        }
    }

    /// For people, on the other side: what the peer says of why it closes. Escaped, as it is the peer's.
    #[cold]
    pub(super) fn tell_last_word(&self, close: &Close) {
        let (peer, why) = (&self.shared.target, close.reason);
        tracing::info!(session = self.shared.key.0, %peer, ?why, reason = ?close.text, "the peer closes");
    }

    /// The end: seal, correct the counts to what is exact now, tell, and go.
    pub(super) fn finish(&mut self, end: Box<End<Parcel>>) {
        self.settle_end(end);
        for held in std::mem::take(&mut self.links).into_values() {
            if let Held::Actor(link) = held {
                link.hang(CloseHow::Abort);
            }
        }
        self.over = true;
    }

    fn settle_end(&mut self, mut end: Box<End<Parcel>>) {
        let sealed = self.shared.seal();
        for lane in Lane::all().filter(|lane| !lane.is_replies()) {
            let later = sealed[lane.index()] - self.seen[lane.index()].opened();
            let counts = &mut end.counts[lane.class().index()];
            counts.undelivered = counts.undelivered.saturating_sub(later);
        }
        let staged = self.shared.shut(end.cause);
        // Not before: whoever sees that it has ended asks for another, which is not this one.
        self.show(self.now());
        self.lay_down();
        for staged in std::mem::take(&mut self.leftover).into_iter().chain(staged) {
            take_back(&self.shared, &mut end, staged);
        }
        conclude(&self.node, &self.shared, end);
        self.received.clear();
    }

    /// The session's rules have nothing more to say.
    fn lay_down(&mut self) {
        if let Some(core) = self.core.take() {
            self.node.add_coverage(core.coverage());
        }
    }
}

/// A message that was staged and never reached the session goes back with the others.
fn take_back(shared: &SessionShared, end: &mut End<Parcel>, staged: Staged) {
    let Staged::Submit(class, payload, ask) = staged else {
        return;
    };
    let call = match ask {
        Ask::Nothing => Call::OneWay,
        Ask::Notify(id) => Call::Notify { id },
        Ask::Request(id, _) => Call::Request { id, ttl_ms: None },
    };
    if let Call::Notify { id } | Call::Request { id, .. } = call {
        shared.resolve_call(id, CallResult::SessionEnded(Fate::NotSent));
    }
    end.counts[class.index()].unacked += 1;
    end.unacked.push(Unacked { class, reply: false, sent: false, call, payload });
}

/// Tells the users of an end, frees the name, and goes on with a fresh session if the policy does.
fn conclude(node: &Node, shared: &Arc<SessionShared>, end: Box<End<Parcel>>) {
    tracing::info!(session = shared.key.0, peer = %shared.target, cause = ?end.cause, "ended (S4)");
    node.forget(shared.key);
    shared.fail_calls();
    let addresses = lock(&shared.addresses).clone();
    let next = match end.goes_on && !addresses.is_empty() {
        true => node.connect(shared.target, addresses).ok(),
        false => None,
    };
    if next.is_some() {
        shared.note_reset();
    }
    node.notify(|| match &next {
        Some(next) => {
            Notice::Reset { old: shared.clone(), new: next.shared().clone(), end: end.clone() }
        }
        None => Notice::Event(shared.clone(), Box::new(Event::Ended(end.clone()))),
    });
    node.told(shared.key);
    shared.note_ended();
}

/// Tells the peer over the link that outlives the actor: a peer with nothing to say would not
/// ask before `standby_max` (S4).
fn last_word(shared: &SessionShared, link: &Bound) {
    let close = Close {
        reason: CloseReason::InternalFault,
        delivered: shared.seal(),
        text: "the session's actor failed".into(),
    };
    link.line.say(Frame::Close(Box::new(close)));
    link.hang(CloseHow::Drain);
}

/// The actor is gone. If the session had not ended it has now, with what the ledger knows.
pub(super) fn died(node: &Node, shared: &Arc<SessionShared>, cause: EndCause) {
    if shared.is_over() {
        return;
    }
    let mut end = Box::new(End {
        cause,
        id: SessionId(0),
        peer: shared.snapshot().peer,
        counts: shared.ledger_counts(),
        goes_on: false,
        unacked: Vec::new(),
    });
    for staged in shared.shut(cause) {
        take_back(shared, &mut end, staged);
    }
    conclude(node, shared, end);
}

impl Drop for Driver {
    /// After a panic its links say so: also one that still greets, since the peer may have let it in
    /// already. An orderly end has left none.
    fn drop(&mut self) {
        // Stopped while its end waited for another's: nobody else knows its counts.
        if let Some(end) = self.kept.take_end() {
            self.settle_end(end);
        }
        self.lay_down();
        for held in self.links.values() {
            if let Held::Actor(link) = held {
                last_word(&self.shared, link);
            }
        }
    }
}
