//! What a session tells: inputs it takes, outputs it gives, and how it ends.

use bytes::Bytes;

use crate::class::{Class, Lane};
use crate::error::Blame;
use crate::frame::{
    Call, Close, Frame, Hello, Message, Outcome, RefuseReason, Terms, UndeliverableReason,
};
use crate::id::{Attempt, Identity, Incarnation, LinkId, Question, RequestId, Seq, SessionId};
use crate::session::Timer;

/// What happens to a session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input<P> {
    /// The user sends.
    Submit(Submit<P>),
    /// The user answers a request or notify that was handed out in a lane of `class`.
    Reply {
        /// Class of the request.
        class: Class,
        /// Names it.
        id: RequestId,
        /// How it went.
        outcome: Outcome,
        /// The reply's bytes; for other outcomes the empty payload.
        payload: P,
    },
    /// A one-way message could not be handed to a handler: tell its sender.
    Reject {
        /// Its lane.
        lane: Lane,
        /// Its place.
        seq: Seq,
        /// Why.
        reason: UndeliverableReason,
    },
    /// The requester gave up; a late reply is counted and dropped.
    Forget(RequestId),
    /// So many messages of the lane were opened (handed to handlers) since birth.
    Opened {
        /// The lane.
        lane: Lane,
        /// How many.
        total: u64,
    },
    /// A handed-out message is done: its window is free.
    Done(Done),
    /// Several of one lane are done, summed up.
    Settled(Settled),
    /// So many requests of the lane are open in handlers: they do not hold the window any more.
    InHand {
        /// The lane.
        lane: Lane,
        /// How many requests were opened and are not done.
        requests: u64,
        /// Sum of their [`window_cost`](crate::limits::window_cost).
        cost: u64,
    },
    /// The dial asked for by [`Output::Dial`] has a link.
    Dialled {
        /// The link.
        link: LinkId,
        /// The number of this dial.
        attempt: Attempt,
        /// What the link is like.
        facts: LinkFacts,
    },
    /// It has none.
    DialFailed {
        /// A random fraction of 65,536.
        jitter: u16,
    },
    /// The directory routes a hello here.
    Hello {
        /// The link it came on.
        link: LinkId,
        /// The hello.
        hello: Box<Hello>,
        /// The latest attempt of this messenger.
        latest: Attempt,
        /// What the link is like.
        facts: LinkFacts,
    },
    /// A frame arrived.
    Frame {
        /// On this link; frames of other links than the session's are ignored (S6).
        link: LinkId,
        /// The frame.
        frame: Frame<P>,
    },
    /// The link is gone.
    LinkLost {
        /// Which.
        link: LinkId,
        /// Whose fault it was.
        blame: Blame,
        /// A random fraction of 65,536.
        jitter: u16,
    },
    /// Some timer may be due.
    Timer {
        /// A random fraction of 65,536.
        jitter: u16,
        /// How many nanoseconds after the time that was armed we woke, also where that timer was put
        /// off meanwhile (S9).
        late: u64,
    },
    /// This timer fires, due or not (the model checker's clock).
    Fire(Timer),
    /// The user's admission answered.
    Admission {
        /// What: an answer to any question but the last is none, since the peer has come again and
        /// may offer other metadata.
        question: Question,
        /// The answer.
        decision: Decision,
    },
    /// The directory knows something about the peer.
    Notice(Notice),
    /// Go on over another address: the dialler has been told which.
    Readdress,
    /// Drain, then end.
    Close,
    /// End now.
    Abort,
    /// The session's own actor failed.
    Fault,
}

/// A message to send.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Submit<P> {
    /// Its class.
    pub class: Class,
    /// Its bytes.
    pub payload: P,
    /// What it asks for.
    pub ask: Ask,
}

/// What a message asks of its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ask {
    /// Nothing.
    Nothing,
    /// A `handled` acknowledgement.
    Notify(RequestId),
    /// A reply, within so many nanoseconds if given.
    Request(RequestId, Option<u64>),
}

/// A message is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Done {
    /// Its lane.
    pub lane: Lane,
    /// Its front's bytes.
    pub front_len: u32,
    /// Its data's bytes.
    pub data_len: u32,
    /// Whether its data was pulled.
    pub pulled: bool,
}

/// Messages of one lane that are done, summed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Settled {
    /// The lane.
    pub lane: Lane,
    /// How many.
    pub messages: u64,
    /// Sum of their [`window_cost`](crate::limits::window_cost).
    pub cost: u64,
    /// Sum of the data bytes of those that were pulled.
    pub pulled: u64,
}

/// What the session needs to know of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LinkFacts {
    /// Receives posted on it here, where the transport counts them.
    pub slots: Option<u32>,
    /// Bytes of a slot.
    pub slot_bytes: u32,
    /// Whether a frame must fit a slot, counted or not: the fabric takes frames, and not bytes.
    pub whole: bool,
}

/// The user's word on a peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// Let it in.
    Accept,
    /// Not yet: another answer follows, within `hold_max`.
    Hold,
    /// Keep it out, and why (for people).
    Refuse(String),
}

/// What the directory learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Notice {
    /// Another instance uses the peer's name.
    NewInstance {
        /// Its incarnation, if given.
        incarnation: Option<Incarnation>,
    },
    /// The same instance started another session: it has forgotten this one.
    Forgotten,
}

/// What a session wants done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Output<P> {
    /// Dial now; answer with `Dialled` or `DialFailed`.
    Dial,
    /// That dial is not wanted any more.
    CancelDial,
    /// Send a handshake frame on that link.
    Send {
        /// The link.
        link: LinkId,
        /// The frame.
        frame: Frame<P>,
    },
    /// This link is the session's now; frames for it come from `poll_frame`.
    Adopt(LinkId),
    /// A pull for this data follows on the session's link: prepare its final buffer.
    Expect {
        /// The lane of the announcement.
        lane: Lane,
        /// Its place there.
        seq: Seq,
        /// Bytes of data.
        data_len: u32,
    },
    /// Close that link.
    CloseLink {
        /// The link.
        link: LinkId,
        /// Send what was submitted first.
        drain: bool,
    },
    /// The last frame of the session, then close the link. The driver may correct `delivered`
    /// to what it knows exactly at this moment (S4).
    Farewell {
        /// The link.
        link: LinkId,
        /// The frame.
        close: Box<Close>,
    },
    /// Hand this message to its handler (S1).
    Deliver(Delivery<P>),
    /// Ask the user whether to admit the peer.
    AskAdmission {
        /// Number of the question, to be given back with its answer.
        question: Question,
        /// The peer.
        peer: Identity,
        /// What it offers.
        metadata: Bytes,
        /// Whether the session was up before.
        resumed: bool,
    },
    /// All up to this position of the message lane are owned by the peer (S3).
    Received {
        /// The lane.
        lane: Lane,
        /// The position.
        position: u64,
        /// How many these are more than before: positions of what came back are not among them.
        messages: u64,
    },
    /// The message at this place went back to its user and will never be received: its receipt must
    /// not be taken for its followers' (S3).
    Returned {
        /// The lane.
        lane: Lane,
        /// Its position.
        position: u64,
        /// Why.
        why: Returned,
    },
    /// So much room is free in the outbox again.
    Room {
        /// Messages.
        messages: u64,
        /// Bytes.
        bytes: u64,
    },
    /// A request or notify is over.
    Outcome {
        /// Which one.
        id: RequestId,
        /// How.
        result: CallResult<P>,
    },
    /// The peer's limits are known: check them at `send`.
    Terms(Terms),
    /// The session is bound to this peer and id now: tell the directory.
    Bound {
        /// The peer.
        peer: Identity,
        /// The id.
        id: SessionId,
        /// The latest attempt known of it.
        latest: Attempt,
    },
    /// This hello is not for this session any more: route it again.
    Bounce {
        /// The link.
        link: LinkId,
        /// The hello.
        hello: Box<Hello>,
    },
    /// Tell the user.
    Event(Event<P>),
}

impl<P> Output<P> {
    /// Whether it is news to the session's users, and so is kept from them until they know the end
    /// of the session before it ([`Directory::follow`](crate::directory::Directory::follow), S6).
    /// Deliveries wait as well; answers to what the user sent on this session do not.
    pub fn is_news(&self) -> bool {
        matches!(self, Self::AskAdmission { .. } | Self::Event(_))
    }

    /// As [`Event::replaces`]. Only the last question to the admission can be answered.
    pub fn replaces(&self, earlier: &Self) -> bool {
        match (earlier, self) {
            (Self::Event(earlier), Self::Event(event)) => event.replaces(earlier),
            (Self::AskAdmission { .. }, Self::AskAdmission { .. }) => true,
            _ => false,
        }
    }
}

/// A message on its way to a handler.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Delivery<P> {
    /// The message.
    pub message: Message<P>,
    /// Whether its data was pulled; to be given back with [`Done`].
    pub pulled: bool,
}

/// Why a message that was submitted went back before it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Returned {
    /// It is over the peer's limits, which the hello told.
    TooLarge,
    /// It asked for an answer, and `requests_max` of those were open.
    NoRoom,
}

/// How a request or notify ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CallResult<P> {
    /// The peer answered. The payload matters for [`Outcome::Reply`] only.
    Answered(Outcome, P),
    /// No answer in time.
    Timeout,
    /// The session ended first.
    SessionEnded(Fate),
    /// `requests_max` are open already: nothing was sent.
    NoRoom,
}

/// What may have become of a request whose session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It was never put on a link.
    NotSent,
    /// It was sent and not answered.
    MaybeHandled,
}

/// What a session tells its user.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event<P> {
    /// Up for the first time.
    Connected {
        /// The peer.
        peer: Identity,
        /// The peer acks and keeps what we send, and delivers it once its user admits us.
        held: bool,
    },
    /// The peer's user admitted us.
    Admitted,
    /// Up again, nothing lost.
    Resumed {
        /// As in `Connected`.
        held: bool,
    },
    /// Two live processes use the peer's name.
    NameConflict,
    /// A message of ours was not handed to a handler.
    Undeliverable {
        /// Its class.
        class: Class,
        /// Why.
        reason: UndeliverableReason,
        /// The message, if it never left.
        payload: Option<P>,
    },
    /// We woke so late that the peer's silence may be our own fault.
    LocalStall {
        /// Nanoseconds late.
        late: u64,
    },
    /// The session is over (S4).
    Ended(Box<End<P>>),
}

impl<P> Event<P> {
    /// Whether it says all that an `earlier` one of its session says which the user has not read yet:
    /// that one is dropped, or a link that flaps would fill the user's queue (S7). This one comes last
    /// all the same: what lies between them was true before it.
    pub fn replaces(&self, earlier: &Self) -> bool {
        use Event::{Admitted, LocalStall, Resumed};
        matches!(
            (earlier, self),
            (Admitted, Admitted)
                | (Resumed { .. }, Resumed { .. })
                | (LocalStall { .. }, LocalStall { .. })
        )
    }
}

/// How a session ended, exactly once on each side that lives (S4).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct End<P> {
    /// Why.
    pub cause: EndCause,
    /// The session.
    pub id: SessionId,
    /// The peer, if it was ever known.
    pub peer: Option<Identity>,
    /// The numbers, by [`Class::index`].
    pub counts: [ClassCounts; Class::COUNT],
    /// Whether the policy goes on with a fresh session by itself.
    pub goes_on: bool,
    /// Messages not known to be received, the oldest first within a class.
    pub unacked: Vec<Unacked<P>>,
}

/// A message taken back.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unacked<P> {
    /// Its class.
    pub class: Class,
    /// Whether it was a reply.
    pub reply: bool,
    /// Whether it was ever put on a link: then the peer may have it.
    pub sent: bool,
    /// What it asked for or answered.
    pub call: Call,
    /// Its bytes.
    pub payload: P,
}

/// The numbers of one class at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClassCounts {
    /// Accepted by `send`, not known to be received by the peer.
    pub unacked: u64,
    /// Of those, put on a link at least once.
    pub unacked_sent: u64,
    /// Received here, never handed to a handler.
    pub undelivered: u64,
    /// Of those accepted here: handed to handlers there, if the peer said so.
    pub peer_delivered: Option<u64>,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndCause {
    /// By `close`, `abort` or the last handle here.
    ClosedHere,
    /// By the peer's user.
    ClosedByPeer,
    /// The peer lost its memory.
    PeerRestarted,
    /// A newer incarnation of the peer is known; or the peer knows a newer one of us.
    Superseded,
    /// The peer refused the hello.
    Refused(RefuseReason),
    /// The two policies make no promise together.
    PolicyMismatch,
    /// Admission said no, there or here.
    AdmissionRefused,
    /// Never reached.
    Unreachable,
    /// Without a link for `standby_max`.
    TimedOut,
    /// The link of a lossy session broke.
    LinkLost,
    /// The peer broke the protocol, at this class and number if it was a message.
    ProtocolViolation {
        /// Where.
        at: Option<(Class, Seq)>,
    },
    /// The session's own actor failed, there or here.
    InternalFault,
}

/// What a session counted; the names other tools call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // each is what its name says, counted since birth
pub struct Counters {
    pub dials: u64,
    /// Of them, those that the transport refused at once.
    pub dials_failed: u64,
    /// Of them, those that nobody answered in time, on whatever layer: black holes.
    pub dials_silent: u64,
    pub hellos_sent: u64,
    pub hellos_received: u64,
    pub resumes_sent: u64,
    pub resumes_received: u64,
    pub links_accepted: u64,
    pub links_replaced: u64,
    pub links_lost: u64,
    pub resets: u64,
    pub ended: u64,
    pub replayed: u64,
    pub deduplicated: u64,
    pub late_replies: u64,
    pub stale_hellos: u64,
    pub stale_frames: u64,
    pub local_stalls: u64,
    pub messages_sent: u64,
    pub messages_received: u64,
}
