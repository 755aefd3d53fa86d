//! A numbered stream of writes over one session.

use std::cell::Cell;
use std::future::IntoFuture;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures::FutureExt;
use stellate::prelude::*;
use tokio::sync::Semaphore;

use super::messages::{Outcome, Place, Write};

/// Bytes that may be unanswered on one lane. Below the session's outbox, so that a write which has
/// its turn here finds room there at once.
const UNANSWERED_KIB: u32 = 12 * 1024;

/// Longer data goes as `Bulk`, and what is short does not wait behind it.
const BULK: usize = 64 * 1024;

/// Where the numbers of lanes come from. Outlives the actor: a lane's number is never used twice.
#[derive(Clone, Debug, Default)]
pub(crate) struct LaneNumbers(Arc<AtomicU64>);

/// One session, and the numbers of the writes sent on it by this actor. It ends with the session.
#[derive(Clone)]
pub(crate) struct Lane {
    connection: Connection,
    sender: u128,
    lane: u64,
    next: Rc<[Cell<u64>; Class::COUNT]>,
    room: Rc<Semaphore>,
}

impl Lane {
    pub(crate) fn new(
        messenger: &Messenger,
        numbers: &LaneNumbers,
        connection: Connection,
    ) -> Self {
        Self {
            connection,
            sender: messenger.identity().instance.0,
            lane: numbers.0.fetch_add(1, Ordering::Relaxed),
            next: Rc::default(),
            room: Rc::new(Semaphore::new(UNANSWERED_KIB as usize)),
        }
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Sends a write in its turn and waits for what became of it.
    ///
    /// The number is given in the same breath in which the message takes its place in the session:
    /// so numbers are in the order of sending.
    pub(crate) async fn write<W: Write>(
        &self,
        mut write: W,
        data: Bytes,
    ) -> Result<Outcome, RequestError> {
        let cost = u32::try_from(data.len() / 1024).map_or(u32::MAX, |kib| kib + 1);
        // Never closed, so this is `Ok`.
        let _room = self.room.acquire_many(cost.min(UNANSWERED_KIB)).await;
        let class = if data.len() > BULK { Class::Bulk } else { Class::Normal };
        let next = &self.next[class.index()];
        let nth = next.get() + 1;
        *write.place() = Place { sender: self.sender, lane: self.lane, nth };
        let mut asked = self.connection.request(write.with(data).class(class)).into_future();
        let answer = match (&mut asked).now_or_never() {
            // Not sent: the number was not used.
            Some(Err(error)) => return Err(error),
            Some(Ok(answer)) => answer,
            None => {
                next.set(nth);
                asked.await?
            }
        };
        Ok(answer.body)
    }
}
