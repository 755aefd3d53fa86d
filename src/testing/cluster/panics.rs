//! A panic of what a test does to a cluster, as a breach: so that a sweep can have the run again,
//! and draw it.

use std::any::Any;
use std::cell::Cell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};

use futures::FutureExt;

use super::check::{Breach, Desk};

thread_local! {
    static ARE_BREACHES: Cell<bool> = const { Cell::new(false) };
}

/// Puts back what was there before, also if what ran in between panicked.
struct Before(bool);

impl Drop for Before {
    fn drop(&mut self) {
        ARE_BREACHES.set(self.0);
    }
}

/// While `run` runs, a panic of what is done to a cluster of this thread is a breach. Only for who
/// looks at the outcome: a test that asserts, and does nothing with it, would pass.
pub(in crate::testing) fn are_breaches<T>(run: impl FnOnce() -> T) -> T {
    let _before = Before(ARE_BREACHES.replace(true));
    run()
}

/// Does that to a cluster. Its panic has been printed when this hears of it.
pub(super) async fn watch(desk: &Desk, drive: impl Future<Output = ()>) {
    if let Err(panic) = AssertUnwindSafe(drive).catch_unwind().await {
        if !ARE_BREACHES.get() {
            resume_unwind(panic);
        }
        desk.report(Breach::new("panic", format!("the test: {}", words(&*panic))));
    }
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no words")
}
