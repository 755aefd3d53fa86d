//! The thread that waits for all sockets of a transport, and the one that closes them.
//!
//! ```text
//!   wait ──► set ──► rpoll ──► waker, once ──► out of the set
//!   close ─► out of the set, a wake-up ──► poller hands it over ──► closer: rclose
//! ```
//!
//! A socket is closed by the second thread only, after the first has left the `rpoll` it may have
//! been in: its number must not become another socket's meanwhile.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use super::stream::RStream;
use super::sys::{RSocket, entry, fired, poll};

/// What a task waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    Read,
    Write,
}

/// A handle. The threads start with the first socket, and end with the last handle.
#[derive(Clone, Default)]
pub(super) struct Poller {
    threads: Arc<Mutex<Option<Shared>>>,
}

struct Shared {
    set: Arc<Mutex<Set>>,
    /// Interrupts `rpoll`: the other end is in it.
    wake: UnixStream,
}

#[derive(Default)]
struct Set {
    sockets: BTreeMap<i32, Waits>,
    /// To the closer, once `rpoll` is left.
    leaving: Vec<Job>,
    /// It was interrupted and does not know yet: once is enough.
    woken: bool,
    /// The last handle is gone.
    over: bool,
}

#[derive(Default)]
struct Waits {
    read: Option<Waker>,
    write: Option<Waker>,
    /// It was writable since somebody asked.
    writable: bool,
}

enum Job {
    ShutDown(Arc<RSocket>),
    Close(Arc<RSocket>),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Poller {
    /// Takes a socket into the set, with nobody waiting for it.
    pub(super) fn add(&self, socket: RSocket) -> io::Result<RStream> {
        self.start()?;
        self.with(|set| drop(set.sockets.insert(socket.number(), Waits::default())));
        Ok(RStream::new(Arc::new(socket), self.clone()))
    }

    fn start(&self) -> io::Result<()> {
        let mut threads = lock(&self.threads);
        if threads.is_some() {
            return Ok(());
        }
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let set = Arc::new(Mutex::new(Set::default()));
        let (jobs, work) = channel();
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            let thread = std::thread::Builder::new().name(name.into());
            #[allow(
                clippy::disallowed_methods,
                reason = "librdmacm's calls block; no simulation has it"
            )]
            thread.spawn(run).map(drop)
        };
        spawn("rsockets-close", Box::new(move || close_all(&work)))?;
        let polled = set.clone();
        spawn("rsockets-poll", Box::new(move || poll_all(&polled, &woken, &jobs)))?;
        *threads = Some(Shared { set, wake });
        Ok(())
    }

    fn with(&self, change: impl FnOnce(&mut Set)) {
        if let Some(shared) = &*lock(&self.threads) {
            shared.change(change);
        }
    }

    /// Wakes the task when the socket may be read or written, once.
    pub(super) fn wait(&self, number: i32, wait: Wait, waker: &Waker) {
        self.with(|set| {
            let waits = set.sockets.entry(number).or_default();
            match wait {
                Wait::Read => waits.read = Some(waker.clone()),
                Wait::Write => waits.write = Some(waker.clone()),
            }
        });
    }

    /// Whether it was writable since this was last asked.
    pub(super) fn take_writable(&self, number: i32) -> bool {
        let mut writable = false;
        self.with(|set| {
            let waits = set.sockets.entry(number).or_default();
            writable = std::mem::take(&mut waits.writable);
        });
        writable
    }

    /// Says that nothing more is sent.
    pub(super) fn shut_down(&self, socket: Arc<RSocket>) {
        self.with(|set| set.leaving.push(Job::ShutDown(socket)));
    }

    /// Closes it. Nobody waits for it any more.
    pub(super) fn close(&self, socket: Arc<RSocket>) {
        self.with(|set| {
            set.sockets.remove(&socket.number());
            set.leaving.push(Job::Close(socket));
        });
    }
}

impl Shared {
    fn change(&self, change: impl FnOnce(&mut Set)) {
        let mut set = lock(&self.set);
        change(&mut set);
        if !std::mem::replace(&mut set.woken, true) {
            // Full is awake already.
            let _ = io::Write::write(&mut &self.wake, &[1]);
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // What waits to be closed still is, by the threads.
        self.change(|set| set.over = true);
    }
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sockets = lock(&self.threads).as_ref().map(|shared| lock(&shared.set).sockets.len());
        write!(f, "Poller({} sockets)", sockets.unwrap_or(0))
    }
}

/// Until the last handle is gone.
fn poll_all(set: &Mutex<Set>, woken: &UnixStream, jobs: &Sender<Job>) {
    let mut entries = Vec::new();
    loop {
        entries.clear();
        entries.push(entry(woken.as_raw_fd(), true, false));
        {
            let mut set = lock(set);
            for job in set.leaving.drain(..) {
                // Without a closer it is closed here, when the job is dropped.
                let _ = jobs.send(job);
            }
            if set.over {
                return;
            }
            let waiting = set
                .sockets
                .iter()
                .map(|(number, waits)| entry(*number, waits.read.is_some(), waits.write.is_some()));
            entries.extend(waiting.filter(|entry| entry.events != 0));
        }
        if let Err(error) = poll(&mut entries) {
            // A socket that is no more tells its owner when that tries.
            tracing::debug!(%error, "rpoll");
        }
        if fired(&entries[0], libc::POLLIN) {
            let mut taken = [0; 64];
            let _ = io::Read::read(&mut &*woken, &mut taken);
            lock(set).woken = false;
        }
        wake(set, &entries[1..]);
    }
}

/// Wakes whom something happened for.
fn wake(set: &Mutex<Set>, entries: &[libc::pollfd]) {
    let mut wakers = Vec::new();
    let mut set = lock(set);
    for entry in entries {
        let Some(waits) = set.sockets.get_mut(&entry.fd) else {
            continue;
        };
        if fired(entry, libc::POLLIN) {
            wakers.extend(waits.read.take());
        }
        if fired(entry, libc::POLLOUT) {
            waits.writable = true;
            wakers.extend(waits.write.take());
        }
    }
    drop(set);
    wakers.into_iter().for_each(Waker::wake);
}

/// Until the poller is gone.
fn close_all(work: &Receiver<Job>) {
    for job in work {
        match job {
            Job::ShutDown(socket) => socket.shut_down(false),
            Job::Close(socket) => {
                socket.shut_down(true);
                // The last handle: closed here.
                drop(socket);
            }
        }
    }
}
