//! What the tree's handles and its children share: the plan, the children's slots, the history.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::cause::{Cause, Fate};
use super::control::{Control, Orders};
use super::history::{Entry, History, What};
use super::node::{Input, NodeId, Output};
use super::plan::Plan;
use super::policy::{Supervisor, Time};

/// State behind the lock. Only the plan's and our own code runs under it, never a user's.
pub(super) struct Core {
    pub(super) plan: Plan,
    pub(super) controls: BTreeMap<NodeId, Arc<Control>>,
    pub(super) history: History,
    pub(super) now: Time,
}

pub(super) struct Shared {
    core: Mutex<Core>,
    epoch: Instant,
    /// Children whose futures are not gone: they have left the plan before.
    seats: AtomicUsize,
    /// Told after every recorded entry, and when the last child is gone.
    pub(super) changed: Notify,
    /// Told every entry.
    pub(super) watch: OnceLock<Watch>,
}

/// Is told every entry as it is recorded. It must not call back into the tree.
pub(super) type Watch = Box<dyn Fn(&Entry) + Send + Sync>;

/// What is to be done once the lock is released.
#[derive(Default)]
struct Aftermath {
    wake: Vec<Arc<Control>>,
    said: Vec<Entry>,
    start: Option<Duration>,
}

impl Shared {
    pub(super) fn new(spec: Supervisor) -> Self {
        let core = Core {
            plan: Plan::new(spec),
            controls: BTreeMap::new(),
            history: History::default(),
            now: Time::ZERO,
        };
        Self {
            core: Mutex::new(core),
            epoch: Instant::now(),
            seats: AtomicUsize::new(0),
            changed: Notify::new(),
            watch: OnceLock::new(),
        }
    }

    /// A child gets its place.
    pub(super) fn seated(&self) {
        self.seats.fetch_add(1, Ordering::Relaxed);
    }

    /// A child is gone, with all that it held.
    pub(super) fn left(&self) {
        if self.seats.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.changed.notify_waiters();
        }
    }

    /// Why the tree has ended, once it has and nothing of it is left.
    pub(super) fn ended(&self) -> Option<Option<Cause>> {
        let ended = self.read(|core| core.plan.ended().cloned())?;
        (self.seats.load(Ordering::Acquire) == 0).then_some(ended)
    }

    /// Looks at the state.
    pub(super) fn read<R>(&self, look: impl FnOnce(&Core) -> R) -> R {
        look(&self.core.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the state, carries out what the plan orders, then wakes whom that concerns.
    pub(super) fn change<R>(&self, change: impl FnOnce(&mut Core) -> R) -> R {
        self.change_for(NodeId::ROOT, change).0
    }

    pub(super) fn started(&self, node: NodeId) {
        self.change(|core| core.plan.handle(core.now, Input::Started(node)));
    }

    /// `owes`: what the child's recipe owes is not done.
    pub(super) fn exited(&self, node: NodeId, cause: Cause, owes: bool) -> Fate {
        let input = if owes { Input::Owing } else { Input::Exited };
        let exited = |core: &mut Core| core.plan.handle(core.now, input(node, cause));
        let ((), start) = self.change_for(node, exited);
        self.read(|core| core.plan.fate(node, start))
    }

    /// As `change`; also says with which delay `node` was told to start.
    fn change_for<R>(
        &self,
        node: NodeId,
        change: impl FnOnce(&mut Core) -> R,
    ) -> (R, Option<Duration>) {
        let mut after = Aftermath::default();
        let result = {
            let mut core = self.core.lock().unwrap_or_else(PoisonError::into_inner);
            // Another thread may have read its clock later and come first.
            core.now = core.now.max(Instant::now().saturating_duration_since(self.epoch));
            let result = change(&mut core);
            core.carry_out(node, &mut after);
            result
        };
        if !after.said.is_empty() {
            after.said.iter().for_each(say);
            if let Some(watch) = self.watch.get() {
                after.said.iter().for_each(watch);
            }
            self.changed.notify_waiters();
        }
        after.wake.iter().for_each(|control| control.wake());
        (result, after.start)
    }
}

impl Core {
    fn carry_out(&mut self, asker: NodeId, after: &mut Aftermath) {
        while let Some(output) = self.plan.poll_output() {
            match output {
                Output::Start { node, after: delay } => {
                    if node == asker {
                        after.start = Some(delay);
                    }
                    // What was meant for the actor before must not hit the next.
                    self.order(node, after, |orders| {
                        let (start, paused) = (Some(delay), orders.paused);
                        *orders = Orders { start, paused, ..Orders::default() };
                    });
                }
                Output::Stop { node, drain } => {
                    self.order(node, after, |orders| orders.stop = Some(drain));
                }
                Output::Retire { node } => {
                    self.order(node, after, |orders| orders.retire = true);
                    self.controls.remove(&node);
                }
                Output::Record { path, what } => {
                    let entry = Entry { at: self.now, path, what };
                    after.said.push(entry.clone());
                    self.history.record(entry);
                }
            }
        }
    }

    fn order(&self, node: NodeId, after: &mut Aftermath, change: impl FnOnce(&mut Orders)) {
        if let Some(control) = self.controls.get(&node) {
            control.order(change);
            after.wake.push(control.clone());
        }
    }
}

fn say(entry: &Entry) {
    let (path, what) = (&*entry.path, &entry.what);
    match what {
        What::GaveUp { cause } => {
            let chain: Vec<String> = cause.chain().map(ToString::to_string).collect();
            tracing::error!(path, chain = chain.join("; because "), "supervisor gave up");
        }
        What::Panicked { message } => tracing::error!(path, %message, "actor panicked"),
        What::Overdue | What::Lost | What::Restarting { .. } => tracing::warn!(path, ?what),
        _ => tracing::debug!(path, ?what),
    }
}
