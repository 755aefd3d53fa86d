//! The trial: store objects while links are cut and an actor panics, then read every copy back.
//!
//! ```text
//!   cut │ put, put, put … │ cut │ put … │ panic, kill │ put, put … │ cut │ put … ─► get every copy
//! ```
//!
//! What is counted is counted outside the messenger: by the [`witness`](super::check) of each OSD,
//! and by comparing each copy with the checksum of what was to be stored.

use std::cell::{Cell, RefCell};
use std::io;
use std::time::Duration;

use futures::future::LocalBoxFuture;
use futures::{StreamExt, TryStreamExt, stream};
use stellate::prelude::Bytes;
use tokio::time::Instant;

use super::client::{Client, GivenUp};
use super::messages::{Cut, Got};
use super::placement;
use super::report::Report;

/// Writes, and reads, at once.
const IN_FLIGHT: usize = 16;

/// A trial in which nothing moves for so long is given up.
const STUCK: Duration = Duration::from_secs(60);

/// So long an armed cut waits for something to be sent.
const PATIENCE: Duration = Duration::from_millis(500);

/// What is to be stored, and how to break things meanwhile.
pub(crate) struct Trial<'a> {
    /// Who stores it.
    pub(crate) client: Client,
    /// How many OSDs there are, numbered from 0.
    pub(crate) osds: u64,
    /// The names of the objects.
    pub(crate) names: &'a [String],
    /// The bytes of an object, by its place among the names.
    pub(crate) read: &'a dyn Fn(usize) -> io::Result<Bytes>,
    /// How many links are to be cut.
    pub(crate) cuts: usize,
    /// Done once, when half of the objects are stored.
    pub(crate) crash: Option<&'a dyn Fn() -> LocalBoxFuture<'a, Result<(), GivenUp>>>,
    /// Told of every step: what is done, of how many, and whether that is reading.
    pub(crate) progress: &'a dyn Fn(Progress),
}

/// How far it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    pub(crate) done: usize,
    pub(crate) total: usize,
    pub(crate) bytes: u64,
    pub(crate) verifying: bool,
}

/// What both halves of the storing share.
struct State {
    done: Cell<usize>,
    bytes: Cell<u64>,
    finished: Cell<bool>,
    sums: RefCell<Vec<Option<(u32, usize)>>>,
    unreadable: RefCell<Vec<String>>,
    cuts: RefCell<Vec<Cut>>,
    kills: Cell<u64>,
    /// The second half of the writes may begin.
    second_half: Cell<bool>,
}

impl Trial<'_> {
    /// Runs it.
    ///
    /// # Errors
    /// A disk takes no writes, an OSD cannot be asked, or nothing moved for a minute.
    pub(crate) async fn run(&self) -> Result<Report, GivenUp> {
        let state = State {
            done: Cell::new(0),
            bytes: Cell::new(0),
            finished: Cell::new(false),
            sums: RefCell::new(vec![None; self.names.len()]),
            unreadable: RefCell::default(),
            cuts: RefCell::default(),
            kills: Cell::new(0),
            second_half: Cell::new(false),
        };
        let begun = Instant::now();
        tokio::select! {
            stored = async { tokio::try_join!(self.trouble(&state), self.store(&state)) } => stored?,
            stuck = self.watch(&state) => return Err(stuck),
        };
        self.surely_panic().await?;
        let stored = Instant::now();
        state.finished.set(false);
        state.done.set(0);
        let mut report = tokio::select! {
            report = self.verify(&state) => report?,
            stuck = self.watch(&state) => return Err(stuck),
        };
        let ended = Instant::now();
        report.store_seconds = (stored - begun).as_secs_f64();
        report.verify_seconds = (ended - stored).as_secs_f64();
        report.seconds = (ended - begun).as_secs_f64();
        self.tally(&state, &mut report).await?;
        report.judge();
        Ok(report)
    }

    // --- storing -------------------------------------------------------------------------

    async fn store(&self, state: &State) -> Result<(), GivenUp> {
        let stored = stream::iter(0..self.names.len())
            .map(|index| self.store_one(state, index))
            .buffer_unordered(IN_FLIGHT)
            .try_for_each(|()| async { Ok(()) })
            .await;
        state.finished.set(true);
        stored
    }

    async fn store_one(&self, state: &State, index: usize) -> Result<(), GivenUp> {
        while index >= self.names.len() / 2 && !state.second_half.get() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        match (self.read)(index) {
            Ok(data) => {
                let sum = (crc32c::crc32c(&data), data.len());
                self.client.put(self.names[index].clone(), data).await?;
                state.sums.borrow_mut()[index] = Some(sum);
                state.bytes.set(state.bytes.get() + sum.1 as u64);
            }
            Err(error) => {
                let what = format!("{}: {error}", self.names[index]);
                state.unreadable.borrow_mut().push(what);
            }
        }
        self.step(state, self.names.len(), false);
        Ok(())
    }

    fn step(&self, state: &State, total: usize, verifying: bool) {
        state.done.set(state.done.get() + 1);
        let (done, bytes) = (state.done.get(), state.bytes.get());
        (self.progress)(Progress { done, total, bytes, verifying });
    }

    // --- breaking ------------------------------------------------------------------------

    /// Cuts at even distances, and the rest half-way. The first cut is armed before anything is
    /// sent, so that there is one however little there is to store.
    async fn trouble(&self, state: &State) -> Result<(), GivenUp> {
        let half = self.cuts / 2;
        for cut in 0..self.cuts.max(1) {
            self.reached(state, cut * self.names.len() / (self.cuts + 1)).await;
            if cut == half {
                self.break_an_osd(state).await?;
            }
            self.cut(state, cut).await?;
        }
        Ok(())
    }

    async fn reached(&self, state: &State, done: usize) {
        while state.done.get() < done && !state.finished.get() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn cut(&self, state: &State, cut: usize) -> Result<(), GivenUp> {
        for _ in 0..5 {
            if cut > 0 && state.finished.get() {
                return Ok(());
            }
            let cuts = if cut.is_multiple_of(2) {
                self.client.cut_here(PATIENCE).await
            } else {
                self.client.cut_at(cut as u64 / 2 % self.osds, PATIENCE).await?
            };
            let silent = cuts.is_empty();
            let loaded = cuts.iter().any(|cut| cut.unacked > 0);
            state.cuts.borrow_mut().extend(cuts);
            if loaded || silent {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn break_an_osd(&self, state: &State) -> Result<(), GivenUp> {
        // The primary of the object that comes next: it will have a write in hand.
        let next = &self.names[self.names.len() / 2];
        let victim = self.client.replicas(next)[0];
        self.client.panic_at(victim, false).await?;
        state.second_half.set(true);
        if let Some(crash) = self.crash {
            // Some writes are under way, and none has been answered that is not on disk.
            tokio::time::sleep(Duration::from_millis(3)).await;
            crash().await?;
            state.kills.set(state.kills.get() + 1);
        }
        Ok(())
    }

    /// Where too little was stored to burn the fuse, the panic comes without a write in hand.
    async fn surely_panic(&self) -> Result<(), GivenUp> {
        for osd in 0..self.osds {
            if self.client.status(osd).await?.restarts > 0 {
                return Ok(());
            }
        }
        self.client.panic_at(0, true).await?;
        while self.client.status(0).await?.restarts == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    // --- checking ------------------------------------------------------------------------

    async fn verify(&self, state: &State) -> Result<Report, GivenUp> {
        let map = self.client.map();
        let mut copies = Vec::new();
        for (name, sum) in self.names.iter().zip(&*state.sums.borrow()) {
            let Some(sum) = *sum else { continue };
            let holders = placement::replicas(&map, name);
            copies.extend(holders.into_iter().map(|osd| (osd, name, sum)));
        }
        let total = copies.len();
        let verdicts = stream::iter(copies).map(|(osd, name, (sum, len))| async move {
            let (got, data) = self.client.get(osd, name).await?;
            self.step(state, total, true);
            Ok(match got {
                Got::Found { .. } if (crc32c::crc32c(&data), data.len()) == (sum, len) => (1, 0, 0),
                Got::Missing => (0, 1, 0),
                Got::Failed { why } => return Err(GivenUp(format!("osd.{osd}: {why}"))),
                Got::Found { .. } | Got::Corrupt | Got::Other => (0, 0, 1),
            })
        });
        let add = |mut report: Report, (good, missing, bad): (u64, u64, u64)| {
            report.verified += good;
            report.lost += missing;
            report.corrupt += bad;
            std::future::ready(Ok(report))
        };
        verdicts.buffer_unordered(IN_FLIGHT).try_fold(Report::default(), add).await
    }

    async fn tally(&self, state: &State, report: &mut Report) -> Result<(), GivenUp> {
        report.objects = state.sums.borrow().iter().flatten().count() as u64;
        report.bytes = state.bytes.get();
        report.replicas = u64::from(self.client.map().replicas).min(self.osds);
        report.retries = self.client.retries();
        report.unreadable = state.unreadable.take();
        report.kills = state.kills.get();
        report.restarts = report.kills;
        for osd in 0..self.osds {
            let status = self.client.status(osd).await?;
            report.lost += status.gaps;
            report.duplicated += status.duplicated;
            report.reordered += status.reordered;
            report.corrupt += status.bad_sums;
            report.restarts += status.restarts;
            report.repeated += status.repeated;
            report.held += status.held;
            report.checked += status.checked;
            report.resumes += status.resumes;
            report.replayed += status.replayed;
            report.deduplicated += status.deduplicated;
        }
        let own = self.client.counts();
        report.resumes += own.resumes;
        report.replayed += own.replayed;
        report.deduplicated += own.deduplicated;
        for Cut { from, to, unacked } in state.cuts.take() {
            if unacked == 0 {
                report.idle_cuts += 1;
                continue;
            }
            report.link_cuts += 1;
            report.unacked_at_cut.push(unacked);
            report.cuts.push(format!("{from} - {to}: {unacked}"));
        }
        Ok(())
    }

    /// Resolves when nothing has moved for too long, and says what the messages wait for.
    async fn watch(&self, state: &State) -> GivenUp {
        let (mut last, mut since) = (state.done.get(), Instant::now());
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            if state.done.get() != last {
                (last, since) = (state.done.get(), Instant::now());
            } else if since.elapsed() > STUCK {
                let waits = self.client.messenger().sessions().into_iter();
                let waits =
                    waits.map(|session| format!("{session:?} waits for {:?}", session.why()));
                let waits: Vec<String> = waits.collect();
                return GivenUp(format!("nothing moved for {STUCK:?}: {}", waits.join("; ")));
            }
        }
    }
}
