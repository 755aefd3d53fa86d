//! Dials and listens by way of the endpoint, which it opens when it is first needed.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use futures::FutureExt;
use futures::future::BoxFuture;
use stellate_protocol::codec::WireLimits;
use tokio::runtime::Handle;
use tokio::time::Sleep;

use super::SCHEME;
use super::endpoint::{Endpoint, EndpointUse};
use super::options::RdmaOptions;
use super::pool::Lease;
use super::verbs::{DeviceInfo, Verbs, VerbsError, VerbsErrorKind};
use crate::address::Address;
use crate::error::{AcceptError, DialError, ListenError};
use crate::limits::LinkLimits;
use crate::link::{Engine, Link, Listener, Transport};

/// The RDMA transport. A cheap handle.
#[derive(Clone, Debug)]
pub struct Rdma {
    hub: Arc<Hub>,
}

#[derive(Debug)]
struct Hub {
    verbs: Arc<dyn Verbs>,
    options: Arc<RdmaOptions>,
    limits: LinkLimits,
    slot: Mutex<Slot>,
}

#[derive(Debug, Default)]
struct Slot {
    endpoint: Option<Arc<Endpoint>>,
    drives: Drives,
}

/// Who drives the endpoint.
#[derive(Debug, Default)]
enum Drives {
    /// A task of ours.
    #[default]
    Itself,
    /// Somebody's engine; whom to wake when there is an endpoint to drive.
    Engine(Option<Waker>),
    /// An engine that was dropped: another has to be taken first.
    Nobody,
}

impl Rdma {
    /// On these libraries, with defaults.
    pub fn on(verbs: Arc<dyn Verbs>) -> Self {
        Self::with(verbs, RdmaOptions::default())
    }

    /// On these libraries, with options. Nothing is opened before the first dial or listener.
    pub fn with(verbs: Arc<dyn Verbs>, options: RdmaOptions) -> Self {
        let options = Arc::new(options.corrected());
        let limits = options.limits();
        Self { hub: Arc::new(Hub { verbs, options, limits, slot: Mutex::default() }) }
    }

    /// What can be set, as it is.
    pub fn options(&self) -> &RdmaOptions {
        &self.hub.options
    }

    /// The devices that are there.
    ///
    /// # Errors
    /// [`VerbsError`] that says what is missing, and what to do about it.
    pub fn devices(&self) -> Result<Vec<DeviceInfo>, VerbsError> {
        self.hub.verbs.devices()
    }

    /// What is in use now; nothing while there is no endpoint. A messenger whose limits are not those of
    /// [`RdmaOptions::wire`] has an endpoint of its own instead (see [`Transport::taking`]), with memory
    /// of its own, which this one knows nothing of.
    pub fn in_use(&self) -> EndpointUse {
        let endpoint = self.hub.slot().endpoint.clone();
        endpoint.map(|endpoint| endpoint.in_use()).unwrap_or_default()
    }

    /// The endpoint, opened if there is none; driven by its engine, or by a task of this runtime.
    fn endpoint(&self) -> Result<Arc<Endpoint>, NoEndpoint> {
        let mut slot = self.hub.slot();
        if let Some(endpoint) = &slot.endpoint
            && !endpoint.is_dead()
        {
            return Ok(endpoint.clone());
        }
        let Ok(handle) = Handle::try_current() else {
            return Err(NoEndpoint::Runtime);
        };
        if matches!(slot.drives, Drives::Nobody) {
            return Err(NoEndpoint::Verbs(VerbsError::new("rdma", VerbsErrorKind::NoEndpoint)));
        }
        let opened = Endpoint::open(self.hub.verbs.clone(), self.hub.options.clone());
        let endpoint = opened.map_err(NoEndpoint::Verbs)?;
        slot.endpoint = Some(endpoint.clone());
        let waker = match &mut slot.drives {
            Drives::Engine(waker) => waker.take(),
            Drives::Itself | Drives::Nobody => {
                handle.spawn(Driver {
                    hub: Arc::downgrade(&self.hub),
                    endpoint: Arc::downgrade(&endpoint),
                    sleep: None,
                });
                None
            }
        };
        drop(slot);
        waker.into_iter().for_each(Waker::wake);
        Ok(endpoint)
    }
}

impl Hub {
    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum NoEndpoint {
    Runtime,
    Verbs(VerbsError),
}

/// Drives an endpoint until it is dead, nobody has it, or an engine takes over.
struct Driver {
    hub: Weak<Hub>,
    endpoint: Weak<Endpoint>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let hub = self.hub.upgrade();
        if hub.is_some_and(|hub| !matches!(hub.slot().drives, Drives::Itself)) {
            return Poll::Ready(());
        }
        match self.endpoint.upgrade() {
            Some(endpoint) => endpoint.poll(cx, &mut self.sleep),
            None => Poll::Ready(()),
        }
    }
}

/// Drives whatever endpoint there is; without it there is none.
struct RdmaEngine {
    hub: Arc<Hub>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Engine for RdmaEngine {
    fn poll(&mut self, cx: &mut Context<'_>) {
        loop {
            let mut slot = self.hub.slot();
            slot.drives = Drives::Engine(Some(cx.waker().clone()));
            let endpoint = slot.endpoint.clone();
            drop(slot);
            let Some(endpoint) = endpoint else {
                return;
            };
            if endpoint.poll(cx, &mut self.sleep).is_pending() {
                return;
            }
            // It lost its events: the next dial or listener opens another.
            self.sleep = None;
            let mut slot = self.hub.slot();
            if slot.endpoint.as_ref().is_some_and(|current| Arc::ptr_eq(current, &endpoint)) {
                slot.endpoint = None;
            }
        }
    }
}

impl Drop for RdmaEngine {
    fn drop(&mut self) {
        let mut slot = self.hub.slot();
        slot.drives = Drives::Nobody;
        let endpoint = slot.endpoint.take();
        drop(slot);
        if let Some(endpoint) = endpoint {
            endpoint.kill();
        }
    }
}

impl Transport for Rdma {
    /// With an endpoint of its own.
    fn taking(&self, wire: WireLimits) -> Option<Arc<dyn Transport>> {
        let Hub { verbs, options, .. } = &*self.hub;
        let options = || RdmaOptions { wire, ..(**options).clone() };
        (wire != self.hub.options.wire).then(|| Arc::new(Self::with(verbs.clone(), options())) as _)
    }

    fn scheme(&self) -> &'static str {
        SCHEME
    }

    fn limits(&self) -> &LinkLimits {
        &self.hub.limits
    }

    fn dial(&self, to: &Address) -> BoxFuture<'static, Result<Box<dyn Link>, DialError>> {
        let (this, to) = (self.clone(), to.clone());
        async move {
            to.expect_scheme(SCHEME).map_err(DialError::Address)?;
            let socket = to.socket().map_err(DialError::Address)?;
            let endpoint = this.endpoint().map_err(|error| match error {
                NoEndpoint::Runtime => DialError::Unreachable,
                NoEndpoint::Verbs(error) => DialError::Verbs(error),
            })?;
            let number = endpoint.dial(socket)?;
            let link = Dialling { endpoint, number }.await?;
            Ok(link as Box<dyn Link>)
        }
        .boxed()
    }

    fn listen(&self, at: &Address) -> Result<Box<dyn Listener>, ListenError> {
        at.expect_scheme(SCHEME).map_err(ListenError::Address)?;
        let socket = at.socket().map_err(ListenError::Address)?;
        let endpoint = self.endpoint().map_err(|error| match error {
            NoEndpoint::Runtime => ListenError::NoRuntime,
            NoEndpoint::Verbs(error) => ListenError::Verbs(error),
        })?;
        let (number, local) = endpoint.listen(socket)?;
        Ok(Box::new(RdmaListener { endpoint, number, local }))
    }

    fn engine(&self) -> Option<Box<dyn Engine>> {
        let mut slot = self.hub.slot();
        if matches!(slot.drives, Drives::Engine(_)) {
            return None;
        }
        slot.drives = Drives::Engine(None);
        drop(slot);
        Some(Box::new(RdmaEngine { hub: self.hub.clone(), sleep: None }))
    }

    fn lease(&self, len: usize) -> Option<Lease> {
        let endpoint = self.hub.slot().endpoint.clone();
        endpoint?.lease(len)
    }
}

/// A dial under way; dropping it gives it up.
struct Dialling {
    endpoint: Arc<Endpoint>,
    number: u64,
}

impl Future for Dialling {
    type Output = Result<Box<super::link::RdmaLink>, DialError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.endpoint.poll_dial(self.number, cx)
    }
}

impl Drop for Dialling {
    fn drop(&mut self) {
        self.endpoint.give_up(self.number);
    }
}

struct RdmaListener {
    endpoint: Arc<Endpoint>,
    number: u64,
    local: Address,
}

impl Listener for RdmaListener {
    fn local(&self) -> Address {
        self.local.clone()
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Box<dyn Link>, AcceptError>> {
        self.endpoint.poll_accept(self.number, cx).map_ok(|link| link as Box<dyn Link>)
    }
}

impl Drop for RdmaListener {
    fn drop(&mut self) {
        self.endpoint.stop_listening(self.number);
    }
}
