//! The devices that librdmacm has open.
//!
//! librdmacm opens each device once, for everybody in the process, and counts who has it. It closes
//! one that the machine has no more as soon as nobody does, when it looks at its list of devices: a
//! kernel that waits for that, as it does for soft devices, has removed the device then. So whatever
//! uses a context holds it, and who lets go of one has the list looked at.

use std::ptr::null_mut;

use rdma_sys::{ibv_context, rdma_free_devices, rdma_get_devices};

use crate::rdma::refusal;
use crate::rdma::verbs::{VerbsError, VerbsErrorKind};

/// All of them, each held: a list of librdmacm, which ends with null.
pub(super) struct Contexts {
    list: *mut *mut ibv_context,
    len: usize,
}

/// One of them, held.
pub(super) struct Held {
    /// As librdmacm gives them: this one, and null.
    list: *mut *mut ibv_context,
    context: *mut ibv_context,
}

// SAFETY: librdmacm may be called from any thread, and the list is this record's alone.
unsafe impl Send for Held {}
// SAFETY: as above.
unsafe impl Sync for Held {}

impl Contexts {
    pub(super) fn get() -> Result<Self, VerbsError> {
        let mut count = 0;
        // SAFETY: it takes a place for the number, and gives null or an array of as many contexts.
        let list = unsafe { rdma_get_devices(&mut count) };
        if list.is_null() {
            return Err(refusal::diagnose("rdma_get_devices"));
        }
        let this = Self { list, len: usize::try_from(count).unwrap_or(0) };
        if this.len == 0 {
            return Err(refusal::diagnose("rdma_get_devices"));
        }
        Ok(this)
    }

    /// They are open while this record is there.
    pub(super) fn iter(&self) -> impl Iterator<Item = *mut ibv_context> + '_ {
        // SAFETY: the array has that many entries, and is this record's.
        unsafe { std::slice::from_raw_parts(self.list, self.len) }.iter().copied()
    }

    /// Keeps that one, and lets go of the others.
    pub(super) fn keep(mut self, index: usize) -> Result<Held, VerbsError> {
        // SAFETY: the call takes two numbers. librdmacm frees a list by free().
        let list = unsafe { libc::calloc(2, size_of::<*mut ibv_context>()) };
        let list: *mut *mut ibv_context = list.cast();
        if list.is_null() || index >= self.len {
            // SAFETY: it is null, or from calloc and nobody else's.
            unsafe { libc::free(list.cast()) };
            return Err(VerbsError::new("rdma_get_devices", VerbsErrorKind::Exhausted));
        }
        self.len -= 1;
        // SAFETY: both lists have these entries, and the last of the long one becomes its end.
        let context = unsafe {
            let context = *self.list.add(index);
            *self.list.add(index) = *self.list.add(self.len);
            *self.list.add(self.len) = null_mut();
            *list = context;
            context
        };
        Ok(Held { list, context })
    }
}

impl Drop for Contexts {
    fn drop(&mut self) {
        // SAFETY: it came from rdma_get_devices; an entry that was taken out of it is held by another.
        unsafe { rdma_free_devices(self.list) };
    }
}

impl Held {
    /// Open while this record is there.
    pub(super) fn context(&self) -> *mut ibv_context {
        self.context
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: a list as rdma_get_devices makes them, of what it gave and nobody has let go of.
        unsafe { rdma_free_devices(self.list) };
        // Looks whether there is that device still.
        drop(Contexts::get());
    }
}
