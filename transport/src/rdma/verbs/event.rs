//! What completes, what the connection manager tells, and what a device tells by itself.

use std::fmt;
use std::net::SocketAddr;

use bytes::Bytes;
use stellate_protocol::Blame;

use super::{CmId, QpTag, WorkId};
use crate::rdma::memory::Buf;

/// Posted work that is over.
#[derive(Debug)]
pub struct Completion {
    /// Of which queue pair.
    pub tag: QpTag,
    /// Which work. A signalled SEND says that all SENDs before it on the send queue are over, not
    /// the READs: siw completes those later.
    pub work: WorkId,
    /// What it was.
    pub operation: Operation,
    /// Bytes received or read; why it failed.
    pub result: Result<u32, WorkFault>,
    /// The buffer of a receive or READ comes home; that of a SEND is dropped.
    pub buf: Option<Buf>,
}

/// What was posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// A receive.
    Receive,
    /// A SEND.
    Send,
    /// A READ.
    Read,
}

/// Why posted work failed: `ibv_wc_status`. Each but the first is the fault of its queue pair,
/// which is in error then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WorkFault {
    /// The queue pair was in error: `IBV_WC_WR_FLUSH_ERR`. A consequence, never a cause.
    Flushed,
    /// The peer acknowledged nothing: `IBV_WC_RETRY_EXC_ERR`.
    RetryExceeded,
    /// The peer had no receive posted: `IBV_WC_RNR_RETRY_EXC_ERR`.
    ReceiverNotReady,
    /// The peer does not allow the READ: `IBV_WC_REM_ACCESS_ERR`.
    RemoteAccess,
    /// The peer's NIC took the request for invalid: `IBV_WC_REM_INV_REQ_ERR`.
    RemoteInvalid,
    /// The peer's NIC could not do it: `IBV_WC_REM_OP_ERR`, `IBV_WC_REM_ABORT_ERR`.
    RemoteOperation,
    /// More arrived than the buffer takes: `IBV_WC_LOC_LEN_ERR`.
    LocalLength,
    /// Our own memory or queue pair is wrong: `IBV_WC_LOC_PROT_ERR`, `IBV_WC_LOC_QP_OP_ERR`,
    /// `IBV_WC_LOC_ACCESS_ERR`, `IBV_WC_MW_BIND_ERR`.
    LocalProtection,
    /// The device broke: `IBV_WC_FATAL_ERR`.
    DeviceFatal,
    /// Any other status, and the vendor's code.
    Other {
        /// `ibv_wc_status`.
        status: u32,
        /// `vendor_err`.
        vendor: u32,
    },
}

impl WorkFault {
    /// Who is to blame.
    pub fn blame(self) -> Blame {
        match self {
            Self::LocalProtection | Self::DeviceFatal => Blame::Local,
            Self::LocalLength | Self::RemoteAccess => Blame::PeerMisbehaved,
            _ => Blame::Transport,
        }
    }
}

impl fmt::Display for WorkFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flushed => f.write_str("flushed, as the queue pair was in error"),
            Self::RetryExceeded => f.write_str("the peer's NIC acknowledged nothing"),
            Self::ReceiverNotReady => f.write_str("the peer had no receive posted"),
            Self::RemoteAccess => f.write_str("the peer does not allow reading there"),
            Self::RemoteInvalid => f.write_str("the peer's NIC took the request for invalid"),
            Self::RemoteOperation => f.write_str("the peer's NIC could not do it"),
            Self::LocalLength => f.write_str("more arrived than a receive slot takes"),
            Self::LocalProtection => f.write_str("our own memory or queue pair is wrong"),
            Self::DeviceFatal => f.write_str("the device broke"),
            Self::Other { status, vendor } => write!(f, "status {status}, vendor code {vendor}"),
        }
    }
}

/// One event of an [`EventChannel`](super::EventChannel).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CmEvent {
    /// The identifier it is about; of a request, the listening one.
    pub id: CmId,
    /// What happened.
    pub kind: CmEventKind,
}

/// What the connection manager tells: `rdma_cm_event_type`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CmEventKind {
    /// The address has a device now.
    AddrResolved,
    /// It has none; the number is an errno, positive.
    AddrError(i32),
    /// There is a route.
    RouteResolved,
    /// There is none.
    RouteError(i32),
    /// Somebody dials. `child` is ours: to be accepted or rejected, in the end destroyed.
    ConnectRequest {
        /// The new identifier.
        child: CmId,
        /// Who dials.
        peer: Option<SocketAddr>,
        /// The greeting, and what the fabric padded it with.
        private: Bytes,
        /// READs that the dialler will leave outstanding here at most.
        initiator_depth: u8,
        /// READs that the dialler allows us.
        responder_resources: u8,
    },
    /// The connection is up.
    Established {
        /// At the dialler: the acceptor's greeting, padded. At the acceptor: empty.
        private: Bytes,
        /// READs that the peer allows us.
        responder_resources: u8,
        /// READs that the peer will leave outstanding here.
        initiator_depth: u8,
    },
    /// The peer's machine or application said no.
    Rejected {
        /// The fabric's reason: 28 is the application, 8 (or errno 111 on iWARP) that nobody
        /// listens.
        reason: i32,
        /// What the application said, padded.
        private: Bytes,
    },
    /// The peer did not answer.
    Unreachable(i32),
    /// The exchange failed.
    ConnectError(i32),
    /// The peer disconnected, or we did; the queue pair is in error.
    Disconnected,
    /// The device of the identifier is going away: destroy everything on it.
    DeviceRemoval,
    /// The address moved to another device. The connection stays.
    AddrChange,
    /// The queue pair's number may be used again.
    TimewaitExit,
    /// Any other, by its number.
    Other(u32),
}

/// What a device tells by itself: `ibv_event_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AsyncEvent {
    /// The queue pair of that number is broken: `QP_FATAL`, `QP_REQ_ERR`, `QP_ACCESS_ERR`.
    QpFatal(u32),
    /// Data came before the connection was reported: `COMM_EST`.
    CommunicationEstablished(u32),
    /// The completion queue of that [number](super::CompletionQueue::number) was overrun or broke:
    /// `CQ_ERR`.
    CqError(u64),
    /// A port is up.
    PortActive(u8),
    /// A port is down. Its queue pairs retry for a while.
    PortError(u8),
    /// The device is broken: `DEVICE_FATAL`. Nothing completes any more.
    DeviceFatal,
    /// Any other, by its number: nothing to do.
    Other(u32),
}
