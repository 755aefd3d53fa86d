//! What a supervisor may do, as data: when to restart, how many times, how long to wait.
//!
//! Nothing here knows actix, a clock or a source of randomness: times and seeds are inputs.

use std::collections::VecDeque;
use std::time::Duration;

/// Time since the tree was made. Virtual under a paused runtime.
pub type Time = Duration;

/// The restart intensity of [`Supervisor::default`]: eight restarts in a minute.
///
/// With the default back-off a child that always fails reaches it in about ten seconds.
pub const INTENSITY: Intensity = Intensity { max: 8, within: Duration::from_secs(60) };

/// The back-off of [`Supervisor::default`]: 50 ms doubling to 15 s, forgotten after 30 healthy
/// seconds.
pub const BACKOFF: Backoff = Backoff {
    min: Duration::from_millis(50),
    max: Duration::from_secs(15),
    reset_after: Duration::from_secs(30),
};

/// How long a child may drain when it is told to stop, unless its options say otherwise.
pub const DRAIN_MAX: Duration = Duration::from_secs(10);

/// How many messages a child's mailbox takes before `try_send` refuses, unless its options say
/// otherwise.
pub const MAILBOX: usize = 16;

/// Which exits of a child call for a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Restart {
    /// Every exit that nobody ordered: a panic, a kill, a stop of the actor's own.
    #[default]
    Always,
    /// A panic or a kill. An actor that stops by itself is done, and leaves the tree.
    OnFailure,
    /// None. The child leaves the tree at its first exit, and its supervisor is not shaken by it.
    Never,
}

/// Whom else the failure of one child concerns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// Nobody: only the failed child is restarted.
    #[default]
    OneForOne,
    /// Every sibling started after it: they are stopped in reverse order, then the failed child and
    /// they are started in order, each after the one before it has started.
    RestForOne,
    /// The whole group: nothing is restarted here, the failure goes to the parent at once.
    Escalate,
}

/// In which way a supervisor stops its children. The order is the reverse of their start either
/// way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum StopOrder {
    /// Each waits until the one before it is gone.
    #[default]
    OneByOne,
    /// All are told at once. For groups of many children that know nothing of each other.
    Together,
}

/// At most `max` restarts within any span of `within`; one more is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Intensity {
    /// Restarts allowed in a window. Zero allows none.
    pub max: u32,
    /// Length of the window.
    pub within: Duration,
}

/// How long a restart waits: `min`, doubled at each attempt up to `max`, of which the seed takes
/// off up to half.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Backoff {
    /// The first delay before jitter. Raised to 2 ms, so that no choice of numbers makes a spin.
    pub min: Duration,
    /// The longest delay.
    pub max: Duration,
    /// A child that was up for this long has its attempts forgotten.
    pub reset_after: Duration,
}

impl Backoff {
    /// The delay before restart number `attempt` (from 1), in whole milliseconds, never below 1 ms.
    ///
    /// `draw` is a random number; the same draw gives the same delay.
    pub fn delay(&self, attempt: u32, draw: u64) -> Duration {
        let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        let min = millis(self.min).max(2);
        let doubled = min.saturating_mul(1u64 << attempt.saturating_sub(1).min(40));
        let full = doubled.min(millis(self.max).max(min));
        let half = full / 2;
        Duration::from_millis((full - half + draw % (half + 1)).max(1))
    }
}

/// How a group of children is supervised. Plain data; [`Supervisor::default`] suits most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Supervisor {
    /// Whom a failure concerns.
    pub strategy: Strategy,
    /// How many restarts are too many.
    pub intensity: Intensity,
    /// How long restarts wait.
    pub backoff: Backoff,
    /// Seeds the jitter. Equal seeds and equal failures give equal delays.
    pub seed: u64,
    /// How the children are stopped.
    pub stop_order: StopOrder,
}

impl Default for Supervisor {
    fn default() -> Self {
        Self {
            strategy: Strategy::OneForOne,
            intensity: INTENSITY,
            backoff: BACKOFF,
            seed: 0,
            stop_order: StopOrder::OneByOne,
        }
    }
}

impl Supervisor {
    /// A one-for-one supervisor with the default limits.
    pub fn one_for_one() -> Self {
        Self::default()
    }

    /// A rest-for-one supervisor with the default limits.
    pub fn rest_for_one() -> Self {
        Self { strategy: Strategy::RestForOne, ..Self::default() }
    }

    /// A supervisor that passes every failure to its parent.
    pub fn escalate() -> Self {
        Self { strategy: Strategy::Escalate, ..Self::default() }
    }

    /// Sets the restart intensity: at most `max` restarts in `within`.
    pub fn intensity(mut self, max: u32, within: Duration) -> Self {
        self.intensity = Intensity { max, within };
        self
    }

    /// Sets the back-off.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Seeds the jitter.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Stops all children at once, see [`StopOrder::Together`].
    pub fn together(mut self) -> Self {
        self.stop_order = StopOrder::Together;
        self
    }
}

/// What the tree must know of a child besides its recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChildOptions {
    /// Which exits call for a restart.
    pub restart: Restart,
    /// How long it may drain when told to stop. It handles what its mailbox holds and does what its
    /// recipe [owes](super::Recipe::owes), then is asked to stop; while its `stopping` answers
    /// `Running::Continue` it is asked again at every wake. When the time is over it is dropped. Zero
    /// drops it at once. Told to stop again, it has no more time than before.
    pub drain: Duration,
    /// Capacity of its mailbox in messages. It bounds `try_send` only, see the crate's notes on
    /// actix.
    pub mailbox: usize,
}

impl Default for ChildOptions {
    fn default() -> Self {
        Self { restart: Restart::Always, drain: DRAIN_MAX, mailbox: MAILBOX }
    }
}

impl From<Restart> for ChildOptions {
    fn from(restart: Restart) -> Self {
        Self { restart, ..Self::default() }
    }
}

impl ChildOptions {
    /// Sets the drain period.
    pub fn drain(mut self, drain: Duration) -> Self {
        self.drain = drain;
        self
    }

    /// Sets the mailbox capacity.
    pub fn mailbox(mut self, capacity: usize) -> Self {
        self.mailbox = capacity;
        self
    }
}

/// The restarts of the last window, at most [`Intensity::max`] of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Window {
    restarts: VecDeque<Time>,
}

impl Window {
    /// Counts one restart at `now`, or refuses it because the window is full.
    pub(super) fn admit(&mut self, now: Time, intensity: Intensity) -> bool {
        while self.restarts.front().is_some_and(|&at| at + intensity.within <= now) {
            self.restarts.pop_front();
        }
        if self.restarts.len() >= intensity.max as usize {
            return false;
        }
        self.restarts.push_back(now);
        true
    }

    /// Forgets all restarts, as when the group itself starts anew.
    pub(super) fn clear(&mut self) {
        self.restarts.clear();
    }
}

/// One splitmix64 step over `seed` and `salt`: a number for jitter, not for secrets.
pub(super) fn draw(seed: u64, salt: u64) -> u64 {
    let mut z = (seed ^ salt).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A number for a path, so that children of one supervisor do not restart in step.
pub(super) fn salt(path: &str) -> u64 {
    path.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v2_window_admits_max_and_slides() {
        let two = Intensity { max: 2, within: Duration::from_secs(10) };
        let mut window = Window::default();
        assert!(window.admit(Duration::from_secs(0), two));
        assert!(window.admit(Duration::from_secs(9), two));
        assert!(!window.admit(Duration::from_millis(9_999), two));
        assert!(window.admit(Duration::from_secs(10), two), "the first has left the window");
        assert!(!window.admit(Duration::from_secs(18), two));
        let none = Intensity { max: 0, within: Duration::from_secs(1) };
        assert!(!Window::default().admit(Duration::ZERO, none));
    }

    #[test]
    fn v2_backoff_doubles_within_its_bounds() {
        for attempt in 1..80 {
            for draw in [0, 1, 77, u64::MAX] {
                let delay = BACKOFF.delay(attempt, draw);
                let full = Duration::from_millis(50)
                    .saturating_mul(1 << (attempt - 1).min(20))
                    .min(BACKOFF.max);
                assert!(delay <= full && delay >= full / 2, "{attempt} {draw}: {delay:?}");
            }
        }
    }

    #[test]
    fn v2_no_backoff_is_a_spin() {
        let zero =
            Backoff { min: Duration::ZERO, max: Duration::ZERO, reset_after: Duration::ZERO };
        assert!((1..9).all(|attempt| zero.delay(attempt, draw(1, 2)) >= Duration::from_millis(1)));
    }
}
