//! Dialling, hellos, answers and races (S5, S6).
//!
//! A race is decided by whoever receives a hello while its own dial is out, by comparing the two
//! dials: one that insists outranks one that does not, then the greater (name, instance) wins.
//! Both ends compare the same two, so they agree.
//!
//! An acceptor counts its session as *confirmed* only when a frame proves that its answer was
//! seen. Until then nothing of the session was received by anybody, so two sides that accepted
//! each other on two links that both died may still fold into one session.

use super::table::{Illegal, Row};
use super::timers::{Silent, Timer};
use super::why::Trouble;
use super::{Admission, Due, Link, Phase, Session};
use crate::class::{Class, Lane};
use crate::event::{EndCause, Event, LinkFacts, Output};
use crate::frame::{
    Answer, Call, Frame, Hello, Opening, Outcome, Payload, RefuseReason, Stance, TEXT_MAX, Terms,
    UndeliverableReason, Verdict,
};
use crate::id::{Attempt, Incarnation, LinkId, Time};

impl<P: Payload> Session<P> {
    pub(super) fn on_dialled(
        &mut self,
        now: Time,
        link: LinkId,
        attempt: Attempt,
        facts: LinkFacts,
    ) {
        if self.phase != Phase::Dialing {
            self.step(Row::DialledLate);
            self.emit(Output::CloseLink { link, drain: false });
            return;
        }
        self.step(Row::Dialled);
        self.attempt = attempt;
        self.link = Some(self.fresh_link(link, facts));
        self.timers.arm(Timer::Hello, now.after(self.config.limits.hello_timeout));
        if self.told {
            self.counters.resumes_sent += 1;
        } else {
            self.counters.hellos_sent += 1;
        }
        let hello = Hello {
            from: self.config.me,
            target: self.config.target,
            session: self.id,
            attempt,
            established: self.told,
            insist: self.insist,
            policy: self.config.policy.offer(),
            opening: self.opening(facts),
        };
        self.emit(Output::Send { link, frame: Frame::Hello(Box::new(hello)) });
    }

    pub(super) fn on_dial_failed(&mut self, now: Time, jitter: u16) -> Result<(), Illegal> {
        if self.phase != Phase::Dialing {
            return Err(Illegal { phase: self.phase, input: "DialFailed" });
        }
        self.back_off(now, Row::DialFailed, jitter);
        Ok(())
    }

    /// The transport does not come back with a link, or the peer not with an answer.
    pub(super) fn on_hello_silent(&mut self, now: Time, jitter: u16) {
        if self.phase == Phase::Dialing {
            self.emit(Output::CancelDial);
            return self.back_off(now, Row::DialSilent, jitter);
        }
        self.close_link(false);
        self.back_off(now, Row::GreetingSilent, jitter);
    }

    /// The answer to our hello.
    pub(super) fn on_answer(&mut self, now: Time, answer: Answer, jitter: u16) {
        let stranger = answer.from.name != self.config.target;
        if answer.attempt != self.attempt || answer.session != self.id || stranger {
            // Not for this hello, or a name that refuses nothing yet is not whom we dialled.
            return self.on_wrong_answer(now, &answer, stranger, jitter);
        }
        let restarted = self.peer.is_some_and(|peer| peer.instance != answer.from.instance);
        match answer.verdict {
            Verdict::Accepted { lossy, opening } if !restarted => {
                self.timers.disarm(Timer::Hello);
                self.step(Row::AnswerAccepted);
                self.peer = Some(answer.from);
                self.peer_attempt = answer.latest;
                self.lossy |= lossy;
                let resumed = self.told;
                self.confirmed = true;
                self.come_up(now, opening, resumed);
            }
            Verdict::Accepted { .. } | Verdict::NoSession => {
                self.close_link(false);
                let cause =
                    if restarted { EndCause::PeerRestarted } else { EndCause::ClosedByPeer };
                self.end(Row::AnswerEnds, cause);
            }
            Verdict::Lost => {
                self.close_link(false);
                self.timers.disarm(Timer::Hello);
                self.step(Row::AnswerLost);
                self.timers.arm(Timer::RaceWait, now.after(self.config.limits.race_wait));
            }
            Verdict::Refused { reason, .. } => self.on_refused(now, reason, jitter),
        }
    }

    fn on_refused(&mut self, now: Time, reason: RefuseReason, jitter: u16) {
        let cause = match reason {
            RefuseReason::Busy | RefuseReason::ShuttingDown => None,
            // An address that belongs to somebody else now: the peer may still come back or call.
            RefuseReason::WrongEntity if self.told => None,
            RefuseReason::PolicyMismatch => Some(EndCause::PolicyMismatch),
            RefuseReason::Superseded => Some(EndCause::Superseded),
            RefuseReason::WrongEntity | RefuseReason::Feature => Some(EndCause::Refused(reason)),
        };
        self.close_link(false);
        match cause {
            Some(cause) => self.end(Row::AnswerEnds, cause),
            None => {
                self.back_off(now, Row::AnswerAgain, jitter);
                self.trouble = Silent(Some(Trouble::Refused(reason)));
            }
        }
    }

    fn on_wrong_answer(&mut self, now: Time, answer: &Answer, stranger: bool, jitter: u16) {
        match (&answer.verdict, stranger) {
            // It says itself that it is not whom we dialled.
            (Verdict::Refused { reason, .. }, true) => self.on_refused(now, *reason, jitter),
            (_, true) => self.on_refused(now, RefuseReason::WrongEntity, jitter),
            (_, false) => self.greeting_fault(now, jitter),
        }
    }

    pub(super) fn greeting_fault(&mut self, now: Time, jitter: u16) {
        self.close_link(false);
        self.back_off(now, Row::GreetingFault, jitter);
    }

    /// A hello that the directory routed here.
    pub(super) fn on_hello(
        &mut self,
        now: Time,
        link: LinkId,
        hello: Box<Hello>,
        latest: Attempt,
        facts: LinkFacts,
    ) {
        if self.is_not_for_us(&hello) {
            self.step(Row::HelloBounced);
            return self.emit(Output::Bounce { link, hello });
        }
        let renamed = self.confirmed && hello.session != self.id;
        if renamed || (self.peer.is_some() && hello.attempt <= self.peer_attempt) {
            self.step(Row::HelloStale);
            self.counters.stale_hellos += 1;
            return self.emit(Output::CloseLink { link, drain: false });
        }
        if self.phase == Phase::Finishing {
            self.step(Row::HelloOver);
            return self.answer(link, &hello, latest, Verdict::NoSession, true);
        }
        if hello.established {
            self.counters.resumes_received += 1;
        } else {
            self.counters.hellos_received += 1;
        }
        let Ok(promise) = self.config.policy.accept(hello.policy) else {
            self.step(Row::HelloMismatch);
            let text = format!("{:?} dialled {}", hello.policy.stance, self.config.policy.name());
            return self.refuse(link, &hello, latest, RefuseReason::PolicyMismatch, text);
        };
        if self.our_dial_stands(&hello) {
            self.step(Row::HelloWonByUs);
            return self.answer(link, &hello, latest, Verdict::Lost, true);
        }
        self.lossy |= promise.lossy;
        self.accept_hello(now, link, &hello, latest, facts);
    }

    /// Whether the hello was routed here by what the directory knew before, and now is not.
    fn is_not_for_us(&self, hello: &Hello) -> bool {
        let ours = [self.own_id, self.their_id].contains(&hello.session);
        let stranger = self.peer.is_some_and(|peer| peer.instance != hello.from.instance);
        self.phase == Phase::Ended || stranger || (self.told && !ours)
    }

    /// Whether our own dial is out and outranks theirs.
    fn our_dial_stands(&self, hello: &Hello) -> bool {
        let out = match self.phase {
            // Our hello has not left, so nothing can cross: who insists is let in, else two that
            // both insist would wait for a dial that never gets through.
            Phase::Dialing => !hello.insist,
            phase => phase == Phase::Greeting,
        };
        let ours = (self.insist, self.config.me.rank());
        let theirs = (hello.insist, hello.from.rank());
        out && self.config.policy.stance() == Stance::Peer && ours > theirs
    }

    fn accept_hello(
        &mut self,
        now: Time,
        link: LinkId,
        hello: &Hello,
        latest: Attempt,
        facts: LinkFacts,
    ) {
        let resumed = self.told;
        match self.phase {
            Phase::Up => {
                self.counters.links_replaced += 1;
                self.alive_after_all();
                self.rewind();
                self.close_link(false);
                self.step(Row::HelloReplaces);
            }
            phase => {
                if phase == Phase::Dialing {
                    self.emit(Output::CancelDial);
                }
                self.close_link(false);
                self.step(Row::HelloAccepted);
            }
        }
        self.counters.links_accepted += 1;
        if hello.session != self.id {
            self.take_id(hello);
        }
        for timer in [Timer::Hello, Timer::Backoff, Timer::RaceWait] {
            self.timers.disarm(timer);
        }
        self.peer = Some(hello.from);
        self.peer_attempt = hello.attempt;
        self.link = Some(self.fresh_link(link, facts));
        let opening = self.opening(facts);
        let verdict = Verdict::Accepted { lossy: self.lossy, opening };
        self.answer(link, hello, latest, verdict, false);
        self.come_up(now, hello.opening.clone(), resumed);
    }

    /// The winner's id stands; the loser's messages move into it, numbered from one (S5).
    fn take_id(&mut self, hello: &Hello) {
        debug_assert!(!self.confirmed, "S6: a confirmed session keeps its id");
        self.id = hello.session;
        if self.id != self.own_id {
            self.their_id = self.id;
        }
        for lane in &mut self.send {
            lane.unborn();
        }
        for lane in &mut self.recv {
            lane.unborn();
        }
    }

    /// The session has a link and both openings: the common end of every handshake.
    fn come_up(&mut self, now: Time, opening: Opening, resumed: bool) {
        let limits = self.config.limits;
        self.insist = false;
        self.stalled = false;
        self.probing = false;
        self.trouble = Silent(None);
        self.timers.disarm(Timer::Standby);
        self.timers.arm(Timer::Heartbeat, now.after(limits.heartbeat_every));
        self.timers.arm(Timer::Deadline, now.after(limits.heartbeat_deadline));
        if let Some(link) = &mut self.link {
            link.credit = opening.terms.slots;
            let id = link.id;
            self.emit(Output::Adopt(id));
        }
        if let Some(peer) = self.peer {
            self.emit(Output::Bound { peer, id: self.id, latest: self.peer_attempt });
        }
        self.take_terms(opening.terms);
        for (lane, state) in Lane::all().zip(opening.lanes) {
            if !self.acknowledge(lane, state) {
                return self.violated(None);
            }
        }
        let peer_holds = opening.held;
        self.peer_holds = peer_holds;
        match (resumed, self.peer) {
            (true, _) => self.event(Event::Resumed { held: peer_holds }),
            (false, Some(peer)) => self.event(Event::Connected { peer, held: peer_holds }),
            (false, None) => {}
        }
        self.told = true;
        self.owe_changed();
        self.ask_admission(now, opening, resumed);
    }

    fn ask_admission(&mut self, now: Time, opening: Opening, resumed: bool) {
        let (true, Some(peer)) = (self.config.admission, self.peer) else {
            return;
        };
        self.admission = Admission { asked: self.admission.asked.next(), held: true };
        self.timers.arm_once(Timer::Hold, now.after(self.config.limits.hold_max));
        let (question, metadata) = (self.admission.asked, opening.metadata);
        self.emit(Output::AskAdmission { question, peer, metadata, resumed });
    }

    /// Takes the peer's limits; what waits and is over them goes back to the user.
    fn take_terms(&mut self, terms: Terms) {
        let known = self.terms.replace(terms);
        if known == Some(terms) {
            return;
        }
        self.emit(Output::Terms(terms));
        let holds =
            |known: Terms| known.front_max <= terms.front_max && known.data_max <= terms.data_max;
        if known.is_some_and(holds) {
            return;
        }
        let too_large = |payload: &P| {
            payload.front_len() > terms.front_max || payload.data_len() > terms.data_max
        };
        for lane in Lane::all() {
            if lane.is_replies() {
                self.send[lane.index()].replace_unsent(too_large, |call| {
                    if let Call::Reply { outcome, .. } = call {
                        *outcome = Outcome::Undeliverable(UndeliverableReason::TooLarge);
                    }
                });
                continue;
            }
            for entry in self.send[lane.index()].remove_unsent(too_large) {
                let (messages, bytes) = (1, entry.bytes());
                self.emit(Output::Room { messages, bytes });
                self.return_too_large(lane, entry);
            }
        }
    }

    /// The answer names what we can take on this link; the same for both sides.
    fn opening(&mut self, facts: LinkFacts) -> Opening {
        let limits = &self.config.limits;
        // Where frames arrive whole, a front must fit the receive that it lands in.
        let front_max = match facts.whole || facts.slots.is_some() {
            true => limits.front_max.min(facts.slot_bytes),
            false => limits.front_max,
        };
        let terms = Terms {
            front_max,
            data_max: limits.data_max,
            slot_bytes: limits.slot_bytes.min(facts.slot_bytes),
            slots: facts.slots,
            requests_max: limits.requests_max,
        };
        let (metadata, held) = (self.config.metadata.clone(), self.config.admission);
        let lanes = std::array::from_fn(|index| self.recv[index].tell());
        self.due.acks = 0;
        Opening {
            terms,
            lanes,
            held,
            features: self.offers.features.clone(),
            metadata,
            auth: bytes::Bytes::new(),
        }
    }

    fn fresh_link(&mut self, id: LinkId, facts: LinkFacts) -> Link {
        self.due = Due::default();
        Link { id, facts, credit: facts.slots, owed: 0, healthy: false }
    }

    fn refuse(
        &mut self,
        link: LinkId,
        hello: &Hello,
        latest: Attempt,
        reason: RefuseReason,
        mut text: String,
    ) {
        text.truncate(TEXT_MAX);
        self.answer(link, hello, latest, Verdict::Refused { reason, text }, true);
    }

    fn answer(
        &mut self,
        link: LinkId,
        hello: &Hello,
        latest: Attempt,
        verdict: Verdict,
        close: bool,
    ) {
        let answer = Answer {
            from: self.config.me,
            session: hello.session,
            attempt: hello.attempt,
            latest,
            resume: hello.established,
            verdict,
        };
        self.emit(Output::Send { link, frame: Frame::Answer(Box::new(answer)) });
        if close {
            self.emit(Output::CloseLink { link, drain: true });
        }
    }

    /// No link: waits, longer each time.
    pub(super) fn back_off(&mut self, now: Time, row: Row, jitter: u16) {
        self.step(row);
        let trouble = Trouble::of(row);
        match trouble {
            Trouble::DialFailed => self.counters.dials_failed += 1,
            Trouble::DialSilent | Trouble::HelloSilent => self.counters.dials_silent += 1,
            _ => {}
        }
        self.trouble = Silent(Some(trouble));
        self.failures = self.failures.saturating_add(1);
        self.timers.disarm(Timer::Hello);
        let wait = self.config.limits.backoff(self.failures, jitter);
        self.timers.arm(Timer::Backoff, now.after(wait));
    }

    /// Another instance uses the peer's name.
    pub(super) fn on_new_instance(&mut self, now: Time, incarnation: Option<Incarnation>) {
        let known = self.peer.and_then(|peer| peer.incarnation);
        if let (Some(known), Some(new)) = (known, incarnation)
            && new > known
        {
            self.farewell(crate::frame::CloseReason::Superseded, "a newer incarnation is known");
            return self.end(Row::PeerSuperseded, EndCause::Superseded);
        }
        if self.phase != Phase::Up {
            return self.end(Row::PeerReplaced, EndCause::PeerRestarted);
        }
        self.step(Row::PeerProbed);
        if !self.probing {
            self.probing = true;
            self.probes = self.probes.wrapping_add(1).max(1);
            self.probe_until = Silent(now.after(self.config.limits.heartbeat_deadline));
        }
        self.due.heartbeat = true;
        self.due.ask = true;
        // Asked already: who uses the name once more does not put the verdict off.
        self.timers.arm_once(Timer::Probe, now.after(self.config.limits.probe));
    }

    pub(super) fn on_probe_silent(&mut self) {
        self.close_link(false);
        self.end(Row::ProbeSilent, EndCause::PeerRestarted);
    }

    fn return_too_large(&mut self, lane: Lane, entry: super::send_lane::Entry<P>) {
        use crate::event::{CallResult, Returned};
        let (position, why) = (entry.position, Returned::TooLarge);
        self.emit(Output::Returned { lane, position, why });
        let reason = UndeliverableReason::TooLarge;
        if let Call::Request { id, .. } | Call::Notify { id } = entry.call
            && self.requests.resolve(id)
        {
            let outcome = Outcome::Undeliverable(reason);
            let result = CallResult::Answered(outcome, entry.payload);
            return self.emit(Output::Outcome { id, result });
        }
        let class: Class = lane.class();
        self.event(Event::Undeliverable { class, reason, payload: Some(entry.payload) });
    }
}
