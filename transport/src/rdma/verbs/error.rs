//! What the libraries refuse, and what to do about it.

use std::fmt;

use stellate_protocol::Blame;

/// A call that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerbsError {
    /// The call, by its C name.
    pub call: &'static str,
    /// What it means.
    pub kind: VerbsErrorKind,
    /// The number that the system gave.
    pub errno: Option<i32>,
}

/// What a failed call means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VerbsErrorKind {
    /// No RDMA device in this machine, or it went away.
    NoDevice,
    /// The kernel's RDMA modules are not loaded.
    NoModule,
    /// The device files are not ours to open.
    Permission,
    /// The limit of locked memory does not allow so much to be registered.
    LockedMemory,
    /// Queue pairs, descriptors or memory of the device ran out.
    Exhausted,
    /// The device cannot do what was asked: too deep, too long, too much inline.
    Invalid,
    /// Somebody listens there already.
    AddressInUse,
    /// No device reaches the address, or owns it.
    Unreachable,
    /// The device was removed, or broke.
    DeviceGone,
    /// The endpoint that drives the device is gone.
    NoEndpoint,
    /// Anything else.
    Other,
}

impl VerbsError {
    /// A failed call that the system gave no number for.
    pub fn new(call: &'static str, kind: VerbsErrorKind) -> Self {
        Self { call, kind, errno: None }
    }

    /// Who is to blame.
    pub fn blame(&self) -> Blame {
        match self.kind {
            VerbsErrorKind::Unreachable | VerbsErrorKind::DeviceGone | VerbsErrorKind::Other => {
                Blame::Transport
            }
            _ => Blame::Local,
        }
    }

    /// What a person can do about it.
    pub fn remedy(&self) -> &'static str {
        match self.kind {
            VerbsErrorKind::NoDevice => {
                "no RDMA device: see `rdma link`; `rdma link add rxe0 type rxe netdev eth0` makes a soft one"
            }
            VerbsErrorKind::NoModule => {
                "the kernel has no RDMA connection manager loaded: `modprobe rdma_ucm ib_uverbs`"
            }
            VerbsErrorKind::Permission => {
                "no permission for /dev/infiniband: run as root or join the group that owns it"
            }
            VerbsErrorKind::LockedMemory => {
                "the limit of locked memory is too low: raise `ulimit -l` (LimitMEMLOCK= of a \
                 systemd unit), or lower the pool's size"
            }
            VerbsErrorKind::Exhausted => {
                "the device or the process has no more of it: fewer connections, or a higher \
                 limit of descriptors"
            }
            VerbsErrorKind::Invalid => {
                "the device cannot do it: see its limits in `stellate explain`"
            }
            VerbsErrorKind::AddressInUse => "somebody listens there already: another port",
            VerbsErrorKind::Unreachable => {
                "no RDMA device has, or reaches, that address: it must be one of a netdev with a \
                 device, see `rdma link`"
            }
            VerbsErrorKind::DeviceGone => {
                "the device was removed or broke: its links come back when it does"
            }
            VerbsErrorKind::NoEndpoint => "the endpoint is being restarted: it will be tried again",
            VerbsErrorKind::Other => "see the number",
        }
    }
}

impl fmt::Display for VerbsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed", self.call)?;
        if let Some(errno) = self.errno {
            write!(f, " ({})", std::io::Error::from_raw_os_error(errno))?;
        }
        write!(f, ": {}", self.remedy())
    }
}

impl std::error::Error for VerbsError {}

/// Work that was not posted, given back untouched (F5).
#[derive(Debug)]
pub struct Refused<W> {
    /// The work.
    pub work: W,
    /// Why.
    pub error: VerbsError,
}

/// What is posted on a queue pair, for accounts and tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Posted {
    /// Receives.
    pub receives: u32,
    /// SENDs and READs.
    pub sends: u32,
}
