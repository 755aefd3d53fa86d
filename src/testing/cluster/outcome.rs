//! What came of a run.

use std::time::Duration;

use stellate_protocol::session::{Coverage, Rule, TABLE};
use stellate_transport::trace::Tape;

use super::check::Breach;
use super::running::Running;
use super::script::Script;

/// Spreads the bits of two hashes that become one.
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

/// What came of a run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// From which seed.
    pub seed: u64,
    /// The first promise that did not hold.
    pub breach: Option<Breach>,
    /// Hash over all that happened, in order (D1).
    pub trace_hash: u64,
    /// How many events the hash covers.
    pub trace_events: u64,
    /// Messages that arrived over the network, replies among them; one that came twice is two.
    pub messages: u64,
    /// Virtual time that passed.
    pub elapsed: Duration,
    /// Faults that the script injected.
    pub faults: u64,
    /// The script that was played: another than the cluster's own in a
    /// [`FaultCase`](crate::testing::FaultCase).
    pub script: Script,
    /// Rows of the session's transition table that were taken.
    pub coverage: Coverage,
    /// What happened, event by event, if [`Cluster::record`](super::Cluster::record) asked for it.
    pub tape: Option<Tape>,
}

impl Outcome {
    /// Ends all nodes, and adds up.
    pub(super) fn of(running: &Running, script: Script) -> Self {
        let net = running.net();
        let (mut trace_hash, trace_events) = (net.trace_hash(), net.trace_events());
        if let Some(nics) = &running.inner.nics {
            trace_hash = (trace_hash.rotate_left(23) ^ nics.trace_hash()).wrapping_mul(ODD);
        }
        let messages = net.messages();
        let tape = net.is_recording().then(|| net.tape());
        // That all nodes end now is no part of the run.
        net.stop_recording();
        let elapsed = running.elapsed();
        let breach = running.inner.desk.breach();
        running.end_all();
        Self {
            seed: running.inner.seed,
            breach,
            trace_hash,
            trace_events,
            messages,
            elapsed,
            faults: running.faults(),
            script,
            coverage: running.inner.desk.coverage(),
            tape,
        }
    }

    /// The names of all rows of the session's transition table, in its order.
    pub fn rows() -> Vec<String> {
        TABLE.iter().map(|rule| format!("{:?}", rule.row)).collect()
    }

    /// The names of the rows that were taken, from one phase at least.
    pub fn rows_taken(&self) -> Vec<String> {
        let taken =
            |rule: &&Rule| rule.from.iter().any(|from| self.coverage.contains(rule.row, *from));
        TABLE.iter().filter(taken).map(|rule| format!("{:?}", rule.row)).collect()
    }

    /// Whether every promise held.
    pub fn held(&self) -> bool {
        self.breach.is_none()
    }

    /// For tests.
    ///
    /// # Panics
    /// If a promise did not hold, with the seed and what was seen.
    pub fn assert_held(&self) {
        if let Some(breach) = &self.breach {
            panic!("seed {}: {breach}", self.seed);
        }
    }
}
