//! A queue pair, and the table of what is posted on it.
//!
//! One liberty is taken: on iWARP every SEND is signalled, and a completion that the driver did not
//! ask for is taken and not told. Linux' siw hands the pages of a long unsignalled SEND to TCP as
//! they are, and completes it then: TCP may still send, or send again, from memory that is used for
//! the next message.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::mem::MaybeUninit;
use std::ptr::null_mut;
use std::sync::{Arc, Mutex};

use rdma_sys::{
    ibv_modify_qp, ibv_post_recv, ibv_post_send, ibv_qp, ibv_qp_attr, ibv_qp_attr_mask,
    ibv_qp_state, ibv_recv_wr, ibv_send_flags, ibv_send_wr, ibv_sge, ibv_wr_opcode, rdma_t,
};

use super::channel::SysChannel;
use super::cq::SysCq;
use super::device::{SysDevice, local_key};
use super::lock;
use crate::rdma::memory::{Buf, Piece};
use crate::rdma::refusal;
use crate::rdma::verbs::{
    CmId, Completion, Fabric, Granted, Operation, Posted, QpTag, QueuePair, ReadWork, Refused,
    SendWork, VerbsError, VerbsErrorKind, WorkFault, WorkId,
};

/// Most segments of a SEND, whatever the device has: they are laid out on the stack.
pub(super) const SEGMENTS_MAX: usize = 16;

/// The handle; dropping it destroys the pair.
pub(super) struct SysQp {
    pub(super) pair: Arc<Pair>,
    pub(super) channel: SysChannel,
    pub(super) id: CmId,
}

/// What completions find.
pub(super) struct Pair {
    pub(super) tag: QpTag,
    pub(super) number: u32,
    pub(super) granted: Granted,
    /// Its name on its completion queues.
    pub(super) serial: u32,
    /// Of what is sent, and of what is received.
    pub(super) cqs: [SysCq; 2],
    /// Also keeps the memory registered while anything is posted.
    pub(super) device: SysDevice,
    pub(super) table: Mutex<Table>,
}

/// What is posted.
pub(super) struct Table {
    /// Null once it is being destroyed.
    raw: *mut ibv_qp,
    receives: BTreeMap<u32, Buf>,
    /// In the order of the send queue.
    sends: VecDeque<Sent>,
    /// Each comes home by its own completion only: iWARP completes a later SEND before it.
    reads: BTreeMap<u32, Reading>,
    /// Counts what was posted on the send queue.
    order: u64,
}

struct Sent {
    work: u32,
    order: u64,
    told: bool,
    /// None: inline, the NIC has it already.
    _kept: Option<SendWork>,
}

struct Reading {
    order: u64,
    sink: Buf,
}

// SAFETY: libibverbs may be called from any thread; the pair is used under the table's mutex, and
// destroyed once.
unsafe impl Send for Table {}

impl Table {
    pub(super) fn new(raw: *mut ibv_qp) -> Self {
        let (receives, reads) = (BTreeMap::new(), BTreeMap::new());
        Self { raw, receives, sends: VecDeque::new(), reads, order: 0 }
    }

    fn live(&self, call: &'static str) -> Result<*mut ibv_qp, VerbsError> {
        if self.raw.is_null() {
            return Err(VerbsError::new(call, VerbsErrorKind::Invalid));
        }
        Ok(self.raw)
    }

    fn next_order(&mut self) -> u64 {
        self.order += 1;
        self.order
    }

    /// SENDs before that one are over: the send queue is worked off in order.
    fn settle_before(&mut self, order: u64) {
        while self.sends.front().is_some_and(|sent| sent.order < order) {
            self.sends.pop_front();
        }
    }
}

impl Pair {
    /// Takes posted work home; None if it was not asked for, or is not ours.
    pub(super) fn home(&self, work: u32, result: Result<u32, WorkFault>) -> Option<Completion> {
        let mut table = lock(&self.table);
        let done = |operation, buf| {
            let (tag, work) = (self.tag, WorkId(work));
            Some(Completion { tag, work, operation, result, buf })
        };
        if let Some(buf) = table.receives.remove(&work) {
            return done(Operation::Receive, Some(buf));
        }
        if let Some(reading) = table.reads.remove(&work) {
            table.settle_before(reading.order);
            return done(Operation::Read, Some(reading.sink));
        }
        let order = table.sends.iter().find(|sent| sent.work == work)?.order;
        table.settle_before(order);
        let sent = table.sends.pop_front()?;
        if sent.told || result.is_err() { done(Operation::Send, None) } else { None }
    }

    fn wr_id(&self, work: WorkId) -> u64 {
        (u64::from(self.serial) << 32) | u64::from(work.0)
    }

    /// From now on nobody here uses the pair, which is about to be destroyed; whether it was alive.
    pub(super) fn retire(&self) -> bool {
        !std::mem::replace(&mut lock(&self.table).raw, null_mut()).is_null()
    }

    /// Takes everything home after the pair was destroyed: nothing touches it any more.
    pub(super) fn home_all(&self) -> usize {
        let mut table = lock(&self.table);
        let home = (
            std::mem::take(&mut table.receives),
            std::mem::take(&mut table.sends),
            std::mem::take(&mut table.reads),
        );
        drop(table);
        for cq in &self.cqs {
            cq.remove(self.serial);
        }
        home.0.len() + home.1.len() + home.2.len()
    }

    pub(super) fn to_error(&self) {
        let mask = ibv_qp_attr_mask::IBV_QP_STATE;
        let errno = self.modify(mask, |attr| attr.qp_state = ibv_qp_state::IBV_QPS_ERR);
        if errno != 0 {
            tracing::debug!(errno, "a queue pair was not moved to error");
        }
    }

    fn modify(&self, mask: ibv_qp_attr_mask, set: impl FnOnce(&mut ibv_qp_attr)) -> i32 {
        let table = lock(&self.table);
        let Ok(raw) = table.live("ibv_modify_qp") else {
            return 0;
        };
        // SAFETY: a record of numbers; zero is valid for each of them.
        let mut attr = unsafe { MaybeUninit::<ibv_qp_attr>::zeroed().assume_init() };
        set(&mut attr);
        // SAFETY: the pair is alive under the lock; the record is read by the call.
        unsafe { ibv_modify_qp(raw, &mut attr, mask.0 as i32) }
    }
}

fn segment(addr: u64, len: usize, lkey: u32) -> ibv_sge {
    ibv_sge { addr, length: u32::try_from(len).unwrap_or(u32::MAX), lkey }
}

fn segment_of(piece: &Piece) -> ibv_sge {
    segment(piece.bytes.as_ptr().addr() as u64, piece.bytes.len(), local_key(piece.region))
}

/// A request of zeroes: no next one, no flags, no segments.
fn blank_send() -> ibv_send_wr {
    // SAFETY: a record of numbers, null pointers and unions of both; zero is valid for each.
    unsafe { MaybeUninit::<ibv_send_wr>::zeroed().assume_init() }
}

/// Posts one request.
///
/// # Safety
/// The pair is alive, and the segments and what they name stay until the work is home.
unsafe fn post(raw: *mut ibv_qp, wr: &mut ibv_send_wr) -> Result<(), VerbsError> {
    let mut bad = null_mut();
    // SAFETY: the caller's promise; the request itself is copied by the call.
    match unsafe { ibv_post_send(raw, wr, &mut bad) } {
        0 => Ok(()),
        errno => Err(refusal::of("ibv_post_send", errno.abs())),
    }
}

impl QueuePair for SysQp {
    fn number(&self) -> u32 {
        self.pair.number
    }

    fn granted(&self) -> Granted {
        self.pair.granted
    }

    fn posted(&self) -> Posted {
        let table = lock(&self.pair.table);
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let sends = number(table.sends.len() + table.reads.len());
        Posted { receives: number(table.receives.len()), sends }
    }

    fn set_rnr_timer(&self, timer: u8) {
        let mask = ibv_qp_attr_mask::IBV_QP_MIN_RNR_TIMER;
        let errno = self.pair.modify(mask, |attr| attr.min_rnr_timer = timer);
        if errno != 0 {
            tracing::debug!(errno, "the receiver-not-ready timer was not set");
        }
    }

    fn post_recv(&self, work: WorkId, mut buf: Buf) -> Result<(), Refused<Buf>> {
        let mut table = lock(&self.pair.table);
        let raw = match table.live("ibv_post_recv") {
            Ok(raw) => raw,
            Err(error) => return Err(Refused { work: buf, error }),
        };
        let begin = buf.as_mut_ptr().addr() as u64;
        let mut sge = segment(begin, buf.len(), local_key(buf.region()));
        let wr_id = self.pair.wr_id(work);
        let mut wr = ibv_recv_wr { wr_id, next: null_mut(), sg_list: &mut sge, num_sge: 1 };
        let mut bad = null_mut();
        // SAFETY: the pair is alive under the lock; the buffer goes into the table before the lock
        // is given back, and stays there until it completes or the pair is destroyed.
        match unsafe { ibv_post_recv(raw, &mut wr, &mut bad) } {
            0 => {
                table.receives.insert(work.0, buf);
                Ok(())
            }
            errno => Err(Refused { work: buf, error: refusal::of("ibv_post_recv", errno.abs()) }),
        }
    }

    fn post_send(&self, work: WorkId, send: SendWork) -> Result<(), Refused<SendWork>> {
        let mut table = lock(&self.pair.table);
        let raw = match table.live("ibv_post_send") {
            Ok(raw) if send.pieces.len() < SEGMENTS_MAX => raw,
            Ok(_) => {
                let error = VerbsError::new("ibv_post_send", VerbsErrorKind::Invalid);
                return Err(Refused { work: send, error });
            }
            Err(error) => return Err(Refused { work: send, error }),
        };
        let mut segments = [segment(0, 0, 0); SEGMENTS_MAX];
        let head_len = (send.head_len as usize).min(send.head.len());
        segments[0] = segment(send.head.addr(), head_len, local_key(send.head.region()));
        for (place, piece) in segments[1..].iter_mut().zip(&send.pieces) {
            *place = segment_of(piece);
        }
        let signalled = send.signalled || self.pair.device.fabric() == Fabric::IWarp;
        let mut wr = blank_send();
        wr.wr_id = self.pair.wr_id(work);
        wr.sg_list = segments.as_mut_ptr();
        wr.num_sge = 1 + send.pieces.len() as i32;
        wr.opcode = ibv_wr_opcode::IBV_WR_SEND;
        if signalled {
            wr.send_flags |= ibv_send_flags::IBV_SEND_SIGNALED.0;
        }
        if send.inline {
            wr.send_flags |= ibv_send_flags::IBV_SEND_INLINE.0;
        }
        // SAFETY: the pair is alive under the lock; what is sent goes into the table before the
        // lock is given back, or, inline, was copied.
        if let Err(error) = unsafe { post(raw, &mut wr) } {
            return Err(Refused { work: send, error });
        }
        let order = table.next_order();
        let told = send.signalled;
        let _kept = (!send.inline).then_some(send);
        table.sends.push_back(Sent { work: work.0, order, told, _kept });
        Ok(())
    }

    fn post_read(&self, work: WorkId, mut read: ReadWork) -> Result<(), Refused<ReadWork>> {
        let mut table = lock(&self.pair.table);
        let raw = match table.live("ibv_post_send") {
            Ok(raw) => raw,
            Err(error) => return Err(Refused { work: read, error }),
        };
        let begin = read.sink.as_mut_ptr().addr() as u64;
        let mut sge = segment(begin, read.sink.len(), local_key(read.sink.region()));
        let mut wr = blank_send();
        wr.wr_id = self.pair.wr_id(work);
        wr.sg_list = &mut sge;
        wr.num_sge = 1;
        wr.opcode = ibv_wr_opcode::IBV_WR_RDMA_READ;
        wr.send_flags = ibv_send_flags::IBV_SEND_SIGNALED.0;
        wr.wr.rdma = rdma_t { remote_addr: read.remote.addr, rkey: read.remote.rkey };
        // SAFETY: the pair is alive under the lock; the sink goes into the table before the lock is
        // given back.
        if let Err(error) = unsafe { post(raw, &mut wr) } {
            return Err(Refused { work: read, error });
        }
        let order = table.next_order();
        table.reads.insert(work.0, Reading { order, sink: read.sink });
        Ok(())
    }

    fn to_error(&self) {
        self.pair.to_error();
    }

    fn destroy(&self) -> usize {
        self.channel.destroy_qp(self.id, &self.pair)
    }
}

impl Drop for SysQp {
    fn drop(&mut self) {
        self.destroy();
    }
}

impl fmt::Debug for SysQp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SysQp({} of {:?})", self.pair.number, self.id)
    }
}
