//! A gate that holds what reaches it until a test opens it.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// A gate, closed to begin with. Cloning copies a handle. Opens once, for good.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    open: bool,
    reached: bool,
    waiting: Vec<Waker>,
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets everything through, now and later.
    pub fn open(&self) {
        self.change(|state| state.open = true);
    }

    /// Whether it is open.
    pub fn is_open(&self) -> bool {
        self.lock().open
    }

    /// Whether something has come to the gate.
    pub fn is_reached(&self) -> bool {
        self.lock().reached
    }

    /// Waits until something comes to the gate. Dropping the future early does nothing.
    pub async fn reached(&self) {
        poll_fn(|cx| self.poll_until(cx, |state| state.reached)).await;
    }

    pub(super) fn poll_open(&self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.lock().reached {
            self.change(|state| state.reached = true);
        }
        self.poll_until(cx, |state| state.open)
    }

    fn poll_until(&self, cx: &mut Context<'_>, reached: impl Fn(&State) -> bool) -> Poll<()> {
        let mut state = self.lock();
        if reached(&state) {
            return Poll::Ready(());
        }
        if !state.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            state.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    fn change(&self, with: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        with(&mut state);
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
