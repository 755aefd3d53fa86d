//! The end of a queue pair: everything posted comes home before it is destroyed. Pure.
//!
//! ```text
//!   error state, marker posted ─┬─ nothing is posted any more ──► Home
//!                               └─ deadline: destroy it under the rest, which is home then ─► Home
//! ```
//!
//! The marker is a signalled SEND behind all others: flushed like them, it says that SENDs without
//! a completion of their own are over. On iWARP there are none such, and no marker.

use std::time::Duration;

use super::verbs::Posted;

/// One ending.
#[derive(Debug)]
pub(super) struct Homecoming {
    deadline: Duration,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Home {
    /// More is to come; look again at that time at the latest.
    Wait(Duration),
    /// All is home: destroy it.
    All,
    /// It took too long: destroying it brings the rest home.
    Forced,
}

impl Homecoming {
    /// It ends at `now`, on the endpoint's clock, and may take so long.
    pub(super) fn new(now: Duration, patience: Duration) -> Self {
        Self { deadline: now + patience }
    }

    pub(super) fn look(&self, posted: Posted, now: Duration) -> Home {
        if posted == Posted::default() {
            Home::All
        } else if now >= self.deadline {
            Home::Forced
        } else {
            Home::Wait(self.deadline)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_comes_home_or_is_fetched() {
        let at = Duration::from_millis;
        let ending = Homecoming::new(at(10), at(100));
        let some = Posted { receives: 1, sends: 0 };
        assert_eq!(ending.look(some, at(10)), Home::Wait(at(110)));
        assert_eq!(ending.look(Posted { receives: 0, sends: 1 }, at(109)), Home::Wait(at(110)));
        assert_eq!(ending.look(Posted::default(), at(11)), Home::All);
        assert_eq!(ending.look(some, at(110)), Home::Forced);
        assert_eq!(ending.look(Posted::default(), at(110)), Home::All);
    }
}
