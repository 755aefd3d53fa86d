//! What goes wrong in a run, and when: plain data, written by hand, drawn from a seed, or read
//! from a case file.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use stellate_protocol::EntityName;
use stellate_transport::sim::{Quality, Tamper};

use crate::testing::drill::text::{self, QualityText};

/// A node as scripts name it: its entity's name, such as `osd.1`.
pub type NodeName = EntityName;

/// One thing that goes wrong. What lasts says how long, so that each can be left out for itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Action {
    /// The links between two nodes are cut; what is in flight is lost.
    Cut {
        /// One end.
        #[serde(with = "text")]
        a: NodeName,
        /// The other.
        #[serde(with = "text")]
        b: NodeName,
    },
    /// The oldest link between two nodes is cut when so many more frames have come from `from`:
    /// at any frame edge.
    CutAfterFrames {
        /// Whose frames are counted.
        #[serde(with = "text")]
        from: NodeName,
        /// The other end.
        #[serde(with = "text")]
        to: NodeName,
        /// How many.
        frames: u64,
    },
    /// The same, counted in bytes: in the middle of a frame, on a stream.
    CutAfterBytes {
        /// Whose bytes are counted.
        #[serde(with = "text")]
        from: NodeName,
        /// The other end.
        #[serde(with = "text")]
        to: NodeName,
        /// How many.
        bytes: u64,
    },
    /// Nothing gets from one node to the other.
    OneWay {
        /// Whose words are lost.
        #[serde(with = "text")]
        from: NodeName,
        /// Who hears nothing.
        #[serde(with = "text")]
        to: NodeName,
        /// For how long.
        #[serde(rename = "lasts_ms", with = "text::ms")]
        lasts: Duration,
    },
    /// Nothing gets through between these nodes and all others.
    Partition {
        /// The nodes on one side.
        #[serde(with = "text::list")]
        side: Vec<NodeName>,
        /// For how long.
        #[serde(rename = "lasts_ms", with = "text::ms")]
        lasts: Duration,
    },
    /// Dials to the node are refused.
    Refuse {
        /// The node.
        #[serde(with = "text")]
        node: NodeName,
        /// For how long.
        #[serde(rename = "lasts_ms", with = "text::ms")]
        lasts: Duration,
    },
    /// Dials to the node get no answer.
    BlackHole {
        /// The node.
        #[serde(with = "text")]
        node: NodeName,
        /// For how long.
        #[serde(rename = "lasts_ms", with = "text::ms")]
        lasts: Duration,
    },
    /// The node reads slowly.
    Slow {
        /// The node.
        #[serde(with = "text")]
        node: NodeName,
        /// What it reads of each link in a millisecond.
        bytes_per_ms: u32,
        /// For how long.
        #[serde(rename = "lasts_ms", with = "text::ms")]
        lasts: Duration,
    },
    /// Nothing moves from one node to the other on the links that are there; then all of it comes.
    Stall {
        /// Whose words stand still.
        #[serde(with = "text")]
        from: NodeName,
        /// Who hears nothing.
        #[serde(with = "text")]
        to: NodeName,
        /// For how long.
        #[serde(rename = "lasts_ms", with = "text::ms")]
        lasts: Duration,
    },
    /// All ways become as bad as this.
    Weather {
        /// How bad.
        #[serde(with = "QualityText")]
        quality: Quality,
        /// For how long.
        #[serde(rename = "lasts_ms", with = "text::ms")]
        lasts: Duration,
    },
    /// The process dies, and is started again after a while. Its disk stays.
    Crash {
        /// The node.
        #[serde(with = "text")]
        node: NodeName,
        /// How long it is down.
        #[serde(rename = "down_ms", with = "text::ms")]
        down: Duration,
    },
    /// An actor panics, at the path in its messenger's supervision tree; nothing happens where
    /// there is none.
    Panic {
        /// The node.
        #[serde(with = "text")]
        node: NodeName,
        /// The path, such as `osd`, `dispatch-0` or `sessions/3`.
        actor: String,
    },
    /// Something of the node's NIC goes wrong; nothing happens on a fabric that has none.
    Nic {
        /// The node.
        #[serde(with = "text")]
        node: NodeName,
        /// What.
        fault: super::nic::NicFault,
        /// For how long, if it lasts.
        #[serde(rename = "lasts_ms", with = "text::ms")]
        lasts: Duration,
    },
    /// An actor is not polled, at the path in its messenger's supervision tree: it handles no message
    /// and no timer. Of a session, `sessions/3` say, that is a thread that stands still.
    Pause {
        /// The node.
        #[serde(with = "text")]
        node: NodeName,
        /// The path.
        actor: String,
        /// For how long.
        #[serde(rename = "lasts_ms", with = "text::ms")]
        lasts: Duration,
    },
    /// Frames from one node to another do not arrive as they were sent.
    Tamper {
        /// Whose frames.
        #[serde(with = "text")]
        from: NodeName,
        /// Who gets them.
        #[serde(with = "text")]
        to: NodeName,
        /// What is done to them.
        #[serde(with = "text")]
        how: Tamper,
        /// For how long.
        #[serde(rename = "lasts_ms", with = "text::ms")]
        lasts: Duration,
    },
    /// A second process of the node's name, at an address of its own: its boot is called once more,
    /// with a disk of its own. Then it dies. Faults of the network do not know it.
    Twin {
        /// The node.
        #[serde(with = "text")]
        node: NodeName,
        /// How long it lives.
        #[serde(rename = "lasts_ms", with = "text::ms")]
        lasts: Duration,
    },
    /// The node's wall clock jumps.
    Step {
        /// The node.
        #[serde(with = "text")]
        node: NodeName,
        /// Milliseconds forward, or back.
        by_ms: i64,
    },
}

/// Something that goes wrong at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// When, from the start of the run.
    #[serde(rename = "at_ms", with = "text::ms")]
    pub at: Duration,
    /// What.
    pub action: Action,
}

/// All that goes wrong in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
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

impl<'de> Deserialize<'de> for Script {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Vec::<Step>::deserialize(from).map(Self::from_iter)
    }
}
