//! Checkers: they see what users' actors saw, and say when a promise is broken.
//!
//! ```text
//!   actor ── NodeHandle::note ──► Desk ──► Checker::see ──► Breach ──► the run ends, and fails
//!   cluster ── boots, crashes ──────┘
//! ```
//!
//! A checker never asks the implementation: it knows what was handed to it, and judges that.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stellate_protocol::EntityName;
use stellate_protocol::session::Coverage;
use stellate_transport::sim::SimNet;
use stellate_transport::trace;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Judges a run by what was seen in it.
///
/// It is called on the thread of the run, in the order of what happens, and must not call
/// [`NodeHandle::note`](super::NodeHandle::note) itself.
pub trait Checker: Send {
    /// Something was seen.
    ///
    /// # Errors
    /// A [`Breach`] ends the run at once.
    fn see(&mut self, seen: &Seen<'_>) -> Result<(), Breach>;

    /// Whether all that must come about once faults have stopped has done so. Asked in the phase
    /// after healing, which ends when every checker says yes, and fails with `S8` when that takes
    /// longer than the run allows.
    fn is_settled(&self) -> bool {
        true
    }

    /// What it still waits for, for the message of such a failure.
    fn waits_for(&self) -> String {
        String::new()
    }

    /// The run is over, and all was settled.
    ///
    /// # Errors
    /// A [`Breach`] if what was seen does not add up.
    fn finish(&mut self) -> Result<(), Breach> {
        Ok(())
    }
}

/// Something that was seen.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    /// When, from the start of the run.
    pub at: Duration,
    /// On which node.
    pub node: EntityName,
    /// In which life of it: 0 from its first start.
    pub life: u64,
    /// What.
    pub what: What<'a>,
}

/// What was seen.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum What<'a> {
    /// Something that an actor told with [`NodeHandle::note`](super::NodeHandle::note).
    Note(&'a dyn Any),
    /// A life begins: the node's boot is called.
    Booted,
    /// A life is over.
    Crashed,
    /// Faults have stopped, all is healed, and every node runs. Told once, of the first node.
    Healed,
}

impl<'a> Seen<'a> {
    /// The note, if it is one of that type.
    pub fn note<T: Any>(&self) -> Option<&'a T> {
        match self.what {
            What::Note(note) => note.downcast_ref(),
            _ => None,
        }
    }
}

/// A promise that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// Which: `S1` to `S9`, `V1` to `V3`, `D1`, `F6`, `boot`, `panic`, or a name of yours.
    pub invariant: String,
    /// When it was seen, from the start of the run.
    pub at: Duration,
    /// What was seen, and what should have been.
    pub text: String,
}

impl Breach {
    /// A breach; the time is filled in where it is reported.
    pub fn new(invariant: impl Into<String>, text: impl Into<String>) -> Self {
        Self { invariant: invariant.into(), at: Duration::ZERO, text: text.into() }
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {:.3} s: {}", self.invariant, self.at.as_secs_f64(), self.text)
    }
}

impl std::error::Error for Breach {}

/// Where everything that is seen goes: the checkers, and what the run adds up.
pub(in crate::testing) struct Desk {
    checkers: Mutex<Vec<Box<dyn Checker>>>,
    breach: Mutex<Option<Breach>>,
    /// A breach is there.
    pub(super) broken: Notify,
    pub(super) coverage: Arc<Mutex<Coverage>>,
    net: Option<SimNet>,
    origin: Instant,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Desk {
    /// `net`: where a breach is to stand in the trace.
    pub(in crate::testing) fn new(checkers: Vec<Box<dyn Checker>>, net: Option<SimNet>) -> Self {
        Self {
            checkers: Mutex::new(checkers),
            breach: Mutex::default(),
            broken: Notify::new(),
            coverage: Arc::default(),
            net,
            origin: Instant::now(),
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.origin.elapsed()
    }

    pub(in crate::testing) fn tell(&self, node: EntityName, life: u64, what: What<'_>) {
        let seen = Seen { at: self.elapsed(), node, life, what };
        let mut found = None;
        for checker in lock(&self.checkers).iter_mut() {
            found = found.or(checker.see(&seen).err());
        }
        if let Some(breach) = found {
            self.report(breach);
        }
    }

    /// The first breach is the one that counts.
    pub(super) fn report(&self, breach: Breach) {
        let at = self.elapsed();
        let breach = Breach { at, ..breach };
        let (promise, text) = (breach.invariant.as_str().into(), breach.text.as_str().into());
        if let Some(net) = &self.net {
            net.tell(trace::What::Broken { promise, text });
        }
        lock(&self.breach).get_or_insert(breach);
        self.broken.notify_one();
    }

    pub(in crate::testing) fn breach(&self) -> Option<Breach> {
        lock(&self.breach).clone()
    }

    pub(in crate::testing) fn is_settled(&self) -> bool {
        lock(&self.checkers).iter().all(|checker| checker.is_settled())
    }

    pub(super) fn waits_for(&self) -> String {
        let waits: Vec<String> = lock(&self.checkers)
            .iter()
            .filter(|checker| !checker.is_settled())
            .map(|checker| checker.waits_for())
            .collect();
        waits.join("; ")
    }

    pub(in crate::testing) fn finish(&self) {
        let found = lock(&self.checkers).iter_mut().find_map(|checker| checker.finish().err());
        if let Some(breach) = found {
            self.report(breach);
        }
    }

    pub(super) fn coverage(&self) -> Coverage {
        *lock(&self.coverage)
    }
}
