//! Tells destructors that what they belong to is given up, not done.
//!
//! What a panic unwinds over can ask `std::thread::panicking`. What goes with the broken actor
//! value afterwards, or with one that was killed, overdue or removed, cannot: its futures have not
//! resolved and never will, yet nothing unwinds. While such a value is dropped this flag is up on
//! its thread, so that a message it still holds is not taken for handled (S3).

use std::cell::Cell;

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Whether an actor, its futures or its mailbox are being given up on this thread right now.
pub(crate) fn is_abandoning() -> bool {
    // A thread that ends has torn its locals down: then nothing is finished in order any more.
    DEPTH.try_with(|depth| depth.get() > 0).unwrap_or(true)
}

/// Raises the flag on this thread for good: the thread is about to end, and drops what has not
/// finished on it.
pub(crate) fn abandon_thread() {
    std::mem::forget(Abandoning::begin());
}

/// The flag is up until this is dropped, also by unwinding. Nests.
pub(super) struct Abandoning(());

impl Abandoning {
    pub(super) fn begin() -> Self {
        // Only a thread past its locals has no flag to raise, and `is_abandoning` knows.
        let _ = DEPTH.try_with(|depth| depth.set(depth.get().saturating_add(1)));
        Self(())
    }
}

impl Drop for Abandoning {
    fn drop(&mut self) {
        let _ = DEPTH.try_with(|depth| depth.set(depth.get().saturating_sub(1)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s3_the_flag_nests_and_comes_down_by_unwinding() {
        assert!(!is_abandoning());
        let outer = Abandoning::begin();
        let unwound = std::panic::catch_unwind(|| {
            let _inner = Abandoning::begin();
            panic!("asked for");
        });
        assert!(unwound.is_err() && is_abandoning());
        let elsewhere = std::thread::scope(|scope| scope.spawn(is_abandoning).join().unwrap());
        assert!(!elsewhere);
        drop(outer);
        assert!(!is_abandoning());
    }
}
