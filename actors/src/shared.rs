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

mod calls;
mod flag;
mod ledger;
mod outbox;
mod readdress;
mod receipts;
mod replies;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use stellate_protocol::directory::SessionKey;
use stellate_protocol::event::{
    Ask, CallResult, Counters, Decision, EndCause, Fate, Input, Submit,
};
use stellate_protocol::frame::{Outcome, UndeliverableReason};
use stellate_protocol::limits::Limits;
use stellate_protocol::session::{Phase, Trouble, Why};
use stellate_protocol::{
    Class, EntityName, Identity, Lane, Parcel, Question, RequestId, Seq, Time,
};
use stellate_transport::DialError;
use stellate_transport::trace::SessionTag;

use crate::node::{Node, WeakNode};
use crate::wake::LastingWaker;

use calls::Calls;
use flag::Flag;
pub use ledger::{DoneTogether, done_together};
pub(crate) use ledger::{Entries, LaneLedger, done};
pub use outbox::Room;
use outbox::{Intake, Outbox};
pub(crate) use readdress::Reach;
pub use readdress::ReaddressError;
pub use receipts::NotReceived;
use replies::Replies;

/// The lock of `mutex`, whatever happened to its last holder: what it guards stays consistent
/// between statements, since user code never runs under it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Something for the session, in the order of the calls.
#[derive(Debug)]
pub(crate) enum Staged {
    Submit(Class, Parcel, Ask),
    Reply { class: Class, id: RequestId, outcome: Outcome, payload: Parcel },
    Reject { lane: Lane, seq: Seq, reason: UndeliverableReason },
    Forget(RequestId),
    Admission { question: Question, decision: Decision },
    Readdress(Vec<stellate_transport::Address>),
    Close,
    Abort,
}

impl Staged {
    pub(crate) fn into_input(self) -> Input<Parcel> {
        match self {
            Self::Submit(class, payload, ask) => Input::Submit(Submit { class, payload, ask }),
            Self::Reply { class, id, outcome, payload } => {
                Input::Reply { class, id, outcome, payload }
            }
            Self::Reject { lane, seq, reason } => Input::Reject { lane, seq, reason },
            Self::Forget(id) => Input::Forget(id),
            Self::Admission { question, decision } => Input::Admission { question, decision },
            Self::Readdress(_) => Input::Readdress,
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

/// Why a send was not taken, while the message is still where it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Nothing is in its way, but the session has had no turn for long: let it run, then send.
    Turn,
    /// See [`Refusal::Full`].
    Full,
    /// See [`Refusal::TooLarge`].
    TooLarge,
    /// See [`Refusal::Ended`].
    Ended(Option<EndCause>),
}

impl Refused {
    /// The same, with the message.
    pub fn with(self, parcel: Parcel) -> Refusal {
        match self {
            Self::Full | Self::Turn => Refusal::Full(parcel),
            Self::TooLarge => Refusal::TooLarge(parcel),
            Self::Ended(cause) => Refusal::Ended(parcel, cause),
        }
    }
}

/// What a session looks like from outside, refreshed after every turn of its actor.
#[derive(Clone, Copy, Debug, Default)]
pub struct Snapshot {
    /// Where it is.
    pub phase: Option<Phase>,
    /// The peer, once known.
    pub peer: Option<Identity>,
    /// What it counted.
    pub counters: Counters,
    /// The unacked message that has waited longest for what it waits for now, and since when.
    pub why: Option<(Why, Time)>,
    /// Since when there is no link.
    pub no_link: Option<Time>,
    /// What became of the last try to have one.
    pub trouble: Option<Trouble>,
    /// Whether the peer's user has not admitted us yet.
    pub held_there: bool,
    /// Whether our user has not admitted the peer yet.
    pub holding: bool,
    /// Whether it ends with its link.
    pub lossy: bool,
    /// Messages that are kept until our user has admitted the peer.
    pub kept: u64,
}

/// How a session looks to everybody but its actor.
#[derive(Debug)]
pub struct SessionShared {
    pub(crate) key: SessionKey,
    pub(crate) target: EntityName,
    limits: Limits,
    reach: Reach,
    outbox: Mutex<Outbox>,
    pub(crate) ledger: [LaneLedger; Lane::COUNT],
    calls: Mutex<Calls>,
    dirty: Flag,
    /// Room that was wanted has come, and nobody was told yet.
    writable: AtomicBool,
    waker: LastingWaker,
    snapshot: Mutex<Snapshot>,
    /// What the transport said to the last dial that failed.
    dial_error: Mutex<Option<DialError>>,
    owner: OnceLock<WeakNode>,
    pub(crate) addresses: Mutex<Vec<stellate_transport::Address>>,
    ended: Mutex<EndWait>,
    replies: Replies,
    /// Its users must not hear of it before the end of the session that it follows (S6).
    follows: AtomicBool,
    /// Its id, as traces show it; 0 before it is bound.
    tag: AtomicU32,
}

#[derive(Debug, Default)]
struct EndWait {
    over: bool,
    wakers: Vec<Waker>,
}

impl SessionShared {
    pub(crate) fn new(key: SessionKey, target: EntityName, limits: Limits, reach: Reach) -> Self {
        Self {
            key,
            target,
            limits,
            reach,
            outbox: Mutex::new(Outbox::new(&limits)),
            ledger: Default::default(),
            calls: Mutex::default(),
            dirty: Flag::default(),
            writable: AtomicBool::new(false),
            waker: LastingWaker::default(),
            snapshot: Mutex::default(),
            dial_error: Mutex::default(),
            owner: OnceLock::new(),
            addresses: Mutex::default(),
            ended: Mutex::default(),
            replies: Replies::default(),
            follows: AtomicBool::new(false),
            tag: AtomicU32::new(0),
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

    /// Its id, as traces show it.
    pub fn tag(&self) -> SessionTag {
        SessionTag(self.tag.load(Ordering::Relaxed))
    }

    pub(crate) fn set_tag(&self, tag: SessionTag) {
        self.tag.store(tag.0, Ordering::Relaxed);
    }

    /// What it looks like now.
    pub fn snapshot(&self) -> Snapshot {
        *lock(&self.snapshot)
    }

    /// The messenger that it is a session of, while that lives.
    pub(crate) fn owner(&self) -> Option<Node> {
        self.owner.get()?.upgrade()
    }

    pub(crate) fn set_owner(&self, node: &Node) {
        // It has one for ever: a second would be the same.
        let _ = self.owner.set(node.downgrade());
    }

    pub(crate) fn dial_error(&self) -> Option<DialError> {
        lock(&self.dial_error).clone()
    }

    pub(crate) fn note_dial(&self, error: DialError) {
        *lock(&self.dial_error) = Some(error);
    }

    /// Messages and bytes accepted and not known to be received.
    pub fn outbox(&self) -> (u64, u64) {
        lock(&self.outbox).places.held()
    }

    /// Whether nothing is taken any more, and the cause if it has ended.
    pub fn intake(&self) -> Result<(), Option<EndCause>> {
        match lock(&self.outbox).intake {
            Intake::Open => Ok(()),
            Intake::Closing => Err(None),
            Intake::Ended(cause) => Err(Some(cause)),
        }
    }

    // --- waking --------------------------------------------------------------------------

    /// Wakes the session's actor, once per turn of it.
    pub(crate) fn wake(&self) {
        if self.dirty.raise() {
            self.waker.wake();
        }
    }

    /// As [`wake`](Self::wake), after something was put under a lock that a turn takes: a turn
    /// that missed it began before, so a mark that still stands then is a later one's.
    pub(crate) fn wake_after_lock(&self) {
        if !self.dirty.is_up() {
            self.wake();
        }
    }

    /// The actor begins a turn; whether it was woken through this. `known` as
    /// [`LastingWaker::register`] has it.
    pub(crate) fn begin_turn(&self, known: &mut Option<Waker>, waker: &Waker) -> bool {
        self.waker.register(known, waker);
        self.dirty.lower()
    }

    /// Brings what it looks like from outside up to date, in its place.
    #[inline]
    pub(crate) fn show(&self, update: impl FnOnce(&mut Snapshot)) {
        update(&mut lock(&self.snapshot));
    }

    /// Its policy goes on with another session in its place.
    pub(crate) fn note_reset(&self) {
        lock(&self.snapshot).counters.resets += 1;
    }

    /// It keeps its news until [`lead`](Self::lead): an older session's end is not told yet (S6).
    pub(crate) fn follow(&self) {
        self.follows.store(true, Ordering::Release);
    }

    /// Nothing is left to wait for.
    pub(crate) fn lead(&self) {
        self.follows.store(false, Ordering::Release);
        self.wake();
    }

    /// Whether it has to keep its news.
    pub(crate) fn is_following(&self) -> bool {
        self.follows.load(Ordering::Acquire)
    }

    // --- calls ---------------------------------------------------------------------------

    /// A fresh id, under which its outcome arrives; `None` if as many are open as can be.
    pub(crate) fn open_call(&self) -> Option<RequestId> {
        lock(&self.calls).begin()
    }

    pub(crate) fn open_calls(&self) -> u64 {
        lock(&self.calls).open()
    }

    /// Forgets a call whose message was not taken.
    pub(crate) fn cancel_call(&self, id: RequestId) {
        lock(&self.calls).forget(id);
    }

    /// A call is over.
    pub(crate) fn resolve_call(&self, id: RequestId, result: CallResult<Parcel>) {
        let mut calls = lock(&self.calls);
        let Some(waker) = calls.resolve(id, result) else {
            return;
        };
        // Whoever fetches the outcome finds its room free (S7).
        let freed = self.make_room(0, 0, 1);
        drop(calls);
        self.tell_of_room(freed);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The outcome of a call, once; `None` if it has none any more.
    pub(crate) fn poll_call(
        &self,
        id: RequestId,
        cx: &mut Context<'_>,
    ) -> Poll<Option<CallResult<Parcel>>> {
        // Who asked before is dropped out of the lock.
        let (polled, _before) = lock(&self.calls).poll(id, cx);
        polled
    }

    /// The caller lost interest: its room is free, a late answer is dropped.
    pub(crate) fn forget_call(&self, id: RequestId) {
        // What it got, and who asked, is dropped out of the lock.
        let (open, _rest) = lock(&self.calls).forget(id);
        if open {
            // The session first: whoever gets the room finds it there.
            self.stage(Staged::Forget(id));
            self.free(0, 0, 1);
        }
    }

    // --- the end -------------------------------------------------------------------------

    /// Takes nothing any more; waiters and receipts learn of it. What was staged and never reached
    /// the session comes back.
    pub(crate) fn shut(&self, cause: EndCause) -> Vec<Staged> {
        let mut outbox = lock(&self.outbox);
        outbox.intake = Intake::Ended(cause);
        let staged = std::mem::take(&mut outbox.staged);
        let mut wakers = outbox.dismiss();
        wakers.extend(outbox.receipts.dismiss());
        drop(outbox);
        wake_all(wakers);
        // Nobody takes a reply any more, and what is parked is discarded like the rest.
        self.note_replies_gone(u64::MAX);
        staged
    }

    /// Ends every call that has no outcome yet.
    pub(crate) fn fail_calls(&self) {
        let ended = || CallResult::SessionEnded(Fate::MaybeHandled);
        let wakers = lock(&self.calls).fail_all(ended);
        wake_all(wakers);
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

    /// Ready when the session has ended.
    pub fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut ended = lock(&self.ended);
        if ended.over {
            return Poll::Ready(());
        }
        if !ended.wakers.iter().any(|known| known.will_wake(cx.waker())) {
            ended.wakers.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

fn wake_all(wakers: Vec<Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}
