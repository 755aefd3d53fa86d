//! The tasks of one life of a node, which a crash drops all at once.
//!
//! Everything that a node starts is a task in its own `LocalSet`, and that is a task of the run.
//! Dropping the set drops its tasks wherever they wait: no last word, as in a process that dies.

use std::cell::RefCell;
use std::future::{Future, pending};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::task::{JoinHandle, LocalSet};

/// The tasks of one life.
#[derive(Clone, Default)]
pub(super) struct Life {
    set: Rc<RefCell<Option<Rc<LocalSet>>>>,
}

impl Life {
    /// Begins to run, as a task of the caller's `LocalSet`.
    pub(super) fn start() -> Self {
        let set = Rc::new(RefCell::new(Some(Rc::new(LocalSet::new()))));
        tokio::task::spawn_local(Host { set: set.clone() });
        Self { set }
    }

    /// A task of the node; `None` after its end.
    pub(super) fn spawn<T: 'static>(
        &self,
        task: impl Future<Output = T> + 'static,
    ) -> Option<JoinHandle<T>> {
        let set = self.set.borrow().clone()?;
        Some(set.spawn_local(task))
    }

    /// Drops all tasks: now, or if one of them asks for it, when its turn is over.
    pub(super) fn end(&self) {
        let set = self.set.borrow_mut().take();
        drop(set);
    }
}

/// Runs the tasks until their end.
struct Host {
    set: Rc<RefCell<Option<Rc<LocalSet>>>>,
}

impl Future for Host {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(set) = self.set.borrow().clone() else {
            return Poll::Ready(());
        };
        // Held by this poll too: a task may end the life that it is part of.
        let turn = pin!(set.run_until(pending::<()>()));
        let _: Poll<()> = turn.poll(cx);
        match self.set.borrow().is_some() {
            true => Poll::Pending,
            false => Poll::Ready(()),
        }
    }
}
