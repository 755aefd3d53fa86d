//! A drill: a cluster whose actors do nothing but send each other numbered messages in all classes,
//! with checkers for every promise. What `stellate sim` runs.
//!
//! ```text
//!   seed ── Draw ──► Case ── run ──► Cluster, Promises ──► Report
//!                     ▲                                      │ a breach
//!                     └──────────────── shrink ◄─────────────┘
//! ```
//!
//! A [`Case`] is plain data: it can be written out, cut down, and read again.

mod actor;
mod away;
mod case;
mod draw;
mod fuse;
mod lane;
mod pieces;
mod poison;
mod promises;
mod shrink;
mod silence;
pub(crate) mod text;
mod told;
mod unreached;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use stellate_protocol::Class;

pub use self::case::{
    Admission, COUNT_MAX, Case, CaseError, DRIFT_MAX, Does, FUSE_MAX, HangUp, LEN_MAX, Mail,
    NODES_MAX, Node, OPS_MAX, Op, Pace, SPAN_MAX,
};
pub use self::draw::{Draw, Mix};
use self::poison::Tally;
use self::promises::Promises;
pub use self::shrink::Shrunk;
pub use self::unreached::UNREACHED;
use super::cluster::{Action, Cluster, Outcome, Running, Skew};

/// What came of a case.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// What came of the run.
    pub outcome: Outcome,
    /// Messages that handlers were called with.
    pub messages: u64,
}

impl Case {
    /// Runs it, on this thread, with the checkers for S1 to S9 and V1 to V3.
    ///
    /// # Errors
    /// [`CaseError`] if it makes no sense.
    pub fn run(&self) -> Result<Report, CaseError> {
        self.run_as(|cluster| cluster)
    }

    /// The same, with its cluster changed first: say recorded, which changes nothing in the run.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_as(&self, change: impl FnOnce(Cluster) -> Cluster) -> Result<Report, CaseError> {
        self.check()?;
        let delivered = Arc::new(AtomicU64::new(0));
        let tally = Arc::new(Tally::new(self));
        let shared = Rc::new(self.clone());
        let mut cluster = Cluster::new(self.order)
            .fabric(self.fabric()?)
            .quality(self.quality)
            .script(self.script.clone())
            .checker(Promises::new(self, delivered.clone(), tally.clone()))
            .settle_within(self.settles_within());
        for node in &self.nodes {
            let case = shared.clone();
            cluster = cluster
                .node(node.name, move |handle| actor::boot(handle, case.clone()))
                .skew(node.name, Skew { offset_ms: node.clock_ms, drift_ppm: node.drift_ppm });
        }
        let until = self.ends_at();
        let outcome = change(cluster).run(async move |running: Running| {
            let left = until.saturating_sub(running.elapsed());
            let watched = silence::watch(&running, &shared);
            let counted = poison::watch(&running, &shared, &tally);
            futures::future::join3(running.sleep(left), watched, counted).await;
        });
        Ok(Report { outcome, messages: delivered.load(Ordering::Relaxed) })
    }

    /// S8: deadline, back-off and race, and what the case itself adds: handlers that keep messages,
    /// and ways that take few bytes.
    fn settles_within(&self) -> Duration {
        let limits = self.limits();
        let noticed = limits.heartbeat_deadline.max(limits.hello_timeout);
        let mut added = Duration::from_secs(1);
        for mail in self.ops.iter().filter_map(|op| op.does.mail()) {
            let window = limits.window_messages[Class::Control.index()].max(1);
            let rounds = mail.count.div_ceil(window);
            let turns = if mail.blocks { mail.count } else { rounds };
            added += Duration::from_millis(u64::from(mail.hold_ms)) * turns;
            if let Some(bandwidth) = self.quality.bandwidth {
                let bytes = u64::from(mail.count) * (u64::from(mail.len) + 128);
                added += Duration::from_millis(bytes / u64::from(bandwidth.max(1)));
            }
        }
        let held = self.nodes.iter().map(|node| match node.admission {
            Admission::Holds { ms } => u64::from(ms),
            _ => 0,
        });
        added += Duration::from_millis(held.max().unwrap_or_default());
        if self.nodes.iter().any(|node| node.admission != Admission::Open) {
            // A ticket that dies with its actor leaves its peer held until this refuses it.
            added += self.at_most(limits.hold_max);
        }
        let stray = |op: &Op| match op.does {
            Does::Stray { ms, .. } => u64::from(ms),
            _ => 0,
        };
        added += Duration::from_millis(self.ops.iter().map(stray).max().unwrap_or_default());
        let steps = self.script.steps();
        if steps.iter().any(|step| matches!(step.action, Action::Twin { .. })) {
            // What was sent to a twin that is gone waits for nobody.
            added += limits.standby_max;
        }
        self.at_most(noticed + limits.backoff_max.mul_f64(1.5) + limits.race_wait) + added
    }
}
