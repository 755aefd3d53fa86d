//! The witness: what really arrived, counted where the messenger has no say.
//!
//! Every write carries its place in its stream: sender, session and number, by class. Whoever
//! receives it enters it here first. So a message that the messenger lost, doubled or swapped is
//! seen whatever the store and the retries make of it later.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stellate::prelude::*;

use super::messages::{Place, Status};

/// Gaps of one stream that are remembered singly; more are only counted.
const GAPS_MAX: usize = 4096;

/// One stream.
#[derive(Debug, Default)]
struct Stream {
    newest: u64,
    gaps: BTreeSet<u64>,
    forgotten: u64,
}

/// What the place of an arrived message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    InOrder,
    Late,
    Twice,
}

impl Stream {
    fn enter(&mut self, nth: u64) -> Verdict {
        if nth > self.newest {
            for gap in self.newest + 1..nth {
                if self.gaps.len() == GAPS_MAX {
                    self.forgotten += nth - gap;
                    break;
                }
                self.gaps.insert(gap);
            }
            self.newest = nth;
            Verdict::InOrder
        } else if self.gaps.remove(&nth) {
            Verdict::Late
        } else {
            Verdict::Twice
        }
    }
}

/// Counts for one OSD. Outlives its actors: a panic forgets nothing here.
#[derive(Clone, Debug, Default)]
pub(crate) struct Witness {
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    streams: BTreeMap<(u128, u64, usize), Stream>,
    counts: Status,
}

impl Witness {
    /// A write has arrived.
    pub(crate) fn enter(&self, place: Place, class: Class) {
        let mut seen = self.lock();
        let Seen { streams, counts } = &mut *seen;
        let stream = streams.entry((place.sender, place.lane, class.index())).or_default();
        counts.checked += 1;
        match stream.enter(place.nth) {
            Verdict::InOrder => {}
            Verdict::Late => counts.reordered += 1,
            Verdict::Twice => counts.duplicated += 1,
        }
    }

    /// Its bytes were not what their checksum says.
    pub(crate) fn bad_sum(&self) {
        self.lock().counts.bad_sums += 1;
    }

    /// A retry was answered from memory.
    pub(crate) fn repeated(&self) {
        self.lock().counts.repeated += 1;
    }

    /// A peer was held.
    pub(crate) fn held(&self) {
        self.lock().counts.held += 1;
    }

    /// A session has ended: its numbers must not end with it.
    pub(crate) fn retire(&self, session: &Connection) {
        add(&mut self.lock().counts, &session.counters());
    }

    /// All counts, those of the sessions that live included.
    pub(crate) fn status(&self, messenger: &Messenger) -> Status {
        let seen = self.lock();
        let mut status = seen.counts.clone();
        status.gaps = seen.streams.values().map(|s| s.gaps.len() as u64 + s.forgotten).sum();
        drop(seen);
        for session in messenger.sessions() {
            if session.end_cause().is_none() {
                add(&mut status, &session.counters());
            }
        }
        status
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn add(status: &mut Status, counters: &Counters) {
    // A resume is sent by one side and received by the other: count it where it was sent.
    status.resumes += counters.resumes_sent;
    status.replayed += counters.replayed;
    status.deduplicated += counters.deduplicated;
    status.links_lost += counters.links_lost;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(numbers: &[u64]) -> (Vec<Verdict>, usize) {
        let mut stream = Stream::default();
        let verdicts = numbers.iter().map(|nth| stream.enter(*nth)).collect();
        (verdicts, stream.gaps.len())
    }

    #[test]
    fn what_is_missing_late_and_twice_is_told_apart() {
        use Verdict::{InOrder, Late, Twice};
        assert_eq!(verdicts(&[1, 2, 3]), (vec![InOrder; 3], 0));
        assert_eq!(verdicts(&[2, 3]), (vec![InOrder; 2], 1));
        assert_eq!(verdicts(&[1, 3, 2]), (vec![InOrder, InOrder, Late], 0));
        assert_eq!(verdicts(&[1, 2, 2]), (vec![InOrder, InOrder, Twice], 0));
        assert_eq!(verdicts(&[1, 3, 2, 2]), (vec![InOrder, InOrder, Late, Twice], 0));
    }
}
