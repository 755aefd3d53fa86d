//! The path of a write: verified, stored here, stored on the replicas, answered.
//!
//! ```text
//!   Put ─► verify ─► am I the primary? ─► store (gives the version) ─► all replicas ─► answer
//!   Replicate ─► verify ────────────────► store (that version) ──────────────────────► answer
//! ```
//!
//! All of it is futures in the actor's context: the handler returns at once and the messenger goes
//! on. A panic of the actor drops them, their requests are answered `HandlerPanicked` or `NoReply`,
//! and whoever asked tries again.

use actix::prelude::*;
use futures::future::join_all;
use stellate::prelude::{Bytes, Deferred};

use super::check::Witness;
use super::messages::{Outcome, Put, Replicate};
use super::peers::Peers;
use super::store::{Applied, Apply, Store};

/// What a write needs of its OSD.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) osd: u64,
    pub(crate) store: Addr<Store>,
    pub(crate) peers: Peers,
    pub(crate) witness: Witness,
}

impl Desk {
    /// The primary's part.
    pub(crate) async fn put(self, put: Put, data: Bytes, answer: Option<Deferred<Put>>) {
        let outcome = self.put_everywhere(put, data).await;
        if let Some(answer) = answer {
            answer.reply(outcome);
        }
    }

    /// A replica's part.
    pub(crate) async fn copy(
        self,
        copy: Replicate,
        data: Bytes,
        answer: Option<Deferred<Replicate>>,
    ) {
        let Replicate { object, op, sum, version, .. } = copy;
        let outcome = if crc32c::crc32c(&data) == sum {
            let applied = self.apply(Apply { object, op, sum, version: Some(version), data }).await;
            applied.map_or_else(|refused| refused, stored)
        } else {
            self.witness.bad_sum();
            Outcome::BadSum
        };
        if let Some(answer) = answer {
            answer.reply(outcome);
        }
    }

    async fn put_everywhere(&self, put: Put, data: Bytes) -> Outcome {
        let Put { object, op, sum, .. } = put;
        if crc32c::crc32c(&data) != sum {
            self.witness.bad_sum();
            return Outcome::BadSum;
        }
        let (holders, epoch) = {
            let map = self.peers.map();
            (super::placement::replicas(&map, &object), map.epoch)
        };
        if holders.first() != Some(&self.osd) {
            return Outcome::NotPrimary { epoch };
        }
        let (name, bytes) = (object.clone(), data.clone());
        let local = Apply { object: name, op, sum, version: None, data: bytes };
        let applied = match self.apply(local).await {
            Ok(applied) => applied,
            Err(refused) => return refused,
        };
        // A retry goes to the replicas as well: the first try may have died before it did.
        let place = Default::default();
        let copy = Replicate { object, op, sum, version: applied.version, place };
        let copies = holders[1..].iter().map(|osd| {
            let peers = self.peers.clone();
            peers.replicate(*osd, copy.clone(), data.clone())
        });
        let copies = join_all(copies).await;
        let failed = copies.into_iter().find(|copy| !matches!(copy, Outcome::Stored { .. }));
        failed.unwrap_or_else(|| stored(applied))
    }

    async fn apply(&self, apply: Apply) -> Result<Applied, Outcome> {
        match self.store.send(apply).await {
            Ok(Ok(applied)) => {
                if applied.repeated {
                    self.witness.repeated();
                }
                Ok(applied)
            }
            Ok(Err(error)) => Err(Outcome::Failed { why: format!("osd.{}: {error}", self.osd) }),
            Err(error) => Err(Outcome::Busy { why: error.to_string() }),
        }
    }
}

fn stored(applied: Applied) -> Outcome {
    let Applied { version, repeated } = applied;
    Outcome::Stored { version, repeated }
}
