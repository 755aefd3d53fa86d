//! The seam below the RDMA driver: what it asks of libibverbs and librdmacm, and no more.
//!
//! ```text
//!   driver ──► Verbs ─┬─ devices, open ─► Device ── register, export, create_cq ─► CompletionQueue
//!                     └─ event_channel ─► EventChannel ── create_qp ─────────────► QueuePair
//!                 ▲
//!                 ├─ fake: a NIC over virtual time, always built
//!                 └─ sys:  the real libraries, feature `rdma`, the only `unsafe`
//! ```
//!
//! Each method is one call of the libraries, or the few that make no sense apart. There is no rule
//! in an implementation: when to arm, what to signal, when to tear down is the driver's, so that
//! the fake NIC tests it. What every implementation has to do:
//!
//! * **Nothing blocks.** All three kinds of file descriptor (CM events, completion channel, async
//!   events of a device) are set non-blocking, and each is watched by `poll_readable`.
//! * **Memory moves.** A buffer that the NIC may write is a [`Buf`] given away by value, kept by
//!   the implementation while it is posted, and given back by the completion or by
//!   [`QueuePair::destroy`]. Nobody can touch memory that the NIC writes. What the NIC only reads
//!   is kept as a handle just as long.
//! * **Completions in error** have a valid work id, status and vendor code and nothing else: the
//!   kind and the buffer come from the implementation's own table of what is posted.
//! * **No panic** on anything a peer, a device or the kernel does; numbers that a newer kernel
//!   adds (async events above all) are read as integers and become `Other`.
//! * Everything may be called from any thread. What is polled (`poll`, `next_…`, `poll_…readable`)
//!   is polled by one task in one tokio runtime, in which a descriptor is registered at the first
//!   `poll_…readable`. `poll_…readable` is pending only when the waker is registered.

mod error;
mod event;
mod limits;

use std::any::Any;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

pub use self::error::{Posted, Refused, VerbsError, VerbsErrorKind};
pub use self::event::{AsyncEvent, CmEvent, CmEventKind, Completion, Operation, WorkFault};
pub use self::limits::{DeviceInfo, Fabric, Granted, PortState, QpConfig};
use super::memory::{Arena, Buf, Piece, RegionId};

/// Names a connection identifier of one [`EventChannel`]; never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CmId(pub u64);

/// Names a queue pair to its driver: chosen at [`EventChannel::create_qp`], told with each of its
/// completions. In the upper half of the `wr_id` an implementation has a name of its own for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QpTag(pub u32);

/// Names a piece of posted work among those of its queue pair: the lower half of the `wr_id`.
/// Two that are posted at the same time differ, also a receive and a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkId(pub u32);

/// Memory that a peer may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Remote {
    /// Where it lies in the address space of its owner.
    pub addr: u64,
    /// The key of its region.
    pub rkey: u32,
}

/// What a NIC may do with a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// Receive into it, send from it: `IBV_ACCESS_LOCAL_WRITE`.
    Local,
    /// Also let peers READ it: `| IBV_ACCESS_REMOTE_READ`. On iWARP the sink of a READ may need
    /// `| IBV_ACCESS_REMOTE_WRITE`; the implementation adds it there.
    RemoteRead,
}

/// The two libraries, or what stands for them. A process may have several, and each device open
/// several times, as there may be several messengers in it.
pub trait Verbs: Send + Sync + fmt::Debug {
    /// The devices that are there now, by name.
    ///
    /// Real: `rdma_get_devices`, which opens each once and for good (rdma_cm creates queue pairs
    /// only on its own contexts), then `ibv_query_device` and `ibv_query_port` of port 1.
    ///
    /// # Errors
    /// [`VerbsError`] that says what is missing: the library, `rdma_ucm`, a device, permission.
    fn devices(&self) -> Result<Vec<DeviceInfo>, VerbsError>;

    /// Opens a device: the context that rdma_cm has of it, and a protection domain.
    ///
    /// Real: `ibv_alloc_pd`; async fd set non-blocking.
    ///
    /// # Errors
    /// [`VerbsErrorKind::NoDevice`] if it is gone.
    fn open(&self, name: &str) -> Result<Arc<dyn Device>, VerbsError>;

    /// A channel of CM events: `rdma_create_event_channel`, its fd set non-blocking.
    ///
    /// # Errors
    /// [`VerbsErrorKind::NoModule`] without `/dev/infiniband/rdma_cm`, or `Permission`.
    fn event_channel(&self) -> Result<Arc<dyn EventChannel>, VerbsError>;
}

/// An open device with its protection domain. Dropping the last handle gives all of it back.
pub trait Device: Any + Send + Sync + fmt::Debug {
    /// What it is and what it can do.
    fn info(&self) -> &DeviceInfo;

    /// Registers an arena: `ibv_reg_mr`. The implementation keeps the arena, and so its memory
    /// allocated, until [`deregister`](Self::deregister).
    ///
    /// # Errors
    /// [`VerbsErrorKind::LockedMemory`] for ENOMEM: the limit of `ulimit -l` is the usual cause.
    fn register(&self, arena: Arena, access: Access) -> Result<RegionId, VerbsError>;

    /// Gives a region back: `ibv_dereg_mr`. No work may be posted in it; unknown is ignored.
    fn deregister(&self, region: RegionId);

    /// Makes a piece of a [`RemoteRead`](Access::RemoteRead) region readable to peers.
    ///
    /// Real: checks that it lies in its region, and computes address and key; nothing is called
    /// and nothing kept, since the driver holds the handle until it withdraws. The fake refuses
    /// READs of what is not exported, which is stricter than hardware, where the whole region is
    /// open.
    ///
    /// # Errors
    /// [`VerbsErrorKind::Invalid`] for a piece of no such region.
    fn export(&self, piece: &Piece) -> Result<Remote, VerbsError>;

    /// Ends one [`export`](Self::export) of the same bytes. Real: nothing to do.
    fn withdraw(&self, remote: Remote);

    /// A completion queue for `depth` entries, at least, with a channel of its own.
    ///
    /// Real: `ibv_create_comp_channel`, fd non-blocking, `ibv_create_cq` (what it grants is
    /// [`CompletionQueue::depth`]).
    ///
    /// # Errors
    /// [`VerbsErrorKind::Exhausted`] or `Invalid` over the device's limit.
    fn create_cq(&self, depth: u32) -> Result<Arc<dyn CompletionQueue>, VerbsError>;

    /// The next asynchronous event, if there is one: `ibv_get_async_event`, acked at once, and told to
    /// all in this process who have the device open, as rdma_cm gives them one context. So it may be
    /// about somebody else's queue or queue pair.
    ///
    /// The fd gives one record a read: callers drain to `None` after each wake-up.
    ///
    /// # Errors
    /// [`VerbsError`] other than EAGAIN: the device is lost.
    fn next_async(&self) -> Result<Option<AsyncEvent>, VerbsError>;

    /// Ready when [`next_async`](Self::next_async) may have something.
    fn poll_async_readable(&self, cx: &mut Context<'_>) -> Poll<()>;
}

/// Where the work of a queue pair completes: two queues, or one for both.
#[derive(Clone, Debug)]
pub struct Queues {
    /// SENDs and READs.
    pub sent: Arc<dyn CompletionQueue>,
    /// Receives.
    pub received: Arc<dyn CompletionQueue>,
}

/// A completion queue and its channel.
pub trait CompletionQueue: Any + Send + Sync + fmt::Debug {
    /// Its number, as async events name it; of no other queue of its device, sooner or later.
    fn number(&self) -> u64;

    /// Entries that it holds. More than that outstanding is an overrun, which breaks every queue
    /// pair on it: the driver makes it impossible.
    fn depth(&self) -> u32;

    /// Takes up to `max` completions: `ibv_poll_cq`. How many were appended; fewer than `max` says
    /// that it was empty for a moment. A completion whose queue pair was destroyed meanwhile is
    /// taken and dropped, and not counted: soft RoCE leaves such behind.
    ///
    /// # Errors
    /// [`VerbsError`]: the queue is broken, and the device with it.
    fn poll(&self, max: usize, out: &mut Vec<Completion>) -> Result<usize, VerbsError>;

    /// Asks for one wake-up at the next completion: `ibv_req_notify_cq`. One that came before is
    /// not told: arm, poll again, and only then sleep.
    ///
    /// # Errors
    /// As [`poll`](Self::poll).
    fn arm(&self) -> Result<(), VerbsError>;

    /// Ready after a wake-up. Real: the channel's fd is readable; takes its events with
    /// `ibv_get_cq_event` until EAGAIN and acks them in one `ibv_ack_cq_events` (it takes a mutex,
    /// and destroying a queue waits for it).
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()>;
}

/// rdma_cm: an event channel and its identifiers.
pub trait EventChannel: Send + Sync + fmt::Debug {
    /// `rdma_create_id` for `RDMA_PS_TCP`.
    ///
    /// # Errors
    /// [`VerbsErrorKind::Exhausted`] without descriptors or memory.
    fn create_id(&self) -> Result<CmId, VerbsError>;

    /// `rdma_bind_addr` and `rdma_listen`: where it listens, with the port that was chosen for 0.
    ///
    /// # Errors
    /// [`VerbsErrorKind::AddressInUse`], or `Unreachable` if no device has the address.
    fn listen(&self, id: CmId, at: SocketAddr, backlog: u32) -> Result<SocketAddr, VerbsError>;

    /// `rdma_resolve_addr`; ends in `AddrResolved` or `AddrError`.
    ///
    /// # Errors
    /// [`VerbsError`] if not even that could be started; no event follows.
    fn resolve_addr(&self, id: CmId, to: SocketAddr, timeout: Duration) -> Result<(), VerbsError>;

    /// `rdma_resolve_route`; ends in `RouteResolved` or `RouteError`.
    ///
    /// # Errors
    /// As [`resolve_addr`](Self::resolve_addr).
    fn resolve_route(&self, id: CmId, timeout: Duration) -> Result<(), VerbsError>;

    /// The name of the device that an identifier was bound to, once it is (`id->verbs`).
    fn device(&self, id: CmId) -> Option<String>;

    /// The other end's address: `rdma_get_peer_addr`, read through the storage member of the
    /// union, as the plain one is too short for IPv6.
    fn peer(&self, id: CmId) -> Option<SocketAddr>;

    /// Makes the queue pair of an identifier: `rdma_create_qp`, type RC, `sq_sig_all` 0.
    ///
    /// More inline than the device has is EINVAL and not clamped: the driver asks for less and
    /// less.
    ///
    /// # Errors
    /// [`VerbsErrorKind::Invalid`] over a limit, `Exhausted` without queue pairs.
    fn create_qp(
        &self,
        id: CmId,
        device: &Arc<dyn Device>,
        queues: &Queues,
        config: &QpConfig,
        tag: QpTag,
    ) -> Result<Arc<dyn QueuePair>, VerbsError>;

    /// `rdma_connect`; ends in `Established`, `Rejected`, `Unreachable` or `ConnectError`. The
    /// greeting is the private data.
    ///
    /// # Errors
    /// [`VerbsError`] if it could not be started.
    fn connect(&self, id: CmId, params: &ConnectParams) -> Result<(), VerbsError>;

    /// `rdma_accept` of the child of a `ConnectRequest`; `Established` follows, possibly after
    /// the first completion, possibly never.
    ///
    /// # Errors
    /// [`VerbsError`]: the dialler gave up meanwhile.
    fn accept(&self, id: CmId, params: &ConnectParams) -> Result<(), VerbsError>;

    /// `rdma_reject` of the child of a `ConnectRequest`, which is destroyed with it.
    fn reject(&self, id: CmId, private: &[u8]);

    /// `rdma_disconnect`: both queue pairs go to error and flush. `Disconnected` follows at both
    /// ends, or never, if the peer is gone. Called once; errors say that it was over already.
    fn disconnect(&self, id: CmId);

    /// `rdma_notify` with `IBV_EVENT_COMM_EST`: data came before the peer's ready-to-use.
    fn communication_established(&self, id: CmId);

    /// `rdma_destroy_id`: its queue pair is destroyed already. Events of it that wait are
    /// dropped (real: those not acked would make the call hang). Unknown is ignored.
    fn destroy_id(&self, id: CmId);

    /// The next event, if there is one: `rdma_get_cm_event`, copied, then acked at once with
    /// `rdma_ack_cm_event`.
    ///
    /// # Errors
    /// [`VerbsError`] other than EAGAIN: the channel is lost.
    fn next_event(&self) -> Result<Option<CmEvent>, VerbsError>;

    /// Ready when [`next_event`](Self::next_event) may have something.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()>;
}

/// What a connection is asked for: `rdma_conn_param`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectParams {
    /// The greeting, at most [`GREETING_MAX`] bytes. What arrives may be padded to whatever the
    /// fabric carries: it says its own length.
    pub private: Bytes,
    /// READs that the peer may have outstanding here.
    pub responder_resources: u8,
    /// READs that this side may have outstanding there.
    pub initiator_depth: u8,
    /// Tries after a lost packet, 7 at most. Ignored when accepting.
    pub retry_count: u8,
    /// Tries after "receiver not ready"; 7 is for ever and never asked for. Credits make them
    /// unneeded: they are for a firmware that re-posts late.
    pub rnr_retry_count: u8,
}

/// Most bytes of a greeting: what rdma_cm's TCP port space leaves on InfiniBand.
pub const GREETING_MAX: usize = 56;

/// A queue pair. Dropping the last handle destroys it.
pub trait QueuePair: Send + Sync + fmt::Debug {
    /// Its number on its device, as async events name it.
    fn number(&self) -> u32;

    /// What was granted; may be more than asked for.
    fn granted(&self) -> Granted;

    /// Sets the receiver-not-ready timer that this side asks of the peer: `ibv_modify_qp` with
    /// `IBV_QP_MIN_RNR_TIMER`, 12 for 0.64 ms (rdma_cm leaves 0, which is 655 ms). May be refused
    /// on iWARP, which has none: that is no error.
    fn set_rnr_timer(&self, timer: u8);

    /// Posts a receive: `ibv_post_recv` with one segment, the whole buffer. Allowed before the
    /// connection.
    ///
    /// # Errors
    /// [`Refused`] with the buffer: the queue is full, or the pair is destroyed.
    fn post_recv(&self, work: WorkId, buf: Buf) -> Result<(), Refused<Buf>>;

    /// Posts a SEND: `ibv_post_send` with `IBV_WR_SEND`, one segment for the head and one for each
    /// piece. `inline` work is copied by the call.
    ///
    /// # Errors
    /// [`Refused`] with the work: as [`post_recv`](Self::post_recv).
    fn post_send(&self, work: WorkId, send: SendWork) -> Result<(), Refused<SendWork>>;

    /// Posts a READ into one segment: `IBV_WR_RDMA_READ`, always signalled.
    ///
    /// # Errors
    /// [`Refused`] with the work: as [`post_recv`](Self::post_recv).
    fn post_read(&self, work: WorkId, read: ReadWork) -> Result<(), Refused<ReadWork>>;

    /// Moves it to the error state: `ibv_modify_qp`. All that is posted comes home flushed; so
    /// does what is posted later.
    fn to_error(&self);

    /// What is posted and did not come home: by the implementation's own table. SENDs that are over
    /// without a completion count until a later one completes.
    fn posted(&self) -> Posted;

    /// Destroys it: `rdma_destroy_qp`. What was posted and did not come home does so now, as the
    /// NIC touches it no more; how much that was. Idempotent.
    fn destroy(&self) -> usize;
}

/// A SEND.
///
/// It is home when it or a later signalled one of its queue pair completes, or any of them fails.
#[derive(Debug)]
pub struct SendWork {
    /// First segment, its first `head_len` bytes.
    pub head: Buf,
    /// Bytes of it that are sent.
    pub head_len: u32,
    /// Further segments; at most `Granted::segments - 1`.
    pub pieces: Vec<Piece>,
    /// Whether a completion is wanted: `IBV_SEND_SIGNALED`.
    pub signalled: bool,
    /// Whether the call copies it: `IBV_SEND_INLINE`. Only up to `Granted::inline_max` bytes.
    pub inline: bool,
}

/// A READ: fills all of `sink` from the peer's memory.
#[derive(Debug)]
pub struct ReadWork {
    /// Where to.
    pub sink: Buf,
    /// Where from.
    pub remote: Remote,
}
