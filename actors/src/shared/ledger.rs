//! The ledger: what was handed out, opened and done, exact at the end (S4) and alive after a panic
//! of the session's actor.

use std::sync::atomic::{AtomicU64, Ordering};

use stellate_protocol::event::ClassCounts;
use stellate_protocol::limits::window_cost;
use stellate_protocol::{Class, Lane};

use super::{SessionShared, lock};

/// Counts that must be exact at the end (S4), one per lane.
#[derive(Debug, Default)]
pub(crate) struct LaneLedger {
    /// Messages given to the dispatch queue.
    pub(super) handed: AtomicU64,
    /// Messages handed to handlers; the top bit seals it.
    pub(super) opened: AtomicU64,
    pub(super) done: AtomicU64,
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
pub(super) const SEALED: u64 = 1 << 63;

impl SessionShared {
    /// A handler is about to get a message of this lane. False: the session ended, discard it.
    pub(crate) fn open(&self, lane: Lane) -> bool {
        let opened = &self.ledger[lane.index()].opened;
        let opening = |value: u64| (value & SEALED == 0).then_some(value + 1);
        opened.fetch_update(Ordering::AcqRel, Ordering::Acquire, opening).is_ok()
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

    /// A message is done: its window is free.
    pub(crate) fn done(&self, lane: Lane, front_len: u32, data_len: u32, pulled: bool) {
        let ledger = &self.ledger[lane.index()];
        ledger.cost.fetch_add(window_cost(front_len, data_len), Ordering::Relaxed);
        if pulled {
            ledger.pulled.fetch_add(u64::from(data_len), Ordering::Relaxed);
        }
        ledger.done.fetch_add(1, Ordering::Release);
        self.wake();
    }

    /// What the ledgers of the message lanes say now.
    pub(crate) fn read_ledger(&self) -> [Entries; Lane::COUNT] {
        let mut entries = [Entries::default(); Lane::COUNT];
        for lane in Lane::all().filter(|lane| !lane.is_replies()) {
            let ledger = &self.ledger[lane.index()];
            entries[lane.index()] = Entries { sums: ledger.read(), in_hand: ledger.in_hand() };
        }
        entries
    }

    /// No message of the session is opened from now on; returns how many were, per lane.
    pub(crate) fn seal(&self) -> [u64; Lane::COUNT] {
        std::array::from_fn(|index| {
            self.ledger[index].opened.fetch_or(SEALED, Ordering::AcqRel) & !SEALED
        })
    }

    /// A message of that lane goes to the dispatch queue.
    pub(crate) fn note_handed(&self, lane: Lane) {
        self.ledger[lane.index()].handed.fetch_add(1, Ordering::Relaxed);
    }

    /// What the ledger alone knows at the end: the session's actor is gone. Seals it.
    pub(crate) fn ledger_counts(&self) -> [ClassCounts; Class::COUNT] {
        let opened = self.seal();
        let outbox = lock(&self.outbox);
        Class::ALL.map(|class| {
            let lane = Lane::messages(class).index();
            let accepted = outbox.positions[class.index()] - outbox.staged_in(class);
            let unacked = accepted - outbox.received[class.index()];
            ClassCounts {
                unacked,
                unacked_sent: unacked,
                undelivered: self.ledger[lane].handed.load(Ordering::Relaxed) - opened[lane],
                peer_delivered: None,
            }
        })
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
            self.opened.load(Ordering::Acquire) & !SEALED,
            done,
            self.cost.load(Ordering::Acquire),
            self.pulled.load(Ordering::Acquire),
        ]
    }
}
