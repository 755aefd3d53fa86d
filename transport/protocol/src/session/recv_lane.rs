//! One lane of what a session receives: numbers, bodies still missing, input on hold, the window.
//!
//! ```text
//!   done … │ handed out │ held until admitted │ pending: head's body is missing │ … window
//!          └────────────┴── received (owned, acked) ──┘                       received + more
//! ```

use std::collections::VecDeque;

use super::timers::Silent;
use crate::class::Lane;
use crate::frame::{Call, LaneState, Message, Payload};
use crate::id::Seq;
use crate::limits::{Limits, window_cost};

/// A message whose turn has not come.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Pending<P> {
    message: Message<P>,
    announced: bool,
    body: Body,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Body {
    Here,
    /// Announced, not pulled yet.
    Wanted,
    /// Pulled; so many bytes came.
    Coming(u32),
}

/// What a frame that does not fit its lane did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LaneFault {
    /// A number was skipped.
    Gap,
    /// More than the window allows.
    Window,
    /// A chunk that nobody pulled, or that is not the next piece.
    Chunk,
}

/// Bytes of data that are worth an ack soon: their sender keeps them until then, and of replies it keeps
/// no more than `replies_bytes`.
const MUCH: u32 = 8 * 1024;

/// What became of an arriving message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    New,
    Duplicate,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RecvLane<P> {
    /// All up to here are owned: complete and in order (S3).
    received: Seq,
    pending: VecDeque<Pending<P>>,
    /// Owned, not handed out: the user has not admitted the peer.
    held: VecDeque<(Message<P>, bool)>,
    handed: u64,
    done: u64,
    done_cost: u64,
    /// Requests open in handlers, and their cost: counted by the room for replies, not here.
    in_hand: u64,
    in_hand_cost: u64,
    in_hand_max: u64,
    in_hand_cost_max: u64,
    /// Cost of all that was taken in, to check the peer against its window.
    cost: u64,
    /// Bytes pulled and not done.
    pulled: u64,
    told: LaneState,
    /// Since then a message came whose sender learns of it by the ack alone, or keeps much for it.
    unanswered: Silent<bool>,
    window_messages: u32,
    window_bytes: u64,
    pull_bytes: u64,
    windowed: bool,
}

impl<P: Payload> RecvLane<P> {
    pub(crate) fn new(lane: Lane, limits: &Limits) -> Self {
        Self {
            received: Seq(0),
            pending: VecDeque::new(),
            held: VecDeque::new(),
            handed: 0,
            done: 0,
            done_cost: 0,
            in_hand: 0,
            in_hand_cost: 0,
            in_hand_max: u64::from(limits.requests_max),
            in_hand_cost_max: limits.requests_bytes,
            cost: 0,
            pulled: 0,
            told: LaneState::default(),
            unanswered: Silent(false),
            window_messages: limits.window_messages[lane.class().index()],
            window_bytes: limits.window_bytes,
            pull_bytes: limits.pull_bytes,
            windowed: !lane.is_replies(),
        }
    }

    pub(crate) fn received(&self) -> Seq {
        self.received
    }

    pub(crate) fn handed(&self) -> u64 {
        self.handed
    }

    /// Whether every owned message was handed out and is done.
    pub(crate) fn is_settled(&self) -> bool {
        self.held.is_empty() && self.done == self.received.0
    }

    /// Owned messages that were not handed out.
    pub(crate) fn held_len(&self) -> u64 {
        self.held.len() as u64
    }

    pub(crate) fn pending_len(&self) -> u64 {
        self.pending.len() as u64
    }

    /// What the peer is to be told now. A window never shrinks.
    pub(crate) fn state(&self) -> LaneState {
        let window = self.done + self.in_hand + u64::from(self.window_messages);
        let window_bytes = self.window_bytes.saturating_add(self.done_cost + self.in_hand_cost);
        LaneState {
            received: self.received,
            window: self.told.window.max(Seq(window)),
            window_bytes: self.told.window_bytes.max(window_bytes),
        }
    }

    /// So many requests are open in handlers, at most as many as replies have room for.
    pub(crate) fn in_hand(&mut self, requests: u64, cost: u64) {
        self.in_hand = requests.min(self.in_hand_max);
        self.in_hand_cost = cost.min(self.in_hand_cost_max);
    }

    /// As [`state`](Self::state), and remembers that it was told.
    pub(crate) fn tell(&mut self) -> LaneState {
        self.told = self.state();
        self.unanswered.0 = false;
        self.told
    }

    /// Whether the peer waits for an ack, or soon will: for the receipt of what nothing answers, for
    /// the room of a large body, or for the window, half of which it has used as far as it knows. A
    /// request that is answered was received, and who answers waits for nothing.
    pub(crate) fn is_awaited(&self) -> bool {
        let left = self.told.window.0.saturating_sub(self.received.0);
        let left_bytes = self.told.window_bytes.saturating_sub(self.cost);
        let tight =
            left < u64::from(self.window_messages / 2) || left_bytes < self.window_bytes / 2;
        self.unanswered.0 || self.windowed && tight
    }

    /// Whether the peer knows less than there is.
    pub(crate) fn is_untold(&self) -> bool {
        self.state() != self.told
    }

    /// Whether the peer should hear at once: a quarter of the window, counted either way.
    pub(crate) fn is_urgent(&self) -> bool {
        let messages = u64::from(self.window_messages / 4).max(1);
        let bytes = (self.window_bytes / 4).max(1);
        let state = self.state();
        state.received.0 - self.told.received.0 >= messages
            || state.window.0 - self.told.window.0 >= messages
            || state.window_bytes - self.told.window_bytes >= bytes
    }

    /// Takes in a message, or an announcement if `announced`.
    pub(crate) fn arrive(
        &mut self,
        message: Message<P>,
        announced: bool,
    ) -> Result<Arrival, LaneFault> {
        let expected = Seq(self.received.0 + 1 + self.pending.len() as u64);
        if message.seq < expected {
            return Ok(Arrival::Duplicate);
        }
        if message.seq > expected {
            return Err(LaneFault::Gap);
        }
        let state = self.state();
        if self.windowed && (message.seq > state.window || self.cost >= state.window_bytes) {
            return Err(LaneFault::Window);
        }
        self.cost += window_cost(message.payload.front_len(), message.payload.data_len());
        let body = if announced { Body::Wanted } else { Body::Here };
        self.pending.push_back(Pending { message, announced, body });
        Ok(Arrival::New)
    }

    /// The common case of [`arrive`](Self::arrive) then [`next_complete`](Self::next_complete):
    /// nothing pending, nothing missing. Owns the message and says so, or does nothing.
    pub(crate) fn own_next(&mut self, message: &Message<P>) -> bool {
        if !self.pending.is_empty() || message.seq.0 != self.received.0 + 1 {
            return false;
        }
        let state = self.state();
        if self.windowed && (message.seq > state.window || self.cost >= state.window_bytes) {
            return false;
        }
        self.cost += window_cost(message.payload.front_len(), message.payload.data_len());
        self.own(message, false);
        true
    }

    /// The next body to pull, if its bytes are to spare. One is always allowed.
    pub(crate) fn next_pull(&mut self) -> Option<(Seq, u32)> {
        let wanted = self.pending.iter_mut().find(|pending| pending.body == Body::Wanted)?;
        let len = wanted.message.payload.data_len();
        if self.pulled > 0 && self.pulled + u64::from(len) > self.pull_bytes {
            return None;
        }
        self.pulled += u64::from(len);
        wanted.body = Body::Coming(0);
        Some((wanted.message.seq, len))
    }

    /// Takes in a piece of a pulled body.
    pub(crate) fn chunk(
        &mut self,
        seq: Seq,
        offset: u32,
        len: u32,
        part: Option<P>,
    ) -> Result<(), LaneFault> {
        let index = seq.0.checked_sub(self.received.0 + 1).ok_or(LaneFault::Chunk)?;
        let pending = self.pending.get_mut(index as usize).ok_or(LaneFault::Chunk)?;
        let Body::Coming(came) = pending.body else {
            return Err(LaneFault::Chunk);
        };
        let total = pending.message.payload.data_len();
        let end = came.checked_add(len).ok_or(LaneFault::Chunk)?;
        if offset != came || end > total {
            return Err(LaneFault::Chunk);
        }
        pending.body = Body::Coming(end);
        if end == total {
            pending.message.payload.attach(part.ok_or(LaneFault::Chunk)?);
            pending.body = Body::Here;
        }
        Ok(())
    }

    /// The next message whose turn has come, and whether it was pulled: it is owned from now on.
    pub(crate) fn next_complete(&mut self) -> Option<(Message<P>, bool)> {
        if self.pending.front()?.body != Body::Here {
            return None;
        }
        let pending = self.pending.pop_front()?;
        self.own(&pending.message, pending.announced);
        Some((pending.message, pending.announced))
    }

    #[inline]
    fn own(&mut self, message: &Message<P>, pulled: bool) {
        self.received = message.seq;
        let much = pulled || message.payload.data_len() > MUCH;
        self.unanswered.0 |= much || matches!(message.call, Call::OneWay | Call::Notify { .. });
    }

    pub(crate) fn hold(&mut self, message: Message<P>, pulled: bool) {
        self.held.push_back((message, pulled));
    }

    pub(crate) fn release_held(&mut self) -> Option<(Message<P>, bool)> {
        self.held.pop_front()
    }

    pub(crate) fn hand_out(&mut self) {
        self.handed += 1;
    }

    /// So many messages are done: their window and their pulled bytes are free again.
    pub(crate) fn done(&mut self, messages: u64, cost: u64, pulled: u64) {
        self.done += messages;
        debug_assert!(self.done <= self.received.0, "S7: done once per received message");
        self.done_cost += cost;
        self.pulled = self.pulled.saturating_sub(pulled);
    }

    /// The link is gone: what is incomplete will be replayed.
    pub(crate) fn rewind(&mut self) {
        for pending in self.pending.drain(..) {
            let payload = &pending.message.payload;
            self.cost -= window_cost(payload.front_len(), payload.data_len());
            if pending.announced && pending.body != Body::Wanted {
                self.pulled -= u64::from(payload.data_len());
            }
        }
    }

    /// As [`SendLane::unborn`](super::send_lane::SendLane::unborn).
    pub(crate) fn unborn(&mut self) {
        debug_assert_eq!(self.received, Seq(0), "S6: an unconfirmed session has nothing received");
        self.rewind();
    }
}

#[cfg(test)]
mod tests;
