//! How children stop: in order, in time, and with what they owe done (S4).
#![allow(clippy::unwrap_used, reason = "a test may")]

mod supervision_support;

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use actix::prelude::*;
use stellate_actors::supervise::{
    Backoff, ChildOptions, Phase, Recipe, Restart, StopOrder, Supervisor, Tree, What,
};
use supervision_support::{Add, Log, Worker, is_restarting, is_started, local, say, told};

const MS: Duration = Duration::from_millis(1);

#[test]
fn shutdown_drains_in_reverse_start_order() {
    local(async {
        let tree = Tree::new(Supervisor::default());
        let log = Log::default();
        let group = tree.supervisor("g", Supervisor::default()).unwrap();
        let options = ChildOptions::default().drain(100 * MS);
        let spawn = |tree: &Tree, name: &str| {
            tree.spawn(name, Recipe::new(log.factory()), options).unwrap()
        };
        spawn(&group, "x");
        spawn(&group, "y");
        let last = spawn(&tree, "last");
        tree.wait_for("last", is_started).await.unwrap();
        (0..200).for_each(|_| last.do_send(say("queued")));
        last.do_send(say("wait"));
        last.do_send(say("behind the wait"));
        assert_eq!(tree.shutdown().await, None);
        let lines = log.lines();
        assert_eq!(lines.len(), 203, "all that was queued is handled");
        assert!(lines[202].ends_with("behind the wait"));
        assert!(tree.now() >= 50 * MS && tree.now() < 100 * MS);
        let told = told(&tree);
        let stops: Vec<_> = told.iter().filter(|line| line.ends_with("stopped")).collect();
        assert_eq!(stops, ["last stopped", "g/y stopped", "g/x stopped"]);
        assert_eq!(told.last().unwrap(), " shutdown");
        assert_eq!(log.alive.get(), 0);
    });
}

#[test]
fn shutdown_does_not_wait_longer_than_the_drain_period() {
    local(async {
        let tree = Tree::new(Supervisor::default());
        let log = Log::default();
        // Declines to stop, every time it is asked: neither a hang nor a spin.
        let recipe = Recipe::new(log.factory_with(|worker| worker.reluctance = u32::MAX));
        let addr = tree.spawn("osd", recipe, ChildOptions::default().drain(500 * MS)).unwrap();
        let coy = log.factory_with(|worker| worker.reluctance = 1);
        let coy = tree.child("coy", coy, Restart::Always).unwrap();
        assert_eq!((addr.send(Add(1)).await, coy.send(Add(1)).await), (Ok(1), Ok(1)));
        let down = tree.shutdown();
        tokio::time::sleep(50 * MS).await;
        coy.do_send(say("asked again at the next wake"));
        assert_eq!(down.await, None);
        assert_eq!(tree.history_of("osd")[1..], [What::Overdue, What::Removed]);
        assert_eq!(tree.history_of("coy")[1..], [What::Stopped, What::Removed]);
        assert_eq!(tree.now(), 550 * MS);
    });
}

#[test]
fn shutdown_wakes_the_paused_and_survives_the_panicking() {
    local(async {
        let tree = Tree::new(Supervisor::default());
        let log = Log::default();
        let held = tree.child("held", log.factory(), Restart::Always).unwrap();
        let bad =
            tree.child("bad", log.factory_with(|w| w.panic_in_stopping = true), Restart::Always);
        assert_eq!(bad.unwrap().send(Add(1)).await, Ok(1));
        tree.pause("held").unwrap();
        held.do_send(say("held"));
        assert_eq!(tree.shutdown().await, None, "a panic on the way out is no failure");
        assert_eq!(log.lines(), ["1:held"]);
        let stopping = What::Panicked { message: "stopping".into() };
        assert_eq!(tree.history_of("bad")[1..], [stopping, What::Removed]);
        assert_eq!((tree.now(), log.alive.get()), (Duration::ZERO, 0));
    });
}

/// S4: what is owed is done first: by who runs and by who backs off, if the drain period allows.
#[test]
fn s4_who_is_told_to_stop_does_first_what_it_owes() {
    for (fails, drain, left) in [(false, 50 * MS, 0), (true, 50 * MS, 0), (true, 5 * MS, 3)] {
        local(async {
            let backoff = Backoff { min: 10 * MS, max: 10 * MS, reset_after: Duration::MAX };
            let tree = Tree::new(Supervisor::default().backoff(backoff));
            let (log, owed) = (Log::default(), Rc::new(Cell::new(0u32)));
            let recipe = indebted(log.factory(), &owed);
            let options = ChildOptions::default().drain(drain);
            let addr = tree.spawn("osd", recipe, options).unwrap();
            assert_eq!(addr.send(Add(1)).await, Ok(1));
            if fails {
                addr.do_send(say("boom"));
                tree.wait_for("osd", is_restarting).await.unwrap();
            }
            owed.set(3);
            assert_eq!(tree.shutdown().await, None);
            assert_eq!((owed.get(), log.alive.get()), (left, 0), "fails: {fails}, {drain:?}");
            assert!(tree.now() <= drain);
            assert_eq!(tree.history_of("osd").last(), Some(&What::Removed));
        });
    }
}

/// A recipe that owes `owed` things, and does one of them at each poll of its actor.
fn indebted(factory: impl FnMut() -> Worker + 'static, owed: &Rc<Cell<u32>>) -> Recipe<Worker> {
    let (owes, pays) = (owed.clone(), owed.clone());
    Recipe::new(factory).owes(move || owes.get() > 0).on_start(move |_, ctx| {
        let owed = pays.clone();
        let pay = poll_fn(move |_| {
            owed.set(owed.get().saturating_sub(1));
            Poll::<()>::Pending
        });
        let pay = actix::fut::wrap_future(pay);
        ctx.spawn(pay);
    })
}

/// S4: who was told to stop before its first poll is built for what it owes, and for nothing else.
#[test]
fn s4_who_was_not_built_yet_does_what_it_owes() {
    for (owed, drain, left, built) in [(3, 50, 0, 1), (0, 50, 0, 0), (3, 0, 3, 0)] {
        local(async {
            let tree = Tree::new(Supervisor::default());
            let (owed, builds) = (Rc::new(Cell::new(owed)), Rc::new(Cell::new(0)));
            let (log, count) = (Log::default(), builds.clone());
            let factory = log.factory_with(move |_| count.set(count.get() + 1));
            let options = ChildOptions::default().drain(drain * MS);
            tree.spawn("osd", indebted(factory, &owed), options).unwrap();
            assert_eq!(tree.shutdown().await, None);
            assert_eq!((owed.get(), builds.get(), log.alive.get()), (left, built, 0));
            assert!(tree.now() <= 2 * MS, "{:?}", tree.now());
        });
    }
}

/// S4: who is down because its rest-for-one group restarts does what it owes before it goes, in its
/// turn; also in a group that is down with it, and when it is removed alone.
#[test]
fn s4_who_is_down_for_a_restart_does_what_it_owes() {
    for (together, alone, drain, left) in
        [(false, false, 50, 0), (true, false, 50, 0), (false, true, 50, 0), (false, false, 1, 3)]
    {
        local(async {
            let backoff = Backoff { min: 10 * MS, max: 10 * MS, reset_after: Duration::MAX };
            let stop_order = if together { StopOrder::Together } else { StopOrder::OneByOne };
            let spec = Supervisor { stop_order, ..Supervisor::rest_for_one().backoff(backoff) };
            let tree = Tree::new(spec);
            let log = Log::default();
            let owed: Vec<_> = (0..3).map(|_| Rc::new(Cell::new(0))).collect();
            let options = ChildOptions::default().drain(drain * MS);
            let spawn = |path: &str, owed| {
                tree.spawn(path, indebted(log.factory(), owed), options).unwrap();
            };
            spawn("a", &owed[0]);
            spawn("b", &owed[1]);
            let group = tree.supervisor("g", Supervisor::default()).unwrap();
            group.spawn("c", indebted(log.factory(), &owed[2]), options).unwrap();
            tree.wait_for("g/c", is_started).await.unwrap();
            let mark = tree.panic("a").unwrap();
            tree.wait_since(mark, "b", |what| *what == What::Stopped).await.unwrap();
            assert_eq!((tree.phase("b"), tree.phase("g")), (Some(Phase::Down), Some(Phase::Down)));
            owed.iter().for_each(|owed| owed.set(3));
            if alone {
                tree.remove("b").unwrap().await;
                assert_eq!((tree.phase("b"), owed[1].get()), (None, 0));
            }
            let before = tree.now();
            assert_eq!(tree.shutdown().await, None);
            let owed: Vec<_> = owed.iter().map(|owed| owed.get()).collect();
            assert_eq!(owed, [left; 3], "{together} {alone} {drain}: {:?}", told(&tree));
            assert!(tree.now() - before <= 3 * drain * MS);
            let told = told(&tree);
            let gone =
                |path: &str| told.iter().rposition(|line| line == &format!("{path} stopped"));
            let (a, b, c) = (gone("a"), gone("b"), gone("g/c"));
            let in_turn = c < a && (alone || (c < b && b < a));
            assert!(together || in_turn, "{told:?}");
            assert_eq!(log.alive.get(), 0);
        });
    }
}

/// S4: so does who is down when its tree gives up (V3), but for the child over which it does.
#[test]
fn s4_v3_who_is_down_when_a_tree_gives_up_does_what_it_owes() {
    for escalates in [false, true] {
        local(async {
            let backoff = Backoff { min: 10 * MS, max: 10 * MS, reset_after: Duration::MAX };
            let tree = Tree::new(Supervisor::default().backoff(backoff).intensity(0, MS));
            let rest = Supervisor::rest_for_one().backoff(backoff).intensity(1, 60_000 * MS);
            // The one group restarts and finds that it cannot; the other has given up before the root does.
            let spec = if escalates { Supervisor::escalate() } else { rest };
            tree.supervisor("g", spec).unwrap();
            let (log, owed, spent) = (Log::default(), Rc::new(Cell::new(0)), Rc::default());
            let (mut make, mut builds) = (log.factory(), 0);
            let factory = move || {
                builds += 1;
                assert!(builds == 1, "factory");
                make()
            };
            let fails = indebted(factory, &spent);
            tree.spawn("g/fails", fails, Restart::Always).unwrap();
            // From when it is down.
            let (later, more, mut exits) = (owed.clone(), spent.clone(), 0);
            let other = indebted(log.factory(), &owed).on_exit(move |_| {
                exits += 1;
                if exits == 1 {
                    later.set(3);
                    more.set(3);
                }
            });
            tree.spawn("g/other", other, Restart::Always).unwrap();
            tree.wait_for("g/other", is_started).await.unwrap();
            tree.panic("g/fails").unwrap();
            assert!(tree.ended().await.is_some());
            let told = told(&tree);
            assert_eq!((owed.get(), spent.get(), log.alive.get()), (0, 3, 0), "{told:?}");
        });
    }
}

/// S4: so does who is removed from a group that is down for a restart.
#[test]
fn s4_who_is_removed_from_a_group_that_is_down_does_what_it_owes() {
    local(async {
        let tree = Tree::new(Supervisor::rest_for_one());
        let (log, owed) = (Log::default(), Rc::new(Cell::new(0)));
        tree.child("fails", log.factory(), Restart::Always).unwrap();
        tree.supervisor("g", Supervisor::default()).unwrap();
        for path in ["g/a", "g/b"] {
            tree.spawn(path, indebted(log.factory(), &owed), Restart::Always).unwrap();
        }
        tree.wait_for("g/b", is_started).await.unwrap();
        let mark = tree.panic("fails").unwrap();
        tree.wait_since(mark, "g/a", |what| *what == What::Stopped).await.unwrap();
        assert_eq!(tree.phase("g"), Some(Phase::Down));
        owed.set(3);
        tree.remove("g/a").unwrap().await;
        assert_eq!((owed.get(), tree.phase("g")), (0, Some(Phase::Down)), "{:?}", told(&tree));
        // And to be dropped, alone or with its group, is to be dropped, while it drains, too.
        owed.set(u32::MAX);
        let gone = tree.remove("g/b").unwrap();
        tree.discard("g").unwrap().await;
        gone.await;
        assert_eq!(
            (owed.get() > 3, tree.len(), log.alive.get()),
            (true, 1, 0),
            "{:?}",
            told(&tree)
        );
        assert_eq!(tree.shutdown().await, None);
    });
}

/// S4, V2: who panics, or is killed, while it drains is built again for what it owes, within its drain
/// period; and who always fails, in its factory or once built, ends: when the restarts of its group are
/// spent, or when no back-off fits any more.
#[test]
fn s4_v2_who_fails_while_it_drains_is_built_again_for_what_it_owes() {
    const EVER: u32 = u32::MAX;
    // How often it fails, what its group allows; then how often it was built again.
    let cases = [
        ("panic", 1, 8, 1..=1),
        ("kill", 1, 8, 1..=1),
        ("factory", 2, 8, 2..=2),
        ("started", 2, 8, 2..=2),
        ("factory", EVER, 3, 3..=3),
        ("started", EVER, 3, 3..=3),
        // Each waits for 5 to 10 ms.
        ("factory", EVER, EVER, 9..=20),
        ("started", EVER, EVER, 9..=20),
    ];
    for (how, times, max, restarts) in cases {
        local(async {
            let backoff = Backoff { min: 10 * MS, max: 10 * MS, reset_after: Duration::MAX };
            let spec = Supervisor::default().backoff(backoff).intensity(max, 60_000 * MS);
            let tree = Tree::new(spec);
            let (log, owed, lives) = (Log::default(), Rc::new(Cell::new(0)), Cell::new(0));
            let mut make = log.factory();
            let factory = move || {
                // The first does not fail by itself.
                lives.set(lives.get() + 1);
                let fails = lives.get() > 1 && lives.get() <= times;
                assert!(how != "factory" || !fails, "factory");
                let mut worker = make();
                worker.panic_in_started = how == "started" && fails;
                worker
            };
            let options = ChildOptions::default().drain(100 * MS);
            let addr = tree.spawn("osd", indebted(factory, &owed), options).unwrap();
            assert_eq!(addr.send(Add(1)).await, Ok(1));
            owed.set(3);
            let ended = tree.shutdown();
            if how == "kill" { tree.kill("osd") } else { tree.panic("osd") }.unwrap();
            assert_eq!(ended.await, None, "no failure of the group");
            let history = tree.history_of("osd");
            let again = history.iter().filter(|what| is_restarting(what)).count();
            assert!(restarts.contains(&again), "{how} {again}: {history:?}");
            assert_eq!(owed.get(), if times == EVER { 3 } else { 0 }, "{how}: {history:?}");
            assert!(tree.now() <= 100 * MS, "{how}: {:?}", tree.now());
            assert_eq!((log.alive.get(), history.last()), (0, Some(&What::Removed)));
        });
    }
}

/// V1, V2: a stop is for the life that it was given to. What was left of one, as of a life that could
/// not be built or that was killed in the same turn, stopped the next, and `OnFailure` forgot the child.
#[test]
fn v1_a_stop_that_a_life_did_not_live_to_see_is_not_for_the_next() {
    for killed in [false, true] {
        local(async {
            let tree = Tree::new(Supervisor::default());
            let backoff = Backoff { min: 10 * MS, max: 10 * MS, reset_after: Duration::MAX };
            let spec = Supervisor::default().backoff(backoff).intensity(1, 60_000 * MS);
            let group = tree.supervisor("g", spec).unwrap();
            let (log, builds) = (Log::default(), Rc::new(Cell::new(0)));
            let (mut make, count) = (log.factory(), builds.clone());
            let factory = move || {
                count.set(count.get() + 1);
                assert!(killed || count.get() != 2, "factory");
                make()
            };
            let owing = builds.clone();
            let recipe = Recipe::new(factory).owes(move || owing.get() < 2);
            let addr = group.spawn("a", recipe, Restart::OnFailure).unwrap();
            group.child("b", Log::default().factory(), Restart::Always).unwrap();
            tree.wait_for("g/b", is_started).await.unwrap();
            let mark = tree.panic(if killed { "g/b" } else { "g/a" }).unwrap();
            if killed {
                tree.wait_since(mark, "g/b", is_started).await.unwrap();
            } else {
                tree.wait_since(mark, "g/a", is_restarting).await.unwrap();
            }
            // One more fails the group, which stops the other: it backs off, or is killed as well.
            let mark = tree.panic("g/b").unwrap();
            if killed {
                tree.kill("g/a").unwrap();
            }
            tree.wait_since(mark, "g/b", is_started).await.unwrap();
            assert_eq!(addr.send(Add(1)).await, Ok(1), "killed: {killed}, {:?}", told(&tree));
            assert_eq!(tree.history_of("g/a").last(), Some(&What::Started));
        });
    }
}
