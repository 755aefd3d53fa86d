//! One rsocket as a byte stream of tokio's shape.

use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::poller::{Poller, Wait};
use super::sys::RSocket;
use crate::tcp::ByteStream;

/// A socket in the set of a [`Poller`]. Dropping it leaves the closing to that one.
pub(super) struct RStream {
    socket: Arc<RSocket>,
    poller: Poller,
}

impl RStream {
    pub(super) fn new(socket: Arc<RSocket>, poller: Poller) -> Self {
        Self { socket, poller }
    }

    /// Tries, or has the task woken when it is worth another try. What comes between the try and
    /// the waiting is seen by `rpoll`, which tells states and not changes.
    fn attempt<T>(
        &self,
        cx: &Context<'_>,
        wait: Wait,
        call: impl FnOnce(&RSocket) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        match call(&self.socket) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.poller.wait(self.socket.number(), wait, cx.waker());
                Poll::Pending
            }
            done => Poll::Ready(done),
        }
    }

    pub(super) fn poll_accept(&self, cx: &Context<'_>) -> Poll<io::Result<(RSocket, SocketAddr)>> {
        self.attempt(cx, Wait::Read, RSocket::accept)
    }

    /// Ready when a dial ended. The poller's thread works on it while somebody waits.
    pub(super) fn poll_connected(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        if !self.poller.take_writable(self.socket.number()) {
            self.poller.wait(self.socket.number(), Wait::Write, cx.waker());
            return Poll::Pending;
        }
        Poll::Ready(self.socket.connected())
    }
}

impl AsyncRead for RStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.attempt(cx, Wait::Read, |socket| socket.recv(buf))
    }
}

impl AsyncWrite for RStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.attempt(cx, Wait::Write, |socket| socket.send(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.attempt(cx, Wait::Write, |socket| socket.send_all(pieces))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Has it shut down; the framing waits for the peer's answer, not for this.
    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poller.shut_down(self.socket.clone());
        Poll::Ready(Ok(()))
    }
}

impl ByteStream for RStream {
    type Parked = Self;

    fn poll_may_read(&self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Dropping it is the shortest way: there is no reset.
    fn reset(&self) {}

    fn park(self) -> io::Result<Self> {
        Ok(self)
    }

    fn unpark(parked: Self) -> io::Result<Self> {
        Ok(parked)
    }
}

impl Drop for RStream {
    fn drop(&mut self) {
        self.poller.close(self.socket.clone());
    }
}
