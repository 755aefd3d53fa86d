//! `stellate demo`: the main job. A directory is stored on a small cluster that is broken on
//! purpose meanwhile, and every copy is read back and compared.

#[path = "demo/cluster.rs"]
mod cluster;
#[path = "../../examples/osd/mod.rs"]
mod osd;
#[path = "demo/scan.rs"]
mod scan;

use std::cell::Cell;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use stellate::Messenger;
use stellate::testing::Seat;
#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

use self::cluster::{Cluster, REPLICAS};
use self::osd::client::{Client, GivenUp};
use self::osd::daemon::blueprint;
use self::osd::report::Report;
use self::osd::sabotage::Sabotage;
use self::osd::trial::{Progress, Trial};
use self::scan::{Caps, Scan};
use super::report::{Ended, Trouble, print_json};
use super::why::Inspected;

/// What `demo` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The directory whose files are stored. `target` and `.git` in it are left out.
    #[arg(long, value_name = "DIR", default_value = ".")]
    path: PathBuf,

    /// How many OSDs. Each object is stored on three of them, or on all if there are fewer.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=16))]
    nodes: u64,

    /// One process per OSD; one of them is killed half-way and started again on its database.
    #[arg(long)]
    processes: bool,

    /// Spoil what passes between messenger and store, to show that the check sees it.
    #[arg(long, value_name = "HOW", value_parser = ["drop", "dup", "swap", "flip"])]
    sabotage: Option<String>,

    /// How many links are cut while objects are being stored.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=100))]
    cuts: u64,

    /// Half-way, let the actor of osd.0 handle nothing for so many seconds: then `stellate why`
    /// has something to tell.
    #[arg(long, value_name = "SECONDS", conflicts_with = "processes",
        value_parser = clap::value_parser!(u64).range(1..=50))]
    pause: Option<u64>,

    /// Where the databases are put, in a directory that is removed at the end. The system's
    /// place for temporary files, if nothing is said.
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,

    /// Stop collecting files at so many MiB.
    #[arg(long, value_name = "MIB", default_value_t = 256)]
    max_mib: u64,

    /// Stop collecting files at so many objects.
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    max_objects: usize,
}

/// What the hidden `demo-osd` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct OsdArgs {
    #[arg(long)]
    sabotage: Option<Sabotage>,
}

/// Runs the demonstration.
pub(crate) fn run(args: &Args, json: bool) -> Ended {
    quiet_ordered_panics();
    let skip = args.store.iter().filter_map(|store| store.canonicalize().ok()).collect();
    let caps = Caps { bytes: args.max_mib << 20, objects: args.max_objects, skip };
    let scan = scan::scan(&args.path, &caps)?;
    for note in &scan.notes {
        eprintln!("stellate: {note}");
    }
    if scan.pieces.is_empty() {
        return Err(Trouble::new(format!(
            "there is no file to store under {}",
            args.path.display()
        )));
    }
    actix_rt::System::new().block_on(async {
        let mut stop = Stop::new()?;
        let started = tokio::select! {
            started = start(args) => started,
            () = stop.told() => Err(Trouble::new("interrupted; nothing is left behind")),
        };
        let (cluster, client) = started?;
        run_trial(args, &scan, cluster, client, (json, &mut stop)).await
    })
}

/// Ctrl-C, or the system's word for it. One that comes between two waits is not lost.
#[cfg(unix)]
struct Stop([Signal; 2]);

#[cfg(unix)]
impl Stop {
    fn new() -> std::io::Result<Self> {
        Ok(Self([signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?]))
    }

    async fn told(&mut self) {
        let [interrupt, terminate] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Stop;

#[cfg(not(unix))]
impl Stop {
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn told(&mut self) {
        // Without it there is nothing to wait for.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}

async fn start(args: &Args) -> Result<(Cluster, Client), Trouble> {
    let sabotage = args.sabotage.as_deref().map(str::parse).transpose().map_err(Trouble::new)?;
    let cluster =
        Cluster::start(args.nodes, args.processes, args.store.as_deref(), sabotage).await?;
    let client =
        Client::start(cluster.monitor()).await.map_err(|error| Trouble::new(error.to_string()))?;
    cluster.wait_for(&client).await?;
    Ok((cluster, client))
}

async fn run_trial(
    args: &Args,
    scan: &Scan,
    cluster: Cluster,
    client: Client,
    (json, stop): (bool, &mut Stop),
) -> Ended {
    let mut messengers = cluster.messengers();
    messengers.push(client.messenger().clone());
    let inspected = inspected(messengers).await;
    if let Some(inspected) = &inspected {
        eprintln!("stellate: ask with `stellate why`, or `stellate why {}`", inspected.address());
    }
    let bar = bar(scan, json);
    let (half, done) = (Notify::new(), Cell::new((0, 0)));
    let victim = 1 % args.nodes;
    let crash = || -> futures::future::LocalBoxFuture<'_, Result<(), GivenUp>> {
        Box::pin(cluster.crash(victim))
    };
    let trial = Trial {
        client: client.clone(),
        osds: args.nodes,
        names: &scan.names,
        read: &|index| scan.pieces[index].read(),
        cuts: usize::try_from(args.cuts).unwrap_or(1),
        crash: args.processes.then_some(&crash),
        progress: &|progress| {
            show(&bar, progress);
            done.set((progress.done, progress.total));
            if progress.done * 2 >= progress.total {
                half.notify_one();
            }
        },
    };
    let report = tokio::select! {
        report = trial.run() => Some(report),
        () = pause(args.pause, &half, &cluster) => unreachable!("it never ends"),
        () = stop.told() => None,
    };
    bar.finish_and_clear();
    let drain = async {
        // Whoever was told to wait could not be drained.
        cluster.wake();
        client.stop().await;
        cluster.stop().await;
        if let Some(inspected) = inspected {
            inspected.stop().await;
        }
    };
    tokio::select! {
        () = drain => {}
        () = stop.told() => return Err(Trouble::new("interrupted again; not all is drained")),
    }
    let Some(report) = report else {
        let (done, total) = done.get();
        let how_far = format!("interrupted at {done} of {total} steps");
        return Err(Trouble::new(format!("{how_far}; drained, and nothing is left behind")));
    };
    let report = report.map_err(|error| Trouble::new(error.to_string()))?;
    tell(args, scan, &report, json);
    Ok(report.holds())
}

/// Lets `stellate why` ask. Where that does not go, the demonstration goes on without.
async fn inspected(messengers: Vec<Messenger>) -> Option<Inspected> {
    let inspected = Inspected::start(messengers).await;
    inspected.inspect_err(|error| tracing::warn!(%error, "`stellate why` will not find us")).ok()
}

/// Half-way, pauses the actor of osd.0 for so many seconds. Never ends.
async fn pause(seconds: Option<u64>, half: &Notify, cluster: &Cluster) {
    if let (Some(seconds), Some(osd)) = (seconds, cluster.osd(0)) {
        half.notified().await;
        let paused = osd.tree().pause("osd");
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let resumed = osd.tree().resume("osd");
        if let Err(error) = paused.and(resumed) {
            tracing::warn!(%error, "the actor of osd.0 was not paused");
        }
    }
    std::future::pending().await
}

/// Runs one OSD of `demo --processes`: until its stdin ends, which it does with its parent.
pub(crate) fn run_osd(args: &OsdArgs) -> Ended {
    quiet_ordered_panics();
    let seat = Seat::from_env()?.ok_or_else(|| Trouble::new("`demo` starts this, nobody else"))?;
    let number = seat.name.number().unwrap_or_default();
    actix_rt::System::new().block_on(async {
        // A Ctrl-C at the terminal is for the parent, which then ends our stdin.
        actix_rt::spawn(async { while tokio::signal::ctrl_c().await.is_ok() {} });
        let cluster = blueprint(number + 1, REPLICAS, args.sabotage);
        let booted = cluster.sit(seat.clone()).await;
        let site = booted.map_err(|error| Trouble::new(error.to_string()))?;
        let inspected = inspected(site.messengers()).await;
        seat.until_left().await?;
        site.stop().await;
        // Its file goes with it.
        drop(inspected);
        // The reader of stdin may be in the middle of a read: do not wait for it.
        std::process::exit(0)
    })
}

/// A panic that the demonstration orders is no news; all others are told as ever.
fn quiet_ordered_panics() {
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let what = panic.payload_as_str().unwrap_or_default();
        if what.starts_with("ordered: ") || what.starts_with("panic ordered for ") {
            tracing::warn!("{what}");
        } else {
            told(panic);
        }
    }));
}

fn bar(scan: &Scan, json: bool) -> ProgressBar {
    if json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(scan.pieces.len() as u64);
    // A template that is wrong would be seen at once, and the default does as well.
    if let Ok(style) = ProgressStyle::with_template("{msg:>9} {bar:40} {pos}/{len} {elapsed}") {
        bar.set_style(style);
    }
    bar
}

fn show(bar: &ProgressBar, progress: Progress) {
    bar.set_message(if progress.verifying { "comparing" } else { "storing" });
    bar.set_length(progress.total as u64);
    bar.set_position(progress.done as u64);
}

fn tell(args: &Args, scan: &Scan, report: &Report, json: bool) {
    if json {
        let mut document = serde_json::to_value(report).unwrap_or_default();
        if let Some(fields) = document.as_object_mut() {
            fields.insert("holds".into(), json!(report.holds()));
            fields.insert("nodes".into(), json!(args.nodes));
            fields.insert("processes".into(), json!(args.processes));
            fields.insert("sabotage".into(), json!(args.sabotage));
            fields.insert("files".into(), json!(scan.files));
            fields.insert("skipped".into(), json!(scan.skipped));
            fields.insert("capped".into(), json!(scan.capped));
        }
        return print_json(&document);
    }
    let Report { objects, bytes, verified, replicas, .. } = report;
    println!(
        "stored    {objects} objects of {} files, {:.1} MiB, on {} OSDs in {:.1} s",
        scan.files,
        *bytes as f64 / (1 << 20) as f64,
        args.nodes,
        report.store_seconds
    );
    println!(
        "compared  {verified} of {} copies in {:.1} s",
        objects * replicas,
        report.verify_seconds
    );
    println!(
        "cut       {} links, unacknowledged at each: {:?}",
        report.link_cuts, report.unacked_at_cut
    );
    println!(
        "sessions  {} resumes, {} messages replayed, {} dropped as known",
        report.resumes, report.replayed, report.deduplicated
    );
    println!(
        "restarts  {} ({} by SIGKILL); {} writes tried again, {} copies found stored",
        report.restarts, report.kills, report.retries, report.repeated
    );
    println!(
        "streams   {} messages checked: {} lost, {} twice, {} out of order, {} corrupt",
        report.checked, report.lost, report.duplicated, report.reordered, report.corrupt
    );
    for what in report.unreadable.iter().take(10) {
        println!("unreadable {what}");
    }
    match report.holds() {
        true => println!("all held"),
        false => report.failures.iter().for_each(|failure| println!("FAILED    {failure}")),
    }
}
