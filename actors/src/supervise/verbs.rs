//! V5: what tests and operators do to a running tree, and what they see of it.

use std::future::Future;
use std::sync::Arc;

use super::control::{Control, Orders};
use super::history::{Entry, Mark, What};
use super::node::{Phase, TreeError};
use super::tree::Tree;

/// Why a wait cannot succeed any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WaitError {
    /// More than [`HISTORY_MAX`](super::HISTORY_MAX) entries came since the mark before the waiter
    /// was polled.
    Lapped,
    /// The tree has ended and nothing will be recorded again.
    Ended,
}

impl std::fmt::Display for WaitError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Lapped => "the history ran over the waiter",
            Self::Ended => "the tree has ended",
        })
    }
}

impl std::error::Error for WaitError {}

/// Every verb returns the [`Mark`] from just before it: wait from there with [`Tree::wait_since`].
/// They fail with [`TreeError::NotFound`], and with [`TreeError::WrongKind`] for groups.
impl Tree {
    /// Drops the child's actor value, without a last word from it. It counts as a failure: the
    /// value is rebuilt after the back-off, or not, by its [`Restart`](super::Restart). Between two
    /// incarnations it does nothing.
    pub fn kill(&self, path: &str) -> Result<Mark, TreeError> {
        self.order(path, |orders| orders.kill = true, None)
    }

    /// Really panics inside the poll of the child's actor, before it handles its next message; also
    /// while it waits or is paused. Between two incarnations it does nothing.
    pub fn panic(&self, path: &str) -> Result<Mark, TreeError> {
        let message: Arc<str> = format!("panic ordered for {path}").into();
        self.order(path, move |orders| orders.panic = Some(message), None)
    }

    /// Stops polling the child: no message, timer or future of it runs, its mailbox fills. Holds
    /// across restarts; a stop or a removal overrides it.
    pub fn pause(&self, path: &str) -> Result<Mark, TreeError> {
        self.order(path, |orders| orders.paused = true, Some(What::Paused))
    }

    /// Undoes [`Tree::pause`].
    pub fn resume(&self, path: &str) -> Result<Mark, TreeError> {
        self.order(path, |orders| orders.paused = false, Some(What::Resumed))
    }

    /// Where a child or group stands; `None` if there is none.
    pub fn phase(&self, path: &str) -> Option<Phase> {
        let path = self.absolute(path);
        self.shared.read(|core| core.plan.phase(core.plan.find(&path)?))
    }

    /// Whether the child is paused; false if there is none.
    pub fn is_paused(&self, path: &str) -> bool {
        self.control(path).is_ok_and(|control| control.is_paused())
    }

    /// The whole paths of what lies in the group at `path`, in start order.
    pub fn members(&self, path: &str) -> Vec<Arc<str>> {
        let path = self.absolute(path);
        self.shared.read(|core| {
            let members = core.plan.find(&path).map(|group| core.plan.members(group));
            members.into_iter().flatten().filter_map(|node| core.plan.path(node)).collect()
        })
    }

    /// Children and groups in the whole tree, the root not counted.
    pub fn len(&self) -> usize {
        self.shared.read(|core| core.plan.len().saturating_sub(1))
    }

    /// Whether the tree has no children and no groups.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tells `watch` of every entry from now on, as it is recorded. The first watcher stays.
    pub(crate) fn watch(&self, watch: impl Fn(&Entry) + Send + Sync + 'static) {
        // A second one is not needed by anybody.
        let _ = self.shared.watch.set(Box::new(watch));
    }

    /// What happened in the whole tree, oldest first, the last [`HISTORY_MAX`](super::HISTORY_MAX)
    /// entries. Paths are whole paths, whichever group this handle is of.
    pub fn history(&self) -> Vec<Entry> {
        self.shared.read(|core| core.history.iter().cloned().collect())
    }

    /// What happened to one child or group.
    pub fn history_of(&self, path: &str) -> Vec<What> {
        let path = self.absolute(path);
        self.shared.read(|core| {
            core.history.iter().filter(|e| e.path == path).map(|e| e.what.clone()).collect()
        })
    }

    /// The place after the newest entry.
    pub fn mark(&self) -> Mark {
        self.shared.read(|core| core.history.mark())
    }

    /// Waits for the next entry of `path` that `wanted` accepts. Counts from the call, not from the
    /// first poll.
    pub fn wait_for<F: FnMut(&What) -> bool>(
        &self,
        path: &str,
        wanted: F,
    ) -> impl Future<Output = Result<Entry, WaitError>> + use<F> {
        self.wait_since(self.mark(), path, wanted)
    }

    /// Waits for the first entry of `path` since `mark` that `wanted` accepts, which may be in the
    /// past.
    pub fn wait_since<F: FnMut(&What) -> bool>(
        &self,
        mark: Mark,
        path: &str,
        mut wanted: F,
    ) -> impl Future<Output = Result<Entry, WaitError>> + use<F> {
        let (path, shared) = (self.absolute(path), self.shared.clone());
        async move {
            let mut at = mark;
            loop {
                let changed = shared.changed.notified();
                // `wanted` is the caller's code and runs without the lock.
                while let Some(entry) = shared
                    .read(|core| core.history.get(at).map(|entry| entry.cloned()))
                    .map_err(|()| WaitError::Lapped)?
                {
                    at.0 += 1;
                    if entry.path == path && wanted(&entry.what) {
                        return Ok(entry);
                    }
                }
                // The entries read above came before the end, if there is one: look once more when
                // it is there.
                let ended =
                    shared.read(|core| core.plan.ended().is_some() && core.history.mark() == at);
                if ended {
                    return Err(WaitError::Ended);
                }
                changed.await;
            }
        }
    }

    fn order(
        &self,
        path: &str,
        change: impl FnOnce(&mut Orders),
        what: Option<What>,
    ) -> Result<Mark, TreeError> {
        let control = self.control(path)?;
        let path = self.absolute(path);
        let mark = self.shared.change(|core| {
            let mark = core.history.mark();
            control.order(change);
            if let Some(what) = what {
                core.plan.note(path, what);
            }
            mark
        });
        control.wake();
        Ok(mark)
    }

    fn control(&self, path: &str) -> Result<Arc<Control>, TreeError> {
        let path = self.absolute(path);
        self.shared.read(|core| {
            let node = core.plan.find(&path).ok_or(TreeError::NotFound)?;
            core.controls.get(&node).cloned().ok_or(TreeError::WrongKind)
        })
    }
}
