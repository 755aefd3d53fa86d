//! A client: knows the map, writes to primaries, and tries again until a write is stored.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use stellate::prelude::*;
use stellate::testing::{Faults, Site, Tcp};

use super::check::Witness;
use super::lane::LaneNumbers;
use super::map::ClusterMap;
use super::messages::{
    Cut, CutLink, Get, GetMap, GetStatus, Got, OpId, Outcome, PanicNow, Put, Status,
};
use super::osd::may_retry;
use super::peers::Peers;
use super::{admin, daemon, placement};

/// Between two tries of one write.
const PAUSE: Duration = Duration::from_millis(20);

/// Why a write or a read was given up, in words.
#[derive(Clone, Debug)]
pub(crate) struct GivenUp(pub(crate) String);

impl std::fmt::Display for GivenUp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for GivenUp {}

/// Keeps the numbers of sessions that end.
struct Ears(Witness);

impl Actor for Ears {
    type Context = Context<Self>;
}

impl Handler<SessionEvent> for Ears {
    type Result = ();

    fn handle(&mut self, event: SessionEvent, _: &mut Self::Context) {
        match event {
            SessionEvent::Ended { connection: old, .. } | SessionEvent::Reset { old, .. } => {
                self.0.retire(&old);
            }
            other => tracing::debug!(event = ?other, "client"),
        }
    }
}

/// The client. Clones are the same client.
#[derive(Clone)]
pub(crate) struct Client {
    peers: Peers,
    monitor: Connection,
    faults: Faults,
    witness: Witness,
    ops: Rc<Cell<u64>>,
    /// Writes that are not answered.
    open: Rc<RefCell<BTreeSet<u64>>>,
    retries: Rc<Cell<u64>>,
}

impl Client {
    /// A client of its own over TCP, with its messenger.
    ///
    /// # Errors
    /// What the messenger says.
    pub(crate) async fn start(monitor: &Address) -> Result<Self, Box<dyn std::error::Error>> {
        let faults = Faults::new();
        let tcp = faults.wrap(Arc::new(Tcp::new()));
        Self::with(Messenger::builder(daemon::CLIENT).transport(tcp), faults, monitor).await
    }

    /// A client on a node of a cluster, wherever that runs.
    ///
    /// # Errors
    /// What the messenger says.
    pub(crate) async fn at(site: &Site) -> Result<Self, Box<dyn std::error::Error>> {
        let faults = Faults::new();
        let messenger = site.messenger().transport(faults.wrap(site.transport()));
        Self::with(messenger, faults, &site.address_of(daemon::MONITOR).await).await
    }

    async fn with(
        messenger: MessengerBuilder,
        faults: Faults,
        monitor: &Address,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let messenger = messenger
            .default_policy(Policy::lossless_client())
            .limits(daemon::limits())
            .build()
            .await?;
        let witness = Witness::default();
        let heard = witness.clone();
        messenger
            .supervise("ears", move || Ears(heard.clone()), Restart::default())
            .events()
            .placement(Placement::Inline)
            .start()?;
        messenger.ready();
        let monitor = messenger.connect(daemon::MONITOR, monitor.clone())?;
        let peers = Peers::new(messenger, LaneNumbers::default());
        let client = Self {
            peers,
            monitor,
            faults,
            witness,
            ops: Rc::default(),
            open: Rc::default(),
            retries: Rc::default(),
        };
        actix_rt::spawn(client.clone().watch());
        Ok(client)
    }

    /// Learns every map, until the monitor is gone.
    async fn watch(self) {
        loop {
            let newer_than = self.peers.map().epoch;
            match self.monitor.request(GetMap { newer_than }).await {
                Ok(answer) => {
                    self.peers.learn(answer.body);
                }
                Err(RequestError::SessionEnded { .. }) => return,
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Waits until so many OSDs are in the map.
    pub(crate) async fn wait_for(&self, osds: usize) {
        while self.peers.map().osds.len() < osds {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) fn map(&self) -> ClusterMap {
        self.peers.map().clone()
    }

    /// The OSDs that hold an object, primary first.
    pub(crate) fn replicas(&self, object: &str) -> Vec<u64> {
        placement::replicas(&self.peers.map(), object)
    }

    pub(crate) fn messenger(&self) -> &Messenger {
        self.peers.messenger()
    }

    /// Tries beyond the first, of all writes.
    pub(crate) fn retries(&self) -> u64 {
        self.retries.get()
    }

    /// Sums over its sessions.
    pub(crate) fn counts(&self) -> Status {
        self.witness.status(self.messenger())
    }

    /// Stores `data` as `object` on all its replicas. Its id is the same in every try, so a try
    /// whose answer was lost does no harm.
    ///
    /// # Errors
    /// A disk does not take it.
    pub(crate) async fn put(&self, object: String, data: Bytes) -> Result<(), GivenUp> {
        let number = self.ops.replace(self.ops.get() + 1);
        self.open.borrow_mut().insert(number);
        let stored = self.put_until_stored(number, object, data).await;
        self.open.borrow_mut().remove(&number);
        stored
    }

    async fn put_until_stored(
        &self,
        number: u64,
        object: String,
        data: Bytes,
    ) -> Result<(), GivenUp> {
        let client = self.messenger().identity().instance.0;
        let floor = self.open.borrow().first().copied().unwrap_or(number);
        let op = OpId { client, number, floor };
        let sum = crc32c::crc32c(&data);
        loop {
            match self.try_put(&object, op, sum, data.clone()).await {
                Ok(Outcome::Stored { .. }) => return Ok(()),
                Ok(Outcome::Failed { why }) => return Err(GivenUp(why)),
                Ok(other) => debug_assert!(may_retry(&other), "{other:?}"),
                Err(error) => tracing::info!(object, %error, "trying again"),
            }
            self.retries.set(self.retries.get() + 1);
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn try_put(
        &self,
        object: &str,
        op: OpId,
        sum: u32,
        data: Bytes,
    ) -> Result<Outcome, GivenUp> {
        let (primary, epoch) = {
            let map = self.peers.map();
            (placement::replicas(&map, object).first().copied(), map.epoch)
        };
        let lane = primary.and_then(|osd| self.peers.lane(osd));
        let lane = lane.ok_or_else(|| GivenUp("there is no OSD".into()))?;
        let put = Put { object: object.into(), op, sum, epoch, place: Default::default() };
        lane.write(put, data).await.map_err(|error| GivenUp(error.to_string()))
    }

    /// What that OSD has as `object`.
    ///
    /// # Errors
    /// It cannot be asked.
    pub(crate) async fn get(&self, osd: u64, object: &str) -> Result<(Got, Bytes), GivenUp> {
        let answer = self.ask(osd, || Get { object: object.into() }).await?;
        Ok((answer.body, answer.data))
    }

    /// How that OSD does.
    ///
    /// # Errors
    /// It cannot be asked.
    pub(crate) async fn status(&self, osd: u64) -> Result<Status, GivenUp> {
        Ok(self.ask(osd, || GetStatus {}).await?.body)
    }

    /// Lets that OSD cut a link of its own.
    ///
    /// # Errors
    /// It cannot be asked.
    pub(crate) async fn cut_at(&self, osd: u64, patience: Duration) -> Result<Vec<Cut>, GivenUp> {
        let patience = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        Ok(self.ask(osd, || CutLink { patience }).await?.body)
    }

    /// Cuts a link of this client.
    pub(crate) async fn cut_here(&self, patience: Duration) -> Vec<Cut> {
        admin::cut_next(self.messenger(), &self.faults, patience).await
    }

    /// Makes that OSD's actor panic: now, or with its next write in hand.
    ///
    /// # Errors
    /// It cannot be asked.
    pub(crate) async fn panic_at(&self, osd: u64, now: bool) -> Result<(), GivenUp> {
        self.ask(osd, || PanicNow { now }).await.map(drop)
    }

    /// Asks an OSD something that may be asked twice.
    async fn ask<M: stellate::message::Message>(
        &self,
        osd: u64,
        message: impl Fn() -> M,
    ) -> Result<Reply<M::Reply>, GivenUp> {
        let mut last = GivenUp(format!("osd.{osd} is not in the map"));
        for _ in 0..200 {
            if let Some(lane) = self.peers.lane(osd) {
                match lane.connection().request(message()).await {
                    Ok(answer) => return Ok(answer),
                    Err(error) => last = GivenUp(format!("osd.{osd}: {error}")),
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(last)
    }

    /// Drains and stops.
    pub(crate) async fn stop(&self) {
        self.messenger().shutdown().await;
    }
}
