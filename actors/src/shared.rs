//! What a session's actor, its handles and its users share: the outbox, the ledger, the calls.
//!
//! ```text
//!   any thread                              the session's arbiter
//!   SessionHandle ─► Outbox (staged) ──wake─► SessionActor ─► protocol
//!   Arrived (drop) ─► Ledger (atomics) ─wake─►     │
//!                     Calls, Receipts  ◄───────────┘
//! ```
//!
//! The outbox takes a place at once, under one short lock; the actor empties it whole. Wake-ups
//! are coalesced: only the first of a batch wakes. The room of the outbox (S7) is counted here,
//! since the caller must wait before the session hears of a message.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures::task::AtomicWaker;
use stellate_protocol::directory::SessionKey;
use stellate_protocol::event::{
    Ask, CallResult, ClassCounts, Counters, Decision, EndCause, Fate, Input, Submit,
};
use stellate_protocol::frame::{Outcome, Terms, UndeliverableReason};
use stellate_protocol::limits::{Limits, window_cost};
use stellate_protocol::session::{Phase, Why};
use stellate_protocol::{Class, EntityName, Identity, Lane, Parcel, Payload, RequestId, Seq};

/// The lock of `mutex`, whatever happened to its last holder: what it guards stays consistent
/// between statements, since user code never runs under it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Something for the session, in the order of the calls.
#[derive(Debug)]
pub(crate) enum Staged {
    Submit(Class, Parcel, Ask),
    Reply {
        class: Class,
        id: RequestId,
        outcome: Outcome,
        payload: Parcel,
    },
    Reject {
        lane: Lane,
        seq: Seq,
        reason: UndeliverableReason,
    },
    Forget(RequestId),
    Admission(Decision),
    Readdress,
    Close,
    Abort,
}

impl Staged {
    pub(crate) fn into_input(self) -> Input<Parcel> {
        match self {
            Self::Submit(class, payload, ask) => Input::Submit(Submit {
                class,
                payload,
                ask,
            }),
            Self::Reply {
                class,
                id,
                outcome,
                payload,
            } => Input::Reply {
                class,
                id,
                outcome,
                payload,
            },
            Self::Reject { lane, seq, reason } => Input::Reject { lane, seq, reason },
            Self::Forget(id) => Input::Forget(id),
            Self::Admission(decision) => Input::Admission(decision),
            Self::Readdress => Input::Readdress,
            Self::Close => Input::Close,
            Self::Abort => Input::Abort,
        }
    }
}

/// Why a send was not taken. The message comes back.
#[derive(Debug)]
pub enum Refusal {
    /// No room in the outbox; it will come.
    Full(Parcel),
    /// Over the peer's limit, or over the whole outbox: it will never fit.
    TooLarge(Parcel),
    /// The session has ended or is closing.
    Ended(Parcel, Option<EndCause>),
}

/// A waiter for room, in the order of arrival.
#[derive(Debug)]
struct Waiter {
    bytes: u64,
    call: bool,
    state: Mutex<WaiterState>,
}

#[derive(Debug, Default)]
struct WaiterState {
    granted: bool,
    waker: Option<Waker>,
}

#[derive(Debug)]
pub(crate) struct Outbox {
    pub(crate) staged: Vec<Staged>,
    messages: u64,
    bytes: u64,
    calls: u64,
    waiters: VecDeque<Arc<Waiter>>,
    /// Messages accepted per class: a receipt's position.
    positions: [u64; Class::COUNT],
    /// Received by the peer, per class, and who waits for it.
    received: [u64; Class::COUNT],
    receipts: BTreeMap<(usize, u64), Waker>,
    /// The room that a refused try to send asked for: its user is told when it is there.
    wanted: Option<(u64, bool)>,
    terms: Option<Terms>,
    intake: Intake,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Intake {
    Open,
    Closing,
    Ended(EndCause),
}

/// Counts that must be exact at the end (S4), one per lane.
#[derive(Debug, Default)]
pub(crate) struct LaneLedger {
    /// Messages given to the dispatch queue.
    handed: AtomicU64,
    /// Messages handed to handlers; the top bit seals it.
    opened: AtomicU64,
    done: AtomicU64,
    cost: AtomicU64,
    pulled: AtomicU64,
}

/// Set in [`LaneLedger::opened`] when the session has ended: nothing of it is opened any more.
const SEALED: u64 = 1 << 63;

/// What a session looks like from outside, refreshed after every turn of its actor.
#[derive(Clone, Copy, Debug, Default)]
pub struct Snapshot {
    /// Where it is.
    pub phase: Option<Phase>,
    /// The peer, once known.
    pub peer: Option<Identity>,
    /// What it counted.
    pub counters: Counters,
    /// What the oldest unacked message waits for.
    pub why: Option<Why>,
    /// Whether our user has not admitted the peer yet.
    pub holding: bool,
}

/// How a session looks to everybody but its actor.
#[derive(Debug)]
pub struct SessionShared {
    pub(crate) key: SessionKey,
    pub(crate) target: EntityName,
    limits: Limits,
    outbox: Mutex<Outbox>,
    pub(crate) ledger: [LaneLedger; Lane::COUNT],
    calls: Mutex<BTreeMap<RequestId, futures::channel::oneshot::Sender<CallResult<Parcel>>>>,
    next_call: AtomicU64,
    dirty: AtomicBool,
    /// Room that was wanted has come, and nobody was told yet.
    writable: AtomicBool,
    waker: AtomicWaker,
    snapshot: Mutex<Snapshot>,
    pub(crate) addresses: Mutex<Vec<stellate_transport::Address>>,
    ended: Mutex<EndWait>,
}

#[derive(Debug, Default)]
struct EndWait {
    over: bool,
    wakers: Vec<Waker>,
}

impl SessionShared {
    pub(crate) fn new(key: SessionKey, target: EntityName, limits: Limits) -> Self {
        Self {
            key,
            target,
            limits,
            outbox: Mutex::new(Outbox {
                staged: Vec::new(),
                messages: 0,
                bytes: 0,
                calls: 0,
                waiters: VecDeque::new(),
                positions: [0; Class::COUNT],
                received: [0; Class::COUNT],
                receipts: BTreeMap::new(),
                wanted: None,
                terms: None,
                intake: Intake::Open,
            }),
            ledger: Default::default(),
            calls: Mutex::default(),
            next_call: AtomicU64::new(1),
            dirty: AtomicBool::new(false),
            writable: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            snapshot: Mutex::default(),
            addresses: Mutex::default(),
            ended: Mutex::default(),
        }
    }

    /// Names the session within its messenger.
    pub fn key(&self) -> SessionKey {
        self.key
    }

    /// Whom it was made for.
    pub fn target(&self) -> EntityName {
        self.target
    }

    /// What it looks like now.
    pub fn snapshot(&self) -> Snapshot {
        *lock(&self.snapshot)
    }

    /// Messages and bytes accepted and not known to be received.
    pub fn outbox(&self) -> (u64, u64) {
        let outbox = lock(&self.outbox);
        (outbox.messages, outbox.bytes)
    }

    /// Whether nothing is taken any more, and the cause if it has ended.
    pub fn intake(&self) -> Result<(), Option<EndCause>> {
        match lock(&self.outbox).intake {
            Intake::Open => Ok(()),
            Intake::Closing => Err(None),
            Intake::Ended(cause) => Err(Some(cause)),
        }
    }

    // --- sending -------------------------------------------------------------------------

    /// Takes the message's place now, or gives it back (S7). Returns its position in its class.
    ///
    /// # Errors
    /// [`Refusal`] with the message.
    pub fn submit(&self, class: Class, parcel: Parcel, ask: Ask) -> Result<u64, Refusal> {
        let bytes = parcel_bytes(&parcel);
        let call = !matches!(ask, Ask::Nothing);
        let mut outbox = lock(&self.outbox);
        if let Err(refusal) = self.check(&outbox, bytes, &parcel) {
            return Err(refusal(parcel));
        }
        if !outbox.waiters.is_empty() || !self.has_room(&outbox, bytes, call) {
            return Err(Refusal::Full(parcel));
        }
        outbox.take(bytes, call);
        let position = outbox.stage(class, parcel, ask);
        drop(outbox);
        self.wake();
        Ok(position)
    }

    /// As [`submit`](Self::submit), with room that [`Room`] has taken before.
    pub(crate) fn submit_reserved(
        &self,
        class: Class,
        parcel: Parcel,
        ask: Ask,
        reserved: u64,
    ) -> Result<u64, Refusal> {
        let bytes = parcel_bytes(&parcel);
        let mut outbox = lock(&self.outbox);
        if let Err(refusal) = self.check(&outbox, bytes, &parcel) {
            return Err(refusal(parcel));
        }
        if bytes > reserved && outbox.bytes + (bytes - reserved) > self.limits.outbox_bytes {
            return Err(Refusal::Full(parcel));
        }
        outbox.bytes = outbox.bytes + bytes - reserved;
        let position = outbox.stage(class, parcel, ask);
        let granted = self.grant(&mut outbox);
        drop(outbox);
        wake_all(granted);
        self.wake();
        Ok(position)
    }

    #[allow(clippy::type_complexity)] // which refusal, as a constructor: the parcel stays here
    fn check(
        &self,
        outbox: &Outbox,
        bytes: u64,
        parcel: &Parcel,
    ) -> Result<(), Box<dyn FnOnce(Parcel) -> Refusal>> {
        match outbox.intake {
            Intake::Open => {}
            Intake::Closing => return Err(Box::new(|parcel| Refusal::Ended(parcel, None))),
            Intake::Ended(cause) => {
                return Err(Box::new(move |parcel| Refusal::Ended(parcel, Some(cause))));
            }
        }
        let (front_max, data_max) = match outbox.terms {
            Some(terms) => (terms.front_max, terms.data_max),
            None => (self.limits.front_max, self.limits.data_max),
        };
        let over = parcel.front_len() > front_max || parcel.data_len() > data_max;
        if over
            || bytes
                > self
                    .limits
                    .outbox_bytes
                    .max(u64::from(front_max) + u64::from(data_max))
        {
            return Err(Box::new(Refusal::TooLarge));
        }
        Ok(())
    }

    /// One message may always go into an empty outbox, however large it is.
    fn has_room(&self, outbox: &Outbox, bytes: u64, call: bool) -> bool {
        let calls_max = outbox.terms.map_or(self.limits.requests_max, |terms| {
            terms.requests_max.min(self.limits.requests_max)
        });
        outbox.messages < u64::from(self.limits.outbox_messages)
            && (outbox.bytes + bytes <= self.limits.outbox_bytes || outbox.messages == 0)
            && (!call || outbox.calls < u64::from(calls_max))
    }

    /// Waits for room, in order of arrival. Dropping the future gives it up.
    pub(crate) fn room(self: &Arc<Self>, bytes: u64, call: bool) -> RoomFuture {
        RoomFuture {
            shared: self.clone(),
            bytes,
            call,
            waiter: None,
        }
    }

    /// Grants room to waiters while there is some, the first first.
    fn grant(&self, outbox: &mut Outbox) -> Vec<Waker> {
        let mut wakers = Vec::new();
        while let Some(waiter) = outbox.waiters.front() {
            if !self.has_room(outbox, waiter.bytes, waiter.call) {
                break;
            }
            let Some(waiter) = outbox.waiters.pop_front() else {
                break;
            };
            outbox.take(waiter.bytes, waiter.call);
            let mut state = lock(&waiter.state);
            state.granted = true;
            wakers.extend(state.waker.take());
        }
        wakers
    }

    /// Gives room back.
    pub(crate) fn free(&self, messages: u64, bytes: u64, calls: u64) {
        let mut outbox = lock(&self.outbox);
        outbox.messages = outbox.messages.saturating_sub(messages);
        outbox.bytes = outbox.bytes.saturating_sub(bytes);
        outbox.calls = outbox.calls.saturating_sub(calls);
        let granted = self.grant(&mut outbox);
        let writable = self.grant_wanted(&mut outbox);
        drop(outbox);
        wake_all(granted);
        if writable {
            self.wake();
        }
    }

    /// A try to send was refused for want of this room: tell the user once it is there.
    pub(crate) fn want_room(&self, bytes: u64, call: bool) {
        let mut outbox = lock(&self.outbox);
        outbox.wanted = Some((bytes, call));
        // It may have come since.
        let writable = self.grant_wanted(&mut outbox);
        drop(outbox);
        if writable {
            self.wake();
        }
    }

    fn grant_wanted(&self, outbox: &mut Outbox) -> bool {
        let Some((bytes, call)) = outbox.wanted else {
            return false;
        };
        let there = outbox.waiters.is_empty() && self.has_room(outbox, bytes, call);
        if there {
            outbox.wanted = None;
            self.writable.store(true, Ordering::Release);
        }
        there
    }

    /// Whether room that was wanted has come, once.
    pub(crate) fn take_writable(&self) -> bool {
        self.writable.load(Ordering::Relaxed) && self.writable.swap(false, Ordering::Acquire)
    }

    /// Stages what needs no room.
    pub(crate) fn stage(&self, staged: Staged) {
        let mut outbox = lock(&self.outbox);
        match (&staged, outbox.intake) {
            (_, Intake::Ended(_)) => return,
            (Staged::Close | Staged::Abort, Intake::Open) => outbox.intake = Intake::Closing,
            _ => {}
        }
        outbox.staged.push(staged);
        let granted = match outbox.intake {
            Intake::Open => Vec::new(),
            _ => outbox.dismiss(),
        };
        drop(outbox);
        wake_all(granted);
        self.wake();
    }

    /// Everything staged, in order.
    pub(crate) fn take_staged(&self, into: &mut Vec<Staged>) {
        std::mem::swap(&mut lock(&self.outbox).staged, into);
    }

    pub(crate) fn set_terms(&self, terms: Terms) {
        lock(&self.outbox).terms = Some(terms);
    }

    // --- waking --------------------------------------------------------------------------

    /// Wakes the session's actor, once per turn of it.
    pub(crate) fn wake(&self) {
        if !self.dirty.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// The actor begins a turn.
    pub(crate) fn begin_turn(&self, waker: &Waker) {
        self.waker.register(waker);
        self.dirty.store(false, Ordering::Release);
    }

    pub(crate) fn show(&self, snapshot: Snapshot) {
        *lock(&self.snapshot) = snapshot;
    }

    // --- receipts ------------------------------------------------------------------------

    /// The peer owns all messages of the class up to this position (S3).
    pub(crate) fn note_received(&self, class: Class, position: u64) {
        let mut outbox = lock(&self.outbox);
        outbox.received[class.index()] = position;
        let class = class.index();
        let later = outbox.receipts.split_off(&(class, position + 1));
        let mut ready = std::mem::replace(&mut outbox.receipts, later);
        let mut other = ready.split_off(&(class, 0));
        std::mem::swap(&mut ready, &mut other);
        outbox.receipts.extend(other);
        drop(outbox);
        ready.into_values().for_each(Waker::wake);
    }

    /// Ready when the peer owns the message at this position, or the session ended first.
    pub fn poll_received(
        &self,
        cx: &mut Context<'_>,
        class: Class,
        position: u64,
    ) -> Poll<Result<(), Option<EndCause>>> {
        let mut outbox = lock(&self.outbox);
        if outbox.received[class.index()] >= position {
            return Poll::Ready(Ok(()));
        }
        if let Intake::Ended(cause) = outbox.intake {
            return Poll::Ready(Err(Some(cause)));
        }
        outbox
            .receipts
            .insert((class.index(), position), cx.waker().clone());
        Poll::Pending
    }

    // --- calls ---------------------------------------------------------------------------

    /// A fresh id and the place where its outcome arrives.
    pub(crate) fn open_call(
        &self,
    ) -> (
        RequestId,
        futures::channel::oneshot::Receiver<CallResult<Parcel>>,
    ) {
        let id = RequestId(self.next_call.fetch_add(1, Ordering::Relaxed));
        let (sender, receiver) = futures::channel::oneshot::channel();
        lock(&self.calls).insert(id, sender);
        (id, receiver)
    }

    /// Forgets a call whose message was not taken.
    pub(crate) fn cancel_call(&self, id: RequestId) {
        lock(&self.calls).remove(&id);
    }

    /// A call is over. True if somebody listened.
    pub(crate) fn resolve_call(&self, id: RequestId, result: CallResult<Parcel>) -> bool {
        let Some(sender) = lock(&self.calls).remove(&id) else {
            return false;
        };
        self.free(0, 0, 1);
        sender.send(result).is_ok()
    }

    /// The caller lost interest: its room is free, a late answer is dropped.
    pub(crate) fn forget_call(&self, id: RequestId) {
        if lock(&self.calls).remove(&id).is_some() {
            self.free(0, 0, 1);
            self.stage(Staged::Forget(id));
        }
    }

    // --- delivery ------------------------------------------------------------------------

    /// A handler is about to get a message of this lane. False: the session ended, discard it.
    pub(crate) fn open(&self, lane: Lane) -> bool {
        let opened = &self.ledger[lane.index()].opened;
        let opening = |value: u64| (value & SEALED == 0).then_some(value + 1);
        opened
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, opening)
            .is_ok()
    }

    /// A message is done: its window is free.
    pub(crate) fn done(&self, lane: Lane, front_len: u32, data_len: u32, pulled: bool) {
        let ledger = &self.ledger[lane.index()];
        ledger
            .cost
            .fetch_add(window_cost(front_len, data_len), Ordering::Relaxed);
        if pulled {
            ledger
                .pulled
                .fetch_add(u64::from(data_len), Ordering::Relaxed);
        }
        ledger.done.fetch_add(1, Ordering::Release);
        self.wake();
    }

    // --- the end -------------------------------------------------------------------------

    /// No message of the session is opened from now on; returns how many were, per lane.
    pub(crate) fn seal(&self) -> [u64; Lane::COUNT] {
        std::array::from_fn(|index| {
            self.ledger[index].opened.fetch_or(SEALED, Ordering::AcqRel) & !SEALED
        })
    }

    /// Takes nothing any more; waiters and receipts learn of it. What was staged and never reached
    /// the session comes back.
    pub(crate) fn shut(&self, cause: EndCause) -> Vec<Staged> {
        let mut outbox = lock(&self.outbox);
        outbox.intake = Intake::Ended(cause);
        let staged = std::mem::take(&mut outbox.staged);
        let mut wakers = outbox.dismiss();
        wakers.extend(std::mem::take(&mut outbox.receipts).into_values());
        drop(outbox);
        wake_all(wakers);
        staged
    }

    /// Ends every call that has no outcome yet.
    pub(crate) fn fail_calls(&self) {
        let calls = std::mem::take(&mut *lock(&self.calls));
        for (_, sender) in calls {
            // Nobody listening is fine: the call was forgotten.
            let _ = sender.send(CallResult::SessionEnded(Fate::MaybeHandled));
        }
    }

    /// The end was told to everybody.
    pub(crate) fn note_ended(&self) {
        let mut ended = lock(&self.ended);
        ended.over = true;
        let wakers = std::mem::take(&mut ended.wakers);
        drop(ended);
        wake_all(wakers);
    }

    /// Whether it has ended and everybody was told.
    pub fn is_over(&self) -> bool {
        lock(&self.ended).over
    }

    /// A message of that lane goes to the dispatch queue.
    pub(crate) fn note_handed(&self, lane: Lane) {
        self.ledger[lane.index()]
            .handed
            .fetch_add(1, Ordering::Relaxed);
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

    /// Ready when the session has ended.
    pub fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut ended = lock(&self.ended);
        if ended.over {
            return Poll::Ready(());
        }
        ended.wakers.push(cx.waker().clone());
        Poll::Pending
    }
}

impl Outbox {
    fn take(&mut self, bytes: u64, call: bool) {
        self.messages += 1;
        self.bytes += bytes;
        self.calls += u64::from(call);
    }

    fn stage(&mut self, class: Class, parcel: Parcel, ask: Ask) -> u64 {
        self.staged.push(Staged::Submit(class, parcel, ask));
        let position = &mut self.positions[class.index()];
        *position += 1;
        *position
    }

    /// Messages of the class that are staged.
    fn staged_in(&self, class: Class) -> u64 {
        let of_class = |staged: &&Staged| matches!(staged, Staged::Submit(of, ..) if *of == class);
        self.staged.iter().filter(of_class).count() as u64
    }

    /// Wakes all who wait for room: they find the intake shut.
    fn dismiss(&mut self) -> Vec<Waker> {
        self.waiters
            .drain(..)
            .filter_map(|waiter| lock(&waiter.state).waker.take())
            .collect()
    }
}

impl LaneLedger {
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

/// Bytes that a message takes of the outbox.
pub(crate) fn parcel_bytes(parcel: &Parcel) -> u64 {
    u64::from(parcel.front_len()) + u64::from(parcel.data_len())
}

fn wake_all(wakers: Vec<Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}

/// Waits for room in an outbox.
#[derive(Debug)]
pub(crate) struct RoomFuture {
    shared: Arc<SessionShared>,
    bytes: u64,
    call: bool,
    waiter: Option<Arc<Waiter>>,
}

impl Future for RoomFuture {
    type Output = Result<Room, Option<EndCause>>;

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let shared = self.shared.clone();
        let mut outbox = lock(&shared.outbox);
        if let Some(waiter) = &self.waiter {
            let mut state = lock(&waiter.state);
            if state.granted {
                drop(state);
                self.waiter = None;
                drop(outbox);
                return Poll::Ready(Ok(Room::new(&shared, self.bytes, self.call)));
            }
            match outbox.intake {
                Intake::Open => {}
                Intake::Closing => return Poll::Ready(Err(None)),
                Intake::Ended(cause) => return Poll::Ready(Err(Some(cause))),
            }
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        match outbox.intake {
            Intake::Open => {}
            Intake::Closing => return Poll::Ready(Err(None)),
            Intake::Ended(cause) => return Poll::Ready(Err(Some(cause))),
        }
        if outbox.waiters.is_empty() && shared.has_room(&outbox, self.bytes, self.call) {
            outbox.take(self.bytes, self.call);
            drop(outbox);
            return Poll::Ready(Ok(Room::new(&shared, self.bytes, self.call)));
        }
        let state = WaiterState {
            granted: false,
            waker: Some(cx.waker().clone()),
        };
        let waiter = Arc::new(Waiter {
            bytes: self.bytes,
            call: self.call,
            state: Mutex::new(state),
        });
        outbox.waiters.push_back(waiter.clone());
        self.waiter = Some(waiter);
        Poll::Pending
    }
}

impl Drop for RoomFuture {
    fn drop(&mut self) {
        let Some(waiter) = self.waiter.take() else {
            return;
        };
        let mut outbox = lock(&self.shared.outbox);
        outbox.waiters.retain(|other| !Arc::ptr_eq(other, &waiter));
        let granted = lock(&waiter.state).granted;
        drop(outbox);
        // Whom it stood in the way of may have room now, also if it had none itself.
        match granted {
            true => self.shared.free(1, self.bytes, u64::from(self.call)),
            false => self.shared.free(0, 0, 0),
        }
    }
}

/// Room in an outbox, taken before the message is there. Given back when dropped unused.
#[derive(Debug)]
pub struct Room {
    shared: Arc<SessionShared>,
    bytes: u64,
    call: bool,
    used: bool,
}

impl Room {
    fn new(shared: &Arc<SessionShared>, bytes: u64, call: bool) -> Self {
        Self {
            shared: shared.clone(),
            bytes,
            call,
            used: false,
        }
    }

    /// Bytes reserved.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Sends in the reserved room. A message longer than was reserved needs the difference now.
    ///
    /// # Errors
    /// [`Refusal`] with the message; the room is given back.
    pub fn submit(mut self, class: Class, parcel: Parcel, ask: Ask) -> Result<u64, Refusal> {
        let taken = self.shared.submit_reserved(class, parcel, ask, self.bytes);
        self.used = taken.is_ok();
        taken
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if !self.used {
            self.shared.free(1, self.bytes, u64::from(self.call));
        }
    }
}
