//! A monitor of one: keeps the map, and tells whoever asks.

use actix::prelude::*;
use stellate::prelude::{Deferred, Incoming};

use super::map::ClusterMap;
use super::messages::{Boot, GetMap};

/// The monitor.
pub(crate) struct Mon {
    map: ClusterMap,
    /// Who waits for a newer map, and than which. Bounded by the windows of their sessions.
    waiting: Vec<(u64, Deferred<GetMap>)>,
}

impl Mon {
    pub(crate) fn new(replicas: u32) -> Self {
        Self { map: ClusterMap { replicas, ..ClusterMap::default() }, waiting: Vec::new() }
    }

    fn tell(&mut self) {
        let epoch = self.map.epoch;
        let (now, later) =
            std::mem::take(&mut self.waiting).into_iter().partition(|(than, _)| *than < epoch);
        self.waiting = later;
        let now: Vec<(u64, Deferred<GetMap>)> = now;
        for (_, answer) in now {
            answer.reply(self.map.clone());
        }
    }
}

impl Actor for Mon {
    type Context = Context<Self>;
}

impl Handler<Incoming<Boot>> for Mon {
    type Result = ();

    fn handle(&mut self, boot: Incoming<Boot>, _: &mut Self::Context) {
        let changed = self.map.enter(boot.osd, &boot.address);
        tracing::info!(osd = boot.osd, address = boot.address, changed, "booted");
        boot.reply(self.map.clone());
        if changed {
            self.tell();
        }
    }
}

impl Handler<Incoming<GetMap>> for Mon {
    type Result = ();

    /// Answered when there is something to say, be it in an hour: a request is no timer.
    fn handle(&mut self, get: Incoming<GetMap>, _: &mut Self::Context) {
        let newer_than = get.newer_than;
        self.waiting.push((newer_than, get.defer()));
        self.tell();
    }
}
