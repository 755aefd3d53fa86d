//! What a messenger is set up with, and why it may not start or connect.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use stellate_protocol::limits::Limits;
use stellate_protocol::policy::Policy;
use stellate_protocol::session::Coverage;
use stellate_protocol::{EntityKind, EntityName, Identity};
use stellate_transport::sim::Scribe;
use stellate_transport::{Address, ListenError, Transport};

use crate::supervise::TreeError;

/// What a messenger is set up with.
#[derive(Debug)]
pub struct NodeConfig {
    /// Who it is.
    pub me: Identity,
    /// Its limits.
    pub limits: Limits,
    /// Where it listens.
    pub bind: Vec<Address>,
    /// The transports it may use, one a scheme.
    pub transports: Vec<Arc<dyn Transport>>,
    /// How it behaves towards whom.
    pub policies: Policies,
    /// What it offers for admission.
    pub metadata: Bytes,
    /// Threads of its own for sessions; 0 runs everything where `start` is called.
    pub arbiters: usize,
    /// Seed for jitter and session ids. In production a random one.
    pub seed: u64,
    /// Millionths that its clock runs too fast, in simulation; 0 in production.
    pub drift_ppm: i32,
    /// Where to add up which rows of the transition table its sessions take, for simulations.
    pub coverage: Option<Arc<Mutex<Coverage>>>,
    /// In simulation, where it writes what the network does not see (D1).
    pub scribe: Option<Scribe>,
}

/// Policies by peer kind and by who dialled.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    dial: BTreeMap<EntityKind, Policy>,
    accept: BTreeMap<EntityKind, Policy>,
    default: Option<Policy>,
}

impl Policies {
    /// For peers of this kind that we dial.
    pub fn dial(&mut self, kind: EntityKind, policy: Policy) {
        self.dial.insert(kind, policy);
    }

    /// For peers of this kind that dial us.
    pub fn accept(&mut self, kind: EntityKind, policy: Policy) {
        self.accept.insert(kind, policy);
    }

    /// For all others.
    pub fn others(&mut self, policy: Policy) {
        self.default = Some(policy);
    }

    /// The policy for a kind; lossless peer if nothing was said.
    pub fn get(&self, kind: EntityKind, dialled: bool) -> Policy {
        let table = if dialled { &self.dial } else { &self.accept };
        table.get(&kind).copied().or(self.default).unwrap_or(Policy::lossless_peer())
    }
}

/// Why a messenger could not start.
#[derive(Debug)]
pub enum StartError {
    /// No transport for the scheme of a bind address.
    NoTransport(Address),
    /// An address could not be bound.
    Bind(Address, ListenError),
    /// The supervision tree did not take a child, or an arbiter is gone.
    Tree(TreeError),
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoTransport(address) => {
                write!(f, "no transport is built in for {address}: see `stellate explain`")
            }
            Self::Bind(address, error) => write!(f, "cannot listen at {address}: {error}"),
            Self::Tree(error) => write!(f, "cannot start an actor: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// Why a connection could not be made. Nothing that the network does is among it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// No address was given.
    NoAddress,
    /// No transport for the scheme.
    NoTransport(Address),
    /// The policy towards that kind never dials.
    NeverDials(EntityKind),
    /// `sessions_max` are there already.
    TooManySessions(u32),
    /// The messenger is shutting down.
    ShuttingDown,
    /// The session to that peer is closing: await its `close`, then connect again.
    StillClosing(EntityName),
    /// An anonymous peer cannot be dialled by name.
    Anonymous,
}

impl std::fmt::Display for ConnectError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoAddress => f.write_str("connect needs an address to dial"),
            Self::NoTransport(address) => {
                write!(f, "no transport is built in for {address}: see `stellate explain`")
            }
            Self::NeverDials(kind) => {
                write!(f, "the policy towards {kind} is a server's, which never dials")
            }
            Self::TooManySessions(max) => write!(f, "the limit of {max} sessions is reached"),
            Self::StillClosing(name) => write!(
                f,
                "the session to {name} is still closing: await its close, then connect again"
            ),
            Self::ShuttingDown => f.write_str("the messenger is shutting down"),
            Self::Anonymous => f.write_str("an anonymous entity cannot be dialled"),
        }
    }
}

impl std::error::Error for ConnectError {}
