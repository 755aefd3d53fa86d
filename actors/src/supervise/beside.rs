//! Work that an actor has beside its context.
//!
//! ```text
//!   mailbox, timers, spawned futures ── bell ─► context ─┐
//!                                                        ├─► one task
//!   all else that wakes the task ─────────────► work ────┘
//! ```
//!
//! A context that is polled asks its mailbox and everything that was spawned in it, whatever it was
//! that woke the task. An actor that is woken for every message that its node sends or receives, as
//! a session's is, would pay for that with each of them. So the context has a waker of its own, and
//! is left alone until that is used.

use std::task::{Context as Task, Poll};

use stellate_transport::bell::Ear;

/// A future that is polled from an actor's task. Ready, the actor stops.
pub(crate) type Beside = Box<dyn FnMut(&mut Task<'_>) -> Poll<()>>;

/// The two halves of what an actor does.
pub(super) struct Side {
    work: Beside,
    /// Rings when something wakes the context.
    ear: Ear,
    /// The context is to be polled though nothing woke it.
    look: bool,
}

impl Side {
    /// The first poll polls both.
    pub(super) fn new(work: Beside) -> Self {
        Self { work, ear: Ear::new(), look: true }
    }

    /// The context has something to do that wakes nobody.
    pub(super) fn look(&mut self) {
        self.look = true;
    }

    /// Polls the context, if it has something to do, and then the work: what a message has changed is
    /// acted on in the same turn. Ready when one of them is.
    #[inline]
    pub(super) fn poll(
        &mut self,
        task: &mut Task<'_>,
        context: impl FnOnce(&mut Task<'_>) -> Poll<()>,
    ) -> Poll<()> {
        if self.ear.listen(task) | std::mem::take(&mut self.look) {
            let bell = self.ear.lend();
            let polled = context(&mut Task::from_waker(&bell));
            self.ear.put_back(bell);
            if polled.is_ready() {
                return polled;
            }
        }
        (self.work)(task)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// V1: a message that arrives is handled, however often the actor is woken for other things.
    #[test]
    fn v1_a_context_is_polled_when_it_was_woken_or_told_and_the_work_always() {
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let mut task = Task::from_waker(&waker);
        let turns = Rc::new(Cell::new(0));
        let count = turns.clone();
        let mut side = Side::new(Box::new(move |_| {
            count.set(count.get() + 1);
            Poll::Pending
        }));
        let mut own: Option<Waker> = None;
        let mut polls = 0;
        let mut poll = |side: &mut Side, own: &mut Option<Waker>| {
            let polled = side.poll(&mut task, |context| {
                *own = Some(context.waker().clone());
                polls += 1;
                Poll::Pending
            });
            assert!(polled.is_pending());
            polls
        };
        assert_eq!((poll(&mut side, &mut own), turns.get()), (1, 1), "both to begin with");
        assert_eq!((poll(&mut side, &mut own), turns.get()), (1, 2));
        own.as_ref().expect("polled").wake_by_ref();
        assert_eq!(woken.0.load(Ordering::Relaxed), 1, "what wakes the context wakes the task");
        assert_eq!((poll(&mut side, &mut own), turns.get()), (2, 3));
        assert_eq!((poll(&mut side, &mut own), turns.get()), (2, 4));
        side.look();
        assert_eq!((poll(&mut side, &mut own), turns.get()), (3, 5));
        assert_eq!((poll(&mut side, &mut own), turns.get()), (3, 6), "once");
    }

    #[test]
    fn either_ends_it_and_a_context_that_ended_leaves_the_work_alone() {
        let mut task = Task::from_waker(Waker::noop());
        let mut side = Side::new(Box::new(|_| panic!("nobody is there to work for")));
        assert!(side.poll(&mut task, |_| Poll::Ready(())).is_ready());
        let mut side = Side::new(Box::new(|_| Poll::Ready(())));
        assert!(side.poll(&mut task, |_| Poll::Pending).is_ready());
    }
}
