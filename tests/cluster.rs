//! `stellate::testing::Cluster`: nodes that crash and come back, faults from a script, checkers,
//! and the same run from the same seed.
#![allow(clippy::unwrap_used)] // Helpers are outside of `#[test]` functions.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use stellate::prelude::*;
use stellate::testing::{
    Action, BootError, Breach, Checker, Cluster, Happening, NodeHandle, Outcome, Running, Script,
    Seen, Skew, sim,
};

const ONE: EntityName = EntityName::osd(1);
const TWO: EntityName = EntityName::osd(2);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Ping(u64);

impl Message for Ping {
    const TYPE: MessageType = MessageType::new(0x0301);
    type Reply = u64;
}

/// Counts on its disk what it was sent, and tells the checkers.
struct Pong {
    node: NodeHandle,
}

impl Actor for Pong {
    type Context = Context<Self>;
}

impl Handler<Incoming<Ping>> for Pong {
    type Result = ();

    fn handle(&mut self, ping: Incoming<Ping>, _: &mut Self::Context) {
        let log = self.node.disk().file("log");
        log.append(&[1]).unwrap();
        if ping.0.is_multiple_of(2) {
            log.sync();
        }
        self.node.note(ping.0);
        let n = log.len();
        ping.reply(n);
    }
}

async fn boot(node: NodeHandle) -> Result<(), BootError> {
    let messenger = node.messenger().limits(limits()).build().await?;
    let own = node.clone();
    messenger
        .supervise("pong", move || Pong { node: own.clone() }, Restart::default())
        .handle::<Ping>()
        .start()?;
    messenger.ready();
    Ok(())
}

fn limits() -> Limits {
    Limits { backoff_max: ms(200), ..Limits::default() }
}

fn pair(seed: u64) -> Cluster {
    Cluster::new(seed).node(ONE, boot).node(TWO, boot)
}

fn connect(cluster: &Running, from: EntityName, to: EntityName) -> Connection {
    let address = cluster.node(from).unwrap().address_of(to);
    cluster.messenger(from).unwrap().connect(to, address).unwrap()
}

async fn ask(connection: &Connection, n: u64) -> Result<u64, RequestError> {
    connection.request(Ping(n)).await.map(|reply| reply.body)
}

#[test]
fn a_crash_drops_the_node_and_its_next_life_is_another_instance_on_the_same_disk() {
    let outcome = pair(1).run(async |cluster| {
        let there = connect(&cluster, ONE, TWO);
        assert_eq!(ask(&there, 2).await.unwrap(), 1);
        let (first, instance) =
            (cluster.node(TWO).unwrap(), cluster.messenger(TWO).unwrap().identity().instance);
        let left = Rc::new(Cell::new(false));
        let task = left.clone();
        cluster.spawn_on(TWO, async move {
            tokio::time::sleep(ms(500)).await;
            task.set(true);
        });
        cluster.crash(TWO);
        assert!(!cluster.is_up(TWO) && !first.is_alive());
        assert_eq!(Rc::strong_count(&left), 1, "what ran there is dropped, at once");
        cluster.sleep(ms(1000)).await;
        assert!(!left.get());
        cluster.start(TWO).await;
        assert_eq!(cluster.node(TWO).unwrap().life(), 1);
        assert_ne!(cluster.messenger(TWO).unwrap().identity().instance, instance);
        assert!(ask(&there, 2).await.is_err(), "that session died with its peer (S6)");
        assert_eq!(ask(&connect(&cluster, ONE, TWO), 2).await.unwrap(), 2, "the disk stays");
    });
    outcome.assert_held();
}

#[test]
fn what_was_not_synced_is_lost_in_some_runs_and_not_in_others() {
    let left = |seed| {
        let found = Rc::new(Cell::new(0));
        let cell = found.clone();
        let outcome = pair(seed).run(async move |cluster| {
            let there = connect(&cluster, ONE, TWO);
            for n in [2, 1, 1] {
                ask(&there, n).await.unwrap();
            }
            cluster.restart(TWO, ms(10)).await;
            cell.set(cluster.node(TWO).unwrap().disk().file("log").len());
        });
        outcome.assert_held();
        found.get()
    };
    let found: std::collections::BTreeSet<u64> = (0..24).map(left).collect();
    assert_eq!(found, [1, 2, 3].into());
}

/// Two that talk while the script breaks what it can; every request is answered once it is over.
fn stormy(seed: u64) -> Outcome {
    let side = vec![ONE];
    let script = Script::new()
        .at(ms(100), Action::Cut { a: ONE, b: TWO })
        .at(ms(300), Action::OneWay { from: TWO, to: ONE, lasts: ms(2_000) })
        .at(ms(400), Action::Partition { side, lasts: ms(900) })
        .at(ms(2_500), Action::CutAfterFrames { from: ONE, to: TWO, frames: 3 })
        .at(ms(2_600), Action::Slow { node: TWO, bytes_per_ms: 20, lasts: ms(500) })
        .at(ms(3_200), Action::Stall { from: ONE, to: TWO, lasts: ms(700) })
        .at(ms(4_000), Action::Panic { node: TWO, actor: "pong".into() })
        .at(ms(4_100), Action::Refuse { node: TWO, lasts: ms(250) })
        .at(ms(4_101), Action::Cut { a: ONE, b: TWO })
        .at(ms(4_700), Action::BlackHole { node: TWO, lasts: ms(500) })
        .at(ms(4_701), Action::CutAfterBytes { from: TWO, to: ONE, bytes: 30 })
        .at(ms(5_300), Action::Step { node: ONE, by_ms: -5_000 });
    pair(seed).script(script).skew(TWO, Skew { offset_ms: 9, drift_ppm: 100 }).run(
        async |cluster| {
            let there = connect(&cluster, ONE, TWO);
            for n in 0..600 {
                match ask(&there, n).await {
                    Ok(_) => {}
                    // The one that was in hand when its actor panicked (V1).
                    Err(RequestError::HandlerPanicked) => {}
                    Err(error) => panic!("{n}: {error}"),
                }
                cluster.sleep(ms(10)).await;
            }
            assert!(there.counters().links_lost >= 4, "{:?}", there.counters());
        },
    )
}

/// D1: the same seed, the same trace, and another another; every kind of fault was injected.
#[test]
fn d1_the_same_seed_gives_the_same_run() {
    let first = stormy(3);
    first.assert_held();
    assert_eq!(first.faults, 12);
    let again = stormy(3);
    assert_eq!(
        (first.trace_hash, first.trace_events, first.elapsed),
        (again.trace_hash, again.trace_events, again.elapsed)
    );
    assert_ne!(first.trace_hash, stormy(4).trace_hash);
    let taken = |outcome: &Outcome| outcome.coverage.never();
    assert_eq!(taken(&first), taken(&again));
    assert!(!first.rows_taken().is_empty());
}

/// D1: an order that is not the seed's is seen.
#[test]
fn d1_a_planted_order_changes_the_hash() {
    let run = |order: [u64; 6]| {
        let outcome = pair(1).run(async move |cluster| {
            let there = connect(&cluster, ONE, TWO);
            for n in order {
                there.send(Ping(n)).await.unwrap();
            }
            ask(&there, 0).await.unwrap();
        });
        outcome.assert_held();
        outcome.trace_hash
    };
    assert_eq!(run([1, 2, 3, 4, 5, 6]), run([1, 2, 3, 4, 5, 6]));
    assert_ne!(run([1, 2, 3, 4, 5, 6]), run([1, 2, 3, 4, 6, 5]));
}

/// A partition to one side only: what is sent waits for its end, and the peer hears nothing.
#[test]
fn a_one_way_partition_delays_and_loses_nothing() {
    let outcome = pair(1).run(async |cluster| {
        let there = connect(&cluster, ONE, TWO);
        ask(&there, 2).await.unwrap();
        cluster.partition_one_way(ONE, TWO);
        let begin = cluster.elapsed();
        let asked = actix::spawn(async move { ask(&there, 2).await });
        cluster.sleep(ms(3_000)).await;
        cluster.heal().await;
        assert_eq!(asked.await.unwrap().unwrap(), 2);
        assert!(cluster.elapsed() - begin < ms(3_500));
    });
    outcome.assert_held();
}

/// Wants every number from 0 to its last, each twice, and none above.
struct Twice {
    last: u64,
    counts: Vec<u64>,
    booted: u64,
}

impl Checker for Twice {
    fn see(&mut self, seen: &Seen<'_>) -> Result<(), Breach> {
        if matches!(seen.what, Happening::Booted) {
            self.booted += 1;
        }
        let Some(n) = seen.note::<u64>() else {
            return Ok(());
        };
        let count = self.counts.get_mut(*n as usize).filter(|count| **count < 2);
        *count.ok_or_else(|| Breach::new("twice", format!("{n} again, on {}", seen.node)))? += 1;
        Ok(())
    }

    fn is_settled(&self) -> bool {
        self.counts.iter().all(|count| *count == 2)
    }

    fn waits_for(&self) -> String {
        format!("{:?}", self.counts)
    }

    fn finish(&mut self) -> Result<(), Breach> {
        match self.booted {
            2 => Ok(()),
            n => Err(Breach::new("boots", format!("{n} of {}", self.last))),
        }
    }
}

fn twice(send: &'static [u64], crash: bool) -> Outcome {
    let checker = Twice { last: 2, counts: vec![0; 3], booted: 0 };
    pair(1).checker(checker).settle_within(Duration::from_secs(30)).run(async move |cluster| {
        let there = connect(&cluster, ONE, TWO);
        // Healed at the end: they arrive in the phase after.
        cluster.partition(ONE, TWO);
        for n in send {
            there.send(Ping(*n)).await.unwrap();
        }
        if crash {
            cluster.crash(ONE);
            cluster.sleep(Duration::from_secs(3600)).await;
        }
    })
}

#[test]
fn s8_checkers_are_waited_for_and_have_the_last_word() {
    let good = twice(&[0, 1, 2, 0, 1, 2], false);
    good.assert_held();

    let missing = twice(&[0, 1, 2, 0, 1], false).breach.unwrap();
    assert_eq!(missing.invariant, "S8");
    assert!(
        missing.text.contains("[2, 2, 1]") && missing.at > Duration::from_secs(30),
        "{missing}"
    );

    let again = twice(&[0, 1, 1, 1, 2], false).breach.unwrap();
    assert_eq!((again.invariant.as_str(), again.text.as_str()), ("twice", "1 again, on osd.2"));

    let lost = twice(&[0, 1, 2, 0, 1, 2], true).breach.unwrap();
    assert_eq!(lost.invariant, "S8");
}

#[test]
fn a_boot_that_fails_or_panics_fails_the_run() {
    let fails = Cluster::new(1).node(ONE, async |_| Err("no disk".into())).run(async |_| {});
    let breach = fails.breach.unwrap();
    assert_eq!((breach.invariant.as_str(), breach.text.as_str()), ("boot", "osd.1: no disk"));
    let panics = Cluster::new(1).node(ONE, async |_| panic!("asked for")).run(async |_| {});
    assert_eq!(panics.breach.unwrap().invariant, "panic");
}

/// Every profile, with cuts by chance, jitter and a bandwidth.
#[test]
fn every_profile_carries_a_cluster() {
    for profile in sim::Profile::ALL {
        let quality =
            sim::Quality { latency: 2, jitter: 3, bandwidth: Some(4_000), cut_chance: 2_000 };
        let outcome = pair(5).profile(profile).quality(quality).run(async |cluster| {
            let there = connect(&cluster, ONE, TWO);
            for n in 0..50 {
                ask(&there, n).await.unwrap();
            }
        });
        assert!(outcome.held(), "{}: {:?}", profile.name, outcome.breach);
    }
}

/// A node may crash itself, from one of its own tasks.
#[test]
fn a_task_may_end_the_node_that_it_runs_on() {
    let outcome = pair(1).run(async |cluster| {
        let own = cluster.clone();
        let task = cluster.spawn_on(ONE, async move {
            own.crash(ONE);
            tokio::time::sleep(ms(1)).await;
            unreachable!("it is gone");
        });
        assert!(task.unwrap().await.unwrap_err().is_cancelled());
        assert!(!cluster.is_up(ONE) && cluster.is_up(TWO));
        assert!(cluster.spawn_on(ONE, async {}).is_none());
    });
    outcome.assert_held();
}

/// D1: recording changes nothing, and the tape tells of crashes, faults and breaches.
#[test]
fn d1_a_recorded_run_is_the_same_and_can_be_read() {
    let run = |max| {
        let checker = Twice { last: 2, counts: vec![0; 3], booted: 0 };
        pair(1).checker(checker).record(max).run(async |cluster| {
            let there = connect(&cluster, ONE, TWO);
            cluster.restart(ONE, ms(10)).await;
            assert!(there.send(Ping(7)).await.is_err());
            assert!(ask(&connect(&cluster, ONE, TWO), 7).await.is_err());
        })
    };
    let (silent, told) = (run(0), run(10_000));
    assert_eq!(silent.trace_hash, told.trace_hash);
    assert!(silent.tape.is_none());
    let tape = told.tape.unwrap();
    assert_eq!(tape.events.iter().filter(|event| event.what.word() == "crash").count(), 1);
    let text = tape.to_string();
    assert!(text.contains("twice: 7 again, on osd.2") && text.contains("life=1"), "{text}");
}

/// S9: a node's messenger measures by the node's clock: where that is a tenth too fast, a silent peer
/// is noticed a tenth too early.
#[test]
fn timers_of_a_node_run_at_the_rate_of_its_clock() {
    let drift = |drift_ppm| Skew { offset_ms: 5_000, drift_ppm };
    for (ppm, expected) in [(0, 20_000), (100_000, 18_181), (-100_000, 22_222)] {
        pair(5)
            .skew(ONE, drift(ppm))
            .run(async |cluster| {
                let there = connect(&cluster, ONE, TWO);
                ask(&there, 1).await.unwrap();
                cluster.partition(ONE, TWO);
                let begin = cluster.elapsed();
                while there.counters().links_lost == 0 {
                    cluster.sleep(ms(10)).await;
                }
                // The peer was last heard up to a heartbeat before, and at least a tick.
                let took = (cluster.elapsed() - begin).as_millis() as i64;
                assert!((took - expected).abs() < 60, "{ppm} ppm: {took} ms");
            })
            .assert_held();
    }
}
