//! The command line: one module a command, each with its `Args` and a `run`.
//!
//! Every command takes `--json`: then one JSON document goes to stdout and nothing else, and all
//! that is meant for people goes to stderr. The exit code is 0 when everything held, 1 when what
//! the command checks did not hold, 2 when it could not be run as asked.

#[path = "cli/bench.rs"]
mod bench;
#[path = "cli/demo.rs"]
mod demo;
#[path = "cli/explain.rs"]
mod explain;
#[path = "cli/replay.rs"]
mod replay;
#[path = "cli/report.rs"]
mod report;
#[path = "cli/shape.rs"]
mod shape;
#[path = "cli/sim.rs"]
mod sim;
#[path = "cli/why.rs"]
mod why;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// An actor-based messenger for distributed storage: the demonstration, the measurements, the
/// simulations.
#[derive(Debug, Parser)]
#[command(name = "stellate", version, about, max_term_width = 100)]
struct Cli {
    /// Print one JSON document on stdout, and nothing else there.
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure ours against peers, in alternating rounds of one run.
    Bench(bench::Args),
    /// One process of a measurement; told by the process that runs `bench`.
    #[command(hide = true, name = "bench-role")]
    BenchRole(bench::RoleArgs),
    /// Tell the transports that are built in, their limits, and what memory may be used.
    Explain(explain::Args),
    /// Store a directory on a small cluster, break it on purpose, and check every replica.
    Demo(demo::Args),
    /// One OSD of `demo --processes`; talks to its parent over stdin and stdout.
    #[command(hide = true, name = "demo-osd")]
    DemoOsd(demo::OsdArgs),
    /// Run a seed or a case of `sim` again: a line for each event, and a chart.
    Replay(replay::Args),
    /// Run drawn clusters in virtual time, with faults, and check every promise.
    Sim(sim::Args),
    /// Ask a running demonstration what its oldest messages wait for, and since when.
    Why(why::Args),
}

/// Runs the command that the command line names.
pub(crate) fn main() -> ExitCode {
    let Cli { json, command } = Cli::parse();
    // Actors that panic are what a simulation is about.
    let simulates = matches!(command, Command::Replay(_) | Command::Sim(_));
    report::log_to_stderr(if simulates { "off" } else { "error" });
    let ended = match command {
        Command::Bench(args) => bench::run(&args, json),
        Command::BenchRole(args) => bench::run_role(&args),
        Command::Explain(args) => explain::run(&args, json),
        Command::Demo(args) => demo::run(&args, json),
        Command::DemoOsd(args) => demo::run_osd(&args),
        Command::Replay(args) => replay::run(&args, json),
        Command::Sim(args) => sim::run(&args, json),
        Command::Why(args) => why::run(&args, json),
    };
    report::exit_code(ended)
}
