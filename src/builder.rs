//! How a messenger is set up.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use stellate_actors::node::{Node, NodeConfig, Policies, StartError};
use stellate_actors::supervise::TreeError;
use stellate_protocol::error::NameError;
use stellate_protocol::frame::METADATA_MAX;
use stellate_protocol::limits::Limits;
use stellate_protocol::policy::Policy;
use stellate_protocol::session::Coverage;
use stellate_protocol::{Blame, EntityKind, EntityName, Identity, Incarnation, Instance, Role};
use stellate_transport::sim::Scribe;
use stellate_transport::{Address, AddressError, ListenError, Tcp, TcpOptions, Transport};

use crate::addresses::IntoAddresses;
use crate::messenger::Messenger;
use crate::testing::is_virtual_time;
#[cfg(feature = "rsockets")]
use crate::transport::RSockets;
use crate::transport::{BuiltIn, of_stream};
#[cfg(feature = "rdma")]
use crate::transport::{Rdma, RdmaOptions, System, of_rdma};

/// Sets up a [`Messenger`]. All but the name has a default; what is wrong is said at
/// [`build`](Self::build).
#[must_use = "nothing happens before `build`"]
pub struct MessengerBuilder {
    name: EntityName,
    role: Option<Role>,
    incarnation: Option<Incarnation>,
    bind: Vec<Address>,
    policies: Policies,
    limits: Limits,
    metadata: Bytes,
    arbiters: Option<usize>,
    spin: Option<Duration>,
    seed: Option<u64>,
    built_in: BuiltIn,
    transports: Vec<Arc<dyn Transport>>,
    drift_ppm: i32,
    coverage: Option<Arc<Mutex<Coverage>>>,
    when_built: Option<WhenBuilt>,
    scribe: Option<Scribe>,
    wrong: Option<BuildError>,
}

type WhenBuilt = Box<dyn FnOnce(&Messenger) + Send>;

impl MessengerBuilder {
    pub(crate) fn new(name: EntityName) -> Self {
        Self {
            name,
            role: None,
            incarnation: None,
            bind: Vec::new(),
            policies: Policies::default(),
            limits: Limits::default(),
            metadata: Bytes::new(),
            arbiters: None,
            spin: None,
            seed: None,
            built_in: BuiltIn::default(),
            transports: Vec::new(),
            drift_ppm: 0,
            coverage: None,
            when_built: None,
            scribe: None,
            wrong: None,
        }
    }

    /// Separates it from the other messengers of the same daemon: `public`, `cluster`,
    /// `heartbeat`.
    pub fn role(mut self, role: &str) -> Self {
        match Role::new(role) {
            Ok(role) => self.role = Some(role),
            Err(error) => self.fail(BuildError::Role(role.into(), error)),
        }
        self
    }

    /// The number of this boot, greater than all before: peers then know the older one as
    /// superseded.
    pub fn incarnation(mut self, boot: u64) -> Self {
        self.incarnation = Some(Incarnation(boot));
        self
    }

    /// Listens there too. Port 0 takes a free one; see
    /// [`local_addresses`](Messenger::local_addresses).
    pub fn bind(mut self, addresses: impl IntoAddresses) -> Self {
        match addresses.into_addresses() {
            Ok(addresses) => self.bind.extend(addresses),
            Err(error) => self.fail(BuildError::Address(error)),
        }
        self
    }

    /// How it behaves towards peers of that kind, whoever dialled.
    pub fn policy(self, kind: EntityKind, policy: Policy) -> Self {
        self.dial(kind, policy).accept(kind, policy)
    }

    /// How it behaves towards peers of that kind that it dials.
    pub fn dial(mut self, kind: EntityKind, policy: Policy) -> Self {
        self.policies.dial(kind, policy);
        self
    }

    /// How it behaves towards peers of that kind that dial it.
    pub fn accept(mut self, kind: EntityKind, policy: Policy) -> Self {
        self.policies.accept(kind, policy);
        self
    }

    /// How it behaves towards all others; [`Policy::lossless_peer`] if nothing is said.
    pub fn default_policy(mut self, policy: Policy) -> Self {
        self.policies.others(policy);
        self
    }

    /// Its limits, with the memory formula beside them; [`Limits::default`] if nothing is said.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// What it offers to peers' admission, say the epoch of its map: at most 4,096 bytes.
    pub fn metadata(mut self, metadata: impl Into<Bytes>) -> Self {
        self.metadata = metadata.into();
        if self.metadata.len() > METADATA_MAX {
            let error = MetadataTooLong { len: self.metadata.len() };
            self.fail(BuildError::Metadata(error));
        }
        self
    }

    /// Threads of its own for sessions; 0 runs everything on the caller's. If nothing is said, one
    /// on up to three cores, else half of them, at most four.
    pub fn arbiters(mut self, arbiters: usize) -> Self {
        self.arbiters = Some(arbiters);
        self
    }

    /// How long links look for what comes before they sleep until the kernel wakes them; zero: they
    /// always sleep, which is what a machine that is shared by many wants. If nothing is said, 50 us
    /// over `tcp` where waits have been that short ([`TcpOptions::spin`]), and not at all over
    /// `rdma`, where it is for the time since something last came; or as the options of each say. A
    /// transport that is [given](Self::transport) has options of its own.
    pub fn spin(mut self, spin: Duration) -> Self {
        self.spin = Some(spin);
        self
    }

    /// Derives the instance, and all else that is drawn, from a seed instead of the system's
    /// randomness: for simulation, where the same seed gives the same run, and which refuses
    /// messengers without one. Two messengers with one name, role, incarnation and seed are the same
    /// instance to their peers.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Options of the links over `tcp`. Their `wire` and `user_held` are this messenger's
    /// [limits](Self::limits), whatever they say. They are for the transport that is built in, and
    /// mean nothing to one that is [given](Self::transport) for that scheme.
    pub fn tcp(mut self, options: TcpOptions) -> Self {
        self.built_in.tcp = options;
        self
    }

    /// Options of the links over `rsocket`, as those of [`tcp`](Self::tcp). What they say of sockets
    /// and of `spin` does nothing.
    #[cfg(feature = "rsockets")]
    pub fn rsockets(mut self, options: TcpOptions) -> Self {
        self.built_in.rsockets = options;
        self
    }

    /// Options of the links over `rdma`, and of the memory that is registered for them. Their `wire`
    /// is this messenger's [limits](Self::limits), whatever they say, and so is `pool.held_max` if
    /// they do not say it: `Limits::user_held`, of which at most half of `pool.slots_max`. They mean
    /// nothing to a transport that is [given](Self::transport) for that scheme.
    #[cfg(feature = "rdma")]
    pub fn rdma(mut self, options: RdmaOptions) -> Self {
        self.built_in.rdma = options;
        self
    }

    /// Another transport, or another in place of the one for its scheme that is there: built in, as
    /// `tcp` is, or given before.
    pub fn transport(mut self, transport: Arc<dyn Transport>) -> Self {
        self.transports.retain(|other| other.scheme() != transport.scheme());
        self.transports.push(transport);
        self
    }

    /// Its timers run on a clock that is so many millionths too fast.
    pub(crate) fn drift(mut self, ppm: i32) -> Self {
        self.drift_ppm = ppm;
        self
    }

    /// Adds up there which rows of the transition table its sessions take.
    pub(crate) fn coverage(mut self, coverage: Arc<Mutex<Coverage>>) -> Self {
        self.coverage = Some(coverage);
        self
    }

    /// Who wants to know of the messenger as soon as there is one.
    pub(crate) fn when_built(mut self, tell: impl FnOnce(&Messenger) + Send + 'static) -> Self {
        self.when_built = Some(Box::new(tell));
        self
    }

    /// For simulation: what happens to its sessions, and each call into its actors, goes into the
    /// trace of the network (D1).
    pub fn trace(mut self, scribe: Scribe) -> Self {
        self.scribe = Some(scribe);
        self
    }

    /// Binds, and starts its actors. It accepts and delivers nothing before
    /// [`ready`](Messenger::ready), so that actors can be hosted first.
    ///
    /// Needs an actix system, or a `LocalSet` with `arbiters(0)`.
    ///
    /// # Errors
    /// [`BuildError`]: the first thing that is wrong. Nothing is left running then.
    pub async fn build(self) -> Result<Messenger, BuildError> {
        if let Some(wrong) = self.wrong {
            return Err(wrong);
        }
        check(&self.limits)?;
        let is_simulated = self.scribe.is_some()
            || self.transports.iter().any(|transport| transport.scheme() == "sim")
            || is_virtual_time();
        let seed = match self.seed {
            Some(seed) => seed,
            None if is_simulated => return Err(BuildError::NoSeed(self.name)),
            None => random()?,
        };
        let me = Identity {
            name: self.name,
            role: self.role,
            instance: match self.seed {
                Some(seed) => derived(seed, self.name, self.role, self.incarnation),
                None => Instance(u128::from(random()?) << 64 | u128::from(random()?)),
            },
            incarnation: self.incarnation,
        };
        let mut transports = self.transports;
        for transport in built_in(self.built_in, &self.limits, self.spin) {
            if !transports.iter().any(|given| given.scheme() == transport.scheme()) {
                transports.push(transport);
            }
        }
        let config = NodeConfig {
            me,
            limits: self.limits,
            bind: self.bind,
            transports,
            policies: self.policies,
            metadata: self.metadata,
            arbiters: self.arbiters.unwrap_or_else(default_arbiters),
            seed,
            drift_ppm: self.drift_ppm,
            coverage: self.coverage,
            scribe: self.scribe,
        };
        let messenger = Messenger::new(Node::start(config).await.map_err(BuildError::start)?);
        if let Some(tell) = self.when_built {
            tell(&messenger);
        }
        Ok(messenger)
    }

    /// The first thing that is wrong is what is told.
    fn fail(&mut self, error: BuildError) {
        self.wrong.get_or_insert(error);
    }
}

/// The transports of this build. None opens anything before it is asked to dial or to listen.
fn built_in(options: BuiltIn, limits: &Limits, spin: Option<Duration>) -> Vec<Arc<dyn Transport>> {
    vec![
        #[cfg(feature = "rdma")]
        Arc::new(Rdma::with(Arc::new(System::new()), of_rdma(options.rdma, limits, spin))),
        #[cfg(feature = "rsockets")]
        Arc::new(RSockets::with(of_stream(options.rsockets, limits, spin))),
        Arc::new(Tcp::with(of_stream(options.tcp, limits, spin))),
    ]
}

impl fmt::Debug for MessengerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessengerBuilder")
            .field("name", &self.name)
            .field("role", &self.role)
            .field("bind", &self.bind)
            .finish_non_exhaustive()
    }
}

fn default_arbiters() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if cores <= 3 { 1 } else { (cores / 2).min(4) }
}

#[allow(clippy::disallowed_methods, reason = "outside of simulations, which need a seed")]
fn random() -> Result<u64, BuildError> {
    getrandom::u64().map_err(|error| BuildError::Randomness(error.to_string()))
}

/// An instance that is the same for the same inputs and differs for others (FNV-1a, mixed).
fn derived(
    seed: u64,
    name: EntityName,
    role: Option<Role>,
    incarnation: Option<Incarnation>,
) -> Instance {
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013B;
    let text =
        format!("{seed}/{name}/{}/{incarnation:?}", role.as_ref().map_or("", |role| role.as_str()));
    let mut hash: u128 = 0x6C62_272E_07BB_0142_62B8_2175_6295_C58D;
    // Twice, so that the first bytes reach the high bits as well.
    for byte in text.bytes().chain(text.bytes()) {
        hash = (hash ^ u128::from(byte)).wrapping_mul(PRIME);
    }
    Instance(hash)
}

/// The first limit with which no session could work. What is merely large works: sums saturate.
fn check(limits: &Limits) -> Result<(), BuildError> {
    let is_short = |span: Duration| span < Duration::from_millis(1);
    let rules = [
        (
            limits.heartbeat_every.is_zero() || limits.heartbeat_deadline <= limits.heartbeat_every,
            "heartbeat_deadline must be above heartbeat_every, and that above zero",
        ),
        (is_short(limits.hello_timeout), "hello_timeout must be at least 1 ms"),
        (is_short(limits.standby_max), "standby_max must be at least 1 ms"),
        (limits.outbox_messages == 0, "outbox_messages must be above zero"),
        (limits.outbox_bytes == 0, "outbox_bytes must be above zero"),
        (
            limits.window_messages.contains(&0),
            "window_messages must be above zero, those of every class",
        ),
        (limits.window_bytes == 0, "window_bytes must be above zero"),
        (limits.replies_bytes == 0, "replies_bytes must be above zero"),
        (limits.requests_max == 0, "requests_max must be above zero"),
        (limits.front_max == 0, "front_max must be above zero"),
        (limits.handshakes_max == 0, "handshakes_max must be above zero"),
        (limits.sessions_max == 0, "sessions_max must be above zero"),
        (limits.events_max == 0, "events_max must be above zero"),
        (limits.events_bytes == 0, "events_bytes must be above zero"),
    ];
    match rules.into_iter().find(|(broken, _)| *broken) {
        Some((_, rule)) => Err(BuildError::Limits(rule)),
        None => Ok(()),
    }
}

/// Why a messenger could not be built. Always this side's to fix.
#[derive(Debug)]
#[non_exhaustive]
pub enum BuildError {
    /// A text given to `bind` is no address.
    Address(AddressError),
    /// A role is no short name.
    Role(String, NameError),
    /// The metadata is too long.
    Metadata(MetadataTooLong),
    /// Limits with which nothing works, in words: which one, and what it must be.
    Limits(&'static str),
    /// No transport is built in for the scheme of a bind address.
    NoTransport(Address),
    /// Somebody listens at that address already.
    PortInUse(Address),
    /// An address could not be bound for another reason.
    Bind(Address, ListenError),
    /// The supervision tree did not start.
    Tree(TreeError),
    /// The operating system gives no random numbers.
    Randomness(String),
    /// This messenger runs in a simulation, and would be another one each time (D1).
    NoSeed(EntityName),
}

impl BuildError {
    fn start(error: StartError) -> Self {
        match error {
            StartError::NoTransport(address) => Self::NoTransport(address),
            StartError::Bind(address, ListenError::PortInUse) => Self::PortInUse(address),
            StartError::Bind(_, ListenError::Address(error)) => Self::Address(error),
            StartError::Bind(address, error) => Self::Bind(address, error),
            StartError::Tree(error) => Self::Tree(error),
        }
    }

    /// Who is to blame: always this side.
    pub fn blame(&self) -> Blame {
        Blame::Local
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(error) => error.fmt(f),
            Self::Role(given, error) => write!(f, "{given:?} is no role: {error}"),
            Self::Metadata(error) => error.fmt(f),
            Self::Limits(what) => write!(f, "these limits do not work: {what}"),
            Self::NoTransport(address) => {
                write!(f, "no transport is built in for {address}: see `stellate explain`")
            }
            Self::PortInUse(address) => {
                write!(f, "somebody listens at {address} already: stop it, or bind port 0")
            }
            Self::Bind(address, error) => write!(f, "cannot listen at {address}: {error}"),
            Self::Tree(error) => write!(f, "cannot start the messenger's actors: {error}"),
            Self::Randomness(error) => write!(f, "the system gives no random numbers: {error}"),
            Self::NoSeed(name) => write!(
                f,
                "the messenger of {name} is in a simulation and has no seed (D1): take its builder \
                 from the node or the world, or give it one with `seed`"
            ),
        }
    }
}

impl std::error::Error for BuildError {}

/// Metadata over the 4,096 bytes that a hello has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetadataTooLong {
    /// Bytes given.
    pub len: usize,
}

impl fmt::Display for MetadataTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "metadata has at most {METADATA_MAX} bytes, this has {}", self.len)
    }
}

impl std::error::Error for MetadataTooLong {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_an_instance_and_another_seed_or_name_another() {
        let derive = |seed, number| derived(seed, EntityName::osd(number), None, None);
        assert_eq!(derive(1, 1), derive(1, 1));
        assert_ne!(derive(1, 1), derive(2, 1));
        assert_ne!(derive(1, 1), derive(1, 2));
        let boot = |n| derived(1, EntityName::osd(1), None, Some(Incarnation(n)));
        assert_ne!(boot(1), boot(2));
        let role = |name| derived(1, EntityName::osd(1), Some(Role::new(name).unwrap()), None);
        assert_ne!(role("public"), role("cluster"));
    }
}
