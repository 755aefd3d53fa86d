//! When the endpoint looks at what, and asks the clock no more often than it has to. Pure: time comes
//! from the caller, on the endpoint's clock.
//!
//! ```text
//!   deadlines   at the alarm: when its timer fired, and now and then while there is much to do
//!   queues      Busy ── nothing to do ──► Quiet since ── for `spin` ──► Resting: sleeps
//!                 ▲                            │                          │
//!                 └───────── anything ─────────┴──────────────────────────┘
//!   what was sent and nobody waits for: after LATE, then twice that, up to LATEST; LATE again when busy,
//!     or when something new was sent
//! ```

use std::time::Duration;

use crate::rdma::interest::{LATE, LATEST};

/// Polls without a look at the clock while something is due some day and no timer fired.
const UNTIMED: u32 = 64;

/// See the module.
#[derive(Debug)]
pub(super) struct Looks {
    /// When to look at deadlines.
    alarm: Option<Duration>,
    /// So far, of the endpoint.
    polls: u32,
    pace: Pace,
    /// After how long to look for what nobody waits for.
    late: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    Busy,
    Quiet { since: Duration },
    Resting,
}

impl Looks {
    pub(super) fn new() -> Self {
        Self { alarm: None, polls: 0, pace: Pace::Busy, late: LATE }
    }

    /// The next deadline.
    pub(super) fn alarm(&self) -> Option<Duration> {
        self.alarm
    }

    /// There is a deadline then; whether the alarm is earlier by that.
    pub(super) fn wake_at(&mut self, at: Duration) -> bool {
        let earlier = self.alarm.is_none_or(|alarm| at < alarm);
        if earlier {
            self.alarm = Some(at);
        }
        earlier
    }

    /// A poll begins; whether to ask the clock for deadlines. One that looks instead of sleeping
    /// has no timer.
    pub(super) fn begin(&mut self, fired: bool) -> bool {
        self.polls = self.polls.wrapping_add(1);
        fired || self.polls.is_multiple_of(UNTIMED) || matches!(self.pace, Pace::Quiet { .. })
    }

    /// Whether deadlines are to be looked at, each of which tells when it is next.
    pub(super) fn is_due(&mut self, now: impl FnOnce() -> Duration) -> bool {
        self.alarm.take_if(|alarm| now() >= *alarm).is_some()
    }

    /// Something was done.
    pub(super) fn busy(&mut self) {
        (self.pace, self.late) = (Pace::Busy, LATE);
    }

    /// There was nothing to do in a poll.
    pub(super) fn quiet(&mut self, now: Duration, spin: Duration) {
        let since = match self.pace {
            Pace::Busy => now,
            Pace::Quiet { since } => since,
            Pace::Resting => return,
        };
        self.pace = match now.saturating_sub(since) >= spin {
            true => Pace::Resting,
            false => Pace::Quiet { since },
        };
    }

    /// Whether it has looked for long enough.
    pub(super) fn is_resting(&self) -> bool {
        self.pace == Pace::Resting
    }

    /// Something new was sent that nobody waits for.
    pub(super) fn soon(&mut self) {
        self.late = LATE;
    }

    /// What nobody waits for was looked at; after how long again.
    pub(super) fn next_late(&mut self) -> Duration {
        self.late = (self.late * 2).min(LATEST);
        self.late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_first_deadline_counts_and_is_due_once() {
        let mut looks = Looks::new();
        assert!(!looks.is_due(|| at(1000)), "there is none");
        assert!(looks.wake_at(at(20)));
        assert!(!looks.wake_at(at(30)), "later");
        assert!(looks.wake_at(at(10)));
        assert_eq!(looks.alarm(), Some(at(10)));
        assert!(!looks.is_due(|| at(9)));
        assert!(looks.is_due(|| at(10)));
        assert!(!looks.is_due(|| at(10)), "it has been looked at");
    }

    #[test]
    fn the_clock_is_asked_when_a_timer_fired_and_now_and_then() {
        let mut looks = Looks::new();
        assert!(looks.begin(true));
        assert_eq!((1..UNTIMED * 4).filter(|_| looks.begin(false)).count(), 4);
        looks.quiet(at(5), at(2));
        assert!(looks.begin(false), "nobody sleeps, so no timer will fire");
        looks.quiet(at(7), at(2));
        assert!(!looks.begin(false), "it sleeps");
    }

    #[test]
    fn it_rests_after_a_span_without_work() {
        let mut looks = Looks::new();
        for begin in [at(10), at(50)] {
            looks.quiet(begin, at(2));
            looks.quiet(begin + at(1), at(2));
            assert!(!looks.is_resting());
            looks.quiet(begin + at(2), at(2));
            assert!(looks.is_resting());
            looks.busy();
            assert!(!looks.is_resting());
        }
    }

    #[test]
    fn what_nobody_waits_for_is_looked_at_less_and_less_often() {
        let mut looks = Looks::new();
        let spans: Vec<Duration> = (0..7).map(|_| looks.next_late()).collect();
        assert_eq!(spans[..3], [LATE * 2, LATE * 4, LATE * 8]);
        assert_eq!(spans[6], LATEST);
        looks.busy();
        assert_eq!(looks.next_late(), LATE * 2);
    }
}
