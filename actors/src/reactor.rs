//! Where the messenger's actors run, and what time it is there.
//!
//! In production a messenger has arbiters (threads) of its own, and a session lives on one of them
//! with its links. Without arbiters, as in simulation, all run where the messenger was started.
//! This is the only place that makes threads.

use std::sync::atomic::{AtomicUsize, Ordering};

use actix_rt::Arbiter;
use stellate_protocol::Time;

use crate::supervise::{Placement, abandon_thread};

/// Threads, or none.
#[derive(Debug)]
pub(crate) struct Reactor {
    arbiters: Vec<Arbiter>,
    origin: tokio::time::Instant,
    turn: AtomicUsize,
}

impl Reactor {
    /// `count` arbiters; 0, or a thread without an actix system, means here.
    pub(crate) fn new(count: usize) -> Self {
        let count = if actix_rt::System::try_current().is_some() { count } else { 0 };
        Self {
            arbiters: (0..count).map(|_| Arbiter::new()).collect(),
            origin: tokio::time::Instant::now(),
            turn: AtomicUsize::new(0),
        }
    }

    /// How many places there are.
    pub(crate) fn len(&self) -> usize {
        self.arbiters.len().max(1)
    }

    pub(crate) fn placement(&self, index: usize) -> Placement {
        match self.arbiters.get(index) {
            Some(arbiter) => Placement::On(arbiter.handle()),
            None => Placement::Here,
        }
    }

    /// A new thread for a user's actor.
    pub(crate) fn fresh(&self) -> OwnThread {
        if self.arbiters.is_empty() {
            return OwnThread(None);
        }
        OwnThread(Some(Arbiter::new()))
    }

    /// The place of the next session: in turn.
    pub(crate) fn spread(&self, _key: u64) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed) % self.len()
    }

    /// Time since the messenger started.
    pub(crate) fn now(&self) -> Time {
        Time(self.origin.elapsed().as_nanos() as u64)
    }

    /// The instant at which `time` is, for a timer.
    pub(crate) fn instant(&self, time: Time) -> tokio::time::Instant {
        self.origin + std::time::Duration::from_nanos(time.0)
    }

    /// Stops the threads; their actors are gone already.
    pub(crate) fn stop(&self) {
        for arbiter in &self.arbiters {
            arbiter.stop();
        }
    }
}

/// A thread of a user's actor's own, or none where the messenger has none. Dropped, on that thread
/// or another, it stops: what runs there by then is dropped after its turn.
#[derive(Debug)]
pub struct OwnThread(Option<Arbiter>);

impl OwnThread {
    /// For the actor that it was made for.
    pub fn placement(&self) -> Placement {
        match &self.0 {
            Some(arbiter) => Placement::On(arbiter.handle()),
            None => Placement::Here,
        }
    }
}

impl Drop for OwnThread {
    fn drop(&mut self) {
        if let Some(arbiter) = &self.0 {
            // A future that a handler spawned there outlives its actor, and is cut off here: it must
            // know. False if the thread has stopped by itself, as with its actix system.
            let _ = arbiter.spawn_fn(|| {
                abandon_thread();
                Arbiter::current().stop();
            });
        }
    }
}
