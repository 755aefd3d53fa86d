//! What goes over a link: the kinds of frame and their fields, without their bytes.
//!
//! The bytes are in [`codec`](crate::codec). A frame is generic over the payload handle, so that
//! the model checker can carry a `u8` where production carries a [`Parcel`](crate::Parcel).
//!
//! ```text
//! dialler                                   acceptor
//!   Hello | Resume ───────────────────────────►
//!   ◄─────── HelloAnswer | ResumeAnswer | Lost        one round trip, birth and resume alike
//!   ◄──────► Message, Announce ► Pull ► Chunk…, Ack, Grant, Heartbeat, Admitted
//!   ◄──────► Close
//! ```

use bytes::Bytes;

use crate::class::Lane;
use crate::id::{Attempt, EntityName, Identity, RequestId, Seq, SessionId};

/// What a session carries: a handle that is cheap to clone and knows its lengths.
///
/// A payload has a front (the user's typed body) and a data segment (raw bytes). A large data
/// segment travels apart from its front: see [`Frame::Announce`] and [`Chunk`].
pub trait Payload: Clone + Eq + std::hash::Hash + std::fmt::Debug {
    /// Bytes of the front.
    fn front_len(&self) -> u32;

    /// Bytes of the data segment, also while the data itself has not arrived yet.
    fn data_len(&self) -> u32;

    /// The same without its data, which still counts in [`data_len`](Self::data_len).
    #[must_use]
    fn announced(&self) -> Self;

    /// Joins an announced payload with the data that was pulled for it.
    fn attach(&mut self, pulled: Self);

    /// No bytes at all: what a bare acknowledgement carries.
    fn empty() -> Self;
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Frame<P> {
    /// First frame of a link, from the dialler: a birth or a resume.
    Hello(Box<Hello>),
    /// The acceptor's word on a hello.
    Answer(Box<Answer>),
    /// A message or reply whose data fits a slot.
    Message(Message<P>),
    /// A message or reply whose data is to be pulled; `payload` has no data yet.
    Announce(Message<P>),
    /// The receiver of an announcement has the bytes to spare.
    Pull(Pull),
    /// A piece of the pulled data.
    Chunk(Chunk<P>),
    /// What was received, and the window.
    Ack(Box<Ack>),
    /// Link slots given back.
    Grant(Grant),
    /// A sign of life.
    Heartbeat(Heartbeat),
    /// Held input is now being delivered.
    Admitted,
    /// The session ends.
    Close(Box<Close>),
}

/// The kind of a frame, as fault plans, traces and the wire name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// A birth.
    Hello = 1,
    /// The answer to a birth.
    HelloAnswer = 2,
    /// A hello for a session that was up before.
    Resume = 3,
    /// The answer to a resume.
    ResumeAnswer = 4,
    /// The answer that says: your dial lost the race, mine stands.
    Lost = 5,
    /// A message with its data.
    Message = 6,
    /// A message whose data is to be pulled.
    Announce = 7,
    /// A request for announced data.
    Pull = 8,
    /// A piece of data.
    Chunk = 9,
    /// Acknowledgements and windows.
    Ack = 10,
    /// Link slots.
    Grant = 11,
    /// A sign of life.
    Heartbeat = 12,
    /// Held input is delivered now.
    Admitted = 13,
    /// The end of the session.
    Close = 14,
}

impl FrameKind {
    /// All kinds, in wire order.
    pub const ALL: [Self; 14] = [
        Self::Hello,
        Self::HelloAnswer,
        Self::Resume,
        Self::ResumeAnswer,
        Self::Lost,
        Self::Message,
        Self::Announce,
        Self::Pull,
        Self::Chunk,
        Self::Ack,
        Self::Grant,
        Self::Heartbeat,
        Self::Admitted,
        Self::Close,
    ];

    /// The kind with that wire number.
    pub fn from_wire(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }
}

impl<P> Frame<P> {
    /// The lane it belongs to, if to one.
    pub fn lane(&self) -> Option<Lane> {
        match self {
            Self::Message(message) | Self::Announce(message) => Some(message.lane),
            Self::Pull(pull) => Some(pull.lane),
            Self::Chunk(chunk) => Some(chunk.lane),
            _ => None,
        }
    }

    /// Its kind.
    pub fn kind(&self) -> FrameKind {
        match self {
            Self::Hello(hello) if hello.established => FrameKind::Resume,
            Self::Hello(_) => FrameKind::Hello,
            Self::Answer(answer) => match answer.verdict {
                Verdict::Lost => FrameKind::Lost,
                _ if answer.resume => FrameKind::ResumeAnswer,
                _ => FrameKind::HelloAnswer,
            },
            Self::Message(_) => FrameKind::Message,
            Self::Announce(_) => FrameKind::Announce,
            Self::Pull(_) => FrameKind::Pull,
            Self::Chunk(_) => FrameKind::Chunk,
            Self::Ack(_) => FrameKind::Ack,
            Self::Grant(_) => FrameKind::Grant,
            Self::Heartbeat(_) => FrameKind::Heartbeat,
            Self::Admitted => FrameKind::Admitted,
            Self::Close(_) => FrameKind::Close,
        }
    }
}

/// First frame of a link. Restates everything, so that a birth and a resume cost the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hello {
    /// Who dials.
    pub from: Identity,
    /// Whom the dialler thinks it dialled.
    pub target: EntityName,
    /// The session that is to be born or resumed.
    pub session: SessionId,
    /// Which dial of this instance it is: a later one overrules an earlier one.
    pub attempt: Attempt,
    /// Whether the session was up before at the dialler: a resume.
    pub established: bool,
    /// Whether the dialler lost a race, waited `race_wait` in vain and now insists (S5).
    pub insist: bool,
    /// How the dialler sees the pair.
    pub policy: PolicyOffer,
    /// What each side needs to know to talk.
    pub opening: Opening,
}

/// The part that a hello and its accepting answer share.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Opening {
    /// Limits of the speaker that bind the listener.
    pub terms: Terms,
    /// Per lane: what the speaker has received, and what it may be sent.
    pub lanes: [LaneState; Lane::COUNT],
    /// Whether the speaker holds what it receives until its user admits the peer.
    pub held: bool,
    /// Numbered features. Unknown optional ones are ignored, unknown required ones refuse.
    pub features: Vec<Feature>,
    /// What the user offers for admission, say a map epoch; at most [`METADATA_MAX`] bytes.
    pub metadata: Bytes,
    /// Room for an authentication exchange (none defined yet); at most [`AUTH_MAX`] bytes.
    pub auth: Bytes,
}

/// Most bytes of [`Opening::metadata`].
pub const METADATA_MAX: usize = 4096;
/// Most bytes of [`Opening::auth`].
pub const AUTH_MAX: usize = 4096;
/// Most records in [`Opening::features`].
pub const FEATURES_MAX: usize = 64;
/// Most bytes of one [`Feature::data`].
pub const FEATURE_DATA_MAX: usize = 256;
/// Most bytes of a refusal's text.
pub const TEXT_MAX: usize = 256;

/// A feature that the speaker has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Feature {
    /// Its number.
    pub id: u16,
    /// Whether a peer that does not know it must refuse.
    pub required: bool,
    /// Its parameters.
    pub data: Bytes,
}

/// A side's policy as the other side needs to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PolicyOffer {
    /// The session ends with its link.
    pub lossy: bool,
    /// What this side is in the pair.
    pub stance: Stance,
}

/// Which part a side plays in a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Stance {
    /// Dials, is never dialled.
    Client = 0,
    /// Is dialled, never dials.
    Server = 1,
    /// Does both.
    Peer = 2,
}

/// Limits of one side that bind the other; checked at `send`, never a link fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Terms {
    /// Longest front accepted, bytes.
    pub front_max: u32,
    /// Longest data segment accepted, bytes.
    pub data_max: u32,
    /// Longest front + data taken eagerly, bytes; a longer data segment is announced.
    pub slot_bytes: u32,
    /// Receives posted on this link, when the transport counts them (the first budget).
    pub slots: Option<u32>,
    /// Most requests that this side leaves open at once.
    pub requests_max: u32,
}

/// What one side says about one lane of what it receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LaneState {
    /// All up to here are owned by the speaker (S3).
    pub received: Seq,
    /// The listener may send up to here (the second budget); unused on reply lanes.
    pub window: Seq,
    /// Eager bytes that the listener may have sent in the lane since birth.
    pub window_bytes: u64,
}

/// The acceptor's word on a hello.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Answer {
    /// Who answers.
    pub from: Identity,
    /// The session that the hello named.
    pub session: SessionId,
    /// The attempt that is answered.
    pub attempt: Attempt,
    /// The latest attempt of the answering instance: any hello of it up to this one is old.
    pub latest: Attempt,
    /// Whether the hello was a resume at the dialler.
    pub resume: bool,
    /// The word.
    pub verdict: Verdict,
}

/// What becomes of a hello.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The session is up.
    Accepted {
        /// The effective promise: whether the session ends with its link.
        lossy: bool,
        /// The acceptor's side.
        opening: Opening,
    },
    /// Both dialled; the answerer's own dial stands (S5). Wait for it.
    Lost,
    /// No such session here; `from.instance` says whether it was closed or the peer restarted.
    NoSession,
    /// No session, and why.
    Refused {
        /// Why.
        reason: RefuseReason,
        /// The same for people, at most [`TEXT_MAX`] bytes.
        text: String,
    },
}

/// Why a hello is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum RefuseReason {
    /// The two policies make no promise together.
    PolicyMismatch = 1,
    /// The dialled address belongs to somebody else.
    WrongEntity = 2,
    /// A required feature is unknown here.
    Feature = 3,
    /// A newer incarnation of the same name is known.
    Superseded = 4,
    /// Too many sessions or handshakes; try later.
    Busy = 5,
    /// The answerer is shutting down.
    ShuttingDown = 6,
}

impl RefuseReason {
    /// All reasons, in wire order.
    pub const ALL: [Self; 6] = [
        Self::PolicyMismatch,
        Self::WrongEntity,
        Self::Feature,
        Self::Superseded,
        Self::Busy,
        Self::ShuttingDown,
    ];

    /// The reason with that wire number.
    pub fn from_wire(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }
}

/// A message or reply in its lane.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Message<P> {
    /// Its lane.
    pub lane: Lane,
    /// Its place there.
    pub seq: Seq,
    /// What it asks for or answers.
    pub call: Call,
    /// The bytes.
    pub payload: P,
}

/// What a message asks for or answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// Nothing.
    OneWay,
    /// A `handled` acknowledgement (S3).
    Notify {
        /// Names the answer.
        id: RequestId,
    },
    /// A reply.
    Request {
        /// Names the reply.
        id: RequestId,
        /// Milliseconds left when the frame was built; an expired request is not handed out.
        ttl_ms: Option<u32>,
    },
    /// The answer to a `Notify` or `Request`; in a reply lane only.
    Reply {
        /// Which one.
        id: RequestId,
        /// How it went.
        outcome: Outcome,
    },
    /// The negative answer to a one-way message that could not be handed out; reply lane only.
    Rejected {
        /// Its place in the message lane of the same class.
        seq: Seq,
        /// Why.
        reason: UndeliverableReason,
    },
}

/// How a request or notify ended at the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// The payload is the reply.
    Reply,
    /// The handler returned, or its future resolved.
    Handled,
    /// The handler finished without a reply.
    NoReply,
    /// The handler panicked with the message in hand.
    HandlerPanicked,
    /// Its time was over before it was handed out.
    Expired,
    /// It could not be handed out.
    Undeliverable(UndeliverableReason),
}

/// Why a message could not be handed to a handler. Ends nothing and panics nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum UndeliverableReason {
    /// Nobody handles its type.
    UnknownType = 1,
    /// Its front does not decode.
    BadFront = 2,
    /// Its sender demands a newer reader.
    TooNew = 3,
    /// It is over the receiver's limit (found only if queued before the hello).
    TooLarge = 4,
}

impl UndeliverableReason {
    /// The reason with that wire number.
    pub fn from_wire(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::UnknownType),
            2 => Some(Self::BadFront),
            3 => Some(Self::TooNew),
            4 => Some(Self::TooLarge),
            _ => None,
        }
    }
}

/// Asks for a part of the data of an announced message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pull {
    /// The lane of the announcement.
    pub lane: Lane,
    /// Its place there.
    pub seq: Seq,
}

/// A piece of pulled data.
///
/// A sender fills `part` with the whole message and the transport sends its data bytes
/// `offset .. offset + len`. A receiving transport gathers the pieces in their final buffer and
/// fills `part`, with the whole data and an empty front, on the last piece only.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Chunk<P> {
    /// The lane of the announcement.
    pub lane: Lane,
    /// Its place there.
    pub seq: Seq,
    /// First byte of the piece.
    pub offset: u32,
    /// Bytes in the piece.
    pub len: u32,
    /// See above.
    pub part: Option<P>,
}

/// What was received and what may be sent, for the lanes that changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ack {
    /// Indexed by [`Lane::index`]; absent where nothing changed.
    pub lanes: [Option<LaneState>; Lane::COUNT],
}

/// Link slots that are posted again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Grant {
    /// How many.
    pub slots: u32,
}

/// A sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Heartbeat {
    /// Number of a question that is to be answered at once, with acks (a probe); 0 asks nothing.
    pub ask: u32,
    /// Number of the latest question of the other side, which it answers; 0 if it answers none. So
    /// what was sent before the question is told apart from what was sent after it.
    pub answer: u32,
}

/// The session ends: why, and how far the speaker got.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Close {
    /// Why.
    pub reason: CloseReason,
    /// Messages handed to handlers at the speaker, per lane since birth.
    pub delivered: [u64; Lane::COUNT],
    /// For people, at most [`TEXT_MAX`] bytes.
    pub text: String,
}

/// Why a session is ended by frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum CloseReason {
    /// The user closed it, all sent was acked and all received handled.
    Closed = 1,
    /// The user aborted it, or the drain ran out of time.
    Aborted = 2,
    /// The user's admission said no, or never answered.
    AdmissionRefused = 3,
    /// The speaker knows a newer incarnation of the listener's name.
    Superseded = 4,
    /// The listener broke the protocol.
    ProtocolViolation = 5,
    /// The speaker's session actor failed.
    InternalFault = 6,
}

impl CloseReason {
    /// The reason with that wire number.
    pub fn from_wire(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Closed),
            2 => Some(Self::Aborted),
            3 => Some(Self::AdmissionRefused),
            4 => Some(Self::Superseded),
            5 => Some(Self::ProtocolViolation),
            6 => Some(Self::InternalFault),
            _ => None,
        }
    }
}
