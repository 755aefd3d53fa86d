//! `stellate sim`: drawn clusters in virtual time, many seeds over all cores, every promise checked.

#[path = "sim/panics.rs"]
pub(crate) mod panics;
#[path = "sim/sum.rs"]
mod sum;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use indicatif::{ProgressBar, ProgressStyle};
use stellate::testing::Breach;
use stellate::testing::drill::{Case, Shrunk};

use self::sum::{Failure, Sum};
use super::report::{Ended, Trouble};
use super::shape::Shape;

/// Longest case file that is read: 256 MiB.
const CASE_BYTES_MAX: u64 = 256 << 20;

/// What `sim` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The one seed to run.
    #[arg(long, value_name = "N", conflicts_with = "seeds",
        value_parser = clap::value_parser!(u64).range(..u64::MAX))]
    seed: Option<u64>,

    /// The seeds to run, the last not among them.
    #[arg(long, value_name = "A..B", default_value = "0..100")]
    seeds: Seeds,

    /// Run one case again, from its file.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seed", "seeds"])]
    case: Option<PathBuf>,

    #[command(flatten)]
    shape: Shape,

    /// Threads; one a core, if nothing is said.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=512))]
    jobs: Option<u16>,

    /// Where the cases of failing seeds are written.
    #[arg(long, value_name = "DIR", default_value = ".")]
    cases: PathBuf,

    /// Most runs that cutting one failing case down may take; 0 leaves it as it was drawn.
    #[arg(long, value_name = "N", default_value_t = 500)]
    shrink: u32,

    /// Keep each so manieth message from the checkers, to show that they notice.
    #[arg(long, value_name = "N", default_value_t = 0)]
    sabotage: u32,

    /// Fail too if a row of the session's transition table was not taken that can be.
    #[arg(long)]
    cover: bool,
}

/// `A..B`.
#[derive(Clone, Copy, Debug)]
struct Seeds {
    from: u64,
    to: u64,
}

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ends = text.split_once("..").ok_or("two numbers, as in 0..100")?;
        let number = |text: &str| text.parse().map_err(|_| format!("{text:?} is no number"));
        let (from, to) = (number(ends.0)?, number(ends.1)?);
        if from >= to {
            return Err("the first seed is below the last".into());
        }
        Ok(Self { from, to })
    }
}

/// Runs the simulations.
pub(crate) fn run(args: &Args, json: bool) -> Ended {
    panics::listen();
    let seeds = match args.seed {
        Some(seed) => Seeds { from: seed, to: seed.saturating_add(1) },
        None => args.seeds,
    };
    if let Some(path) = &args.case {
        return run_case(path, json);
    }
    // Told first, so that a run that is cut short can be had again.
    eprintln!("stellate: seeds from {}", seeds.from);
    let bar = bar(seeds.to - seeds.from, json);
    let begin = tokio::time::Instant::now();
    let mut sum = Sum::default();
    let failed = run_all(args, seeds, &bar, &mut sum)?;
    bar.finish_and_clear();
    for (seed, case) in failed {
        sum.failures.push(keep(args, seed, &case, json)?);
    }
    sum.wall_seconds = begin.elapsed().as_secs_f64();
    sum.tell(json);
    Ok(sum.failures.is_empty() && (!args.cover || sum.covers()))
}

/// Reads a case from its file.
///
/// # Errors
/// What is wrong with it, and where.
pub(super) fn read_case(path: &Path) -> Result<Case, Trouble> {
    let trouble =
        |error: &dyn std::fmt::Display| Trouble::new(format!("{}: {error}", path.display()));
    let size = std::fs::metadata(path).map_err(|error| trouble(&error))?.len();
    if size > CASE_BYTES_MAX {
        return Err(trouble(&format!("a case has at most {CASE_BYTES_MAX} bytes, not {size}")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| trouble(&error))?;
    let no_case = |error: &dyn std::fmt::Display| {
        Trouble::new(format!("{} is no case: {error}", path.display()))
    };
    let case: Case = serde_json::from_str(&text).map_err(|error| no_case(&error))?;
    case.check().map_err(|error| no_case(&error))?;
    Ok(case)
}

fn run_case(path: &Path, json: bool) -> Ended {
    let case = read_case(path)?;
    let begin = tokio::time::Instant::now();
    let mut sum = Sum::default();
    let breach = match panics::caught(|| case.run()) {
        Ok(ran) => {
            let report = ran?;
            sum.add(case.order, &report);
            report.outcome.breach
        }
        Err(text) => Some(Breach::new("panic", text)),
    };
    sum.close();
    let command = format!("cargo stellate replay {}", path.display());
    let failed = |breach| {
        let (seed, case) = (case.order, Some(path.to_owned()));
        Failure { seed, breach, case, command }
    };
    sum.failures.extend(breach.map(failed));
    sum.wall_seconds = begin.elapsed().as_secs_f64();
    sum.tell(json);
    Ok(sum.failures.is_empty())
}

/// Every seed once, over all threads: each has a runtime, a network and a clock of its own for
/// each run, so that neither their number nor their speed changes what a seed does (D1).
fn run_all(
    args: &Args,
    seeds: Seeds,
    bar: &ProgressBar,
    sum: &mut Sum,
) -> Result<Vec<(u64, Case)>, Trouble> {
    let (next, stop) = (AtomicU64::new(seeds.from), AtomicBool::new(false));
    let all = Mutex::new((sum, Vec::new(), None));
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.to {
                return;
            }
            let case = drawn(args, seed);
            let ran = panics::caught(|| case.run());
            let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
            match ran {
                Ok(Ok(report)) => {
                    if report.outcome.breach.is_some() {
                        all.1.push((seed, case));
                    }
                    all.0.add(seed, &report);
                }
                Ok(Err(error)) => {
                    all.2 = Some(Trouble::new(format!("seed {seed}: {error}")));
                    stop.store(true, Ordering::Relaxed);
                }
                Err(_) => all.1.push((seed, case)),
            }
            bar.set_message(format!("{} failed", all.1.len()));
            bar.inc(1);
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let jobs = args.jobs.map_or(cores, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (1..jobs).map(|_| scope.spawn(work)).collect();
        work();
        drop(workers);
    });
    let (sum, mut failed, trouble) = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    sum.close();
    failed.sort_by_key(|(seed, _)| *seed);
    trouble.map_or(Ok(failed), Err)
}

fn drawn(args: &Args, seed: u64) -> Case {
    Case { sabotage: args.sabotage, ..args.shape.draw().case(seed) }
}

/// What a case breaks, panics of the messenger's own among it.
fn breaks(case: &Case) -> Option<Breach> {
    match panics::caught(|| case.run()) {
        Ok(ran) => ran.ok()?.outcome.breach,
        Err(text) => Some(Breach::new("panic", text)),
    }
}

/// Cuts a failing case down, and writes it where it can be replayed from.
fn keep(args: &Args, seed: u64, case: &Case, json: bool) -> Result<Failure, Trouble> {
    let bar = bar(u64::from(args.shrink.max(1)), json);
    bar.set_message(format!("seed {seed}"));
    let shrunk = case.shrink(args.shrink.max(1), &mut |case| {
        bar.inc(1);
        breaks(case)
    });
    bar.finish_and_clear();
    let Some(Shrunk { case, breach, .. }) = shrunk else {
        // It broke once, and not again: the run does not depend on the seed alone.
        let text = "failed, and not again: something breaks determinism";
        let breach = Breach::new("D1", text);
        return Ok(Failure {
            seed,
            breach,
            case: None,
            command: format!("stellate sim --seed {seed}"),
        });
    };
    let path = args.cases.join(format!("sim-{seed}.json"));
    let mut text = serde_json::to_string_pretty(&case)?;
    text.push('\n');
    std::fs::write(&path, text)
        .map_err(|error| Trouble::new(format!("cannot write {}: {error}", path.display())))?;
    let command = format!("cargo stellate replay {}", path.display());
    Ok(Failure { seed, breach, case: Some(path), command })
}

fn bar(len: u64, json: bool) -> ProgressBar {
    if json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(len);
    // A template that is wrong would be seen at once, and the default does as well.
    if let Ok(style) = ProgressStyle::with_template("{msg:>12} {bar:40} {pos}/{len} {elapsed}") {
        bar.set_style(style);
    }
    bar
}
