//! What came of a trial, and what of it did not hold.

use serde::Serialize;

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Report {
    /// Objects stored, and their bytes.
    pub(crate) objects: u64,
    pub(crate) bytes: u64,
    /// Copies of each.
    pub(crate) replicas: u64,
    /// Copies that were read back and are what was stored.
    pub(crate) verified: u64,
    /// Copies that are not there, and messages that never came.
    pub(crate) lost: u64,
    /// Messages that came twice.
    pub(crate) duplicated: u64,
    /// Messages that came after a later one.
    pub(crate) reordered: u64,
    /// Copies, or messages, that are not what was stored or sent.
    pub(crate) corrupt: u64,
    /// Links cut with work in flight.
    pub(crate) link_cuts: u64,
    /// For each: messages that were sent, or queued, and not acknowledged.
    pub(crate) unacked_at_cut: Vec<u64>,
    /// The same, with names.
    pub(crate) cuts: Vec<String>,
    /// Links cut while only answers were under way, which the sender need not keep in its outbox.
    pub(crate) idle_cuts: u64,
    /// Over all sessions of OSDs and client.
    pub(crate) resumes: u64,
    pub(crate) replayed: u64,
    pub(crate) deduplicated: u64,
    /// Actors, and processes, that came back.
    pub(crate) restarts: u64,
    /// Processes that were killed.
    pub(crate) kills: u64,
    /// Writes that the client tried again, and those of them that were found stored.
    pub(crate) retries: u64,
    pub(crate) repeated: u64,
    /// Peers that had to wait until an OSD had their map.
    pub(crate) held: u64,
    /// Messages checked for order and repetition.
    pub(crate) checked: u64,
    /// Objects that could not be read where they came from, and why.
    pub(crate) unreadable: Vec<String>,
    /// What did not hold. Empty: all did.
    pub(crate) failures: Vec<String>,
    /// Time for storing, for verifying, and for all.
    pub(crate) store_seconds: f64,
    pub(crate) verify_seconds: f64,
    pub(crate) seconds: f64,
}

impl Report {
    /// Whether everything held.
    pub(crate) fn holds(&self) -> bool {
        self.failures.is_empty()
    }

    /// Says what did not hold.
    pub(crate) fn judge(&mut self) {
        let copies = self.objects * self.replicas;
        let bad = [
            (self.lost > 0, format!("{} copies or messages lost", self.lost)),
            (self.duplicated > 0, format!("{} messages delivered twice", self.duplicated)),
            (self.reordered > 0, format!("{} messages out of order", self.reordered)),
            (self.corrupt > 0, format!("{} copies or messages corrupt", self.corrupt)),
            (self.verified != copies, format!("{} of {copies} copies verified", self.verified)),
            (self.link_cuts == 0, "no link was cut with work in flight".into()),
            (self.unacked_at_cut.contains(&0), "a link was cut with nothing in flight".into()),
            (self.restarts == 0, "no actor was restarted".into()),
        ];
        self.failures = bad.into_iter().filter(|(bad, _)| *bad).map(|(_, what)| what).collect();
    }
}
