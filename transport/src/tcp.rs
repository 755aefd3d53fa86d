//! TCP: non-blocking, no delay, one vectored write for all that is queued, large reads.
//!
//! Links use the tokio reactor of the thread that dials, accepts or attaches them.

mod cut;
mod link;
mod listener;
mod pool;
mod spin;
mod stream;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use socket2::SockRef;
use stellate_protocol::codec::{First, WireLimits};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Handle;

pub use self::cut::ByteCut;
pub(crate) use self::link::StreamLink;
use self::listener::TcpAcceptor;
pub(crate) use self::pool::Pool;
#[cfg(feature = "rsockets")]
pub(crate) use self::stream::ByteStream;
use crate::address::Address;
use crate::error::{DialError, ListenError};
use crate::limits::LinkLimits;
use crate::link::{Link, Listener, Transport};

/// The scheme.
pub(crate) const SCHEME: &str = "tcp";

/// What can be set about TCP links.
#[derive(Clone, Debug)]
pub struct TcpOptions {
    /// What a peer may send: lengths that are refused before memory is taken for them.
    pub wire: WireLimits,
    /// Connections that the kernel holds for a listener that is busy.
    pub backlog: u32,
    /// The kernel gives up on sent bytes that nobody acknowledges for so long.
    pub user_timeout: Option<Duration>,
    /// Bytes that the kernel may hold unsent before it says it is full. Fewer keep the queue,
    /// and so the order of urgency, in our hands; more save wake-ups. 128 KiB cost no throughput
    /// that could be measured on loopback.
    pub unsent_max: Option<u32>,
    /// Bytes that a link accepts and has not handed to the kernel.
    pub send_bytes: usize,
    /// First size of a read buffer.
    pub read_min: usize,
    /// Largest size of a read buffer.
    pub read_max: usize,
    /// Bytes of read buffers that messages may hold, kept by users or not yet handled, before each
    /// further one is copied to memory of its own.
    pub user_held: usize,
    /// How long a link whose waits have been that short looks for what comes, in each further one,
    /// before it sleeps until the kernel wakes it; zero: it always sleeps. One wait that is longer
    /// makes it learn anew, as does somebody else who wants the core. A look is the reactor's, for all
    /// its sockets: the thread polls them without sleeping, and gives its other tasks their turns.
    /// Saves a wake-up, which takes longer than many an answer, for processor time while messages come
    /// within that of each other. Over rsockets it does nothing.
    pub spin: Duration,
    /// After a drain, how long to wait for the peer to close its side.
    pub linger: Duration,
    /// Cuts a link in the middle of its bytes, for tests.
    pub cut: Option<ByteCut>,
}

/// [`TcpOptions::spin`], if nothing else is said: a small round trip over loopback. What it is worth over
/// a network was not measured.
const SPIN: Duration = Duration::from_micros(50);

impl Default for TcpOptions {
    fn default() -> Self {
        Self {
            wire: WireLimits::default(),
            backlog: 1024,
            user_timeout: None,
            unsent_max: Some(128 * 1024),
            send_bytes: LinkLimits::STREAM.send_bytes,
            read_min: 64 * 1024,
            read_max: 256 * 1024,
            user_held: 64 * 1024 * 1024,
            spin: SPIN,
            linger: Duration::from_secs(1),
            cut: None,
        }
    }
}

/// The TCP transport.
#[derive(Clone, Debug)]
pub struct Tcp {
    options: TcpOptions,
    limits: LinkLimits,
    pool: Arc<Pool>,
}

impl Tcp {
    /// With defaults.
    pub fn new() -> Self {
        Self::with(TcpOptions::default())
    }

    /// With options.
    pub fn with(options: TcpOptions) -> Self {
        let limits = LinkLimits { send_bytes: options.send_bytes, ..LinkLimits::STREAM };
        let pool = Pool::new(options.user_held);
        Self { options, limits, pool }
    }

    /// Bytes of read buffers that messages of its links hold: in a window, or kept by users.
    pub fn lent(&self) -> usize {
        self.pool.lent()
    }
}

impl Default for Tcp {
    fn default() -> Self {
        Self::new()
    }
}

impl Transport for Tcp {
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
            let socket = to.socket().map_err(DialError::Address)?;
            let stream = connect(socket).await.map_err(|error| DialError::from_io(&error))?;
            // A dial of a dead local port can meet itself: both ends are this socket.
            if stream.local_addr().is_ok_and(|local| local == socket) {
                return Err(DialError::Refused);
            }
            configure(&stream, &this.options);
            let link =
                StreamLink::new(stream, to, this.limits, &this.options, this.pool, First::Answer);
            Ok(Box::new(link) as Box<dyn Link>)
        }
        .boxed()
    }

    fn listen(&self, at: &Address) -> Result<Box<dyn Listener>, ListenError> {
        at.expect_scheme(SCHEME).map_err(ListenError::Address)?;
        let socket = at.socket().map_err(ListenError::Address)?;
        if Handle::try_current().is_err() {
            return Err(ListenError::NoRuntime);
        }
        let acceptor =
            TcpAcceptor::bind(socket, self.limits, self.options.clone(), self.pool.clone());
        Ok(Box::new(acceptor.map_err(|error| ListenError::from_io(&error))?))
    }
}

async fn connect(to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = match to {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.connect(to).await
}

/// Sets the options of a stream. One that the system refuses costs speed, not correctness.
fn configure(stream: &TcpStream, options: &TcpOptions) {
    let socket = SockRef::from(stream);
    let note = |what: &str, result: std::io::Result<()>| {
        if let Err(error) = result {
            tracing::debug!(what, %error, "a socket option was refused");
        }
    };
    note("nodelay", socket.set_tcp_nodelay(true));
    #[cfg(target_os = "linux")]
    {
        if options.user_timeout.is_some() {
            note("user_timeout", socket.set_tcp_user_timeout(options.user_timeout));
        }
        if let Some(bytes) = options.unsent_max {
            note("notsent_lowat", socket.set_tcp_notsent_lowat(bytes));
        }
    }
}
