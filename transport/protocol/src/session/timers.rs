//! The fixed table of a session's timers.
//!
//! Which timers are armed is state; when they are due is not: `Eq` and `Hash` see only the former,
//! so that the model checker may fire any armed timer at any step and stays finite.

use std::hash::{Hash, Hasher};

use crate::id::Time;

/// A session's timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Timer {
    /// A dial came to nothing, or a hello was not answered.
    Hello,
    /// The wait between two dials is over.
    Backoff,
    /// The winner of a race did not come.
    RaceWait,
    /// Time for a sign of life.
    Heartbeat,
    /// Nothing was heard for too long.
    Deadline,
    /// Without a link for too long.
    Standby,
    /// Admission was not answered.
    Hold,
    /// The drain took too long.
    Drain,
    /// The probe was not answered.
    Probe,
    /// Acks waited long enough.
    Ack,
    /// A request's time is over.
    Request,
}

impl Timer {
    /// All timers.
    pub const ALL: [Self; 11] = [
        Self::Hello,
        Self::Backoff,
        Self::RaceWait,
        Self::Heartbeat,
        Self::Deadline,
        Self::Standby,
        Self::Hold,
        Self::Drain,
        Self::Probe,
        Self::Ack,
        Self::Request,
    ];
}

/// When each timer is due, if armed. The next one is asked for after every turn, so they are plain
/// numbers, of which it is the least.
#[derive(Clone, Debug)]
pub struct Timers {
    due: [u64; Timer::ALL.len()],
}

/// Not armed; as late as this nothing is due.
const NEVER: u64 = u64::MAX;

impl Default for Timers {
    fn default() -> Self {
        Self { due: [NEVER; Timer::ALL.len()] }
    }
}

impl Timers {
    pub(crate) fn arm(&mut self, timer: Timer, due: Time) {
        self.due[timer as usize] = due.0.min(NEVER - 1);
    }

    /// Arms it, unless it is armed for an earlier time.
    pub(crate) fn arm_by(&mut self, timer: Timer, due: Time) {
        if due.0 < self.due[timer as usize] {
            self.arm(timer, due);
        }
    }

    /// Arms it unless it is armed already.
    pub(crate) fn arm_once(&mut self, timer: Timer, due: Time) {
        if !self.is_armed(timer) {
            self.arm(timer, due);
        }
    }

    pub(crate) fn disarm(&mut self, timer: Timer) {
        self.due[timer as usize] = NEVER;
    }

    pub(crate) fn disarm_all(&mut self) {
        *self = Self::default();
    }

    /// Whether it is armed.
    pub fn is_armed(&self, timer: Timer) -> bool {
        self.due[timer as usize] != NEVER
    }

    pub(crate) fn due(&self, timer: Timer) -> Option<Time> {
        let due = self.due[timer as usize];
        (due != NEVER).then_some(Time(due))
    }

    /// The armed timers.
    pub fn armed(&self) -> impl Iterator<Item = Timer> + '_ {
        Timer::ALL.into_iter().filter(|timer| self.is_armed(*timer))
    }

    /// When the next one is due.
    pub fn next(&self) -> Option<Time> {
        let due = self.due.iter().fold(NEVER, |first, due| first.min(*due));
        (due != NEVER).then_some(Time(due))
    }

    /// The first timer that is due at `now`, in table order.
    pub(crate) fn first_due(&self, now: Time) -> Option<Timer> {
        self.armed().find(|timer| self.due(*timer).is_some_and(|due| due <= now))
    }

    fn mask(&self) -> u16 {
        self.armed().fold(0, |mask, timer| mask | 1 << timer as u16)
    }
}

impl PartialEq for Timers {
    fn eq(&self, other: &Self) -> bool {
        self.mask() == other.mask()
    }
}

impl Eq for Timers {}

impl Hash for Timers {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.mask().hash(state);
    }
}

/// Data that is not state: equal to everything, hashed as nothing.
#[derive(Clone, Debug, Default)]
pub struct Silent<T>(pub T);

impl<T> PartialEq for Silent<T> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<T> Eq for Silent<T> {}

impl<T> Hash for Silent<T> {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl<T> std::ops::Deref for Silent<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> std::ops::DerefMut for Silent<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use std::hash::DefaultHasher;

    use super::*;

    fn hash(timers: &Timers) -> u64 {
        let mut hasher = DefaultHasher::new();
        timers.hash(&mut hasher);
        hasher.finish()
    }

    /// Which timers are armed is state, when they are due is not.
    #[test]
    fn tables_are_equal_if_the_same_timers_are_armed() {
        let mut all = Vec::new();
        for armed in 0u16..1 << Timer::ALL.len() {
            let (mut soon, mut late) = (Timers::default(), Timers::default());
            for timer in Timer::ALL.into_iter().filter(|timer| armed >> *timer as u16 & 1 == 1) {
                soon.arm(timer, Time(1));
                late.arm(timer, Time(1000));
            }
            assert!(soon == late && hash(&soon) == hash(&late), "{armed:b}");
            all.push((soon.mask(), hash(&soon)));
        }
        let sets = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), sets, "each set is another state");
        all.dedup_by_key(|(_, hash)| *hash);
        assert!(all.len() > 1, "and is hashed as one");
        let mut armed = Timers::default();
        armed.arm(Timer::Drain, Time(1));
        assert!(armed != Timers::default());
    }

    #[test]
    fn the_first_due_goes_first_and_an_armed_one_stays() {
        let mut timers = Timers::default();
        assert_eq!((timers.next(), timers.first_due(Time(9))), (None, None));
        timers.arm(Timer::Ack, Time(5));
        timers.arm_once(Timer::Ack, Time(3));
        timers.arm_once(Timer::Drain, Time(7));
        assert_eq!(timers.next(), Some(Time(5)));
        assert_eq!(timers.first_due(Time(4)), None);
        assert_eq!(timers.first_due(Time(5)), Some(Timer::Ack), "due is not late");
        assert_eq!(timers.first_due(Time(7)), Some(Timer::Drain), "in table order");
        timers.disarm(Timer::Drain);
        assert!(timers.armed().eq([Timer::Ack]) && timers.is_armed(Timer::Ack));
        timers.disarm_all();
        assert_eq!(timers.armed().count(), 0);
    }
}
