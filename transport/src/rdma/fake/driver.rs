//! The task that runs the agenda: one per fabric, asleep until the next event is due.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use tokio::runtime::Handle;
use tokio::time::Sleep;

use super::world::Shared;

/// Starts the driver, if it does not run yet; false without a runtime.
pub(super) fn ensure(shared: &Arc<Shared>) -> bool {
    let Ok(handle) = Handle::try_current() else {
        return false;
    };
    let mut world = shared.lock();
    world.start();
    if !world.driven {
        world.driven = true;
        drop(world);
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
            let mut world = shared.lock();
            let next = world.run_due();
            world.driver = Some(cx.waker().clone());
            let due = next.and_then(|tick| world.instant(tick));
            let wakes = std::mem::take(&mut world.wakes);
            let homeward = std::mem::take(&mut world.homeward);
            drop(world);
            drop(homeward);
            drop(shared);
            wakes.into_iter().for_each(Waker::wake);
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
