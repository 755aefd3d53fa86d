//! Where a child's actor runs.

use actix_rt::ArbiterHandle;

use super::node::TreeError;

/// The thread a child runs on.
///
/// A simulation uses `Here` only: the tree itself never makes a thread.
#[derive(Clone, Debug, Default)]
pub enum Placement {
    /// The `LocalSet` (or actix system) of the caller.
    #[default]
    Here,
    /// Another arbiter. The caller makes it, and stops it when the tree is down.
    On(ArbiterHandle),
}

impl Placement {
    /// Runs `work` there: at once for `Here`, soon for the other. There it may spawn local futures.
    ///
    /// # Errors
    ///
    /// [`TreeError::ArbiterGone`]; `work` was dropped without being run.
    pub fn run(&self, work: impl FnOnce() + Send + 'static) -> Result<(), TreeError> {
        match self {
            Self::Here => work(),
            Self::On(arbiter) => {
                if !arbiter.spawn_fn(work) {
                    return Err(TreeError::ArbiterGone);
                }
            }
        }
        Ok(())
    }
}
