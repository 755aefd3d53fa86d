//! The real libraries behind [`Verbs`]: libibverbs and librdmacm, through `rdma-sys`.
//!
//! ```text
//!   System ── devices, open ─► SysDevice ── create_cq ─► SysCq ◄── completions ── NIC
//!      └─ event_channel ─► SysChannel ── create_qp ─► SysQp ── posts ──────────────┘
//! ```
//!
//! One call of the libraries each, and no rule (see [`verbs`](super::verbs)); the one liberty taken
//! is told at `qp.rs`. Here and in rsockets is the only `unsafe` of Stellate. What it rests on:
//!
//! * **Lives nest.** A queue pair holds its identifier's channel, its completion queue and its
//!   device; a completion queue holds its device; a device holds its context, and deregisters memory
//!   before it drops it.
//! * **Raw pointers stay behind a mutex** of the object they belong to, and are null or gone from
//!   its table once destroyed. Locks are taken in the order channel, queue pair or completion
//!   queue, and neither of the latter two inside the other but by `cq.rs`, which is told there.
//! * **Memory that the NIC was given** sits in the table of its queue pair until its completion, or
//!   until `rdma_destroy_qp` has returned.
//!
//! rdma-sys 0.3.0 has two fences: its extended verbs report "unsupported" on 64 bits, so none is
//! used; and it is not built by clang 16 and later.
#![allow(unsafe_code)] // Two C libraries; each block says why it holds.
#![warn(clippy::undocumented_unsafe_blocks)]

mod addr;
mod channel;
mod contexts;
mod cq;
mod device;
mod qp;
#[cfg(test)]
mod tests;
mod watch;

use std::ffi::CStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdma_sys::ibv_context;

use self::channel::SysChannel;
use self::contexts::Contexts;
use self::device::{SysDevice, info_of};
use super::verbs::{Device, DeviceInfo, EventChannel, Verbs, VerbsError, VerbsErrorKind};

/// The libraries of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl System {
    /// They are loaded with the process; whether there is anything behind them is seen when asked.
    pub fn new() -> Self {
        Self
    }
}

impl Verbs for System {
    fn devices(&self) -> Result<Vec<DeviceInfo>, VerbsError> {
        let contexts = Contexts::get()?;
        // SAFETY: the contexts are held until they have told.
        contexts.iter().map(|context| unsafe { info_of(context) }).collect()
    }

    fn open(&self, name: &str) -> Result<Arc<dyn Device>, VerbsError> {
        let contexts = Contexts::get()?;
        // SAFETY: as above.
        let named = contexts.iter().position(|context| unsafe { name_of(context) } == name);
        let Some(index) = named else {
            return Err(VerbsError::new("rdma_get_devices", VerbsErrorKind::NoDevice));
        };
        Ok(Arc::new(SysDevice::open(contexts.keep(index)?)?))
    }

    fn event_channel(&self) -> Result<Arc<dyn EventChannel>, VerbsError> {
        Ok(Arc::new(SysChannel::create()?))
    }
}

/// The device's name, as `rdma link` shows it.
///
/// # Safety
/// The context is open.
unsafe fn name_of(context: *mut ibv_context) -> String {
    // SAFETY: an open context has its device for good, and its name ends with a zero.
    let name = unsafe { CStr::from_ptr((*(*context).device).name.as_ptr()) };
    name.to_string_lossy().into_owned()
}

/// A panic in a poll of ours changes nothing about what a table says of the libraries.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
