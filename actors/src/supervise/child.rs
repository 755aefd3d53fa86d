//! The future that one child is: it owns the mailbox, and one actor at a time.
//!
//! ```text
//!            Start(0)                        panic, stop, kill
//!  ┌─────► Idle ───────────► Running ──────────────┐
//!  │        │ Start(delay),     ▲                  │
//!  │        │ Start and Stop    │                  │
//!  │        └────► BackOff ─────┘ delay over       │
//!  │                  │ Stop, nothing owed         │
//!  └──────────────────┴──────── Exited ◄───────────┘     Retire: the future ends
//! ```
//!
//! * **V1** The mailbox lies outside the actor's context: a panic drops the context and the message
//!   in hand, no more.
//! * The broken actor is dropped without `stopping` and `stopped`: those would run on a value
//!   nobody may trust.
//! * **S3** Whatever message it still holds, in a future, in its state or in the mailbox, is not
//!   handled: `super::abandon`.
//! * **S4** What its recipe owes is done before it stops, also by an actor that backs off, that was not
//!   built yet, or that fails while it drains: all within one drain period.
//! * **V2** One exit is reported for each start, and nothing starts by itself.
//! * Orders are for the life that they are given to, which begins with its start and not with its build.
//!   Whatever is left of them at its exit goes with it.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as Task, Poll, Waker};
use std::time::Duration;

use actix::dev::channel::AddressReceiver;
use actix::dev::{AsyncContextParts, ContextFut, ContextParts};
use actix::{Actor, ActorContext, AsyncContext, Context};
use tokio::time::{Sleep, sleep};

use super::beside::Side;
use super::cause::{Cause, Exit, Fate};
use super::contain::{abandon, contain};
use super::control::{Control, Orders};
use super::node::NodeId;
use super::pump::{Mailbox, Probe, Pump};
use super::recipe::Recipe;
use super::shared::Shared;

/// A child's place in the tree. Dropped without being retired, it reports the child lost.
pub(super) struct Seat {
    pub(super) shared: Arc<Shared>,
    pub(super) control: Arc<Control>,
    pub(super) node: NodeId,
    pub(super) path: Arc<str>,
}

impl Seat {
    fn exited(&self, cause: Cause, owes: bool) -> Fate {
        self.shared.exited(self.node, cause, owes)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // After a retirement the node is unknown and this does nothing.
        self.exited(Cause::Lost, false);
        self.shared.left();
    }
}

struct Running<A: Actor<Context = Context<A>>> {
    actor: ContextFut<A, Context<A>>,
    beside: Option<Side>,
    probe: Rc<Probe>,
    reported: bool,
}

impl<A: Actor<Context = Context<A>>> Running<A> {
    fn poll(&mut self, task: &mut Task<'_>) -> Poll<()> {
        let actor = &mut self.actor;
        match &mut self.beside {
            Some(side) => side.poll(task, |context| Pin::new(actor).poll(context)),
            None => Pin::new(actor).poll(task),
        }
    }
}

#[allow(clippy::large_enum_variant, reason = "a child runs nearly always; a box would cost a jump")]
enum State<A: Actor<Context = Context<A>>> {
    Idle,
    BackOff(Pin<Box<Sleep>>),
    Running(Running<A>),
}

enum Turn {
    Again,
    Wait,
}

/// See the module.
pub(super) struct ChildFuture<A: Actor<Context = Context<A>>> {
    state: State<A>,
    orders: Orders,
    /// This life was told to stop, and has until then.
    drain: Option<Pin<Box<Sleep>>>,
    /// What wakes this future.
    waker: Option<Waker>,
    // Before the seat: when the future is dropped these go first, then the loss is reported.
    recipe: Option<Recipe<A>>,
    mailbox: Option<Mailbox<A>>,
    seat: Seat,
}

impl<A: Actor<Context = Context<A>>> ChildFuture<A> {
    pub(super) fn new(seat: Seat, recipe: Recipe<A>, mailbox: AddressReceiver<A>) -> Self {
        Self {
            state: State::Idle,
            orders: Orders::default(),
            drain: None,
            waker: None,
            recipe: Some(recipe),
            mailbox: Some(Rc::new(RefCell::new(mailbox))),
            seat,
        }
    }

    fn take_orders(&mut self, task: &Task<'_>) {
        if let Some(new) = self.seat.control.take(&mut self.waker, task.waker()) {
            let old = std::mem::take(&mut self.orders);
            if let (true, Some(recipe)) = (new.paused != old.paused, &mut self.recipe) {
                recipe.paused(new.paused, &self.seat.path);
            }
            self.orders = Orders {
                start: new.start.or(old.start),
                stop: new.stop.or(old.stop),
                kill: new.kill || old.kill,
                panic: new.panic.or(old.panic),
                retire: new.retire || old.retire,
                paused: new.paused,
            };
            // Its context has something to do then: stop, panic.
            if let State::Running(Running { beside: Some(side), .. }) = &mut self.state {
                side.look();
            }
        }
    }

    fn turn(&mut self, task: &mut Task<'_>) -> Turn {
        match &mut self.state {
            State::Idle => match self.orders.start.take() {
                None => {
                    // Orders for an actor that is gone already.
                    (self.orders.stop, self.orders.kill, self.orders.panic) = (None, false, None);
                    Turn::Wait
                }
                Some(Duration::ZERO) if self.orders.stop.is_none() => self.build(),
                Some(after) => {
                    self.state = State::BackOff(Box::pin(sleep(after)));
                    Turn::Again
                }
            },
            State::BackOff(delay) => {
                let (start, over) = (delay.deadline(), delay.as_mut().poll(task).is_ready());
                (self.orders.kill, self.orders.panic) = (false, None);
                let at_once = self.take_stop();
                let in_time = self.drain.as_ref().is_none_or(|drain| start < drain.deadline());
                if at_once || !in_time || (self.drain.is_some() && !self.owes()) {
                    self.exit(Cause::Stopped)
                } else if over {
                    self.build()
                } else {
                    Turn::Wait
                }
            }
            State::Running(_) => self.run(task),
        }
    }

    fn build(&mut self) -> Turn {
        let (Some(recipe), Some(mailbox)) = (&mut self.recipe, &self.mailbox) else {
            return Turn::Wait;
        };
        let probe = Rc::new(Probe::default());
        let built = contain(|| {
            // A context whose own mailbox stays empty: its address and capacity are those of the
            // lasting one.
            let mut ctx = Context::new();
            *ctx.parts() = ContextParts::new(mailbox.borrow().sender_producer());
            let (mailbox, probe) = (mailbox.clone(), probe.clone());
            ctx.spawn(Pump { mailbox, probe, owes: recipe.owing() });
            let mut actor = recipe.build(&mut ctx);
            let beside = recipe.make_beside(&mut actor);
            (ctx.into_future(actor), beside)
        });
        match built {
            Ok((actor, work)) => {
                let beside = work.map(Side::new);
                let running = Running { actor, beside, probe, reported: false };
                self.state = State::Running(running);
                Turn::Again
            }
            Err(message) => self.exit(Cause::Panicked { message }),
        }
    }

    fn run(&mut self, task: &mut Task<'_>) -> Turn {
        if std::mem::take(&mut self.orders.kill) {
            return self.exit(Cause::Killed);
        }
        if self.take_stop() {
            return self.exit(Cause::Stopped);
        }
        let State::Running(running) = &mut self.state else {
            return Turn::Wait;
        };
        if self.drain.is_some() && !running.probe.draining.replace(true) {
            // Told to stop it gets its chance to drain, paused or not.
            if let (true, Some(recipe)) = (self.orders.paused, &mut self.recipe) {
                recipe.paused(false, &self.seat.path);
            }
        }
        running.probe.panic.replace(self.orders.panic.take());
        running.probe.asked.set(false);
        let paused = self.orders.paused && self.drain.is_none();
        let polled = contain(|| {
            let polled = if paused { Poll::Pending } else { running.poll(task) };
            // Not reached when the actor waits for a future, or is paused.
            running.probe.trip();
            polled
        });
        if running.probe.started.get() && !std::mem::replace(&mut running.reported, true) {
            self.seat.shared.started(self.seat.node);
        }
        match polled {
            Err(message) => self.exit(Cause::Panicked { message }),
            Ok(Poll::Ready(())) => self.exit(Cause::Stopped),
            Ok(Poll::Pending) => {
                let overdue =
                    self.drain.as_mut().is_some_and(|drain| drain.as_mut().poll(task).is_ready());
                if overdue { self.exit(Cause::Overdue) } else { Turn::Wait }
            }
        }
    }

    /// Takes an order to stop. Whether that is to be at once.
    fn take_stop(&mut self) -> bool {
        let stop = self.orders.stop.take();
        if let Some(drain) = stop {
            self.drain = Some(Box::pin(sleep(drain)));
        }
        stop.is_some_and(|drain| drain.is_zero())
    }

    fn owes(&self) -> bool {
        let owing = self.recipe.as_ref().and_then(Recipe::owing);
        contain(|| owing.is_some_and(|owes| owes())).unwrap_or(false)
    }

    fn exit(&mut self, cause: Cause) -> Turn {
        self.drop_actor();
        // Before it is judged: what is ordered from there on is for the next.
        (self.orders.stop, self.orders.kill, self.orders.panic) = (None, false, None);
        self.drain = None;
        let failed = matches!(cause, Cause::Panicked { .. } | Cause::Killed);
        let fate = self.seat.exited(cause.clone(), failed && self.owes());
        if let Some(recipe) = &mut self.recipe {
            recipe.exited(&Exit { path: self.seat.path.clone(), cause, fate });
        }
        Turn::Again
    }

    /// Drops the actor value and all its futures, without a last word from it.
    fn drop_actor(&mut self) {
        let state = std::mem::replace(&mut self.state, State::Idle);
        if let State::Running(mut running) = state {
            // Else the destructor would poll once more, and call `stopping` and `stopped`.
            running.actor.ctx().terminate();
            abandon(running, &self.seat.path);
        }
    }

    fn drop_all(&mut self) {
        self.drop_actor();
        abandon(self.recipe.take(), &self.seat.path);
        abandon(self.mailbox.take(), &self.seat.path);
    }
}

impl<A: Actor<Context = Context<A>>> Future for ChildFuture<A> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<()> {
        let this = self.get_mut();
        loop {
            this.take_orders(task);
            if this.orders.retire {
                this.drop_all();
                return Poll::Ready(());
            }
            if let Turn::Wait = this.turn(task) {
                return Poll::Pending;
            }
        }
    }
}

impl<A: Actor<Context = Context<A>>> Drop for ChildFuture<A> {
    fn drop(&mut self) {
        self.drop_all();
    }
}
