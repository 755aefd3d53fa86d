//! The outbox: what was accepted, what waits for room, and the room itself (S7).

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use stellate_protocol::event::{Ask, EndCause};
use stellate_protocol::frame::Terms;
use stellate_protocol::limits::Limits;
use stellate_protocol::outbox::{Room as Places, Ticket, Want, is_turn_over};
use stellate_protocol::{Class, Parcel, Payload};

use super::receipts::Receipts;
use super::{Refusal, Refused, SessionShared, Staged, lock, wake_all};

/// Whoever waits for room.
type Waiter = Arc<Mutex<WaiterState>>;

#[derive(Debug, Default)]
pub(super) struct WaiterState {
    pub(super) granted: bool,
    pub(super) waker: Option<Waker>,
}

#[derive(Debug)]
pub(crate) struct Outbox {
    pub(crate) staged: Vec<Staged>,
    /// The room, and who waits for it in which order.
    pub(super) places: Places<Waiter>,
    /// Messages accepted per class: a receipt's position.
    pub(super) positions: [u64; Class::COUNT],
    /// Received by the peer, per class, and who waits for it or came back.
    pub(super) received: [u64; Class::COUNT],
    /// Messages per class that the peer received or that came back.
    pub(super) gone: [u64; Class::COUNT],
    pub(super) receipts: Receipts,
    /// The room that a refused try to send asked for: its user is told when it is there.
    pub(super) wanted: Option<(u64, bool)>,
    pub(super) terms: Option<Terms>,
    pub(super) intake: Intake,
}

/// Who is to be told of room that was made, where no lock is held.
#[must_use]
pub(super) struct Freed {
    granted: Vec<Waker>,
    writable: bool,
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
        self.submit_if(class, parcel, ask, false)
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
        self.submit_if(class, parcel, Ask::Nothing, true)
    }

    #[inline]
    fn submit_if(
        &self,
        class: Class,
        parcel: &mut Parcel,
        ask: Ask,
        politely: bool,
    ) -> Result<u64, Refused> {
        let bytes = parcel.bytes();
        let call = !matches!(ask, Ask::Nothing);
        let mut outbox = lock(&self.outbox);
        self.check(&outbox, bytes, parcel)?;
        if politely && is_turn_over(outbox.staged.len()) {
            return Err(Refused::Turn);
        }
        let want = Want::new(class, call);
        if !outbox.places.try_take(want, bytes) {
            return Err(Refused::Full);
        }
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
        if !outbox.places.resize(reserved, bytes) {
            return Err(Refused::Full);
        }
        let position = outbox.stage(class, std::mem::take(parcel), ask);
        let granted = outbox.grant();
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

    /// Waits for room, in order of arrival. Dropping the future gives it up.
    pub(crate) fn room(self: &Arc<Self>, class: Class, bytes: u64, call: bool) -> RoomFuture {
        RoomFuture { shared: self.clone(), bytes, want: Want::new(class, call), waiter: None }
    }

    /// Gives room back.
    pub(crate) fn free(&self, messages: u64, bytes: u64, calls: u64) {
        let freed = self.make_room(messages, bytes, calls);
        self.tell_of_room(freed);
    }

    /// As [`free`](Self::free) for a caller that holds a lock: nobody is told yet.
    pub(super) fn make_room(&self, messages: u64, bytes: u64, calls: u64) -> Freed {
        let mut outbox = lock(&self.outbox);
        outbox.places.free(messages, bytes, calls);
        Freed { granted: outbox.grant(), writable: self.grant_wanted(&mut outbox) }
    }

    pub(super) fn tell_of_room(&self, freed: Freed) {
        wake_all(freed.granted);
        if freed.writable {
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
        let there = outbox.places.is_there(want, bytes);
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
        let mut outbox = lock(&self.outbox);
        outbox.places.limit_calls(terms.requests_max);
        outbox.terms = Some(terms);
        drop(outbox);
        // More calls may be open than before: whoever waits for that is asked again.
        self.free(0, 0, 0);
    }
}

impl Outbox {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            staged: Vec::new(),
            places: Places::new(limits),
            positions: Default::default(),
            received: Default::default(),
            gone: Default::default(),
            receipts: Receipts::default(),
            wanted: None,
            terms: None,
            intake: Intake::default(),
        }
    }

    /// Gives room to those who wait while there is some: whom to wake.
    pub(super) fn grant(&mut self) -> Vec<Waker> {
        let mut wakers = Vec::new();
        while let Some(waiter) = self.places.grant() {
            let mut state = lock(&waiter);
            state.granted = true;
            wakers.extend(state.waker.take());
        }
        wakers
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
        self.places.dismiss().filter_map(|waiter| lock(&waiter).waker.take()).collect()
    }
}

/// Waits for room in an outbox.
#[derive(Debug)]
pub(crate) struct RoomFuture {
    shared: Arc<SessionShared>,
    bytes: u64,
    want: Want,
    waiter: Option<(Ticket, Waiter)>,
}

impl Future for RoomFuture {
    type Output = Result<Room, Option<EndCause>>;

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let shared = self.shared.clone();
        let mut outbox = lock(&shared.outbox);
        if let Some((_, waiter)) = &self.waiter {
            let mut state = lock(waiter);
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
        if outbox.places.try_take(self.want, self.bytes) {
            let call = self.want.is_call();
            drop(outbox);
            return Poll::Ready(Ok(Room::new(&shared, self.bytes, call)));
        }
        let state = WaiterState { granted: false, waker: Some(cx.waker().clone()) };
        let waiter = Arc::new(Mutex::new(state));
        let ticket = outbox.places.wait(self.want, self.bytes, waiter.clone());
        self.waiter = Some((ticket, waiter));
        Poll::Pending
    }
}

impl Drop for RoomFuture {
    fn drop(&mut self) {
        let Some((ticket, waiter)) = self.waiter.take() else {
            return;
        };
        let mut outbox = lock(&self.shared.outbox);
        outbox.places.leave(self.want, ticket);
        let granted = lock(&waiter).granted;
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

#[cfg(test)]
mod tests {
    use stellate_protocol::EntityName;
    use stellate_protocol::directory::SessionKey;
    use stellate_protocol::event::CallResult;

    use super::*;

    /// A resume may let more requests be open: whoever waits for that hears of it.
    #[test]
    fn s8_more_open_requests_are_granted_to_whoever_waits() {
        let (key, peer) = (SessionKey(1), EntityName::osd(2));
        let shared = SessionShared::new(key, peer, Limits::default(), Default::default());
        let terms = |requests_max| {
            let (front_max, data_max, slot_bytes) = (1000, 1000, 1000);
            Terms { front_max, data_max, slot_bytes, slots: None, requests_max }
        };
        shared.set_terms(terms(0));
        let shared = Arc::new(shared);
        let mut room = std::pin::pin!(shared.room(Class::Normal, 10, true));
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(room.as_mut().poll(cx).is_pending());
        shared.set_terms(terms(1));
        assert!(room.as_mut().poll(cx).is_ready());
    }

    /// S7: whoever has the outcome of the only call that may be open has room for another.
    #[test]
    #[allow(clippy::disallowed_methods, reason = "threads are what is tested")]
    fn s7_no_outcome_is_there_before_its_room() {
        let limits = Limits { requests_max: 1, ..Limits::default() };
        let (key, peer) = (SessionKey(1), EntityName::osd(2));
        let shared = SessionShared::new(key, peer, limits, Default::default());
        let call = || {
            let id = shared.open_call().expect("a slot");
            let ask = Ask::Request(id, None);
            shared.submit(Class::Normal, &mut Parcel::default(), ask).map(|_| id)
        };
        let id = call().expect("room");
        assert_eq!(call().err(), Some(Refused::Full));
        let cx = &mut Context::from_waker(Waker::noop());
        let outbox = lock(&shared.outbox);
        std::thread::scope(|scope| {
            scope.spawn(|| shared.resolve_call(id, CallResult::Timeout));
            // It comes to wait for the outbox, and nobody has an outcome meanwhile.
            let mut waits = 0;
            while waits < 50 {
                match shared.calls.try_lock() {
                    Ok(mut calls) => assert!(calls.poll(id, cx).0.is_pending(), "S7"),
                    Err(_) => waits += 1,
                }
                std::thread::yield_now();
            }
            drop(outbox);
        });
        assert!(shared.poll_call(id, cx).is_ready());
        assert!(call().is_ok(), "S7");
    }
}
