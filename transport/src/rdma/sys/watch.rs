//! A descriptor of the libraries in tokio's reactor.
//!
//! A duplicate is watched, not the library's own: it is ours to close, and two endpoints may watch
//! the same device.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::OnceLock;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{Interest, unix::AsyncFdReadyGuard};
use tokio::runtime::Handle;

/// One descriptor.
#[derive(Debug)]
pub(super) struct Watch {
    fd: OwnedFd,
    /// None: the reactor did not take it.
    watched: OnceLock<Option<AsyncFd<OwnedFd>>>,
}

impl Watch {
    /// Makes it non-blocking, for everybody that has it.
    ///
    /// # Safety
    /// The descriptor is open.
    pub(super) unsafe fn new(fd: RawFd) -> io::Result<Self> {
        // SAFETY: the caller says that it is open; it is duplicated and not kept.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned()?;
        // SAFETY: fcntl on an open descriptor with a number as its argument touches no memory.
        let done = unsafe {
            let flags = libc::fcntl(fd.as_raw_fd(), libc::F_GETFL);
            flags >= 0 && libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) >= 0
        };
        if !done {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { fd, watched: OnceLock::new() })
    }

    /// Ready while something is there to be read, as the descriptor itself says.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_taking(cx, || is_readable(self.fd.as_raw_fd()))
    }

    /// Ready when `take` took something; asks it whenever there may be. What it took leaves more to be
    /// asked for.
    pub(super) fn poll_taking(&self, cx: &mut Context<'_>, take: impl FnMut() -> bool) -> Poll<()> {
        self.poll_with(cx, take, false)
    }

    /// As [`poll_taking`](Self::poll_taking), where `take` takes all that there is: nothing is asked
    /// for again before the reactor says so.
    pub(super) fn poll_taking_all(
        &self,
        cx: &mut Context<'_>,
        take: impl FnMut() -> bool,
    ) -> Poll<()> {
        self.poll_with(cx, take, true)
    }

    fn poll_with(
        &self,
        cx: &mut Context<'_>,
        mut take: impl FnMut() -> bool,
        all: bool,
    ) -> Poll<()> {
        let Some(watched) = self.watched() else {
            // No reactor: it is looked at again and again, which is slow and not wrong.
            cx.waker().wake_by_ref();
            return if take() { Poll::Ready(()) } else { Poll::Pending };
        };
        loop {
            let ready: io::Result<AsyncFdReadyGuard<'_, _>> = ready!(watched.poll_read_ready(cx));
            let Ok(mut guard) = ready else {
                // The runtime is ending, and this task with it.
                return Poll::Pending;
            };
            let taken = take();
            if !taken || all {
                // What came since the reactor said so is said again: that is not cleared.
                guard.clear_ready();
            }
            if taken {
                return Poll::Ready(());
            }
        }
    }

    fn watched(&self) -> Option<&AsyncFd<OwnedFd>> {
        if self.watched.get().is_none() && Handle::try_current().is_err() {
            return None;
        }
        let watched = self.watched.get_or_init(|| {
            let fd = self.fd.try_clone().ok()?;
            // SAFETY: an OwnedFd is open, and the same, until the reactor has let go of it.
            match unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) } {
                Ok(watched) => Some(watched),
                Err(error) => {
                    tracing::warn!(?error, "the reactor does not watch a descriptor: polling it");
                    None
                }
            }
        });
        watched.as_ref()
    }
}

/// Whether a read would find something now.
fn is_readable(fd: RawFd) -> bool {
    let mut asked = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry, which lives through the call; it does not wait.
    unsafe { libc::poll(&mut asked, 1, 0) > 0 }
}
