//! Which frame goes next: signs of life, then acks and pulls, then classes by weight.
//!
//! Scheduling is deficit round robin over the classes that have work, so that the least class
//! still gets a sixteenth of the bytes; within a class replies and messages take turns, since a
//! reply must not wait behind requests. Within a lane new messages go before chunks: they are few
//! (the window) and let the receiver pull ahead.

use super::timers::Silent;
use super::{Due, Phase, Session};
use crate::class::{Class, Lane};
use crate::frame::{Ack, Call, Chunk, Frame, Grant, Heartbeat, Message, Payload};
use crate::id::{Seq, Time};

/// Slots kept for grants and heartbeats: a flood cannot spend them (the first budget).
pub(super) const SLOTS_RESERVED: u32 = 2;

/// Bytes that one unit of weight is worth in a round.
const QUANTUM: i64 = 16 * 1024;

/// Whose turn it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Scheduler {
    deficit: [i64; Class::COUNT],
    turn: usize,
    /// Per class: whether a message goes before a reply next time.
    messages_first: [bool; Class::COUNT],
    /// Which lanes have work, a bit each, while nothing has happened since they were looked at.
    ready: Silent<Option<u8>>,
}

impl Scheduler {
    /// Something happened: look at all lanes again.
    #[inline]
    pub(super) fn forget(&mut self) {
        self.ready.0 = None;
    }

    /// The class that goes next, among those with a lane in `ready`.
    #[inline]
    fn pick(&mut self, ready: u8) -> Option<Class> {
        let only = (ready.trailing_zeros() / 2) as usize;
        let Some(class) = Class::ALL.get(only) else {
            self.deficit = [0; Class::COUNT];
            return None;
        };
        if ready & !(0b11 << (2 * only)) == 0 {
            self.deficit = [0; Class::COUNT];
            self.turn = 0;
            return Some(*class);
        }
        Some(self.share(ready))
    }

    /// The class that goes next, among several.
    fn share(&mut self, ready: u8) -> Class {
        let ready: [bool; Class::COUNT] =
            std::array::from_fn(|class| ready >> (2 * class) & 0b11 != 0);
        for (deficit, ready) in self.deficit.iter_mut().zip(ready) {
            if !ready {
                *deficit = 0;
            }
        }
        while !(ready[self.turn] && self.deficit[self.turn] > 0) {
            self.turn = (self.turn + 1) % Class::COUNT;
            if ready[self.turn] {
                self.deficit[self.turn] += QUANTUM * i64::from(Class::ALL[self.turn].weight());
            }
        }
        Class::ALL[self.turn]
    }

    fn charge(&mut self, class: Class, bytes: u32) {
        self.deficit[class.index()] -= i64::from(bytes);
    }
}

/// The next frame for a link, where it lies.
#[derive(Debug)]
pub enum Next<'a, P> {
    /// A message of these parts.
    Message {
        /// Its lane.
        lane: Lane,
        /// Its place there.
        seq: Seq,
        /// What it asks for or answers.
        call: Call,
        /// Its bytes, which the session keeps.
        payload: &'a P,
    },
    /// Anything else.
    Frame(Frame<P>),
}

impl<P: Payload> Next<'_, P> {
    /// The same as a frame of its own.
    #[inline]
    pub fn into_frame(self) -> Frame<P> {
        match self {
            Self::Message { lane, seq, call, payload } => {
                Frame::Message(Message { lane, seq, call, payload: payload.clone() })
            }
            Self::Frame(frame) => frame,
        }
    }
}

impl super::Link {
    /// Whether half of the slots wait to be granted again.
    fn owes_slots(&self) -> bool {
        let posted = self.facts.slots.unwrap_or(u32::MAX);
        self.owed > 0 && self.owed >= posted / 2
    }
}

impl<P: Payload> Session<P> {
    /// The next frame for the session's link. Call while the link has room.
    pub fn poll_frame(&mut self, now: Time) -> Option<Frame<P>> {
        let mut frame = None;
        self.next_frame(now, u8::MAX, |next| frame = Some(next.into_frame()));
        frame
    }

    /// The same, for a link that has room, though none for chunks.
    pub fn poll_frame_but_chunks(&mut self, now: Time) -> Option<Frame<P>> {
        let others = |lane| u8::from(self.send[Lane::index(lane)].ready()) << Lane::index(lane);
        let others = self.used.fold(0, |lanes, lane| lanes | others(lane));
        let mut frame = None;
        self.next_frame(now, others, |next| frame = Some(next.into_frame()));
        frame
    }

    /// Gives `put` the [next frame](Self::poll_frame), so that a message can be encoded from where
    /// it lies; false if there is none.
    #[inline]
    pub fn poll_frame_with(&mut self, now: Time, put: impl FnOnce(Next<'_, P>)) -> bool {
        self.next_frame(now, u8::MAX, put).is_some()
    }

    /// Of lanes, those in `may` are looked at.
    #[inline]
    fn next_frame(&mut self, now: Time, may: u8, put: impl FnOnce(Next<'_, P>)) -> Option<()> {
        if let Some(frame) = self.sign() {
            put(Next::Frame(frame?));
            return Some(());
        }
        let ready = match self.scheduler.ready.0 {
            Some(ready) => ready,
            None => self.ready_lanes(),
        };
        let class = self.scheduler.pick(ready & may)?;
        let lane = self.turn_of(class, ready & may);
        if self.send[lane.index()].ready() {
            self.take_message(now, lane, put)?;
        } else {
            put(Next::Frame(self.take_chunk(lane)?));
        }
        let rest = ready & !(1 << lane.index());
        self.scheduler.ready.0 = Some(rest | u8::from(self.lane_ready(lane)) << lane.index());
        Some(())
    }

    fn ready_lanes(&self) -> u8 {
        let bit = |lane| u8::from(self.lane_ready(lane)) << Lane::index(lane);
        self.used.fold(0, |ready, lane| ready | bit(lane))
    }

    /// What goes before all messages: a frame of it, or that nothing may go at all.
    #[inline]
    fn sign(&mut self) -> Option<Option<Frame<P>>> {
        let usual = self.phase == Phase::Up
            && self.due == Due { acks: self.due.acks, ..Due::default() }
            && self.pulls.is_empty()
            && self.link.is_some_and(|link| link.credit.is_none() && link.owed == 0);
        if usual { None } else { self.any_sign() }
    }

    fn any_sign(&mut self) -> Option<Option<Frame<P>>> {
        if self.phase != Phase::Up {
            return Some(None);
        }
        let Some(link) = self.link.as_mut() else {
            return Some(None);
        };
        let credit = link.credit.unwrap_or(u32::MAX);
        if credit == 0 {
            return Some(None);
        }
        if link.owes_slots() {
            let slots = std::mem::take(&mut link.owed);
            return Some(self.spend(Frame::Grant(Grant { slots })));
        }
        // The last slot is for a grant: two heartbeats that cross could leave neither side one.
        if self.due.heartbeat && credit > 1 {
            self.due.heartbeat = false;
            let ask = if std::mem::take(&mut self.due.ask) { self.probes } else { 0 };
            let answer = std::mem::take(&mut self.due.answer);
            return Some(self.spend(Frame::Heartbeat(Heartbeat { ask, answer })));
        }
        if credit <= SLOTS_RESERVED {
            return Some(None);
        }
        if self.due.admitted {
            self.due.admitted = false;
            return Some(self.spend(Frame::Admitted));
        }
        if self.due.urgent {
            return Some(self.ack());
        }
        let pull = self.pulls.pop_front()?;
        Some(self.spend(Frame::Pull(pull)))
    }

    #[inline]
    fn lane_ready(&self, lane: Lane) -> bool {
        let lane = &self.send[lane.index()];
        lane.ready() || lane.is_serving()
    }

    fn spend(&mut self, frame: Frame<P>) -> Option<Frame<P>> {
        self.spend_slot();
        Some(frame)
    }

    #[inline]
    fn spend_slot(&mut self) {
        if let Some(credit) = self.link.as_mut().and_then(|link| link.credit.as_mut()) {
            *credit -= 1;
        }
    }

    fn ack(&mut self) -> Option<Frame<P>> {
        let owed = std::mem::take(&mut self.due.acks);
        self.due.urgent = false;
        self.timers.disarm(super::Timer::Ack);
        let mut ack = Ack::default();
        for lane in Lane::all() {
            if owed & 1 << lane.index() != 0 {
                ack.lanes[lane.index()] = Some(self.recv[lane.index()].tell());
            }
        }
        self.spend(Frame::Ack(Box::new(ack)))
    }

    /// The lane of the class that goes next: its replies and its messages take turns.
    #[inline]
    fn turn_of(&mut self, class: Class, ready: u8) -> Lane {
        let (messages, replies) = (Lane::messages(class), Lane::replies(class));
        let has = |lane: Lane| ready >> lane.index() & 1 == 1;
        let both = has(messages) && has(replies);
        let messages_first = &mut self.scheduler.messages_first[class.index()];
        let take_messages = if both { *messages_first } else { has(messages) };
        *messages_first = both && !*messages_first;
        if take_messages { messages } else { replies }
    }

    #[inline]
    fn take_message(&mut self, now: Time, lane: Lane, put: impl FnOnce(Next<'_, P>)) -> Option<()> {
        let slot_bytes = self.terms.map_or(0, |terms| terms.slot_bytes);
        let (seq, entry, replay) = self.send[lane.index()].take_next()?;
        let (front_len, data_len) = (entry.payload.front_len(), entry.payload.data_len());
        let announce =
            data_len > 0 && u64::from(front_len) + u64::from(data_len) > u64::from(slot_bytes);
        let call = match entry.call {
            Call::Request { id, .. } => self.requests.as_sent(now, id),
            call => call,
        };
        if announce {
            let payload = entry.payload.announced();
            put(Next::Frame(Frame::Announce(Message { lane, seq, call, payload })));
        } else {
            put(Next::Message { lane, seq, call, payload: &entry.payload });
        }
        self.counters.messages_sent += 1;
        self.counters.replayed += u64::from(replay);
        self.scheduler.charge(lane.class(), front_len + if announce { 0 } else { data_len });
        self.spend_slot();
        Some(())
    }

    fn take_chunk(&mut self, lane: Lane) -> Option<Frame<P>> {
        let slot = self.terms.map_or(u32::MAX, |terms| terms.slot_bytes);
        let whole = |link: super::Link| link.facts.whole || link.credit.is_some();
        let fits = if self.link.is_some_and(whole) { slot } else { u32::MAX };
        let len_max = self.config.limits.chunk_bytes.min(fits);
        let (seq, part, offset, len) = self.send[lane.index()].take_chunk(len_max.max(1))?;
        self.scheduler.charge(lane.class(), len);
        self.spend(Frame::Chunk(Chunk { lane, seq, offset, len, part: Some(part) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_share_the_bytes_and_bulk_gets_its_sixteenth() {
        let mut scheduler = Scheduler::default();
        let mut bytes = [0u64; Class::COUNT];
        for _ in 0..100_000 {
            let class = scheduler.pick(u8::MAX).expect("all are ready");
            bytes[class.index()] += 1000;
            scheduler.charge(class, 1000);
        }
        let total: u64 = bytes.iter().sum();
        for class in Class::ALL {
            let share = bytes[class.index()] as f64 * 16.0 / total as f64;
            let due = f64::from(class.weight());
            assert!((share - due).abs() < 0.1 * due, "{class}: {share} of 16, due {due}");
        }
    }

    #[test]
    fn a_class_alone_keeps_no_debt() {
        for class in Class::ALL {
            let lanes = [Lane::messages(class), Lane::replies(class)];
            let [messages, replies] = lanes.map(|lane| 1 << lane.index());
            for alone in [messages, replies, messages | replies] {
                let mut scheduler = Scheduler::default();
                assert_eq!(scheduler.pick(alone), Some(class));
                scheduler.charge(class, 4 << 20);
                assert_eq!(scheduler.pick(alone), Some(class));
                assert_eq!(scheduler.deficit, [0; Class::COUNT], "{class}: {alone:b}");
                assert_eq!(scheduler.pick(0), None);
            }
        }
    }
}
