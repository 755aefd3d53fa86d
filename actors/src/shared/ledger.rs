//! The ledger: what was handed out, opened and done, exact at the end (S4) and alive after a panic
//! of the session's actor.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use stellate_protocol::event::{ClassCounts, Settled};
use stellate_protocol::limits::window_cost;
use stellate_protocol::{Class, Lane, LaneSet};

use super::{SessionShared, lock};
use crate::inbox::Arrived;

/// Counts that must be exact at the end (S4), one per lane.
#[derive(Debug, Default)]
pub(crate) struct LaneLedger {
    /// Messages that the session owns, handed out or not.
    pub(super) owned: AtomicU64,
    /// Messages given to the dispatch queue.
    handed: AtomicU64,
    /// Messages handed to handlers; the top bit seals it.
    pub(super) opened: AtomicU64,
    pub(super) done: AtomicU64,
    /// Those of the done that no handler got: they were expired, or nobody handles their type.
    skipped: AtomicU64,
    pub(super) cost: AtomicU64,
    pub(super) pulled: AtomicU64,
    /// Requests that were opened, and those of them that are done, with their costs: what is
    /// between is in hand and holds no window.
    asked: AtomicU64,
    asked_cost: AtomicU64,
    answered: AtomicU64,
    answered_cost: AtomicU64,
}

/// What one lane's ledger said at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Entries {
    /// As [`LaneLedger::read`].
    pub(crate) sums: [u64; 4],
    /// As [`LaneLedger::in_hand`].
    pub(crate) in_hand: (u64, u64),
}

/// Set in [`LaneLedger::opened`] when the session has ended: nothing of it is opened any more.
const SEALED: u64 = 1 << 63;
/// Set there while the session waits for openings: whoever opens wakes it.
const WATCHED: u64 = 1 << 62;
const MARKS: u64 = SEALED | WATCHED;

impl SessionShared {
    /// A handler is about to get a message of this lane. False: the session ended, discard it.
    pub(crate) fn open(&self, lane: Lane) -> bool {
        let opened = &self.ledger[lane.index()].opened;
        let opening = |value: u64| (value & SEALED == 0).then_some(value + 1);
        match opened.fetch_update(Ordering::AcqRel, Ordering::Acquire, opening) {
            Ok(before) => {
                if before & WATCHED != 0 {
                    self.wake();
                }
                true
            }
            Err(_) => false,
        }
    }

    /// Openings wake the session from now on: its end waits for them.
    pub(crate) fn watch_openings(&self) {
        for ledger in &self.ledger {
            ledger.opened.fetch_or(WATCHED, Ordering::AcqRel);
        }
    }

    /// A request of this lane was opened: it is in hand.
    pub(crate) fn take_in_hand(&self, lane: Lane, front_len: u32, data_len: u32) {
        let ledger = &self.ledger[lane.index()];
        let cost = window_cost(front_len, data_len);
        ledger.asked_cost.fetch_add(cost, Ordering::Relaxed);
        ledger.asked.fetch_add(1, Ordering::Release);
        self.wake();
    }

    /// A request that was in hand is done.
    pub(crate) fn out_of_hand(&self, lane: Lane, front_len: u32, data_len: u32) {
        let ledger = &self.ledger[lane.index()];
        let cost = window_cost(front_len, data_len);
        ledger.answered_cost.fetch_add(cost, Ordering::Relaxed);
        ledger.answered.fetch_add(1, Ordering::Release);
        self.wake();
    }

    /// A message of this lane is about to be done, and no handler got it.
    pub(crate) fn skip(&self, lane: Lane) {
        self.ledger[lane.index()].skipped.fetch_add(1, Ordering::Release);
    }

    /// Messages are done: their window is free.
    fn settle(&self, done: Settled) {
        let ledger = &self.ledger[done.lane.index()];
        ledger.cost.fetch_add(done.cost, Ordering::Relaxed);
        if done.pulled > 0 {
            ledger.pulled.fetch_add(done.pulled, Ordering::Relaxed);
        }
        ledger.done.fetch_add(done.messages, Ordering::Release);
        self.wake();
    }

    /// What the ledgers of those message lanes say now, by class; nothing of the others.
    #[inline]
    pub(crate) fn read_ledger(&self, lanes: LaneSet) -> [Entries; Class::COUNT] {
        let mut entries = [Entries::default(); Class::COUNT];
        for lane in lanes {
            let ledger = &self.ledger[lane.index()];
            entries[lane.class().index()] =
                Entries { sums: ledger.read(), in_hand: ledger.in_hand() };
        }
        entries
    }

    /// No message of the session is opened from now on; returns how many were, per lane.
    pub(crate) fn seal(&self) -> [u64; Lane::COUNT] {
        std::array::from_fn(|index| {
            self.ledger[index].opened.fetch_or(SEALED, Ordering::AcqRel) & !MARKS
        })
    }

    /// The session owns so many messages of the class.
    #[inline]
    pub(crate) fn note_owned(&self, class: Class, owned: u64) {
        self.ledger[Lane::messages(class).index()].owned.store(owned, Ordering::Relaxed);
    }

    /// These messages go to the dispatch queue.
    pub(crate) fn note_handed(&self, messages: &[Arrived]) {
        for run in messages.chunk_by(|one, next| one.lane() == next.lane()) {
            let handed = &self.ledger[run[0].lane().index()].handed;
            handed.fetch_add(run.len() as u64, Ordering::Relaxed);
        }
    }

    /// Messages that were given to the dispatch queue and no handler has got, and those that
    /// handlers have and are not done with.
    pub(crate) fn unopened_and_in_hand(&self) -> (u64, u64) {
        let lanes = self.ledger.iter().map(|ledger| {
            // In this order none is negative but by what happens in between.
            let done = ledger.done.load(Ordering::Acquire);
            let skipped = ledger.skipped.load(Ordering::Acquire);
            let opened = ledger.opened.load(Ordering::Acquire) & !MARKS;
            let handed = ledger.handed.load(Ordering::Acquire);
            (handed.saturating_sub(opened + skipped), (opened + skipped).saturating_sub(done))
        });
        lanes.fold((0, 0), |sum, lane| (sum.0 + lane.0, sum.1 + lane.1))
    }

    /// What the ledger alone knows at the end: the session's actor is gone. Seals it.
    pub(crate) fn ledger_counts(&self) -> [ClassCounts; Class::COUNT] {
        let opened = self.seal();
        let outbox = lock(&self.outbox);
        Class::ALL.map(|class| {
            let lane = Lane::messages(class).index();
            let accepted = outbox.positions[class.index()] - outbox.staged_in(class);
            let unacked = accepted.saturating_sub(outbox.gone[class.index()]);
            ClassCounts {
                unacked,
                unacked_sent: unacked,
                undelivered: self.ledger[lane]
                    .owned
                    .load(Ordering::Relaxed)
                    .saturating_sub(opened[lane]),
                peer_delivered: None,
            }
        })
    }
}

/// A message is done: its window is free, at once or [`together`] with others.
pub(crate) fn done(session: &Arc<SessionShared>, lane: Lane, cost: u64, pulled: u64) {
    let one = Settled { lane, messages: 1, cost, pulled };
    // A thread that is torn down has nowhere to collect.
    let late = TOGETHER.try_with(|together| together.borrow_mut().add(session, one));
    match late {
        Ok(None) => {}
        Ok(Some((session, done))) => session.settle(done),
        Err(_) => session.settle(one),
    }
}

/// Messages that are done before they are told of: a slow handler must not keep the windows of
/// many in one hand.
const TOGETHER_MAX: u64 = 16;

thread_local! {
    static TOGETHER: RefCell<Together> = const { RefCell::new(Together { on: false, sum: None }) };
}

/// Messages of one lane, handled one after the other, that are told of in one go.
struct Together {
    on: bool,
    sum: Option<(Arc<SessionShared>, Settled)>,
}

impl Together {
    /// Takes one in; what is to be told of now.
    #[inline]
    fn add(
        &mut self,
        session: &Arc<SessionShared>,
        one: Settled,
    ) -> Option<(Arc<SessionShared>, Settled)> {
        if let Some((known, sum)) = &mut self.sum
            && Arc::ptr_eq(known, session)
            && sum.lane == one.lane
        {
            sum.messages += 1;
            sum.cost += one.cost;
            sum.pulled += one.pulled;
            return if sum.messages >= TOGETHER_MAX { self.sum.take() } else { None };
        }
        let one = (session.clone(), one);
        if self.on { self.sum.replace(one) } else { Some(one) }
    }
}

/// While it lives, messages that are done on this thread are told of a few at a time: counting
/// each for itself costs as much as a quick handler. Dropping it tells of the rest.
#[must_use = "dropping it ends it"]
pub struct DoneTogether(());

/// See [`DoneTogether`]. One within another has no effect of its own.
pub fn done_together() -> DoneTogether {
    // While the thread is torn down each is told of for itself.
    let _ = TOGETHER.try_with(|together| together.borrow_mut().on = true);
    DoneTogether(())
}

impl Drop for DoneTogether {
    fn drop(&mut self) {
        let rest = TOGETHER.try_with(|together| {
            let mut together = together.borrow_mut();
            together.on = false;
            together.sum.take()
        });
        if let Ok(Some((session, done))) = rest {
            session.settle(done);
        }
    }
}

impl LaneLedger {
    /// Requests in hand and their cost. Never negative: what is done is read first.
    pub(crate) fn in_hand(&self) -> (u64, u64) {
        let answered = self.answered.load(Ordering::Acquire);
        let answered_cost = self.answered_cost.load(Ordering::Acquire);
        let asked = self.asked.load(Ordering::Acquire);
        let asked_cost = self.asked_cost.load(Ordering::Acquire);
        (asked.saturating_sub(answered), asked_cost.saturating_sub(answered_cost))
    }

    /// Opened, done, cost and pulled bytes so far. `done` is read first, so that the sums are at
    /// least those of the messages counted.
    pub(crate) fn read(&self) -> [u64; 4] {
        let done = self.done.load(Ordering::Acquire);
        [
            self.opened.load(Ordering::Acquire) & !MARKS,
            done,
            self.cost.load(Ordering::Acquire),
            self.pulled.load(Ordering::Acquire),
        ]
    }
}
