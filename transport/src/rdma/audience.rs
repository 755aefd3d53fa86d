//! What a device tells by itself, for all who have it open in this process.
//!
//! ```text
//!   device ── one queue of events ─► Audience ── a copy each ─► Ear of one that has it open
//! ```
//!
//! Whoever reads an event takes it away from all others, and it may be about something of theirs: so
//! who reads it tells everybody.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use super::verbs::AsyncEvent;

/// Events that wait for one that has not looked; one more, and the device is lost to it.
const EVENTS_MAX: usize = 4096;

/// All who have one device open.
#[derive(Debug, Default)]
pub(super) struct Audience {
    ears: Vec<Weak<Ear>>,
}

/// What one of them was told and has not taken.
#[derive(Debug, Default)]
pub(super) struct Ear {
    heard: Mutex<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    events: VecDeque<AsyncEvent>,
    waker: Option<Waker>,
}

impl Audience {
    /// One more has it open; it is told what comes from now on, until it is dropped.
    pub(super) fn join(&mut self) -> Arc<Ear> {
        self.ears.retain(|ear| ear.strong_count() > 0);
        let ear = Arc::new(Ear::default());
        self.ears.push(Arc::downgrade(&ear));
        ear
    }

    /// Tells all; who is to be woken.
    pub(super) fn tell(&self, event: AsyncEvent) -> Vec<Waker> {
        let ears = self.ears.iter().filter_map(Weak::upgrade);
        ears.filter_map(|ear| ear.hear(event)).collect()
    }
}

impl Ear {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, event: AsyncEvent) -> Option<Waker> {
        let mut heard = self.heard();
        if heard.events.len() >= EVENTS_MAX {
            // What it missed is not known any more: it has to begin anew.
            heard.events.clear();
            heard.events.push_back(AsyncEvent::DeviceFatal);
        }
        heard.events.push_back(event);
        heard.waker.take()
    }

    /// The next that it was told.
    pub(super) fn next(&self) -> Option<AsyncEvent> {
        self.heard().events.pop_front()
    }

    /// Ready if there is one.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut heard = self.heard();
        if !heard.events.is_empty() {
            return Poll::Ready(());
        }
        match &mut heard.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => heard.waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_who_have_it_open_are_told_what_comes_after_they_opened_it() {
        let mut audience = Audience::default();
        let one = audience.join();
        assert_eq!(audience.tell(AsyncEvent::PortActive(1)).len(), 0, "nobody waits");
        let other = audience.join();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(one.poll(&mut cx).is_ready() && other.poll(&mut cx).is_pending());
        assert_eq!(audience.tell(AsyncEvent::PortError(1)).len(), 1, "the other waits");
        let all = |ear: &Ear| std::iter::from_fn(|| ear.next()).collect::<Vec<_>>();
        assert_eq!(all(&one), [AsyncEvent::PortActive(1), AsyncEvent::PortError(1)]);
        assert_eq!(all(&other), [AsyncEvent::PortError(1)]);
    }

    #[test]
    fn s7_who_never_looks_has_lost_the_device_and_no_more() {
        let mut audience = Audience::default();
        let ear = audience.join();
        for number in 0..=EVENTS_MAX as u32 {
            audience.tell(AsyncEvent::QpFatal(number));
        }
        assert_eq!(ear.next(), Some(AsyncEvent::DeviceFatal));
        assert_eq!(ear.next(), Some(AsyncEvent::QpFatal(EVENTS_MAX as u32)));
        assert_eq!(ear.next(), None);
        drop(ear);
        audience.join();
        assert_eq!(audience.ears.len(), 1, "who is gone is forgotten");
    }
}
