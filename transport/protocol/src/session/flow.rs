//! What flows while a session is up: messages, acks, pulls and signs of life.

use super::requests::Requests;
use super::send_lane::Amount;
use super::table::{Illegal, Row};
use super::timers::Timer;
use super::{LaneFault, Phase, Session};
use crate::class::{Class, Lane};
use crate::event::Delivery;
use crate::event::{Ask, CallResult, Done, Event, Output, Returned, Settled, Submit};
use crate::frame::{
    Ack, Call, Chunk, Frame, Heartbeat, LaneState, Message, Outcome, Payload, Pull,
    UndeliverableReason,
};
use crate::id::{LinkId, RequestId, Seq, Time};
use crate::limits::{ACK_PATIENCE, window_cost};

impl<P: Payload> Session<P> {
    /// The user sends: what [`handle`](Self::handle) does with [`Input::Submit`](crate::event::Input),
    /// which is there to be called by drivers that have nothing else in hand.
    ///
    /// # Errors
    /// [`Illegal`] after the end.
    #[inline]
    pub fn submit(&mut self, now: Time, submit: Submit<P>) -> Result<(), Illegal> {
        self.scheduler.forget();
        if self.phase == Phase::Ended {
            return Err(Illegal { phase: self.phase, input: "Submit" });
        }
        let Submit { class, payload, ask } = submit;
        let fits = self.terms.as_ref().is_none_or(|terms| {
            payload.front_len() <= terms.front_max && payload.data_len() <= terms.data_max
        });
        if fits && ask == Ask::Nothing {
            self.push(now, Lane::messages(class), payload, Call::OneWay);
        } else {
            self.submit_other(now, Submit { class, payload, ask }, fits);
        }
        Ok(())
    }

    /// A message that asks for something, or is too large.
    #[inline(never)]
    fn submit_other(&mut self, now: Time, submit: Submit<P>, fits: bool) {
        let Submit { class, payload, ask } = submit;
        let lane = Lane::messages(class);
        let held = Amount {
            messages: 1,
            bytes: u64::from(payload.front_len()) + u64::from(payload.data_len()),
        };
        if !fits {
            self.emit(Output::Room { messages: held.messages, bytes: held.bytes });
            self.give_back(lane, Returned::TooLarge);
            return self.submitted_too_large(class, ask, payload);
        }
        let call = match ask {
            Ask::Nothing => Call::OneWay,
            Ask::Notify(id) => Call::Notify { id },
            Ask::Request(id, _) => Call::Request { id, ttl_ms: None },
        };
        let position = self.send[lane.index()].next_position();
        if !self.book(now, ask, lane, position) {
            self.emit(Output::Room { messages: held.messages, bytes: held.bytes });
            self.give_back(lane, Returned::NoRoom);
            if let Call::Notify { id } | Call::Request { id, .. } = call {
                self.emit(Output::Outcome { id, result: CallResult::NoRoom });
            }
            return;
        }
        self.push(now, lane, payload, call);
    }

    /// Behind all that waits in its lane.
    #[inline]
    fn push(&mut self, now: Time, lane: Lane, payload: P, call: Call) {
        self.used.insert(lane);
        self.send[lane.index()].push(payload, call);
        self.wake_standby(now);
    }

    /// The message that is just submitted takes its place and nothing else.
    fn give_back(&mut self, lane: Lane, why: Returned) {
        let position = self.send[lane.index()].skip();
        self.emit(Output::Returned { lane, position, why });
    }

    /// Over the peer's limit: back to the user, in the way that it waits for.
    fn submitted_too_large(&mut self, class: Class, ask: Ask, payload: P) {
        let reason = UndeliverableReason::TooLarge;
        match ask {
            Ask::Nothing => {
                self.event(Event::Undeliverable { class, reason, payload: Some(payload) })
            }
            Ask::Notify(id) | Ask::Request(id, _) => self.emit(Output::Outcome {
                id,
                result: CallResult::Answered(Outcome::Undeliverable(reason), payload),
            }),
        }
    }

    /// Something to say: a peer in standby dials.
    #[inline]
    fn wake_standby(&mut self, now: Time) {
        if self.phase == Phase::Standby && self.config.policy.dials() {
            self.step(Row::StandbyWakes);
            self.start_dial(now);
        }
    }

    pub(super) fn on_reply(
        &mut self,
        now: Time,
        class: Class,
        id: RequestId,
        outcome: Outcome,
        payload: P,
    ) {
        let too_large = self.terms.is_some_and(|terms| {
            payload.front_len() > terms.front_max || payload.data_len() > terms.data_max
        });
        let (outcome, payload) = if too_large {
            (Outcome::Undeliverable(UndeliverableReason::TooLarge), P::empty())
        } else {
            (outcome, payload)
        };
        self.push_reply(now, class, Call::Reply { id, outcome }, payload);
    }

    pub(super) fn on_reject(
        &mut self,
        now: Time,
        lane: Lane,
        seq: Seq,
        reason: UndeliverableReason,
    ) {
        self.push_reply(now, lane.class(), Call::Rejected { seq, reason }, P::empty());
    }

    fn push_reply(&mut self, now: Time, class: Class, call: Call, payload: P) {
        if matches!(self.phase, Phase::Ended | Phase::Finishing) {
            return;
        }
        let lane = Lane::replies(class);
        // Without a link the peer cannot ask for more: what is in hand is bounded by its window.
        if self.phase == Phase::Up
            && self.send[lane.index()].len() >= self.config.limits.replies_max()
        {
            return self.violated(None);
        }
        self.push(now, lane, payload, call);
    }

    pub(super) fn on_done(&mut self, now: Time, done: Done) {
        let Done { lane, front_len, data_len, pulled } = done;
        let pulled = if pulled { u64::from(data_len) } else { 0 };
        let cost = window_cost(front_len, data_len);
        self.on_settled(now, Settled { lane, messages: 1, cost, pulled });
    }

    /// A handler that has opened a request may ask back before it replies. Did its request hold
    /// the window until then, two nodes that do so would wait for each other for ever; what bounds
    /// it instead is the requester's room for replies (the third budget).
    pub(super) fn on_in_hand(&mut self, now: Time, lane: Lane, requests: u64, cost: u64) {
        let recv = &mut self.recv[lane.index()];
        recv.in_hand(requests, cost);
        let urgent = recv.is_urgent();
        self.owe_ack(now, lane, urgent);
    }

    pub(super) fn on_settled(&mut self, now: Time, settled: Settled) {
        let Settled { lane, messages, cost, pulled } = settled;
        let recv = &mut self.recv[lane.index()];
        recv.done(messages, cost, pulled);
        let urgent = recv.is_urgent();
        if pulled > 0 {
            self.pull_more(lane);
        }
        self.owe_ack(now, lane, urgent);
    }

    /// What became of the messages of a lane: what [`handle`](Self::handle) does with
    /// [`Input::Opened`](crate::event::Input), `Settled` and `InHand`, in one go. `None`: nothing
    /// new of that.
    pub fn account(
        &mut self,
        now: Time,
        lane: Lane,
        opened: Option<u64>,
        settled: Option<Settled>,
        in_hand: Option<(u64, u64)>,
    ) {
        self.scheduler.forget();
        if let Some(total) = opened {
            self.opened[lane.index()] = total;
        }
        if let Some(settled) = settled {
            self.on_settled(now, settled);
        }
        if let Some((requests, cost)) = in_hand {
            self.on_in_hand(now, lane, requests, cost);
        }
        self.follow_up(now);
    }

    /// A frame arrived: what [`handle`](Self::handle) does with
    /// [`Input::Frame`](crate::event::Input). A message that can be handed out at once comes back
    /// here instead of through the outputs, of which none waits then, so nothing is overtaken:
    /// putting it in and taking it out again would be the greater part of the work.
    #[inline(always)] // the message then goes from where it lies to where it is wanted, in one move
    pub fn receive(&mut self, now: Time, link: LinkId, frame: Frame<P>) -> Option<Delivery<P>> {
        match frame {
            Frame::Message(message) if self.own(now, link, &message) => {
                Some(Delivery { message, pulled: false })
            }
            frame => {
                self.receive_other(now, link, frame);
                None
            }
        }
    }

    #[inline(never)]
    fn receive_other(&mut self, now: Time, link: LinkId, frame: Frame<P>) {
        self.scheduler.forget();
        self.on_frame(now, link, frame);
        self.follow_up(now);
    }

    /// Owns a message whose turn it is and that nothing holds back; or does nothing.
    #[inline]
    fn own(&mut self, now: Time, link: LinkId, message: &Message<P>) -> bool {
        let lane = message.lane;
        let usual = self.phase == Phase::Up
            && self.link() == Some(link)
            && !self.admission.held
            && self.out.is_empty()
            && !lane.is_replies()
            && check_call(message).is_ok();
        if !usual || !self.recv[lane.index()].own_next(message) {
            return false;
        }
        self.heard(now);
        self.counters.messages_received += 1;
        let recv = &mut self.recv[lane.index()];
        recv.hand_out();
        let urgent = recv.is_urgent();
        self.owe_ack(now, lane, urgent);
        true
    }

    pub(super) fn on_frame(&mut self, now: Time, link: LinkId, frame: Frame<P>) {
        if self.link() != Some(link) {
            self.counters.stale_frames += 1;
            return;
        }
        if self.phase == Phase::Greeting {
            return match frame {
                Frame::Answer(answer) => self.on_answer(now, *answer, 0),
                _ => self.greeting_fault(now, 0),
            };
        }
        self.heard(now);
        let lane = frame.lane();
        let taken = match frame {
            Frame::Message(message) => self.on_message(now, message),
            Frame::Announce(message) => self.on_announce(now, message),
            Frame::Chunk(chunk) => self.on_chunk(now, chunk),
            Frame::Pull(Pull { lane, seq }) => {
                if self.send[lane.index()].serve(seq) {
                    Ok(())
                } else {
                    Err(LaneFault::Chunk)
                }
            }
            Frame::Ack(ack) => self.on_ack(&ack),
            Frame::Grant(grant) => {
                self.on_grant(grant.slots);
                Ok(())
            }
            Frame::Heartbeat(Heartbeat { ask, answer }) => {
                if answer == self.probes {
                    self.alive_after_all();
                }
                if ask > 0 {
                    self.due.heartbeat = true;
                    self.due.answer = ask;
                    self.due.acks = u8::MAX;
                    self.due.urgent = true;
                }
                Ok(())
            }
            Frame::Admitted => {
                // Once for each hold: more of them say nothing, and fill nobody's queue (S7).
                if std::mem::take(&mut self.peer_holds) {
                    self.event(Event::Admitted);
                }
                Ok(())
            }
            Frame::Close(close) => {
                self.on_close_frame(now, *close);
                Ok(())
            }
            Frame::Hello(_) | Frame::Answer(_) => Err(LaneFault::Gap),
        };
        if taken.is_err() && self.phase == Phase::Up {
            self.frame_fault(now, lane);
        }
    }

    /// Anything from the peer: it lives, it saw our answer, the link is good.
    #[inline]
    fn heard(&mut self, now: Time) {
        self.timers.arm(Timer::Deadline, now.after(self.config.limits.heartbeat_deadline));
        self.confirmed = true;
        self.stalled = false;
        self.failures = 0;
        if let Some(link) = &mut self.link {
            link.healthy = true;
            if link.facts.slots.is_some() {
                link.owed += 1;
            }
        }
        if self.probing {
            // It may have been sent before its sender died: the answer may come behind it.
            let patience = now.after(self.config.limits.probe).min(*self.probe_until);
            self.timers.arm(Timer::Probe, patience);
        }
    }

    /// The old instance answers while a new one uses its name: there are two.
    pub(super) fn alive_after_all(&mut self) {
        if self.probing {
            self.probing = false;
            self.timers.disarm(Timer::Probe);
            self.step(Row::ProbeAnswered);
            self.event(Event::NameConflict);
        }
    }

    fn on_message(&mut self, now: Time, message: Message<P>) -> Result<(), LaneFault> {
        check_call(&message)?;
        let lane = message.lane;
        let recv = &mut self.recv[lane.index()];
        if !recv.own_next(&message) {
            return self.arrive(now, message, false);
        }
        let urgent = recv.is_urgent();
        self.take_in(message, false);
        self.owe_ack(now, lane, urgent);
        Ok(())
    }

    fn on_announce(&mut self, now: Time, message: Message<P>) -> Result<(), LaneFault> {
        check_call(&message)?;
        let limits = &self.config.limits;
        if message.payload.data_len() > limits.data_max || message.payload.data_len() == 0 {
            return Err(LaneFault::Chunk);
        }
        self.arrive(now, message, true)
    }

    fn arrive(&mut self, now: Time, message: Message<P>, announced: bool) -> Result<(), LaneFault> {
        let lane = message.lane;
        if self.recv[lane.index()].arrive(message, announced)?
            == super::recv_lane::Arrival::Duplicate
        {
            self.counters.deduplicated += 1;
            self.owe_ack(now, lane, true);
            return Ok(());
        }
        self.take_complete(now, lane);
        self.pull_more(lane);
        Ok(())
    }

    fn on_chunk(&mut self, now: Time, chunk: Chunk<P>) -> Result<(), LaneFault> {
        let Chunk { lane, seq, offset, len, part } = chunk;
        self.recv[lane.index()].chunk(seq, offset, len, part)?;
        self.take_complete(now, lane);
        Ok(())
    }

    /// Owns every message whose turn has come (S1).
    fn take_complete(&mut self, now: Time, lane: Lane) {
        while let Some((message, pulled)) = self.recv[lane.index()].next_complete() {
            self.take_in(message, pulled);
        }
        let urgent = self.recv[lane.index()].is_urgent();
        self.owe_ack(now, lane, urgent);
    }

    /// Hands a message out, or keeps it until the peer is admitted.
    fn take_in(&mut self, message: Message<P>, pulled: bool) {
        self.counters.messages_received += 1;
        if self.admission.held {
            self.recv[message.lane.index()].hold(message, pulled);
        } else {
            self.hand_out(message, pulled);
        }
    }

    pub(super) fn hand_out(&mut self, message: Message<P>, pulled: bool) {
        let lane = &mut self.recv[message.lane.index()];
        lane.hand_out();
        if !message.lane.is_replies() {
            return self.emit(Output::Deliver(Delivery { message, pulled }));
        }
        let (front_len, data_len) = (message.payload.front_len(), message.payload.data_len());
        let pulled_bytes = if pulled { u64::from(data_len) } else { 0 };
        lane.done(1, window_cost(front_len, data_len), pulled_bytes);
        self.opened[message.lane.index()] += 1;
        if pulled {
            self.pull_more(message.lane);
        }
        match message.call {
            Call::Reply { id, outcome } if self.requests.resolve(id) => {
                // Only a reply has bytes, whatever a peer sends.
                let payload = match outcome {
                    Outcome::Reply => message.payload,
                    _ => P::empty(),
                };
                let result = CallResult::Answered(outcome, payload);
                self.emit(Output::Outcome { id, result });
            }
            Call::Rejected { reason, .. } if self.may_be_rejected(message.lane.class()) => {
                let class = message.lane.class();
                self.event(Event::Undeliverable { class, reason, payload: None });
            }
            _ => self.counters.late_replies += 1,
        }
    }

    /// No more negative answers than messages: a peer cannot make events up (S7).
    fn may_be_rejected(&mut self, class: Class) -> bool {
        let sent = self.send[Lane::messages(class).index()].ever_sent().0;
        let rejections = &mut self.rejections[class.index()];
        *rejections += 1;
        *rejections <= sent
    }

    fn pull_more(&mut self, lane: Lane) {
        if self.phase != Phase::Up {
            return;
        }
        while let Some((seq, data_len)) = self.recv[lane.index()].next_pull() {
            self.emit(Output::Expect { lane, seq, data_len });
            self.pulls.push_back(Pull { lane, seq });
        }
    }

    fn on_ack(&mut self, ack: &Ack) -> Result<(), LaneFault> {
        for lane in Lane::all() {
            let Some(state) = ack.lanes[lane.index()] else {
                continue;
            };
            if !self.acknowledge(lane, state) {
                return Err(LaneFault::Gap);
            }
        }
        Ok(())
    }

    /// False if the peer claims what was never sent.
    pub(super) fn acknowledge(&mut self, lane: Lane, state: LaneState) -> bool {
        let Some((trimmed, position)) = self.send[lane.index()].acknowledge(state) else {
            return false;
        };
        if trimmed.messages > 0 && !lane.is_replies() {
            self.emit(Output::Room { messages: trimmed.messages, bytes: trimmed.bytes });
            self.emit(Output::Received { lane, position, messages: trimmed.messages });
        }
        true
    }

    fn on_grant(&mut self, slots: u32) {
        if let Some(credit) = self.link.as_mut().and_then(|link| link.credit.as_mut()) {
            *credit = credit.saturating_add(slots);
        }
    }

    /// What changed while there was no link to tell it on.
    pub(super) fn owe_changed(&mut self) {
        for lane in Lane::all() {
            if self.recv[lane.index()].is_untold() {
                self.due.acks |= 1 << lane.index();
                self.due.urgent = true;
            }
        }
    }

    #[inline]
    fn owe_ack(&mut self, now: Time, lane: Lane, urgent: bool) {
        if self.phase != Phase::Up {
            return;
        }
        self.due.acks |= 1 << lane.index();
        if urgent {
            self.due.urgent = true;
        } else {
            let awaited = self.recv[lane.index()].is_awaited();
            let patience = if awaited { 1 } else { ACK_PATIENCE };
            let delay = self.config.limits.ack_delay.saturating_mul(patience);
            self.timers.arm_by(Timer::Ack, now.after(delay));
        }
    }

    /// Open requests and notifies.
    pub fn open_requests(&self) -> usize {
        Requests::len(&self.requests)
    }
}

/// Replies travel in reply lanes, everything else in message lanes.
fn check_call<P>(message: &Message<P>) -> Result<(), LaneFault> {
    let is_reply = matches!(message.call, Call::Reply { .. } | Call::Rejected { .. });
    if is_reply == message.lane.is_replies() { Ok(()) } else { Err(LaneFault::Gap) }
}
