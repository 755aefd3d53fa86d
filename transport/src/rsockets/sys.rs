//! The calls of librdmacm: 15 of its socket calls, each what its namesake is.
#![allow(unsafe_code)] // A C library; each block says why it holds.
#![warn(clippy::undocumented_unsafe_blocks)]

use std::ffi::{c_int, c_short, c_void};
use std::io;
use std::net::SocketAddr;

use libc::{pollfd, size_t, sockaddr, socklen_t, ssize_t};
use socket2::{SockAddr, SockAddrStorage};
use tokio::io::ReadBuf;

#[link(name = "rdmacm")]
unsafe extern "C" {
    fn rsocket(domain: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn rbind(socket: c_int, at: *const sockaddr, len: socklen_t) -> c_int;
    fn rlisten(socket: c_int, backlog: c_int) -> c_int;
    fn raccept(socket: c_int, from: *mut sockaddr, len: *mut socklen_t) -> c_int;
    fn rconnect(socket: c_int, to: *const sockaddr, len: socklen_t) -> c_int;
    fn rshutdown(socket: c_int, how: c_int) -> c_int;
    fn rclose(socket: c_int) -> c_int;
    fn rrecv(socket: c_int, into: *mut c_void, len: size_t, flags: c_int) -> ssize_t;
    fn rsend(socket: c_int, from: *const c_void, len: size_t, flags: c_int) -> ssize_t;
    fn rwritev(socket: c_int, pieces: *const libc::iovec, count: c_int) -> ssize_t;
    fn rpoll(fds: *mut pollfd, count: libc::nfds_t, timeout: c_int) -> c_int;
    fn rgetsockname(socket: c_int, at: *mut sockaddr, len: *mut socklen_t) -> c_int;
    fn rsetsockopt(s: c_int, level: c_int, name: c_int, v: *const c_void, l: socklen_t) -> c_int;
    fn rgetsockopt(s: c_int, level: c_int, name: c_int, v: *mut c_void, l: *mut socklen_t)
    -> c_int;
    fn rfcntl(socket: c_int, command: c_int, ...) -> c_int;
}

/// A socket that does not block. Closing may: see [`RSocket::close`].
#[derive(Debug)]
pub(super) struct RSocket(c_int);

fn check(returned: c_int) -> io::Result<c_int> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(returned) }
}

fn moved(returned: ssize_t) -> io::Result<usize> {
    usize::try_from(returned).map_err(|_| io::Error::last_os_error())
}

impl RSocket {
    pub(super) fn new(family: SocketAddr) -> io::Result<Self> {
        let domain = if family.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        // SAFETY: three numbers.
        Self::non_blocking(check(unsafe { rsocket(domain, libc::SOCK_STREAM, 0) })?)
    }

    fn non_blocking(number: c_int) -> io::Result<Self> {
        let this = Self(number);
        // SAFETY: an open rsocket and a number.
        check(unsafe { rfcntl(this.0, libc::F_SETFL, libc::O_NONBLOCK) })?;
        Ok(this)
    }

    pub(super) fn number(&self) -> c_int {
        self.0
    }

    /// Whether it is connected at once.
    pub(super) fn connect(&self, to: SocketAddr) -> io::Result<bool> {
        let to = SockAddr::from(to);
        // SAFETY: an open rsocket; the address is read by the call, which is told its length.
        match check(unsafe { rconnect(self.0, to.as_ptr().cast(), to.len()) }) {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// How a connect that was in progress ended, once the socket is writable.
    pub(super) fn connected(&self) -> io::Result<()> {
        let (mut error, mut len): (c_int, socklen_t) = (0, size_of::<c_int>() as socklen_t);
        let place = std::ptr::from_mut(&mut error).cast();
        // SAFETY: an open rsocket; the place takes a number of that length.
        check(unsafe { rgetsockopt(self.0, libc::SOL_SOCKET, libc::SO_ERROR, place, &mut len) })?;
        if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
    }

    pub(super) fn listen(&self, at: SocketAddr, backlog: c_int) -> io::Result<()> {
        let at = SockAddr::from(at);
        let (on, len) = (1 as c_int, size_of::<c_int>() as socklen_t);
        let value = std::ptr::from_ref(&on).cast();
        // SAFETY: an open rsocket; option and address are read by the calls, which are told their
        // lengths.
        unsafe {
            check(rsetsockopt(self.0, libc::SOL_SOCKET, libc::SO_REUSEADDR, value, len))?;
            check(rbind(self.0, at.as_ptr().cast(), at.len()))?;
            check(rlisten(self.0, backlog))?;
        }
        Ok(())
    }

    pub(super) fn local(&self) -> io::Result<SocketAddr> {
        let address = address_by(|at, len| {
            // SAFETY: an open rsocket; the place is as long as it says.
            check(unsafe { rgetsockname(self.0, at, len) })
        })?;
        Ok(address.1)
    }

    pub(super) fn accept(&self) -> io::Result<(Self, SocketAddr)> {
        let (number, from) = address_by(|at, len| {
            // SAFETY: an open rsocket; the place is as long as it says.
            check(unsafe { raccept(self.0, at, len) })
        })?;
        Ok((Self::non_blocking(number)?, from))
    }

    /// Fills some of it; nothing at the end of the stream.
    pub(super) fn recv(&self, buf: &mut ReadBuf<'_>) -> io::Result<()> {
        // SAFETY: the call writes to it and reads nothing, so what is initialised stays so.
        let space = unsafe { buf.unfilled_mut() };
        // SAFETY: an open rsocket; at most so many bytes are written.
        let n = moved(unsafe { rrecv(self.0, space.as_mut_ptr().cast(), space.len(), 0) })?;
        // SAFETY: the call wrote so many.
        unsafe { buf.assume_init(n) };
        buf.advance(n);
        Ok(())
    }

    pub(super) fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        // SAFETY: an open rsocket; the bytes are copied by the call.
        moved(unsafe { rsend(self.0, bytes.as_ptr().cast(), bytes.len(), 0) })
    }

    pub(super) fn send_all(&self, pieces: &[io::IoSlice<'_>]) -> io::Result<usize> {
        let count = c_int::try_from(pieces.len()).unwrap_or(c_int::MAX);
        // SAFETY: an open rsocket; an IoSlice is an iovec, and the bytes are copied by the call.
        moved(unsafe { rwritev(self.0, pieces.as_ptr().cast(), count) })
    }

    /// Waits until what was sent is acknowledged or given up, in both ways if `both`.
    pub(super) fn shut_down(&self, both: bool) {
        let how = if both { libc::SHUT_RDWR } else { libc::SHUT_WR };
        // SAFETY: an open rsocket. That it was over already is no error.
        unsafe { rshutdown(self.0, how) };
    }
}

impl Drop for RSocket {
    /// Closes it, and waits as [`shut_down`](Self::shut_down) does: not for a link's own thread.
    fn drop(&mut self) {
        // SAFETY: its only owner, so nobody else has the number.
        unsafe { rclose(self.0) };
    }
}

/// What a call gave, with the address that it filled in.
fn address_by(
    call: impl FnOnce(*mut sockaddr, *mut socklen_t) -> io::Result<c_int>,
) -> io::Result<(c_int, SocketAddr)> {
    let mut storage = SockAddrStorage::zeroed();
    let mut len = storage.size_of();
    let given = call(std::ptr::from_mut(&mut storage).cast(), &mut len)?;
    // SAFETY: the call has filled so many bytes of it, or it is of zeroes.
    let address = unsafe { SockAddr::new(storage, len) }.as_socket();
    let address = address.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok((given, address))
}

/// Waits for any of them, without a limit.
pub(super) fn poll(fds: &mut [pollfd]) -> io::Result<c_int> {
    // SAFETY: so many entries, which live through the call. Numbers that are no rsockets are
    // descriptors to it.
    check(unsafe { rpoll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, -1) })
}

/// An entry for [`poll`].
pub(super) fn entry(fd: c_int, read: bool, write: bool) -> pollfd {
    let events = if read { libc::POLLIN } else { 0 } | if write { libc::POLLOUT } else { 0 };
    pollfd { fd, events, revents: 0 }
}

/// Whether something happened that ends a wait of that kind: also an error or a hang-up.
pub(super) fn fired(entry: &pollfd, kind: c_short) -> bool {
    entry.revents & (kind | libc::POLLERR | libc::POLLHUP | libc::POLLNVAL) != 0
}
