//! `stellate replay`: one run again, with a line for each event, and as a chart.

use std::io::{BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::json;
use stellate::testing::drill::{Case, Report};
use stellate::testing::trace::{HEADING, Line, TAPE_EVENTS_MAX};
use stellate::testing::{Breach, Chart};

use super::report::{Ended, Trouble, print_json};
use super::shape::Shape;
use super::sim::panics;
use super::sim::read_case;

/// What `replay` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A seed, or a case file that `sim` wrote.
    #[arg(value_name = "SEED|CASE.json")]
    what: String,

    #[command(flatten)]
    shape: Shape,

    /// Write the run as a sequence chart, to look at in a browser.
    #[arg(long, value_name = "FILE.html")]
    chart: Option<PathBuf>,

    /// Print no line for each event, only what came of the run.
    #[arg(long)]
    quiet: bool,
}

/// Runs the case again.
pub(crate) fn run(args: &Args, json: bool) -> Ended {
    let case = case(args)?;
    let lines = !json && !args.quiet;
    let keep = if args.chart.is_some() { TAPE_EVENTS_MAX } else { 0 };
    let trouble = Arc::new(Mutex::new(None));
    panics::listen();
    let (ran, panic) = panics::watched(|| {
        case.run_as(|cluster| match lines {
            true => cluster.record(keep).stream(printer(trouble.clone())),
            false => cluster.record(keep),
        })
    });
    let Some(ran) = ran else {
        let what = panic.unwrap_or_else(|| "a panic that was ordered left its actor".into());
        return Err(Trouble::new(format!("the run panicked: {what}")));
    };
    let mut report = ran?;
    if let Some(text) = panic {
        // It was contained, and nobody ordered it: a failure, wherever it was.
        report.outcome.breach.get_or_insert(Breach::new("panic", text));
    }
    if let Some(error) = trouble.lock().unwrap_or_else(PoisonError::into_inner).take() {
        // Whoever read our lines has had enough: that is no trouble.
        if error != std::io::ErrorKind::BrokenPipe {
            return Err(Trouble::new(format!("cannot write lines: {error}")));
        }
    }
    if let Some(path) = &args.chart {
        draw(args, &report, path)?;
    }
    tell(args, &report, json);
    Ok(report.outcome.held())
}

fn case(args: &Args) -> Result<Case, Trouble> {
    if let Ok(seed) = args.what.parse() {
        return Ok(args.shape.draw().case(seed));
    }
    let path = Path::new(&args.what);
    if !path.exists() {
        return Err(Trouble::new(format!("{:?} is no seed, and no case file", args.what)));
    }
    read_case(path)
}

/// Prints a line for each event. The first error ends it, and is left for the caller.
fn printer(trouble: Arc<Mutex<Option<std::io::ErrorKind>>>) -> stellate::testing::trace::Sink {
    let mut out = BufWriter::with_capacity(1 << 16, std::io::stdout());
    let mut failed = writeln!(out, "{HEADING}").is_err();
    Box::new(move |names, event| {
        if failed {
            return;
        }
        if let Err(error) = writeln!(out, "{}", Line(names, event)) {
            failed = true;
            *trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.kind());
        }
    })
}

fn draw(args: &Args, report: &Report, path: &PathBuf) -> Result<(), Trouble> {
    let outcome = &report.outcome;
    let Some(tape) = &outcome.tape else {
        return Err(Trouble::new("the run was not recorded"));
    };
    let chart = Chart::of(tape)
        .title(format!("Stellate: {}", args.what))
        .fact("seed", outcome.seed)
        .fact("trace hash", format_args!("{:016x}", outcome.trace_hash))
        .fact("faults", outcome.faults)
        .fact("messages", report.messages);
    chart
        .save(path)
        .map_err(|error| Trouble::new(format!("cannot write {}: {error}", path.display())))
}

fn tell(args: &Args, report: &Report, json: bool) {
    let outcome = &report.outcome;
    let hash = format!("{:016x}", outcome.trace_hash);
    if json {
        let breach = outcome.breach.as_ref().map(|breach| {
            let at = breach.at.as_secs_f64();
            json!({ "invariant": breach.invariant, "at": at, "text": breach.text })
        });
        return print_json(&json!({
            "trace_hash": hash,
            "events": outcome.trace_events,
            "seed": outcome.seed,
            "messages": report.messages,
            "faults_injected": outcome.faults,
            "virtual_seconds": outcome.elapsed.as_secs_f64(),
            "holds": outcome.held(),
            "failure": breach,
            "chart": args.chart,
        }));
    }
    // Lines may go to a file: what came of it is told where a person sees it.
    let mut words = vec![format!(
        "{} events, {} messages, {} faults, {:.3} s of virtual time, trace hash {hash}",
        outcome.trace_events,
        report.messages,
        outcome.faults,
        outcome.elapsed.as_secs_f64()
    )];
    if let Some(path) = &args.chart {
        words.push(format!("chart     {}", path.display()));
    }
    words.push(match &outcome.breach {
        None => "all held".to_owned(),
        Some(breach) => format!("FAILED    {breach}"),
    });
    let to_stdout = args.quiet || std::io::stdout().is_terminal();
    for line in words {
        if to_stdout { println!("{line}") } else { eprintln!("{line}") }
    }
}
