//! The slot through which the tree orders a child about: a few flags and a waker, so bounded by
//! construction.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use crate::wake::LastingWaker;

/// What a child is to do. Only the tree writes it, only the child's future takes it.
#[derive(Clone, Debug, Default)]
pub(super) struct Orders {
    /// Build the actor after this delay.
    pub(super) start: Option<Duration>,
    /// Stop the actor, letting it drain for so long.
    pub(super) stop: Option<Duration>,
    /// Drop the actor.
    pub(super) kill: bool,
    /// Panic inside the actor's poll.
    pub(super) panic: Option<Arc<str>>,
    /// End this future: the child has left the tree.
    pub(super) retire: bool,
    /// Do not poll the actor. Stays until changed.
    pub(super) paused: bool,
}

#[derive(Debug, Default)]
pub(super) struct Control {
    orders: Mutex<Orders>,
    changed: AtomicBool,
    waker: LastingWaker,
}

impl Control {
    /// Changes the orders. The child sees them when [`Control::wake`] was called after it.
    pub(super) fn order(&self, change: impl FnOnce(&mut Orders)) {
        change(&mut self.lock());
        self.changed.store(true, Ordering::Release);
    }

    /// Wakes the child. Not to be called under the tree's lock.
    pub(super) fn wake(&self) {
        self.waker.wake();
    }

    pub(super) fn is_paused(&self) -> bool {
        self.lock().paused
    }

    /// The orders since the last call, if there are any; `waker` is woken at the next. `known` as
    /// [`LastingWaker::register`] has it.
    #[inline]
    pub(super) fn take(&self, known: &mut Option<Waker>, waker: &Waker) -> Option<Orders> {
        self.waker.register(known, waker);
        if !self.changed.load(Ordering::Acquire) {
            return None;
        }
        self.take_changed()
    }

    #[cold]
    fn take_changed(&self) -> Option<Orders> {
        if !self.changed.swap(false, Ordering::Acquire) {
            return None;
        }
        let mut orders = self.lock();
        let next = Orders { paused: orders.paused, ..Orders::default() };
        Some(std::mem::replace(&mut orders, next))
    }

    fn lock(&self) -> MutexGuard<'_, Orders> {
        // Plain flags: a panic under the lock cannot leave them half changed.
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
