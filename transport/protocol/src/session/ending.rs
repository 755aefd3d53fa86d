//! Admission, closing, draining and the one end of a session (S4).

use super::table::Row;
use super::timers::Timer;
use super::{Phase, Session};
use crate::class::{Class, Lane};
use crate::event::{ClassCounts, Decision, End, EndCause, Event, Output, Unacked};
use crate::frame::{Close, CloseReason, LaneState, Payload, TEXT_MAX};
use crate::id::{Question, Seq, Time};

impl<P: Payload> Session<P> {
    pub(super) fn on_admission(&mut self, question: Question, decision: Decision) {
        let admission = self.admission;
        if !admission.held || question != admission.asked || self.phase == Phase::Ended {
            return;
        }
        match decision {
            Decision::Hold => {}
            Decision::Accept => {
                self.step(Row::Admitted);
                self.timers.disarm(Timer::Hold);
                self.admission.held = false;
                self.due.admitted = self.phase == Phase::Up;
                for lane in Lane::all() {
                    while let Some((message, pulled)) = self.recv[lane.index()].release_held() {
                        self.hand_out(message, pulled);
                    }
                }
            }
            Decision::Refuse(text) if self.phase != Phase::Finishing => {
                self.farewell(CloseReason::AdmissionRefused, &text);
                self.end(Row::AdmissionRefused, EndCause::AdmissionRefused);
            }
            Decision::Refuse(_) => self.end(Row::FinishOver, EndCause::ClosedByPeer),
        }
    }

    pub(super) fn on_hold_over(&mut self) {
        if self.admission.held && self.phase != Phase::Finishing {
            self.farewell(CloseReason::AdmissionRefused, "admission was not answered in time");
            self.end(Row::AdmissionSilent, EndCause::AdmissionRefused);
        }
    }

    pub(super) fn on_close(&mut self, now: Time) {
        match self.phase {
            Phase::Ended => return,
            Phase::Finishing => return self.end(Row::FinishOver, EndCause::ClosedByPeer),
            _ if self.closing => return,
            _ => self.closing = true,
        }
        if self.owes_nothing() {
            self.farewell(CloseReason::Closed, "");
            return self.end(Row::CloseNow, EndCause::ClosedHere);
        }
        self.timers.arm(Timer::Drain, now.after(self.config.limits.drain_max));
        // In standby a side that may dial has nothing to send: it would be dialling.
        self.step(Row::CloseDrains);
    }

    pub(super) fn on_abort(&mut self) {
        match self.phase {
            Phase::Ended => {}
            Phase::Finishing => self.end(Row::FinishOver, EndCause::ClosedByPeer),
            _ => {
                self.farewell(CloseReason::Aborted, "");
                self.end(Row::Aborted, EndCause::ClosedHere);
            }
        }
    }

    pub(super) fn on_drain_over(&mut self) {
        if self.phase == Phase::Finishing {
            return self.end(Row::FinishOver, EndCause::ClosedByPeer);
        }
        self.farewell(CloseReason::Aborted, "the drain ran out of time");
        self.end(Row::DrainOver, EndCause::ClosedHere);
    }

    pub(super) fn on_fault(&mut self) {
        if self.phase != Phase::Ended {
            self.farewell(CloseReason::InternalFault, "the session's actor failed");
            self.end(Row::Faulted, EndCause::InternalFault);
        }
    }

    pub(super) fn on_standby_over(&mut self) {
        let cause = if self.told { EndCause::TimedOut } else { EndCause::Unreachable };
        self.end(Row::StandbyOver, cause);
    }

    /// The peer's last word.
    pub(super) fn on_close_frame(&mut self, now: Time, close: Close) {
        self.close_link(false);
        self.peer_delivered = Some(close.delivered);
        self.trust_delivered(&close);
        let cause = match close.reason {
            CloseReason::Closed if !self.all_opened() => {
                self.rewind();
                self.step(Row::PeerClosing);
                self.timers.arm(Timer::Drain, now.after(self.config.limits.drain_max));
                return;
            }
            CloseReason::Closed | CloseReason::Aborted => EndCause::ClosedByPeer,
            CloseReason::AdmissionRefused => EndCause::AdmissionRefused,
            CloseReason::Superseded => EndCause::Superseded,
            CloseReason::ProtocolViolation => EndCause::ProtocolViolation { at: None },
            CloseReason::InternalFault => EndCause::InternalFault,
        };
        self.end(Row::PeerClosed, cause);
    }

    /// What was handed to handlers there was received there: its ack may be lost with the link.
    fn trust_delivered(&mut self, close: &Close) {
        for lane in Lane::all() {
            let sent = self.send[lane.index()].ever_sent();
            let received = Seq(close.delivered[lane.index()]).min(sent);
            self.acknowledge(lane, LaneState { received, ..LaneState::default() });
        }
    }

    /// Whether its end waits for handlers to open what was received: each
    /// [`Input::Opened`](crate::event::Input::Opened) may be the last.
    pub fn awaits_openings(&self) -> bool {
        self.phase == Phase::Finishing
    }

    /// Whether nothing stands in the way of an orderly end: all sent is acked, all received done.
    fn owes_nothing(&self) -> bool {
        self.send.iter().all(|lane| lane.is_empty()) && self.all_settled()
    }

    /// Whether all that came was done with.
    fn all_settled(&self) -> bool {
        let mut lanes = self.recv.iter();
        lanes.all(|lane| lane.is_settled() && lane.pending_len() == 0)
    }

    fn all_opened(&self) -> bool {
        Lane::all().all(|lane| self.undelivered(lane) == 0)
    }

    fn undelivered(&self, lane: Lane) -> u64 {
        let recv = &self.recv[lane.index()];
        recv.handed().saturating_sub(self.opened[lane.index()]) + recv.held_len()
    }

    /// After every input: ends what is drained.
    pub(super) fn settle(&mut self) {
        if self.phase == Phase::Finishing && (self.all_opened() || self.all_settled()) {
            self.end(Row::Finished, EndCause::ClosedByPeer);
        } else if self.closing
            && !matches!(self.phase, Phase::Finishing | Phase::Ended)
            && self.owes_nothing()
        {
            self.farewell(CloseReason::Closed, "");
            self.end(Row::Drained, EndCause::ClosedHere);
        }
    }

    /// Tells the peer, if there is a link to tell it on.
    pub(super) fn farewell(&mut self, reason: CloseReason, text: &str) {
        if self.phase != Phase::Up {
            return self.close_link(false);
        }
        let Some(link) = self.link.take() else { return };
        let mut text = text.to_owned();
        while text.len() > TEXT_MAX {
            text.pop();
        }
        let close = Close { reason, delivered: *self.opened, text };
        self.emit(Output::Farewell { link: link.id, close: Box::new(close) });
    }

    /// The end, exactly once (S4).
    pub(super) fn end(&mut self, row: Row, cause: EndCause) {
        if self.phase == Phase::Dialing {
            self.emit(Output::CancelDial);
        }
        self.step(row);
        self.close_link(false);
        self.timers.disarm_all();
        self.counters.ended += 1;
        self.end_requests();
        let counts = Class::ALL.map(|class| self.count(class));
        let end = End {
            cause,
            id: self.id,
            peer: self.peer,
            counts,
            goes_on: self.config.policy.goes_on()
                && !self.closing
                && cause == EndCause::PeerRestarted,
            unacked: self.take_back(),
        };
        self.pulls.clear();
        self.event(Event::Ended(Box::new(end)));
    }

    fn count(&self, class: Class) -> ClassCounts {
        let lane = Lane::messages(class);
        let send = &self.send[lane.index()];
        ClassCounts {
            unacked: send.len() as u64,
            unacked_sent: send.sent_unacked(),
            undelivered: self.undelivered(lane),
            peer_delivered: self.peer_delivered.map(|delivered| delivered[lane.index()]),
        }
    }

    fn take_back(&mut self) -> Vec<Unacked<P>> {
        let mut unacked = Vec::new();
        for lane in Lane::all() {
            unacked.extend(self.send[lane.index()].drain().map(|(entry, sent)| Unacked {
                class: lane.class(),
                reply: lane.is_replies(),
                sent,
                call: entry.call,
                payload: entry.payload,
            }));
        }
        unacked
    }
}
