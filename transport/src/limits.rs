//! What a link can and cannot do, as data: the session reads it, no code asks for a transport's name.

use std::time::Duration;

/// The capability record of a link. The rows are those of the fabrics that Stellate maps onto.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkLimits {
    /// What the fabric keeps together.
    pub boundary: Boundary,
    /// Longest front + data of one eager frame, bytes: a receive slot of the fabric.
    pub slot_bytes: u32,
    /// Most data bytes of one [`Chunk`](stellate_protocol::frame::Chunk).
    pub chunk_bytes: u32,
    /// Receives posted on each end when the fabric counts them; every frame spends one.
    pub recv_slots: Option<u32>,
    /// Bytes accepted by `submit` and not yet `Done`, before it refuses (one frame may overshoot). A
    /// link that sends chunks from memory of its own takes as many bytes of them beside.
    pub send_bytes: usize,
    /// Most pieces of memory that one piece of work gathers.
    pub gather_max: usize,
    /// Most pieces of memory that one pull scatters into.
    pub pull_sink_max: usize,
    /// What a frame does that finds no posted receive.
    pub underflow: Underflow,
    /// Who may send first.
    pub first_speaker: FirstSpeaker,
    /// Bytes that the fabric's own connection exchange carries; 0 if none.
    pub greeting_max: usize,
    /// When the other end learns that a link was closed.
    pub close_notice: CloseNotice,
    /// Whether frames keep their order. The session demands it.
    pub ordered: bool,
    /// How the driver learns of work.
    pub readiness: Readiness,
}

impl LinkLimits {
    /// The limits of a byte stream: TCP's. It has no slots; what goes eagerly is short enough for a
    /// message of another class not to wait long behind it.
    pub const STREAM: Self = Self {
        boundary: Boundary::Stream,
        slot_bytes: 72 * 1024,
        chunk_bytes: 64 * 1024,
        recv_slots: None,
        send_bytes: 256 * 1024,
        gather_max: 64,
        pull_sink_max: 1,
        underflow: Underflow::Blocks,
        first_speaker: FirstSpeaker::Either,
        greeting_max: 0,
        close_notice: CloseNotice::Always,
        ordered: true,
        readiness: Readiness::Wakes,
    };
}

/// What a fabric keeps together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boundary {
    /// Bytes; frames are cut anywhere on the way.
    Stream,
    /// Frames; each arrives whole or not at all.
    Message,
}

/// What a frame does that finds no posted receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Underflow {
    /// The sender waits.
    Blocks,
    /// The sender tries again for that long, then the link dies.
    Retries(Duration),
    /// The link dies at once.
    Fatal,
    /// So many more are taken into an overflow list; beyond it the list disables itself and the
    /// link dies.
    Buffers(u32),
}

/// Who may send first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstSpeaker {
    /// Either end.
    Either,
    /// The end that dialled; the other waits for its first frame.
    Dialer,
}

/// When the other end learns that a link was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseNotice {
    /// However it was closed, if the network carries the notice.
    Always,
    /// Only if it was closed on purpose.
    Orderly,
    /// Never: heartbeats find out.
    Never,
}

/// How a driver learns that there is work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// The task is woken.
    Wakes,
    /// The link polls the fabric by itself at short intervals.
    PollOnly,
}
