//! What the framing asks of a byte stream.

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A connected stream in a reactor. Reads and writes never block.
pub(crate) trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// It, between two reactors.
    type Parked: Send;

    /// Ready when a read may find something: no buffer is taken before. May always be ready.
    fn poll_may_read(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Has the connection dropped at once, with what was not sent, and the peer told if it can be.
    fn reset(&self);

    /// Leaves the reactor of this thread.
    fn park(self) -> io::Result<Self::Parked>;

    /// Joins the reactor of this thread.
    fn unpark(parked: Self::Parked) -> io::Result<Self>
    where
        Self: Sized;
}

impl ByteStream for TcpStream {
    type Parked = std::net::TcpStream;

    fn poll_may_read(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }

    fn reset(&self) {
        // If it fails the peer sees an end of stream instead, which is as good.
        let _ = SockRef::from(self).set_linger(Some(Duration::ZERO));
    }

    fn park(self) -> io::Result<Self::Parked> {
        self.into_std()
    }

    fn unpark(parked: Self::Parked) -> io::Result<Self> {
        Self::from_std(parked)
    }
}
