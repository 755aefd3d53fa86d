//! V2 to V5 on a running tree: strategies, escalation, other arbiters, the test verbs, coming and
//! going.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod supervision_support;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix::prelude::*;
use stellate_actors::supervise::{
    Backoff, Cause, ChildOptions, Entry, Placement, Recipe, Restart, Supervisor, Tree, TreeError,
    WaitError, What,
};
use supervision_support::{Add, Log, is_panicked, is_restarting, is_started, local, say, told};

const MS: Duration = Duration::from_millis(1);

#[test]
fn v2_an_actor_that_stops_in_started_does_not_spin() {
    local(async {
        let tree = Tree::new(Supervisor::default());
        let factory = Log::default().factory_with(|worker| worker.stop_in_started = true);
        tree.child("osd", factory, Restart::Always).unwrap();
        let cause = tree.ended().await.expect("the root gave up");
        assert_eq!(*cause.first(), Cause::Stopped);
        assert!(tree.now() >= Duration::from_secs(5), "restarts took time: {:?}", tree.now());
        let history = tree.history_of("osd");
        assert_eq!(history.iter().filter(|what| is_restarting(what)).count(), 8);
        assert_eq!(history.iter().filter(|what| is_started(what)).count(), 0);
    });
}

#[test]
fn v2_rest_for_one_on_live_actors() {
    local(async {
        let tree = Tree::new(Supervisor::rest_for_one());
        let log = Log::default();
        for name in ["a", "b", "c"] {
            tree.child(name, log.factory(), Restart::Always).unwrap();
        }
        tree.wait_for("c", is_started).await.unwrap();
        let mark = tree.panic("b").unwrap();
        let back = tree.wait_since(mark, "c", is_started).await.unwrap();
        let expected = [
            "a started",
            "b started",
            "c started",
            "b panicked: panic ordered for b",
            "b restarting 1",
            "c stopped",
            "b started",
            "c started",
        ];
        assert_eq!(told(&tree), expected);
        assert!(back.at >= 25 * MS, "the back-off was waited for");
        assert_eq!(log.alive.get(), 3);
    });
}

#[test]
fn v2_one_seed_one_history() {
    let run = |seed: u64| -> Vec<Entry> {
        local(async move {
            let tree = Tree::new(Supervisor::default().seed(seed).intensity(40, 60_000 * MS));
            let nodes = tree.supervisor("node", Supervisor::rest_for_one().seed(seed)).unwrap();
            for path in ["x", "y", "z"] {
                nodes.child(path, Log::default().factory(), Restart::Always).unwrap();
                tree.child(path, Log::default().factory(), Restart::Always).unwrap();
            }
            for n in 0..12u64 {
                let path = ["x", "node/y", "z", "node/x"][n as usize % 4];
                let mark = tree.mark();
                tokio::time::sleep(40 * MS).await;
                let _ = if n % 2 == 0 { tree.kill(path) } else { tree.panic(path) };
                let _ = mark;
            }
            tree.shutdown().await;
            tree.history()
        })
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn v3_the_roots_last_word_is_a_chain_and_a_clean_end() {
    local(async {
        let tree = Tree::new(Supervisor::escalate());
        let log = Log::default();
        let first = tree.child("first", log.factory(), Restart::Always).unwrap();
        let backoff = Backoff { min: 10 * MS, max: 10 * MS, reset_after: Duration::MAX };
        let spec = Supervisor::default().intensity(2, 60_000 * MS).backoff(backoff);
        let osd = tree.supervisor("osd", spec).unwrap();
        let addr = osd.child("store", log.factory(), Restart::Always).unwrap();
        osd.child("index", log.factory(), Restart::Always).unwrap();
        (0..5).for_each(|_| addr.do_send(say("boom")));
        let cause = tree.ended().await.expect("a failure, not a shutdown");
        let chain: Vec<String> = cause.chain().map(ToString::to_string).collect();
        let expected = [
            "the root passes on the failure of osd",
            "osd spent its 2 restarts in 60s with osd/store",
            "panicked: boom",
        ];
        assert_eq!(chain, expected);
        let sources =
            std::iter::successors(Some(&cause as &dyn std::error::Error), |error| error.source());
        assert_eq!(sources.map(ToString::to_string).collect::<Vec<_>>(), expected);
        let last = tree.history().into_iter().filter(|e| e.path.is_empty()).map(|e| e.what);
        assert_eq!(last.collect::<Vec<_>>(), [What::GaveUp { cause }, What::ShutDown]);
        assert!(!first.connected() && !addr.connected(), "mailboxes are closed");
        assert_eq!(log.alive.get(), 0, "no actor is left");
        assert_eq!(tree.wait_for("osd", |_| true).await, Err(WaitError::Ended));
        let late = tree.child("late", Log::default().factory(), Restart::Always);
        assert_eq!(late.err(), Some(TreeError::ShuttingDown));
    });
}

/// A port that a factory holds is free when the tree has ended, whichever way.
#[test]
fn v3_nothing_is_left_of_a_tree_that_has_ended() {
    for gives_up in [false, true] {
        local(async {
            let tree = Tree::new(Supervisor::one_for_one().intensity(0, Duration::from_secs(60)));
            // It stops after the other one.
            tree.child("endpoint", || Idle, Restart::Always).unwrap();
            let port = Arc::new(());
            let held = port.clone();
            let make = move || {
                let _held = &held;
                Idle
            };
            tree.child("listener", make, Restart::Always).unwrap();
            tree.wait_for("listener", is_started).await.unwrap();
            // A task of its own, as others in that thread.
            let ended = tree.ended();
            let left = async move { (ended.await.is_some(), Arc::strong_count(&port)) };
            let left = tokio::task::spawn_local(left);
            match gives_up {
                true => drop(tree.panic("listener").unwrap()),
                false => drop(tree.shutdown()),
            }
            assert_eq!(left.await.unwrap(), (gives_up, 1));
        });
    }
}

struct Idle;

impl Actor for Idle {
    type Context = Context<Self>;
}

#[test]
fn v3_an_escalated_group_comes_back_with_its_mailboxes() {
    local(async {
        let tree = Tree::new(Supervisor::default());
        let group = tree.supervisor("g", Supervisor::escalate()).unwrap();
        let (log_a, log_b) = (Log::default(), Log::default());
        let a = group.child("a", log_a.factory(), Restart::Always).unwrap();
        let b = group.child("b", log_b.factory(), Restart::Always).unwrap();
        assert_eq!(b.send(Add(9)).await, Ok(9));
        a.do_send(say("boom"));
        a.do_send(say("queued"));
        assert_eq!(a.send(Add(1)).await, Ok(1));
        assert_eq!(b.send(Add(1)).await, Ok(1), "b is a fresh value too");
        assert_eq!(log_a.lines(), ["2:queued"]);
        let group: Vec<_> = tree.history_of("g");
        assert!(matches!(
            group[..],
            [What::GaveUp { .. }, What::Escalated { .. }, What::Restarting { attempt: 1, .. }]
        ));
    });
}

#[test]
fn v5_kill_drops_the_value_and_keeps_the_mailbox() {
    local(async {
        let tree = Tree::new(Supervisor::default());
        let log = Log::default();
        let addr = tree.child("osd", log.factory(), Restart::Always).unwrap();
        assert_eq!(addr.send(Add(3)).await, Ok(3));
        let mark = tree.kill("osd").unwrap();
        addr.do_send(say("queued"));
        let killed = tree.wait_since(mark, "osd", |what| *what == What::Killed).await.unwrap();
        assert_eq!(log.alive.get(), 0);
        let started = tree.wait_since(mark, "osd", is_started).await.unwrap();
        assert!(started.at >= killed.at + 25 * MS);
        assert_eq!((log.lines(), addr.send(Add(1)).await), (vec!["2:queued".into()], Ok(1)));
    });
}

#[test]
fn v5_pause_holds_everything_and_resume_goes_on() {
    local(async {
        let tree = Tree::new(Supervisor::default());
        let log = Log::default();
        let recipe = Recipe::new(log.factory()).on_start(|_, ctx| {
            ctx.run_interval(10 * MS, |worker, _| worker.note("tick"));
        });
        let addr = tree.spawn("osd", recipe, Restart::Always).unwrap();
        tree.wait_for("osd", is_started).await.unwrap();
        tree.pause("osd").unwrap();
        assert!(tree.is_paused("osd"));
        addr.do_send(say("held"));
        tokio::time::sleep(105 * MS).await;
        assert_eq!(log.lines(), [] as [&str; 0]);
        let mark = tree.panic("osd").unwrap();
        tree.wait_since(mark, "osd", is_panicked).await.unwrap();
        tokio::time::sleep(1_000 * MS).await;
        assert_eq!(log.lines(), [] as [&str; 0], "paused across a restart");
        tree.resume("osd").unwrap();
        assert_eq!(addr.send(Add(1)).await, Ok(1));
        // actix makes up for missed ticks, so some follow.
        assert_eq!(log.lines()[0], "2:held");
        let expected = ["osd started", "osd paused", "osd panicked: panic ordered for osd"];
        assert_eq!(told(&tree)[..3], expected);
        assert_eq!(told(&tree)[3..], ["osd restarting 1", "osd resumed", "osd started"]);
    });
}

#[test]
fn v5_panic_reaches_an_actor_that_waits() {
    local(async {
        let tree = Tree::new(Supervisor::default());
        let log = Log::default();
        let addr = tree.child("osd", log.factory(), Restart::Always).unwrap();
        addr.do_send(say("wait"));
        tokio::time::sleep(5 * MS).await;
        let mark = tree.panic("osd").unwrap();
        tree.wait_since(mark, "osd", is_panicked).await.unwrap();
        tree.wait_since(mark, "osd", is_started).await.unwrap();
        tokio::time::sleep(100 * MS).await;
        assert_eq!(log.lines(), ["1:wait"], "the wait died with its actor");
    });
}

#[test]
fn v5_verbs_by_path_and_by_group_handle() {
    local(async {
        let tree = Tree::new(Supervisor::default());
        let endpoint = tree.supervisor("endpoint", Supervisor::default()).unwrap();
        endpoint.child("session-3", Log::default().factory(), Restart::Always).unwrap();
        tree.wait_for("endpoint/session-3", is_started).await.unwrap();
        let mark = tree.kill("endpoint/session-3").unwrap();
        let entry = endpoint.wait_since(mark, "session-3", is_started).await.unwrap();
        assert_eq!(&*entry.path, "endpoint/session-3");
        assert_eq!(tree.members("")[..], [Arc::from("endpoint")]);
        assert_eq!(tree.members("endpoint"), endpoint.members(""));
        assert_eq!(tree.kill("nobody"), Err(TreeError::NotFound));
        assert_eq!(tree.pause("endpoint"), Err(TreeError::WrongKind));
        assert_eq!(tree.group("endpoint/session-3").err(), Some(TreeError::WrongKind));
        let taken = endpoint.child("session-3", Log::default().factory(), Restart::Never);
        assert_eq!(taken.err(), Some(TreeError::Taken));
    });
}

#[test]
fn v5_a_mark_makes_waiting_race_free() {
    local(async {
        let tree = Tree::new(Supervisor::default());
        tree.child("osd", Log::default().factory(), Restart::Always).unwrap();
        let mark = tree.mark();
        tokio::time::sleep(10 * MS).await;
        let past = tree.wait_since(mark, "osd", is_started).await.unwrap();
        assert_eq!(past.at, Duration::ZERO);
        let future = tree.wait_for("osd", is_started);
        tree.kill("osd").unwrap();
        tokio::time::sleep(200 * MS).await;
        assert!(future.await.unwrap().at > Duration::ZERO, "from the call, not from the poll");
    });
}

#[test]
fn v4_handles_and_waits_are_send() {
    fn is_send<T: Send>(_: &T) {}
    let tree = Tree::new(Supervisor::default());
    is_send(&tree);
    is_send(&tree.wait_for("osd", is_started));
    is_send(&tree.shutdown());
}

#[test]
fn removal_during_back_off_and_before_the_first_poll() {
    local(async {
        let tree = Tree::new(Supervisor::default());
        let log = Log::default();
        tree.child("a", log.factory(), Restart::Always).unwrap();
        tree.remove("a").unwrap().await;
        assert_eq!(log.alive.get(), 0);
        let addr = tree.child("a", log.factory(), Restart::Always).expect("the path is free again");
        addr.do_send(say("boom"));
        tree.wait_for("a", is_restarting).await.unwrap();
        tree.remove("a").unwrap().await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(tree.is_empty() && !addr.connected() && log.alive.get() == 0);
        assert_eq!(tree.remove("a").err(), Some(TreeError::NotFound));
    });
}

#[test]
fn removal_of_a_group_and_discarding() {
    local(async {
        let tree = Tree::new(Supervisor::default());
        let log = Log::default();
        let group = tree.supervisor("g", Supervisor::default()).unwrap();
        let deep = group.supervisor("h", Supervisor::default()).unwrap();
        let addr = deep.child("x", log.factory(), Restart::Always).unwrap();
        tree.wait_for("g/h/x", is_started).await.unwrap();
        addr.do_send(say("lost"));
        tree.discard("g").unwrap().await;
        assert_eq!((log.lines().len(), log.alive.get(), tree.len()), (0, 0, 0));
        assert_eq!(
            group.child("y", log.factory(), Restart::Never).err(),
            Some(TreeError::NotFound)
        );
        assert!(tree.wait_for("g", |_| true).now_or_never_is_none());
    });
}

#[test]
fn v5_ten_thousand_children_come_and_go() {
    struct Counted(Rc<()>);
    impl Actor for Counted {
        type Context = Context<Self>;
    }
    local(async {
        let tree = Tree::new(Supervisor::default());
        let sessions = tree.supervisor("sessions", Supervisor::default().together()).unwrap();
        let (actors, recipes) = (Rc::new(()), Rc::new(()));
        let mut removals = Vec::new();
        let mut addrs = Vec::new();
        for round in 0..2 {
            for n in 0..5_000 {
                let (actor, recipe) = (actors.clone(), recipes.clone());
                let factory = move || {
                    let _ = &recipe;
                    Counted(actor.clone())
                };
                let path = format!("s-{round}-{n}");
                addrs.push(sessions.child(&path, factory, Restart::Always).unwrap());
            }
            tokio::task::yield_now().await;
            assert_eq!(tree.len(), 5_001);
            for n in 0..5_000 {
                removals.push(sessions.remove(&format!("s-{round}-{n}")).unwrap());
            }
            for removal in removals.drain(..) {
                removal.await;
            }
            tokio::time::sleep(MS).await;
            assert_eq!(tree.len(), 1);
            assert_eq!((Rc::strong_count(&actors), Rc::strong_count(&recipes)), (1, 1));
        }
        assert!(addrs.iter().all(|addr| !addr.connected()));
        let _ = Counted(actors).0;
    });
}

#[test]
fn a_dropped_local_set_loses_its_children_quietly() {
    let tree = Tree::new(Supervisor::rest_for_one());
    let log = Log::default();
    let addr = local({
        let (tree, log) = (tree.clone(), log.clone());
        async move {
            // The destructor of a task set is no place for `stopping`, nor for a panic of the
            // actor's.
            let factory = log.factory_with(|worker| {
                worker.panic_in_stopping = true;
                worker.panic_in_drop = true;
            });
            let addr = tree.child("osd", factory, Restart::Always).unwrap();
            tree.child("mon", log.factory(), Restart::Always).unwrap();
            tree.wait_for("mon", is_started).await.unwrap();
            addr
        }
    });
    assert!(!addr.connected() && log.alive.get() == 0 && tree.is_empty());
    let lost = told(&tree).iter().filter(|line| line.ends_with("lost")).count();
    assert_eq!(lost, 2);
    assert_eq!(local(tree.shutdown()), None, "nobody is waited for");
}

/// Counts what arrives, on whichever thread.
struct Remote {
    // Not `Send`: the recipe is made over there.
    here: Rc<RefCell<usize>>,
    built: Arc<AtomicUsize>,
}

impl Actor for Remote {
    type Context = Context<Self>;
}

#[derive(Message)]
#[rtype(result = "(usize, std::thread::ThreadId)")]
struct Count;

impl Handler<Count> for Remote {
    type Result = MessageResult<Count>;

    fn handle(&mut self, _: Count, _: &mut Context<Self>) -> MessageResult<Count> {
        *self.here.borrow_mut() += 1;
        let count = *self.here.borrow() + 100 * self.built.load(Ordering::Relaxed);
        MessageResult((count, std::thread::current().id()))
    }
}

#[test]
fn v4_a_child_on_another_arbiter() {
    // Real time, since two threads are involved; every wait is for an event.
    actix_rt::System::new().block_on(async {
        let tree = Tree::new(Supervisor::rest_for_one());
        let arbiter = actix_rt::Arbiter::new();
        let built = Arc::new(AtomicUsize::new(0));
        let make = {
            let built = built.clone();
            move || {
                let here = Rc::new(RefCell::new(0));
                Recipe::new(move || {
                    built.fetch_add(1, Ordering::Relaxed);
                    Remote { here: here.clone(), built: built.clone() }
                })
            }
        };
        let first = Log::default();
        tree.child("first", first.factory(), Restart::Always).unwrap();
        let there = Placement::On(arbiter.handle());
        let addr = tree.spawn_at(&there, "osd", make.clone(), Restart::Always).unwrap();
        let (count, thread) = addr.send(Count).await.unwrap();
        assert_eq!(count, 101, "sent before it was built");
        assert_ne!(thread, std::thread::current().id());

        // An answer may be here before it is told that the life which gave it has started.
        let again = |mark| {
            let mut ended = false;
            tree.wait_since(mark, "osd", move |what| {
                ended |= is_panicked(what) || *what == What::Stopped;
                ended && is_started(what)
            })
        };
        again(tree.panic("osd").unwrap()).await.unwrap();
        assert_eq!(addr.send(Count).await.unwrap(), (202, thread), "V1 across threads");
        again(tree.kill("first").unwrap()).await.unwrap();
        assert_eq!(addr.send(Count).await.unwrap(), (303, thread), "rest-for-one across threads");

        tree.remove("osd").unwrap().await;
        let addr = tree.spawn_at(&there, "osd", make.clone(), Restart::Always).unwrap();
        addr.send(Count).await.unwrap();
        let mark = tree.mark();
        arbiter.stop();
        tree.wait_since(mark, "osd", |what| *what == What::Removed).await.unwrap();
        assert_eq!(tree.history_of("osd").iter().rev().nth(1), Some(&What::Lost));
        arbiter.join().unwrap();
        let gone = tree.spawn_at(&there, "osd", make, Restart::Always);
        assert_eq!(gone.err(), Some(TreeError::ArbiterGone));
        assert_eq!(tree.phase("osd"), None);
        assert_eq!(tree.shutdown().await, None);
    });
}

#[test]
fn v4_mailbox_capacity_holds_across_restarts() {
    local(async {
        let tree = Tree::new(Supervisor::default());
        let recipe = Recipe::new(Log::default().factory());
        let options = ChildOptions::default().mailbox(2);
        let addr = tree.spawn("osd", recipe, options).unwrap();
        addr.do_send(say("boom"));
        tree.wait_for("osd", is_restarting).await.unwrap();
        let accepted = (0..20).take_while(|_| addr.try_send(say("x")).is_ok()).count();
        assert!((1..=4).contains(&accepted), "{accepted}");
    });
}

trait NowOrNever: Future + Sized {
    fn now_or_never_is_none(self) -> bool {
        futures::FutureExt::now_or_never(self).is_none()
    }
}

impl<F: Future> NowOrNever for F {}
