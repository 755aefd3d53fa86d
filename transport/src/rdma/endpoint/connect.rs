//! Dials, requests and what else the connection manager tells.
//!
//! ```text
//!   dial:    address ─► route ─► queue pair, ring posted ─► connect ─► established ─► link
//!   request: funds? ─ no ─► rejected, with the number
//!              └ yes ─► queue pair, ring posted ─► accept ─► established or first message ─► link
//! ```

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;

use super::pairs::Phase;
use super::{Core, Endpoint, Owner};
use crate::address::Address;
use crate::error::{DialError, ListenError};
use crate::fault::LinkFault;
use crate::rdma::SCHEME;
use crate::rdma::greeting::{Greeting, Refusal};
use crate::rdma::link::RdmaLink;
use crate::rdma::verbs::{CmEvent, CmEventKind, CmId, QpTag, VerbsError, VerbsErrorKind};

/// A dial under way.
#[derive(Debug)]
pub(super) struct Dial {
    pub(super) id: CmId,
    pub(super) to: SocketAddr,
    pub(super) outcome: Option<Result<Box<RdmaLink>, DialError>>,
    pub(super) waker: Option<Waker>,
}

/// An address that is listened at.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) id: CmId,
    /// Links that are up and not accepted yet.
    pub(super) links: VecDeque<Box<RdmaLink>>,
    pub(super) waker: Option<Waker>,
}

impl Core {
    pub(super) fn start_dial(
        &mut self,
        endpoint: &Endpoint,
        to: SocketAddr,
    ) -> Result<u64, DialError> {
        let id = endpoint.channel.create_id().map_err(DialError::Verbs)?;
        let resolving = endpoint.channel.resolve_addr(id, to, endpoint.options().resolve);
        if let Err(error) = resolving {
            endpoint.channel.destroy_id(id);
            return Err(unreachable_or(error));
        }
        let number = self.number();
        self.dials.insert(number, Dial { id, to, outcome: None, waker: None });
        self.owners.insert(id, Owner::Dial(number));
        Ok(number)
    }

    /// Nobody waits for it any more.
    pub(super) fn give_up(&mut self, endpoint: &Endpoint, number: u64) -> Option<Box<RdmaLink>> {
        let dial = self.dials.remove(&number)?;
        match self.owners.get(&dial.id) {
            Some(Owner::Pair(tag)) if dial.outcome.is_none() => {
                let tag = *tag;
                self.bury(endpoint, tag);
            }
            Some(Owner::Dial(_)) => {
                self.owners.remove(&dial.id);
                endpoint.channel.destroy_id(dial.id);
            }
            _ => {}
        }
        // A link is dropped outside of the lock.
        dial.outcome.and_then(Result::ok)
    }

    pub(super) fn dial_over(&mut self, number: u64, outcome: Result<Box<RdmaLink>, DialError>) {
        match self.dials.get_mut(&number) {
            Some(dial) => {
                // A link that its dialler had not taken asks for the lock when it is dropped.
                self.dropped.extend(dial.outcome.replace(outcome).and_then(Result::ok));
                self.wakes.extend(dial.waker.take());
            }
            None => self.dropped.extend(outcome),
        }
    }

    /// A dial ends without a link.
    fn dial_failed(&mut self, endpoint: &Endpoint, id: CmId, error: DialError) {
        match self.owners.get(&id) {
            Some(Owner::Dial(number)) => {
                let number = *number;
                self.owners.remove(&id);
                endpoint.channel.destroy_id(id);
                self.dial_over(number, Err(error));
            }
            Some(Owner::Pair(tag)) => {
                let tag = *tag;
                if let Some(pair) = self.pairs.get(&tag.0)
                    && let Phase::Dialling(number) = pair.phase
                {
                    self.bury(endpoint, tag);
                    self.dial_over(number, Err(error));
                }
            }
            _ => {}
        }
    }

    pub(super) fn start_listening(
        &mut self,
        endpoint: &Endpoint,
        at: SocketAddr,
    ) -> Result<(u64, Address), ListenError> {
        let id = endpoint.channel.create_id().map_err(ListenError::Verbs)?;
        let local = self.bind(endpoint, id, at).inspect_err(|_| endpoint.channel.destroy_id(id))?;
        let number = self.number();
        let links = VecDeque::new();
        self.listeners.insert(number, Listening { id, links, waker: None });
        self.owners.insert(id, Owner::Listener(number));
        Ok((number, local))
    }

    fn bind(
        &mut self,
        endpoint: &Endpoint,
        id: CmId,
        at: SocketAddr,
    ) -> Result<Address, ListenError> {
        let backlog = endpoint.options().backlog;
        let bound = endpoint.channel.listen(id, at, backlog).map_err(|error| match error.kind {
            VerbsErrorKind::AddressInUse => ListenError::PortInUse,
            _ => ListenError::Verbs(error),
        })?;
        self.could_fund_a_link(endpoint, id).map_err(ListenError::Verbs)?;
        Address::of_socket(SCHEME, bound).map_err(ListenError::Address)
    }

    /// What a listener would refuse every link for is better told at once. An address of no device
    /// in particular has to wait for its first link.
    fn could_fund_a_link(&mut self, endpoint: &Endpoint, id: CmId) -> Result<(), VerbsError> {
        let Some(name) = endpoint.channel.device(id) else {
            return Ok(());
        };
        let slots = endpoint.options().slots_per_link();
        let unfunded = self.nic(endpoint, &name)?.pool.fund(slots).err();
        unfunded.and_then(|unfunded| unfunded.cause).map_or(Ok(()), Err)
    }

    /// Ends a listener; its links that nobody accepted, to be dropped outside of the lock.
    pub(super) fn stop_listening(
        &mut self,
        endpoint: &Endpoint,
        number: u64,
    ) -> VecDeque<Box<RdmaLink>> {
        let Some(listening) = self.listeners.remove(&number) else {
            return VecDeque::new();
        };
        self.owners.remove(&listening.id);
        endpoint.channel.destroy_id(listening.id);
        self.wakes.extend(listening.waker);
        let coming: Vec<u32> = self.coming(number).collect();
        for tag in coming {
            self.bury(endpoint, QpTag(tag));
        }
        listening.links
    }

    /// One event of the connection manager.
    pub(super) fn on_cm_event(&mut self, endpoint: &Arc<Endpoint>, event: CmEvent) {
        let CmEvent { id, kind } = event;
        match kind {
            CmEventKind::AddrResolved => {
                let timeout = endpoint.options().resolve;
                if let Err(error) = endpoint.channel.resolve_route(id, timeout) {
                    self.dial_failed(endpoint, id, unreachable_or(error));
                }
            }
            CmEventKind::RouteResolved => self.connect(endpoint, id),
            CmEventKind::AddrError(errno)
            | CmEventKind::RouteError(errno)
            | CmEventKind::Unreachable(errno)
            | CmEventKind::ConnectError(errno) => {
                self.dial_failed(endpoint, id, of_errno(errno));
                self.accept_failed(endpoint, id);
            }
            CmEventKind::Rejected { private, .. } => {
                self.dial_failed(endpoint, id, of_refusal(&private));
                self.accept_failed(endpoint, id);
            }
            CmEventKind::ConnectRequest { child, peer, private, .. } => {
                self.request(endpoint, id, child, peer, &private);
            }
            CmEventKind::Established { private, .. } => self.established(endpoint, id, &private),
            CmEventKind::Disconnected => self.disconnected(endpoint, id),
            CmEventKind::DeviceRemoval => self.removed(endpoint, id),
            CmEventKind::AddrChange | CmEventKind::TimewaitExit | CmEventKind::Other(_) => {
                tracing::debug!(id = id.0, ?kind, "an event without consequence");
            }
        }
    }

    /// There is a route: makes the queue pair and connects it.
    fn connect(&mut self, endpoint: &Arc<Endpoint>, id: CmId) {
        let Some(Owner::Dial(number)) = self.owners.get(&id) else {
            return;
        };
        let number = *number;
        let to = self.dials.get(&number).map(|dial| dial.to);
        let tag = match self.make_pair(endpoint, id, to, Phase::Dialling(number)) {
            Ok(tag) => tag,
            Err(error) => return self.dial_failed(endpoint, id, error.for_dialler()),
        };
        let Some(params) = self.params(endpoint, tag) else {
            return;
        };
        if let Err(error) = endpoint.channel.connect(id, &params) {
            self.dial_failed(endpoint, id, unreachable_or(error));
        }
    }

    /// Somebody dials: accepts, or says why not.
    fn request(
        &mut self,
        endpoint: &Arc<Endpoint>,
        listener: CmId,
        child: CmId,
        peer: Option<SocketAddr>,
        private: &Bytes,
    ) {
        let reject = |refusal: Refusal| {
            tracing::debug!(?peer, ?refusal, "a link is refused");
            endpoint.channel.reject(child, &refusal.encode());
        };
        let Some(Owner::Listener(number)) = self.owners.get(&listener) else {
            return reject(Refusal::Exhausted);
        };
        let number = *number;
        let Ok(theirs) = Greeting::decode(private) else {
            return reject(Refusal::Version);
        };
        let limit = endpoint.options().backlog as usize;
        let waiting = match self.listeners.get(&number) {
            Some(listening) => listening.links.len() + self.coming(number).count(),
            None => limit,
        };
        if waiting >= limit {
            return reject(Refusal::Busy { waiting: waiting as u64, limit: limit as u64 });
        }
        let deadline = self.now() + endpoint.options().accept;
        let phase = Phase::Accepting { listener: number, theirs, deadline };
        let tag = match self.make_pair(endpoint, child, peer, phase) {
            Ok(tag) => tag,
            Err(error) => return reject(error.for_peer()),
        };
        self.wake_at(deadline);
        let accepted = match self.params(endpoint, tag) {
            Some(params) => endpoint.channel.accept(child, &params).is_ok(),
            None => false,
        };
        if !accepted {
            self.accept_failed(endpoint, child);
        }
    }

    /// An accepted link does not come up.
    fn accept_failed(&mut self, endpoint: &Endpoint, id: CmId) {
        let Some(Owner::Pair(tag)) = self.owners.get(&id) else {
            return;
        };
        let tag = *tag;
        if let Some(pair) = self.pairs.get(&tag.0)
            && let Phase::Accepting { .. } = pair.phase
        {
            self.bury(endpoint, tag);
        }
    }

    /// The accepted links of a listener that are not up yet.
    fn coming(&self, number: u64) -> impl Iterator<Item = u32> {
        self.pairs.iter().filter_map(move |(tag, pair)| match pair.phase {
            Phase::Accepting { listener, .. } if listener == number => Some(*tag),
            _ => None,
        })
    }

    fn established(&mut self, endpoint: &Arc<Endpoint>, id: CmId, private: &Bytes) {
        let Some(Owner::Pair(tag)) = self.owners.get(&id) else {
            return;
        };
        let tag = *tag;
        let Some(pair) = self.pairs.get(&tag.0) else {
            return;
        };
        match pair.phase {
            Phase::Accepting { .. } => self.promote(endpoint, tag),
            Phase::Dialling(number) => {
                let Ok(theirs) = Greeting::decode(private) else {
                    return self.dial_failed(endpoint, id, DialError::Version);
                };
                if let Some(link) = self.link(endpoint, tag, theirs, true) {
                    self.dial_over(number, Ok(link));
                }
            }
            Phase::Up | Phase::Dying { .. } => {}
        }
    }

    /// An accepted link is up: somebody may take it.
    pub(super) fn promote(&mut self, endpoint: &Arc<Endpoint>, tag: QpTag) {
        let Some(pair) = self.pairs.get(&tag.0) else {
            return;
        };
        let Phase::Accepting { listener, theirs, .. } = pair.phase else {
            return;
        };
        if !self.listeners.contains_key(&listener) {
            return self.bury(endpoint, tag);
        }
        if let Some(link) = self.link(endpoint, tag, theirs, false)
            && let Some(listening) = self.listeners.get_mut(&listener)
        {
            listening.links.push_back(link);
            self.wakes.extend(listening.waker.take());
        }
    }

    fn disconnected(&mut self, endpoint: &Arc<Endpoint>, id: CmId) {
        let Some(Owner::Pair(tag)) = self.owners.get(&id) else {
            return;
        };
        let tag = *tag;
        match self.pairs.get(&tag.0).map(|pair| &pair.phase) {
            // The link reads what came before, then the flush.
            Some(Phase::Up) => {
                if let Some(pair) = self.pairs.get(&tag.0) {
                    pair.pair.to_error();
                }
            }
            Some(Phase::Dialling(_)) => self.dial_failed(endpoint, id, DialError::Refused),
            Some(Phase::Accepting { .. }) => self.accept_failed(endpoint, id),
            Some(Phase::Dying { .. }) | None => {}
        }
    }

    /// The device of an identifier goes, and all that is on it: the kernel may wait for that.
    fn removed(&mut self, endpoint: &Endpoint, id: CmId) {
        if let Some(name) = endpoint.channel.device(id) {
            self.lose_device(endpoint, &name);
        }
        match self.owners.get(&id) {
            Some(Owner::Pair(tag)) => {
                let tag = *tag;
                self.lose(endpoint, tag, LinkFault::DeviceGone);
            }
            Some(Owner::Dial(_)) => {
                let error = VerbsError::new("rdma_connect", VerbsErrorKind::DeviceGone);
                self.dial_failed(endpoint, id, DialError::Verbs(error));
            }
            Some(Owner::Listener(number)) => {
                let number = *number;
                let links = self.stop_listening(endpoint, number);
                self.dropped.extend(links);
            }
            None => {}
        }
    }
}

/// A call that did not even start.
fn unreachable_or(error: VerbsError) -> DialError {
    match error.kind {
        VerbsErrorKind::Unreachable => DialError::Unreachable,
        VerbsErrorKind::Permission => DialError::Permission,
        _ => DialError::Verbs(error),
    }
}

/// What the fabric's errno means, as Linux numbers them.
fn of_errno(errno: i32) -> DialError {
    match errno.abs() {
        111 | 104 => DialError::Refused,
        110 => DialError::TimedOut,
        _ => DialError::Unreachable,
    }
}

/// Why the other side said no: its application in its own words, else nobody listens.
fn of_refusal(private: &[u8]) -> DialError {
    match Refusal::decode(private) {
        Ok(Refusal::Memory { needed, available }) => {
            DialError::Unfunded { needed, available, here: false }
        }
        Ok(Refusal::Busy { .. } | Refusal::Exhausted) => DialError::Busy,
        Ok(Refusal::Version) => DialError::Version,
        Err(_) => DialError::Refused,
    }
}
