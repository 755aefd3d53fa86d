//! rdma_cm: an event channel and its identifiers.
//!
//! An identifier's `context` is its number here. Events are copied and acked under the same lock
//! that destroying takes, so no event is ever outstanding and `rdma_destroy_id` never waits for one.

use std::any::Any;
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::fmt;
use std::net::SocketAddr;
use std::ptr::{null_mut, without_provenance_mut};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use rdma_sys::{
    ibv_event_type, ibv_qp_cap, ibv_qp_init_attr, ibv_qp_type, rdma_accept, rdma_ack_cm_event,
    rdma_bind_addr, rdma_cm_event, rdma_cm_event_type as event, rdma_cm_id, rdma_conn_param,
    rdma_connect, rdma_create_event_channel, rdma_create_id, rdma_create_qp,
    rdma_destroy_event_channel, rdma_destroy_id, rdma_destroy_qp, rdma_disconnect,
    rdma_event_channel, rdma_get_cm_event, rdma_listen, rdma_notify, rdma_port_space, rdma_reject,
    rdma_resolve_addr, rdma_resolve_route,
};
use socket2::SockAddr;

use super::addr::from_storage;
use super::cq::{SysCq, next_serial};
use super::device::SysDevice;
use super::qp::{Pair, SEGMENTS_MAX, SysQp, Table};
use super::watch::Watch;
use super::{lock, name_of};
use crate::rdma::refusal;
use crate::rdma::verbs::{
    CmEvent, CmEventKind, CmId, CompletionQueue, ConnectParams, Device, EventChannel, GREETING_MAX,
    Granted, QpConfig, QpTag, QueuePair, Queues, VerbsError, VerbsErrorKind,
};

/// An event channel.
#[derive(Clone)]
pub(super) struct SysChannel {
    shared: Arc<Shared>,
}

struct Shared {
    raw: *mut rdma_event_channel,
    ids: Mutex<Ids>,
    watch: Watch,
}

#[derive(Default)]
struct Ids {
    by_number: BTreeMap<u64, Id>,
    last: u64,
    /// What a call answered at once where others send an event: at most one an identifier.
    told: BTreeMap<CmId, CmEventKind>,
    waker: Option<Waker>,
}

struct Id {
    raw: *mut rdma_cm_id,
    /// Dead once its handle is gone, which destroys it.
    pair: Weak<Pair>,
}

// SAFETY: librdmacm may be called from any thread; channel and identifiers are used under the lock
// of the table, except for the descriptor, which is watched by its duplicate.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Ids {
    fn add(&mut self, raw: *mut rdma_cm_id) -> CmId {
        self.last += 1;
        // SAFETY: it was just created, and its context is ours to set.
        unsafe { (*raw).context = context_of(self.last) };
        self.by_number.insert(self.last, Id { raw, pair: Weak::new() });
        CmId(self.last)
    }

    fn raw(&self, id: CmId, call: &'static str) -> Result<*mut rdma_cm_id, VerbsError> {
        let known = self.by_number.get(&id.0);
        known.map(|id| id.raw).ok_or(VerbsError::new(call, VerbsErrorKind::Invalid))
    }

    /// Takes one out of the table, and destroys it and what is on it.
    fn destroy(&mut self, id: CmId) {
        self.told.remove(&id);
        let Some(Id { raw, pair }) = self.by_number.remove(&id.0) else {
            return;
        };
        let pair = pair.upgrade();
        if let Some(pair) = &pair {
            pair.retire();
        }
        // SAFETY: it was in the table, so it is alive; a queue pair on it goes first, and nobody
        // uses that any more.
        unsafe {
            if !(*raw).qp.is_null() {
                rdma_destroy_qp(raw);
            }
        }
        if let Some(pair) = pair {
            pair.home_all();
        }
        // SAFETY: no event of it is outstanding, as each is acked under this lock.
        if unsafe { rdma_destroy_id(raw) } != 0 {
            tracing::debug!(error = %refusal::last("rdma_destroy_id"), "an identifier stays");
        }
    }
}

/// A number where C has a pointer that it does not follow.
fn context_of(number: u64) -> *mut c_void {
    without_provenance_mut(number as usize)
}

fn number_of(raw: *mut rdma_cm_id) -> CmId {
    // SAFETY: the identifier of an event that was not acked is alive, and its context was set when
    // it was put into the table.
    CmId(unsafe { (*raw).context }.addr() as u64)
}

/// 0, or -1 with the number in `errno`.
fn check(call: &'static str, returned: i32) -> Result<(), VerbsError> {
    if returned == 0 { Ok(()) } else { Err(refusal::last(call)) }
}

fn milliseconds(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX)
}

impl SysChannel {
    pub(super) fn create() -> Result<Self, VerbsError> {
        // SAFETY: it takes nothing and gives a channel or null.
        let raw = unsafe { rdma_create_event_channel() };
        if raw.is_null() {
            return Err(refusal::diagnose("rdma_create_event_channel"));
        }
        // SAFETY: it was just created, with a descriptor.
        match unsafe { Watch::new((*raw).fd) } {
            Ok(watch) => {
                Ok(Self { shared: Arc::new(Shared { raw, ids: Mutex::default(), watch }) })
            }
            Err(_) => {
                let error = refusal::last("fcntl");
                // SAFETY: nothing is on it.
                unsafe { rdma_destroy_event_channel(raw) };
                Err(error)
            }
        }
    }

    /// Runs a call on an identifier that is alive.
    fn with<T>(
        &self,
        id: CmId,
        call: &'static str,
        run: impl FnOnce(*mut rdma_cm_id) -> Result<T, VerbsError>,
    ) -> Result<T, VerbsError> {
        let ids = lock(&self.shared.ids);
        run(ids.raw(id, call)?)
    }

    /// Destroys a queue pair; how much comes home by that.
    pub(super) fn destroy_qp(&self, id: CmId, pair: &Pair) -> usize {
        let ids = lock(&self.shared.ids);
        if !pair.retire() {
            return 0;
        }
        if let Ok(raw) = ids.raw(id, "rdma_destroy_qp") {
            // SAFETY: the identifier is alive, this pair is on it, and nobody uses it any more.
            unsafe { rdma_destroy_qp(raw) };
        }
        pair.home_all()
    }
}

/// The libraries' form of [`ConnectParams`]; it points into them.
fn conn_param(params: &ConnectParams, call: &'static str) -> Result<rdma_conn_param, VerbsError> {
    if params.private.len() > GREETING_MAX {
        return Err(VerbsError::new(call, VerbsErrorKind::Invalid));
    }
    Ok(rdma_conn_param {
        private_data: params.private.as_ptr().cast(),
        private_data_len: params.private.len() as u8,
        responder_resources: params.responder_resources,
        initiator_depth: params.initiator_depth,
        flow_control: 1,
        retry_count: params.retry_count,
        rnr_retry_count: params.rnr_retry_count,
        srq: 0,
        qp_num: 0,
    })
}

impl EventChannel for SysChannel {
    fn create_id(&self) -> Result<CmId, VerbsError> {
        let mut ids = lock(&self.shared.ids);
        let mut raw = null_mut();
        // SAFETY: the channel is alive; the place takes the identifier.
        let returned = unsafe {
            rdma_create_id(self.shared.raw, &mut raw, null_mut(), rdma_port_space::RDMA_PS_TCP)
        };
        check("rdma_create_id", returned)?;
        Ok(ids.add(raw))
    }

    fn listen(&self, id: CmId, at: SocketAddr, backlog: u32) -> Result<SocketAddr, VerbsError> {
        self.with(id, "rdma_bind_addr", |raw| {
            let at = SockAddr::from(at);
            // SAFETY: the identifier is alive; the address is read by the call.
            let returned = unsafe { rdma_bind_addr(raw, at.as_ptr().cast_mut().cast()) };
            check("rdma_bind_addr", returned)?;
            let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
            // SAFETY: the identifier is alive and bound.
            check("rdma_listen", unsafe { rdma_listen(raw, backlog) })?;
            // SAFETY: all bytes of the union are there, whichever address is in it.
            let local = unsafe { from_storage(&(*raw).route.addr.src_addr_union.src_storage) };
            local.ok_or(VerbsError::new("rdma_listen", VerbsErrorKind::Other))
        })
    }

    fn resolve_addr(&self, id: CmId, to: SocketAddr, timeout: Duration) -> Result<(), VerbsError> {
        self.with(id, "rdma_resolve_addr", |raw| {
            let to = SockAddr::from(to);
            let to = to.as_ptr().cast_mut().cast();
            // SAFETY: the identifier is alive; the address is read by the call.
            let returned = unsafe { rdma_resolve_addr(raw, null_mut(), to, milliseconds(timeout)) };
            check("rdma_resolve_addr", returned)
        })
    }

    fn resolve_route(&self, id: CmId, timeout: Duration) -> Result<(), VerbsError> {
        self.with(id, "rdma_resolve_route", |raw| {
            // SAFETY: the identifier is alive.
            check("rdma_resolve_route", unsafe { rdma_resolve_route(raw, milliseconds(timeout)) })
        })
    }

    fn device(&self, id: CmId) -> Option<String> {
        let named = self.with(id, "device", |raw| {
            // SAFETY: the identifier is alive; a context that it is bound to is held by it.
            Ok(unsafe { (!(*raw).verbs.is_null()).then(|| name_of((*raw).verbs)) })
        });
        named.ok().flatten()
    }

    fn peer(&self, id: CmId) -> Option<SocketAddr> {
        // SAFETY: the identifier is alive; all bytes of the union are there.
        let peer = self.with(id, "peer", |raw| unsafe { Ok(peer_of(raw)) });
        peer.ok().flatten()
    }

    fn create_qp(
        &self,
        id: CmId,
        device: &Arc<dyn Device>,
        queues: &Queues,
        config: &QpConfig,
        tag: QpTag,
    ) -> Result<Arc<dyn QueuePair>, VerbsError> {
        let foreign = || VerbsError::new("rdma_create_qp", VerbsErrorKind::Invalid);
        let device: &dyn Any = &**device;
        let device = device.downcast_ref::<SysDevice>().ok_or_else(foreign)?;
        let ours = |cq: &Arc<dyn CompletionQueue>| {
            let cq: &dyn Any = &**cq;
            cq.downcast_ref::<SysCq>().cloned().ok_or_else(foreign)
        };
        let cqs = [ours(&queues.sent)?, ours(&queues.received)?];
        let mut ids = lock(&self.shared.ids);
        let raw = ids.raw(id, "rdma_create_qp")?;
        // SAFETY: the identifier is alive.
        if unsafe { (*raw).verbs != device.context() || !(*raw).qp.is_null() } {
            return Err(foreign());
        }
        let mut attr = ibv_qp_init_attr {
            qp_context: null_mut(),
            send_cq: cqs[0].raw(),
            recv_cq: cqs[1].raw(),
            srq: null_mut(),
            cap: ibv_qp_cap {
                max_send_wr: config.send_depth,
                max_recv_wr: config.recv_depth,
                max_send_sge: config.segments.min(SEGMENTS_MAX as u32),
                max_recv_sge: 1,
                max_inline_data: config.inline_max,
            },
            qp_type: ibv_qp_type::IBV_QPT_RC,
            sq_sig_all: 0,
        };
        // SAFETY: identifier, domain and queues are alive and of one device; the handles kept below
        // make queues and domain outlive the pair.
        check("rdma_create_qp", unsafe { rdma_create_qp(raw, device.pd(), &mut attr) })?;
        // SAFETY: the pair was just made.
        let (qp, number) = unsafe { ((*raw).qp, (*(*raw).qp).qp_num) };
        let serial = next_serial();
        let granted = Granted {
            send_depth: attr.cap.max_send_wr,
            recv_depth: attr.cap.max_recv_wr,
            segments: attr.cap.max_send_sge.min(SEGMENTS_MAX as u32),
            inline_max: attr.cap.max_inline_data,
        };
        let (device, table) = (device.clone(), Mutex::new(Table::new(qp)));
        let pair = Arc::new(Pair { tag, number, granted, serial, cqs, device, table });
        if let Some(entry) = ids.by_number.get_mut(&id.0) {
            entry.pair = Arc::downgrade(&pair);
        }
        for cq in &pair.cqs {
            cq.add(serial, pair.clone());
        }
        Ok(Arc::new(SysQp { pair, channel: self.clone(), id }))
    }

    fn connect(&self, id: CmId, params: &ConnectParams) -> Result<(), VerbsError> {
        let mut param = conn_param(params, "rdma_connect")?;
        let mut ids = lock(&self.shared.ids);
        let raw = ids.raw(id, "rdma_connect")?;
        // SAFETY: the identifier is alive; the record and the greeting are read by the call.
        let refused = match check("rdma_connect", unsafe { rdma_connect(raw, &mut param) }) {
            Ok(()) => return Ok(()),
            Err(refused) => refused,
        };
        // Soft iWARP connects its TCP within the call, and says there what others say later.
        let reason = refused.errno.unwrap_or(0);
        let told = match reason {
            libc::ECONNREFUSED => CmEventKind::Rejected { reason, private: Bytes::new() },
            libc::ETIMEDOUT | libc::EHOSTUNREACH | libc::ENETUNREACH => {
                CmEventKind::Unreachable(reason)
            }
            _ => return Err(refused),
        };
        ids.told.insert(id, told);
        if let Some(waker) = ids.waker.take() {
            waker.wake();
        }
        Ok(())
    }

    fn accept(&self, id: CmId, params: &ConnectParams) -> Result<(), VerbsError> {
        self.with(id, "rdma_accept", |raw| {
            let mut param = conn_param(params, "rdma_accept")?;
            // SAFETY: as for connecting.
            check("rdma_accept", unsafe { rdma_accept(raw, &mut param) })
        })
    }

    fn reject(&self, id: CmId, private: &[u8]) {
        let private = &private[..private.len().min(GREETING_MAX)];
        let mut ids = lock(&self.shared.ids);
        if let Ok(raw) = ids.raw(id, "rdma_reject") {
            // SAFETY: the identifier is alive; the words are read by the call. If the dialler gave
            // up meanwhile there is nobody to tell.
            let _ = unsafe { rdma_reject(raw, private.as_ptr().cast(), private.len() as u8) };
        }
        ids.destroy(id);
    }

    fn disconnect(&self, id: CmId) {
        let done = self.with(id, "rdma_disconnect", |raw| {
            // SAFETY: the identifier is alive.
            check("rdma_disconnect", unsafe { rdma_disconnect(raw) })
        });
        if let Err(error) = done {
            tracing::trace!(%error, "over already");
        }
    }

    fn communication_established(&self, id: CmId) {
        let done = self.with(id, "rdma_notify", |raw| {
            // SAFETY: the identifier is alive.
            check("rdma_notify", unsafe { rdma_notify(raw, ibv_event_type::IBV_EVENT_COMM_EST) })
        });
        if let Err(error) = done {
            tracing::debug!(%error, "it is established without it");
        }
    }

    fn destroy_id(&self, id: CmId) {
        lock(&self.shared.ids).destroy(id);
    }

    fn next_event(&self) -> Result<Option<CmEvent>, VerbsError> {
        let mut ids = lock(&self.shared.ids);
        if let Some((id, kind)) = ids.told.pop_first() {
            return Ok(Some(CmEvent { id, kind }));
        }
        let mut raw = null_mut();
        // SAFETY: the channel is alive and does not block; the place takes the event.
        if unsafe { rdma_get_cm_event(self.shared.raw, &mut raw) } != 0 {
            let error = refusal::last("rdma_get_cm_event");
            return if error.errno == Some(libc::EAGAIN) { Ok(None) } else { Err(error) };
        }
        // SAFETY: it is an event until it is acked, and its identifiers are alive until then.
        let told = unsafe { translate(&*raw, &mut ids) };
        // SAFETY: it came from rdma_get_cm_event and all of it is copied.
        if unsafe { rdma_ack_cm_event(raw) } != 0 {
            tracing::debug!(error = %refusal::last("rdma_ack_cm_event"), "an event stays");
        }
        Ok(Some(told))
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut ids = lock(&self.shared.ids);
        if !ids.told.is_empty() {
            return Poll::Ready(());
        }
        ids.waker = Some(cx.waker().clone());
        drop(ids);
        self.shared.watch.poll_readable(cx)
    }
}

/// # Safety
/// The identifier is alive.
unsafe fn peer_of(raw: *mut rdma_cm_id) -> Option<SocketAddr> {
    // SAFETY: all bytes of the union are there. rdma_get_peer_addr gives the plain member, which is
    // too short for IPv6.
    unsafe { from_storage(&(*raw).route.addr.dst_addr_union.dst_storage) }
}

/// # Safety
/// The event is not acked.
unsafe fn translate(told: &rdma_cm_event, ids: &mut Ids) -> CmEvent {
    // SAFETY: the port space is TCP, so it is this member; it is read where the kind has it.
    let conn = unsafe { &told.param.conn };
    let private = || match conn.private_data.is_null() {
        true => Bytes::new(),
        // SAFETY: so many bytes are there until the ack.
        false => Bytes::copy_from_slice(unsafe {
            let len = usize::from(conn.private_data_len);
            std::slice::from_raw_parts(conn.private_data.cast::<u8>(), len)
        }),
    };
    let (responder_resources, initiator_depth) = (conn.responder_resources, conn.initiator_depth);
    // Address and route errors have a negative errno, a refusal the fabric's reason.
    let errno = told.status.wrapping_abs();
    let kind = match told.event {
        event::RDMA_CM_EVENT_ADDR_RESOLVED => CmEventKind::AddrResolved,
        event::RDMA_CM_EVENT_ADDR_ERROR => CmEventKind::AddrError(errno),
        event::RDMA_CM_EVENT_ROUTE_RESOLVED => CmEventKind::RouteResolved,
        event::RDMA_CM_EVENT_ROUTE_ERROR => CmEventKind::RouteError(errno),
        event::RDMA_CM_EVENT_CONNECT_REQUEST => {
            // SAFETY: a request comes with a new identifier, ours from now on.
            let peer = unsafe { peer_of(told.id) };
            let child = ids.add(told.id);
            let private = private();
            let id = number_of(told.listen_id);
            let kind = CmEventKind::ConnectRequest {
                child,
                peer,
                private,
                initiator_depth,
                responder_resources,
            };
            return CmEvent { id, kind };
        }
        event::RDMA_CM_EVENT_CONNECT_RESPONSE | event::RDMA_CM_EVENT_ESTABLISHED => {
            CmEventKind::Established { private: private(), responder_resources, initiator_depth }
        }
        event::RDMA_CM_EVENT_CONNECT_ERROR => CmEventKind::ConnectError(errno),
        event::RDMA_CM_EVENT_UNREACHABLE => CmEventKind::Unreachable(errno),
        event::RDMA_CM_EVENT_REJECTED => {
            CmEventKind::Rejected { reason: errno, private: private() }
        }
        event::RDMA_CM_EVENT_DISCONNECTED => {
            // iWARP has done that already; on InfiniBand nobody does it for the one that is told.
            let known = ids.by_number.get(&number_of(told.id).0);
            if let Some(pair) = known.and_then(|id| id.pair.upgrade()) {
                pair.to_error();
            }
            CmEventKind::Disconnected
        }
        event::RDMA_CM_EVENT_DEVICE_REMOVAL => CmEventKind::DeviceRemoval,
        event::RDMA_CM_EVENT_ADDR_CHANGE => CmEventKind::AddrChange,
        event::RDMA_CM_EVENT_TIMEWAIT_EXIT => CmEventKind::TimewaitExit,
        other => CmEventKind::Other(other),
    };
    CmEvent { id: number_of(told.id), kind }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let mut ids = std::mem::take(&mut *lock(&self.ids));
        let all: Vec<u64> = ids.by_number.keys().copied().collect();
        for id in all {
            ids.destroy(CmId(id));
        }
        // SAFETY: nothing is on it any more.
        unsafe { rdma_destroy_event_channel(self.raw) };
    }
}

impl fmt::Debug for SysChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SysChannel({} identifiers)", lock(&self.shared.ids).by_number.len())
    }
}
