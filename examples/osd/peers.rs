//! The sessions with the other OSDs.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use stellate::prelude::*;

use super::lane::{Lane, LaneNumbers};
use super::map::ClusterMap;
use super::messages::{Outcome, Replicate};

/// A replica is asked again after so long.
const PAUSE: Duration = Duration::from_millis(50);

/// A replica is asked so often before the client is told to try again itself.
const TRIES: u32 = 400;

/// A lane to each OSD, as the map says. Shared by an actor and the writes it has in hand.
#[derive(Clone)]
pub(crate) struct Peers {
    inner: Rc<Inner>,
}

struct Inner {
    messenger: Messenger,
    numbers: LaneNumbers,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    map: ClusterMap,
    lanes: BTreeMap<u64, Lane>,
}

impl Peers {
    pub(crate) fn new(messenger: Messenger, numbers: LaneNumbers) -> Self {
        let state = RefCell::default();
        Self { inner: Rc::new(Inner { messenger, numbers, state }) }
    }

    pub(crate) fn map(&self) -> std::cell::Ref<'_, ClusterMap> {
        std::cell::Ref::map(self.inner.state.borrow(), |state| &state.map)
    }

    pub(crate) fn messenger(&self) -> &Messenger {
        &self.inner.messenger
    }

    /// A newer map: sessions go on at the new addresses of their peers. An older one is ignored.
    pub(crate) fn learn(&self, map: ClusterMap) -> bool {
        let mut state = self.inner.state.borrow_mut();
        if map.epoch <= state.map.epoch {
            return false;
        }
        if let Err(error) = self.inner.messenger.set_metadata(map.metadata()) {
            tracing::error!(%error, "eight bytes of metadata");
        }
        for (osd, lane) in &state.lanes {
            let Some(address) = map.osds.get(osd) else {
                continue;
            };
            if state.map.osds.get(osd) == Some(address) {
                continue;
            }
            if let Err(error) = lane.connection().readdress(address.as_str()) {
                tracing::error!(osd, address, %error, "the map has an address that is none");
            }
        }
        state.map = map;
        true
    }

    /// The lane to an OSD: that of the session that lives, or of a new one.
    pub(crate) fn lane(&self, osd: u64) -> Option<Lane> {
        let mut state = self.inner.state.borrow_mut();
        if let Some(lane) = state.lanes.get(&osd)
            && lane.connection().end_cause().is_none()
        {
            return Some(lane.clone());
        }
        let address = state.map.osds.get(&osd)?.as_str();
        let connected = self.inner.messenger.connect(EntityName::osd(osd), address);
        let connection = match connected {
            Ok(connection) => connection,
            Err(error) => {
                tracing::warn!(osd, %error, "no session");
                return None;
            }
        };
        let lane = Lane::new(&self.inner.messenger, &self.inner.numbers, connection);
        state.lanes.insert(osd, lane.clone());
        Some(lane)
    }

    /// Replicates until the replica has answered, over as many sessions as it takes: the id of the
    /// op makes a second copy harmless.
    pub(crate) async fn replicate(self, osd: u64, write: Replicate, data: Bytes) -> Outcome {
        let mut why = String::new();
        for _ in 0..TRIES {
            let Some(lane) = self.lane(osd) else {
                return Outcome::Busy { why: format!("osd.{osd} is not in the map") };
            };
            match lane.write(write.clone(), data.clone()).await {
                Ok(outcome @ (Outcome::Stored { .. } | Outcome::Failed { .. })) => return outcome,
                Ok(other) => why = format!("osd.{osd}: {other:?}"),
                Err(error) => why = format!("osd.{osd}: {error}"),
            }
            tracing::info!(osd, why, "replicating once more");
            tokio::time::sleep(PAUSE).await;
        }
        Outcome::Busy { why }
    }
}
