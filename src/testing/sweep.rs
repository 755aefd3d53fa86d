//! Many seeds, one after the other; the first that fails is run again, recorded and drawn.

use std::ops::Range;
use std::path::{Path, PathBuf};

use stellate_transport::trace::{TAPE_EVENTS_MAX, Tape};

use super::chart::Chart;
use super::cluster::Outcome;

/// The variable that names the one seed to run, recorded and drawn whether it holds or not.
pub const SEED_VARIABLE: &str = "STELLATE_SEED";

/// The variable that names the directory for lines and charts; the system's one for temporary
/// files, if it is not set.
pub const CHARTS_VARIABLE: &str = "STELLATE_CHARTS";

/// Runs a cluster from each of these seeds, until one fails. That one is run again and recorded:
/// its lines and its chart are written, and the message of the panic says where, and how to have
/// them again. With `STELLATE_SEED=N` in the environment, that seed alone is run so.
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
/// If a promise does not hold; if the same seed gives another run the second time (D1), since then
/// something in it depends on more than the seed; if `run` does.
#[track_caller]
pub fn sweep(seeds: Range<u64>, run: impl Fn(u64, usize) -> Outcome) {
    if let Ok(only) = std::env::var(SEED_VARIABLE) {
        let seed = only.parse();
        let seed = seed.unwrap_or_else(|_| panic!("{SEED_VARIABLE} is no number: {only:?}"));
        let outcome = run(seed, TAPE_EVENTS_MAX);
        println!("{}", told(&outcome));
        return outcome.assert_held();
    }
    let first = seeds.start;
    for seed in seeds {
        let outcome = run(seed, 0);
        if seed == first && outcome.breach.is_none() {
            let again = run(seed, 0);
            assert_eq!(
                (again.trace_hash, again.trace_events),
                (outcome.trace_hash, outcome.trace_events),
                "seed {seed} run again was another run (D1): something in it depends on more than \
                 the seed, such as a clock, a thread or a hash map's order"
            );
        }
        let Some(breach) = &outcome.breach else { continue };
        let again = run(seed, TAPE_EVENTS_MAX);
        assert_eq!(
            (again.trace_hash, again.trace_events),
            (outcome.trace_hash, outcome.trace_events),
            "seed {seed}: {breach}; but run again it was another run (D1): something in it depends \
             on more than the seed, such as a clock, a thread or a hash map's order"
        );
        panic!(
            "seed {seed}: {breach}\n{}\nagain: {SEED_VARIABLE}={seed}, and this test",
            told(&again)
        );
    }
}

/// Writes what was recorded, and says where.
fn told(outcome: &Outcome) -> String {
    let Some(tape) = &outcome.tape else {
        return "nothing was recorded: give `record` to `Cluster::record`".into();
    };
    let place = std::env::var_os(CHARTS_VARIABLE).map_or_else(std::env::temp_dir, PathBuf::from);
    match save(&place, outcome, tape) {
        Ok((lines, chart)) => format!("lines: {}\nchart: {}", lines.display(), chart.display()),
        Err(error) => format!("nothing could be written to {}: {error}", place.display()),
    }
}

fn save(place: &Path, outcome: &Outcome, tape: &Tape) -> std::io::Result<(PathBuf, PathBuf)> {
    std::fs::create_dir_all(place)?;
    let name = |extension| place.join(format!("seed-{}.{extension}", outcome.seed));
    let (lines, chart) = (name("txt"), name("html"));
    std::fs::write(&lines, tape.to_string())?;
    Chart::of(tape)
        .title(format!("seed {}", outcome.seed))
        .fact("seed", outcome.seed)
        .fact("trace hash", format_args!("{:016x}", outcome.trace_hash))
        .fact("faults", outcome.faults)
        .save(&chart)?;
    Ok((lines, chart))
}
