//! V1: what a panic costs, and what survives it.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod supervision_support;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;
use futures::{StreamExt, stream};
use stellate_actors::supervise::{
    Cause, ChildOptions, Fate, Recipe, Restart, Supervisor, Tree, What,
};
use supervision_support::{Add, Log, Worker, is_panicked, is_restarting, is_started, local, say};

/// Runs `boom` in the context of a fresh actor's first incarnation and expects the second to serve
/// the mailbox.
fn survives(boom: impl Fn(&mut Worker, &mut Context<Worker>) + 'static) {
    local(async move {
        let tree = Tree::new(Supervisor::default());
        let log = Log::default();
        let armed = Rc::new(Cell::new(true));
        let recipe = Recipe::new(log.factory()).on_start(move |worker, ctx| {
            if armed.replace(false) {
                boom(worker, ctx);
            }
        });
        let addr = tree.spawn("osd", recipe, Restart::Always).unwrap();
        let start = tree.mark();
        tree.wait_since(start, "osd", is_panicked).await.unwrap();
        assert!(addr.connected(), "V1: the address survives");
        addr.do_send(say("queued"));
        tree.wait_for("osd", is_started).await.unwrap();
        assert_eq!(addr.send(Add(1)).await.unwrap(), 1, "V1: a fresh value answers");
        assert_eq!(log.lines(), ["2:queued"], "V1: the mailbox survives");
    });
}

#[test]
fn v1_panic_in_a_timer() {
    survives(|_, ctx| {
        ctx.run_later(Duration::from_millis(5), |_, _| panic!("timer"));
    });
}

#[test]
fn v1_panic_in_an_interval() {
    survives(|_, ctx| {
        ctx.run_interval(Duration::from_millis(5), |_, _| panic!("interval"));
    });
}

#[test]
fn v1_panic_in_a_stream() {
    survives(|_, ctx| {
        ctx.add_stream(stream::iter([0u8, 1, 13]));
    });
}

#[test]
fn v1_panic_in_a_stream_that_panics_itself() {
    survives(|_, ctx| {
        ctx.add_stream(stream::iter([0u8, 1]).map(|n| if n == 1 { panic!("source") } else { n }));
    });
}

#[test]
fn v1_panic_in_a_spawned_future() {
    survives(|_, ctx| {
        ctx.spawn(async { panic!("future") }.into_actor_of_worker());
    });
}

#[test]
fn v1_panic_in_a_waited_future() {
    survives(|_, ctx| ctx.wait(async { panic!("wait") }.into_actor_of_worker()));
}

#[test]
fn v1_panic_in_a_hook() {
    survives(|_, _| panic!("hook"));
}

#[test]
fn v1_panic_in_started() {
    survives(|worker, _| worker.panic_in_started = true);
}

#[test]
fn v1_panic_in_stopping() {
    survives(|worker, ctx| {
        worker.panic_in_stopping = true;
        ctx.run_later(Duration::from_millis(1), |_, ctx| ctx.stop());
    });
}

#[test]
fn v1_panic_in_stopped() {
    survives(|worker, ctx| {
        worker.panic_in_stopped = true;
        ctx.run_later(Duration::from_millis(1), |_, ctx| ctx.stop());
    });
}

#[test]
fn v1_panic_twice_in_one_actor() {
    // `stopping` of the broken value must not run: during a panic it would abort the process.
    survives(|worker, ctx| {
        worker.panic_in_stopping = true;
        worker.panic_in_drop = true;
        ctx.run_later(Duration::from_millis(1), |_, _| panic!("first"));
    });
}

#[test]
fn v1_panic_with_a_payload_that_panics() {
    struct Nasty;
    impl Drop for Nasty {
        fn drop(&mut self) {
            panic!("payload");
        }
    }
    survives(|_, ctx| {
        ctx.run_later(Duration::from_millis(1), |_, _| std::panic::panic_any(Nasty));
    });
}

#[test]
fn v1_panic_in_the_factory() {
    local(async {
        let tree = Tree::new(Supervisor::default());
        let log = Log::default();
        let (mut make, mut calls) = (log.factory(), 0);
        let factory = move || {
            calls += 1;
            if calls < 3 { panic!("no worker today") } else { make() }
        };
        let addr = tree.child("osd", factory, Restart::Always).unwrap();
        assert_eq!(addr.send(Add(2)).await.unwrap(), 2);
        let panics = tree.history_of("osd").into_iter().filter(is_panicked).count();
        assert_eq!(panics, 2);
    });
}

#[test]
fn v1_only_the_message_in_hand_is_lost() {
    local(async {
        let tree = Tree::new(Supervisor::default());
        let log = Log::default();
        let addr = tree.child("osd", log.factory(), Restart::Always).unwrap();
        addr.do_send(say("a"));
        addr.do_send(say("boom"));
        (0..40).for_each(|n| addr.do_send(say(&format!("q{n}"))));
        addr.do_send(say("boom"));
        addr.do_send(say("z"));
        assert_eq!(addr.send(Add(0)).await.unwrap(), 0);
        let mut expected = vec!["1:a".to_owned()];
        expected.extend((0..40).map(|n| format!("2:q{n}")));
        expected.push("3:z".to_owned());
        assert_eq!(log.lines(), expected, "V1: in order, by fresh values, but for the two in hand");
    });
}

#[test]
fn v1_the_ask_in_hand_fails_and_the_next_succeeds() {
    local(async {
        let tree = Tree::new(Supervisor::default());
        let addr = tree.child("osd", Log::default().factory(), Restart::Always).unwrap();
        assert_eq!(addr.send(Add(5)).await.unwrap(), 5);
        let (in_hand, next) = (addr.send(Add(-1)), addr.send(Add(7)));
        assert_eq!(in_hand.await, Err(MailboxError::Closed), "V1: the message in hand");
        assert_eq!(next.await, Ok(7), "V1: the next, by a fresh value: 7 and not 12");
    });
}

#[test]
fn v1_timers_start_anew_and_old_ones_are_gone() {
    local(async {
        let tree = Tree::new(Supervisor::default());
        let log = Log::default();
        let recipe = Recipe::new(log.factory()).on_start(|_, ctx| {
            ctx.run_interval(Duration::from_millis(400), |worker, _| worker.note("tick"));
        });
        tree.spawn("osd", recipe, Restart::Always).unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        tree.panic("osd").unwrap();
        tree.wait_for("osd", is_started).await.unwrap();
        tokio::time::sleep(Duration::from_millis(900)).await;
        assert_eq!(log.lines(), ["1:tick", "2:tick", "2:tick"]);
    });
}

#[test]
fn v1_the_address_of_every_incarnation_is_the_same() {
    local(async {
        let tree = Tree::new(Supervisor::default());
        let seen = Rc::new(RefCell::new(Vec::new()));
        let (log, seen_here) = (Log::default(), seen.clone());
        let recipe = Recipe::new(log.factory())
            .on_start(move |_, ctx| seen_here.borrow_mut().push(ctx.address()));
        let addr = tree.spawn("osd", recipe, Restart::Always).unwrap();
        addr.do_send(say("boom"));
        assert_eq!(addr.send(Add(1)).await.unwrap(), 1);
        assert_eq!(*seen.borrow(), [addr.clone(), addr]);
    });
}

#[test]
fn v1_a_flood_does_not_starve_timers() {
    local(async {
        let tree = Tree::new(Supervisor::default());
        let log = Log::default();
        let recipe = Recipe::new(log.factory()).on_start(|_, ctx| {
            ctx.run_later(Duration::ZERO, |worker, _| worker.note("timer"));
        });
        let addr = tree.spawn("osd", recipe, Restart::Always).unwrap();
        (0..1000).for_each(|_| addr.do_send(say("flood")));
        assert_eq!(addr.send(Add(0)).await.unwrap(), 0);
        let timer = log.lines().iter().position(|line| line == "1:timer").unwrap();
        assert!(timer < 200, "after {timer} messages");
    });
}

#[test]
fn v1_waiting_holds_the_mailbox_back() {
    local(async {
        let tree = Tree::new(Supervisor::default());
        let log = Log::default();
        let addr = tree.child("osd", log.factory(), Restart::Always).unwrap();
        addr.do_send(say("wait"));
        addr.do_send(say("after"));
        tokio::time::sleep(Duration::from_millis(30)).await;
        assert_eq!(log.lines(), ["1:wait"]);
        assert_eq!(addr.send(Add(0)).await.unwrap(), 0);
        assert_eq!(log.lines(), ["1:wait", "1:waited", "1:after"]);
    });
}

#[test]
fn v1_no_last_address_and_no_item_still_lives() {
    local(async {
        let tree = Tree::new(Supervisor::default());
        drop(tree.child("osd", Log::default().factory(), Restart::Always).unwrap());
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(tree.history_of("osd"), [What::Started]);
    });
}

#[test]
fn v1_one_shot_children_tell_their_cause_and_leave() {
    local(async {
        let tree = Tree::new(Supervisor::default().intensity(0, Duration::from_secs(1)));
        let exits = Rc::new(RefCell::new(Vec::new()));
        let spawn = |name: &str| {
            let exits = exits.clone();
            let recipe = Recipe::new(Log::default().factory())
                .on_exit(move |exit| exits.borrow_mut().push((exit.cause.clone(), exit.fate)))
                .on_exit(|_| panic!("a hook of no consequence"));
            tree.spawn(name, recipe, Restart::Never).unwrap()
        };
        for (name, text) in [("a", "boom"), ("b", "stop"), ("c", "")] {
            let addr = spawn(name);
            tree.wait_for(name, is_started).await.unwrap();
            let mark = tree.mark();
            match text {
                "" => drop(tree.kill(name).unwrap()),
                text => addr.do_send(say(text)),
            }
            tree.wait_since(mark, name, |what| *what == What::Removed).await.unwrap();
            tokio::task::yield_now().await;
            assert!(!addr.connected(), "the mailbox of {name} is closed");
        }
        let panicked = Cause::Panicked { message: "boom".into() };
        let expected = [panicked, Cause::Stopped, Cause::Killed].map(|cause| (cause, Fate::Ends));
        assert_eq!(*exits.borrow(), expected);
        assert!(tree.is_empty());
    });
}

#[test]
fn v1_exits_tell_what_comes_next() {
    local(async {
        let tree = Tree::new(Supervisor::default());
        let fates = Rc::new(RefCell::new(Vec::new()));
        let here = fates.clone();
        let recipe = Recipe::new(Log::default().factory())
            .on_exit(move |exit| here.borrow_mut().push(exit.fate));
        tree.spawn("osd", recipe, ChildOptions::default()).unwrap();
        tree.wait_for("osd", is_started).await.unwrap();
        let mark = tree.kill("osd").unwrap();
        let entry = tree.wait_since(mark, "osd", is_restarting).await.unwrap();
        let What::Restarting { attempt, after } = entry.what else { unreachable!() };
        tree.shutdown().await;
        assert_eq!(*fates.borrow(), [Fate::Restarts { attempt, after }, Fate::Ends]);
    });
}

/// `WrapFuture` needs the actor's type, which inference does not find in a closure.
trait IntoWorker: Future<Output = ()> + Sized + 'static {
    fn into_actor_of_worker(self) -> impl ActorFuture<Worker, Output = ()> + 'static {
        actix::fut::wrap_future::<_, Worker>(self)
    }
}

impl<F: Future<Output = ()> + 'static> IntoWorker for F {}
