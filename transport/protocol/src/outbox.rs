//! Room in the outbox of one session: who gets it, and who waits for it in which order (S7).
//!
//! ```text
//!   try_take ──► room, and nobody before it ──► held ──► free
//!      │                                          ▲       │
//!      └─ none ──► wait: by ticket, in line ──────┴─ grant ┘
//! ```
//!
//! * **S7** What is held stays within `outbox_messages` and `outbox_bytes`; `Control` has a sixteenth
//!   beyond that, so that it is heard when all else is full. One message may always go into an
//!   empty outbox, however large it is. Calls stay within `requests_max` of both sides.
//! * Whoever came first is first, but nobody waits for what it does not need: calls that wait for
//!   answers to others are not before a message that needs none.
//! * Nobody is forgotten: while somebody waits who fits and is next, `grant` gives it room.

use std::collections::VecDeque;

use crate::class::Class;
use crate::limits::Limits;

/// Messages that one thread stages before its `send` lets others run. A loop of sends never waits
/// while there is room; without this it would fill the outbox before its session, on the same
/// thread, sent the first. Measured at 64 bytes: larger batches fall out of the cache, smaller
/// ones cost wake-ups.
const STAGED_TURN: usize = 512;

/// Whether so many are staged that a `send` lets others run first.
#[inline]
pub fn is_turn_over(staged: usize) -> bool {
    staged >= STAGED_TURN
}

/// What room is wanted for. What one kind is short of must not stop the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// A message.
    Message,
    /// A message that is answered: it needs a place among the open calls as well.
    Call,
    /// `Control`: it has a sixteenth of the outbox for itself, beyond its end.
    Urgent {
        /// Whether it is answered.
        call: bool,
    },
}

impl Want {
    /// What a message of that class needs; `call` says whether it is answered.
    #[inline]
    pub fn new(class: Class, call: bool) -> Self {
        match (class, call) {
            (Class::Control, call) => Self::Urgent { call },
            (_, true) => Self::Call,
            (_, false) => Self::Message,
        }
    }

    /// Whether it needs a place among the open calls.
    #[inline]
    pub fn is_call(self) -> bool {
        matches!(self, Self::Call | Self::Urgent { call: true })
    }

    /// Usual messages, usual calls, urgent messages, urgent calls.
    #[inline]
    fn line(self) -> usize {
        match self {
            Self::Message => 0,
            Self::Call => 1,
            Self::Urgent { call: false } => 2,
            Self::Urgent { call: true } => 3,
        }
    }
}

/// Names one who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

#[derive(Clone, Debug)]
struct Waiter<W> {
    ticket: Ticket,
    bytes: u64,
    want: Want,
    who: W,
}

/// What is held of an outbox, and who waits for room in it.
#[derive(Clone, Debug)]
pub struct Room<W> {
    messages_max: u64,
    bytes_max: u64,
    requests_max: u32,
    /// Of both sides.
    calls_max: u32,
    messages: u64,
    bytes: u64,
    calls: u64,
    /// By [`Want::line`].
    lines: [VecDeque<Waiter<W>>; 4],
    tickets: u64,
}

impl<W> Room<W> {
    /// An empty outbox.
    pub fn new(limits: &Limits) -> Self {
        Self {
            messages_max: u64::from(limits.outbox_messages),
            bytes_max: limits.outbox_bytes,
            requests_max: limits.requests_max,
            calls_max: limits.requests_max,
            messages: 0,
            bytes: 0,
            calls: 0,
            lines: Default::default(),
            tickets: 0,
        }
    }

    /// The peer takes at most so many open calls: it has a say as well.
    pub fn limit_calls(&mut self, requests_max: u32) {
        self.calls_max = self.requests_max.min(requests_max);
    }

    /// Messages and bytes held.
    #[inline]
    pub fn held(&self) -> (u64, u64) {
        (self.messages, self.bytes)
    }

    /// Takes room now, if there is some and nobody waits who is before it.
    #[inline]
    pub fn try_take(&mut self, want: Want, bytes: u64) -> bool {
        let there = self.is_there(want, bytes);
        if there {
            self.take(want, bytes);
        }
        there
    }

    /// Whether [`try_take`](Self::try_take) would take it.
    #[inline]
    pub fn is_there(&self, want: Want, bytes: u64) -> bool {
        self.is_next(want) && self.fits(want, bytes)
    }

    fn take(&mut self, want: Want, bytes: u64) {
        self.messages += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        self.calls += u64::from(want.is_call());
    }

    /// A message is longer or shorter than what was taken for it. Shorter always goes; longer only
    /// if the difference is there. Then [`grant`](Self::grant).
    pub fn resize(&mut self, taken: u64, bytes: u64) -> bool {
        let after = self.bytes.saturating_sub(taken).saturating_add(bytes);
        let goes = bytes <= taken || after <= self.bytes_max;
        if goes {
            self.bytes = after;
        }
        goes
    }

    /// Gives room back. Then [`grant`](Self::grant).
    pub fn free(&mut self, messages: u64, bytes: u64, calls: u64) {
        self.messages = self.messages.saturating_sub(messages);
        self.bytes = self.bytes.saturating_sub(bytes);
        self.calls = self.calls.saturating_sub(calls);
    }

    /// One message may always go into an empty outbox, however large it is.
    #[inline]
    fn fits(&self, want: Want, bytes: u64) -> bool {
        let (mut messages, mut most) = (self.messages_max, self.bytes_max);
        if let Want::Urgent { .. } = want {
            messages += (messages / 16).max(1);
            most = most.saturating_add(most / 16);
        }
        self.messages < messages
            && (self.bytes.saturating_add(bytes) <= most || self.messages == 0)
            && (!want.is_call() || self.has_call_room())
    }

    #[inline]
    fn has_call_room(&self) -> bool {
        self.calls < u64::from(self.calls_max)
    }

    /// Whether nobody waits who would be granted room first.
    #[inline]
    fn is_next(&self, want: Want) -> bool {
        let [messages, calls, urgent, urgent_calls] = &self.lines;
        let (messages, calls) = match want {
            Want::Urgent { .. } => (urgent, urgent_calls),
            Want::Message | Want::Call => (messages, calls),
        };
        // Calls that wait for answers to others are not before a message that needs none.
        messages.is_empty() && (calls.is_empty() || !(want.is_call() || self.has_call_room()))
    }

    /// Gets into line.
    pub fn wait(&mut self, want: Want, bytes: u64, who: W) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.lines[want.line()].push_back(Waiter { ticket, bytes, want, who });
        ticket
    }

    /// Leaves the line, if it still stands there: room that was granted is to be freed. Whom it
    /// stood in the way of may have room now: [`grant`](Self::grant).
    pub fn leave(&mut self, want: Want, ticket: Ticket) {
        self.lines[want.line()].retain(|waiter| waiter.ticket != ticket);
    }

    /// Takes room for the next who waits and fits; to be called until there is none.
    pub fn grant(&mut self) -> Option<W> {
        let line = self.grantable()?;
        let waiter = self.lines[line].pop_front()?;
        self.take(waiter.want, waiter.bytes);
        Some(waiter.who)
    }

    /// The line whose first is next and fits.
    fn grantable(&self) -> Option<usize> {
        let [messages, calls, urgent, urgent_calls] = &self.lines;
        let next = |messages, calls| self.first_of(messages, calls);
        next(urgent, urgent_calls).or_else(|| next(messages, calls)).map(Want::line)
    }

    /// Who came first of the two lines, if it fits; calls count only while there is room for one.
    fn first_of(
        &self,
        messages: &VecDeque<Waiter<W>>,
        calls: &VecDeque<Waiter<W>>,
    ) -> Option<Want> {
        let calls = calls.front().filter(|_| self.has_call_room());
        let both = messages.front().into_iter().chain(calls);
        let first = both.min_by_key(|waiter| waiter.ticket)?;
        self.fits(first.want, first.bytes).then_some(first.want)
    }

    /// Everybody who waits: nothing is taken any more.
    pub fn dismiss(&mut self) -> impl Iterator<Item = W> {
        self.lines.iter_mut().flat_map(|line| line.drain(..)).map(|waiter| waiter.who)
    }
}

#[cfg(test)]
mod tests;
