//! Inboxes: what waits in front of a user's actor.
//!
//! ```text
//!   SessionActor ─► DispatchQueue ─► Inbox (bounded, by class) ─► pump in the actor's context
//!                        ▲                │                            │ Handler<Incoming<M>>
//!                        └──── room ──────┘          Arrived dropped: done, window free
//! ```
//!
//! An inbox belongs to the messenger, not to the actor: it outlives the actor value and is attached
//! again on restart, so that what was not opened is delivered to the successor (S2). Events come
//! before messages; whose turn it is among those, what waits for replies to go, and that the order
//! within a class stays (S1), is decided by [`Queues`], of which this is the shell: lock and wakers.
//! Messages are bounded by `inbox_messages` and the windows behind it (S7). Events are merged where
//! a later one says it all, and a session can cause no more of them than its peer was sent messages;
//! no session begins while `events_max` of them wait, or `events_bytes` of what they give back, so
//! the ends of short ones are bounded too.

mod batch;
mod notice;
mod park;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};

pub use batch::Batch;
pub use notice::{AdmissionAsk, Notice};
use stellate_protocol::directory::SessionKey;
use stellate_protocol::event::Delivery;
use stellate_protocol::frame::{Call, Message, Outcome, UndeliverableReason};
use stellate_protocol::inbox::Queues;
use stellate_protocol::limits::window_cost;
use stellate_protocol::{Class, Lane, Parcel, Payload, RequestId, Seq};

pub(crate) use park::Parkers;

pub use crate::shared::{DoneTogether, done_together};
use crate::shared::{SessionShared, Staged, done, lock};
use crate::supervise::is_abandoning;

/// A message in front of a handler. Dropping it is being done with it: its window is free, and a
/// request or notify that has no answer yet gets one.
#[derive(Debug)]
pub struct Arrived {
    session: Arc<SessionShared>,
    lane: Lane,
    seq: Seq,
    owed: Owed,
    pulled: bool,
    /// When it was received, in nanoseconds of the messenger's clock.
    at: u64,
    front_len: u32,
    data_len: u32,
    /// When a request's time is over, by the messenger's clock.
    expires: Option<NonZeroU64>,
    parcel: Option<Parcel>,
    opened: bool,
    answered: bool,
}

/// What the sender waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owed {
    Nothing,
    Handled(RequestId),
    Reply(RequestId),
}

impl Arrived {
    /// `now` in nanoseconds of the messenger's clock, for the time that a request has left.
    pub(crate) fn new(session: Arc<SessionShared>, delivery: Delivery<Parcel>, now: u64) -> Self {
        let Delivery { message, pulled } = delivery;
        let Message { lane, seq, call, payload } = message;
        let (owed, ttl_ms) = match call {
            Call::Request { id, ttl_ms } => (Owed::Reply(id), ttl_ms),
            Call::Notify { id } => (Owed::Handled(id), None),
            Call::OneWay | Call::Reply { .. } | Call::Rejected { .. } => (Owed::Nothing, None),
        };
        let expires = ttl_ms.map(|left| now.saturating_add(u64::from(left) * 1_000_000).max(1));
        Self {
            session,
            lane,
            seq,
            owed,
            pulled,
            at: now,
            front_len: payload.front_len(),
            data_len: payload.data_len(),
            expires: expires.and_then(NonZeroU64::new),
            parcel: Some(payload),
            opened: false,
            answered: false,
        }
    }

    /// The session it came on.
    pub fn session(&self) -> &Arc<SessionShared> {
        &self.session
    }

    /// Its class.
    pub fn class(&self) -> Class {
        self.lane.class()
    }

    /// Its lane.
    pub fn lane(&self) -> Lane {
        self.lane
    }

    /// Its place in its class.
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// Number of its type.
    pub fn kind(&self) -> u32 {
        self.parcel.as_ref().map_or(0, |parcel| parcel.kind)
    }

    /// Its bytes, until they are taken out.
    pub fn parcel(&self) -> Option<&Parcel> {
        self.parcel.as_ref()
    }

    /// Whether its sender waits for a reply.
    pub fn is_request(&self) -> bool {
        matches!(self.owed, Owed::Reply(_))
    }

    /// When its sender stops waiting, in nanoseconds of the messenger's clock.
    pub fn expires(&self) -> Option<u64> {
        self.expires.map(NonZeroU64::get)
    }

    /// Takes the bytes out, once, right before the handler is called; from here on it counts as
    /// delivered (S2). `None` if its session has ended: then discard it.
    pub fn open(&mut self) -> Option<Parcel> {
        if !self.opened {
            if !self.session.open(self.lane) {
                return None;
            }
            self.opened = true;
            if self.is_request() {
                let (front, data) = (self.front_len, self.data_len);
                self.session.take_in_hand(self.lane, front, data);
            }
        }
        self.parcel.take()
    }

    /// Answers a request; for anything else, or a second time, it does nothing and returns false.
    /// Never blocks: the requester has reserved the room.
    pub fn reply(&mut self, payload: Parcel) -> bool {
        match self.owed {
            Owed::Reply(id) if !self.answered => {
                self.answer(id, Outcome::Reply, payload);
                true
            }
            _ => false,
        }
    }

    /// The message cannot be handed to a handler: its sender learns why.
    pub fn reject(&mut self, reason: UndeliverableReason) {
        match self.owed {
            Owed::Reply(id) | Owed::Handled(id) if !self.answered => {
                self.answer(id, Outcome::Undeliverable(reason), Parcel::default());
            }
            Owed::Nothing if !self.answered => {
                self.answered = true;
                self.session.stage(Staged::Reject { lane: self.lane, seq: self.seq, reason });
            }
            _ => {}
        }
    }

    /// The requester's time is over: it is not handed out.
    pub fn expire(&mut self) {
        if let Owed::Reply(id) = self.owed
            && !self.answered
        {
            self.answer(id, Outcome::Expired, Parcel::default());
        }
    }

    fn answer(&mut self, id: RequestId, outcome: Outcome, payload: Parcel) {
        self.answered = true;
        let class = self.lane.class();
        self.session.note_reply(&payload);
        self.session.stage(Staged::Reply { class, id, outcome, payload });
    }
}

impl Drop for Arrived {
    fn drop(&mut self) {
        if !self.answered && self.opened {
            // Unwinding is not handled (S3), nor is what goes with an actor that was given up.
            let outcome = |well| match std::thread::panicking() || is_abandoning() {
                true => Outcome::HandlerPanicked,
                false => well,
            };
            match self.owed {
                Owed::Reply(id) => self.answer(id, outcome(Outcome::NoReply), Parcel::default()),
                Owed::Handled(id) => self.answer(id, outcome(Outcome::Handled), Parcel::default()),
                Owed::Nothing => {}
            }
        }
        if !self.opened {
            self.session.skip(self.lane);
        }
        let cost = window_cost(self.front_len, self.data_len);
        let pulled = if self.pulled { u64::from(self.data_len) } else { 0 };
        done(&self.session, self.lane, cost, pulled);
        if self.opened && self.is_request() {
            let (front, data) = (self.front_len, self.data_len);
            self.session.out_of_hand(self.lane, front, data);
        }
    }
}

/// What an actor's pump takes out.
#[derive(Debug)]
pub enum Item {
    /// Not a message.
    Notice(Notice),
    /// A message.
    Message(Arrived),
}

/// The bounded queue in front of one actor. Shared; its actor may live on any thread.
#[derive(Debug)]
pub struct Inbox {
    state: Mutex<InboxState>,
    name: Box<str>,
    me: Weak<Self>,
}

#[derive(Debug)]
struct InboxState {
    notices: VecDeque<Notice>,
    /// Bytes of messages that come back with them.
    notice_bytes: u64,
    messages: Queues<Arrived>,
    closed: bool,
    upstream: Vec<Waker>,
    /// Wakes the pump of the actor; stays registered.
    waker: Option<Waker>,
}

impl Inbox {
    /// An inbox that takes `messages_max` messages of each class.
    pub fn new(messages_max: u32) -> Arc<Self> {
        Self::named("", messages_max)
    }

    /// As [`new`](Self::new), in front of the actor of that name.
    pub fn named(name: &str, messages_max: u32) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            name: name.into(),
            state: Mutex::new(InboxState {
                notices: VecDeque::new(),
                notice_bytes: 0,
                messages: Queues::new(messages_max as usize),
                closed: false,
                upstream: Vec::new(),
                waker: None,
            }),
        })
    }

    /// Takes messages off `from` while there is room; whether all went. If not, `waker` is woken
    /// when there is room again.
    pub(crate) fn push_all(&self, from: &mut VecDeque<Arrived>, waker: &Waker) -> bool {
        let mut state = lock(&self.state);
        if state.closed {
            drop(state);
            refuse(from.drain(..));
            return true;
        }
        let was_empty = state.is_empty();
        state.messages.take_in(from);
        let wakes = was_empty && !state.is_empty();
        if !from.is_empty() && !state.upstream.iter().any(|known| known.will_wake(waker)) {
            state.upstream.push(waker.clone());
        }
        let pump = state.pump(wakes);
        drop(state);
        wake(pump);
        from.is_empty()
    }

    /// Takes all of `messages`, which are of one type and class, if there is room; or gives them
    /// back.
    pub(crate) fn push_whole(&self, messages: Vec<Arrived>) -> Result<(), Vec<Arrived>> {
        let mut state = lock(&self.state);
        if state.closed {
            return Err(messages);
        }
        let was_empty = state.is_empty();
        state.messages.take_in_whole(messages)?;
        let pump = state.pump(was_empty);
        drop(state);
        wake(pump);
        Ok(())
    }

    /// Takes messages of the first one's type off `from` while there is room; whether it took any.
    pub(crate) fn push_run(&self, from: &mut std::vec::IntoIter<Arrived>) -> bool {
        let Some(kind) = from.as_slice().first().map(Arrived::kind) else {
            return false;
        };
        let mut state = lock(&self.state);
        if state.closed {
            return false;
        }
        let (was_empty, before) = (state.is_empty(), state.messages.ready());
        state.messages.take_in_run(from, |next| next.kind() == kind);
        let took = state.messages.ready() > before;
        let pump = state.pump(was_empty && took);
        drop(state);
        wake(pump);
        took
    }

    /// Puts in what is not a message, last. An earlier one of its session that nobody saw yet, and
    /// that it replaces, goes, so a link that flaps does not grow the queue.
    pub fn push_notice(&self, notice: Notice) {
        let mut state = lock(&self.state);
        if state.closed {
            return;
        }
        state.notices.retain(|queued| !queued.is_replaced_by(&notice));
        state.notice_bytes += notice.bytes();
        state.notices.push_back(notice);
        let pump = state.pump(true);
        drop(state);
        wake(pump);
    }

    /// As [`poll_batch`](Self::poll_batch), for whoever looks at one item after the other.
    pub fn poll_take(
        &self,
        cx: &mut Context<'_>,
        into: &mut VecDeque<Item>,
        max: usize,
    ) -> Poll<()> {
        let mut batch = Batch::default();
        let taken = self.poll_batch(cx, &mut batch, max);
        into.extend(std::iter::from_fn(|| batch.pop()));
        taken
    }

    /// Takes at most `max` items for the actor, or registers its waker.
    pub fn poll_batch(&self, cx: &mut Context<'_>, into: &mut Batch, max: usize) -> Poll<()> {
        let mut state = lock(&self.state);
        if !state.waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            state.waker = Some(cx.waker().clone());
        }
        if state.is_empty() {
            return Poll::Pending;
        }
        let taken = state.take(into, max, &self.me);
        into.last = state.is_empty();
        let upstream = std::mem::take(&mut state.upstream);
        drop(state);
        upstream.into_iter().for_each(Waker::wake);
        taken
    }

    /// The name of its actor in the tree; empty if it has none.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many messages of that session wait here, and when the first of them was received; looks
    /// at all that wait.
    pub(crate) fn waiting_of(&self, session: SessionKey) -> Option<(u64, u64)> {
        let state = lock(&self.state);
        let of = |arrived: &&Arrived| arrived.session.key() == session;
        let waiting = state.messages.iter().filter(of);
        waiting.fold(None, |sum, arrived| {
            let (count, first) = sum.unwrap_or((0, u64::MAX));
            Some((count + 1, first.min(arrived.at)))
        })
    }

    /// Messages waiting.
    pub fn len(&self) -> usize {
        lock(&self.state).messages.len()
    }

    /// Events and questions waiting.
    pub fn notices(&self) -> usize {
        self.notices_and_bytes().0
    }

    /// Events and questions waiting, and the bytes of messages that come back with them.
    pub fn notices_and_bytes(&self) -> (usize, u64) {
        let state = lock(&self.state);
        (state.notices.len(), state.notice_bytes)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        let state = lock(&self.state);
        state.messages.is_empty() && state.notices.is_empty()
    }

    /// Its actor is gone for good: what waits is dropped, and so is what comes.
    pub fn close(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        let messages = state.messages.drain();
        let notices = std::mem::take(&mut state.notices);
        state.notice_bytes = 0;
        let upstream = std::mem::take(&mut state.upstream);
        drop(state);
        drop(notices);
        refuse(messages);
        upstream.into_iter().for_each(Waker::wake);
    }

    /// Whether its actor is gone for good.
    pub fn is_closed(&self) -> bool {
        lock(&self.state).closed
    }
}

/// Their actor is gone for good: nobody handles their types.
fn refuse(messages: impl IntoIterator<Item = Arrived>) {
    for mut arrived in messages {
        arrived.reject(UndeliverableReason::UnknownType);
    }
}

/// Out of the lock.
#[inline]
fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl InboxState {
    /// The waker of the pump, if it is to be woken. It stays: a task has one for life.
    #[inline]
    fn pump(&self, wakes: bool) -> Option<Waker> {
        if wakes { self.waker.clone() } else { None }
    }

    fn is_empty(&self) -> bool {
        self.messages.ready() == 0 && self.notices.is_empty()
    }

    /// Notices first, then messages. Whether there was anything that need not wait.
    fn take(&mut self, into: &mut Batch, max: usize, inbox: &Weak<Inbox>) -> Poll<()> {
        let notices = max.min(self.notices.len());
        for notice in self.notices.drain(..notices) {
            self.notice_bytes -= notice.bytes();
            into.notices.push_back(notice);
        }
        let parks = |next: &Arrived| next.session.wait_for_replies(inbox);
        let messages = self.messages.take(&mut into.messages, max - notices, parks);
        if notices + messages > 0 { Poll::Ready(()) } else { Poll::Pending }
    }
}
