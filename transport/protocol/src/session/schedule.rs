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
    all: Shares,
    /// While a link takes no chunks: what goes meanwhile takes no room from them, and gives no class a
    /// turn of theirs.
    but_chunks: Shares,
    /// Per class: whether a message goes before a reply next time.
    messages_first: [bool; Class::COUNT],
    /// Which lanes have work, a bit each, while nothing has happened since they were looked at.
    ready: Silent<Option<u8>>,
}

/// What each class may send of one room.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Shares {
    deficit: [i64; Class::COUNT],
    turn: usize,
}

impl Scheduler {
    /// Something happened: look at all lanes again.
    #[inline]
    pub(super) fn forget(&mut self) {
        self.ready.0 = None;
    }

    /// The class that goes next, among those with a lane in `ready`; `chunks`: to a link that takes
    /// them.
    #[inline]
    fn pick(&mut self, ready: u8, chunks: bool) -> Option<Class> {
        self.shares(chunks).pick(ready)
    }

    /// What went of a class that was picked for the same link.
    #[inline]
    fn charge(&mut self, class: Class, bytes: u32, chunks: bool) {
        self.shares(chunks).deficit[class.index()] -= i64::from(bytes);
    }

    #[inline]
    fn shares(&mut self, chunks: bool) -> &mut Shares {
        if chunks { &mut self.all } else { &mut self.but_chunks }
    }
}

impl Shares {
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
        self.poll_frame_to(now, true)
    }

    /// The same, for a link that has room, though for `chunks` only if so.
    pub fn poll_frame_to(&mut self, now: Time, chunks: bool) -> Option<Frame<P>> {
        let mut frame = None;
        self.next_frame(now, chunks, |next| frame = Some(next.into_frame()));
        frame
    }

    /// Gives `put` the [next frame](Self::poll_frame), so that a message can be encoded from where
    /// it lies; false if there is none.
    #[inline]
    pub fn poll_frame_with(&mut self, now: Time, put: impl FnOnce(Next<'_, P>)) -> bool {
        self.next_frame(now, true, put).is_some()
    }

    /// `chunks`: may be one.
    #[inline]
    fn next_frame(&mut self, now: Time, chunks: bool, put: impl FnOnce(Next<'_, P>)) -> Option<()> {
        if let Some(frame) = self.sign() {
            put(Next::Frame(frame?));
            return Some(());
        }
        let ready = match self.scheduler.ready.0 {
            Some(ready) => ready,
            None => self.ready_lanes(),
        };
        let may = if chunks { ready } else { ready & self.lanes_with_messages() };
        let class = self.scheduler.pick(may, chunks)?;
        let lane = self.turn_of(class, may);
        if self.send[lane.index()].ready() {
            let bytes = self.take_message(now, lane, put)?;
            self.scheduler.charge(class, bytes, chunks);
        } else {
            let (chunk, bytes) = self.take_chunk(lane)?;
            put(Next::Frame(chunk));
            self.scheduler.charge(class, bytes, chunks);
        }
        let rest = ready & !(1 << lane.index());
        self.scheduler.ready.0 = Some(rest | u8::from(self.lane_ready(lane)) << lane.index());
        Some(())
    }

    fn ready_lanes(&self) -> u8 {
        self.lanes_that(|lane| self.lane_ready(lane))
    }

    /// Lanes whose next frame is no chunk.
    fn lanes_with_messages(&self) -> u8 {
        self.lanes_that(|lane| self.send[lane.index()].ready())
    }

    /// Of those that are used, a bit each.
    #[inline]
    fn lanes_that(&self, have: impl Fn(Lane) -> bool) -> u8 {
        self.used.fold(0, |lanes, lane| lanes | u8::from(have(lane)) << Lane::index(lane))
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

    /// Gives `put` the lane's next message; how many of its bytes went.
    #[inline]
    fn take_message(
        &mut self,
        now: Time,
        lane: Lane,
        put: impl FnOnce(Next<'_, P>),
    ) -> Option<u32> {
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
        self.spend_slot();
        Some(front_len + if announce { 0 } else { data_len })
    }

    /// The lane's next chunk, and how many bytes it has.
    fn take_chunk(&mut self, lane: Lane) -> Option<(Frame<P>, u32)> {
        let slot = self.terms.map_or(u32::MAX, |terms| terms.slot_bytes);
        let whole = |link: super::Link| link.facts.whole || link.credit.is_some();
        let fits = if self.link.is_some_and(whole) { slot } else { u32::MAX };
        let len_max = self.config.limits.chunk_bytes.min(fits);
        let (seq, part, offset, len) = self.send[lane.index()].take_chunk(len_max.max(1))?;
        self.spend_slot();
        Some((Frame::Chunk(Chunk { lane, seq, offset, len, part: Some(part) }), len))
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
            let class = scheduler.pick(u8::MAX, true).expect("all are ready");
            bytes[class.index()] += 1000;
            scheduler.charge(class, 1000, true);
        }
        let total: u64 = bytes.iter().sum();
        for class in Class::ALL {
            let share = bytes[class.index()] as f64 * 16.0 / total as f64;
            let due = f64::from(class.weight());
            assert!((share - due).abs() < 0.1 * due, "{class}: {share} of 16, due {due}");
        }
    }

    /// A link that takes one chunk at a time, and other frames in between.
    #[test]
    fn chunks_are_shared_by_weight_whatever_goes_while_none_may() {
        let lane = |class| 1 << Lane::messages(class).index();
        let (normal, bulk) = (lane(Class::Normal), lane(Class::Bulk));
        for beside in [0, normal, bulk, normal | bulk] {
            let mut scheduler = Scheduler::default();
            let mut bytes = [0u64; Class::COUNT];
            for _ in 0..10_000 {
                let class = scheduler.pick(normal | bulk, true).expect("both have chunks");
                bytes[class.index()] += 128 * 1024;
                scheduler.charge(class, 128 * 1024, true);
                if let Some(class) = scheduler.pick(beside, false) {
                    scheduler.charge(class, 100, false);
                }
                assert_eq!(scheduler.pick(0, false), None);
            }
            let [normal, bulk] = [Class::Normal, Class::Bulk]
                .map(|class| bytes[class.index()] as f64 / f64::from(class.weight()));
            assert!((normal / bulk - 1.0).abs() < 0.1, "{beside:b}: {bytes:?}");
        }
    }

    #[test]
    fn a_class_alone_keeps_no_debt() {
        for class in Class::ALL {
            let lanes = [Lane::messages(class), Lane::replies(class)];
            let [messages, replies] = lanes.map(|lane| 1 << lane.index());
            for alone in [messages, replies, messages | replies] {
                let mut scheduler = Scheduler::default();
                assert_eq!(scheduler.pick(alone, true), Some(class));
                scheduler.charge(class, 4 << 20, true);
                assert_eq!(scheduler.pick(alone, true), Some(class));
                assert_eq!(scheduler.all.deficit, [0; Class::COUNT], "{class}: {alone:b}");
                assert_eq!(scheduler.pick(0, true), None);
            }
        }
    }
}
