//! Why a child ended, down to the first cause.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use super::policy::Intensity;

/// Why an actor, or a whole group, ended.
///
/// An escalated cause carries the one below it: [`Cause::chain`] and [`Error::source`] walk down.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// It stopped: by itself, or because it was told to and drained in time.
    Stopped,
    /// It panicked. The message is the panic's, if that was text.
    Panicked {
        /// What the panic said.
        message: Arc<str>,
    },
    /// [`Tree::kill`](super::Tree::kill) dropped it.
    Killed,
    /// It was told to stop, did not within its drain period, and was dropped.
    Overdue,
    /// The thread or task set it lived on has ended; it cannot be restarted.
    Lost,
    /// A group spent its restarts: V3.
    Exhausted {
        /// Path of the group.
        group: Arc<str>,
        /// Path of the child whose failure was one too many.
        child: Arc<str>,
        /// What the group was allowed.
        intensity: Intensity,
        /// That child's cause.
        cause: Box<Cause>,
    },
    /// A group with [`Strategy::Escalate`](super::Strategy::Escalate) passed a failure on.
    Escalated {
        /// Path of the group.
        group: Arc<str>,
        /// Path of the child that failed.
        child: Arc<str>,
        /// That child's cause.
        cause: Box<Cause>,
    },
}

impl Cause {
    /// Whether the end was a failure, as opposed to a stop.
    pub fn is_failure(&self) -> bool {
        !matches!(self, Self::Stopped)
    }

    /// This cause, the one below it, and so on to the first.
    pub fn chain(&self) -> impl Iterator<Item = &Cause> {
        std::iter::successors(Some(self), |cause| cause.below())
    }

    /// The first cause: the end that started it all.
    pub fn first(&self) -> &Cause {
        self.chain().last().unwrap_or(self)
    }

    fn below(&self) -> Option<&Cause> {
        match self {
            Self::Exhausted { cause, .. } | Self::Escalated { cause, .. } => Some(cause),
            _ => None,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => write!(f, "stopped"),
            Self::Panicked { message } => write!(f, "panicked: {message}"),
            Self::Killed => write!(f, "killed"),
            Self::Overdue => write!(f, "did not stop within its drain period"),
            Self::Lost => write!(f, "its thread has ended"),
            Self::Exhausted { group, child, intensity, .. } => write!(
                f,
                "{} spent its {} restarts in {:?} with {child}",
                show(group),
                intensity.max,
                intensity.within
            ),
            Self::Escalated { group, child, .. } => {
                write!(f, "{} passes on the failure of {child}", show(group))
            }
        }
    }
}

impl Error for Cause {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.below().map(|cause| cause as &(dyn Error + 'static))
    }
}

fn show(path: &str) -> &str {
    if path.is_empty() { "the root" } else { path }
}

/// What becomes of a child after an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fate {
    /// It is built anew after a delay.
    Restarts {
        /// Restarts in a row, from 1.
        attempt: u32,
        /// The delay.
        after: std::time::Duration,
    },
    /// It stays down until its group starts it again, or ends.
    Waits,
    /// It has left the tree; its mailbox is closed.
    Ends,
}

/// One exit of one child, as told to [`Recipe::on_exit`](super::Recipe::on_exit).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Exit {
    /// Path of the child.
    pub path: Arc<str>,
    /// Why it ended.
    pub cause: Cause,
    /// What becomes of it.
    pub fate: Fate,
}
