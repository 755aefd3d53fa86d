//! Many seeds, one after the other; the first that fails is run again, recorded and drawn, and its
//! faults are cut down to those that it takes.
//!
//! ```text
//!   seeds ── run ──► Outcome ── a breach ──► again, recorded ──► lines, chart
//!                                   └──────► again and again, with fewer faults ──► FaultCase
//! ```

mod case;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use stellate_transport::trace::{TAPE_EVENTS_MAX, Tape};

use super::chart::Chart;
use super::cluster::{Breach, Outcome, are_breaches};

pub use self::case::FaultCase;

/// The variable that names the one seed to run, recorded and drawn whether it holds or not.
pub const SEED_VARIABLE: &str = "STELLATE_SEED";

/// The variable that names other seeds than a test's own, as `A..B`: from `A`, and below `B`.
pub const SEEDS_VARIABLE: &str = "STELLATE_SEEDS";

/// The variable that names the file of a [`FaultCase`] to run, recorded and drawn as one seed is.
pub const CASE_VARIABLE: &str = "STELLATE_CASE";

/// The variable that names the directory for lines, charts and cases; the system's one for temporary
/// files, if it is not set. They are called `seed-N`, and those of a second test of the process that
/// has that seed `seed-N.TEST`; whoever writes them says so.
pub const CHARTS_VARIABLE: &str = "STELLATE_CHARTS";

/// Runs that looking for fewer faults may take, if nothing is said.
pub const SHRINK_RUNS: u32 = 100;

/// Runs a cluster from each of these seeds, until one fails. That one is run again and recorded:
/// its lines and its chart are written. Then faults are left out of its script for as long as it
/// breaks the same promise, and what is left is written as a [`FaultCase`]. The message of the panic
/// says where all that is, and how to have the run again.
///
/// In the environment, `STELLATE_SEED=N` has that seed alone run and recorded, `STELLATE_CASE=FILE`
/// a case, and `STELLATE_SEEDS=A..B` has other seeds swept.
///
/// `run` makes the cluster of a seed, records so many events with
/// [`Cluster::record`](super::Cluster::record), and runs it:
///
/// ```no_run
/// # use stellate::testing::{Blueprint, sweep};
/// # fn blueprint() -> Blueprint { Blueprint::new() }
/// sweep(0..100, |seed, record| {
///     blueprint().simulate(seed).record(record).run(async |cluster| {
///         // What the test does to it.
///     })
/// });
/// ```
///
/// # Panics
/// If a promise does not hold, or what the test does to the cluster panics, say in an `assert!`, which
/// is a breach as any other; if the same seed gives another run the second time (D1), since then
/// something in it depends on more than the seed; if `run` does; if a variable makes no sense.
#[track_caller]
pub fn sweep(seeds: Range<u64>, run: impl Fn(u64, usize) -> Outcome) {
    Sweep::new(seeds).run(run);
}

/// A [`sweep`], with more to say about it.
#[derive(Clone, Debug)]
#[must_use = "nothing happens before `run`"]
pub struct Sweep {
    seeds: Range<u64>,
    shrink_runs: u32,
}

impl Sweep {
    /// Of these seeds.
    pub fn new(seeds: Range<u64>) -> Self {
        Self { seeds, shrink_runs: SHRINK_RUNS }
    }

    /// How many runs looking for fewer faults may take, [`SHRINK_RUNS`] if nothing is said; with 0
    /// nobody looks, and no case is written.
    pub fn shrink_runs(mut self, max: u32) -> Self {
        self.shrink_runs = max;
        self
    }

    /// Does it; see [`sweep`].
    ///
    /// # Panics
    /// As [`sweep`].
    #[track_caller]
    pub fn run(self, run: impl Fn(u64, usize) -> Outcome) {
        let run = |seed, record| are_breaches(|| run(seed, record));
        if let Ok(path) = std::env::var(CASE_VARIABLE) {
            return replay(Path::new(&path), run);
        }
        if let Ok(only) = std::env::var(SEED_VARIABLE) {
            let seed = only.parse();
            let seed = seed.unwrap_or_else(|_| panic!("{SEED_VARIABLE} is no number: {only:?}"));
            let outcome = run(seed, TAPE_EVENTS_MAX);
            println!("{}", told(&outcome, &stem(seed)));
            return outcome.assert_held();
        }
        let seeds = asked_for().unwrap_or(self.seeds);
        let first = seeds.start;
        for seed in seeds {
            let says = SaysWhich(seed);
            let outcome = run(seed, 0);
            if seed == first && outcome.breach.is_none() {
                same(seed, &run(seed, 0), &outcome);
            }
            drop(says);
            if let Some(breach) = &outcome.breach {
                let again = run(seed, TAPE_EVENTS_MAX);
                same(seed, &again, &outcome);
                let told = told(&again, &stem(seed));
                let cut = cut(&outcome, seed, breach, self.shrink_runs, run);
                panic!(
                    "seed {seed}: {breach}\n{told}\n{cut}again: {SEED_VARIABLE}={seed}, and this test"
                );
            }
        }
    }
}

/// Says from which seed the run was that panics.
struct SaysWhich(u64);

impl Drop for SaysWhich {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let seed = self.0;
            eprintln!("that was seed {seed}; again: {SEED_VARIABLE}={seed}, and this test");
        }
    }
}

/// D1: two runs of one seed are one run.
#[track_caller]
fn same(seed: u64, again: &Outcome, outcome: &Outcome) {
    let failed =
        outcome.breach.as_ref().map_or_else(String::new, |breach| format!(": {breach}; but"));
    assert_eq!(
        (again.trace_hash, again.trace_events),
        (outcome.trace_hash, outcome.trace_events),
        "seed {seed}{failed} run again was another run (D1): something in it depends on more than \
         the seed, such as a clock, a thread or a hash map's order"
    );
}

/// The seeds that the environment asks for.
#[track_caller]
fn asked_for() -> Option<Range<u64>> {
    let asked = std::env::var(SEEDS_VARIABLE).ok()?;
    let seeds =
        asked.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    let seeds = seeds.unwrap_or_else(|| panic!("{SEEDS_VARIABLE} is no range A..B: {asked:?}"));
    // A test that ran nothing would pass.
    assert!(!seeds.is_empty(), "{SEEDS_VARIABLE} has no seed in it, A must be below B: {asked:?}");
    Some(seeds)
}

/// Plays a case, records it, and says what comes of it.
#[track_caller]
fn replay(path: &Path, run: impl Fn(u64, usize) -> Outcome) {
    let text = std::fs::read_to_string(path)
        .unwrap_or_else(|error| panic!("{CASE_VARIABLE}: cannot read {}: {error}", path.display()));
    let case: FaultCase = text
        .parse()
        .unwrap_or_else(|error| panic!("{CASE_VARIABLE}: {} is no case: {error}", path.display()));
    let outcome = case.play(|seed| run(seed, TAPE_EVENTS_MAX));
    let stem =
        path.file_stem().map_or_else(|| stem(case.seed), |stem| stem.to_string_lossy().into());
    println!("{}", told(&outcome, &stem));
    outcome.assert_held();
}

/// Cuts a failure's faults down, writes what is left, and says where, and how much that is.
fn cut(
    outcome: &Outcome,
    seed: u64,
    breach: &Breach,
    runs_max: u32,
    run: impl Fn(u64, usize) -> Outcome,
) -> String {
    let all = outcome.script.steps().len();
    if runs_max == 0 || all == 0 {
        return String::new();
    }
    match FaultCase::cut(seed, (breach, &outcome.script), runs_max, |seed| run(seed, 0)) {
        Err(why) => format!("faults: not cut down: {why}\n"),
        Ok((case, runs)) => {
            let path = place().join(format!("{}-case.json", stem(seed)));
            let left = case.script.steps().len();
            let wrote = std::fs::create_dir_all(place())
                .and_then(|()| std::fs::write(&path, format!("{case}\n")));
            let at = path.display();
            let wrote = match wrote {
                Ok(()) => format!("case: {at}\nits run: {CASE_VARIABLE}={at}, and this test"),
                Err(error) => format!("nothing could be written to {at}: {error}\n{case}"),
            };
            format!(
                "faults: {left} of {all} are left after {runs} runs: {}\n{wrote}\n",
                case.breach
            )
        }
    }
}

/// What a seed's files are called: `seed-N`, or `seed-N.TEST` if another test of this process has
/// that name already, by the name of its thread.
fn stem(seed: u64) -> String {
    static FIRST: Mutex<BTreeMap<u64, String>> = Mutex::new(BTreeMap::new());
    let thread = std::thread::current();
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let plain = |letter| if is_plain(letter) { letter } else { '-' };
    let test: String = thread.name().unwrap_or("unnamed").chars().map(plain).collect();
    let mut first = FIRST.lock().unwrap_or_else(PoisonError::into_inner);
    match *first.entry(seed).or_insert_with(|| test.clone()) == test {
        true => format!("seed-{seed}"),
        false => format!("seed-{seed}.{test}"),
    }
}

fn place() -> PathBuf {
    std::env::var_os(CHARTS_VARIABLE).map_or_else(std::env::temp_dir, PathBuf::from)
}

/// Writes what was recorded, and says where.
fn told(outcome: &Outcome, stem: &str) -> String {
    let Some(tape) = &outcome.tape else {
        return "nothing was recorded: give `record` to `Cluster::record`".into();
    };
    let place = place();
    match save(&place, outcome, tape, stem) {
        Ok((lines, chart)) => format!("lines: {}\nchart: {}", lines.display(), chart.display()),
        Err(error) => format!("nothing could be written to {}: {error}", place.display()),
    }
}

fn save(
    place: &Path,
    outcome: &Outcome,
    tape: &Tape,
    stem: &str,
) -> std::io::Result<(PathBuf, PathBuf)> {
    std::fs::create_dir_all(place)?;
    let name = |extension| place.join(format!("{stem}.{extension}"));
    let (lines, chart) = (name("txt"), name("html"));
    std::fs::write(&lines, tape.to_string())?;
    Chart::of(tape)
        .title(stem.replacen('-', " ", 1))
        .fact("seed", outcome.seed)
        .fact("trace hash", format_args!("{:016x}", outcome.trace_hash))
        .fact("faults", outcome.faults)
        .save(&chart)?;
    Ok((lines, chart))
}
