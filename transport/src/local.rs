//! Links within this process: a bounded pipe each way.
//!
//! A messenger that connects to its own name uses them: the same session, window, order and
//! events as over a network, without the wire. Frames pass by value; with the codec on (the
//! default in debug builds) they are encoded and decoded, so that what works locally works
//! remotely.

mod link;
mod pipe;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use futures::FutureExt;
use futures::future::BoxFuture;
use stellate_protocol::codec::{First, WireLimits};

use self::link::LocalLink;
use crate::address::{Address, AddressError};
use crate::error::{AcceptError, DialError, ListenError};
use crate::limits::LinkLimits;
use crate::link::{Link, Listener, Transport};

/// The scheme.
pub(crate) const SCHEME: &str = "local";
/// Dialled links that a listener holds unaccepted; more are refused.
pub const BACKLOG_MAX: usize = 128;

/// What can be set about local links.
#[derive(Clone, Copy, Debug)]
pub struct LocalOptions {
    /// Whether frames go through the codec.
    pub codec: bool,
    /// What a peer may send, with the codec on.
    pub wire: WireLimits,
    /// Bytes that a link accepts beyond what is in the pipe, and bytes in the pipe.
    pub send_bytes: usize,
}

impl Default for LocalOptions {
    fn default() -> Self {
        Self {
            codec: cfg!(debug_assertions),
            wire: WireLimits::default(),
            send_bytes: LinkLimits::STREAM.send_bytes,
        }
    }
}

/// A namespace of local listeners. Cloning copies a handle to the same one.
#[derive(Clone)]
pub struct Local {
    names: Arc<Mutex<Names>>,
    options: LocalOptions,
    limits: LinkLimits,
}

#[derive(Default)]
struct Names {
    listeners: BTreeMap<Address, Backlog>,
    dials: u64,
}

#[derive(Default)]
struct Backlog {
    links: VecDeque<LocalLink>,
    waker: Option<Waker>,
}

impl Local {
    /// An empty namespace, with defaults.
    pub fn new() -> Self {
        Self::with(LocalOptions::default())
    }

    /// An empty namespace, with options.
    pub fn with(options: LocalOptions) -> Self {
        let limits = LinkLimits { send_bytes: options.send_bytes, ..LinkLimits::STREAM };
        Self { names: Arc::default(), options, limits }
    }

    /// Two ends that are up already: the dialler's and the acceptor's.
    pub fn pair(&self, dialler: &Address, acceptor: &Address) -> (Box<dyn Link>, Box<dyn Link>) {
        let (near, far) = self.ends(dialler, acceptor);
        (Box::new(near), Box::new(far))
    }

    fn ends(&self, dialler: &Address, acceptor: &Address) -> (LocalLink, LocalLink) {
        let pipes = pipe::pipes();
        let end = |index, peer: &Address, first| {
            LocalLink::new(pipes.clone(), index, peer.clone(), self.limits, &self.options, first)
        };
        (end(0, acceptor, First::Answer), end(1, dialler, First::Hello))
    }

    fn try_dial(&self, to: &Address) -> Result<LocalLink, DialError> {
        to.expect_scheme(SCHEME).map_err(DialError::Address)?;
        let mut names = lock(&self.names);
        names.dials += 1;
        let from = Address::new(SCHEME, &format!("dial.{}", names.dials));
        let from = from.map_err(DialError::Address)?;
        let backlog = names.listeners.get_mut(to).ok_or(DialError::Refused)?;
        if backlog.links.len() >= BACKLOG_MAX {
            return Err(DialError::Refused);
        }
        let (near, far) = self.ends(&from, to);
        backlog.links.push_back(far);
        let waker = backlog.waker.take();
        drop(names);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(near)
    }
}

impl Default for Local {
    fn default() -> Self {
        Self::new()
    }
}

impl Transport for Local {
    fn taking(&self, wire: WireLimits) -> Option<Arc<dyn Transport>> {
        let taking = || Self { options: LocalOptions { wire, ..self.options }, ..self.clone() };
        (wire != self.options.wire).then(|| Arc::new(taking()) as _)
    }

    fn scheme(&self) -> &'static str {
        SCHEME
    }

    fn limits(&self) -> &LinkLimits {
        &self.limits
    }

    fn dial(&self, to: &Address) -> BoxFuture<'static, Result<Box<dyn Link>, DialError>> {
        let (this, to) = (self.clone(), to.clone());
        async move { Ok(Box::new(this.try_dial(&to)?) as Box<dyn Link>) }.boxed()
    }

    /// Port-like wildcards do not exist here: the whole rest is the name.
    fn listen(&self, at: &Address) -> Result<Box<dyn Listener>, ListenError> {
        at.expect_scheme(SCHEME).map_err(|error: AddressError| ListenError::Address(error))?;
        let mut names = lock(&self.names);
        if names.listeners.contains_key(at) {
            return Err(ListenError::PortInUse);
        }
        names.listeners.insert(at.clone(), Backlog::default());
        Ok(Box::new(LocalListener { names: Arc::downgrade(&self.names), at: at.clone() }))
    }
}

struct LocalListener {
    names: Weak<Mutex<Names>>,
    at: Address,
}

impl Listener for LocalListener {
    fn local(&self) -> Address {
        self.at.clone()
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Box<dyn Link>, AcceptError>> {
        let Some(names) = self.names.upgrade() else {
            // Every handle to the namespace is gone: nobody can dial any more.
            return Poll::Pending;
        };
        let mut names = lock(&names);
        let Some(backlog) = names.listeners.get_mut(&self.at) else {
            return Poll::Pending;
        };
        if let Some(link) = backlog.links.pop_front() {
            return Poll::Ready(Ok(Box::new(link)));
        }
        backlog.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for LocalListener {
    fn drop(&mut self) {
        if let Some(names) = self.names.upgrade() {
            let gone = lock(&names).listeners.remove(&self.at);
            // The links in the backlog take other locks as they go.
            drop(gone);
        }
    }
}

fn lock(names: &Mutex<Names>) -> MutexGuard<'_, Names> {
    names.lock().unwrap_or_else(PoisonError::into_inner)
}
