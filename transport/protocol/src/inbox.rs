//! What waits in front of one actor: whose turn it is, and what waits for replies to go first.
//!
//! ```text
//!   take_in ──► queues, by class ── take, by weight ──► batch ──► handler ──► reply
//!                 ▲         └─ a request of a session whose replies are full: parked,
//!                 │            and what follows it in its session and class
//!                 └── unpark: they have gone; put_back: what was taken and not handed out
//! ```
//!
//! * **S1** What is of one session and class is handed out in the order in which it was taken in,
//!   whatever was parked or put back meanwhile.
//! * **S7** A queue takes in no more than its room, and no request is taken out while the replies of
//!   its session are full. What is parked is bounded by the windows of its sessions.
//! * **S8** Replies go by the link alone and wait for no handler, so neither do parked requests: two
//!   nodes whose handlers ask each other do not stand still. Other sessions are not held up, nor
//!   are other classes, nor messages that nothing parked is before. No class waits for more than
//!   the weights of the others, or the batch of one that was alone.
//!
//! While nothing is parked and nobody's replies are full, a batch changes hands whole: nothing is
//! allocated and no message is looked at for itself but to see whether it has to wait.

use std::collections::{BTreeMap, VecDeque};

use crate::class::Class;
use crate::directory::SessionKey;

/// A message as the queues see it.
pub trait Queued {
    /// Its class.
    fn class(&self) -> Class;
    /// The session that it came on.
    fn session(&self) -> SessionKey;
    /// Whether it is a request of a session whose replies are full: it must not be opened now.
    fn must_wait(&self) -> bool;
}

/// Order within a session and class is what is promised, so that is what parks.
type Place = (SessionKey, usize);

fn place(next: &impl Queued) -> Place {
    (next.session(), next.class().index())
}

/// The queues in front of one actor.
#[derive(Clone, Debug)]
pub struct Queues<T> {
    queues: [VecDeque<T>; Class::COUNT],
    /// In the queues.
    ready: usize,
    /// Not in the queues; no entry is empty.
    parked: BTreeMap<Place, VecDeque<T>>,
    turn: Turn,
    room: usize,
}

/// Whose turn it is, and how many more it may take: each class with work gets its weight.
#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    class: usize,
    credit: u32,
}

impl Turn {
    fn pass(&mut self) {
        self.class = (self.class + 1) % Class::COUNT;
        self.credit = Class::ALL[self.class].weight();
    }
}

impl<T: Queued> Queues<T> {
    /// Queues that take in `room` messages of each class, at least one.
    pub fn new(room: usize) -> Self {
        Self {
            queues: Default::default(),
            ready: 0,
            parked: BTreeMap::new(),
            turn: Turn::default(),
            room: room.max(1),
        }
    }

    /// Messages that need not wait for anybody, as far as is known.
    #[inline]
    pub fn ready(&self) -> usize {
        self.ready
    }

    /// All messages, parked ones too.
    pub fn len(&self) -> usize {
        self.ready + self.parked.values().map(VecDeque::len).sum::<usize>()
    }

    /// Whether there is nothing, not even parked.
    pub fn is_empty(&self) -> bool {
        self.ready == 0 && self.parked.is_empty()
    }

    /// All messages, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.queues.iter().chain(self.parked.values()).flatten()
    }

    /// Empties them.
    pub fn drain(&mut self) -> impl Iterator<Item = T> + use<T> {
        self.ready = 0;
        let queues = std::mem::take(&mut self.queues).into_iter().flatten();
        queues.chain(std::mem::take(&mut self.parked).into_values().flatten())
    }

    #[inline]
    fn has_room(&self, class: Class) -> bool {
        self.queues[class.index()].len() < self.room
    }

    #[inline]
    fn push_back(&mut self, next: T) {
        self.ready += 1;
        self.queues[next.class().index()].push_back(next);
    }

    fn push_front(&mut self, next: T) {
        self.ready += 1;
        self.queues[next.class().index()].push_front(next);
    }

    /// Takes messages off the front of `from` up to the first that has no room.
    pub fn take_in(&mut self, from: &mut VecDeque<T>) {
        while let Some(next) = from.front()
            && self.has_room(next.class())
            && let Some(next) = from.pop_front()
        {
            self.push_back(next);
        }
    }

    /// Takes messages off the front of `from` up to the first that has no room or is not `alike`.
    pub fn take_in_run(&mut self, from: &mut std::vec::IntoIter<T>, alike: impl Fn(&T) -> bool) {
        while let Some(next) = from.as_slice().first()
            && alike(next)
            && self.has_room(next.class())
            && let Some(next) = from.next()
        {
            self.push_back(next);
        }
    }

    /// Takes in all of `messages`, which are of one class, if there is room.
    ///
    /// # Errors
    /// The messages, if there is not.
    #[inline]
    pub fn take_in_whole(&mut self, messages: Vec<T>) -> Result<(), Vec<T>> {
        let Some(class) = messages.first().map(Queued::class) else {
            return Ok(());
        };
        let queue = &mut self.queues[class.index()];
        if messages.len() > self.room.saturating_sub(queue.len()) {
            return Err(messages);
        }
        self.ready += messages.len();
        if queue.is_empty() {
            *queue = messages.into();
        } else {
            queue.extend(messages);
        }
        Ok(())
    }

    /// Takes at most `max` messages out into `batch`, classes by weight; how many. What has to wait
    /// for replies is parked instead, and so is what follows it. `parks` is told of each that does
    /// so first: whether it will be [`unpark`](Self::unpark)ed. If not, its replies have gone.
    #[inline]
    pub fn take(
        &mut self,
        batch: &mut VecDeque<T>,
        max: usize,
        mut parks: impl FnMut(&T) -> bool,
    ) -> usize {
        let mut left = max;
        while left > 0 && self.ready > 0 {
            let queue = &mut self.queues[self.turn.class];
            let alone = queue.len() == self.ready;
            let share = if alone { left } else { left.min(self.turn.credit as usize) };
            let count = share.min(queue.len());
            if count == 0 {
                self.turn.pass();
                continue;
            }
            self.ready -= count;
            let taken = if self.parked.is_empty() && !queue.range(..count).any(T::must_wait) {
                move_over(queue, count, batch);
                count
            } else {
                self.sift(count, batch, &mut parks)
            };
            left -= taken;
            self.turn.credit = self.turn.credit.saturating_sub(taken as u32);
        }
        max - left
    }

    /// The first `count` messages of the class whose turn it is: each goes into the batch or is
    /// parked. How many went.
    #[cold]
    fn sift(
        &mut self,
        count: usize,
        batch: &mut VecDeque<T>,
        parks: &mut impl FnMut(&T) -> bool,
    ) -> usize {
        let before = batch.len();
        for next in self.queues[self.turn.class].drain(..count) {
            match self.parked.get_mut(&place(&next)) {
                Some(before_it) => before_it.push_back(next),
                None if next.must_wait() && parks(&next) => {
                    self.parked.insert(place(&next), VecDeque::from([next]));
                }
                None => batch.push_back(next),
            }
        }
        batch.len() - before
    }

    /// Takes back what was taken out last and not handed out, before all that waits.
    pub fn put_back(&mut self, batch: &mut VecDeque<T>) {
        while let Some(next) = batch.pop_back() {
            // What is parked of its place came after it (S1).
            match self.parked.get_mut(&place(&next)) {
                Some(parked) => parked.push_front(next),
                None => self.push_front(next),
            }
        }
    }

    /// The replies of that session have gone: what waited for them is next.
    pub fn unpark(&mut self, session: SessionKey) {
        for class in Class::ALL {
            let mut parked = self.parked.remove(&(session, class.index())).unwrap_or_default();
            while let Some(next) = parked.pop_back() {
                self.push_front(next);
            }
        }
    }
}

/// Moves the first `count` messages to the end of the batch: whole where it can, since moving them
/// one by one is what a busy actor would be busiest with.
#[inline]
fn move_over<T>(queue: &mut VecDeque<T>, count: usize, batch: &mut VecDeque<T>) {
    if batch.is_empty() && count >= queue.len() {
        std::mem::swap(batch, queue);
    } else {
        batch.extend(queue.drain(..count.min(queue.len())));
    }
}

#[cfg(test)]
mod tests;
