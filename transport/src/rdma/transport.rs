//! Dials and listens by way of the endpoint, which it opens when it is first needed.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::time::Sleep;

use super::SCHEME;
use super::endpoint::{Endpoint, EndpointUse};
use super::options::RdmaOptions;
use super::verbs::{DeviceInfo, Verbs, VerbsError};
use crate::address::Address;
use crate::error::{AcceptError, DialError, ListenError};
use crate::limits::LinkLimits;
use crate::link::{Link, Listener, Transport};

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
    endpoint: Mutex<Option<Arc<Endpoint>>>,
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
        Self { hub: Arc::new(Hub { verbs, options, limits, endpoint: Mutex::new(None) }) }
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

    /// What is in use now; nothing while there is no endpoint.
    pub fn in_use(&self) -> EndpointUse {
        let endpoint = self.hub.slot().clone();
        endpoint.map(|endpoint| endpoint.in_use()).unwrap_or_default()
    }

    /// The endpoint, opened and driven by a task of this runtime if there is none.
    fn endpoint(&self) -> Result<Arc<Endpoint>, NoEndpoint> {
        let mut slot = self.hub.slot();
        if let Some(endpoint) = &*slot
            && !endpoint.is_dead()
        {
            return Ok(endpoint.clone());
        }
        let Ok(handle) = Handle::try_current() else {
            return Err(NoEndpoint::Runtime);
        };
        let opened = Endpoint::open(self.hub.verbs.clone(), self.hub.options.clone());
        let endpoint = opened.map_err(NoEndpoint::Verbs)?;
        *slot = Some(endpoint.clone());
        drop(slot);
        handle.spawn(Driver { endpoint: Arc::downgrade(&endpoint), sleep: None });
        Ok(endpoint)
    }
}

impl Hub {
    fn slot(&self) -> MutexGuard<'_, Option<Arc<Endpoint>>> {
        self.endpoint.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum NoEndpoint {
    Runtime,
    Verbs(VerbsError),
}

/// Drives an endpoint until it is dead or nobody has it.
struct Driver {
    endpoint: Weak<Endpoint>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.endpoint.upgrade() {
            Some(endpoint) => endpoint.poll(cx, &mut self.sleep),
            None => Poll::Ready(()),
        }
    }
}

impl Transport for Rdma {
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
