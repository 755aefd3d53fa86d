//! The actor: what an OSD does with what it is told.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{self, Poll, Waker};
use std::time::Duration;

use actix::prelude::*;
use futures::future::LocalBoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use stellate::prelude::{
    AdmissionRequest, AdmissionTicket, Connection, Incoming, Messenger, RequestError, SessionEvent,
};

use super::check::Witness;
use super::lane::LaneNumbers;
use super::map::ClusterMap;
use super::messages::{Boot, Get, GetMap, Got, Outcome, Put, Replicate, Write};
use super::peers::Peers;
use super::sabotage::{Arrived, Layer, Sabotage};
use super::store::{Fetch, Store};
use super::write::Desk;

/// A write that a sabotage keeps back is let go after this, if no other comes.
const KEPT_MAX: Duration = Duration::from_millis(200);

/// Between two tries to reach the monitor.
const PAUSE: Duration = Duration::from_millis(50);

/// What outlives the actor: its next value is built from it after a panic.
#[derive(Clone)]
pub(crate) struct Lasting {
    pub(crate) osd: u64,
    pub(crate) messenger: Messenger,
    pub(crate) monitor: Connection,
    pub(crate) store: Addr<Store>,
    pub(crate) witness: Witness,
    pub(crate) numbers: LaneNumbers,
    pub(crate) fuse: Arc<AtomicBool>,
    pub(crate) sabotage: Option<Sabotage>,
}

/// One object storage daemon.
pub(crate) struct Osd {
    desk: Desk,
    lasting: Lasting,
    puts: Layer<Put>,
    copies: Layer<Replicate>,
    /// Peers with a newer map than ours.
    waiting: Vec<(u64, AdmissionTicket)>,
    in_hand: InHand,
}

impl Osd {
    pub(crate) fn new(lasting: Lasting) -> Self {
        let peers = Peers::new(lasting.messenger.clone(), lasting.numbers.clone());
        let desk = Desk {
            osd: lasting.osd,
            store: lasting.store.clone(),
            peers,
            witness: lasting.witness.clone(),
        };
        let (puts, copies) = (Layer::new(lasting.sabotage), Layer::new(lasting.sabotage));
        Self { desk, lasting, puts, copies, waiting: Vec::new(), in_hand: InHand::default() }
    }

    /// Takes a map, greets the OSDs in it, and lets in who waited for it.
    fn learn(&mut self, map: ClusterMap, ctx: &mut Context<Self>) {
        let epoch = map.epoch;
        let others: Vec<u64> =
            map.osds.keys().copied().filter(|osd| *osd != self.desk.osd).collect();
        if self.desk.peers.learn(map) {
            tracing::info!(osd = self.desk.osd, epoch, "new map");
            for osd in others {
                let _ = self.desk.peers.lane(osd);
            }
        }
        let (now, later) =
            std::mem::take(&mut self.waiting).into_iter().partition(|(wants, _)| *wants <= epoch);
        self.waiting = later;
        let now: Vec<(u64, AdmissionTicket)> = now;
        now.into_iter().for_each(|(_, ticket)| ticket.accept());
        self.ask_for_newer(ctx);
    }

    /// The monitor answers when there is something newer: one request is always out.
    fn ask_for_newer(&self, ctx: &mut Context<Self>) {
        let newer_than = self.desk.peers.map().epoch;
        let monitor = self.lasting.monitor.clone();
        let asked = ask(monitor, move || GetMap { newer_than });
        ctx.spawn(asked.into_actor(self).map(|map, osd, ctx| {
            if let Some(map) = map {
                osd.learn(map, ctx);
            }
        }));
    }

    /// Panics, if that was ordered, with a write in hand.
    fn burn_fuse(&self) {
        if self.lasting.fuse.swap(false, Ordering::Relaxed) {
            panic!("ordered: osd.{} panics with a write in hand", self.desk.osd);
        }
    }

    fn put(&self, put: Arrived<Put>) {
        let Arrived { mut write, data, class, answer } = put;
        self.desk.witness.enter(*write.place(), class);
        self.in_hand.add(self.desk.clone().put(write, data, answer));
    }

    fn copy(&self, copy: Arrived<Replicate>) {
        let Arrived { mut write, data, class, answer } = copy;
        self.desk.witness.enter(*write.place(), class);
        self.in_hand.add(self.desk.clone().copy(write, data, answer));
    }
}

/// Asks the monitor until it answers. `None` if it never will.
async fn ask<M, F>(monitor: Connection, message: F) -> Option<ClusterMap>
where
    M: stellate::message::Message<Reply = ClusterMap>,
    F: Fn() -> M,
{
    loop {
        match monitor.request(message()).await {
            Ok(answer) => return Some(answer.body),
            Err(error @ RequestError::SessionEnded { .. }) => {
                tracing::warn!(%error, "the monitor is gone");
                return None;
            }
            Err(error) => tracing::info!(%error, "asking the monitor again"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What the actor has in hand: goes with it. One future of its context, since the context polls all
/// of its own whenever one can go on, and this only that one.
#[derive(Clone, Default)]
struct InHand {
    shared: Rc<RefCell<Tasks>>,
}

#[derive(Default)]
struct Tasks {
    new: Vec<LocalBoxFuture<'static, ()>>,
    running: FuturesUnordered<LocalBoxFuture<'static, ()>>,
    waker: Option<Waker>,
}

impl InHand {
    fn add(&self, task: impl Future<Output = ()> + 'static) {
        let mut tasks = self.shared.borrow_mut();
        tasks.new.push(task.boxed_local());
        if let Some(waker) = tasks.waker.take() {
            waker.wake();
        }
    }
}

impl Future for InHand {
    type Output = ();

    /// Never ends: there may be more.
    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<()> {
        // No task may add one while it is polled: they have no actor.
        let tasks = &mut *self.shared.borrow_mut();
        tasks.running.extend(tasks.new.drain(..));
        while let Poll::Ready(Some(())) = tasks.running.poll_next_unpin(cx) {}
        tasks.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Actor for Osd {
    type Context = Context<Self>;

    /// Nothing is handled before there is a map: `wait` holds the inbox, and the peers with it.
    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.spawn(self.in_hand.clone().into_actor(self));
        let address = self.lasting.messenger.local_addresses();
        let address = address.first().map(ToString::to_string).unwrap_or_default();
        let (osd, monitor) = (self.desk.osd, self.lasting.monitor.clone());
        let asked = ask(monitor, move || Boot { osd, address: address.clone() });
        ctx.wait(asked.into_actor(self).map(|map, osd, ctx| {
            if let Some(map) = map {
                osd.learn(map, ctx);
            }
        }));
    }
}

impl Handler<Incoming<Put>> for Osd {
    type Result = ();

    fn handle(&mut self, put: Incoming<Put>, ctx: &mut Self::Context) {
        for arrived in self.puts.pass(put) {
            self.put(arrived);
        }
        self.burn_fuse();
        if self.puts.keeps() {
            ctx.run_later(KEPT_MAX, |osd, _| {
                if let Some(arrived) = osd.puts.release() {
                    osd.put(arrived);
                }
            });
        }
    }
}

impl Handler<Incoming<Replicate>> for Osd {
    type Result = ();

    fn handle(&mut self, copy: Incoming<Replicate>, ctx: &mut Self::Context) {
        for arrived in self.copies.pass(copy) {
            self.copy(arrived);
        }
        if self.copies.keeps() {
            ctx.run_later(KEPT_MAX, |osd, _| {
                if let Some(arrived) = osd.copies.release() {
                    osd.copy(arrived);
                }
            });
        }
    }
}

impl Handler<Incoming<Get>> for Osd {
    type Result = ();

    fn handle(&mut self, get: Incoming<Get>, _: &mut Self::Context) {
        let (Get { object }, _, answer) = get.into_parts();
        let fetched = self.desk.store.send(Fetch { object });
        let answered = async move {
            match fetched.await {
                Ok(found) => {
                    answer.reply(stellate::message::Outgoing::new(found.got).with(found.data))
                }
                Err(error) => answer.reply(Got::Failed { why: error.to_string() }),
            };
        };
        self.in_hand.add(answered);
    }
}

impl Handler<SessionEvent> for Osd {
    type Result = ();

    fn handle(&mut self, event: SessionEvent, _: &mut Self::Context) {
        let osd = self.desk.osd;
        match event {
            SessionEvent::Ended { connection, cause, counts, .. } => {
                self.desk.witness.retire(&connection);
                let unacked = counts.unacked();
                tracing::info!(osd, peer = %connection.name(), ?cause, unacked, "session ended");
            }
            // What the peer did not answer fails, and is tried again on the new session.
            SessionEvent::Reset { old, cause, counts, .. } => {
                self.desk.witness.retire(&old);
                let unacked = counts.unacked();
                tracing::info!(osd, peer = %old.name(), ?cause, unacked, "session begun anew");
            }
            SessionEvent::NameConflict { connection } => {
                tracing::error!(osd, peer = %connection.name(), "two processes use one name");
            }
            other => tracing::debug!(osd, event = ?other, "session"),
        }
    }
}

impl Handler<AdmissionRequest> for Osd {
    type Result = ();

    /// A peer that knows a newer map may ask for what we cannot judge: it waits until we know it
    /// too. Its messages are kept meanwhile, in order. One that comes back on another link may know
    /// a newer one still: the ticket that it has by then answers nothing any more.
    fn handle(&mut self, peer: AdmissionRequest, _: &mut Self::Context) {
        let (theirs, ours) = (ClusterMap::epoch_of(&peer.metadata), self.desk.peers.map().epoch);
        let again = peer.connection();
        self.waiting.retain(|(_, ticket)| ticket.connection() != again);
        if theirs <= ours {
            return peer.accept();
        }
        tracing::info!(osd = self.desk.osd, peer = %peer.name(), theirs, ours, "held");
        self.desk.witness.held();
        self.waiting.push((theirs, peer.hold()));
    }
}

/// Whether an outcome is worth another try.
pub(crate) fn may_retry(outcome: &Outcome) -> bool {
    !matches!(outcome, Outcome::Failed { .. } | Outcome::Stored { .. })
}
