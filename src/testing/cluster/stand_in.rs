//! A script in place of a cluster's own, for a while: how a test that describes its cluster, faults
//! and all, is run again with fewer of them, or with those of a case.

use std::cell::RefCell;

use super::script::Script;

/// A script, and whether a cluster has taken it.
type StandIn = Option<(Script, bool)>;

thread_local! {
    static STAND_IN: RefCell<StandIn> = const { RefCell::new(None) };
}

/// Puts back what was there before, also if what ran in between panicked.
struct Before(StandIn);

impl Drop for Before {
    fn drop(&mut self) {
        STAND_IN.set(self.0.take());
    }
}

/// While `run` runs, every cluster that runs on this thread plays that script. `None` if there was
/// no such cluster.
pub(in crate::testing) fn played_instead<T>(script: &Script, run: impl FnOnce() -> T) -> Option<T> {
    let _before = Before(STAND_IN.replace(Some((script.clone(), false))));
    let output = run();
    STAND_IN.with_borrow(|now| now.as_ref().is_some_and(|(_, taken)| *taken)).then_some(output)
}

/// The script to play: that one, unless another is played instead.
pub(super) fn in_place_of(own: Script) -> Script {
    STAND_IN.with_borrow_mut(|now| {
        let Some((script, taken)) = now else { return own };
        *taken = true;
        script.clone()
    })
}
