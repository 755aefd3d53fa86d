//! The task that runs the agenda: one per network, asleep until the next event is due.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio::time::Sleep;

use super::net::Shared;

/// Starts the driver, if it does not run yet; false without a runtime.
pub(super) fn ensure(shared: &Arc<Shared>) -> bool {
    let Ok(handle) = Handle::try_current() else {
        return false;
    };
    let mut net = shared.lock();
    net.start();
    if !net.driven {
        net.driven = true;
        drop(net);
        handle.spawn(Driver { shared: Arc::downgrade(shared), sleep: None });
    }
    true
}

struct Driver {
    shared: Weak<Shared>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Some(shared) = self.shared.upgrade() else {
                return Poll::Ready(());
            };
            let mut net = shared.lock();
            let next = net.run_due();
            net.driver = Some(cx.waker().clone());
            let due = next.and_then(|tick| net.instant(tick));
            shared.wake_all(net);
            drop(shared);
            let Some(due) = due else {
                self.sleep = None;
                return Poll::Pending;
            };
            match &mut self.sleep {
                Some(sleep) => sleep.as_mut().reset(due),
                None => self.sleep = Some(Box::pin(tokio::time::sleep_until(due))),
            }
            if let Some(sleep) = &mut self.sleep
                && sleep.as_mut().poll(cx).is_pending()
            {
                return Poll::Pending;
            }
        }
    }
}
