//! When a link that waits looks again instead of going to sleep.
//!
//! ```text
//!   waits end soon, one after another ──► looks, up to `max` a wait ──┬─ something came: go on
//!                ▲                                                    ├─ nothing: sleep
//!                └── learn anew ◄─────────────────────────────────────┴─ somebody took the core
//! ```
//!
//! To be put to sleep and woken costs a thread more time than many an answer takes. Reactors of
//! storage systems that own their cores poll on for a while before they sleep (Seastar does for
//! 200 us); a hypervisor does before it lets an idle processor go, for as long as that has paid. This
//! is the latter: waits that have been short, [`STREAK`] in a row, are taken to be short, and one
//! that is not ends it. So a link whose messages are further apart never looks, and others lose at
//! most one `max` of processor time for `STREAK` messages. A look that took longer than a whole wait
//! may says that the core is wanted, or the thread for other tasks: a thread that only yields is put
//! behind those that sleep, so nothing is looked for while the next [`BARRED`] messages come.

use std::time::Duration;

use tokio::time::Instant;

/// Short waits before the next is taken to be short.
const STREAK: u8 = 8;
/// Messages' waits that are slept through once the core was taken.
const BARRED: u16 = 1_000;

/// Waits of one link.
#[derive(Debug)]
pub(super) struct Spin {
    max: Duration,
    /// Since when it waits.
    since: Option<Instant>,
    /// When it last looked.
    looked: Option<Instant>,
    /// How often in this wait: a clock that a test has stopped must not make it endless.
    looks: u64,
    short: u8,
    barred: u16,
}

impl Spin {
    /// Never looks if `max` is zero.
    pub(super) fn new(max: Duration) -> Self {
        Self { max, since: None, looked: None, looks: 0, short: 0, barred: 0 }
    }

    /// Whether it ever looks.
    #[inline]
    pub(super) fn is_on(&self) -> bool {
        !self.max.is_zero()
    }

    /// Whether it has asked to look again, and was not told anything since.
    #[inline]
    pub(super) fn is_looking(&self) -> bool {
        self.looked.is_some()
    }

    /// Something came: the wait is over.
    pub(super) fn came(&mut self, now: Instant) {
        self.looked = None;
        let Some(since) = self.since.take() else { return };
        self.barred = self.barred.saturating_sub(1);
        self.short = match now.saturating_duration_since(since) <= self.max {
            true => (self.short + 1).min(STREAK),
            false => 0,
        };
    }

    /// There is something to do other than to wait: what comes meanwhile says nothing of waits.
    pub(super) fn works(&mut self) {
        (self.since, self.looked) = (None, None);
    }

    /// It waits; from now on, if something was just `moved`. Whether to look again at once.
    pub(super) fn waits(&mut self, now: Instant, moved: bool) -> bool {
        if moved {
            (self.since, self.looked, self.looks) = (Some(now), None, 0);
        }
        let since = *self.since.get_or_insert(now);
        if self.short < STREAK || self.barred > 0 {
            return false;
        }
        let took = self.looked.replace(now).map(|at| now.saturating_duration_since(at));
        if took.is_some_and(|took| took > self.max) {
            self.barred = BARRED;
        }
        self.looks += 1;
        let over =
            now.saturating_duration_since(since) >= self.max || self.looks > self.looks_max();
        if over || self.barred > 0 {
            (self.short, self.looked) = (0, None);
            return false;
        }
        true
    }

    /// More than there is time for: a look takes about a microsecond.
    fn looks_max(&self) -> u64 {
        64 + 4 * u64::try_from(self.max.as_micros()).unwrap_or(u64::MAX / 8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: Duration = Duration::from_micros(1);
    const MAX: Duration = Duration::from_micros(50);

    /// A link that learns, and the time.
    struct Bed {
        spin: Spin,
        now: Instant,
    }

    impl Bed {
        fn new() -> Self {
            Self { spin: Spin::new(MAX), now: Instant::now() }
        }

        /// One message after a wait, in which it looks every microsecond if it looks at all: for how
        /// long it did.
        fn message(&mut self, wait: Duration) -> Duration {
            let began = self.now;
            let mut looks = self.spin.waits(self.now, true);
            while looks && self.now - began < wait {
                self.now += US;
                looks = self.spin.waits(self.now, false);
            }
            assert_eq!(self.spin.is_looking(), looks);
            let looked = self.now - began;
            self.now = began + wait.max(looked);
            self.spin.came(self.now);
            assert!(!self.spin.is_looking());
            looked
        }
    }

    #[test]
    fn it_looks_once_waits_are_known_to_be_short_and_no_longer_than_it_may() {
        let mut bed = Bed::new();
        for _ in 0..STREAK {
            assert_eq!(bed.message(20 * US), Duration::ZERO, "not known yet");
        }
        for wait in [20, 1, 49, 30] {
            assert_eq!(bed.message(wait * US), wait * US, "it is awake when the message comes");
        }
        assert_eq!(bed.message(10_000 * US), MAX, "and gives up in time");
        for _ in 0..STREAK {
            assert_eq!(bed.message(20 * US), Duration::ZERO, "it learns anew");
        }
        assert_eq!(bed.message(20 * US), 20 * US);
    }

    /// What it costs at worst: one `max` for `STREAK` messages.
    #[test]
    fn messages_that_are_further_apart_cost_nothing_and_mixed_ones_little() {
        let mut bed = Bed::new();
        assert!((0..1_000).all(|_| bed.message(60 * US).is_zero()));
        let mut lost = Duration::ZERO;
        for message in 0..9_000_u32 {
            let wait = if message % 9 == 8 { 1_000 * US } else { 5 * US };
            let looked = bed.message(wait);
            lost += if looked < wait { looked } else { Duration::ZERO };
        }
        assert_eq!(lost, 1_000 * MAX);
        let mut bed = Bed::new();
        let often = |message: u32| if message % 4 == 3 { 1_000 * US } else { 5 * US };
        assert!((0..1_000).all(|message| bed.message(often(message)).is_zero()));
    }

    #[test]
    fn a_core_that_is_wanted_is_left_to_who_wants_it() {
        let mut bed = Bed::new();
        (0..STREAK).for_each(|_| assert!(bed.message(US).is_zero()));
        assert!(bed.spin.waits(bed.now, true));
        bed.now += 3_000 * US;
        assert!(!bed.spin.waits(bed.now, false) && !bed.spin.is_looking());
        bed.spin.came(bed.now);
        let slept = (0..).take_while(|_| bed.message(US).is_zero()).count();
        assert_eq!(slept, usize::from(BARRED) - 1);
    }

    /// D1: also where time stands still.
    #[test]
    fn a_stopped_clock_does_not_make_it_endless() {
        let mut bed = Bed::new();
        (0..STREAK).for_each(|_| assert!(bed.message(Duration::ZERO).is_zero()));
        assert!(bed.spin.waits(bed.now, true));
        let looks = (0..).take_while(|_| bed.spin.waits(bed.now, false)).count() as u64;
        assert!(looks <= bed.spin.looks_max(), "{looks}");
        // As after any wait that was too long.
        assert!(bed.message(Duration::ZERO).is_zero());
    }

    #[test]
    fn what_comes_while_there_is_something_to_do_says_nothing() {
        let mut bed = Bed::new();
        for _ in 0..100 {
            bed.spin.waits(bed.now, true);
            bed.spin.works();
            bed.spin.came(bed.now);
        }
        assert!(bed.message(US).is_zero());
        assert!(!Spin::new(Duration::ZERO).is_on());
    }
}
