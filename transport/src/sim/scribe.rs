//! Writes what happens on a node into its network's trace.

use std::fmt;
use std::sync::Arc;

use super::net::Shared;
use crate::trace::{Event, NodeNo, SessionTag, What};

/// A node's hand in the trace: for what the network cannot see, such as sessions and calls into
/// user code. Cloning copies a handle.
#[derive(Clone)]
pub struct Scribe {
    shared: Arc<Shared>,
    node: NodeNo,
}

impl Scribe {
    pub(super) fn new(shared: Arc<Shared>, node: &str) -> Self {
        let node = shared.lock().trace.node(node);
        Self { shared, node }
    }

    /// Something happened on this node. It is in the hash (D1), and in the tape if there is one.
    pub fn tell(&self, session: SessionTag, what: What) {
        self.write(None, session, what);
    }

    /// The same, with another node. A name that no node has is left out.
    pub fn tell_of(&self, peer: &str, session: SessionTag, what: What) {
        self.write(Some(peer), session, what);
    }

    fn write(&self, peer: Option<&str>, session: SessionTag, what: What) {
        let mut net = self.shared.lock();
        let (tick, node) = (net.now(), self.node);
        let peer = peer.and_then(|peer| net.trace.names.find(peer));
        net.trace.add(Event { tick, node, peer, link: 0, session, what });
    }

    /// Calls a message type by name in tapes: the first name stays.
    pub fn name_type(&self, number: u32, name: &str) {
        self.shared.lock().trace.names.enter_type(number, name);
    }
}

impl fmt::Debug for Scribe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scribe({})", self.node.0)
    }
}
