//! The waker of an actor's task, which stays registered.
//!
//! A task of a runtime is woken by the same waker for all its life, while an `AtomicWaker` gives it
//! away with every wake-up and wants it back with every poll: four locked instructions a turn,
//! which at a small message is what the message itself costs.

use std::sync::Mutex;
use std::task::Waker;

use crate::shared::lock;

/// Where others find the waker of one task.
#[derive(Debug, Default)]
pub(crate) struct LastingWaker(Mutex<Option<Waker>>);

impl LastingWaker {
    /// Wakes the task of `waker` from now on. `known` is the caller's memory of what it registered
    /// last. What was made before a wake-up that missed it is seen by what is read from here on.
    #[inline]
    pub(crate) fn register(&self, known: &mut Option<Waker>, waker: &Waker) {
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
            lock(&self.0).clone_from(known);
        }
    }

    /// Wakes the task, if there is one.
    pub(crate) fn wake(&self) {
        let waker = lock(&self.0).clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
