//! What happened in the tree, in order, within a bound.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::cause::Cause;
use super::policy::Time;

/// Entries kept; older ones are dropped first. About 100 bytes each.
pub const HISTORY_MAX: usize = 8_192;

/// One thing that happened to one node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Since the tree was made.
    pub at: Time,
    /// Path of the child or group; empty for the root.
    pub path: Arc<str>,
    /// What happened.
    pub what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum What {
    /// The actor was built and its `started`, with all it waited for, is done.
    Started,
    /// It panicked.
    Panicked {
        /// What the panic said.
        message: Arc<str>,
    },
    /// It stopped, by itself or by order.
    Stopped,
    /// It was killed.
    Killed,
    /// It did not stop within its drain period and was dropped.
    Overdue,
    /// Its thread or task set ended.
    Lost,
    /// It will be built anew.
    Restarting {
        /// Restarts in a row, from 1.
        attempt: u32,
        /// The delay.
        after: Duration,
    },
    /// This group has no restart left, or passes every failure on. Its children are stopped next.
    GaveUp {
        /// The chain of causes.
        cause: Cause,
    },
    /// The group's children are down and the failure is now its parent's.
    Escalated {
        /// Path of the parent; empty for the root.
        to: Arc<str>,
    },
    /// It is no longer polled.
    Paused,
    /// It is polled again.
    Resumed,
    /// It has left the tree.
    Removed,
    /// The whole tree is down. The last entry there is.
    ShutDown,
}

impl What {
    pub(super) fn of(cause: &Cause) -> Self {
        match cause {
            Cause::Panicked { message } => Self::Panicked { message: message.clone() },
            Cause::Killed => Self::Killed,
            Cause::Overdue => Self::Overdue,
            Cause::Lost => Self::Lost,
            _ => Self::Stopped,
        }
    }
}

/// A place in the history: everything recorded from here on is newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark(pub(super) u64);

/// The last [`HISTORY_MAX`] entries, numbered from the first ever recorded.
#[derive(Debug, Default)]
pub(super) struct History {
    entries: VecDeque<Entry>,
    dropped: u64,
}

impl History {
    pub(super) fn record(&mut self, entry: Entry) {
        if self.entries.len() == HISTORY_MAX {
            self.entries.pop_front();
            self.dropped += 1;
        }
        self.entries.push_back(entry);
    }

    /// The place after the newest entry.
    pub(super) fn mark(&self) -> Mark {
        Mark(self.dropped + self.entries.len() as u64)
    }

    /// Entry number `mark`: `Err(())` if it was dropped, `Ok(None)` if it is yet to come.
    pub(super) fn get(&self, mark: Mark) -> Result<Option<&Entry>, ()> {
        let index = mark.0.checked_sub(self.dropped).ok_or(())?;
        Ok(usize::try_from(index).ok().and_then(|index| self.entries.get(index)))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s7_history_is_bounded_and_says_what_it_dropped() {
        let mut history = History::default();
        let path: Arc<str> = "osd".into();
        let start = history.mark();
        for n in 0..HISTORY_MAX as u64 + 3 {
            history.record(Entry {
                at: Duration::from_millis(n),
                path: path.clone(),
                what: What::Started,
            });
        }
        assert_eq!(history.iter().count(), HISTORY_MAX);
        assert!(history.get(start).is_err());
        assert_eq!(history.get(Mark(3)).unwrap().unwrap().at, Duration::from_millis(3));
        assert_eq!(history.get(history.mark()).unwrap(), None);
    }
}
