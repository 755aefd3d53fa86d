//! One description, three runs: the OSD cluster of the demo in virtual time with faults, in one
//! process over TCP, and as processes over TCP. The actors, the work and the checker are the same.
#![allow(clippy::unwrap_used)] // Helpers of tests are outside of what the lint takes for a test.

#[path = "../examples/osd/mod.rs"]
mod osd;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use osd::daemon::{CLIENT, blueprint_keeping};
use osd::ledger::{Ledger, Work, faults, verify, work};
use osd::sabotage::Sabotage;
use osd::store::Keeps;
use stellate::prelude::*;
use stellate::testing::{Blueprint, Breach, Outcome, Running, Seat, Site, sweep};

const OSDS: u64 = 4;
const REPLICAS: u64 = 3;

/// The OSDs, and a node for the client that does the work.
fn cluster(sabotage: Option<Sabotage>) -> Blueprint {
    cluster_keeping(Keeps::InDatabase, sabotage)
}

fn cluster_keeping(keeps: Keeps, sabotage: Option<Sabotage>) -> Blueprint {
    let osds = blueprint_keeping(keeps, OSDS, REPLICAS as u32, sabotage);
    osds.node(CLIENT, async |_| Ok(()))
}

fn load(pause: Duration) -> Work {
    Work { osds: OSDS, first: 0, objects: 8, writes: 6, pause, bytes: 12_000 }
}

/// In virtual time: faults from a seed while the client works, then every copy is read.
fn simulate(seed: u64, record: usize, sabotage: Option<Sabotage>) -> Outcome {
    simulate_keeping(Keeps::InDatabase, seed, record, sabotage)
}

fn simulate_keeping(keeps: Keeps, seed: u64, record: usize, sabotage: Option<Sabotage>) -> Outcome {
    let span = Duration::from_secs(4);
    let load = load(span / 6);
    cluster_keeping(keeps, sabotage)
        .simulate(seed)
        .record(record)
        .checker(Ledger::new(REPLICAS))
        .script(faults(seed, OSDS, span))
        .run(async move |running: Running| {
            let site = Site::from(running.node(CLIENT).unwrap());
            let worked = running.spawn_on(CLIENT, work(site.clone(), load)).unwrap();
            let client = match worked.await.unwrap() {
                Ok(client) => client,
                Err(error) => return running.fail(Breach::new("work", error.to_string())),
            };
            running.sleep(span).await;
            running.heal().await;
            let verified =
                running.spawn_on(CLIENT, async move { verify(&site, &client, load).await });
            if let Err(error) = verified.unwrap().await.unwrap() {
                running.fail(Breach::new("work", error.to_string()));
            }
        })
}

#[test]
fn s2_in_virtual_time_every_acknowledged_write_is_on_every_replica() {
    let seeds: u64 = if std::env::var_os("STELLATE_LONG").is_some() { 500 } else { 4 };
    let (ran, hashes) = <(RefCell<BTreeSet<_>>, RefCell<BTreeSet<_>>)>::default();
    sweep(0..seeds, |seed, record| {
        let outcome = simulate(seed, record, None);
        // Of those that are drawn; a case has fewer.
        let is_drawn = outcome.script.steps().len() >= 8;
        assert!(outcome.faults >= 4 || !is_drawn, "seed {seed}: {}", outcome.faults);
        ran.borrow_mut().insert(seed);
        hashes.borrow_mut().insert(outcome.trace_hash);
        outcome
    });
    assert_eq!(hashes.borrow().len(), ran.borrow().len(), "each seed is another run");
}

/// So it is where the disk is not what is simulated, and the run is another.
#[test]
fn s2_in_virtual_time_with_objects_in_memory() {
    let seeds: u64 = if std::env::var_os("STELLATE_LONG").is_some() { 500 } else { 6 };
    sweep(0..seeds, |seed, record| simulate_keeping(Keeps::InMemory, seed, record, None));
}

/// Every other seed with databases, each with the faults that it draws.
#[test]
#[ignore = "for seeds that nobody has run before: `.ci/sim` says which, in STELLATE_SEEDS"]
fn s2_fresh_seeds_of_the_daemons() {
    sweep(0..10, |seed, record| {
        let keeps = if seed.is_multiple_of(2) { Keeps::InDatabase } else { Keeps::InMemory };
        simulate_keeping(keeps, seed, record, sabotage_asked_for())
    });
}

/// For `.ci/sim` to be seen failing: with `STELLATE_SABOTAGE`, OSDs lose what they say they stored.
fn sabotage_asked_for() -> Option<Sabotage> {
    std::env::var_os("STELLATE_SABOTAGE").map(|_| Sabotage::Drop)
}

/// A seed that fails says where its chart is, and how to have it again.
#[test]
fn a_seed_that_fails_is_drawn() {
    let lie = || sweep(7..9, |seed, record| simulate(seed, record, Some(Sabotage::Drop)));
    let panic = std::panic::catch_unwind(lie).unwrap_err();
    let text = panic.downcast_ref::<String>().unwrap();
    assert!(text.starts_with("seed 7: ledger") && text.contains("STELLATE_SEED=7"), "{text}");
    let path = |what| text.lines().find_map(|line: &str| line.strip_prefix(what)).unwrap();
    let chart = std::fs::read_to_string(path("chart: ")).unwrap();
    assert!(chart.contains("seed 7") && chart.contains("BROKEN"));
    let lines = std::fs::read_to_string(path("lines: ")).unwrap();
    assert!(lines.contains("BROKEN") && lines.contains("Replicate"));
}

/// D1: with databases and all.
#[test]
fn d1_the_same_seed_gives_the_same_run_of_the_daemons() {
    let (first, again) = (simulate(3, 0, None), simulate(3, 1000, None));
    assert_eq!((first.trace_hash, first.trace_events), (again.trace_hash, again.trace_events));
}

/// The ledger can fail: a store that says that it stored, and did not.
#[test]
fn a_store_that_lies_is_found_by_the_ledger() {
    let breach = simulate(1, 0, Some(Sabotage::Drop)).breach.unwrap();
    assert_eq!(breach.invariant, "ledger");
    assert!(breach.text.contains("acknowledged"), "{breach}");
}

#[actix::test(actix_rt)]
async fn in_one_process_over_tcp() {
    let home = tempfile::tempdir().unwrap();
    let load = load(Duration::from_millis(1));
    let deploy = cluster(None).deploy(home.path()).checker(Ledger::new(REPLICAS));
    let deployment = deploy.start().await.unwrap();
    let site = deployment.site(CLIENT).unwrap().clone();
    let client = work(site.clone(), load).await.unwrap();
    verify(&site, &client, load).await.unwrap();
    assert_eq!(deployment.finish(), None);
    deployment.stop().await;
}

/// Starts this test's program again, as the one node that its seat says.
fn this_program(seat: &Seat) -> std::process::Command {
    let mut command = seat.command(std::env::current_exe().unwrap());
    command.args(["--exact", "a_node_of_its_own", "--include-ignored", "--nocapture"]);
    command
}

#[test]
#[ignore = "is a node, when it is started as one by the test below"]
fn a_node_of_its_own() {
    let Some(seat) = Seat::from_env().unwrap() else { return };
    actix_rt::System::new().block_on(async {
        let site = cluster(None).sit(seat.clone()).await.unwrap();
        seat.until_left().await.unwrap();
        site.stop().await;
    });
}

/// With one of them killed half-way, and started again on its database.
#[actix::test(actix_rt)]
async fn as_processes_over_tcp() {
    let home = tempfile::tempdir().unwrap();
    let load = load(Duration::from_millis(20));
    let apart = (0..OSDS).map(EntityName::osd);
    let deploy = cluster(None).deploy(home.path()).processes(apart, this_program);
    let mut deployment = deploy.checker(Ledger::new(REPLICAS)).start().await.unwrap();
    let site = deployment.site(CLIENT).unwrap().clone();
    let worked = actix_rt::spawn(work(site.clone(), load));
    tokio::time::sleep(Duration::from_millis(60)).await;
    deployment.restart(EntityName::osd(1)).await.unwrap();
    let client = worked.await.unwrap().unwrap();
    verify(&site, &client, load).await.unwrap();
    assert_eq!(deployment.finish(), None);
    assert_eq!(deployment.died(), None);
    assert!(!deployment.kill(CLIENT), "it lives here");
    deployment.stop().await;
}

/// A node that does not boot is told, and the others are ended.
#[actix::test(actix_rt)]
async fn a_boot_that_fails_is_told() {
    let home = tempfile::tempdir().unwrap();
    let broken = cluster(None).node(EntityName::osd(9), async |_| Err("no disk".into()));
    let error = broken.deploy(home.path()).start().await.unwrap_err();
    assert_eq!(error.to_string(), "osd.9 does not boot: no disk");
    let nobody = |seat: &Seat| {
        let mut command = seat.command(std::env::current_exe().unwrap());
        command.args(["--exact", "no test of that name"]);
        command
    };
    let deploy = cluster(None).deploy(home.path()).processes([EntityName::osd(0)], nobody);
    let error = deploy.start().await.unwrap_err().to_string();
    assert!(error.starts_with("osd.0 did not start"), "{error}");
}
