//! A node's wall clock: virtual time, off by an offset and a drift of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// What a clock without offset shows when a run begins, in nanoseconds since 1970: a day in 2033.
const BEGIN_NS: i64 = 2_000_000_000 * 1_000_000_000;

/// How wrong a clock is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skew {
    /// Milliseconds that it is ahead, at the start.
    pub offset_ms: i64,
    /// Millionths that it runs too fast; more than a million too slow is taken as that.
    pub drift_ppm: i32,
}

/// The clock of one node. Cloning copies a handle; it goes on through crashes.
///
/// The timers of the node's messengers run at its rate: one that is a tenth too fast sends its
/// heartbeats a tenth too early. They count spans of time, which offsets and steps do not change.
#[derive(Clone, Debug)]
pub struct Clock {
    origin: Instant,
    drift_ppm: i32,
    offset_ns: Arc<AtomicI64>,
}

impl Clock {
    pub(crate) fn new(skew: Skew) -> Self {
        let offset_ns = Arc::new(AtomicI64::new(skew.offset_ms.saturating_mul(1_000_000)));
        Self { origin: Instant::now(), drift_ppm: skew.drift_ppm, offset_ns }
    }

    /// Time since 1970, as this node believes. It may jump, also back: see
    /// [`Action::Step`](super::Action::Step).
    pub fn now(&self) -> Duration {
        let elapsed = i64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(i64::MAX);
        let drift = i128::from(elapsed) * i128::from(self.drift_ppm) / 1_000_000;
        let drift = i64::try_from(drift).unwrap_or(i64::MAX);
        let shown = BEGIN_NS
            .saturating_add(elapsed)
            .saturating_add(drift)
            .saturating_add(self.offset_ns.load(Ordering::Relaxed));
        Duration::from_nanos(u64::try_from(shown).unwrap_or(0))
    }

    pub(crate) fn drift_ppm(&self) -> i32 {
        self.drift_ppm
    }

    /// Sets it forward, or back.
    pub(crate) fn step(&self, by_ms: i64) {
        self.offset_ns.fetch_add(by_ms.saturating_mul(1_000_000), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn offset_drift_and_steps_add_up() {
        let skew = Skew { offset_ms: -1_000, drift_ppm: 500 };
        let (right, wrong) = (Clock::new(Skew::default()), Clock::new(skew));
        assert_eq!(right.now() - wrong.now(), Duration::from_secs(1));
        tokio::time::advance(Duration::from_secs(1_000)).await;
        assert_eq!(right.now() - wrong.now(), Duration::from_millis(500));
        wrong.step(500);
        assert_eq!(right.now(), wrong.now());
    }
}
