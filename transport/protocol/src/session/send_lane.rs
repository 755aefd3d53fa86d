//! One lane of what a session sends: waiting, sent and unacked, and the bodies being pulled.
//!
//! ```text
//!            acked            acked + sent                  acked + entries.len()
//!   trimmed ──┤ sent on this link ├── waiting: new ones, or replays after a link loss ──┤
//! ```
//!
//! A message's number is its position: `acked + 1 + index`. So nothing is numbered before it is
//! sent, a replay is the cursor going back to zero, and no entry stores a sequence number.
//! Lossy sessions keep their entries until the ack too: it costs two handles a message, makes the
//! counts of an end exact and keeps one path (measured in `bench --case lossless_cost`).

use std::collections::VecDeque;

use crate::frame::{Call, LaneState, Payload};
use crate::id::Seq;
use crate::limits::window_cost;

/// A message that the session owns until the peer does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Entry<P> {
    pub payload: P,
    pub call: Call,
    /// How many were submitted in this lane before it, and itself: what a receipt waits for.
    pub position: u64,
}

impl<P: Payload> Entry<P> {
    pub(crate) fn bytes(&self) -> u64 {
        u64::from(self.payload.front_len()) + u64::from(self.payload.data_len())
    }

    fn cost(&self) -> u64 {
        window_cost(self.payload.front_len(), self.payload.data_len())
    }
}

/// A body that the peer pulls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Serving {
    pub seq: Seq,
    pub offset: u32,
}

/// Messages and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Amount {
    /// Messages.
    pub messages: u64,
    /// Bytes of fronts and data.
    pub bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SendLane<P> {
    entries: VecDeque<Entry<P>>,
    /// How many of `entries` were sent on this link.
    sent: usize,
    acked: Seq,
    /// Highest number ever sent: below it a request may have been handled.
    ever_sent: Seq,
    submitted: u64,
    /// Window cost of everything up to the ack, and up to the cursor, since birth.
    cost_acked: u64,
    cost_sent: u64,
    /// Bytes of `entries`.
    bytes: u64,
    /// What the peer allows (the second budget).
    allowed: LaneState,
    serving: VecDeque<Serving>,
    /// Reply lanes are not held by the window: their room was reserved by the requester.
    windowed: bool,
}

impl<P: Payload> SendLane<P> {
    pub(crate) fn new(windowed: bool) -> Self {
        Self {
            entries: VecDeque::new(),
            sent: 0,
            acked: Seq(0),
            ever_sent: Seq(0),
            submitted: 0,
            cost_acked: 0,
            cost_sent: 0,
            bytes: 0,
            allowed: LaneState::default(),
            serving: VecDeque::new(),
            windowed,
        }
    }

    /// The position that the next pushed message gets.
    pub(crate) fn next_position(&self) -> u64 {
        self.submitted + 1
    }

    /// Queues a message and returns its position.
    #[inline]
    pub(crate) fn push(&mut self, payload: P, call: Call) -> u64 {
        self.submitted += 1;
        let entry = Entry { payload, call, position: self.submitted };
        self.bytes += entry.bytes();
        self.entries.push_back(entry);
        self.submitted
    }

    /// A submitted message that was given back at once still takes its position, so that the
    /// user may count positions by itself.
    pub(crate) fn skip(&mut self) -> u64 {
        self.submitted += 1;
        self.submitted
    }

    /// Highest number ever sent.
    pub(crate) fn ever_sent(&self) -> Seq {
        self.ever_sent
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn held(&self) -> Amount {
        Amount { messages: self.entries.len() as u64, bytes: self.bytes }
    }

    pub(crate) fn acked(&self) -> Seq {
        self.acked
    }

    pub(crate) fn last_sent(&self) -> Seq {
        Seq(self.acked.0 + self.sent as u64)
    }

    /// Messages sent at least once and not known to be received.
    pub(crate) fn sent_unacked(&self) -> u64 {
        self.ever_sent.0.saturating_sub(self.acked.0)
    }

    /// Whether the message at `position` was ever put on a link, if it is still here.
    pub(crate) fn was_sent(&self, position: u64) -> Option<bool> {
        let index = self.entries.binary_search_by_key(&position, |entry| entry.position).ok()?;
        Some(self.acked.0 + 1 + index as u64 <= self.ever_sent.0)
    }

    pub(crate) fn oldest_position(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.position)
    }

    /// Whether the next waiting message may be sent now.
    pub(crate) fn ready(&self) -> bool {
        self.sent < self.entries.len() && self.window_open()
    }

    /// Whether something waits that only the window holds back.
    pub(crate) fn is_blocked(&self) -> bool {
        self.sent < self.entries.len() && !self.window_open()
    }

    pub(crate) fn is_serving(&self) -> bool {
        !self.serving.is_empty()
    }

    /// Bytes may overshoot by one message, so that one larger than the window still goes.
    fn window_open(&self) -> bool {
        !self.windowed
            || (self.last_sent() < self.allowed.window
                && self.cost_sent < self.allowed.window_bytes)
    }

    /// Moves the cursor over the next message. Call only if [`ready`](Self::ready).
    pub(crate) fn take_next(&mut self) -> Option<(Seq, &Entry<P>, bool)> {
        let entry = self.entries.get(self.sent)?;
        self.sent += 1;
        self.cost_sent += entry.cost();
        let seq = Seq(self.acked.0 + self.sent as u64);
        let replay = seq <= self.ever_sent;
        self.ever_sent = self.ever_sent.max(seq);
        Some((seq, entry, replay))
    }

    /// Takes in what the peer says of this lane. Trims what it owns; `None` if it claims what was
    /// never sent, else how much was trimmed and the last position.
    pub(crate) fn acknowledge(&mut self, state: LaneState) -> Option<(Amount, u64)> {
        if state.received > self.ever_sent.max(self.acked) {
            return None;
        }
        let mut trimmed = Amount::default();
        let mut position = 0;
        if state.received > self.acked {
            let count = ((state.received.0 - self.acked.0) as usize).min(self.entries.len());
            for entry in self.entries.range(..count) {
                self.cost_acked += entry.cost();
                trimmed.bytes += entry.bytes();
                position = entry.position;
            }
            trimmed.messages = count as u64;
            self.entries.drain(..count);
            self.acked = state.received;
            self.sent = self.sent.saturating_sub(count);
        }
        self.bytes -= trimmed.bytes;
        self.cost_sent = self.cost_sent.max(self.cost_acked);
        self.serving.retain(|serving| serving.seq > self.acked);
        // A window never shrinks (an older word may arrive with a resume).
        self.allowed.window = self.allowed.window.max(state.window);
        self.allowed.window_bytes = self.allowed.window_bytes.max(state.window_bytes);
        Some((trimmed, position))
    }

    /// The link is gone: everything not acked waits again.
    pub(crate) fn rewind(&mut self) {
        self.sent = 0;
        self.cost_sent = self.cost_acked;
        self.serving.clear();
    }

    /// The session takes another id before anything of it was confirmed: number from one again.
    pub(crate) fn unborn(&mut self) {
        debug_assert_eq!(self.acked, Seq(0), "S6: an unconfirmed session has nothing acked");
        self.rewind();
        self.ever_sent = Seq(0);
        self.allowed = LaneState::default();
    }

    /// The peer pulls the body of `seq`. False if there is no such announced message.
    pub(crate) fn serve(&mut self, seq: Seq) -> bool {
        let known = seq > self.acked && seq <= self.last_sent();
        if known && self.serving.iter().all(|serving| serving.seq != seq) {
            self.serving.push_back(Serving { seq, offset: 0 });
            return true;
        }
        false
    }

    /// The next piece of a pulled body: its message, offset and length.
    pub(crate) fn take_chunk(&mut self, len_max: u32) -> Option<(Seq, P, u32, u32)> {
        let serving = self.serving.front_mut()?;
        let index = (serving.seq.0 - self.acked.0 - 1) as usize;
        let payload = &self.entries.get(index)?.payload;
        let total = payload.data_len();
        let (seq, offset) = (serving.seq, serving.offset);
        let len = len_max.min(total - offset);
        serving.offset += len;
        let part = payload.clone();
        if offset + len == total {
            self.serving.pop_front();
        }
        Some((seq, part, offset, len))
    }

    /// Removes waiting messages that the peer would not take; they were never sent.
    pub(crate) fn remove_unsent(&mut self, refuse: impl Fn(&P) -> bool) -> Vec<Entry<P>> {
        let first = (self.ever_sent.0 - self.acked.0) as usize;
        let mut removed = Vec::new();
        let mut index = first;
        while let Some(entry) = self.entries.get(index) {
            if !refuse(&entry.payload) {
                index += 1;
                continue;
            }
            if let Some(entry) = self.entries.remove(index) {
                self.bytes -= entry.bytes();
                removed.push(entry);
            }
        }
        removed
    }

    /// Replaces waiting entries of a reply lane that the peer would not take.
    pub(crate) fn replace_unsent(&mut self, refuse: impl Fn(&P) -> bool, with: impl Fn(&mut Call)) {
        let first = (self.ever_sent.0 - self.acked.0) as usize;
        for entry in self.entries.iter_mut().skip(first) {
            if refuse(&entry.payload) {
                self.bytes -= entry.bytes();
                entry.payload = P::empty();
                with(&mut entry.call);
            }
        }
    }

    /// Everything that is left, oldest first, and whether it was ever sent.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (Entry<P>, bool)> + '_ {
        let sent = self.sent_unacked() as usize;
        self.sent = 0;
        self.bytes = 0;
        self.serving.clear();
        self.entries.drain(..).enumerate().map(move |(index, entry)| (entry, index < sent))
    }
}

#[cfg(test)]
mod tests;
