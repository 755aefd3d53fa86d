//! The open calls of a session: who waits for which outcome.
//!
//! ```text
//!   Reply (any thread) ── poll ──► Slot ◄── resolve ── the session's turn
//! ```
//!
//! A slab: an id says where its slot is, so that a call costs no search and no allocation. Ids
//! ascend, as the protocol ends calls in their order.

use std::task::{Context, Poll, Waker};

use stellate_protocol::event::CallResult;
use stellate_protocol::{Parcel, RequestId};

/// Bits of an id that say where its slot is; those above count the calls.
const PLACE_BITS: u32 = 20;

/// Calls that a session can have open at a time, whatever `requests_max` says. Each slot ever used
/// costs some 150 bytes until none is in use. An
/// outcome that nobody has fetched is in use.
pub(crate) const CALLS_MAX: usize = 1 << PLACE_BITS;

/// Slots that are kept while no call is open.
const SPARE_MAX: usize = 64;

#[derive(Debug)]
enum State {
    Free,
    /// With who asked last.
    Open(Option<Waker>),
    /// Not fetched yet.
    Over(CallResult<Parcel>),
}

/// What a call leaves; to be dropped where no lock is held.
#[derive(Debug, Default)]
pub(super) struct Rest {
    #[allow(dead_code, reason = "dropping it is its use")]
    waker: Option<Waker>,
    result: Option<CallResult<Parcel>>,
}

#[derive(Debug)]
struct Slot {
    id: RequestId,
    state: State,
}

/// All calls of a session that are open, or whose outcome was not fetched.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Calls since birth.
    made: u64,
    /// Without an outcome.
    open: u64,
}

impl Calls {
    /// Calls without an outcome.
    pub(super) fn open(&self) -> u64 {
        self.open
    }

    /// A fresh id; `None` while [`CALLS_MAX`] are in use.
    pub(super) fn begin(&mut self) -> Option<RequestId> {
        let place = match self.free.pop() {
            Some(place) => place as usize,
            None if self.slots.len() < CALLS_MAX => {
                self.slots.push(Slot { id: RequestId(0), state: State::Free });
                self.slots.len() - 1
            }
            None => return None,
        };
        self.made += 1;
        let id = RequestId(self.made << PLACE_BITS | place as u64);
        self.slots[place] = Slot { id, state: State::Open(None) };
        self.open += 1;
        Some(id)
    }

    /// It is over: whom to wake; `None` if it was not open.
    pub(super) fn resolve(
        &mut self,
        id: RequestId,
        result: CallResult<Parcel>,
    ) -> Option<Option<Waker>> {
        let slot = self.slot(id)?;
        let State::Open(waker) = &mut slot.state else {
            return None;
        };
        let waker = waker.take();
        slot.state = State::Over(result);
        self.open -= 1;
        Some(waker)
    }

    /// The outcome, once; never if the call is unknown. And who asked before, to be dropped where no
    /// lock is held: a waker may be anybody's.
    pub(super) fn poll(
        &mut self,
        id: RequestId,
        cx: &mut Context<'_>,
    ) -> (Poll<Option<CallResult<Parcel>>>, Option<Waker>) {
        let Some(slot) = self.slot(id) else {
            return (Poll::Ready(None), None);
        };
        match &mut slot.state {
            State::Open(Some(waker)) if waker.will_wake(cx.waker()) => (Poll::Pending, None),
            State::Open(waker) => (Poll::Pending, waker.replace(cx.waker().clone())),
            State::Free | State::Over(_) => (Poll::Ready(self.forget(id).1.result), None),
        }
    }

    /// Nobody wants its outcome: whether it was open, and what is left of it.
    pub(super) fn forget(&mut self, id: RequestId) -> (bool, Rest) {
        let Some(slot) = self.slot(id) else {
            return (false, Rest::default());
        };
        let (open, rest) = match std::mem::replace(&mut slot.state, State::Free) {
            State::Free => return (false, Rest::default()),
            State::Open(waker) => (true, Rest { waker, result: None }),
            State::Over(result) => (false, Rest { waker: None, result: Some(result) }),
        };
        self.open -= u64::from(open);
        self.free.push(place(id) as u32);
        if self.free.len() == self.slots.len() && self.slots.len() > SPARE_MAX {
            (self.slots, self.free) = (Vec::new(), Vec::new());
        }
        (open, rest)
    }

    /// Ends all that are open, in the order of their ids.
    pub(super) fn fail_all(&mut self, result: impl Fn() -> CallResult<Parcel>) -> Vec<Waker> {
        let is_open = |slot: &&Slot| matches!(slot.state, State::Open(_));
        let mut open: Vec<_> = self.slots.iter().filter(is_open).map(|slot| slot.id).collect();
        open.sort_unstable();
        open.into_iter().filter_map(|id| self.resolve(id, result()).flatten()).collect()
    }

    fn slot(&mut self, id: RequestId) -> Option<&mut Slot> {
        self.slots.get_mut(place(id)).filter(|slot| slot.id == id)
    }
}

fn place(id: RequestId) -> usize {
    (id.0 & (CALLS_MAX as u64 - 1)) as usize
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use stellate_protocol::event::Fate;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn over() -> CallResult<Parcel> {
        CallResult::SessionEnded(Fate::NotSent)
    }

    #[test]
    fn an_outcome_is_told_once_to_who_asked_last() {
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        let mut cx = Context::from_waker(&waker);
        let mut calls = Calls::default();
        let id = calls.begin().expect("room");
        assert!(calls.poll(id, &mut Context::from_waker(Waker::noop())).0.is_pending());
        assert!(calls.poll(id, &mut cx).0.is_pending());
        assert_eq!(calls.open(), 1);
        calls.resolve(id, over()).expect("open").expect("asked").wake();
        assert_eq!((count.0.load(Ordering::Relaxed), calls.open()), (1, 0));
        assert!(calls.resolve(id, CallResult::Timeout).is_none(), "one outcome");
        assert!(matches!(
            calls.poll(id, &mut cx).0,
            Poll::Ready(Some(CallResult::SessionEnded(_)))
        ));
        assert!(matches!(calls.poll(id, &mut cx).0, Poll::Ready(None)), "fetched once");
    }

    #[test]
    fn an_id_of_a_slot_that_is_used_again_is_unknown() {
        let mut calls = Calls::default();
        let old = calls.begin().expect("room");
        assert!(calls.forget(old).0);
        let new = calls.begin().expect("room");
        assert_eq!(place(old), place(new));
        assert!(new > old, "ids ascend");
        assert!(calls.resolve(old, over()).is_none());
        assert!(!calls.forget(old).0);
        assert_eq!(calls.open(), 1);
    }

    #[test]
    fn all_end_in_the_order_they_were_made_and_slots_are_given_back() {
        let mut calls = Calls::default();
        let first: Vec<_> = (0..3 * SPARE_MAX).map(|_| calls.begin().expect("room")).collect();
        // The slots of the first two go to the last two, the other way round.
        assert!(calls.forget(first[0]).0 && calls.forget(first[1]).0);
        let last = [calls.begin().expect("room"), calls.begin().expect("room")];
        assert!(place(last[0]) > place(last[1]));
        let order: std::cell::RefCell<Vec<u64>> = std::cell::RefCell::default();
        assert!(
            calls
                .fail_all(|| {
                    order.borrow_mut().push(0);
                    over()
                })
                .is_empty()
        );
        assert_eq!((order.borrow().len(), calls.open()), (3 * SPARE_MAX, 0));
        let mut cx = Context::from_waker(Waker::noop());
        for id in first[2..].iter().chain(&last) {
            assert!(matches!(calls.poll(*id, &mut cx).0, Poll::Ready(Some(_))));
        }
        assert_eq!(calls.slots.len(), 0, "what a burst took is given back");
        assert!(calls.begin().expect("room") > last[1]);
    }
}
