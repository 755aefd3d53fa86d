//! How children stop: in order, in time, and with what they owe done (S4).
#![allow(clippy::unwrap_used, reason = "a test may")]

mod supervision_support;

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use actix::prelude::*;
use stellate_actors::supervise::{Backoff, ChildOptions, Recipe, Restart, Supervisor, Tree, What};
use supervision_support::{Add, Log, is_restarting, is_started, local, say, told};

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
            let (owes, pays) = (owed.clone(), owed.clone());
            let recipe = Recipe::new(log.factory()).owes(move || owes.get() > 0);
            let recipe = recipe.on_start(move |_, ctx| {
                let owed = pays.clone();
                let pay = poll_fn(move |_| {
                    owed.set(owed.get().saturating_sub(1));
                    Poll::<()>::Pending
                });
                let pay = actix::fut::wrap_future(pay);
                ctx.spawn(pay);
            });
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
