//! Tells which wake-ups of a task come from where: a link's from its stream, an actor's from its mailbox.
//!
//! ```text
//!   reactor ── wake ─► Bell: rung, task woken ─► poll: heard? ─ yes ─► read
//!                                                             └ no ──► the read that waits, waits
//! ```
//!
//! The task that moves a link is woken for much else: above all, by whoever sends. Without this each
//! of those turns would ask the reactor once more whether something came, which costs a small
//! message as much as its encoding.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};

/// What the reactor rings.
#[derive(Debug, Default)]
struct Bell {
    rung: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(task) = task {
            task.wake();
        }
    }
}

/// What a task asks whether the bell rang.
///
/// Give the waker that it [lends](Self::lend) to one source of wake-ups: those are told from all others
/// of the task, so that the source need not be asked after each of them.
#[derive(Debug)]
pub struct Ear {
    bell: Arc<Bell>,
    /// The bell, as reads and writes get it.
    waker: Waker,
    /// The task that the bell wakes.
    task: Option<Waker>,
}

impl Default for Ear {
    fn default() -> Self {
        Self::new()
    }
}

impl Ear {
    /// One whose bell has not rung.
    pub fn new() -> Self {
        let bell = Arc::new(Bell::default());
        Self { waker: bell.clone().into(), bell, task: None }
    }

    /// The task of `cx` is woken from now on; whether the bell rang since this was last asked.
    pub fn listen(&mut self, cx: &Context<'_>) -> bool {
        if !self.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            self.task = Some(cx.waker().clone());
            let mut task = self.bell.task.lock().unwrap_or_else(PoisonError::into_inner);
            task.clone_from(&self.task);
        }
        // A ring between the two wakes the task again, for a look that finds nothing.
        self.bell.rung.load(Ordering::Acquire) && self.bell.rung.swap(false, Ordering::AcqRel)
    }

    /// To be given to reads and writes: their wake-up rings. [Put it back](Self::put_back), which
    /// costs less than a clone.
    pub fn lend(&mut self) -> Waker {
        std::mem::replace(&mut self.waker, Waker::noop().clone())
    }

    /// The waker that was lent.
    pub fn put_back(&mut self, waker: Waker) {
        self.waker = waker;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_ring_is_heard_once_and_wakes_the_task_that_listened_last() {
        let (one, other) = (Arc::new(Task::default()), Arc::new(Task::default()));
        let woken = || (one.0.load(Ordering::Relaxed), other.0.load(Ordering::Relaxed));
        let (first, second) = (Waker::from(one.clone()), Waker::from(other.clone()));
        let mut ear = Ear::new();
        assert!(!ear.listen(&Context::from_waker(&first)));
        ear.waker.wake_by_ref();
        assert_eq!(woken(), (1, 0));
        assert!(ear.listen(&Context::from_waker(&second)), "also by a task that came later");
        assert!(!ear.listen(&Context::from_waker(&second)), "once");
        ear.waker.wake_by_ref();
        ear.waker.wake_by_ref();
        assert_eq!(woken(), (1, 2), "it stays registered");
        assert!(ear.listen(&Context::from_waker(&second)));
        first.wake();
        assert!(!ear.listen(&Context::from_waker(&second)), "another's wake-up is no ring");
    }
}
