//! Commands to an OSD, over the messenger like everything else: look at it, and break it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix::prelude::*;
use stellate::prelude::{Connection, Incoming, Messenger};
use stellate::testing::{Direction, Edge, Fault, Faults, Gate, What};
use tokio::time::Instant;

use super::check::Witness;
use super::messages::{Cut, CutLink, GetStatus, PanicNow};

/// The actor that takes the commands.
pub(crate) struct Admin {
    pub(crate) messenger: Messenger,
    pub(crate) faults: Faults,
    pub(crate) witness: Witness,
    pub(crate) fuse: Arc<AtomicBool>,
}

impl Actor for Admin {
    type Context = Context<Self>;
}

impl Handler<Incoming<GetStatus>> for Admin {
    type Result = ();

    fn handle(&mut self, get: Incoming<GetStatus>, _: &mut Self::Context) {
        let mut status = self.witness.status(&self.messenger);
        let history = self.messenger.tree().history_of("osd");
        status.restarts =
            history.iter().filter(|what| matches!(what, What::Restarting { .. })).count() as u64;
        get.reply(status);
    }
}

impl Handler<Incoming<CutLink>> for Admin {
    type Result = ();

    fn handle(&mut self, order: Incoming<CutLink>, ctx: &mut Self::Context) {
        let patience = Duration::from_millis(order.patience);
        let (messenger, faults, answer) =
            (self.messenger.clone(), self.faults.clone(), order.defer());
        let cut = async move {
            let cuts = cut_next(&messenger, &faults, patience).await;
            answer.reply(cuts);
        };
        ctx.spawn(cut.into_actor(self));
    }
}

impl Handler<Incoming<PanicNow>> for Admin {
    type Result = ();

    fn handle(&mut self, order: Incoming<PanicNow>, _: &mut Self::Context) {
        if order.now {
            if let Err(error) = self.messenger.tree().panic("osd") {
                tracing::error!(%error, "the actor is not there");
            }
        } else {
            self.fuse.store(true, Ordering::Relaxed);
        }
        order.reply(());
    }
}

/// Cuts the next link on which this messenger sends a message, with that message on it, and says
/// what was under way. Empty if nothing was sent in time.
///
/// While the numbers are taken no link comes back: so they are those of the cut, and the message
/// that was lost with the link is among them.
pub(crate) async fn cut_next(
    messenger: &Messenger,
    faults: &Faults,
    patience: Duration,
) -> Vec<Cut> {
    let lost = |session: &Connection| session.counters().links_lost;
    let before: BTreeMap<u64, u64> =
        messenger.sessions().iter().map(|session| (session.key().0, lost(session))).collect();
    let (gate, deadline) = (Gate::new(), Instant::now() + patience);
    for nth in 1..=16 {
        faults.on_next(Edge::Dial, Direction::Sent, nth, Fault::Block(gate.clone()));
        faults.on_next(Edge::Accept, Direction::Received, nth, Fault::Block(gate.clone()));
    }
    for edge in [Edge::Message, Edge::Announce, Edge::Chunk] {
        faults.on_next(edge, Direction::Sent, 1, Fault::Fail);
    }
    let mut cuts = Vec::new();
    while cuts.is_empty() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(1)).await;
        for session in messenger.sessions() {
            let earlier = before.get(&session.key().0).copied().unwrap_or_default();
            if lost(&session) > earlier {
                cuts.push(Cut {
                    from: messenger.name().to_string(),
                    to: session.name().to_string(),
                    unacked: session.outbox().0,
                });
            }
        }
    }
    faults.clear();
    gate.open();
    cuts
}
