//! A device: its limits, a protection domain, the regions in it.

use std::collections::BTreeMap;
use std::fmt;
use std::mem::MaybeUninit;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use rdma_sys::{
    ibv_access_flags, ibv_ack_async_event, ibv_alloc_pd, ibv_async_event, ibv_context,
    ibv_dealloc_pd, ibv_dereg_mr, ibv_device_attr, ibv_event_type as event, ibv_get_async_event,
    ibv_mr, ibv_node_type, ibv_pd, ibv_port_attr, ibv_port_state, ibv_query_device, ibv_query_port,
    ibv_reg_mr,
};

use super::contexts::Held;
use super::cq::SysCq;
use super::watch::Watch;
use super::{lock, name_of};
use crate::rdma::audience::{Audience, Ear};
use crate::rdma::memory::{Arena, Piece, RegionId};
use crate::rdma::refusal;
use crate::rdma::verbs::{
    Access, AsyncEvent, CompletionQueue, Device, DeviceInfo, Fabric, GREETING_MAX, PortState,
    Remote, VerbsError, VerbsErrorKind,
};

/// `IBV_LINK_LAYER_ETHERNET`: a macro in C.
const LINK_LAYER_ETHERNET: u8 = 2;

/// What the device says of itself.
///
/// # Safety
/// The context is open.
pub(super) unsafe fn info_of(context: *mut ibv_context) -> Result<DeviceInfo, VerbsError> {
    let mut device = MaybeUninit::<ibv_device_attr>::zeroed();
    let mut port = MaybeUninit::<ibv_port_attr>::zeroed();
    // SAFETY: the context is open; the call fills the record, all of whose bytes are valid.
    let errno = unsafe { ibv_query_device(context, device.as_mut_ptr()) };
    if errno != 0 {
        return Err(refusal::of("ibv_query_device", errno));
    }
    // SAFETY: as above; the symbol takes an older, shorter form of the same record.
    let errno = unsafe { ibv_query_port(context, 1, port.as_mut_ptr().cast()) };
    if errno != 0 {
        return Err(refusal::of("ibv_query_port", errno));
    }
    // SAFETY: they were zeroed, which is valid for their numbers, and are filled now.
    let (device, port) = unsafe { (device.assume_init(), port.assume_init()) };
    // SAFETY: an open context has its device for good.
    let node = unsafe { (*(*context).device).node_type };
    let fabric = match (node, port.link_layer) {
        (ibv_node_type::IBV_NODE_RNIC, _) => Fabric::IWarp,
        (_, LINK_LAYER_ETHERNET) => Fabric::RoCE,
        _ => Fabric::InfiniBand,
    };
    let state = match port.state {
        ibv_port_state::IBV_PORT_ACTIVE => PortState::Active,
        _ => PortState::Down,
    };
    let number = |n: i32| u32::try_from(n).unwrap_or(0);
    let short = |n: i32| u8::try_from(n.clamp(0, 255)).unwrap_or(0);
    Ok(DeviceInfo {
        // SAFETY: as above.
        name: unsafe { name_of(context) },
        fabric,
        port: state,
        qp_max: number(device.max_qp),
        qp_depth_max: number(device.max_qp_wr),
        cq_max: number(device.max_cq),
        cq_depth_max: number(device.max_cqe),
        segments_max: number(device.max_sge),
        read_segments_max: number(device.max_sge_rd),
        reads_in_max: short(device.max_qp_rd_atom),
        reads_out_max: short(device.max_qp_init_rd_atom),
        region_max: device.max_mr_size,
        greeting_max: GREETING_MAX,
    })
}

/// An open device.
#[derive(Clone)]
pub(super) struct SysDevice {
    shared: Arc<Shared>,
}

struct Shared {
    pd: *mut ibv_pd,
    info: DeviceInfo,
    regions: Mutex<BTreeMap<RegionId, Region>>,
    watch: Watch,
    audience: Arc<Mutex<Audience>>,
    ear: Arc<Ear>,
    /// Let go of last.
    held: Held,
}

/// Who has each context open: it has one queue of events for all of them.
static AUDIENCES: Mutex<BTreeMap<usize, Arc<Mutex<Audience>>>> = Mutex::new(BTreeMap::new());

/// Memory that the NIC knows, kept as long as it does.
struct Region {
    mr: *mut ibv_mr,
    arena: Arena,
    rkey: u32,
    access: Access,
}

// SAFETY: libibverbs may be called from any thread; the domain lives as long as this record, and a
// region is changed under the mutex only.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl SysDevice {
    pub(super) fn open(held: Held) -> Result<Self, VerbsError> {
        let context = held.context();
        // SAFETY: the context is open while it is held.
        let info = unsafe { info_of(context) }?;
        // SAFETY: as above, and so is its descriptor.
        let watch = unsafe { Watch::new((*context).async_fd) };
        let watch = watch.map_err(|_| refusal::last("fcntl"))?;
        // SAFETY: as above.
        let pd = unsafe { ibv_alloc_pd(context) };
        if pd.is_null() {
            return Err(refusal::last("ibv_alloc_pd"));
        }
        let mut audiences = lock(&AUDIENCES);
        // Of devices that nobody has any more.
        audiences.retain(|_, audience| Arc::strong_count(audience) > 1);
        let audience = audiences.entry(context.addr()).or_default().clone();
        drop(audiences);
        let ear = lock(&audience).join();
        let regions = Mutex::default();
        let shared = Shared { pd, info, regions, watch, audience, ear, held };
        Ok(Self { shared: Arc::new(shared) })
    }

    pub(super) fn context(&self) -> *mut ibv_context {
        self.shared.held.context()
    }

    /// The domain, for as long as this handle lives.
    pub(super) fn pd(&self) -> *mut ibv_pd {
        self.shared.pd
    }

    pub(super) fn fabric(&self) -> Fabric {
        self.shared.info.fabric
    }
}

/// The key by which the NIC lets us use a region ourselves.
pub(super) fn local_key(region: RegionId) -> u32 {
    region.0 as u32
}

fn region_id(mr: &ibv_mr) -> RegionId {
    RegionId((u64::from(mr.rkey) << 32) | u64::from(mr.lkey))
}

impl Device for SysDevice {
    fn info(&self) -> &DeviceInfo {
        &self.shared.info
    }

    fn register(&self, mut arena: Arena, access: Access) -> Result<RegionId, VerbsError> {
        let mut flags = ibv_access_flags::IBV_ACCESS_LOCAL_WRITE.0;
        if access == Access::RemoteRead {
            flags |= ibv_access_flags::IBV_ACCESS_REMOTE_READ.0;
            if self.shared.info.fabric == Fabric::IWarp {
                // The sink of a READ is written by the peer there.
                flags |= ibv_access_flags::IBV_ACCESS_REMOTE_WRITE.0;
            }
        }
        let begin = arena.as_mut_ptr().cast();
        let flags = i32::try_from(flags).unwrap_or(i32::MAX);
        // SAFETY: the arena is that long, stays where it is, and is kept until the region is gone.
        let mr = unsafe { ibv_reg_mr(self.shared.pd, begin, arena.len(), flags) };
        if mr.is_null() {
            return Err(refusal::last("ibv_reg_mr"));
        }
        // SAFETY: it is a region until it is deregistered.
        let (id, rkey) = unsafe { (region_id(&*mr), (*mr).rkey) };
        lock(&self.shared.regions).insert(id, Region { mr, arena, rkey, access });
        Ok(id)
    }

    fn deregister(&self, region: RegionId) {
        if let Some(region) = lock(&self.shared.regions).remove(&region) {
            region.end();
        }
    }

    fn export(&self, piece: &Piece) -> Result<Remote, VerbsError> {
        let addr = piece.bytes.as_ptr().addr() as u64;
        match lock(&self.shared.regions).get(&piece.region) {
            Some(region)
                if region.access == Access::RemoteRead
                    && region.arena.contains(addr, piece.bytes.len()) =>
            {
                Ok(Remote { addr, rkey: region.rkey })
            }
            _ => Err(VerbsError::new("export", VerbsErrorKind::Invalid)),
        }
    }

    fn withdraw(&self, _remote: Remote) {}

    fn create_cq(&self, depth: u32) -> Result<Arc<dyn CompletionQueue>, VerbsError> {
        Ok(Arc::new(SysCq::create(self, depth)?))
    }

    fn next_async(&self) -> Result<Option<AsyncEvent>, VerbsError> {
        if let Some(event) = self.shared.ear.next() {
            return Ok(Some(event));
        }
        // Held until it is told, so that all hear of everything in one order.
        let audience = lock(&self.shared.audience);
        // SAFETY: the context is open while it is held.
        let event = unsafe { next_event(self.shared.held.context()) }?;
        let wakes = event.map(|event| audience.tell(event));
        drop(audience);
        wakes.into_iter().flatten().for_each(Waker::wake);
        // Ours as well, or another's that was told meanwhile.
        Ok(self.shared.ear.next())
    }

    fn poll_async_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        // Somebody else may read what is for us.
        match self.shared.ear.poll(cx) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => self.shared.watch.poll_readable(cx),
        }
    }
}

/// Takes the next event, which is for all who have the context.
///
/// # Safety
/// The context is open.
unsafe fn next_event(context: *mut ibv_context) -> Result<Option<AsyncEvent>, VerbsError> {
    let mut place = MaybeUninit::<ibv_async_event>::zeroed();
    // SAFETY: the context is open, the place is of the right size.
    if unsafe { ibv_get_async_event(context, place.as_mut_ptr()) } != 0 {
        let error = refusal::last("ibv_get_async_event");
        return if error.errno == Some(libc::EAGAIN) { Ok(None) } else { Err(error) };
    }
    // SAFETY: the call has filled it. The number is read as one, since a newer library may
    // give one that the Rust enum does not have; what the event is about exists until the ack.
    let told = unsafe {
        let raw = place.as_mut_ptr();
        let number = (&raw const (*raw).event_type).cast::<u32>().read();
        let told = translate(number, &(*raw).element);
        ibv_ack_async_event(raw);
        told
    };
    Ok(Some(told))
}

/// # Safety
/// The element is that of an event of that number, which was not acked.
unsafe fn translate(number: u32, element: &rdma_sys::ibv_async_event_element_t) -> AsyncEvent {
    // SAFETY: read below only for numbers that are about a queue pair, a queue, or a port.
    let (qp, cq, port) = unsafe { (element.qp, element.cq, element.port_num) };
    // SAFETY: a queue pair exists until its events are acked.
    let qp = || unsafe { (*qp).qp_num };
    // SAFETY: so does a completion queue; its context is the number that it was made with.
    let cq = || unsafe { (*cq).cq_context }.addr() as u64;
    let port = u8::try_from(port).unwrap_or(0);
    const QP_FATAL: u32 = event::IBV_EVENT_QP_FATAL as u32;
    const QP_REQ_ERR: u32 = event::IBV_EVENT_QP_REQ_ERR as u32;
    const QP_ACCESS_ERR: u32 = event::IBV_EVENT_QP_ACCESS_ERR as u32;
    const COMM_EST: u32 = event::IBV_EVENT_COMM_EST as u32;
    const CQ_ERR: u32 = event::IBV_EVENT_CQ_ERR as u32;
    const PORT_ACTIVE: u32 = event::IBV_EVENT_PORT_ACTIVE as u32;
    const PORT_ERR: u32 = event::IBV_EVENT_PORT_ERR as u32;
    const DEVICE_FATAL: u32 = event::IBV_EVENT_DEVICE_FATAL as u32;
    match number {
        QP_FATAL | QP_REQ_ERR | QP_ACCESS_ERR => AsyncEvent::QpFatal(qp()),
        COMM_EST => AsyncEvent::CommunicationEstablished(qp()),
        CQ_ERR => AsyncEvent::CqError(cq()),
        PORT_ACTIVE => AsyncEvent::PortActive(port),
        PORT_ERR => AsyncEvent::PortError(port),
        DEVICE_FATAL => AsyncEvent::DeviceFatal,
        other => AsyncEvent::Other(other),
    }
}

impl Region {
    fn end(self) {
        // SAFETY: it is taken out of the table by the only caller, so it is ended once.
        let errno = unsafe { ibv_dereg_mr(self.mr) };
        if errno != 0 {
            // The NIC may still write there: that memory is lost, not given away.
            tracing::warn!(errno, "a region was not deregistered; its memory is kept for good");
            std::mem::forget(self.arena);
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        for region in std::mem::take(&mut *lock(&self.regions)).into_values() {
            region.end();
        }
        // SAFETY: queue pairs and regions of it are gone, as each of them held this record.
        let errno = unsafe { ibv_dealloc_pd(self.pd) };
        if errno != 0 {
            tracing::warn!(errno, device = self.info.name, "a protection domain was not freed");
        }
    }
}

impl fmt::Debug for SysDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SysDevice({})", self.shared.info.name)
    }
}
