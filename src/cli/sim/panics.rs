//! Panics in simulations: those that a case orders are its business; all others are failures,
//! wherever they happen, also where a runtime or a supervisor contains them.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static SEEN: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// From now on panics are noted on their thread, and said nothing of.
pub(crate) fn listen() {
    std::panic::set_hook(Box::new(|panic| {
        let what = panic.payload_as_str().unwrap_or("a panic without text");
        if what.starts_with("ordered: ") || what.starts_with("panic ordered for ") {
            return;
        }
        let at = panic.location().map(ToString::to_string).unwrap_or_default();
        let text = format!("{what} at {at}");
        // A thread that ends has torn its locals down: then there is no run to fail.
        let _ = SEEN.try_with(|seen| seen.borrow_mut().get_or_insert(text).len());
    }));
}

/// Runs something; an error is the first panic that nobody ordered.
pub(crate) fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    match watched(run) {
        (_, Some(text)) => Err(text),
        (Some(output), None) => Ok(output),
        (None, None) => Err("a panic that was ordered left its actor".into()),
    }
}

/// Runs something: what it gave, unless it panicked itself, and the first panic that nobody ordered.
pub(crate) fn watched<T>(run: impl FnOnce() -> T) -> (Option<T>, Option<String>) {
    SEEN.with_borrow_mut(Option::take);
    let ran = catch_unwind(AssertUnwindSafe(run));
    (ran.ok(), SEEN.with_borrow_mut(Option::take))
}
