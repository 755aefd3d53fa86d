//! A completion queue with a channel of its own.
//!
//! The upper half of a `wr_id` is a serial, not the driver's tag: a queue pair that was destroyed may
//! leave completions behind, which must not be taken for those of a later one.
//! Here alone a queue pair's lock is taken inside another, that of the table of queue pairs.

use std::collections::BTreeMap;
use std::fmt;
use std::mem::MaybeUninit;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use rdma_sys::{
    ibv_ack_cq_events, ibv_comp_channel, ibv_cq, ibv_create_comp_channel, ibv_create_cq,
    ibv_destroy_comp_channel, ibv_destroy_cq, ibv_get_cq_event, ibv_poll_cq, ibv_req_notify_cq,
    ibv_wc, ibv_wc_status as status,
};

use super::device::SysDevice;
use super::lock;
use super::qp::Pair;
use super::watch::Watch;
use crate::rdma::refusal;
use crate::rdma::verbs::{Completion, CompletionQueue, VerbsError, WorkFault};

/// Completions that one call takes.
const TAKEN_MAX: usize = 32;

/// A completion queue.
#[derive(Clone)]
pub(super) struct SysCq {
    shared: Arc<Shared>,
}

struct Shared {
    cq: *mut ibv_cq,
    number: u64,
    depth: u32,
    pairs: Mutex<Pairs>,
    watch: Watch,
    /// How often a wake-up was asked for since its events were last taken: so many there may be.
    armed: AtomicU32,
    channel: Channel,
    _device: SysDevice,
}

/// Queue pairs, by serial.
type Pairs = BTreeMap<u32, Arc<Pair>>;

/// A serial for a queue pair or a completion queue; none is used again before four thousand million.
pub(super) fn next_serial() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

// SAFETY: libibverbs may be called from any thread; the queue lives as long as this record.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

/// The channel that says that there are completions.
struct Channel(*mut ibv_comp_channel);

impl Drop for Channel {
    fn drop(&mut self) {
        // SAFETY: dropped once, after the queue on it.
        let errno = unsafe { ibv_destroy_comp_channel(self.0) };
        if errno != 0 {
            tracing::warn!(errno, "a completion channel was not destroyed");
        }
    }
}

impl SysCq {
    pub(super) fn create(device: &SysDevice, depth: u32) -> Result<Self, VerbsError> {
        // SAFETY: the device's context is open.
        let raw = unsafe { ibv_create_comp_channel(device.context()) };
        if raw.is_null() {
            return Err(refusal::last("ibv_create_comp_channel"));
        }
        let channel = Channel(raw);
        // SAFETY: the channel was just made, with a descriptor.
        let watch = unsafe { Watch::new((*raw).fd) }.map_err(|_| refusal::last("fcntl"))?;
        let entries = i32::try_from(depth).unwrap_or(i32::MAX);
        // A number for its events, which the libraries keep as they keep a pointer.
        let number = next_serial() as usize;
        let context = std::ptr::without_provenance_mut(number);
        // SAFETY: context and channel are open; the channel outlives the queue.
        let cq = unsafe { ibv_create_cq(device.context(), entries, context, raw, 0) };
        if cq.is_null() {
            return Err(refusal::last("ibv_create_cq"));
        }
        // SAFETY: it was just made.
        let depth = u32::try_from(unsafe { (*cq).cqe }).unwrap_or(depth);
        let (pairs, _device) = (Mutex::default(), device.clone());
        let armed = AtomicU32::new(0);
        let number = number as u64;
        let shared = Shared { cq, number, depth, pairs, watch, armed, channel, _device };
        Ok(Self { shared: Arc::new(shared) })
    }

    pub(super) fn raw(&self) -> *mut ibv_cq {
        self.shared.cq
    }

    pub(super) fn add(&self, serial: u32, pair: Arc<Pair>) {
        lock(&self.shared.pairs).insert(serial, pair);
    }

    pub(super) fn remove(&self, serial: u32) {
        // The last handle of a pair is dropped outside of the lock.
        let pair = lock(&self.shared.pairs).remove(&serial);
        drop(pair);
    }
}

impl CompletionQueue for SysCq {
    fn number(&self) -> u64 {
        self.shared.number
    }

    fn depth(&self) -> u32 {
        self.shared.depth
    }

    fn poll(&self, max: usize, out: &mut Vec<Completion>) -> Result<usize, VerbsError> {
        let begin = out.len();
        let mut space = [const { MaybeUninit::<ibv_wc>::uninit() }; TAKEN_MAX];
        let pairs = lock(&self.shared.pairs);
        while out.len() - begin < max {
            let asked = (max - (out.len() - begin)).min(TAKEN_MAX);
            // SAFETY: the queue exists, the array has at least that many places.
            let taken = unsafe {
                ibv_poll_cq(self.shared.cq, asked as i32, space.as_mut_ptr().cast::<ibv_wc>())
            };
            let Ok(taken) = usize::try_from(taken) else {
                return Err(refusal::of("ibv_poll_cq", taken.wrapping_neg()));
            };
            for wc in &space[..taken.min(asked)] {
                // SAFETY: the call filled the first `taken` of them.
                let wc = unsafe { wc.assume_init_ref() };
                let (serial, work) = ((wc.wr_id >> 32) as u32, wc.wr_id as u32);
                let pair = pairs.get(&serial);
                out.extend(pair.and_then(|pair| pair.home(work, result(wc))));
            }
            if taken < asked {
                break;
            }
        }
        Ok(out.len() - begin)
    }

    fn arm(&self) -> Result<(), VerbsError> {
        self.shared.armed.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the queue exists.
        match unsafe { ibv_req_notify_cq(self.shared.cq, 0) } {
            0 => Ok(()),
            errno => Err(refusal::of("ibv_req_notify_cq", errno)),
        }
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.shared.watch.poll_taking_all(cx, || {
            let (mut cq, mut context, mut taken) = (null_mut(), null_mut(), 0);
            // Asked for once there is one at most, and a call that finds none is spared. One that
            // stays behind for once is harmless, as whoever is woken looks at the queue itself.
            let most = self.shared.armed.swap(0, Ordering::Relaxed).max(1);
            for _ in 0..most {
                // SAFETY: the channel exists, and its descriptor does not block.
                if unsafe { ibv_get_cq_event(self.shared.channel.0, &mut cq, &mut context) } != 0 {
                    break;
                }
                taken += 1;
            }
            if taken > 0 {
                // SAFETY: this queue is the only one on the channel, and so many were taken.
                unsafe { ibv_ack_cq_events(self.shared.cq, taken) };
            }
            taken > 0
        })
    }
}

/// Bytes moved, or why not. On an error nothing else of a completion is valid.
fn result(wc: &ibv_wc) -> Result<u32, WorkFault> {
    match wc.status {
        status::IBV_WC_SUCCESS => Ok(wc.byte_len),
        failed => Err(fault(failed, wc.vendor_err)),
    }
}

fn fault(failed: u32, vendor: u32) -> WorkFault {
    match failed {
        status::IBV_WC_WR_FLUSH_ERR => WorkFault::Flushed,
        status::IBV_WC_RETRY_EXC_ERR => WorkFault::RetryExceeded,
        status::IBV_WC_RNR_RETRY_EXC_ERR => WorkFault::ReceiverNotReady,
        status::IBV_WC_REM_ACCESS_ERR => WorkFault::RemoteAccess,
        status::IBV_WC_REM_INV_REQ_ERR => WorkFault::RemoteInvalid,
        status::IBV_WC_REM_OP_ERR | status::IBV_WC_REM_ABORT_ERR => WorkFault::RemoteOperation,
        status::IBV_WC_LOC_LEN_ERR => WorkFault::LocalLength,
        status::IBV_WC_LOC_PROT_ERR
        | status::IBV_WC_LOC_QP_OP_ERR
        | status::IBV_WC_LOC_ACCESS_ERR
        | status::IBV_WC_MW_BIND_ERR => WorkFault::LocalProtection,
        status::IBV_WC_FATAL_ERR => WorkFault::DeviceFatal,
        status => WorkFault::Other { status, vendor },
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: its queue pairs are gone, as each held this record; all its events are acked.
        let errno = unsafe { ibv_destroy_cq(self.cq) };
        if errno != 0 {
            tracing::warn!(errno, "a completion queue was not destroyed");
        }
    }
}

impl fmt::Debug for SysCq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SysCq(depth {})", self.shared.depth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_statuses_are_told_by_their_number() {
        assert_eq!(fault(5, 0), WorkFault::Flushed);
        assert_eq!(fault(77, 9), WorkFault::Other { status: 77, vendor: 9 });
    }
}
