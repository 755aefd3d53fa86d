//! rsockets: librdmacm's socket calls over RDMA, under TCP's own framing.
//!
//! ```text
//!   StreamLink<RStream> ── rrecv, rsend ──► librdmacm            the link's own thread
//!            │ EAGAIN: a waker
//!            ▼
//!   Poller: one thread in rpoll over all sockets that somebody waits for
//!            │ closed sockets, after they have left the set
//!            ▼
//!   Closer: one thread, since shutting down waits for the peer
//! ```
//!
//! It is here to show how small a transport is that reuses a framing, not for speed: [`crate::rdma`]
//! is the fast way over the same devices. An rsocket is no descriptor that epoll knows, and
//! `repoll` is in no release yet, hence the thread. A waker is used once, so a socket is in the set
//! only while somebody waits for it, and nothing spins. The threads end with the last handle.
//!
//! Closing waits for what was sent to arrive, or for the fabric to give it up, so closes queue up
//! behind one whose peer is gone; links that are open do not notice.

mod poller;
mod stream;
mod sys;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::FutureExt;
use futures::future::BoxFuture;
use stellate_protocol::codec::{First, WireLimits};
use tokio::runtime::Handle;

use self::poller::Poller;
use self::stream::RStream;
use self::sys::RSocket;
use crate::address::Address;
use crate::error::{AcceptError, DialError, ListenError};
use crate::limits::LinkLimits;
use crate::link::{Link, Listener, Transport};
use crate::rdma::refusal::diagnose;
use crate::tcp::{Pool, StreamLink, TcpOptions};

/// The scheme.
const SCHEME: &str = "rsocket";

/// Links that a listener holds for an owner that is busy.
const BACKLOG: i32 = 128;

/// The rsockets transport. A cheap handle.
#[derive(Clone, Debug)]
pub struct RSockets {
    options: TcpOptions,
    limits: LinkLimits,
    pool: Arc<Pool>,
    poller: Poller,
}

impl RSockets {
    /// With defaults.
    pub fn new() -> Self {
        Self::with(TcpOptions::default())
    }

    /// With the options of TCP that are about framing and buffers; those about sockets do nothing.
    pub fn with(options: TcpOptions) -> Self {
        // Its sockets are looked at by a thread of their own: a link that spins would find nothing.
        let options = TcpOptions { spin: std::time::Duration::ZERO, ..options };
        let limits = LinkLimits { send_bytes: options.send_bytes, ..LinkLimits::STREAM };
        let pool = Pool::new(options.user_held);
        Self { options, limits, pool, poller: Poller::default() }
    }

    fn link(&self, stream: RStream, peer: Address, first: First) -> Box<dyn Link> {
        let pool = self.pool.clone();
        Box::new(StreamLink::new(stream, peer, self.limits, &self.options, pool, first))
    }
}

impl Default for RSockets {
    fn default() -> Self {
        Self::new()
    }
}

impl Transport for RSockets {
    fn taking(&self, wire: WireLimits) -> Option<Arc<dyn Transport>> {
        let taking =
            || Self { options: TcpOptions { wire, ..self.options.clone() }, ..self.clone() };
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
        async move {
            to.expect_scheme(SCHEME).map_err(DialError::Address)?;
            let at = to.socket().map_err(DialError::Address)?;
            let from_io = |error: std::io::Error| DialError::from_io(&error);
            let socket = RSocket::new(at).map_err(|_| DialError::Verbs(diagnose("rsocket")))?;
            let begun = socket.connect(at).map_err(from_io)?;
            let stream = this.poller.add(socket).map_err(from_io)?;
            if !begun {
                poll_fn(|cx| stream.poll_connected(cx)).await.map_err(from_io)?;
            }
            Ok(this.link(stream, to, First::Answer))
        }
        .boxed()
    }

    fn listen(&self, at: &Address) -> Result<Box<dyn Listener>, ListenError> {
        at.expect_scheme(SCHEME).map_err(ListenError::Address)?;
        let at = at.socket().map_err(ListenError::Address)?;
        if Handle::try_current().is_err() {
            return Err(ListenError::NoRuntime);
        }
        let socket = RSocket::new(at).map_err(|_| ListenError::Verbs(diagnose("rsocket")))?;
        let bound = || {
            socket.listen(at, BACKLOG)?;
            let local = Address::of_socket(SCHEME, socket.local()?);
            let local = local.map_err(std::io::Error::other)?;
            Ok(RListener { stream: self.poller.add(socket)?, local, transport: self.clone() })
        };
        let bound: std::io::Result<RListener> = bound();
        Ok(Box::new(bound.map_err(|error| ListenError::from_io(&error))?))
    }
}

struct RListener {
    stream: RStream,
    local: Address,
    transport: RSockets,
}

impl Listener for RListener {
    fn local(&self) -> Address {
        self.local.clone()
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Box<dyn Link>, AcceptError>> {
        let accepted = ready!(self.stream.poll_accept(cx)).and_then(|(socket, from)| {
            let from = Address::of_socket(SCHEME, from).map_err(std::io::Error::other)?;
            Ok((self.transport.poller.add(socket)?, from))
        });
        Poll::Ready(match accepted {
            Ok((stream, from)) => Ok(self.transport.link(stream, from, First::Hello)),
            Err(error) => Err(AcceptError::from_io(&error)),
        })
    }
}
