//! What goes wrong below a session, and who is to blame.

use std::fmt;
use std::io;

use stellate_protocol::Blame;

use crate::address::AddressError;
use crate::rdma::verbs::VerbsError;

/// A dial that made no link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DialError {
    /// The address is none, or none of this transport.
    Address(AddressError),
    /// Nobody listens there.
    Refused,
    /// No way there.
    Unreachable,
    /// No answer in time.
    TimedOut,
    /// This process or machine has no descriptor, port or memory left: back off.
    OutOfDescriptors,
    /// The operating system does not permit it.
    Permission,
    /// The RDMA stack cannot: what failed, and what to do about it.
    Verbs(VerbsError),
    /// There is no registered memory for the link's rings, here or at the listener.
    Unfunded {
        /// Bytes that the link needs.
        needed: u64,
        /// Bytes that are left.
        available: u64,
        /// Whether it is this side that has none.
        here: bool,
    },
    /// The listener has too many links that are not up yet, or no more queue pairs: later.
    Busy,
    /// The listener speaks another version of the transport's greeting.
    Version,
    /// A fault plan said so.
    Injected,
    /// Anything else that the operating system says.
    Io(io::ErrorKind, Option<i32>),
}

impl DialError {
    /// Who is to blame.
    pub fn blame(&self) -> Blame {
        match self {
            Self::Address(_) | Self::OutOfDescriptors | Self::Permission => Blame::Local,
            Self::Refused | Self::Unreachable | Self::TimedOut => Blame::Transport,
            Self::Injected | Self::Io(..) => Blame::Transport,
            Self::Verbs(error) => error.blame(),
            Self::Unfunded { here: true, .. } => Blame::Local,
            Self::Unfunded { here: false, .. } | Self::Busy | Self::Version => Blame::Transport,
        }
    }

    /// Whether a later dial of the same address may succeed.
    pub fn is_retryable(&self) -> bool {
        !matches!(self, Self::Address(_) | Self::Permission)
    }

    /// It in a word, for traces.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Address(_) => "address",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timed-out",
            Self::OutOfDescriptors => "out-of-descriptors",
            Self::Permission => "permission",
            Self::Verbs(_) => "verbs",
            Self::Unfunded { .. } => "unfunded",
            Self::Busy => "busy",
            Self::Version => "version",
            Self::Injected => "injected",
            Self::Io(..) => "io",
        }
    }

    pub(crate) fn from_io(error: &io::Error) -> Self {
        if out_of_resources(error) || error.kind() == io::ErrorKind::AddrNotAvailable {
            return Self::OutOfDescriptors;
        }
        match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => Self::Refused,
            io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown => Self::Unreachable,
            io::ErrorKind::TimedOut => Self::TimedOut,
            io::ErrorKind::PermissionDenied => Self::Permission,
            kind => Self::Io(kind, error.raw_os_error()),
        }
    }
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(error) => error.fmt(f),
            Self::Refused => f.write_str("nobody listens at the dialled address"),
            Self::Unreachable => f.write_str("the dialled address cannot be reached"),
            Self::TimedOut => f.write_str("the dialled address did not answer in time"),
            Self::OutOfDescriptors => {
                f.write_str("no file descriptor, port or memory left to dial with")
            }
            Self::Permission => f.write_str("dialling is not permitted"),
            Self::Verbs(error) => error.fmt(f),
            Self::Unfunded { needed, available, here } => {
                let whose = if *here { "this side" } else { "the listener" };
                write!(
                    f,
                    "{whose} has {available} bytes of registered memory left for the link's rings, \
                     which need {needed}: raise `slots_max` and the limit of locked memory there"
                )
            }
            Self::Busy => f.write_str("the listener takes no more links for now"),
            Self::Version => f.write_str("the listener speaks another version of the greeting"),
            Self::Injected => f.write_str("a fault plan failed the dial"),
            Self::Io(kind, code) => write!(f, "dialling failed: {kind} (os error {code:?})"),
        }
    }
}

impl std::error::Error for DialError {}

/// A listener that could not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenError {
    /// The address is none, or none of this transport.
    Address(AddressError),
    /// Somebody listens there already.
    PortInUse,
    /// The operating system does not permit it.
    Permission,
    /// No descriptor left.
    OutOfDescriptors,
    /// Not called from the runtime that the transport needs.
    NoRuntime,
    /// The RDMA stack cannot: what failed, and what to do about it.
    Verbs(VerbsError),
    /// Anything else that the operating system says, an address of another machine say.
    Io(io::ErrorKind, Option<i32>),
}

impl ListenError {
    /// Who is to blame: always this side.
    pub fn blame(&self) -> Blame {
        Blame::Local
    }

    pub(crate) fn from_io(error: &io::Error) -> Self {
        if out_of_resources(error) {
            return Self::OutOfDescriptors;
        }
        match error.kind() {
            io::ErrorKind::AddrInUse => Self::PortInUse,
            io::ErrorKind::PermissionDenied => Self::Permission,
            kind => Self::Io(kind, error.raw_os_error()),
        }
    }
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(error) => error.fmt(f),
            Self::PortInUse => f.write_str("somebody listens at that address already"),
            Self::Permission => f.write_str("listening there is not permitted"),
            Self::OutOfDescriptors => f.write_str("no file descriptor left to listen with"),
            Self::NoRuntime => f.write_str("listening needs a tokio runtime around it"),
            Self::Verbs(error) => error.fmt(f),
            Self::Io(kind, code) => write!(f, "listening failed: {kind} (os error {code:?})"),
        }
    }
}

impl std::error::Error for ListenError {}

/// An accept that made no link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AcceptError {
    /// Out of descriptors or memory: the listener is sound, back off and poll again.
    Transient(io::ErrorKind, Option<i32>),
    /// The listener is dead: make another.
    Fatal(io::ErrorKind, Option<i32>),
}

impl AcceptError {
    /// Who is to blame: always this side.
    pub fn blame(&self) -> Blame {
        Blame::Local
    }

    pub(crate) fn from_io(error: &io::Error) -> Self {
        if out_of_resources(error) {
            Self::Transient(error.kind(), error.raw_os_error())
        } else {
            Self::Fatal(error.kind(), error.raw_os_error())
        }
    }
}

impl fmt::Display for AcceptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transient(kind, code) => {
                write!(f, "cannot accept for now: {kind} (os error {code:?})")
            }
            Self::Fatal(kind, code) => {
                write!(f, "the listener is dead: {kind} (os error {code:?})")
            }
        }
    }
}

impl std::error::Error for AcceptError {}

/// Whether the process or the machine ran out of something that comes back.
fn out_of_resources(error: &io::Error) -> bool {
    // ENFILE, EMFILE, ENOBUFS, ENOMEM as Linux and the BSDs number them.
    matches!(error.raw_os_error(), Some(23 | 24 | 105 | 55 | 12))
}
