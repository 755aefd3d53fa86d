//! What an actor's pump has taken out of its inbox and not handed out yet.

use std::collections::VecDeque;

use super::{Arrived, Item, Notice};

/// Notices, which go first, and messages; each in order.
#[derive(Debug, Default)]
pub struct Batch {
    /// Not messages.
    pub notices: VecDeque<Notice>,
    /// Messages, in the order in which they are to be handed out.
    pub messages: VecDeque<Arrived>,
    /// Nothing was left in the inbox: whatever comes wakes the pump.
    pub(crate) last: bool,
}

impl Batch {
    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.notices.is_empty() && self.messages.is_empty()
    }

    /// Whether the inbox was empty when this was taken: what came since has woken its pump, which need
    /// not ask for more in the same poll.
    pub fn is_last(&self) -> bool {
        self.last
    }

    /// The next to hand out.
    pub fn pop(&mut self) -> Option<Item> {
        match self.notices.pop_front() {
            Some(notice) => Some(Item::Notice(notice)),
            None => self.messages.pop_front().map(Item::Message),
        }
    }
}
