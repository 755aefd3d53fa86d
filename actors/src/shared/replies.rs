//! Bytes of replies that were given and that the requester has not received yet (S7).
//!
//! Counted where the reply is given, so that the very next request sees it. While there are
//! `replies_bytes` of them no further request of the session is opened: the rule and the queues are
//! `stellate_protocol::inbox`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, Weak};

use stellate_protocol::Parcel;

use super::{SessionShared, lock};
use crate::inbox::{Inbox, Parkers};

#[derive(Debug, Default)]
pub(super) struct Replies {
    /// Given since birth.
    given: AtomicU64,
    /// Of those, received by the requester, or never to be.
    gone: AtomicU64,
    /// Somebody waits in `parkers`.
    parked: AtomicBool,
    parkers: Mutex<Parkers>,
}

impl SessionShared {
    /// A handler gave this reply.
    pub(crate) fn note_reply(&self, payload: &Parcel) {
        let bytes = payload.bytes();
        if bytes > 0 {
            self.replies.given.fetch_add(bytes, Ordering::SeqCst);
        }
    }

    /// Bytes of replies that were given here and are not known to be received there.
    pub fn replies_waiting(&self) -> u64 {
        let gone = self.replies.gone.load(Ordering::SeqCst);
        self.replies.given.load(Ordering::SeqCst).saturating_sub(gone)
    }

    /// Whether requests must wait.
    pub(crate) fn replies_are_full(&self) -> bool {
        self.limits.replies_are_full(self.replies_waiting())
    }

    /// That inbox is told when they need not wait any more; false if that is so already.
    pub(crate) fn wait_for_replies(&self, inbox: &Weak<Inbox>) -> bool {
        lock(&self.replies.parkers).add(inbox);
        self.replies.parked.store(true, Ordering::SeqCst);
        // Looked at again after the word was left: else both sides may miss the other's.
        self.replies_are_full()
    }

    /// So many bytes of all that was given have gone.
    pub(crate) fn note_replies_gone(&self, gone: u64) {
        self.replies.gone.store(gone, Ordering::SeqCst);
        if self.replies.parked.load(Ordering::SeqCst)
            && !self.replies_are_full()
            && self.replies.parked.swap(false, Ordering::SeqCst)
        {
            // Out of the lock first: whoever parks holds the inbox's, and takes this one then.
            let parkers = std::mem::take(&mut *lock(&self.replies.parkers));
            parkers.unpark(self.key);
        }
    }
}
