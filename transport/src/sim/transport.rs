//! Dials, listens and accepts on the simulated network.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use stellate_protocol::codec::{First, WireLimits};

use super::link::SimLink;
use super::net::{Backlog, Dial, Event, Net, Shared};
use super::profile::Profile;
use super::wire::Wire;
use super::{SCHEME, driver};
use crate::address::Address;
use crate::error::{AcceptError, DialError, ListenError};
use crate::limits::LinkLimits;
use crate::link::{Link, Listener, Transport};
use crate::trace::{Event as Traced, SessionTag, What};

/// Dialled links that a listener holds unaccepted; further dials are tried again.
const BACKLOG_MAX: usize = 128;
/// Ticks between two tries of a dial that gets no answer.
const REDIAL_TICKS: u64 = 200;
/// Ticks after which a dial without an answer fails.
const DIAL_TICKS_MAX: u64 = 130_000;

/// The transport of one node of a [`SimNet`](super::SimNet).
#[derive(Clone)]
pub struct SimTransport {
    shared: Arc<Shared>,
    node: Arc<str>,
    life: u64,
    profile: Profile,
    wire: WireLimits,
}

impl SimTransport {
    pub(super) fn new(shared: Arc<Shared>, node: &str) -> Self {
        let mut net = shared.lock();
        let (life, profile) = (net.node(node).life, net.profile);
        if net.node(node).told.replace(life) != Some(life) {
            net.tell(node, None, What::Start { life });
        }
        drop(net);
        Self { shared, node: node.into(), life, profile, wire: WireLimits::default() }
    }

    /// The same with another fabric. A link has the profile of its listener.
    #[must_use]
    pub fn profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }

    /// The same with other limits on what a peer may send.
    #[must_use]
    pub fn wire(mut self, wire: WireLimits) -> Self {
        self.wire = wire;
        self
    }

    fn is_alive(&self) -> bool {
        self.shared.lock().node(&self.node).life == self.life
    }
}

/// The node of an address: what stands before a colon.
fn node_of(address: &Address) -> &str {
    let rest = address.rest();
    rest.split_once(':').map_or(rest, |(node, _)| node)
}

impl Transport for SimTransport {
    fn taking(&self, wire: WireLimits) -> Option<Arc<dyn Transport>> {
        (wire != self.wire).then(|| Arc::new(self.clone().wire(wire)) as _)
    }

    fn scheme(&self) -> &'static str {
        SCHEME
    }

    fn limits(&self) -> &LinkLimits {
        &self.profile.limits
    }

    fn dial(&self, to: &Address) -> BoxFuture<'static, Result<Box<dyn Link>, DialError>> {
        let (this, to) = (self.clone(), to.clone());
        async move {
            to.expect_scheme(SCHEME).map_err(DialError::Address)?;
            if !driver::ensure(&this.shared) || !this.is_alive() {
                return Err(DialError::Unreachable);
            }
            let link = Dialling::start(&this, &to).await?;
            let (shared, wire) = (this.shared.clone(), this.wire);
            let link = SimLink::new(shared, link, 0, to, wire, First::Answer);
            Ok(Box::new(link) as Box<dyn Link>)
        }
        .boxed()
    }

    fn listen(&self, at: &Address) -> Result<Box<dyn Listener>, ListenError> {
        at.expect_scheme(SCHEME).map_err(ListenError::Address)?;
        if node_of(at) != &*self.node || !self.is_alive() {
            return Err(ListenError::Io(std::io::ErrorKind::AddrNotAvailable, None));
        }
        if !driver::ensure(&self.shared) {
            return Err(ListenError::NoRuntime);
        }
        let mut net = self.shared.lock();
        let mut at = at.clone();
        if at.rest().ends_with(":0") {
            let port = net.serial();
            at = Address::new(SCHEME, &format!("{}:{port}", self.node))
                .map_err(ListenError::Address)?;
        }
        if net.listeners.contains_key(at.rest()) {
            return Err(ListenError::PortInUse);
        }
        let serial = net.serial();
        net.listeners.insert(
            at.rest().into(),
            Backlog {
                node: self.node.clone(),
                profile: self.profile,
                links: Default::default(),
                waker: None,
                serial,
            },
        );
        Ok(Box::new(SimListener { shared: self.shared.clone(), at, serial, wire: self.wire }))
    }
}

struct SimListener {
    shared: Arc<Shared>,
    at: Address,
    serial: u64,
    wire: WireLimits,
}

impl SimListener {
    /// Its own backlog: after a crash another life may listen at the same address.
    fn backlog<'a>(&self, net: &'a mut Net) -> Option<&'a mut Backlog> {
        let backlog = net.listeners.get_mut(self.at.rest())?;
        (backlog.serial == self.serial).then_some(backlog)
    }
}

impl Listener for SimListener {
    fn local(&self) -> Address {
        self.at.clone()
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Box<dyn Link>, AcceptError>> {
        let mut net = self.shared.lock();
        let Some(backlog) = self.backlog(&mut net) else {
            let gone = AcceptError::Fatal(std::io::ErrorKind::NotConnected, None);
            return Poll::Ready(Err(gone));
        };
        let Some(link) = backlog.links.pop_front() else {
            backlog.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        let from = net.wires.get(link).map(|wire| wire.nodes[0].clone());
        net.tell_link(link, 1, What::Accept);
        drop(net);
        let peer = from.and_then(|from| Address::new(SCHEME, &from).ok());
        let peer = peer.unwrap_or_else(|| self.at.clone());
        let shared = self.shared.clone();
        let link = SimLink::new(shared, link, 1, peer, self.wire, First::Hello);
        Poll::Ready(Ok(Box::new(link)))
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        self.shared.change(|net| {
            if self.backlog(net).is_some()
                && let Some(backlog) = net.listeners.remove(self.at.rest())
            {
                for link in backlog.links {
                    net.leave(link, 1, false);
                }
            }
        });
    }
}

/// A dial under way; dropping it gives it up.
struct Dialling {
    shared: Arc<Shared>,
    dial: u64,
}

impl Dialling {
    fn start(transport: &SimTransport, to: &Address) -> Self {
        let shared = transport.shared.clone();
        let dial = shared.change(|net| {
            let (dial, now) = (net.serial(), net.now());
            let node: Arc<str> = node_of(to).into();
            net.tell(&transport.node, Some(&node), What::Dial);
            let way = (net.trace.node(&transport.node), net.trace.node(&node));
            let travel = net.travel(net.quality_of(way.0, way.1));
            net.dials.insert(
                dial,
                Dial {
                    from: transport.node.clone(),
                    node,
                    to: to.rest().into(),
                    since: now,
                    outcome: None,
                    waker: None,
                },
            );
            net.at(now + travel, Event::Dial { dial });
            dial
        });
        Self { shared, dial }
    }
}

impl Future for Dialling {
    type Output = Result<u64, DialError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut net = self.shared.lock();
        let Some(dial) = net.dials.get_mut(&self.dial) else {
            // The dialling node crashed.
            return Poll::Ready(Err(DialError::Unreachable));
        };
        if let Some(outcome) = dial.outcome.take() {
            net.dials.remove(&self.dial);
            return Poll::Ready(outcome);
        }
        dial.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Dialling {
    fn drop(&mut self) {
        self.shared.change(|net| {
            if let Some(dial) = net.dials.remove(&self.dial)
                && let Some(Ok(link)) = dial.outcome
            {
                net.leave(link, 0, false);
            }
        });
    }
}

impl Net {
    /// A dial comes to its node.
    pub(super) fn dial(&mut self, dial: u64, now: u64) {
        let Some(dialling) = self.dials.get(&dial) else {
            return;
        };
        let (from, node) = (dialling.from.clone(), dialling.node.clone());
        let (to, since) = (dialling.to.clone(), dialling.since);
        let (here, there) = (self.trace.node(&from), self.trace.node(&node));
        let silent = self.node(&node).swallows
            || self.is_blocked(here, there)
            || self.is_blocked(there, here);
        let refused = self.node(&node).refuses;
        let outcome = match self.listeners.get_mut(&to) {
            _ if silent && now - since >= DIAL_TICKS_MAX => Err(Box::new(DialError::TimedOut)),
            _ if silent => return self.at(now + REDIAL_TICKS, Event::Dial { dial }),
            Some(backlog) if !refused && backlog.links.len() >= BACKLOG_MAX => {
                return self.at(now + REDIAL_TICKS, Event::Dial { dial });
            }
            Some(_) if !refused => {
                let link = self.make_link(&from, &node, &to);
                link.ok_or_else(|| Box::new(DialError::Refused))
            }
            _ => Err(Box::new(DialError::Refused)),
        };
        let travel = self.travel(self.quality_of(there, here));
        self.at(now + travel, Event::Answer { dial, outcome });
    }

    fn make_link(&mut self, from: &Arc<str>, node: &Arc<str>, to: &Arc<str>) -> Option<u64> {
        let places = [self.trace.node(from), self.trace.node(node)];
        let backlog = self.listeners.get_mut(to)?;
        let wire = Wire::new([from.clone(), node.clone()], places, backlog.profile);
        let link = self.wires.add(wire);
        backlog.links.push_back(link);
        let waker = backlog.waker.take();
        self.wake_later(waker);
        Some(link)
    }

    /// The answer to a dial comes back.
    pub(super) fn answer_dial(
        &mut self,
        dial: u64,
        outcome: Result<u64, Box<DialError>>,
        now: u64,
    ) {
        let Some(dialling) = self.dials.get_mut(&dial) else {
            if let Ok(link) = outcome {
                self.leave(link, 0, false);
            }
            return;
        };
        let (what, link) = match &outcome {
            Ok(link) => (What::Linked, *link),
            Err(error) => (What::DialFailed(error.word()), 0),
        };
        dialling.outcome = Some(outcome.map_err(|error| *error));
        let waker = dialling.waker.take();
        let (from, to) = (dialling.from.clone(), dialling.node.clone());
        let (node, peer) = (self.trace.node(&from), Some(self.trace.node(&to)));
        let session = SessionTag::NONE;
        self.trace.add(Traced { tick: now, node, peer, link, session, what });
        self.wake_later(waker);
    }
}
