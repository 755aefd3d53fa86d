//! Who waits for what was sent: whether the endpoint asks to be woken for it.
//!
//! ```text
//!   received: asked for before each sleep
//!   sent:     taken when something else wakes ── or asked for while a link waits for it
//!                                             └─ or looked at after a while (LATE)
//! ```
//!
//! Most SENDs are answered, and the answer wakes. A wake-up of their own for each would double what
//! a small message costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

/// How long what nobody waits for may lie unseen. Longer than most answers take; a sleep that is
/// shorter than the kernel's tick is dear.
pub(super) const LATE: Duration = Duration::from_millis(10);
/// The same when nothing has come for a while.
pub(super) const LATEST: Duration = Duration::from_millis(500);

/// Of all links of an endpoint.
#[derive(Debug, Default)]
pub(super) struct Interest {
    /// Links that wait.
    waiting: AtomicUsize,
    /// Links with SENDs that are not over.
    open: AtomicUsize,
    /// The look that is planned: one of those below.
    planned: AtomicU8,
}

const NONE: u8 = 0;
/// After [`LATE`].
const SOON: u8 = 1;
/// Later than that, as the last one found nothing.
const LATER: u8 = 2;

impl Interest {
    /// Whether to be woken for what was sent.
    pub(super) fn waits(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    /// It is being looked at; whether another look is to be planned, for later.
    pub(super) fn looked(&self) -> bool {
        self.planned.store(NONE, Ordering::SeqCst);
        let order = Ordering::SeqCst;
        // Unless a link has just wished for one that comes sooner.
        self.open.load(order) > 0
            && self.planned.compare_exchange(NONE, LATER, order, order).is_ok()
    }

    /// Whether no look is planned that comes soon; one is from now on.
    fn plan(&self) -> bool {
        self.planned.swap(SOON, Ordering::SeqCst) != SOON
    }
}

/// What the endpoint is to do for a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Nothing else than it does.
    Nothing,
    /// Ask to be woken for what was sent, now.
    Wake,
    /// Look after [`LATE`].
    Look,
}

/// The share of one link, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    of: Arc<Interest>,
    waits: bool,
    open: bool,
}

impl Share {
    pub(super) fn new(of: &Arc<Interest>) -> Self {
        Self { of: of.clone(), waits: false, open: false }
    }

    /// One that waits until it is dropped.
    pub(super) fn waiting(of: &Arc<Interest>) -> Self {
        let mut share = Self::new(of);
        let _ = share.set(true, false);
        share
    }

    /// Whether the link waits for what it sent, and whether it has sent what is not over.
    #[must_use]
    pub(super) fn set(&mut self, waits: bool, open: bool) -> Wish {
        let begins = count(&self.of.waiting, &mut self.waits, waits);
        count(&self.of.open, &mut self.open, open);
        if begins {
            Wish::Wake
        } else if open && !waits && self.of.plan() {
            Wish::Look
        } else {
            Wish::Nothing
        }
    }
}

/// Counts one that becomes true or false; whether it becomes true.
fn count(all: &AtomicUsize, mine: &mut bool, now: bool) -> bool {
    match (std::mem::replace(mine, now), now) {
        (false, true) => {
            all.fetch_add(1, Ordering::SeqCst);
            true
        }
        (true, false) => {
            all.fetch_sub(1, Ordering::SeqCst);
            false
        }
        _ => false,
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let _ = self.set(false, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_begins_to_wait_says_so_once_and_is_counted_until_it_is_gone() {
        let all = Arc::new(Interest::default());
        let (mut one, mut other) = (Share::new(&all), Share::new(&all));
        assert_eq!(one.set(true, true), Wish::Wake);
        assert_eq!(one.set(true, true), Wish::Nothing);
        assert_eq!(other.set(true, false), Wish::Wake);
        assert_eq!(one.set(false, false), Wish::Nothing);
        assert!(all.waits(), "the other does");
        drop(other);
        assert!(!all.waits());
        let dying = Share::waiting(&all);
        assert!(all.waits());
        drop(dying);
        assert!(!all.waits());
    }

    #[test]
    fn what_is_open_is_looked_at_until_it_is_over() {
        let all = Arc::new(Interest::default());
        let (mut one, mut other) = (Share::new(&all), Share::new(&all));
        assert_eq!(one.set(false, true), Wish::Look);
        assert_eq!(other.set(false, true), Wish::Nothing, "it is planned");
        assert!(all.looked(), "and again, as it is not over");
        assert_eq!(other.set(false, true), Wish::Look, "that was for later, and this is for now");
        assert_eq!(one.set(false, true), Wish::Nothing);
        assert!(all.looked());
        assert_eq!(one.set(false, false), Wish::Nothing);
        drop(other);
        assert!(!all.looked(), "no more");
        assert_eq!(one.set(false, true), Wish::Look);
    }
}
