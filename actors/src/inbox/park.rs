//! Requests that wait until replies have gone: who tells whose inbox when they have.
//!
//! ```text
//!   handler ──► reply ──► `replies_bytes` of them unreceived ──► the next request is parked
//!   the requester's ack ──► session's turn ──► Parkers ──► each inbox: unpark
//! ```
//!
//! What is parked, and in which order it comes back, is decided by
//! [`Queues`](stellate_protocol::inbox::Queues).

use std::sync::{Arc, Weak};

use stellate_protocol::Class;
use stellate_protocol::directory::SessionKey;
use stellate_protocol::inbox::Queued;

use super::{Arrived, Batch, Inbox, wake};
use crate::shared::lock;

impl Queued for Arrived {
    #[inline]
    fn class(&self) -> Class {
        self.lane.class()
    }

    #[inline]
    fn session(&self) -> SessionKey {
        self.session.key()
    }

    #[inline]
    fn must_wait(&self) -> bool {
        Self::must_wait(self)
    }
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
            state.notice_bytes += notice.bytes();
            state.notices.push_front(notice);
        }
        batch.last = false;
        state.messages.put_back(&mut batch.messages);
    }

    /// The replies of that session have gone: what waited for them is next.
    pub(crate) fn unpark(&self, key: SessionKey) {
        let mut state = lock(&self.state);
        state.messages.unpark(key);
        let pump = state.pump(true);
        drop(state);
        wake(pump);
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::task::{Context, Waker};

    use bytes::Bytes;
    use stellate_protocol::event::Delivery;
    use stellate_protocol::frame::{Call, Message};
    use stellate_protocol::limits::Limits;
    use stellate_protocol::{EntityName, Lane, Parcel, RequestId, Seq};

    use super::*;
    use crate::shared::SessionShared;

    fn session(key: u64) -> Arc<SessionShared> {
        let limits = Limits { replies_bytes: 10, ..Limits::default() };
        let (key, peer) = (SessionKey(key), EntityName::osd(1));
        Arc::new(SessionShared::new(key, peer, limits, Default::default()))
    }

    /// A reply after which the replies are full.
    fn reply() -> Parcel {
        Parcel::joined(1, 1, 1, Bytes::from_static(b"0123456789"), 10)
    }

    fn arrived(session: &Arc<SessionShared>, class: Class, seq: u64, call: Call) -> Arrived {
        let payload = Parcel::joined(1, 1, 1, Bytes::from_static(b"x"), 1);
        let message = Message { lane: Lane::messages(class), seq: Seq(seq), call, payload };
        Arrived::new(session.clone(), Delivery { message, pulled: false }, 0)
    }

    fn request(session: &Arc<SessionShared>, class: Class, seq: u64) -> Arrived {
        arrived(session, class, seq, Call::Request { id: RequestId(seq), ttl_ms: None })
    }

    #[test]
    fn s1_what_is_put_back_goes_before_what_is_parked_of_its_session() {
        let (a, b) = (session(1), session(2));
        a.note_reply(&reply());
        let inbox = Inbox::new(100);
        let cx = &mut Context::from_waker(Waker::noop());
        let normal = Class::Normal;
        let messages = vec![
            request(&b, normal, 1),
            request(&b, normal, 2),
            arrived(&a, normal, 1, Call::OneWay),
            request(&a, normal, 2),
        ];
        inbox.push_whole(messages).expect("room");
        let mut batch = Batch::default();
        assert!(inbox.poll_batch(cx, &mut batch, 64).is_ready());
        assert_eq!(batch.messages.len(), 3, "the request of A is parked");
        // As a pump does: the reply to the first fills B's, so the second has to wait.
        batch.messages.pop_front();
        b.note_reply(&reply());
        inbox.put_back(&mut batch);
        let _ = inbox.poll_batch(cx, &mut batch, 64);
        a.note_replies_gone(10);
        let _ = inbox.poll_batch(cx, &mut batch, 64);
        let of_a = batch.messages.iter().filter(|next| Arc::ptr_eq(next.session(), &a));
        assert_eq!(of_a.map(|next| next.seq().0).collect::<Vec<_>>(), [1, 2], "S1");
    }

    /// The session's thread frees replies, another actor gives some, this one takes its messages:
    /// they stood still when two of them took their locks the one inside the other's.
    #[test]
    #[allow(clippy::disallowed_methods, reason = "threads are what is tested")]
    fn s8_parking_and_unparking_do_not_wait_for_each_other() {
        let a = session(1);
        let inbox = Inbox::new(10_000);
        let (given, over) = (AtomicU64::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    given.fetch_add(10, Ordering::SeqCst);
                    a.note_reply(&reply());
                    std::thread::yield_now();
                }
            });
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    a.note_replies_gone(given.load(Ordering::SeqCst));
                }
            });
            let cx = &mut Context::from_waker(Waker::noop());
            for _ in 0..5_000 {
                for class in Class::ALL {
                    let _ = inbox.push_whole((1..=16).map(|seq| request(&a, class, seq)).collect());
                }
                let _ = inbox.poll_batch(cx, &mut Batch::default(), 64);
            }
            over.store(true, Ordering::SeqCst);
        });
    }
}
