//! The owner of devices and of all that completes on them: one task that polls, and hands batches
//! to links.
//!
//! ```text
//!   CM events ────┐                  ┌─► dials, listeners
//!   async events ─┼─► Endpoint::poll ┼─► inbox of a link: its completions of this turn, one wake-up
//!   completions ──┘   ▲              └─► dying queue pairs: what came home
//!                     └─ nothing left: arm, look again, only then sleep
//! ```
//!
//! One lock guards the tables. Links take it to be buried, and to ask for a wake-up or a look when they
//! begin to wait for what they sent; not for each SEND, nor to receive. When the endpoint dies
//! everything on it is over at once: queue pairs are destroyed, so every buffer is home, and links and
//! listeners report it.

mod connect;
mod looks;
mod nic;
mod pairs;
mod turn;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use self::connect::{Dial, Listening};
use self::looks::Looks;
use self::nic::Nic;
use self::pairs::Pair;
use super::interest::{Interest, LATE, Wish};
use super::link::RdmaLink;
use super::options::RdmaOptions;
use super::pool::{Lease, PoolUse};
use super::verbs::{CmId, Completion, EventChannel, QpTag, Verbs, VerbsError, VerbsErrorKind};
use crate::address::Address;
use crate::error::{AcceptError, DialError, ListenError};
use crate::fault::LinkFault;

/// Completions taken from one queue, or events from one source, in one turn.
const TURN: usize = 64;
/// Turns that find nothing in one poll of the endpoint: then others get theirs.
const LOOKS: usize = 8;

/// See the module.
#[derive(Debug)]
pub(super) struct Endpoint {
    verbs: Arc<dyn Verbs>,
    channel: Arc<dyn EventChannel>,
    options: Arc<RdmaOptions>,
    /// Who waits for what was sent.
    pub(super) interest: Arc<Interest>,
    core: Mutex<Core>,
}

/// What an identifier is for.
#[derive(Debug)]
enum Owner {
    Dial(u64),
    Pair(QpTag),
    Listener(u64),
}

#[derive(Debug)]
struct Core {
    dead: bool,
    nics: BTreeMap<String, Nic>,
    pairs: BTreeMap<u32, Pair>,
    owners: BTreeMap<CmId, Owner>,
    dials: BTreeMap<u64, Dial>,
    listeners: BTreeMap<u64, Listening>,
    tags: u32,
    numbers: u64,
    origin: Instant,
    /// When to look at what.
    looks: Looks,
    /// The endpoint's own task.
    task: Option<Waker>,
    /// Whom to wake, and what to drop, once the lock is released.
    wakes: Vec<Waker>,
    #[allow(clippy::vec_box)] // They are boxed where they come from.
    dropped: Vec<Box<RdmaLink>>,
    scratch: Vec<Completion>,
    received: Vec<Completion>,
}

/// What an endpoint has at the moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointUse {
    /// Queue pairs, those that are being buried too.
    pub queue_pairs: usize,
    /// Connection identifiers, those of listeners too.
    pub identifiers: usize,
    /// Places taken in completion queues.
    pub cq_places: u32,
    /// By device.
    pub pools: BTreeMap<String, PoolUse>,
}

fn no_endpoint() -> VerbsError {
    VerbsError::new("rdma", VerbsErrorKind::NoEndpoint)
}

impl Endpoint {
    pub(super) fn open(
        verbs: Arc<dyn Verbs>,
        options: Arc<RdmaOptions>,
    ) -> Result<Arc<Self>, VerbsError> {
        let channel = verbs.event_channel()?;
        let core = Core {
            dead: false,
            nics: BTreeMap::new(),
            pairs: BTreeMap::new(),
            owners: BTreeMap::new(),
            dials: BTreeMap::new(),
            listeners: BTreeMap::new(),
            tags: 0,
            numbers: 0,
            origin: Instant::now(),
            looks: Looks::new(),
            task: None,
            wakes: Vec::new(),
            dropped: Vec::new(),
            scratch: Vec::new(),
            received: Vec::new(),
        };
        let interest = Arc::default();
        Ok(Arc::new(Self { verbs, channel, options, interest, core: Mutex::new(core) }))
    }

    pub(super) fn options(&self) -> &Arc<RdmaOptions> {
        &self.options
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the tables; wakes and drops what that brings outside of the lock.
    fn change<T>(&self, with: impl FnOnce(&mut Core) -> T) -> T {
        let mut core = self.core();
        let result = with(&mut core);
        let wakes = core.take_wakes();
        let dropped = std::mem::take(&mut core.dropped);
        drop(core);
        wakes.into_iter().for_each(Waker::wake);
        drop(dropped);
        result
    }

    pub(super) fn is_dead(&self) -> bool {
        self.core().dead
    }

    pub(super) fn in_use(&self) -> EndpointUse {
        let core = self.core();
        EndpointUse {
            queue_pairs: core.pairs.len(),
            identifiers: core.owners.len(),
            cq_places: core.nics.values().flat_map(|nic| &nic.queues).map(nic::Queue::taken).sum(),
            pools: core.nics.iter().map(|(name, nic)| (name.clone(), nic.pool.in_use())).collect(),
        }
    }

    /// Memory of the first device that has some; devices are opened by links, not by this.
    pub(super) fn lease(&self, len: usize) -> Option<Lease> {
        let pools: Vec<_> = self.core().nics.values().map(|nic| nic.pool.clone()).collect();
        pools.iter().find_map(|pool| pool.lease(len))
    }

    pub(super) fn dial(&self, to: SocketAddr) -> Result<u64, DialError> {
        self.change(|core| match core.dead {
            true => Err(DialError::Verbs(no_endpoint())),
            false => core.start_dial(self, to),
        })
    }

    pub(super) fn poll_dial(
        &self,
        number: u64,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Box<RdmaLink>, DialError>> {
        let mut core = self.core();
        let Some(dial) = core.dials.get_mut(&number) else {
            return Poll::Ready(Err(DialError::Verbs(no_endpoint())));
        };
        match dial.outcome.take() {
            Some(outcome) => {
                core.dials.remove(&number);
                Poll::Ready(outcome)
            }
            None => {
                dial.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    pub(super) fn give_up(&self, number: u64) {
        let link = self.change(|core| core.give_up(self, number));
        drop(link);
    }

    pub(super) fn listen(&self, at: SocketAddr) -> Result<(u64, Address), ListenError> {
        self.change(|core| match core.dead {
            true => Err(ListenError::Verbs(no_endpoint())),
            false => core.start_listening(self, at),
        })
    }

    pub(super) fn poll_accept(
        &self,
        number: u64,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Box<RdmaLink>, AcceptError>> {
        let mut core = self.core();
        let Some(listening) = core.listeners.get_mut(&number) else {
            let gone = AcceptError::Fatal(std::io::ErrorKind::NotConnected, None);
            return Poll::Ready(Err(gone));
        };
        match listening.links.pop_front() {
            Some(link) => Poll::Ready(Ok(link)),
            None => {
                listening.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    pub(super) fn stop_listening(&self, number: u64) {
        let links = self.change(|core| core.stop_listening(self, number));
        drop(links);
    }

    /// A link is over.
    pub(super) fn bury(&self, tag: QpTag) {
        self.change(|core| core.bury(self, tag));
    }

    /// Everything is over at once.
    pub(super) fn kill(&self) {
        self.change(|core| {
            if std::mem::replace(&mut core.dead, true) {
                return;
            }
            let tags: Vec<u32> = core.pairs.keys().copied().collect();
            for tag in tags {
                core.lose(self, QpTag(tag), LinkFault::EndpointGone);
            }
            let dials: Vec<u64> = core.dials.keys().copied().collect();
            for number in dials {
                core.dial_over(number, Err(DialError::Verbs(no_endpoint())));
            }
            let listeners: Vec<u64> = core.listeners.keys().copied().collect();
            for number in listeners {
                let links = core.stop_listening(self, number);
                core.dropped.extend(links);
            }
            for id in std::mem::take(&mut core.owners).into_keys() {
                self.channel.destroy_id(id);
            }
            for nic in std::mem::take(&mut core.nics).into_values() {
                nic.pool.retire();
            }
            core.wakes.extend(core.task.take());
        });
    }

    /// Does what is to be done, a bounded amount, and sleeps if that was all. Ready when the
    /// endpoint is dead.
    pub(super) fn poll(
        self: &Arc<Self>,
        cx: &mut Context<'_>,
        sleep: &mut Option<Pin<Box<Sleep>>>,
    ) -> Poll<()> {
        let mut due = self.wake_up(cx, sleep);
        for _ in 0..LOOKS {
            if self.is_dead() {
                return Poll::Ready(());
            }
            match self.turn(cx, std::mem::take(&mut due)) {
                Err(error) => {
                    tracing::error!(%error, "the RDMA endpoint lost its events and ends");
                    self.kill();
                    return Poll::Ready(());
                }
                Ok(true) => {
                    // Its links are next: that it asks for a wake-up would keep them.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Ok(false) => {}
            }
            if self.spins() {
                std::hint::spin_loop();
            } else if self.arm(cx) {
                break;
            } else if self.sleep(cx, sleep) {
                // It may be a deadline that has come.
                due = true;
            } else {
                return Poll::Pending;
            }
        }
        if self.spins() {
            let mut core = self.core();
            let now = core.now();
            core.looks.quiet(now, self.options.spin);
            drop(core);
            // Should the peer, or the kernel for either, want this very core.
            std::thread::yield_now();
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Takes what woke this away, before it asks to be woken again: else that would look like news.
    /// Whether deadlines may be due.
    fn wake_up(&self, cx: &mut Context<'_>, sleep: &mut Option<Pin<Box<Sleep>>>) -> bool {
        let mut core = self.core();
        match &mut core.task {
            Some(task) => task.clone_from(cx.waker()),
            None => core.task = Some(cx.waker().clone()),
        }
        for queue in core.nics.values().flat_map(|nic| &nic.queues) {
            for cq in [&queue.cqs.sent, &queue.cqs.received] {
                // Whether there were any: the turn that follows looks in any case.
                let _ = cq.poll_readable(cx);
            }
        }
        // Also when there is so much to do that it never sleeps.
        let fired = sleep.as_mut().is_some_and(|sleep| sleep.as_mut().poll(cx).is_ready());
        core.looks.begin(fired)
    }

    /// One turn over all sources; whether anything was done. `due`: deadlines may be, too.
    ///
    /// A look at a completion queue is a look at memory, while asking for events is a call of the
    /// kernel each: those that are rare are asked for when the reactor says that there are some. So is
    /// the time.
    fn turn(self: &Arc<Self>, cx: &mut Context<'_>, due: bool) -> Result<bool, VerbsError> {
        let mut worked = false;
        if self.channel.poll_readable(cx).is_ready() {
            for _ in 0..TURN {
                let Some(event) = self.channel.next_event()? else { break };
                worked = true;
                self.change(|core| core.on_cm_event(self, event));
            }
        }
        let worked = self.change(|core| {
            let origin = core.origin;
            let due = due && core.looks.is_due(|| origin.elapsed());
            if due {
                core.check_deadlines(self);
                if self.interest.looked() {
                    let late = core.looks.next_late();
                    core.wake_at(core.now() + late);
                }
            }
            worked |= core.turn(self, cx);
            if worked {
                core.looks.busy();
            }
            worked || due
        });
        Ok(worked)
    }

    fn spins(&self) -> bool {
        let core = self.core();
        !self.options.spin.is_zero() && !core.nics.is_empty() && !core.looks.is_resting()
    }

    /// Asks for wake-ups, then looks whether something completed meanwhile.
    fn arm(self: &Arc<Self>, cx: &mut Context<'_>) -> bool {
        self.change(|core| {
            let mut broken = Vec::new();
            for (name, nic) in &core.nics {
                if nic.queues.iter().any(|queue| queue.arm(self.interest.waits()).is_err()) {
                    broken.push(name.clone());
                }
            }
            for name in &broken {
                core.lose_device(self, name);
            }
            core.turn(self, cx) || !broken.is_empty()
        })
    }

    /// Sleeps until something happens; true if it has already.
    fn sleep(&self, cx: &mut Context<'_>, sleep: &mut Option<Pin<Box<Sleep>>>) -> bool {
        self.change(|core| {
            let mut ready = self.channel.poll_readable(cx).is_ready();
            for nic in core.nics.values() {
                ready |= nic.device.poll_async_readable(cx).is_ready();
                for queue in &nic.queues {
                    ready |= queue.cqs.sent.poll_readable(cx).is_ready();
                    ready |= queue.cqs.received.poll_readable(cx).is_ready();
                }
            }
            let Some(alarm) = core.looks.alarm() else {
                *sleep = None;
                return ready;
            };
            let due = core.origin + alarm;
            match sleep {
                Some(sleep) if sleep.deadline() == due => {}
                Some(sleep) => sleep.as_mut().reset(due),
                None => *sleep = Some(Box::pin(tokio::time::sleep_until(due))),
            }
            ready | sleep.as_mut().is_some_and(|sleep| sleep.as_mut().poll(cx).is_ready())
        })
    }

    /// Does what a link wishes of it.
    pub(super) fn grant(&self, wish: Wish) {
        match wish {
            Wish::Nothing => {}
            Wish::Wake => self.change(|core| core.wakes.extend(core.task.take())),
            Wish::Look => self.change(|core| {
                core.looks.soon();
                core.wake_at(core.now() + LATE);
            }),
        }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Core {
    /// Time on the endpoint's clock.
    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Looks at deadlines at that time, at the latest.
    fn wake_at(&mut self, at: Duration) {
        if self.looks.wake_at(at) {
            self.wakes.extend(self.task.take());
        }
    }

    /// The device of that name, opened if it is not.
    fn nic(&mut self, endpoint: &Endpoint, name: &str) -> Result<&mut Nic, VerbsError> {
        if !self.nics.contains_key(name) {
            let nic = Nic::open(&*endpoint.verbs, name, &endpoint.options)?;
            self.nics.insert(name.to_owned(), nic);
        }
        let gone = || VerbsError::new("ibv_open_device", VerbsErrorKind::DeviceGone);
        self.nics.get_mut(name).ok_or_else(gone)
    }
}
