//! The outbox: what was accepted, what waits for room, and the room itself (S7).

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use stellate_protocol::event::{Ask, EndCause};
use stellate_protocol::frame::Terms;
use stellate_protocol::{Class, Parcel, Payload};

use super::receipts::Receipts;
use super::{Refusal, Refused, SessionShared, Staged, lock, wake_all};

/// Messages that one thread stages before its `send` lets others run. A loop of sends never waits
/// while there is room; without this it would fill the outbox before its session, on the same
/// thread, sent the first. Measured at 64 bytes: larger batches fall out of the cache, smaller
/// ones cost wake-ups.
const STAGED_TURN: usize = 512;

/// What room is wanted for. What one kind is short of must not stop the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// A message.
    Message,
    /// A message that is answered: it needs a place among the open calls as well.
    Call,
    /// `Control`, answered or not: it has a sixteenth of the outbox for itself, beyond its end.
    Urgent { call: bool },
}

impl Want {
    fn new(class: Class, call: bool) -> Self {
        match (class, call) {
            (Class::Control, call) => Self::Urgent { call },
            (_, true) => Self::Call,
            (_, false) => Self::Message,
        }
    }

    fn queue(self) -> usize {
        match self {
            Self::Message => 0,
            Self::Call => 1,
            Self::Urgent { .. } => 2,
        }
    }

    fn is_call(self) -> bool {
        matches!(self, Self::Call | Self::Urgent { call: true })
    }
}

/// A waiter for room, in the order of arrival.
#[derive(Debug)]
pub(super) struct Waiter {
    ticket: u64,
    bytes: u64,
    want: Want,
    state: Mutex<WaiterState>,
}

#[derive(Debug, Default)]
pub(super) struct WaiterState {
    pub(super) granted: bool,
    pub(super) waker: Option<Waker>,
}

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) staged: Vec<Staged>,
    pub(super) messages: u64,
    pub(super) bytes: u64,
    pub(super) calls: u64,
    /// By [`Want::queue`].
    waiters: [VecDeque<Arc<Waiter>>; 3],
    tickets: u64,
    /// Messages accepted per class: a receipt's position.
    pub(super) positions: [u64; Class::COUNT],
    /// Received by the peer, per class, and who waits for it or came back.
    pub(super) received: [u64; Class::COUNT],
    pub(super) receipts: Receipts,
    /// The room that a refused try to send asked for: its user is told when it is there.
    pub(super) wanted: Option<(u64, bool)>,
    pub(super) terms: Option<Terms>,
    pub(super) intake: Intake,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Intake {
    #[default]
    Open,
    Closing,
    Ended(EndCause),
}

impl SessionShared {
    /// Takes the message's place now, or leaves it (S7). Returns its position in its class.
    ///
    /// # Errors
    /// Why it was not taken.
    #[inline]
    pub(crate) fn submit(
        &self,
        class: Class,
        parcel: &mut Parcel,
        ask: Ask,
    ) -> Result<u64, Refused> {
        self.submit_if(class, parcel, ask, u64::MAX as usize)
    }

    /// As [`submit`](Self::submit), unless so many wait already that the session should have its
    /// turn first.
    ///
    /// # Errors
    /// As [`submit`](Self::submit), and [`Refused::Turn`].
    #[inline]
    pub(crate) fn submit_politely(
        &self,
        class: Class,
        parcel: &mut Parcel,
    ) -> Result<u64, Refused> {
        self.submit_if(class, parcel, Ask::Nothing, STAGED_TURN)
    }

    #[inline]
    fn submit_if(
        &self,
        class: Class,
        parcel: &mut Parcel,
        ask: Ask,
        staged_max: usize,
    ) -> Result<u64, Refused> {
        let bytes = parcel.bytes();
        let call = !matches!(ask, Ask::Nothing);
        let mut outbox = lock(&self.outbox);
        self.check(&outbox, bytes, parcel)?;
        if outbox.staged.len() >= staged_max {
            return Err(Refused::Turn);
        }
        let want = Want::new(class, call);
        if !self.is_next(&outbox, want) || !self.has_room(&outbox, bytes, want) {
            return Err(Refused::Full);
        }
        outbox.take(bytes, call);
        let position = outbox.stage(class, std::mem::take(parcel), ask);
        drop(outbox);
        self.wake_after_lock();
        Ok(position)
    }

    /// As [`submit`](Self::submit), with room that [`Room`] has taken before.
    pub(crate) fn submit_reserved(
        &self,
        class: Class,
        parcel: &mut Parcel,
        ask: Ask,
        reserved: u64,
    ) -> Result<u64, Refused> {
        let bytes = parcel.bytes();
        let mut outbox = lock(&self.outbox);
        self.check(&outbox, bytes, parcel)?;
        if bytes > reserved && outbox.bytes + (bytes - reserved) > self.limits.outbox_bytes {
            return Err(Refused::Full);
        }
        outbox.bytes = outbox.bytes + bytes - reserved;
        let position = outbox.stage(class, std::mem::take(parcel), ask);
        let granted = self.grant(&mut outbox);
        drop(outbox);
        wake_all(granted);
        self.wake_after_lock();
        Ok(position)
    }

    #[inline]
    fn check(&self, outbox: &Outbox, bytes: u64, parcel: &Parcel) -> Result<(), Refused> {
        match outbox.intake {
            Intake::Open => {}
            Intake::Closing => return Err(Refused::Ended(None)),
            Intake::Ended(cause) => return Err(Refused::Ended(Some(cause))),
        }
        let (front_max, data_max) = match &outbox.terms {
            Some(terms) => (terms.front_max, terms.data_max),
            None => (self.limits.front_max, self.limits.data_max),
        };
        let over = parcel.front_len() > front_max || parcel.data_len() > data_max;
        if over || bytes > self.limits.outbox_bytes.max(u64::from(front_max) + u64::from(data_max))
        {
            return Err(Refused::TooLarge);
        }
        Ok(())
    }

    /// One message may always go into an empty outbox, however large it is.
    fn has_room(&self, outbox: &Outbox, bytes: u64, want: Want) -> bool {
        let (mut messages, mut most) =
            (u64::from(self.limits.outbox_messages), self.limits.outbox_bytes);
        if let Want::Urgent { .. } = want {
            messages += (messages / 16).max(1);
            most += most / 16;
        }
        outbox.messages < messages
            && (outbox.bytes + bytes <= most || outbox.messages == 0)
            && (!want.is_call() || self.has_call_room(outbox))
    }

    fn has_call_room(&self, outbox: &Outbox) -> bool {
        let calls_max = outbox.terms.map_or(self.limits.requests_max, |terms| {
            terms.requests_max.min(self.limits.requests_max)
        });
        outbox.calls < u64::from(calls_max)
    }

    /// Whether nobody waits who would be granted room first.
    fn is_next(&self, outbox: &Outbox, want: Want) -> bool {
        let [messages, calls, urgent] = &outbox.waiters;
        match want {
            Want::Urgent { .. } => urgent.is_empty(),
            Want::Call => messages.is_empty() && calls.is_empty(),
            // Calls that wait for answers to others are not before a message that needs none.
            Want::Message => {
                messages.is_empty() && (calls.is_empty() || !self.has_call_room(outbox))
            }
        }
    }

    /// Waits for room, in order of arrival. Dropping the future gives it up.
    pub(crate) fn room(self: &Arc<Self>, class: Class, bytes: u64, call: bool) -> RoomFuture {
        RoomFuture { shared: self.clone(), bytes, want: Want::new(class, call), waiter: None }
    }

    /// Grants room to waiters while there is some, the first first.
    pub(super) fn grant(&self, outbox: &mut Outbox) -> Vec<Waker> {
        let mut wakers = Vec::new();
        while let Some(queue) = self.grantable(outbox) {
            let Some(waiter) = outbox.waiters[queue].pop_front() else {
                break;
            };
            outbox.take(waiter.bytes, waiter.want.is_call());
            let mut state = lock(&waiter.state);
            state.granted = true;
            wakers.extend(state.waker.take());
        }
        wakers
    }

    /// The queue whose first waiter is next and has room.
    fn grantable(&self, outbox: &Outbox) -> Option<usize> {
        let fits = |waiter: &&Arc<Waiter>| self.has_room(outbox, waiter.bytes, waiter.want);
        let [messages, calls, urgent] = &outbox.waiters;
        if urgent.front().is_some_and(|waiter| fits(&waiter)) {
            return Some(2);
        }
        let calls = calls.front().filter(|_| self.has_call_room(outbox));
        let first = match (messages.front(), calls) {
            (Some(message), Some(call)) if call.ticket < message.ticket => Some(call),
            (Some(message), _) => Some(message),
            (None, call) => call,
        };
        first.filter(fits).map(|waiter| waiter.want.queue())
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

    pub(super) fn grant_wanted(&self, outbox: &mut Outbox) -> bool {
        let Some((bytes, call)) = outbox.wanted else {
            return false;
        };
        let want = Want::new(Class::Normal, call);
        let there = self.is_next(outbox, want) && self.has_room(outbox, bytes, want);
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
}

impl Outbox {
    pub(super) fn take(&mut self, bytes: u64, call: bool) {
        self.messages += 1;
        self.bytes += bytes;
        self.calls += u64::from(call);
    }

    pub(super) fn stage(&mut self, class: Class, parcel: Parcel, ask: Ask) -> u64 {
        self.staged.push(Staged::Submit(class, parcel, ask));
        let position = &mut self.positions[class.index()];
        *position += 1;
        *position
    }

    /// Messages of the class that are staged.
    pub(super) fn staged_in(&self, class: Class) -> u64 {
        let of_class = |staged: &&Staged| matches!(staged, Staged::Submit(of, ..) if *of == class);
        self.staged.iter().filter(of_class).count() as u64
    }

    /// Wakes all who wait for room: they find the intake shut.
    pub(super) fn dismiss(&mut self) -> Vec<Waker> {
        self.waiters
            .iter_mut()
            .flat_map(|queue| queue.drain(..))
            .filter_map(|waiter| lock(&waiter.state).waker.take())
            .collect()
    }
}

/// Waits for room in an outbox.
#[derive(Debug)]
pub(crate) struct RoomFuture {
    shared: Arc<SessionShared>,
    bytes: u64,
    want: Want,
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
                let room = Room::new(&shared, self.bytes, self.want.is_call());
                return Poll::Ready(Ok(room));
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
        if shared.is_next(&outbox, self.want) && shared.has_room(&outbox, self.bytes, self.want) {
            let call = self.want.is_call();
            outbox.take(self.bytes, call);
            drop(outbox);
            return Poll::Ready(Ok(Room::new(&shared, self.bytes, call)));
        }
        let state = WaiterState { granted: false, waker: Some(cx.waker().clone()) };
        outbox.tickets += 1;
        let waiter = Arc::new(Waiter {
            ticket: outbox.tickets,
            bytes: self.bytes,
            want: self.want,
            state: Mutex::new(state),
        });
        outbox.waiters[self.want.queue()].push_back(waiter.clone());
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
        outbox.waiters[self.want.queue()].retain(|other| !Arc::ptr_eq(other, &waiter));
        let granted = lock(&waiter.state).granted;
        drop(outbox);
        // Whom it stood in the way of may have room now, also if it had none itself.
        match granted {
            true => self.shared.free(1, self.bytes, u64::from(self.want.is_call())),
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
    pub(super) fn new(shared: &Arc<SessionShared>, bytes: u64, call: bool) -> Self {
        Self { shared: shared.clone(), bytes, call, used: false }
    }

    /// Bytes reserved.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Sends in the reserved room. A message longer than was reserved needs the difference now.
    ///
    /// # Errors
    /// [`Refusal`] with the message; the room is given back.
    pub fn submit(mut self, class: Class, mut parcel: Parcel, ask: Ask) -> Result<u64, Refusal> {
        let taken = self.shared.submit_reserved(class, &mut parcel, ask, self.bytes);
        self.used = taken.is_ok();
        taken.map_err(|why| why.with(parcel))
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if !self.used {
            self.shared.free(1, self.bytes, u64::from(self.call));
        }
    }
}
