//! Runs user code so that its panic ends here, as text.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::abandon::Abandoning;

/// Runs `code`; a panic becomes its message.
///
/// Unwind safety is asserted, not proved: whatever `code` touched must be thrown away or be ours to
/// trust.
pub(crate) fn contain<R>(code: impl FnOnce() -> R) -> Result<R, Arc<str>> {
    catch_unwind(AssertUnwindSafe(code)).map_err(message)
}

/// Drops a value of the user's that is given up rather than done, so that a message it holds is not
/// taken for handled (S3). A panic of its destructor is logged and goes no further.
pub(super) fn abandon<T>(value: T, path: &str) {
    let _abandoning = Abandoning::begin();
    if let Err(message) = contain(move || drop(value)) {
        tracing::error!(path, %message, "a destructor panicked");
    }
}

fn message(payload: Box<dyn Any + Send>) -> Arc<str> {
    let text = if let Some(text) = payload.downcast_ref::<&str>() {
        Arc::from(*text)
    } else if let Some(text) = payload.downcast_ref::<String>() {
        Arc::from(text.as_str())
    } else {
        Arc::from("a panic without text")
    };
    // A payload may be any value, so even its destructor may panic; that second one is leaked.
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(second);
    }
    text
}
