//! A messenger without types: the root of the actors, and what they all refer to.
//!
//! ```text
//!   tree: endpoint ─ links/N ─ dispatch-0 … ─ reconnect-0 … ─ listener-0 … ─ hosted ─ sessions/N
//!                    (their session's arbiter)  (one an arbiter)  (arbiter 0)    (as they say)
//!         ◄────────────────────────── stopped in this order ──────────────────────────
//! ```
//!
//! [`Node`] owns what must outlive any actor: the registry of sessions, the router, the queues of
//! messages that were acknowledged. Actors hold it and can be rebuilt; it holds their addresses.

mod config;
mod order;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use actix::Addr;
use bytes::Bytes;
use futures::channel::oneshot;
use stellate_protocol::codec::WireLimits;
use stellate_protocol::directory::{Directory, SessionKey};
use stellate_protocol::limits::Limits;
use stellate_protocol::policy::Policy;
use stellate_protocol::session::{Config, Coverage};
use stellate_protocol::{Attempt, EntityName, Identity, LinkId, SessionId, Time};
use stellate_transport::sim::Scribe;
use stellate_transport::{Address, Local, LocalOptions, Transport};

pub use crate::reactor::OwnThread;
pub use config::{ConnectError, NodeConfig, Policies, StartError};

use crate::dispatch::{Dispatch, DispatchQueue};
use crate::endpoint::{EndpointActor, engines};
use crate::handle::SessionHandle;
use crate::inbox::Notice;
use crate::listener::ListenerActor;
use crate::reactor::Reactor;
use crate::reconnect::ReconnectSupervisor;
use crate::router::Router;
use crate::session::SessionActor;
use crate::shared::{Reach, SessionShared, lock};
use crate::supervise::{Placement, Recipe, Restart, Supervisor, Tree, TreeError};

/// A session as the registry knows it.
#[derive(Clone, Debug)]
pub(crate) struct Registered {
    pub(crate) shared: Arc<SessionShared>,
    pub(crate) actor: Addr<SessionActor>,
    /// Which arbiter it lives on.
    pub(crate) index: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Registry {
    pub(crate) directory: Directory,
    pub(crate) sessions: BTreeMap<SessionKey, Registered>,
    /// Over, and not everybody was told of it yet.
    ending: BTreeMap<SessionKey, Arc<SessionShared>>,
    shutting_down: bool,
}

/// A running messenger. Cheap to clone.
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

/// A messenger that may be gone.
#[derive(Clone, Debug)]
pub(crate) struct WeakNode(Weak<Inner>);

impl WeakNode {
    pub(crate) fn upgrade(&self) -> Option<Node> {
        self.0.upgrade().map(|inner| Node { inner })
    }
}

pub(crate) struct Inner {
    pub(crate) me: Identity,
    pub(crate) limits: Limits,
    transports: Vec<Arc<dyn Transport>>,
    schemes: Arc<[&'static str]>,
    policies: Policies,
    metadata: Mutex<Bytes>,
    pub(crate) reactor: Reactor,
    pub(crate) tree: Tree,
    pub(crate) router: Router,
    pub(crate) registry: Mutex<Registry>,
    pub(crate) endpoint: Mutex<Option<Addr<EndpointActor>>>,
    pub(crate) reconnects: Mutex<Vec<Addr<ReconnectSupervisor>>>,
    pub(crate) dispatches: Mutex<Vec<Dispatch>>,
    pub(crate) listeners: Mutex<Vec<Addr<ListenerActor>>>,
    local_addresses: Mutex<Vec<Address>>,
    attempts: AtomicU64,
    links: AtomicU64,
    sessions: AtomicU64,
    pub(crate) handshakes: AtomicU32,
    seed: AtomicU64,
    coverage: Option<Arc<Mutex<Coverage>>>,
    pub(crate) ready: AtomicBool,
    scribe: Option<Scribe>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Node({})", self.inner.me.name)
    }
}

impl Node {
    /// Binds and starts the actors; accepts and delivers nothing before [`ready`](Self::ready).
    ///
    /// # Errors
    /// [`StartError`]; what was started is stopped again.
    pub async fn start(config: NodeConfig) -> Result<Self, StartError> {
        let wire = WireLimits::from(&config.limits);
        // Also of those that were handed in: what our hello allows, our links take.
        let mut transports: Vec<_> = config
            .transports
            .into_iter()
            .map(|transport| transport.taking(wire).unwrap_or(transport))
            .collect();
        transports.push(Arc::new(Local::with(LocalOptions { wire, ..LocalOptions::default() })));
        let reactor = Reactor::new(config.arbiters, config.drift_ppm);
        let node = Self {
            inner: Arc::new(Inner {
                me: config.me,
                limits: config.limits,
                schemes: transports.iter().map(|transport| transport.scheme()).collect(),
                transports,
                policies: config.policies,
                metadata: Mutex::new(config.metadata),
                reactor,
                tree: Tree::new(Supervisor::default()),
                router: Router::default(),
                registry: Mutex::default(),
                endpoint: Mutex::default(),
                reconnects: Mutex::default(),
                dispatches: Mutex::default(),
                listeners: Mutex::default(),
                local_addresses: Mutex::default(),
                attempts: AtomicU64::new(0),
                links: AtomicU64::new(0),
                sessions: AtomicU64::new(0),
                handshakes: AtomicU32::new(0),
                seed: AtomicU64::new(config.seed),
                coverage: config.coverage,
                ready: AtomicBool::new(false),
                scribe: config.scribe,
            }),
        };
        if let Some(scribe) = node.inner.scribe.clone() {
            node.inner.tree.watch(move |entry| crate::told::tell_entry(&scribe, entry));
        }
        match node.start_actors(&config.bind).await {
            Ok(()) => Ok(node),
            Err(error) => {
                node.inner.tree.shutdown().await;
                node.inner.reactor.stop();
                Err(error)
            }
        }
    }

    async fn start_actors(&self, bind: &[Address]) -> Result<(), StartError> {
        // First, so that it is stopped last: links that drain need what it drives.
        let node = self.clone();
        let mut taken = Some(engines(self));
        let endpoint = self
            .inner
            .tree
            .spawn_at(
                &self.inner.reactor.placement(0),
                "endpoint",
                move || {
                    Recipe::new(move || {
                        let engines = taken.take().unwrap_or_else(|| engines(&node));
                        EndpointActor::new(node.clone(), engines)
                    })
                },
                Restart::default(),
            )
            .map_err(StartError::Tree)?;
        *lock(&self.inner.endpoint) = Some(endpoint);
        let group_of_many = Supervisor::default().together();
        // It is stopped first, also when the tree gives up: whoever is hosted is told the ends, S4.
        let tree = &self.inner.tree;
        tree.outer_supervisor("sessions", group_of_many).map_err(StartError::Tree)?;
        tree.supervisor("links", group_of_many).map_err(StartError::Tree)?;
        for index in 0..self.inner.reactor.len() {
            let (dispatch, reconnect) = self.start_services(index).map_err(StartError::Tree)?;
            lock(&self.inner.dispatches).push(dispatch);
            lock(&self.inner.reconnects).push(reconnect);
        }
        let local = self.own_address();
        for address in bind.iter().chain([&local]) {
            let bound = self.listen(address.clone()).await?;
            if address != &local {
                lock(&self.inner.local_addresses).push(bound);
            }
        }
        Ok(())
    }

    fn start_services(
        &self,
        index: usize,
    ) -> Result<(Dispatch, Addr<ReconnectSupervisor>), TreeError> {
        let inner = &self.inner;
        let placement = inner.reactor.placement(index);
        let node = self.clone();
        let queues = DispatchQueue::state();
        let state = queues.clone();
        let actor = inner.tree.spawn_at(
            &placement,
            &format!("dispatch-{index}"),
            move || DispatchQueue::recipe(node, state),
            Restart::default(),
        )?;
        let node = self.clone();
        let seed = self.random();
        let reconnect = inner.tree.spawn_at(
            &placement,
            &format!("reconnect-{index}"),
            move || ReconnectSupervisor::recipe(node, seed),
            Restart::default(),
        )?;
        Ok((Dispatch { actor, queues }, reconnect))
    }

    /// Binds one address on the listeners' arbiter and starts its actor.
    async fn listen(&self, address: Address) -> Result<Address, StartError> {
        let transport = self.transport(&address).cloned();
        let Some(transport) = transport else {
            return Err(StartError::NoTransport(address));
        };
        let (sender, receiver) = oneshot::channel();
        let node = self.clone();
        let at = address.clone();
        let placement = self.inner.reactor.placement(0);
        let begin = move || {
            let bound = transport.listen(&at).map_err(|error| StartError::Bind(at, error));
            let started = bound.and_then(|listener| {
                let local = listener.local();
                crate::listener::start(&node, listener).map_err(StartError::Tree)?;
                Ok(local)
            });
            // The receiver waits right below.
            let _ = sender.send(started);
        };
        placement.run(begin).map_err(StartError::Tree)?;
        receiver.await.unwrap_or(Err(StartError::Tree(TreeError::ArbiterGone)))
    }

    /// Begins to accept and to deliver. Later calls do nothing.
    pub fn ready(&self) {
        self.inner.ready.store(true, Ordering::Release);
        crate::listener::wake_all(self);
        for dispatch in lock(&self.inner.dispatches).iter() {
            dispatch.actor.do_send(crate::dispatch::Run);
        }
    }

    /// Where it listens, with the ports that were chosen.
    pub fn local_addresses(&self) -> Vec<Address> {
        lock(&self.inner.local_addresses).clone()
    }

    /// Who it is.
    pub fn me(&self) -> &Identity {
        &self.inner.me
    }

    /// Its limits.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// Whether the path is, or lies below, one of the messenger's own actors and groups in its tree, or
    /// could come to: no user's actor may have it.
    pub fn owns_path(path: &str) -> bool {
        let first = path.split('/').next().unwrap_or_default();
        let numbered = || {
            let (kind, number) = first.rsplit_once('-')?;
            let ours = matches!(kind, "dispatch" | "reconnect" | "listener");
            Some(ours && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
        };
        matches!(first, "endpoint" | "sessions" | "links") || numbered().unwrap_or(false)
    }

    /// Its supervision tree.
    pub fn tree(&self) -> &Tree {
        &self.inner.tree
    }

    /// In simulation, its hand in the trace.
    pub fn scribe(&self) -> Option<&Scribe> {
        self.inner.scribe.as_ref()
    }

    /// Its registrations.
    pub fn router(&self) -> &Router {
        &self.inner.router
    }

    /// Where inline actors run.
    pub fn inline_placement(&self) -> Placement {
        self.inner.reactor.placement(0)
    }

    /// An arbiter of its own for a user's actor, which whoever holds it stops by dropping it. In a
    /// messenger without arbiters, right here.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn own_thread(&self) -> io::Result<OwnThread> {
        self.inner.reactor.fresh()
    }

    /// Offers other metadata in later hellos and answers.
    pub fn set_metadata(&self, metadata: Bytes) {
        *lock(&self.inner.metadata) = metadata;
    }

    /// The live sessions.
    pub fn sessions(&self) -> Vec<SessionHandle> {
        let registry = lock(&self.inner.registry);
        registry.sessions.values().map(|entry| SessionHandle::new(entry.shared.clone())).collect()
    }

    /// The live session to `name`, or a new one that dials `addresses` in turn. Returns at once.
    ///
    /// # Errors
    /// [`ConnectError`]. Whether anybody is there is told by events.
    pub fn connect(
        &self,
        name: EntityName,
        addresses: Vec<Address>,
    ) -> Result<SessionHandle, ConnectError> {
        if name.is_anonymous() {
            return Err(ConnectError::Anonymous);
        }
        if addresses.is_empty() {
            return Err(ConnectError::NoAddress);
        }
        for address in &addresses {
            if self.transport(address).is_none() {
                return Err(ConnectError::NoTransport(address.clone()));
            }
        }
        let to_self = name == self.inner.me.name;
        let policy = match to_self {
            true => Policy::lossless_peer(),
            false => self.policy_to(name, true),
        };
        if !policy.dials() {
            return Err(ConnectError::NeverDials(name.kind()));
        }
        let mut registry = lock(&self.inner.registry);
        if registry.shutting_down {
            return Err(ConnectError::ShuttingDown);
        }
        if let Some(key) = registry.directory.lookup(name)
            && let Some(entry) = registry.sessions.get(&key)
        {
            match entry.shared.intake() {
                Ok(()) => return Ok(SessionHandle::new(entry.shared.clone())),
                // A second session would end the first before it has drained.
                Err(None) => return Err(ConnectError::StillClosing(name)),
                // It takes nothing any more, and is about to tell: what comes now is after it (S6).
                Err(Some(_)) => registry.directory.ended(key),
            }
        }
        self.check_sessions(&registry)?;
        let key = self.next_key();
        let id = SessionId(u128::from(self.random()) << 64 | u128::from(self.random()));
        let shared =
            Arc::new(SessionShared::new(key, name, self.inner.limits, self.reach(&policy)));
        let addresses = match to_self {
            true => vec![self.own_address()],
            false => addresses,
        };
        *lock(&shared.addresses) = addresses;
        let config = self.session_config(name, policy);
        let begin = crate::session::Begin::Dial { config, id };
        registry.directory.dialled(key, name, id, to_self);
        registry.follow(&shared, &[]);
        let index = self.inner.reactor.spread(key.0);
        let spawned = self.spawn_session(&mut registry, shared.clone(), index, begin);
        if spawned.is_err() {
            registry.never_was(key);
            return Err(ConnectError::ShuttingDown);
        }
        Ok(SessionHandle::new(shared))
    }

    fn check_sessions(&self, registry: &Registry) -> Result<(), ConnectError> {
        let max = self.inner.limits.sessions_max;
        if registry.sessions.len() >= max as usize {
            return Err(ConnectError::TooManySessions(max));
        }
        Ok(())
    }

    /// Starts the actor of a session and enters it.
    pub(crate) fn spawn_session(
        &self,
        registry: &mut Registry,
        shared: Arc<SessionShared>,
        index: usize,
        begin: crate::session::Begin,
    ) -> Result<Addr<SessionActor>, TreeError> {
        let key = shared.key;
        let placement = self.inner.reactor.placement(index);
        let node = self.clone();
        let session = shared.clone();
        shared.set_owner(self);
        let actor = self.inner.tree.spawn_at(
            &placement,
            &format!("sessions/{}", key.0),
            move || SessionActor::recipe(node, session, index, begin),
            Restart::Never,
        )?;
        registry.sessions.insert(key, Registered { shared, actor: actor.clone(), index });
        Ok(actor)
    }

    /// Stops accepting, drains every session, stops the tree, resolves when all is gone.
    pub async fn shutdown(&self) {
        let sessions = {
            let mut registry = lock(&self.inner.registry);
            registry.shutting_down = true;
            registry.directory.shut_down();
            let live = registry.sessions.values().map(|entry| &entry.shared);
            live.chain(registry.ending.values()).cloned().collect::<Vec<_>>()
        };
        let handles: Vec<_> = sessions.into_iter().map(SessionHandle::new).collect();
        for handle in &handles {
            handle.close();
        }
        for handle in &handles {
            handle.ended().await;
        }
        self.inner.tree.shutdown().await;
        self.inner.reactor.stop();
    }

    // --- for the actors --------------------------------------------------------------------

    pub(crate) fn downgrade(&self) -> WeakNode {
        WeakNode(Arc::downgrade(&self.inner))
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// Nanoseconds since it started, by its clock.
    pub fn now_nanos(&self) -> u64 {
        self.now().0
    }

    pub(crate) fn now(&self) -> Time {
        self.inner.reactor.now()
    }

    pub(crate) fn transport(&self, address: &Address) -> Option<&Arc<dyn Transport>> {
        self.inner.transports.iter().find(|transport| transport.scheme() == address.scheme())
    }

    /// The transports that are built in.
    pub fn transports(&self) -> &[Arc<dyn Transport>] {
        &self.inner.transports
    }

    pub(crate) fn policy_to(&self, name: EntityName, dialled: bool) -> Policy {
        self.inner.policies.get(name.kind(), dialled)
    }

    /// Where this messenger is dialled by itself.
    fn own_address(&self) -> Address {
        Address::new("local", &format!("{:032x}", self.inner.me.instance.0))
            .unwrap_or_else(|error| unreachable!("hexadecimal digits are an address: {error}"))
    }

    pub(crate) fn metadata(&self) -> Bytes {
        lock(&self.inner.metadata).clone()
    }

    pub(crate) fn session_config(&self, target: EntityName, policy: Policy) -> Config {
        Config {
            limits: self.inner.limits,
            me: self.inner.me,
            target,
            policy,
            metadata: self.metadata(),
            admission: self.inner.router.routes().admits(),
        }
    }

    /// What a session with that policy may dial.
    pub(crate) fn reach(&self, policy: &Policy) -> Reach {
        Reach { dials: policy.dials(), schemes: self.inner.schemes.clone() }
    }

    pub(crate) fn next_attempt(&self) -> Attempt {
        Attempt(self.inner.attempts.fetch_add(1, Ordering::Relaxed) + 1)
    }

    pub(crate) fn latest_attempt(&self) -> Attempt {
        Attempt(self.inner.attempts.load(Ordering::Relaxed))
    }

    pub(crate) fn next_link(&self) -> LinkId {
        LinkId(self.inner.links.fetch_add(1, Ordering::Relaxed) + 1)
    }

    pub(crate) fn next_key(&self) -> SessionKey {
        SessionKey(self.inner.sessions.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// The next number of the messenger's own generator (splitmix64).
    pub(crate) fn random(&self) -> u64 {
        const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut z = self.inner.seed.fetch_add(GOLDEN, Ordering::Relaxed).wrapping_add(GOLDEN);
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    /// Adds the rows that a session took to those of all, where somebody adds them up.
    pub(crate) fn add_coverage(&self, coverage: &Coverage) {
        if let Some(all) = &self.inner.coverage {
            lock(all).merge(coverage);
        }
    }

    /// Tells everyone who registered for events.
    pub(crate) fn notify(&self, mut notice: impl FnMut() -> Notice) {
        if let Some(scribe) = &self.inner.scribe {
            crate::told::tell(scribe, &notice());
        }
        for inbox in self.inner.router.routes().events() {
            inbox.push_notice(notice());
        }
    }

    /// Whether somebody has so much to read that no session should begin.
    pub(crate) fn events_are_full(&self) -> bool {
        let routes = self.inner.router.routes();
        let mut readers = routes.events().iter().chain(routes.admission());
        readers.any(|inbox| {
            let (events, bytes) = inbox.notices_and_bytes();
            self.inner.limits.events_are_full(events as u64, bytes)
        })
    }

    /// The session is over: its name is free. [`told`](Self::told) follows.
    pub(crate) fn forget(&self, key: SessionKey) {
        let mut registry = lock(&self.inner.registry);
        registry.directory.ended(key);
        if let Some(entry) = registry.sessions.remove(&key) {
            registry.ending.insert(key, entry.shared);
        }
    }
}
