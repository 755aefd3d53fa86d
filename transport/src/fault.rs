//! Why a link ended, and who is to blame.

use std::fmt;
use std::io;

use stellate_protocol::Blame;
use stellate_protocol::codec::CodecError;

use crate::rdma::verbs::WorkFault;

/// Why a link ended. Only the first two are no faults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkFault {
    /// This side closed it.
    ClosedHere,
    /// The other side closed it, between two frames.
    ClosedByPeer,
    /// The other side, or its machine, cut it.
    Reset,
    /// It ended within a frame.
    Truncated,
    /// The other end did not take bytes for too long.
    TimedOut,
    /// What arrived is no frame.
    Malformed(CodecError),
    /// The frames that were sent found no posted receive (F6).
    Underflow,
    /// A receive was posted that the ring has no place for (F6).
    Overposted,
    /// The listening side spoke first where the dialler must.
    SpokeFirst,
    /// An eager frame was longer than a receive slot.
    OverSlot {
        /// Its front and data, bytes.
        len: u32,
        /// What a slot takes.
        slot: u32,
    },
    /// A queue pair failed: what its NIC said of the work that failed.
    Work(WorkFault),
    /// What arrived keeps to no rule of the RDMA driver: credits that were never spent, a message
    /// of no kind, an offer that nobody pulled.
    BadMessage,
    /// The RDMA device was removed or broke.
    DeviceGone,
    /// The endpoint that drove the link ended; another takes its place.
    EndpointGone,
    /// A fault plan cut it.
    Injected,
    /// The runtime that drives it is gone or does not take it.
    NoRuntime,
    /// Anything else that the operating system says.
    Io(io::ErrorKind, Option<i32>),
}

impl LinkFault {
    /// Who is to blame.
    pub fn blame(&self) -> Blame {
        match self {
            Self::ClosedHere | Self::NoRuntime | Self::Overposted => Blame::Local,
            Self::SpokeFirst | Self::OverSlot { .. } => Blame::Local,
            Self::ClosedByPeer | Self::Reset | Self::Truncated | Self::TimedOut => Blame::Transport,
            Self::Injected | Self::Io(..) => Blame::Transport,
            Self::Malformed(error) => error.blame(),
            Self::Work(fault) => fault.blame(),
            Self::DeviceGone | Self::EndpointGone => Blame::Local,
            // A receive that is missing says nothing of what was sent: no session ends over that,
            // however often it happens.
            Self::Underflow => Blame::Transport,
            Self::BadMessage => Blame::PeerMisbehaved,
        }
    }

    /// What a session counts it as; differs from [`blame`](Self::blame) where bytes were damaged.
    pub fn counts_as(&self) -> Blame {
        match self {
            Self::Malformed(error) => error.counts_as(),
            fault => fault.blame(),
        }
    }

    /// Whether somebody closed the link on purpose and in order.
    pub fn is_orderly(&self) -> bool {
        matches!(self, Self::ClosedHere | Self::ClosedByPeer)
    }

    /// It in a word, for traces.
    pub fn word(&self) -> &'static str {
        match self {
            Self::ClosedHere => "closed-here",
            Self::ClosedByPeer => "closed-by-peer",
            Self::Reset => "reset",
            Self::Truncated => "truncated",
            Self::TimedOut => "timed-out",
            Self::Malformed(_) => "malformed",
            Self::Underflow => "underflow",
            Self::Overposted => "overposted",
            Self::SpokeFirst => "spoke-first",
            Self::OverSlot { .. } => "over-slot",
            Self::Work(_) => "work",
            Self::BadMessage => "bad-message",
            Self::DeviceGone => "device-gone",
            Self::EndpointGone => "endpoint-gone",
            Self::Injected => "injected",
            Self::NoRuntime => "no-runtime",
            Self::Io(..) => "io",
        }
    }

    pub(crate) fn from_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => Self::Reset,
            io::ErrorKind::TimedOut => Self::TimedOut,
            kind => Self::Io(kind, error.raw_os_error()),
        }
    }
}

impl fmt::Display for LinkFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClosedHere => f.write_str("closed here"),
            Self::ClosedByPeer => f.write_str("closed by the other side"),
            Self::Reset => f.write_str("reset by the other side"),
            Self::Truncated => f.write_str("ended within a frame"),
            Self::TimedOut => f.write_str("the other side took no bytes for too long"),
            Self::Malformed(error) => write!(f, "malformed input: {error}"),
            Self::Underflow => f.write_str("a frame found no posted receive"),
            Self::Overposted => f.write_str("more receives posted than the ring holds"),
            Self::SpokeFirst => f.write_str("spoke before the dialler on a dialler-first link"),
            Self::OverSlot { len, slot } => {
                write!(f, "an eager frame of {len} bytes for a slot of {slot}")
            }
            Self::Work(fault) => write!(f, "the queue pair failed: {fault}"),
            Self::BadMessage => f.write_str("what arrived keeps to no rule of the RDMA driver"),
            Self::DeviceGone => f.write_str("the RDMA device was removed or broke"),
            Self::EndpointGone => f.write_str("the endpoint that drove it ended"),
            Self::Injected => f.write_str("cut by a fault plan"),
            Self::NoRuntime => f.write_str("no runtime takes the link"),
            Self::Io(kind, code) => write!(f, "{kind} (os error {code:?})"),
        }
    }
}

impl std::error::Error for LinkFault {}

#[cfg(test)]
mod tests {
    use super::*;

    /// S2: faults at the same place end a session, and hardware that found no receive is at no place:
    /// who only sends would lose its session by three of them, however far apart.
    #[test]
    fn a_receive_that_was_missing_is_nobodys_misbehaviour() {
        assert_eq!(LinkFault::Underflow.counts_as(), Blame::Transport);
        assert_eq!(LinkFault::Work(WorkFault::ReceiverNotReady).counts_as(), Blame::Transport);
        assert_eq!(LinkFault::BadMessage.counts_as(), Blame::PeerMisbehaved);
    }
}
