//! What one instance of the model is made of: policies, what users do, and how much may go wrong.

use std::time::Duration;

use bytes::Bytes;
use stellate_protocol::class::Class;
use stellate_protocol::event::LinkFacts;
use stellate_protocol::id::{EntityName, Identity, Incarnation, Instance};
use stellate_protocol::limits::Limits;
use stellate_protocol::policy::Policy;
use stellate_protocol::session::Config;

/// One message that a user sends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Say {
    pub(crate) class: Class,
    pub(crate) data: u8,
    pub(crate) request: bool,
}

/// A plain message.
pub(crate) const SAY: Say = Say { class: Class::Normal, data: 0, request: false };
/// A message whose data is announced and pulled, in two chunks.
pub(crate) const BODY: Say = Say { data: 2, ..SAY };
/// A request.
pub(crate) const ASK: Say = Say { request: true, ..SAY };

/// How a user ends its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    Never,
    Close,
    Abort,
}

/// What a user answers when asked to admit the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// Nobody asks.
    Open,
    /// Accepts, whenever.
    Accepts,
    /// Accepts or refuses.
    Whimsical,
}

/// How many faults of each kind one run may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    /// Links cut, told to the two ends at different steps.
    pub(crate) cuts: u8,
    /// Dials that fail.
    pub(crate) dial_failures: u8,
    /// Timers that fire although nothing is wrong.
    pub(crate) early: u8,
    /// Heartbeats sent.
    pub(crate) heartbeats: u8,
    /// Walls: from some step on, no dial of that node gets through (one-way reachability).
    pub(crate) walls: [u8; 2],
    /// Restarts of each node.
    pub(crate) restarts: [u8; 2],
}

/// One instance of the model. Node 1 outranks node 0 in a race.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) name: &'static str,
    pub(crate) policies: [Policy; 2],
    pub(crate) says: [&'static [Say]; 2],
    /// Nodes that connect by themselves, with or without something to say.
    pub(crate) connects: [bool; 2],
    pub(crate) leaves: [Leave; 2],
    pub(crate) gates: [Gate; 2],
    pub(crate) budget: Budget,
    pub(crate) window: u32,
    pub(crate) slots: Option<u32>,
    /// Whether opening and finishing a message are steps of their own.
    pub(crate) slow_handlers: bool,
    /// Whether daemons know their boot epochs.
    pub(crate) incarnations: bool,
    /// More dials of one instance than this is a livelock.
    pub(crate) dials_max: u64,
}

impl Budget {
    pub(crate) const NONE: Self = Self {
        cuts: 0,
        dial_failures: 0,
        early: 0,
        heartbeats: 0,
        walls: [0; 2],
        restarts: [0; 2],
    };
}

impl Spec {
    pub(crate) fn new(name: &'static str, policies: [Policy; 2]) -> Self {
        Self {
            name,
            policies,
            says: [&[], &[]],
            connects: [false; 2],
            leaves: [Leave::Never; 2],
            gates: [Gate::Open; 2],
            budget: Budget::NONE,
            window: 2,
            slots: None,
            slow_handlers: false,
            incarnations: false,
            dials_max: 8,
        }
    }

    /// Whether some promise lets a message go undelivered at the end of a run.
    pub(crate) fn loses_nothing(&self) -> bool {
        self.budget.restarts == [0; 2]
            && self.leaves == [Leave::Never; 2]
            && self.policies.iter().all(|policy| !policy.is_lossy())
            && self.gates.iter().all(|gate| *gate != Gate::Whimsical)
    }

    pub(crate) fn identity(&self, node: usize, start: u8) -> Identity {
        Identity {
            name: Self::name_of(node),
            role: None,
            instance: Self::instance(node, start),
            incarnation: self.incarnations.then_some(Incarnation(u64::from(start))),
        }
    }

    pub(crate) fn instance(node: usize, start: u8) -> Instance {
        Instance(node as u128 * 16 + u128::from(start))
    }

    pub(crate) fn name_of(node: usize) -> EntityName {
        EntityName::osd(node as u64)
    }

    pub(crate) fn config(&self, node: usize, start: u8) -> Config {
        let limits = Limits {
            window_messages: [self.window; Class::COUNT],
            slot_bytes: 2,
            chunk_bytes: 1,
            ack_delay: Duration::from_millis(1),
            ..Limits::default()
        };
        Config {
            limits,
            me: self.identity(node, start),
            target: Self::name_of(1 - node),
            policy: self.policies[node],
            metadata: Bytes::new(),
            admission: self.gates[node] != Gate::Open,
        }
    }

    pub(crate) fn facts(&self) -> LinkFacts {
        LinkFacts { slots: self.slots, slot_bytes: 2, whole: self.slots.is_some() }
    }
}
