//! What is left of a seed that failed: the faults that it takes, as a file.

use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::testing::cluster::played_instead;
use crate::testing::shrink::leave_out;
use crate::testing::{Breach, Outcome, Script};

/// A seed, and the faults that are played with it in place of those that the test has for it. It is
/// written as JSON and read again, so a failure that was understood can be kept as a test, whatever
/// the seed gives later:
///
/// ```no_run
/// # use stellate::testing::{Blueprint, FaultCase, Outcome};
/// # fn run(seed: u64, record: usize) -> Outcome {
/// #     Blueprint::new().simulate(seed).record(record).run(async |_| ())
/// # }
/// let text = std::fs::read_to_string("tests/cases/lost_sum.json").unwrap();
/// let case: FaultCase = text.parse().unwrap();
/// case.play(|seed| run(seed, 0)).assert_held();
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultCase {
    /// The seed.
    pub seed: u64,
    /// What was broken, for who reads it.
    #[serde(default)]
    pub breach: String,
    /// What goes wrong.
    pub script: Script,
}

impl FaultCase {
    /// Gives the seed to `run`, and has every cluster that it runs on this thread play the case's
    /// script in place of its own.
    ///
    /// # Panics
    /// If `run` does, or runs no cluster on this thread.
    #[track_caller]
    pub fn play(&self, run: impl FnOnce(u64) -> Outcome) -> Outcome {
        let played = played_instead(&self.script, || run(self.seed));
        played.unwrap_or_else(|| panic!("a cluster on another thread does not play the case"))
    }

    /// Leaves out faults of a run that failed while what is left breaks the same promise, in at most
    /// `runs_max` runs. Also says how many runs that took.
    ///
    /// `run` runs a cluster from the seed; it may panic, which is another failure than the one looked at.
    ///
    /// # Errors
    /// In words: with its own faults as they stand in a file, the run does not fail so.
    pub(super) fn cut(
        seed: u64,
        (breach, whole): (&Breach, &Script),
        runs_max: u32,
        run: impl Fn(u64) -> Outcome,
    ) -> Result<(Self, u32), String> {
        let runs = Cell::new(0);
        let fails = |case: &Self| {
            runs.set(runs.get() + 1);
            let run = AssertUnwindSafe(|| played_instead(&case.script, || run(seed)));
            let outcome = catch_unwind(run).ok()??;
            let found = outcome.breach.filter(|found| found.invariant == breach.invariant);
            found.map(|found| found.to_string())
        };
        let case = Self { seed, breach: breach.to_string(), script: whole.clone() };
        let mut case: Self = case.to_string().parse().map_err(|error| format!("{error}"))?;
        case.breach = fails(&case).ok_or_else(|| {
            format!(
                "with the same faults from a file, in milliseconds, and on this thread, it does not \
                 break {}",
                breach.invariant
            )
        })?;
        loop {
            let before = case.script.steps().len();
            leave_out(case.script.steps().to_vec(), |steps| {
                if runs.get() >= runs_max {
                    return false;
                }
                let fewer = Self { script: steps.iter().cloned().collect(), ..case.clone() };
                let Some(breach) = fails(&fewer) else { return false };
                case = Self { breach, ..fewer };
                true
            });
            // One fault less may be what another was needed for.
            if case.script.steps().len() == before || runs.get() >= runs_max {
                return Ok((case, runs.get()));
            }
        }
    }
}

impl fmt::Display for FaultCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = serde_json::to_string_pretty(self).map_err(|_| fmt::Error)?;
        f.write_str(&text)
    }
}

impl FromStr for FaultCase {
    type Err = serde_json::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        serde_json::from_str(text)
    }
}
