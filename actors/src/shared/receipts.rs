//! Who waits for which place in a class, and which places came back (S3).
//!
//! A class is received up to a position, so most receipts need no more than that number. A message
//! that went back to its user (over the peer's limits, say) leaves a gap that no acknowledgement
//! fills: it is remembered, so that its receipt does not take its followers' word for its own.

use std::collections::{BTreeMap, VecDeque};
use std::task::{Context, Poll, Waker};

use stellate_protocol::Class;
use stellate_protocol::event::{EndCause, Returned};

use super::outbox::Intake;
use super::{SessionShared, lock, wake_all};

/// Why a message will never be known to be received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotReceived {
    /// The session ended first; `None` while it is not known why.
    Ended(Option<EndCause>),
    /// It went back to its user before it was sent.
    Returned(Returned),
}

/// By class and position.
#[derive(Debug, Default)]
pub(crate) struct Receipts {
    waiting: BTreeMap<(usize, u64), Vec<Waker>>,
    returned: BTreeMap<(usize, u64), Returned>,
    /// Of `returned`, the first first.
    order: VecDeque<(usize, u64)>,
}

impl Receipts {
    fn wait(&mut self, place: (usize, u64), waker: &Waker) {
        let wakers = self.waiting.entry(place).or_default();
        if !wakers.iter().any(|known| known.will_wake(waker)) {
            wakers.push(waker.clone());
        }
    }

    /// Remembers the last `most` that came back, of whatever class.
    fn came_back(&mut self, place: (usize, u64), why: Returned, most: usize) {
        if self.returned.insert(place, why).is_none() {
            self.order.push_back(place);
        }
        while self.order.len() > most
            && let Some(oldest) = self.order.pop_front()
        {
            self.returned.remove(&oldest);
        }
    }

    /// Those who wait for a place in `class` up to `position`.
    fn take_up_to(&mut self, class: usize, position: u64) -> Vec<Waker> {
        let mut ready = Vec::new();
        while let Some((place, _)) = self.waiting.range((class, 0)..=(class, position)).next() {
            let place = *place;
            ready.extend(self.waiting.remove(&place).into_iter().flatten());
        }
        ready
    }

    /// Everybody: they find the intake shut.
    pub(super) fn dismiss(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.waiting).into_values().flatten().collect()
    }
}

impl SessionShared {
    /// The peer owns all messages of the class up to this position that did not come back (S3):
    /// so many more than before.
    pub(crate) fn note_received(&self, class: Class, position: u64, messages: u64) {
        let mut outbox = lock(&self.outbox);
        outbox.gone[class.index()] += messages;
        outbox.received[class.index()] = position;
        let ready = outbox.receipts.take_up_to(class.index(), position);
        drop(outbox);
        wake_all(ready);
    }

    /// The message at this place went back. The last `outbox_messages` of them are remembered: more
    /// cannot go back at once, since that happens to what waited in the outbox (S7).
    pub(crate) fn note_returned(&self, class: Class, position: u64, why: Returned) {
        let place = (class.index(), position);
        let most = self.limits.outbox_messages as usize * 17 / 16 + 1;
        let mut outbox = lock(&self.outbox);
        outbox.gone[class.index()] += 1;
        let receipts = &mut outbox.receipts;
        receipts.came_back(place, why, most);
        let ready = receipts.waiting.remove(&place).unwrap_or_default();
        drop(outbox);
        wake_all(ready);
    }

    /// Ready when the peer owns the message at this position, when it went back, or when the
    /// session ended first.
    pub fn poll_received(
        &self,
        cx: &mut Context<'_>,
        class: Class,
        position: u64,
    ) -> Poll<Result<(), NotReceived>> {
        let place = (class.index(), position);
        let mut outbox = lock(&self.outbox);
        if let Some(why) = outbox.receipts.returned.get(&place) {
            return Poll::Ready(Err(NotReceived::Returned(*why)));
        }
        if outbox.received[class.index()] >= position {
            return Poll::Ready(Ok(()));
        }
        if let Intake::Ended(cause) = outbox.intake {
            return Poll::Ready(Err(NotReceived::Ended(Some(cause))));
        }
        outbox.receipts.wait(place, cx.waker());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use bytes::Bytes;
    use stellate_protocol::directory::SessionKey;
    use stellate_protocol::event::Ask;
    use stellate_protocol::limits::Limits;
    use stellate_protocol::{EntityName, Parcel};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicU32);

    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn shared() -> SessionShared {
        let limits = Limits { outbox_messages: 16, ..Limits::default() };
        SessionShared::new(SessionKey(1), EntityName::osd(2), limits, Default::default())
    }

    #[test]
    fn s3_all_who_wait_for_one_place_are_woken() {
        let shared = shared();
        let counts: [Arc<Count>; 3] = Default::default();
        let wakers = counts.clone().map(Waker::from);
        let poll = |who: usize, class, position| {
            shared.poll_received(&mut Context::from_waker(&wakers[who]), class, position)
        };
        assert!(poll(0, Class::High, 2).is_pending() && poll(1, Class::High, 2).is_pending());
        assert!(poll(2, Class::Normal, 1).is_pending() && poll(0, Class::High, 2).is_pending());
        let woken = || counts.each_ref().map(|count| count.0.load(Ordering::Relaxed));
        shared.note_received(Class::High, 1, 1);
        assert_eq!(woken(), [0, 0, 0]);
        shared.note_received(Class::High, 2, 1);
        assert_eq!(woken(), [1, 1, 0]);
        shared.note_returned(Class::Normal, 1, Returned::TooLarge);
        assert_eq!(woken(), [1, 1, 1]);
        assert_eq!(poll(0, Class::High, 2), Poll::Ready(Ok(())));
    }

    #[test]
    fn s3_what_came_back_is_not_received_with_its_followers() {
        let shared = shared();
        let mut cx = Context::from_waker(Waker::noop());
        shared.note_returned(Class::Normal, 2, Returned::TooLarge);
        shared.note_received(Class::Normal, 3, 2);
        let mut poll = |position| shared.poll_received(&mut cx, Class::Normal, position);
        assert_eq!(poll(1), Poll::Ready(Ok(())));
        let back = Err(NotReceived::Returned(Returned::TooLarge));
        assert_eq!(poll(2), Poll::Ready(back));
        assert_eq!(poll(3), Poll::Ready(Ok(())));
        for position in 4..1000 {
            shared.note_returned(Class::Normal, position, Returned::NoRoom);
        }
        assert!(lock(&shared.outbox).receipts.returned.len() <= 18, "S7");
    }

    #[test]
    fn s3_the_first_that_came_back_is_forgotten_first() {
        let shared = shared();
        let mut cx = Context::from_waker(Waker::noop());
        for position in 1..=18 {
            shared.note_returned(Class::Bulk, position, Returned::NoRoom);
        }
        shared.note_returned(Class::Control, 1, Returned::TooLarge);
        shared.note_received(Class::Control, 2, 1);
        shared.note_received(Class::Bulk, 19, 1);
        let mut poll = |class, position| shared.poll_received(&mut cx, class, position);
        let back = |why| Poll::Ready(Err(NotReceived::Returned(why)));
        assert_eq!(poll(Class::Control, 1), back(Returned::TooLarge), "the last of all");
        assert_eq!(poll(Class::Bulk, 2), back(Returned::NoRoom));
        assert_eq!(poll(Class::Bulk, 1), Poll::Ready(Ok(())), "forgotten: S7");
    }

    /// A session's actor dies, and nobody is left who knows but the ledger (S4).
    #[test]
    fn s4_what_came_back_last_is_not_unacked() {
        let shared = shared();
        for _ in 0..5 {
            let mut parcel = Parcel::joined(1, 1, 1, Bytes::from_static(b"x"), 1);
            shared.submit(Class::High, &mut parcel, Ask::Nothing).expect("room");
        }
        let unacked = || shared.ledger_counts()[Class::High.index()].unacked;
        assert_eq!(unacked(), 0, "staged ones are counted where they are taken back");
        shared.take_staged(&mut Vec::new());
        assert_eq!(unacked(), 5);
        shared.note_received(Class::High, 2, 2);
        for position in 3..=4 {
            shared.note_returned(Class::High, position, Returned::TooLarge);
        }
        assert_eq!(unacked(), 1);
        shared.note_received(Class::High, 5, 1);
        assert_eq!(unacked(), 0);
    }
}
