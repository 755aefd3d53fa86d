//! What one process of a measurement is told, and what it says.
//!
//! ```text
//!   parent ── role as JSON, in the arguments ──► process
//!          ◄── {"ready": address} ── {"result": {..}} | {"error": ".."} ── lines on its stdout
//! ```
//!
//! A process ends when its stdin does, so that none outlives the measurement.
//! The peers' package has this file as well: all peers are told, and measured, in the same words.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Job {
    /// One request at a time.
    Pingpong,
    /// One way, as fast as it goes.
    Stream,
    /// `count` requests under way at any time.
    Requests,
    /// Small urgent requests while 4 MiB bodies fill the same session.
    Urgent,
    /// `count` sessions that do nothing.
    Idle,
    /// `count` sessions at once, each asked once.
    Dials,
    /// `count` sessions, one request under way on each.
    Crowd,
}

/// Which end a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Side {
    /// Listens, says where, and answers.
    Server,
    /// Drives.
    Client,
}

/// Where the user's code runs, on both ends; `Plain` for peers that have no choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Place {
    /// The handler on the session's thread; the sender too.
    Inline,
    /// The same, and links always sleep while they wait, as those of the peers do.
    InlineAsleep,
    /// The handler on a thread of its own; the sender on another than the session.
    OwnArbiter,
    /// As the peer does it.
    Plain,
}

/// The promise that our sessions give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Promise {
    /// `lossless_peer` on both ends.
    Lossless,
    /// `lossy_client` to `stateless_server`.
    Lossy,
}

/// All that a process is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Role {
    pub(crate) peer: String,
    pub(crate) job: Job,
    pub(crate) side: Side,
    pub(crate) place: Place,
    pub(crate) promise: Promise,
    /// Bytes of payload in each message.
    pub(crate) size: usize,
    /// How long to measure, after a warm-up of a fifth of it.
    pub(crate) millis: u64,
    /// Requests under way, or sessions; 1 if it does not matter.
    pub(crate) count: usize,
    /// How many clients the server is to expect.
    pub(crate) clients: usize,
    /// Where the server is.
    pub(crate) to: Option<String>,
    /// Which of the clients this is, from 0.
    pub(crate) index: u64,
}

impl Role {
    /// How long to measure.
    pub(crate) fn span(&self) -> Duration {
        Duration::from_millis(self.millis)
    }

    /// How long to warm up first.
    pub(crate) fn warm_up(&self) -> Duration {
        self.span() / 5
    }

    /// Where the server is, as a client must know.
    pub(crate) fn server(&self) -> Result<&str, String> {
        self.to.as_deref().ok_or_else(|| "a client is not told where its server is".into())
    }
}

/// What a process found out, by name.
pub(crate) type Figures = BTreeMap<String, f64>;

/// A line on stdout.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Word {
    /// It listens there.
    Ready(String),
    /// What it found out.
    Result(Figures),
    /// It failed.
    Error(String),
}

/// Says a word to the parent. One that is gone ends us by our stdin.
pub(crate) fn say(word: &Word) {
    if let Ok(line) = serde_json::to_string(word) {
        let mut stdout = std::io::stdout().lock();
        let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    }
}

/// Ends this process when its parent closes our stdin, or dies.
pub(crate) fn end_with_stdin() {
    // A process of a measurement: it has no reactor of its own for this.
    #[allow(clippy::disallowed_methods)]
    std::thread::spawn(|| {
        let mut byte = [0];
        while matches!(std::io::stdin().read(&mut byte), Ok(1..)) {}
        std::process::exit(0);
    });
}

/// The machine's clock: what is measured is real time.
#[allow(clippy::disallowed_methods)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The times that single requests took.
#[derive(Debug, Default)]
pub(crate) struct Latencies {
    nanos: Vec<u64>,
}

impl Latencies {
    pub(crate) fn note(&mut self, took: Duration) {
        self.nanos.push(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// `p50` and `p99` in nanoseconds.
    pub(crate) fn figures(mut self) -> Result<Figures, String> {
        self.nanos.sort_unstable();
        let last = self.nanos.len().checked_sub(1).ok_or("nothing was answered in time")?;
        let at = |part: usize| self.nanos[last * part / 100] as f64;
        Ok(Figures::from([("p50".into(), at(50)), ("p99".into(), at(99))]))
    }
}

/// How often a [`Rate`] looks at the clock: a look costs as much as a small message may.
const LOOK_EVERY: u64 = 64;

/// Messages a second, once they come at full speed.
#[derive(Debug)]
pub(crate) struct Rate {
    count: u64,
    warm_up: Duration,
    first: Option<Instant>,
    /// When measuring began, and what was counted before.
    began: Option<(Instant, u64)>,
}

impl Rate {
    pub(crate) fn new(warm_up: Duration) -> Self {
        Self { count: 0, warm_up, first: None, began: None }
    }

    /// One more.
    #[inline]
    pub(crate) fn note(&mut self) {
        if self.began.is_none() && self.count.is_multiple_of(LOOK_EVERY) {
            let now = now();
            let first = *self.first.get_or_insert(now);
            if now - first >= self.warm_up {
                self.began = Some((now, self.count));
            }
        }
        self.count += 1;
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// `per_s`, and `mb_per_s` (10^6 bytes) for messages of that size.
    pub(crate) fn figures(&self, size: usize) -> Result<Figures, String> {
        let (began, before) = self.began.ok_or("too short: it ended within the warm-up")?;
        let per_s = (self.count - before) as f64 / (now() - began).as_secs_f64();
        let mb_per_s = per_s * size as f64 / 1e6;
        Ok(Figures::from([("per_s".into(), per_s), ("mb_per_s".into(), mb_per_s)]))
    }
}

/// Checks that a stream is whole: each message has the next number, its length and its last byte.
#[derive(Debug)]
pub(crate) struct Check {
    next: u64,
    size: usize,
}

/// The byte that payloads are made of.
pub(crate) const FILL: u8 = 0x5a;

impl Check {
    pub(crate) fn new(size: usize) -> Self {
        Self { next: 0, size }
    }

    #[inline]
    pub(crate) fn message(&mut self, seq: u64, len: usize, last: Option<u8>) -> Result<(), String> {
        if seq != self.next || len != self.size || last.is_some_and(|last| last != FILL) {
            let Self { next, size } = self;
            return Err(format!(
                "message {seq} of {len} bytes came where {next} of {size} was due"
            ));
        }
        self.next += 1;
        Ok(())
    }

    /// The sender says how many there were.
    pub(crate) fn end(&self, sent: u64) -> Result<(), String> {
        if sent == self.next {
            return Ok(());
        }
        Err(format!("{sent} messages were sent and {} arrived", self.next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_doubled_swapped_or_broken_message_fails_the_check() {
        let mut check = Check::new(8);
        check.message(0, 8, Some(FILL)).unwrap();
        assert!(check.message(2, 8, Some(FILL)).is_err(), "lost");
        assert!(check.message(0, 8, Some(FILL)).is_err(), "doubled");
        assert!(check.message(1, 7, Some(FILL)).is_err(), "short");
        assert!(check.message(1, 8, Some(0)).is_err(), "broken");
        check.message(1, 8, Some(FILL)).unwrap();
        assert!(check.end(3).is_err(), "the last one lost");
        check.end(2).unwrap();
    }

    #[test]
    fn percentiles_are_of_what_was_noted() {
        let mut times = Latencies::default();
        (1..=101).rev().for_each(|nanos| times.note(Duration::from_nanos(nanos)));
        let figures = times.figures().unwrap();
        assert_eq!((figures["p50"], figures["p99"]), (51.0, 100.0));
        assert!(Latencies::default().figures().is_err());
    }
}
