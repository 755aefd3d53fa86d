//! Where the messenger's actors run, and what time it is there.
//!
//! In production a messenger has arbiters (threads) of its own, and a session lives on one of them
//! with its links. Without arbiters, as in simulation, all run where the messenger was started.
//! This is the only place that makes threads.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use actix_rt::{Arbiter, System};
use stellate_protocol::Time;

use crate::supervise::{Placement, abandon_thread};

/// Threads, or none.
#[derive(Debug)]
pub(crate) struct Reactor {
    arbiters: Vec<Arbiter>,
    /// That of its arbiters.
    system: Option<System>,
    origin: tokio::time::Instant,
    rate: Rate,
    turn: AtomicUsize,
}

impl Reactor {
    /// `count` arbiters; 0, or a thread without an actix system, means here.
    /// `drift_ppm`: millionths that its clock runs too fast, in simulation.
    pub(crate) fn new(count: usize, drift_ppm: i32) -> Self {
        let system = System::try_current();
        let count = if system.is_some() { count } else { 0 };
        Self {
            arbiters: (0..count).map(|_| Arbiter::new()).collect(),
            system,
            origin: tokio::time::Instant::now(),
            rate: Rate(drift_ppm),
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

    /// A new thread for a user's actor, whichever thread asks for it.
    pub(crate) fn fresh(&self) -> io::Result<OwnThread> {
        if self.arbiters.is_empty() {
            return Ok(OwnThread(None));
        }
        match &self.system {
            Some(system) if System::try_current().is_none() => {
                fresh_of(system.clone()).map(|arbiter| OwnThread(Some(arbiter)))
            }
            _ => Arbiter::try_new().map(|arbiter| OwnThread(Some(arbiter))),
        }
    }

    /// The place of the next session: in turn.
    pub(crate) fn spread(&self, _key: u64) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed) % self.len()
    }

    /// Time since the messenger started, by its clock.
    pub(crate) fn now(&self) -> Time {
        Time(self.rate.shown(self.origin.elapsed().as_nanos() as u64))
    }

    /// The instant from which on it is `time`, for a timer.
    pub(crate) fn instant(&self, time: Time) -> tokio::time::Instant {
        self.origin + Duration::from_nanos(self.rate.real(time.0))
    }

    /// Stops the threads; their actors are gone already.
    pub(crate) fn stop(&self) {
        for arbiter in &self.arbiters {
            arbiter.stop();
        }
    }
}

/// An arbiter of `system`, for a thread that is of none. A thread is of its system for ever: so another
/// one asks, and not the user's.
#[allow(clippy::disallowed_methods, reason = "this is the reactor")]
fn fresh_of(system: System) -> io::Result<Arbiter> {
    let ask = move || {
        System::set_current(system);
        Arbiter::try_new()
    };
    let asked = thread::Builder::new().spawn(ask)?.join();
    asked.unwrap_or_else(|_| Err(io::Error::other("whoever asked for the thread has panicked")))
}

/// How fast a clock runs: millionths too fast. In production 0, which costs a comparison.
#[derive(Clone, Copy, Debug)]
struct Rate(i32);

const MILLION: u128 = 1_000_000;

impl Rate {
    /// What it shows while a million go by; never 0.
    fn per_million(self) -> u128 {
        (i64::from(self.0) + 1_000_000).max(1) as u128
    }

    /// What the clock shows after so many nanoseconds.
    #[inline]
    fn shown(self, real: u64) -> u64 {
        if self.0 == 0 {
            return real;
        }
        (u128::from(real) * self.per_million() / MILLION) as u64
    }

    /// The first nanosecond at which it shows that: never earlier, or a timer would fire for
    /// nothing.
    #[inline]
    fn real(self, shown: u64) -> u64 {
        if self.0 == 0 {
            return shown;
        }
        let real = (u128::from(shown) * MILLION).div_ceil(self.per_million());
        u64::try_from(real).unwrap_or(u64::MAX)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_of_a_clock_that_drifts_fires_when_it_is_due_and_not_before() {
        for drift in [0, 1, -1, 333, -333, 100_000, -100_000] {
            let rate = Rate(drift);
            for shown in [0, 1, 2, 999_999, 1_000_001, 5_000_000_000, u64::MAX >> 20] {
                let real = rate.real(shown);
                assert!(rate.shown(real) >= shown, "{drift} ppm, {shown}: at {real}");
                assert!(real == 0 || rate.shown(real - 1) < shown.max(1), "{drift} ppm, {shown}");
            }
        }
        assert_eq!(Rate(100_000).real(11_000), 10_000);
        assert_eq!(Rate(-500_000).shown(10), 5);
    }
}
