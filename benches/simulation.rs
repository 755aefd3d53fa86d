//! What a simulation costs: the demo's OSD cluster at work, a mesh that only listens for heartbeats,
//! and drills with all their checkers. One run on each core, as `stellate sim` does it.
//!
//! ```text
//! cargo bench --bench simulation -- osd              50 nodes: a monitor, OSDs, clients
//! cargo bench --bench simulation -- osd 60 2 64 4096 writes an object, runs at once, objects a client,
//!                                                    and how long they may be
//! cargo bench --bench simulation -- database         the same, with OSDs that keep all in databases
//! cargo bench --bench simulation -- idle 1000 3600   nodes, virtual seconds; 50 peers each
//! cargo bench --bench simulation -- drill            50 nodes, 4 seeds a core
//! ```

#[path = "../examples/osd/mod.rs"]
mod osd;

use std::num::NonZero;
use std::time::{Duration, Instant};

use osd::daemon::blueprint_keeping;
use osd::ledger::{Ledger, Work, verify, work};
use osd::store::Keeps;
use stellate::prelude::*;
use stellate::testing::drill::{Draw, Mix};
use stellate::testing::{Breach, Cluster, NodeHandle, Outcome, Running, Site};

/// A third more messages a second than with the system's, on two threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Nodes of the OSD cluster: the rest are a monitor and OSDs.
const NODES: u64 = 50;
const CLIENTS: u64 = 5;
const REPLICAS: u64 = 3;
/// Objects of each client, and so operations that it has in flight: a host of eight images, 32 each.
const DEPTH: u64 = 256;
/// Writes of each object.
const WRITES: u64 = 20;
/// Objects are shorter than so many bytes.
const BYTES: u64 = 12_000;
/// Sessions of each node of the mesh.
const PEERS: u64 = 50;

/// What the clients do, and where OSDs keep it.
#[derive(Clone, Copy)]
struct Load {
    /// Of each object, one after the other, each read back.
    writes: u64,
    /// Of each client.
    objects: u64,
    /// They are shorter.
    bytes: u64,
    keeps: Keeps,
}

/// What one run, or several, came to.
#[derive(Clone, Copy, Default)]
struct Figures {
    messages: u64,
    events: u64,
    virtual_time: Duration,
}

impl Figures {
    fn of(outcome: &Outcome) -> Self {
        outcome.assert_held();
        Self {
            messages: outcome.messages,
            events: outcome.trace_events,
            virtual_time: outcome.elapsed,
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            messages: self.messages + other.messages,
            events: self.events + other.events,
            virtual_time: self.virtual_time + other.virtual_time,
        }
    }
}

fn main() {
    // `cargo bench` says `--bench` itself.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let number = |at: usize, otherwise: u64| -> u64 {
        args.get(at).map_or(otherwise, |text| text.parse().expect("a number"))
    };
    match args.first().map(String::as_str) {
        Some("osd" | "database") => {
            let database = args[0] == "database";
            let keeps = if database { Keeps::InDatabase } else { Keeps::InMemory };
            let (writes, objects, bytes) = (number(1, WRITES), number(3, DEPTH), number(4, BYTES));
            let load = Load { writes, objects, bytes, keeps };
            measure(&args[0], number(2, cores()), |seed| osd(seed, load));
        }
        Some("idle") => measure("idle", 1, |_| idle(number(1, 1_000), number(2, 3_600))),
        Some("drill") => measure("drill", number(2, cores()), |seed| drill(seed, number(1, 4))),
        _ => {
            let keeps = Keeps::InMemory;
            let load = Load { writes: WRITES, objects: DEPTH, bytes: BYTES, keeps };
            measure("osd", cores(), |seed| osd(seed, load));
            measure("drill", cores(), |seed| drill(seed, 4));
            measure("idle", 1, |_| idle(200, 60));
        }
    }
}

fn cores() -> u64 {
    std::thread::available_parallelism().map_or(1, NonZero::get) as u64
}

/// So many runs at once, a thread each.
#[allow(clippy::disallowed_methods)] // how long it took is what is measured
fn measure(name: &str, jobs: u64, run: impl Fn(u64) -> Figures + Sync) {
    let (begin, before) = (Instant::now(), cpu());
    let all = std::thread::scope(|scope| {
        let run = &run;
        let runs: Vec<_> = (1..=jobs).map(|seed| scope.spawn(move || run(seed))).collect();
        runs.into_iter()
            .map(|run| run.join().expect("it held"))
            .fold(Figures::default(), Figures::and)
    });
    let (wall, cpu) = (begin.elapsed().as_secs_f64(), cpu() - before);
    println!("{name}: {jobs} at once, {wall:.2} s, {cpu:.2} s of processors");
    for (what, count) in [("messages", all.messages), ("events", all.events)] {
        let (each, busy) = (count as f64 / wall, count as f64 / cpu);
        println!(
            "  {count:>10} {what:<9} {each:>9.0} a second, {busy:>9.0} a second of a processor"
        );
    }
    let resident = resident_max() >> 20;
    println!(
        "  {:>10.3} s virtual, {resident} MiB resident at most",
        all.virtual_time.as_secs_f64()
    );
}

/// Seconds of processors that this process had: what counts on a machine that others use too. 0
/// where nobody says.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: Vec<u64> = fields.skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    ticks.iter().sum::<u64>() as f64 / 100.0
}

/// Bytes that this process had resident at most; 0 where nobody says.
fn resident_max() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Clients write and read objects, as many at once as they have; each write is stored on three OSDs
/// before it is answered; the ledger checks each, and at last every copy.
fn osd(seed: u64, load: Load) -> Figures {
    let Load { writes, objects, bytes, keeps } = load;
    let osds = NODES - CLIENTS - 1;
    let clients = (1..=CLIENTS).map(EntityName::client);
    let cluster = clients
        .fold(blueprint_keeping(keeps, osds, REPLICAS as u32, None), |cluster, client| {
            cluster.node(client, async |_| Ok(()))
        });
    let outcome =
        cluster.simulate(seed).checker(Ledger::new(REPLICAS)).run(async |running: Running| {
            let tasks = (0..CLIENTS).map(|client| {
                let name = EntityName::client(client + 1);
                let (first, pause) = (client * objects, Duration::ZERO);
                let load = Work { osds, first, objects, writes, pause, bytes };
                let site = Site::from(running.node(name).expect("it is up"));
                let task = async move {
                    let client = work(site.clone(), load).await?;
                    verify(&site, &client, load).await
                };
                running.spawn_on(name, task).expect("it is up")
            });
            for done in futures::future::join_all(tasks).await {
                if let Err(error) = done.expect("it does not panic") {
                    running.fail(Breach::new("work", error.to_string()));
                }
            }
        });
    Figures::of(&outcome)
}

/// Messengers without a word, each up with its neighbours to both sides in a ring.
fn idle(nodes: u64, seconds: u64) -> Figures {
    let name = |n: u64| EntityName::osd(n % nodes);
    let cluster = (0..nodes).fold(Cluster::new(7), |cluster, n| {
        cluster.node(name(n), async |node: NodeHandle| {
            let peers = Policy::lossless_peer();
            let messenger = node.messenger().policy(EntityKind::OSD, peers).build().await?;
            messenger.ready();
            Ok(())
        })
    });
    let outcome = cluster.run(async |running: Running| {
        for n in 0..nodes {
            let node = running.node(name(n)).expect("it is up");
            let messenger = running.messenger(name(n)).expect("it has one");
            for peer in (n + 1..=n + PEERS / 2).map(name) {
                messenger.connect(peer, node.address_of(peer)).expect("it is open");
            }
        }
        running.sleep(Duration::from_secs(seconds)).await;
        let up: usize = running
            .names()
            .into_iter()
            .filter_map(|name| running.messenger(name))
            .map(|messenger| messenger.sessions().len())
            .sum();
        assert_eq!(up as u64, nodes * PEERS, "both ends of each are there");
    });
    Figures::of(&outcome)
}

/// Cases as `stellate sim --nodes 50` draws them, without faults.
fn drill(from: u64, seeds: u64) -> Figures {
    let draw = Draw { nodes: Some(NODES as usize), mix: Mix::Calm, ..Draw::default() };
    let seeds = (from - 1) * seeds..from * seeds;
    seeds.fold(Figures::default(), |all, seed| {
        let report = draw.case(seed).run().expect("a case that was drawn makes sense");
        all.and(Figures::of(&report.outcome))
    })
}
