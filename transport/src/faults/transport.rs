//! A transport whose dials, accepts and links follow a plan of faults.

use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::FutureExt;
use futures::future::BoxFuture;
use stellate_protocol::codec::WireLimits;

use super::link::{FaultLink, Hold};
use super::{Direction, Edge, Fault, Faults};
use crate::address::Address;
use crate::error::{AcceptError, DialError, ListenError};
use crate::limits::LinkLimits;
use crate::link::{CloseHow, Engine, Link, Listener, Transport};
use crate::rdma::Lease;

pub(super) struct FaultTransport {
    inner: Arc<dyn Transport>,
    faults: Faults,
}

impl FaultTransport {
    pub(super) fn new(inner: Arc<dyn Transport>, faults: Faults) -> Self {
        Self { inner, faults }
    }
}

impl Transport for FaultTransport {
    fn taking(&self, wire: WireLimits) -> Option<Arc<dyn Transport>> {
        let inner = self.inner.taking(wire)?;
        Some(Arc::new(Self { inner, faults: self.faults.clone() }))
    }

    fn scheme(&self) -> &'static str {
        self.inner.scheme()
    }

    fn limits(&self) -> &LinkLimits {
        self.inner.limits()
    }

    fn engine(&self) -> Option<Box<dyn Engine>> {
        self.inner.engine()
    }

    fn lease(&self, len: usize) -> Option<Lease> {
        self.inner.lease(len)
    }

    fn dial(&self, to: &Address) -> BoxFuture<'static, Result<Box<dyn Link>, DialError>> {
        let (inner, faults, to) = (self.inner.clone(), self.faults.clone(), to.clone());
        async move {
            match faults.pass(Edge::Dial, Direction::Sent, None) {
                Some(Fault::Fail) => return Err(DialError::Injected),
                Some(Fault::StallAfter) => pending().await,
                Some(Fault::Block(gate)) => poll_fn(|cx| gate.poll_open(cx)).await,
                Some(Fault::Delay(span)) => tokio::time::sleep(span).await,
                None => {}
            }
            let link = inner.dial(&to).await?;
            Ok(Box::new(FaultLink::new(link, faults)) as Box<dyn Link>)
        }
        .boxed()
    }

    fn listen(&self, at: &Address) -> Result<Box<dyn Listener>, ListenError> {
        Ok(Box::new(FaultListener {
            inner: self.inner.listen(at)?,
            faults: self.faults.clone(),
            held: None,
            stalled: Vec::new(),
        }))
    }
}

struct FaultListener {
    inner: Box<dyn Listener>,
    faults: Faults,
    held: Option<(Box<dyn Link>, Hold)>,
    /// Links that nobody will ever read; one for each rule of that kind.
    stalled: Vec<Box<dyn Link>>,
}

impl Listener for FaultListener {
    fn local(&self) -> Address {
        self.inner.local()
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Box<dyn Link>, AcceptError>> {
        loop {
            if let Some((_, hold)) = &mut self.held {
                ready!(hold.poll(cx));
            }
            if let Some((link, _)) = self.held.take() {
                return Poll::Ready(Ok(Box::new(FaultLink::new(link, self.faults.clone()))));
            }
            let mut link = ready!(self.inner.poll_accept(cx))?;
            let hold = match self.faults.pass(Edge::Accept, Direction::Received, None) {
                Some(Fault::Fail) => {
                    link.close(CloseHow::Abort);
                    // An abort takes effect in a poll; the link is dropped right after.
                    let _ = link.poll(cx, &mut crate::link::Batch::default());
                    continue;
                }
                Some(Fault::StallAfter) => {
                    self.stalled.push(link);
                    continue;
                }
                Some(fault) => Hold::of(fault),
                None => Hold::None,
            };
            self.held = Some((link, hold));
        }
    }
}
