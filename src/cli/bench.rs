//! `stellate bench`: ours against peers, in one run.
//!
//! ```text
//!   for each case and size: for each round: ours Inline, ours OwnArbiter, raw, zmq, ...
//!                                           └ each a server process and a client process
//!   row = median over the rounds of ours, of the peer, and of ours ÷ peer within a round
//! ```
//!
//! Rounds alternate, and begin with another side each time, because machines are noisy: a ratio
//! within a round says more than two numbers of different minutes. Streams are checked: a message
//! that is lost, doubled, out of order or of another length fails the run.
//!
//! | peer | what it is |
//! | --- | --- |
//! | `raw` | plain tokio TCP: a length and the bytes; 64 KiB writes where it streams |
//! | `zmq` | libzmq with its defaults but for its high-water marks: REQ/REP, PUSH/PULL, DEALER/ROUTER |
//! | `lossy` | our own `lossy_client`, for `lossless_cost` only |

#[path = "bench/case.rs"]
mod case;
#[path = "bench/ours.rs"]
mod ours;
#[path = "bench/process.rs"]
mod process;
#[path = "bench/raw.rs"]
mod raw;
#[path = "bench/role.rs"]
mod role;
#[path = "bench/table.rs"]
mod table;

use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use serde_json::json;

use self::case::{Case, Figure};
use self::process::{Program, play};
use self::role::{Figures, Place, Promise, Role, Side, Word, end_with_stdin, say};
use self::table::{Row, table};
use super::report::{Ended, Trouble, print_json};

/// What `bench` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Against whom: raw, zmq; raw if none is named. May be given several times.
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = ["raw", "zmq"])]
    peer: Vec<String>,
    /// What to measure; pingpong and stream if nothing is named. May be given several times.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    case: Vec<Case>,
    /// Bytes of payload, as in 64,4K,1M; each case has its usual ones.
    #[arg(long, value_name = "BYTES", value_delimiter = ',', value_parser = parse_size)]
    sizes: Vec<usize>,
    /// Seconds of measuring, on each side in each round.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Rounds; the medians over them are told.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..1000))]
    rounds: u32,
}

/// What the hidden `bench-role` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct RoleArgs {
    /// As JSON.
    role: String,
}

/// Plays one role of a measurement, told by the process that runs the bench.
pub(crate) fn run_role(args: &RoleArgs) -> Ended {
    let role: Role = serde_json::from_str(&args.role)?;
    end_with_stdin();
    let played = match role.peer.as_str() {
        "ours" | "lossy" => ours::run(&role),
        "raw" => raw::run(&role),
        peer => Err(format!("no peer {peer} here")),
    };
    if let Err(error) = &played {
        say(&Word::Error(error.clone()));
    }
    Ok(played.is_ok())
}

/// Runs the bench.
pub(crate) fn run(args: &Args, as_json: bool) -> Ended {
    let mut peers = args.peer.clone();
    if peers.is_empty() {
        peers.push("raw".into());
    }
    let cases = if args.case.is_empty() { Case::USUAL.to_vec() } else { args.case.clone() };
    if !(0.01..=3600.0).contains(&args.seconds) {
        return Err(Trouble::new("--seconds is between 0.01 and 3600"));
    }
    let stage = Stage::set(&peers)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut rows = Vec::new();
    for case in cases {
        let sizes = if args.sizes.is_empty() { case.sizes() } else { &args.sizes };
        for &size in sizes {
            let measured = runtime.block_on(stage.measure(case, size, &peers, args))?;
            rows.extend(measured);
        }
    }
    if rows.is_empty() {
        return Err(Trouble::new(format!("no such case for {}", peers.join(", "))));
    }
    let allocations = allocations(&stage.own.path);
    if as_json {
        print_json(&json!({
            "rows": rows,
            "rounds": args.rounds,
            "seconds": args.seconds,
            "allocations_per_message": allocations,
        }));
    } else {
        print!("{}", table(&rows));
        if let Some(allocations) = allocations {
            println!("allocations per message, both ends together: {allocations}");
        }
    }
    Ok(true)
}

/// One side of a comparison.
#[derive(Clone, Debug)]
struct Contender {
    peer: String,
    place: Place,
    promise: Promise,
}

/// The programs.
struct Stage {
    own: Program,
    peers: Option<Program>,
}

impl Stage {
    fn set(peers: &[String]) -> Result<Self, Trouble> {
        let own = std::env::current_exe()?;
        let others = peers.iter().any(|peer| peer != "raw" && peer != "lossy");
        let peers = if others { Some(peers_program(&own)?) } else { None };
        let own = Program { path: own, words: &["bench-role"] };
        Ok(Self { own, peers })
    }

    fn program(&self, peer: &str) -> &Program {
        match (peer, &self.peers) {
            ("ours" | "lossy" | "raw", _) | (_, None) => &self.own,
            (_, Some(peers)) => peers,
        }
    }

    /// All rounds of a case in one size.
    async fn measure(
        &self,
        case: Case,
        size: usize,
        peers: &[String],
        args: &Args,
    ) -> Result<Vec<Row>, Trouble> {
        let contenders = contenders(case, peers);
        let mut rounds: Vec<Vec<Figures>> = vec![Vec::new(); contenders.len()];
        let steps = u64::from(args.rounds) * contenders.len() as u64;
        let bar =
            ProgressBar::new(steps).with_message(format!("{} {}", case.name(), table::size(size)));
        bar.set_style(style());
        for round in 0..args.rounds as usize {
            for turn in 0..contenders.len() {
                let at = (round + turn) % contenders.len();
                let contender = &contenders[at];
                let role = role(case, size, contender, args);
                let program = self.program(&contender.peer);
                rounds[at].push(play(program, &role, case.server_tells()).await?);
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
        Ok(compare(case, size, &contenders, &rounds))
    }
}

fn style() -> indicatif::ProgressStyle {
    let style = indicatif::ProgressStyle::with_template("{msg:28} {bar:30} {pos}/{len} {elapsed}");
    style.unwrap_or_else(|_| indicatif::ProgressStyle::default_bar())
}

fn role(case: Case, size: usize, contender: &Contender, args: &Args) -> Role {
    Role {
        peer: contender.peer.clone(),
        job: case.job(),
        side: Side::Server,
        place: contender.place,
        promise: contender.promise,
        size,
        millis: (args.seconds * 1000.0) as u64,
        count: case.count(),
        clients: case.clients(),
        to: None,
        index: 0,
    }
}

/// Ours in each placement, then the peers that know the case.
fn contenders(case: Case, peers: &[String]) -> Vec<Contender> {
    let contender = |peer: &str, place, promise| Contender { peer: peer.into(), place, promise };
    let mut all: Vec<_> =
        case.places().iter().map(|place| contender("ours", *place, Promise::Lossless)).collect();
    if case == Case::LosslessCost {
        all.extend(case.places().iter().map(|place| contender("lossy", *place, Promise::Lossy)));
        return all;
    }
    let known = peers.iter().filter(|peer| case.known_to(peer));
    all.extend(known.map(|peer| contender(peer, Place::Plain, Promise::Lossless)));
    all
}

/// A row for each of ours against each of the others, in each figure.
fn compare(case: Case, size: usize, contenders: &[Contender], rounds: &[Vec<Figures>]) -> Vec<Row> {
    let mut rows = Vec::new();
    let of = |are_ours: bool| {
        let all = contenders.iter().enumerate();
        all.filter(move |(_, contender)| (contender.peer == "ours") == are_ours)
    };
    for (mine, ours) in of(true) {
        for (theirs, peer) in of(false) {
            if peer.place != Place::Plain && peer.place != ours.place {
                continue;
            }
            for figure in case.figures() {
                let both = both(figure, &rounds[mine], &rounds[theirs]);
                let mut row = Row {
                    case: case.name(),
                    size,
                    placement: match ours.place {
                        Place::Inline | Place::Plain => "Inline",
                        Place::InlineAsleep => "Inline, asleep",
                        Place::OwnArbiter => "OwnArbiter",
                    },
                    ours: 0.0,
                    peer: 0.0,
                    peer_name: peer.peer.clone(),
                    unit: figure.unit,
                    ratio: 0.0,
                    spread: [0.0; 2],
                };
                row.figures(&both, figure.more);
                rows.push(row);
            }
        }
    }
    rows
}

fn both(figure: &Figure, mine: &[Figures], theirs: &[Figures]) -> Vec<(f64, f64)> {
    let value = |figures: &Figures| figures.get(figure.name).copied().unwrap_or(f64::NAN);
    mine.iter().zip(theirs).map(|(mine, theirs)| (value(mine), value(theirs))).collect()
}

/// Allocations of our side for each message, if the program that counts them is there: a counting
/// allocator in this one would cost something in everything that it measures.
fn allocations(own: &Path) -> Option<serde_json::Value> {
    let path = own.with_file_name(format!("stellate-peers{}", std::env::consts::EXE_SUFFIX));
    let counted = std::process::Command::new(path).arg("allocations").output().ok()?;
    let figures = serde_json::from_slice(&counted.stdout).ok()?;
    counted.status.success().then_some(figures)
}

/// The program with the other peers, beside our own; built if it is not there.
fn peers_program(own: &Path) -> Result<Program, Trouble> {
    let path = own.with_file_name(format!("stellate-peers{}", std::env::consts::EXE_SUFFIX));
    if !path.exists() {
        build_peers(own, &path)?;
    }
    Ok(Program { path, words: &[] })
}

fn build_peers(own: &Path, path: &Path) -> Result<(), Trouble> {
    const HOW: &str = "cargo build --release -p stellate-peers";
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    eprintln!("{} is not there yet: {HOW}", path.display());
    let mut cargo = std::process::Command::new("cargo");
    cargo.args(["build", "--release", "-p", "stellate-peers"]).current_dir(&here);
    if let Some(target) = own.parent().and_then(Path::parent) {
        cargo.arg("--target-dir").arg(target);
    }
    let built = here.join("benches/peers").exists() && cargo.status().is_ok_and(|s| s.success());
    if built && path.exists() {
        return Ok(());
    }
    Err(Trouble::new(format!(
        "{} is missing, and could not be built: in the source tree, run `{HOW}`",
        path.display()
    )))
}

/// `64`, `4K`, `1M`.
fn parse_size(text: &str) -> Result<usize, String> {
    let (digits, unit) = match text.strip_suffix(['K', 'k']) {
        Some(digits) => (digits, 1024),
        None => match text.strip_suffix(['M', 'm']) {
            Some(digits) => (digits, 1024 * 1024),
            None => (text, 1),
        },
    };
    let size: usize = digits.parse().map_err(|_| format!("{text} is no size: try 64, 4K or 1M"))?;
    match size.checked_mul(unit) {
        Some(size @ 8..=16_777_216) => Ok(size),
        _ => Err("sizes are between 8 bytes and 16M".into()),
    }
}

/// One thread that runs tasks which are not `Send`: what both sides of a comparison run on.
fn local_runtime() -> Result<tokio::runtime::LocalRuntime, String> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let built = builder.enable_all().build_local(tokio::runtime::LocalOptions::default());
    built.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_unit() {
        assert_eq!(parse_size("64"), Ok(64));
        assert_eq!(parse_size("4K"), Ok(4096));
        assert_eq!(parse_size("1M"), Ok(1_048_576));
        assert!(parse_size("1").is_err() && parse_size("x").is_err() && parse_size("1G").is_err());
    }

    #[test]
    fn each_of_ours_meets_each_peer_in_its_own_placement() {
        let peers = ["raw".to_owned(), "zmq".to_owned()];
        let all = contenders(Case::Stream, &peers);
        let figures = Figures::from([("per_s".into(), 2.0), ("mb_per_s".into(), 1.0)]);
        let rounds = vec![vec![figures]; all.len()];
        assert_eq!(compare(Case::Stream, 64, &all, &rounds).len(), 2 * 2 * 2);
        let all = contenders(Case::LosslessCost, &peers);
        assert_eq!(all.len(), 4);
        let rounds = vec![rounds[0].clone(); 4];
        let rows = compare(Case::LosslessCost, 64, &all, &rounds);
        assert_eq!(rows.len(), 4, "each against its own placement only");
        assert!(rows.iter().all(|row| row.peer_name == "lossy" && row.ratio == 1.0));
    }
}
