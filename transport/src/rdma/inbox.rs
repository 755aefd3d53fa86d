//! What the endpoint hands to a link: a batch of completions, one wake-up, and its last word.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use super::verbs::Completion;
use crate::fault::LinkFault;

/// Between the endpoint's task and a link's. Bounded by the depths of the link's queues.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    mail: Mutex<Mail>,
}

/// What is in it.
#[derive(Debug, Default)]
pub(super) struct Mail {
    /// In order, as they completed.
    pub(super) completions: VecDeque<Completion>,
    /// Why the link is over, if no completion will say so.
    pub(super) ended: Option<LinkFault>,
    /// What the flush of its queue pair means, if more is known than that it was flushed.
    pub(super) hint: Option<LinkFault>,
    /// All that was posted has come home, and the queue pair is destroyed.
    pub(super) home: bool,
    waker: Option<Waker>,
}

impl Inbox {
    /// Looks into it.
    pub(super) fn open(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts something in; who is to be woken for it.
    pub(super) fn put(&self, with: impl FnOnce(&mut Mail)) -> Option<Waker> {
        let mut mail = self.open();
        with(&mut mail);
        mail.waker.take()
    }
}

impl Mail {
    /// Wakes this task for the next delivery.
    pub(super) fn watch(&mut self, waker: &Waker) {
        match &mut self.waker {
            Some(mine) => mine.clone_from(waker),
            None => self.waker = Some(waker.clone()),
        }
    }
}
