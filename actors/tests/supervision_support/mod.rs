//! A worker that does as it is told, and a runtime whose time is frozen.
#![allow(dead_code, reason = "each test file uses its part")]

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;
use stellate_actors::supervise::{Tree, What};

/// Runs `test` on one thread with paused time and no I/O.
pub(crate) fn local<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test)
}

/// What all incarnations of a worker noted, each line led by the number of the incarnation.
#[derive(Clone, Default)]
pub(crate) struct Log {
    lines: Rc<RefCell<Vec<String>>>,
    incarnations: Rc<Cell<u32>>,
    pub(crate) alive: Rc<Cell<i32>>,
}

impl Log {
    pub(crate) fn factory(&self) -> impl FnMut() -> Worker + 'static {
        let log = self.clone();
        move || {
            log.incarnations.set(log.incarnations.get() + 1);
            log.alive.set(log.alive.get() + 1);
            Worker { incarnation: log.incarnations.get(), log: log.clone(), ..Worker::default() }
        }
    }

    /// As `factory`, with a change to every worker.
    pub(crate) fn factory_with(
        &self,
        change: impl Fn(&mut Worker) + 'static,
    ) -> impl FnMut() -> Worker + 'static {
        let mut make = self.factory();
        move || {
            let mut worker = make();
            change(&mut worker);
            worker
        }
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.borrow().clone()
    }
}

#[derive(Default)]
pub(crate) struct Worker {
    pub(crate) panic_in_started: bool,
    pub(crate) panic_in_stopping: bool,
    pub(crate) panic_in_stopped: bool,
    pub(crate) panic_in_drop: bool,
    /// How often `stopping` answers `Continue`.
    pub(crate) reluctance: u32,
    pub(crate) stop_in_started: bool,
    incarnation: u32,
    sum: i64,
    log: Log,
}

impl Worker {
    pub(crate) fn note(&self, text: &str) {
        self.log.lines.borrow_mut().push(format!("{}:{text}", self.incarnation));
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.log.alive.set(self.log.alive.get() - 1);
        if self.panic_in_drop {
            panic!("drop");
        }
    }
}

impl Actor for Worker {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        assert!(!self.panic_in_started, "started");
        if self.stop_in_started {
            ctx.stop();
        }
    }

    fn stopping(&mut self, _: &mut Context<Self>) -> Running {
        assert!(!self.panic_in_stopping, "stopping");
        if self.reluctance > 0 {
            self.reluctance -= 1;
            return Running::Continue;
        }
        Running::Stop
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        assert!(!self.panic_in_stopped, "stopped");
    }
}

/// Notes a text; `boom` panics, `stop` stops, `wait` waits 50 ms.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Say(pub(crate) String);

pub(crate) fn say(text: &str) -> Say {
    Say(text.to_owned())
}

impl Handler<Say> for Worker {
    type Result = ();

    fn handle(&mut self, Say(text): Say, ctx: &mut Context<Self>) {
        if text == "boom" {
            panic!("boom");
        }
        self.note(&text);
        match &*text {
            "stop" => ctx.stop(),
            "wait" => {
                let nap = tokio::time::sleep(Duration::from_millis(50));
                ctx.wait(nap.into_actor(self).map(|(), worker, _| worker.note("waited")));
            }
            _ => {}
        }
    }
}

/// Adds to the worker's sum and answers it; negative numbers panic.
#[derive(Message)]
#[rtype(result = "i64")]
pub(crate) struct Add(pub(crate) i64);

impl Handler<Add> for Worker {
    type Result = i64;

    fn handle(&mut self, Add(n): Add, _: &mut Context<Self>) -> i64 {
        assert!(n >= 0, "negative");
        self.sum += n;
        self.sum
    }
}

impl StreamHandler<u8> for Worker {
    fn handle(&mut self, n: u8, _: &mut Context<Self>) {
        assert_ne!(n, 13, "thirteen");
    }

    fn finished(&mut self, _: &mut Context<Self>) {}
}

pub(crate) fn is_started(what: &What) -> bool {
    *what == What::Started
}

pub(crate) fn is_panicked(what: &What) -> bool {
    matches!(what, What::Panicked { .. })
}

pub(crate) fn is_restarting(what: &What) -> bool {
    matches!(what, What::Restarting { .. })
}

/// The history as text, one line an entry, without the times.
pub(crate) fn told(tree: &Tree) -> Vec<String> {
    let line = |path: &str, what: &What| match what {
        What::Restarting { attempt, .. } => format!("{path} restarting {attempt}"),
        What::Panicked { message } => format!("{path} panicked: {message}"),
        What::GaveUp { .. } => format!("{path} gave up"),
        What::Escalated { to } => format!("{path} escalated to {to}"),
        what => format!("{path} {}", format!("{what:?}").to_lowercase()),
    };
    tree.history().iter().map(|entry| line(&entry.path, &entry.what)).collect()
}
