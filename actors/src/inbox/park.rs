//! Requests that are not opened while the replies of their session wait for their requester (S7).
//!
//! ```text
//!   queue ──► pump ──► handler ──► reply ──► so many bytes unreceived: `replies_bytes`
//!     ▲         └─ a request of such a session: parked, and what follows it in its class
//!     └──────────── its replies have gone: back to the front of its queue, in order (S1)
//! ```
//!
//! Replies go by the link alone and wait for no handler, so neither do parked requests: two nodes
//! whose handlers ask each other do not stand still. Other sessions are not held up, nor are other
//! classes, nor messages that nothing parked is before.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Weak};

use stellate_protocol::Class;
use stellate_protocol::directory::SessionKey;

use super::{Arrived, Batch, Inbox, InboxState};
use crate::shared::lock;

type Place = (SessionKey, usize);

/// What is parked, by session and class; bounded by the windows of the sessions.
#[derive(Debug, Default)]
pub(super) struct Parked(BTreeMap<Place, VecDeque<Arrived>>);

impl Parked {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.values().map(VecDeque::len).sum()
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = Arrived> + use<> {
        std::mem::take(&mut self.0).into_values().flatten()
    }

    /// Whether `next` has to wait.
    #[inline]
    pub(super) fn stops(&self, next: &Arrived, inbox: &Weak<Inbox>) -> bool {
        let behind = !self.0.is_empty() && self.0.contains_key(&place(next));
        behind || (next.must_wait() && next.session.wait_for_replies(inbox))
    }

    /// Whether any of them may have to wait.
    pub(super) fn stops_any<'a>(&self, mut next: impl Iterator<Item = &'a Arrived>) -> bool {
        !self.0.is_empty() || next.any(Arrived::must_wait)
    }

    /// Takes the first `count` messages off `queue`: each goes `into` the batch or is parked. How
    /// many went.
    pub(super) fn take_over(
        &mut self,
        queue: &mut VecDeque<Arrived>,
        count: usize,
        inbox: &Weak<Inbox>,
        into: &mut Batch,
    ) -> usize {
        let before = into.messages.len();
        for arrived in queue.drain(..count) {
            if self.stops(&arrived, inbox) {
                self.park(arrived);
            } else {
                into.messages.push_back(arrived);
            }
        }
        into.messages.len() - before
    }

    pub(super) fn park(&mut self, arrived: Arrived) {
        self.0.entry(place(&arrived)).or_default().push_back(arrived);
    }
}

fn place(arrived: &Arrived) -> Place {
    (arrived.session.key(), arrived.class().index())
}

impl Arrived {
    /// Whether it is a request of a session whose replies wait: then it is given back with
    /// [`Inbox::put_back`], not opened.
    #[inline]
    pub fn must_wait(&self) -> bool {
        self.is_request() && self.session.replies_are_full()
    }
}

impl Inbox {
    /// Takes back what was taken out and not handed out, before all that waits. Once its actor is
    /// gone for good it takes nothing.
    pub fn put_back(&self, batch: &mut Batch) {
        let mut state = lock(&self.state);
        if state.closed {
            return;
        }
        while let Some(notice) = batch.notices.pop_back() {
            state.notices.push_front(notice);
        }
        while let Some(arrived) = batch.messages.pop_back() {
            state.push_front(arrived);
        }
    }

    /// The replies of that session have gone: what waited for them is next.
    pub(crate) fn unpark(&self, key: SessionKey) {
        let mut state = lock(&self.state);
        for class in Class::ALL {
            let mut parked = state.parked.0.remove(&(key, class.index())).unwrap_or_default();
            while let Some(arrived) = parked.pop_back() {
                state.push_front(arrived);
            }
        }
        drop(state);
        self.waker.wake();
    }
}

impl InboxState {
    fn push_front(&mut self, arrived: Arrived) {
        self.messages += 1;
        self.queues[arrived.class().index()].push_front(arrived);
    }
}

/// Inboxes that have something of one session parked.
#[derive(Debug, Default)]
pub(crate) struct Parkers(Vec<Weak<Inbox>>);

impl Parkers {
    pub(crate) fn add(&mut self, inbox: &Weak<Inbox>) {
        if !self.0.iter().any(|known| known.ptr_eq(inbox)) {
            self.0.push(inbox.clone());
        }
    }

    pub(crate) fn unpark(self, key: SessionKey) {
        for inbox in self.0.iter().filter_map(Weak::upgrade) {
            Arc::as_ref(&inbox).unpark(key);
        }
    }
}
