//! How a session loses its link, and when that is its end: faults, silence, poison (S8, S9).

use super::table::Row;
use super::timers::Timer;
use super::{Due, Phase, Session};
use crate::class::{Class, Lane};
use crate::error::Blame;
use crate::event::EndCause;
use crate::frame::Payload;
use crate::id::{LinkId, Seq, Time};

/// How the link of a session that was up went.
struct Lost {
    blame: Blame,
    /// The lane of the frame that broke a rule, if one did.
    lane: Option<Lane>,
    /// Whether anything arrived on the link since the handshake.
    healthy: bool,
    /// Nothing was heard for a deadline.
    silent: bool,
}

impl<P: Payload> Session<P> {
    /// The peer broke a rule: the link is done for, and a third time at one place the session.
    pub(super) fn frame_fault(&mut self, now: Time, lane: Option<Lane>) {
        self.step(Row::FrameFault);
        let healthy = self.rewind();
        self.close_link(false);
        let lost = Lost { blame: Blame::PeerMisbehaved, lane, healthy, silent: false };
        self.up_without_link(now, &lost, 0);
    }

    /// No new link would help.
    pub(super) fn violated(&mut self, at: Option<(Class, Seq)>) {
        if self.phase == Phase::Up {
            self.farewell(crate::frame::CloseReason::ProtocolViolation, "the protocol was broken");
            self.end(Row::Violated, EndCause::ProtocolViolation { at });
        }
    }

    pub(super) fn on_link_lost(&mut self, now: Time, link: LinkId, blame: Blame, jitter: u16) {
        if self.link() != Some(link) {
            return;
        }
        match self.phase {
            Phase::Greeting => {
                self.link = None;
                self.back_off(now, Row::GreetingLost, jitter);
            }
            Phase::Up => {
                let healthy = self.rewind();
                self.link = None;
                let lost = Lost { blame, lane: None, healthy, silent: false };
                self.up_without_link(now, &lost, jitter);
            }
            _ => {}
        }
    }

    /// The session is up, rewound, and has no link any more.
    fn up_without_link(&mut self, now: Time, lost: &Lost, jitter: u16) {
        let &Lost { blame, lane, healthy, silent } = lost;
        self.counters.links_lost += 1;
        let limits = self.config.limits;
        if self.lossy {
            let row = if silent { Row::SilentLossy } else { Row::LinkLostLossy };
            return self.end(row, EndCause::LinkLost);
        }
        if self.probing {
            return self.end(Row::PeerReplaced, EndCause::PeerRestarted);
        }
        if self.is_poisoned(blame) {
            let at = lane.map(|lane| (lane.class(), self.recv[lane.index()].received().next()));
            return self.end(Row::LinkLostPoison, EndCause::ProtocolViolation { at });
        }
        self.timers.arm_once(Timer::Standby, now.after(limits.standby_max));
        let client = self.config.policy.stance() == crate::frame::Stance::Client;
        let must = client || self.offers.unreachable;
        let dials = self.config.policy.dials() && (must || self.has_something_to_say());
        match (dials, healthy) {
            _ if silent && dials => self.back_off(now, Row::SilentLossless, jitter),
            (true, true) => {
                self.step(Row::LinkLostRedial);
                self.start_dial(now);
            }
            (true, false) => self.back_off(now, Row::LinkLostBackoff, jitter),
            (false, _) => self.step(Row::LinkLostWait),
        }
    }

    fn is_poisoned(&mut self, blame: Blame) -> bool {
        let received = std::array::from_fn(|index| self.recv[index].received().0);
        if blame != Blame::PeerMisbehaved {
            return false;
        }
        if self.poison.received != received {
            self.poison.faults = 0;
            self.poison.received = received;
        }
        self.poison.faults += 1;
        self.poison.faults >= super::POISON_FAULTS
    }

    /// Everything that belonged to the link is forgotten; what was not acked waits again.
    /// Returns whether the link had proved healthy.
    pub(super) fn rewind(&mut self) -> bool {
        for lane in &mut self.send {
            lane.rewind();
        }
        for lane in &mut self.recv {
            lane.rewind();
        }
        self.pulls.clear();
        self.due = Due::default();
        for timer in [Timer::Heartbeat, Timer::Deadline, Timer::Probe, Timer::Ack] {
            self.timers.disarm(timer);
        }
        self.link.is_some_and(|link| link.healthy)
    }

    /// Nothing was heard for a deadline. A late timer is our own fault first; that we woke late is
    /// told in any case, see `on_timer` (S9).
    pub(super) fn on_silence(&mut self, now: Time, late: u64, jitter: u16) {
        let deadline = self.config.limits.heartbeat_deadline;
        let limits = &self.config.limits;
        if limits.is_own_stall(std::time::Duration::from_nanos(late)) && !self.stalled {
            self.step(Row::StallForgiven);
            self.stalled = true;
            self.counters.local_stalls += 1;
            self.timers.arm(Timer::Deadline, now.after(deadline));
            self.due.heartbeat = true;
            return;
        }
        let healthy = self.rewind();
        self.close_link(false);
        let lost = Lost { blame: Blame::Transport, lane: None, healthy, silent: true };
        self.up_without_link(now, &lost, jitter);
    }
}
