//! What can be wrong with bytes, who is to blame, and what to do next.

use std::fmt;

use crate::class::Lane;
use crate::error::Blame;
use crate::frame::FrameKind;
use crate::id::Seq;

use super::header::WIRE_VERSION;

/// Why bytes are not a frame, or a frame cannot become bytes. A link fault unless local.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodecError {
    /// The first bytes of the link are not of this protocol.
    NotStellate,
    /// The peer speaks another version of the wire format.
    Version {
        /// The peer's version.
        theirs: u16,
    },
    /// The header does not match its checksum.
    HeaderChecksum,
    /// Front and data do not match their checksum.
    BodyChecksum {
        /// Whose.
        frame: FrameKind,
    },
    /// A frame kind that this version does not know.
    UnknownKind {
        /// Its number.
        number: u8,
    },
    /// A length over a limit, refused before anything was allocated for it.
    TooLong {
        /// What is too long.
        what: &'static str,
        /// Bytes (or records) announced.
        len: u64,
        /// Most allowed.
        max: u64,
    },
    /// A field with a value that means nothing.
    BadField {
        /// In which frame.
        frame: FrameKind,
        /// Which field.
        field: &'static str,
    },
    /// A chunk that does not fit what was pulled.
    UnexpectedChunk {
        /// Its lane.
        lane: Lane,
        /// Its message.
        seq: Seq,
        /// What does not fit.
        fault: ChunkFault,
    },
    /// The first frame of the link is not the one that has to be.
    UnexpectedFirst {
        /// What came.
        frame: FrameKind,
    },
    /// A frame that may only be the first of a link came later.
    NotFirst {
        /// What came.
        frame: FrameKind,
    },
    /// A frame of ours that has no bytes: a fault in this process.
    Unencodable {
        /// Which frame.
        frame: FrameKind,
        /// The field that is out of range.
        field: &'static str,
    },
    /// [`Decoder::expect`](super::Decoder::expect) was called twice for a message.
    AlreadyExpected {
        /// The lane.
        lane: Lane,
        /// The message.
        seq: Seq,
    },
}

/// What does not fit about a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkFault {
    /// Nobody pulled it.
    NotPulled,
    /// It has no bytes.
    Empty,
    /// It leaves out bytes, or repeats some.
    Offset {
        /// Where it begins.
        at: u32,
        /// Where it has to begin.
        want: u32,
    },
    /// It goes beyond the announced length.
    Beyond {
        /// Where it would end.
        end: u64,
        /// Where the data ends.
        len: u32,
    },
}

impl CodecError {
    /// Who is to blame.
    pub const fn blame(&self) -> Blame {
        match self {
            Self::NotStellate | Self::Version { .. } | Self::UnknownKind { .. } => {
                Blame::PeerIncompatible
            }
            Self::HeaderChecksum | Self::BodyChecksum { .. } => Blame::Transport,
            Self::TooLong { .. }
            | Self::BadField { .. }
            | Self::UnexpectedChunk { .. }
            | Self::UnexpectedFirst { .. }
            | Self::NotFirst { .. } => Blame::PeerMisbehaved,
            Self::Unencodable { .. } | Self::AlreadyExpected { .. } => Blame::Local,
        }
    }

    /// What a session counts it as when its link ends by it: [`Input::LinkLost`]'s blame. A damaged
    /// frame is the peer's doing or the path's, and both count: at the same place again and again a
    /// new link does not help.
    ///
    /// [`Input::LinkLost`]: crate::event::Input::LinkLost
    pub const fn counts_as(&self) -> Blame {
        match self.blame() {
            Blame::Local => Blame::Local,
            _ => Blame::PeerMisbehaved,
        }
    }
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStellate => {
                f.write_str("the peer does not speak Stellate; check address and port")
            }
            Self::Version { theirs } => write!(
                f,
                "the peer speaks wire version {theirs}, this side {WIRE_VERSION}; upgrade the older"
            ),
            Self::HeaderChecksum => {
                f.write_str("a frame header was damaged on the way; dial again")
            }
            Self::BodyChecksum { frame } => {
                write!(f, "the body of a {frame:?} was damaged on the way; dial again")
            }
            Self::UnknownKind { number } => write!(
                f,
                "frame kind {number} is unknown here; the peer is newer, upgrade this side"
            ),
            Self::TooLong { what, len, max } => write!(
                f,
                "{what} of {len} is over the limit of {max}; raise it here or send less there"
            ),
            Self::BadField { frame, field } => {
                write!(f, "a {frame:?} has a bad {field}; report it to the peer's owner")
            }
            Self::UnexpectedChunk { lane, seq, fault } => {
                write!(f, "a chunk of {lane} {seq} {fault}; report it to the peer's owner")
            }
            Self::UnexpectedFirst { frame } => write!(
                f,
                "a {frame:?} came before the hello exchange; report it to the peer's owner"
            ),
            Self::NotFirst { frame } => {
                write!(f, "a {frame:?} came after the first frame; report it to the peer's owner")
            }
            Self::Unencodable { frame, field } => {
                write!(f, "a {frame:?} cannot be sent: its {field} is out of range")
            }
            Self::AlreadyExpected { lane, seq } => {
                write!(f, "the data of {lane} {seq} is pulled already; pull it once")
            }
        }
    }
}

impl fmt::Display for ChunkFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPulled => f.write_str("was not pulled"),
            Self::Empty => f.write_str("is empty"),
            Self::Offset { at, want } => write!(f, "begins at {at} instead of {want}"),
            Self::Beyond { end, len } => write!(f, "ends at {end} of {len}"),
        }
    }
}

impl std::error::Error for CodecError {}

#[cfg(test)]
mod tests {
    use super::*;

    /// No poison loop: damage counts against the session like misbehaviour, our own fault does not.
    #[test]
    fn damage_counts_like_misbehaviour_and_a_fault_of_our_own_does_not() {
        let damaged = CodecError::HeaderChecksum;
        assert_eq!(
            (damaged.blame(), damaged.counts_as()),
            (Blame::Transport, Blame::PeerMisbehaved)
        );
        assert_eq!(CodecError::NotStellate.counts_as(), Blame::PeerMisbehaved);
        let ours = CodecError::Unencodable { frame: FrameKind::Message, field: "data_len" };
        assert_eq!(ours.counts_as(), Blame::Local);
    }
}
