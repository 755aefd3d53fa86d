//! Each call into user code, as the trace of a simulated network tells it (D1).

use std::sync::Arc;

use stellate_actors::inbox::Arrived;
use stellate_transport::sim::Scribe;
use stellate_transport::trace::{Call, SessionTag, What};

/// Writes down the calls of one actor, right before they are made.
pub(super) struct Calls {
    pub(super) scribe: Scribe,
    pub(super) actor: Arc<str>,
}

impl Calls {
    pub(super) fn message(&self, arrived: &Arrived, message_type: u32) {
        let (actor, lane, seq) = (self.actor.clone(), arrived.lane(), arrived.seq().0);
        let call = Call::Message { actor, lane, seq, message_type };
        self.scribe.tell(arrived.session().tag(), What::Call(call));
    }

    pub(super) fn event(&self, session: SessionTag) {
        self.scribe.tell(session, What::Call(Call::Event { actor: self.actor.clone() }));
    }

    pub(super) fn admission(&self, session: SessionTag) {
        self.scribe.tell(session, What::Call(Call::Admission { actor: self.actor.clone() }));
    }
}
