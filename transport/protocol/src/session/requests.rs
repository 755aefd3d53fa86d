//! Open requests and notifies of one session: the third budget, at the requester.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Session;
use super::timers::{Silent, Timer};
use crate::class::Lane;
use crate::event::{Ask, CallResult, Fate, Output};
use crate::frame::{Call, Payload};
use crate::id::{RequestId, Time};

/// One that has no answer yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Open {
    lane: Lane,
    position: u64,
}

/// The open ones, and when they are due.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Requests {
    /// By id. These ascend and most end in their order: the ends are where things change.
    open: VecDeque<(RequestId, Open)>,
    deadline: Silent<BTreeMap<RequestId, Time>>,
    by_deadline: Silent<BTreeSet<(Time, RequestId)>>,
}

impl Requests {
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    pub(crate) fn open(&mut self, id: RequestId, lane: Lane, position: u64, due: Option<Time>) {
        let place = self.open.partition_point(|(known, _)| *known < id);
        self.open.insert(place, (id, Open { lane, position }));
        if let Some(due) = due {
            self.deadline.insert(id, due);
            self.by_deadline.insert((due, id));
        }
    }

    pub(crate) fn is_open(&self, id: RequestId) -> bool {
        self.find(id).is_ok()
    }

    pub(crate) fn due(&self, id: RequestId) -> Option<Time> {
        self.deadline.get(&id).copied()
    }

    /// How a request goes onto a link now: with the time that it has left.
    pub(crate) fn as_sent(&self, now: Time, id: RequestId) -> Call {
        if !self.is_open(id) {
            // The requester gave up meanwhile: it keeps its place, but nobody should handle it.
            return Call::Request { id, ttl_ms: Some(0) };
        }
        // Rounded up: a request that has time left is not told to be over.
        let left = self.due(id).map(|due| due.since(now).as_nanos().div_ceil(1_000_000));
        let ttl_ms = left.map(|left| u32::try_from(left).unwrap_or(u32::MAX));
        Call::Request { id, ttl_ms }
    }

    /// Takes it out; false if it was not open.
    pub(crate) fn resolve(&mut self, id: RequestId) -> bool {
        if !self.deadline.is_empty()
            && let Some(due) = self.deadline.remove(&id)
        {
            self.by_deadline.remove(&(due, id));
        }
        let found = self.find(id);
        found.is_ok_and(|place| self.open.remove(place).is_some())
    }

    fn find(&self, id: RequestId) -> Result<usize, usize> {
        self.open.binary_search_by_key(&id, |(known, _)| *known)
    }

    pub(crate) fn forget(&mut self, id: RequestId) {
        self.resolve(id);
    }

    pub(crate) fn next_due(&self) -> Option<(Time, RequestId)> {
        self.by_deadline.first().copied()
    }

    fn drain(&mut self) -> VecDeque<(RequestId, Open)> {
        self.deadline.clear();
        self.by_deadline.clear();
        std::mem::take(&mut self.open)
    }
}

impl<P: Payload> Session<P> {
    /// Books what `ask` needs. False if `requests_max` are open.
    pub(super) fn book(&mut self, now: Time, ask: Ask, lane: Lane, position: u64) -> bool {
        let (id, span) = match ask {
            Ask::Nothing => return true,
            Ask::Notify(id) => (id, None),
            Ask::Request(id, span) => (id, span),
        };
        if self.requests.len() >= self.config.limits.requests_max as usize
            || self.requests.is_open(id)
        {
            return false;
        }
        let due = span.map(|nanos| now.after(std::time::Duration::from_nanos(nanos)));
        self.requests.open(id, lane, position, due);
        self.arm_request_timer();
        true
    }

    fn arm_request_timer(&mut self) {
        match self.requests.next_due() {
            Some((due, _)) => self.timers.arm(Timer::Request, due),
            None => self.timers.disarm(Timer::Request),
        }
    }

    /// Times out what is due. The model's clock has no due times: there the first one goes.
    pub(super) fn on_request_due(&mut self, now: Time, forced: bool) {
        let mut forced = forced;
        while let Some((due, id)) = self.requests.next_due() {
            if due > now && !forced {
                break;
            }
            forced = false;
            self.requests.resolve(id);
            self.emit(Output::Outcome { id, result: CallResult::Timeout });
        }
        self.arm_request_timer();
    }

    /// The session is over: every open request learns its fate.
    pub(super) fn end_requests(&mut self) {
        for (id, open) in self.requests.drain() {
            let sent = self.send[open.lane.index()].was_sent(open.position).unwrap_or(true);
            let fate = if sent { Fate::MaybeHandled } else { Fate::NotSent };
            self.emit(Output::Outcome { id, result: CallResult::SessionEnded(fate) });
        }
    }
}
