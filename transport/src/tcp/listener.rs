//! Accepts TCP links.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use socket2::{Domain, Protocol, Socket, Type};
use stellate_protocol::codec::First;
use tokio::net::TcpListener;

use super::link::StreamLink;
use super::pool::Pool;
use super::{SCHEME, TcpOptions, configure};
use crate::address::Address;
use crate::error::AcceptError;
use crate::limits::LinkLimits;
use crate::link::{Link, Listener};

/// Connections that died in the backlog and are skipped in one poll (F7).
const SKIPPED_MAX: usize = 16;

pub(super) struct TcpAcceptor {
    listener: TcpListener,
    local: Address,
    limits: LinkLimits,
    options: TcpOptions,
    pool: Arc<Pool>,
}

impl TcpAcceptor {
    pub(super) fn bind(
        at: SocketAddr,
        limits: LinkLimits,
        options: TcpOptions,
        pool: Arc<Pool>,
    ) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(at), Type::STREAM, Some(Protocol::TCP))?;
        // A restarted daemon takes its port back while old connections are still in TIME_WAIT.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&at.into())?;
        socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
        let listener = TcpListener::from_std(socket.into())?;
        let local = Address::of_socket(SCHEME, listener.local_addr()?).map_err(io::Error::other)?;
        Ok(Self { listener, local, limits, options, pool })
    }
}

impl Listener for TcpAcceptor {
    fn local(&self) -> Address {
        self.local.clone()
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Box<dyn Link>, AcceptError>> {
        for _ in 0..SKIPPED_MAX {
            match ready!(self.listener.poll_accept(cx)) {
                Ok((stream, from)) => {
                    let Ok(from) = Address::of_socket(SCHEME, from) else {
                        continue;
                    };
                    configure(&stream, &self.options);
                    let link = StreamLink::new(
                        stream,
                        from,
                        self.limits,
                        &self.options,
                        self.pool.clone(),
                        First::Hello,
                    );
                    return Poll::Ready(Ok(Box::new(link)));
                }
                Err(error) if died_in_backlog(error.kind()) => {}
                Err(error) => return Poll::Ready(Err(AcceptError::from_io(&error))),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// The next connection was lost before it was accepted: nothing is wrong here.
fn died_in_backlog(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::TimedOut
    )
}
