//! What a node's actors get from the simulation: its clock, its random numbers, its disk, its
//! place in the network, and somebody to tell what they saw.

use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stellate_protocol::EntityName;
use stellate_transport::sim::{LinkInfo, SimNet};
use stellate_transport::{Address, Transport};

use super::check::{Desk, What};
use super::nic::Nics;
use super::{Clock, Disk};
use crate::builder::MessengerBuilder;
use crate::messenger::Messenger;
use crate::testing::Rng;

/// One life of a node, from boot to crash. Cloning copies a handle; `Send`, so that actors'
/// factories may hold it.
#[derive(Clone)]
pub struct NodeHandle {
    inner: Arc<Inner>,
}

struct Inner {
    name: EntityName,
    /// Its place in the network.
    place: String,
    life: u64,
    alive: AtomicBool,
    net: SimNet,
    nics: Option<Arc<Nics>>,
    transport: Arc<dyn Transport>,
    clock: Clock,
    disk: Disk,
    seed: u64,
    rng: Mutex<Rng>,
    built: AtomicU64,
    messengers: Mutex<Vec<Messenger>>,
    desk: Arc<Desk>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is around a node: the same for all of a run.
pub(super) struct Around {
    pub(super) net: SimNet,
    pub(super) nics: Option<Arc<Nics>>,
    /// That of the run.
    pub(super) seed: u64,
    pub(super) desk: Arc<Desk>,
}

impl NodeHandle {
    pub(super) fn new(
        name: EntityName,
        life: u64,
        around: Around,
        clock: Clock,
        disk: Disk,
    ) -> Self {
        Self::placed((name, name.to_string()), life, around, clock, disk)
    }

    /// As [`new`](Self::new), at a place in the network that is not called as the node is.
    pub(super) fn placed(
        (name, place): (EntityName, String),
        life: u64,
        around: Around,
        clock: Clock,
        disk: Disk,
    ) -> Self {
        let Around { net, nics, seed, desk } = around;
        let seed = Rng::fork(seed, &format!("{name}/{life}")).next_u64();
        // Made in any case: so the life begins in the trace.
        let own: Arc<dyn Transport> = Arc::new(net.transport(&place));
        let transport = nics.as_ref().map_or(own, |nics| nics.transport(name));
        Self {
            inner: Arc::new(Inner {
                name,
                place,
                life,
                alive: AtomicBool::new(true),
                net,
                nics,
                transport,
                clock,
                disk,
                seed,
                rng: Mutex::new(Rng::fork(seed, "user")),
                built: AtomicU64::new(0),
                messengers: Mutex::default(),
                desk,
            }),
        }
    }

    /// The node's name.
    pub fn name(&self) -> EntityName {
        self.inner.name
    }

    /// What it is called in the network: its name, unless it is another process of that name.
    pub fn place(&self) -> &str {
        &self.inner.place
    }

    /// Which life this is: 0 from the first start, and one more after each crash.
    pub fn life(&self) -> u64 {
        self.inner.life
    }

    /// Whether the node has not crashed since.
    pub fn is_alive(&self) -> bool {
        self.inner.alive.load(Ordering::Relaxed)
    }

    /// Sets up a messenger of the node's name, bound where the node is
    /// [dialled](Self::address_of), seeded, on this thread. Each life is another instance.
    pub fn messenger(&self) -> MessengerBuilder {
        self.messenger_at(self.own_address(None))
    }

    /// The same for another messenger of the same daemon, bound at
    /// [that port](Self::address_on): give it a role.
    pub fn messenger_on(&self, port: u16) -> MessengerBuilder {
        self.messenger_at(self.own_address(Some(port)))
    }

    /// Where this process is reached: as its node, unless it is another process of that name.
    pub(in crate::testing) fn own_address(&self, port: Option<u16>) -> Address {
        let place = &self.inner.place;
        match (&self.inner.nics, port) {
            (Some(nics), port) => nics.address(self.inner.name, port.unwrap_or(0)),
            (None, Some(port)) => sim(&format!("{place}:{port}")),
            (None, None) => sim(place),
        }
    }

    fn messenger_at(&self, bind: Address) -> MessengerBuilder {
        let nth = self.inner.built.fetch_add(1, Ordering::Relaxed);
        let seed = self.inner.seed.wrapping_add(nth);
        let known = self.inner.clone();
        Messenger::builder(self.inner.name)
            .transport(self.transport())
            .bind(bind.as_str())
            .arbiters(0)
            .seed(seed)
            .drift(self.inner.clock.drift_ppm())
            .coverage(self.inner.desk.coverage.clone())
            .trace(self.inner.net.scribe(&self.inner.place))
            .when_built(move |messenger| lock(&known.messengers).push(messenger.clone()))
    }

    /// The node's transport, to wrap a plan of faults around:
    /// `node.messenger().transport(faults.wrap(node.transport()))`.
    pub fn transport(&self) -> Arc<dyn Transport> {
        self.inner.transport.clone()
    }

    /// Where a node is dialled: `sim://NAME`, or an `rdma://` address on a fabric of NICs.
    pub fn address_of(&self, name: EntityName) -> Address {
        match &self.inner.nics {
            Some(nics) => nics.address(name, 0),
            None => sim(&name.to_string()),
        }
    }

    /// Where another messenger of a node is dialled, by its port: `sim://NAME:PORT`, or so many
    /// ports beyond the first.
    pub fn address_on(&self, name: EntityName, port: u16) -> Address {
        match &self.inner.nics {
            Some(nics) => nics.address(name, port),
            None => sim(&format!("{name}:{port}")),
        }
    }

    /// The network, for what the cluster has no verb for.
    pub fn net(&self) -> &SimNet {
        &self.inner.net
    }

    /// The node's wall clock, which may be wrong.
    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// Virtual time since the run began.
    pub fn elapsed(&self) -> Duration {
        self.inner.desk.elapsed()
    }

    /// What survives a crash. After one, this life changes nothing of it any more.
    pub fn disk(&self) -> &Disk {
        &self.inner.disk
    }

    /// A random number from the node's generator: the seed and the calls before decide.
    pub fn random(&self) -> u64 {
        lock(&self.inner.rng).next_u64()
    }

    /// A generator of its own, say for an actor: forked from the node's.
    pub fn rng(&self) -> Rng {
        Rng::new(self.random())
    }

    /// Tells the checkers what an actor saw. What is told by the dead is not heard.
    pub fn note<T: Any>(&self, note: T) {
        if self.is_alive() {
            self.inner.desk.tell(self.inner.name, self.inner.life, What::Note(&note));
        }
    }

    /// How many links the node has open, as its network sees it; a dial under way is none.
    pub(in crate::testing) fn open_links(&self) -> usize {
        let nics = self.inner.nics.as_ref();
        let links = nics.map_or_else(|| self.inner.net.links(), |nics| nics.links());
        let place = &self.inner.place;
        let is_open = |link: &&LinkInfo| {
            let dialled = link.dialler == *place && link.open[0] && link.frames[0] > 0;
            dialled || (link.acceptor == *place && link.open[1])
        };
        links.iter().filter(is_open).count()
    }

    /// The messengers that were built in this life, oldest first.
    pub fn messengers(&self) -> Vec<Messenger> {
        lock(&self.inner.messengers).clone()
    }

    pub(super) fn die(&self) -> Vec<Messenger> {
        self.inner.alive.store(false, Ordering::Relaxed);
        self.inner.disk.end();
        std::mem::take(&mut *lock(&self.inner.messengers))
    }
}

fn sim(place: &str) -> Address {
    Address::new("sim", place)
        .unwrap_or_else(|error| unreachable!("an entity's name is an address: {error}"))
}

impl fmt::Debug for NodeHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeHandle")
            .field("name", &format_args!("{}", self.inner.name))
            .field("life", &self.inner.life)
            .field("alive", &self.is_alive())
            .finish_non_exhaustive()
    }
}
