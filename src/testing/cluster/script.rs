//! What goes wrong in a run, and when: plain data, written by hand, drawn from a seed, or read
//! from a case file.

use std::time::Duration;

use stellate_protocol::EntityName;
use stellate_transport::sim::Quality;

/// A node as scripts name it: its entity's name, such as `osd.1`.
pub type NodeName = EntityName;

/// One thing that goes wrong. What lasts says how long, so that each can be left out for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// The links between two nodes are cut; what is in flight is lost.
    Cut {
        /// One end.
        a: NodeName,
        /// The other.
        b: NodeName,
    },
    /// The oldest link between two nodes is cut when so many more frames have come from `from`:
    /// at any frame edge.
    CutAfterFrames {
        /// Whose frames are counted.
        from: NodeName,
        /// The other end.
        to: NodeName,
        /// How many.
        frames: u64,
    },
    /// The same, counted in bytes: in the middle of a frame, on a stream.
    CutAfterBytes {
        /// Whose bytes are counted.
        from: NodeName,
        /// The other end.
        to: NodeName,
        /// How many.
        bytes: u64,
    },
    /// Nothing gets from one node to the other.
    OneWay {
        /// Whose words are lost.
        from: NodeName,
        /// Who hears nothing.
        to: NodeName,
        /// For how long.
        lasts: Duration,
    },
    /// Nothing gets through between these nodes and all others.
    Partition {
        /// The nodes on one side.
        side: Vec<NodeName>,
        /// For how long.
        lasts: Duration,
    },
    /// Dials to the node are refused.
    Refuse {
        /// The node.
        node: NodeName,
        /// For how long.
        lasts: Duration,
    },
    /// Dials to the node get no answer.
    BlackHole {
        /// The node.
        node: NodeName,
        /// For how long.
        lasts: Duration,
    },
    /// The node reads slowly.
    Slow {
        /// The node.
        node: NodeName,
        /// What it reads of each link in a millisecond.
        bytes_per_ms: u32,
        /// For how long.
        lasts: Duration,
    },
    /// Nothing moves from one node to the other on the links that are there; then all of it comes.
    Stall {
        /// Whose words stand still.
        from: NodeName,
        /// Who hears nothing.
        to: NodeName,
        /// For how long.
        lasts: Duration,
    },
    /// All ways become as bad as this.
    Weather {
        /// How bad.
        quality: Quality,
        /// For how long.
        lasts: Duration,
    },
    /// The process dies, and is started again after a while. Its disk stays.
    Crash {
        /// The node.
        node: NodeName,
        /// How long it is down.
        down: Duration,
    },
    /// An actor panics, at the path in its messenger's supervision tree; nothing happens where
    /// there is none.
    Panic {
        /// The node.
        node: NodeName,
        /// The path, such as `osd`, `dispatch-0` or `sessions/3`.
        actor: String,
    },
    /// The node's wall clock jumps.
    Step {
        /// The node.
        node: NodeName,
        /// Milliseconds forward, or back.
        by_ms: i64,
    },
}

/// Something that goes wrong at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// When, from the start of the run.
    pub at: Duration,
    /// What.
    pub action: Action,
}

/// All that goes wrong in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    steps: Vec<Step>,
}

impl Script {
    /// Nothing goes wrong.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a step; steps of one time happen in the order in which they were added.
    #[must_use]
    pub fn at(mut self, at: Duration, action: Action) -> Self {
        let place = self.steps.partition_point(|step| step.at <= at);
        self.steps.insert(place, Step { at, action });
        self
    }

    /// The steps, in order of time.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
}

impl FromIterator<Step> for Script {
    fn from_iter<T: IntoIterator<Item = Step>>(steps: T) -> Self {
        let mut steps: Vec<Step> = steps.into_iter().collect();
        steps.sort_by_key(|step| step.at);
        Self { steps }
    }
}
