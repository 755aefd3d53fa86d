//! One event: when, where, on which link and session, and what.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use stellate_protocol::event::EndCause;
use stellate_protocol::frame::{self, UndeliverableReason};
use stellate_protocol::{Class, FrameKind, Lane, SessionId};

use super::names::NodeNo;

/// A session as traces show it: eight hexadecimal digits, enough to tell two apart. 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionTag(pub u32);

impl SessionTag {
    /// Nobody's.
    pub const NONE: Self = Self(0);
}

impl From<SessionId> for SessionTag {
    /// The digits that the id shows of itself.
    fn from(SessionId(id): SessionId) -> Self {
        Self((id >> 96) as u32 ^ id as u32)
    }
}

impl fmt::Display for SessionTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self(0) => f.pad("-"),
            Self(tag) => write!(f, "{tag:08x}"),
        }
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, in ticks of 1 ms since the network was first used.
    pub tick: u64,
    /// Where. Of a frame: who sent it. [`NodeNo::NETWORK`] if it concerns them all.
    pub node: NodeNo,
    /// The other node, if there is one. Of a frame: whom it was sent to.
    pub peer: Option<NodeNo>,
    /// The link, by the network's number; 0 is none.
    pub link: u64,
    /// The session, as far as it is known: frames of a link have that of its hello.
    pub session: SessionTag,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// The node takes part from now on; the first time in life 0.
    Start {
        /// How often it has crashed before.
        life: u64,
    },
    /// The node died.
    Crash,
    /// The node dials its peer.
    Dial,
    /// A dial has a link.
    Linked,
    /// A dial has none, and why.
    DialFailed(&'static str),
    /// The node accepted the peer's dial.
    Accept,
    /// The node's end of the link is over, and why.
    Closed(&'static str),
    /// A frame of `node` reached the actors of `peer`.
    Frame(Passage),
    /// A frame was lost on its way, with its link.
    Lost(Passage),
    /// A frame is still on its way as the tape ends.
    Waiting(Passage),
    /// The link was cut.
    Cut,
    /// Nothing gets from `node` to `peer` from now on.
    Partition,
    /// That way is open again.
    Heal,
    /// No partition, refusal, stall or slow reader is left.
    HealAll,
    /// Nothing moves from `node` to `peer` for a while.
    Stall {
        /// For so long.
        ticks: u64,
    },
    /// The node reads so many bytes a tick and link from now on; none is no limit.
    Slow {
        /// That many.
        bytes_per_tick: Option<u32>,
    },
    /// Whether dials to the node are refused from now on.
    Refuse(bool),
    /// Whether dials to the node get no answer from now on.
    Ignore(bool),
    /// The session is up for the first time.
    Connected {
        /// The peer keeps what it is sent until its user admits us.
        held: bool,
    },
    /// The peer's user admitted us.
    Admitted,
    /// The session is up again, and nothing was lost.
    Resumed {
        /// As in `Connected`.
        held: bool,
    },
    /// The session ended, and the policy goes on with a fresh one.
    Reset(Over),
    /// The session ended (S4).
    Ended(Over),
    /// Two live processes use the peer's name.
    NameConflict,
    /// A message was not handed to a handler.
    Undeliverable {
        /// Its class.
        class: Class,
        /// Why.
        reason: UndeliverableReason,
    },
    /// The messenger woke late by its own fault (S9).
    LocalStall {
        /// So late.
        late: Duration,
    },
    /// User code is called, from here on.
    Call(Call),
    /// Something happened to an actor of the supervision tree.
    Actor {
        /// Its path.
        path: Arc<str>,
        /// What, in a word.
        what: &'static str,
    },
    /// A checker found a promise broken.
    Broken {
        /// Its id, `S2` say, or the name of a checker of the user's.
        promise: Arc<str>,
        /// What was seen.
        text: Arc<str>,
    },
    /// Whatever a test wants to see in its trace.
    Note(Arc<str>),
}

/// A frame on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    /// Its kind.
    pub kind: FrameKind,
    /// Its lane, if it belongs to one; of an ack, the first that it speaks of.
    pub lane: Option<Lane>,
    /// Its place there; of an ack, up to where all was received.
    pub seq: u64,
    /// The number of its message type; 0 is none.
    pub message_type: u32,
    /// Bytes of the front, of a handshake or an ack those of its body.
    pub front: u32,
    /// Bytes of data that travel in it, or that it announces.
    pub data: u32,
    /// Checksum of its header, which covers that of its body.
    pub header_crc: u32,
    /// Checksum of its body.
    pub body_crc: u32,
    /// The tick in which it was handed to the network.
    pub sent: u64,
    /// What it asks for or answers, if it is a message.
    pub call: Option<frame::Call>,
    /// The rest for people, where the run is recorded and there is more to say.
    pub detail: Option<Arc<str>>,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over {
    /// Why.
    pub cause: EndCause,
    /// Messages accepted here that the peer is not known to have received.
    pub unacked: u64,
    /// Messages received here and never handed to a handler.
    pub undelivered: u64,
}

/// A call into user code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// A handler, with a message.
    Message {
        /// The actor, by its name in the tree.
        actor: Arc<str>,
        /// Lane of the message.
        lane: Lane,
        /// Its place there.
        seq: u64,
        /// The number of its type.
        message_type: u32,
    },
    /// A handler, with an event of a session.
    Event {
        /// The actor.
        actor: Arc<str>,
    },
    /// A handler, with a peer to let in or not.
    Admission {
        /// The actor.
        actor: Arc<str>,
    },
}

/// Why a session ended, in a word.
pub fn cause_word(cause: EndCause) -> &'static str {
    match cause {
        EndCause::ClosedHere => "closed-here",
        EndCause::ClosedByPeer => "closed-by-peer",
        EndCause::PeerRestarted => "peer-restarted",
        EndCause::Superseded => "superseded",
        EndCause::Refused(_) => "refused",
        EndCause::PolicyMismatch => "policy-mismatch",
        EndCause::AdmissionRefused => "admission-refused",
        EndCause::Unreachable => "unreachable",
        EndCause::TimedOut => "timed-out",
        EndCause::LinkLost => "link-lost",
        EndCause::ProtocolViolation { .. } => "protocol-violation",
        EndCause::InternalFault => "internal-fault",
    }
}

impl What {
    /// Its name in a line, at most nine letters; of a frame, that of the kind.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Start { .. } => "start",
            Self::Crash => "crash",
            Self::Dial => "dial",
            Self::Linked => "linked",
            Self::DialFailed(_) => "no-link",
            Self::Accept => "accept",
            Self::Closed(_) => "link-end",
            Self::Frame(passage) | Self::Lost(passage) | Self::Waiting(passage) => passage.word(),
            Self::Cut => "cut",
            Self::Partition => "partition",
            Self::Heal => "heal",
            Self::HealAll => "heal-all",
            Self::Stall { .. } => "stall",
            Self::Slow { .. } => "slow",
            Self::Refuse(_) => "refuse",
            Self::Ignore(_) => "ignore",
            Self::Connected { .. } => "connected",
            Self::Admitted => "let-in",
            Self::Resumed { .. } => "resumed",
            Self::Reset(_) => "reset",
            Self::Ended(_) => "ended",
            Self::NameConflict => "conflict",
            Self::Undeliverable { .. } => "undeliver",
            Self::LocalStall { .. } => "late",
            Self::Call(Call::Message { .. }) => "call",
            Self::Call(Call::Event { .. }) => "tell",
            Self::Call(Call::Admission { .. }) => "ask",
            Self::Actor { .. } => "actor",
            Self::Broken { .. } => "BROKEN",
            Self::Note(_) => "note",
        }
    }

    /// The frame, if it is about one.
    pub fn passage(&self) -> Option<&Passage> {
        match self {
            Self::Frame(passage) | Self::Lost(passage) | Self::Waiting(passage) => Some(passage),
            _ => None,
        }
    }
}

impl Passage {
    /// Its kind in a line.
    pub fn word(&self) -> &'static str {
        match self.kind {
            FrameKind::Hello => "hello",
            FrameKind::HelloAnswer => "answer",
            FrameKind::Resume => "resume",
            FrameKind::ResumeAnswer => "reanswer",
            FrameKind::Lost => "race-lost",
            FrameKind::Message if self.lane.is_some_and(Lane::is_replies) => "reply",
            FrameKind::Message => "message",
            FrameKind::Announce => "announce",
            FrameKind::Pull => "pull",
            FrameKind::Chunk => "chunk",
            FrameKind::Ack => "ack",
            FrameKind::Grant => "grant",
            FrameKind::Heartbeat => "beat",
            FrameKind::Admitted => "admitted",
            FrameKind::Close => "close",
        }
    }
}
