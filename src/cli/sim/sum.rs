//! What all runs together came to, for people and for programs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use stellate::testing::drill::{Report, UNREACHED};
use stellate::testing::{Breach, Outcome};

use crate::cli::report::print_json;

/// A seed that did not hold.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) seed: u64,
    pub(super) breach: Breach,
    /// The case that is left of it.
    pub(super) case: Option<PathBuf>,
    /// What shows it again.
    pub(super) command: String,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Sum {
    pub(super) failures: Vec<Failure>,
    pub(super) wall_seconds: f64,
    hashes: BTreeMap<u64, u64>,
    messages: u64,
    faults: u64,
    /// Whole ticks: a sum of floats would depend on who was done first (D1).
    virtual_time: Duration,
    rows: BTreeSet<String>,
    trace_hash: u64,
}

impl Sum {
    pub(super) fn add(&mut self, seed: u64, report: &Report) {
        self.hashes.insert(seed, report.outcome.trace_hash);
        self.messages += report.messages;
        self.faults += report.outcome.faults;
        self.virtual_time += report.outcome.elapsed;
        self.rows.extend(report.outcome.rows_taken());
    }

    /// All hashes in one, in the order of their seeds: the same whoever was done first.
    pub(super) fn close(&mut self) {
        let mut hashes = self.hashes.values();
        self.trace_hash = match (hashes.len(), hashes.next()) {
            (1, Some(hash)) => *hash,
            _ => self.hashes.values().fold(0xcbf2_9ce4_8422_2325, |all, hash| {
                (all ^ hash).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23)
            }),
        };
    }

    /// How many ran. One that panicked has no hash, and is a failure.
    fn seeds(&self) -> usize {
        let without = |failure: &&Failure| !self.hashes.contains_key(&failure.seed);
        self.hashes.len() + self.failures.iter().filter(without).count()
    }

    /// Rows of the table that were not taken: all of them, and those that should have been.
    fn never(&self) -> (Vec<String>, Vec<String>) {
        let rows = Outcome::rows().into_iter();
        let never: Vec<String> = rows.filter(|row| !self.rows.contains(row)).collect();
        let known =
            |row: &&String| UNREACHED.iter().any(|(known, _)| format!("{known:?}") == **row);
        let missed = never.iter().filter(|row| !known(row)).cloned().collect();
        (never, missed)
    }

    /// Whether every row was taken but those that no simulation takes, and none of those was.
    pub(super) fn covers(&self) -> bool {
        let (never, missed) = self.never();
        missed.is_empty() && never.len() == UNREACHED.len()
    }

    pub(super) fn tell(&self, json: bool) {
        let total = Outcome::rows().len();
        let (never, missed) = self.never();
        let hit = total - never.len();
        if json {
            let failures: Vec<_> = self.failures.iter().map(Failure::document).collect();
            return print_json(&json!({
                "seeds": self.seeds(),
                "failures": failures,
                "messages": self.messages,
                "faults_injected": self.faults,
                "virtual_seconds": self.virtual_time.as_secs_f64(),
                "wall_seconds": self.wall_seconds,
                "trace_hash": format!("{:016x}", self.trace_hash),
                "coverage": { "hit": hit, "total": total, "never": never, "missed": missed },
            }));
        }
        println!(
            "ran       {} seeds, {:.0} s of virtual time in {:.1} s",
            self.seeds(),
            self.virtual_time.as_secs_f64(),
            self.wall_seconds
        );
        println!("messages  {}, {} faults injected", self.messages, self.faults);
        println!("table     {hit} of {total} rows taken");
        if !never.is_empty() {
            println!("never     {}", never.join(", "));
        }
        for (row, why) in UNREACHED {
            let row = format!("{row:?}");
            if self.rows.contains(&row) {
                println!("TAKEN     {row}, which is marked as unreached: {why}");
            }
        }
        println!("trace     {:016x}", self.trace_hash);
        for Failure { seed, breach, command, .. } in &self.failures {
            println!("FAILED    seed {seed}: {breach}\n          {command}");
        }
        if self.failures.is_empty() {
            println!("all held");
        }
    }
}

impl Failure {
    fn document(&self) -> serde_json::Value {
        json!({
            "seed": self.seed,
            "invariant": self.breach.invariant,
            "at": self.breach.at.as_secs_f64(),
            "case": self.case.as_ref().map(|path| path.display().to_string()),
            "command": self.command,
        })
    }
}
