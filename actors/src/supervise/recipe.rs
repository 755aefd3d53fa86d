//! How an actor is made, again and again.

use std::rc::Rc;

use actix::{Actor, Context};

use super::beside::Beside;
use super::cause::Exit;

type Factory<A> = Box<dyn FnMut(&mut Context<A>) -> A>;
type OnStart<A> = Box<dyn FnMut(&mut A, &mut Context<A>)>;
type OnExit = Box<dyn FnMut(&Exit)>;
type OnPause = Box<dyn FnMut(bool)>;
pub(super) type Owes = Rc<dyn Fn() -> bool>;
type MakeBeside<A> = Box<dyn FnMut(&mut A) -> Beside>;

/// How a child is built at every start, and what is told at every exit.
///
/// Lives on the thread the actor lives on, so it need not be `Send`. All its code may panic: that
/// counts as a panic of the child.
pub struct Recipe<A: Actor<Context = Context<A>>> {
    factory: Factory<A>,
    on_start: Vec<OnStart<A>>,
    on_exit: Vec<OnExit>,
    on_pause: Vec<OnPause>,
    owes: Option<Owes>,
    beside: Option<MakeBeside<A>>,
}

impl<A: Actor<Context = Context<A>>> Recipe<A> {
    /// An actor that `factory` builds.
    pub fn new(mut factory: impl FnMut() -> A + 'static) -> Self {
        Self::with_context(move |_| factory())
    }

    /// An actor whose factory wants its context, for its address say.
    pub fn with_context(factory: impl FnMut(&mut Context<A>) -> A + 'static) -> Self {
        let (on_start, on_exit, on_pause) = (Vec::new(), Vec::new(), Vec::new());
        Self { factory: Box::new(factory), on_start, on_exit, on_pause, owes: None, beside: None }
    }

    /// Called after every build, before `Actor::started` and before the first message. Here a
    /// future or stream that must outlive the actor value is attached again. Several hooks run in
    /// the order given.
    pub fn on_start(mut self, hook: impl FnMut(&mut A, &mut Context<A>) + 'static) -> Self {
        self.on_start.push(Box::new(hook));
        self
    }

    /// Called after every exit, when the actor value is gone and its supervisor has decided. It
    /// runs on the child's thread and may use the tree. A panic in it is logged and costs nothing.
    pub fn on_exit(mut self, hook: impl FnMut(&Exit) + 'static) -> Self {
        self.on_exit.push(Box::new(hook));
        self
    }

    /// Called when the child is paused, with true, and when it is resumed, or told to stop while it
    /// is paused, with false: for work of the actor's that somebody else does. It runs on the
    /// child's thread. A panic in it is logged and costs nothing.
    pub fn on_pause(mut self, hook: impl FnMut(bool) + 'static) -> Self {
        self.on_pause.push(Box::new(hook));
        self
    }

    /// Asked once the child is told to stop and its mailbox is empty: while it says true, the actor is
    /// polled on and not asked to stop. One that was not built yet, or waits for its next start, still
    /// is built, and one that panics or is killed is built again, if its [`Restart`](super::Restart),
    /// the intensity of its group and what is left of its drain period allow. What it owes must get less
    /// with each poll of the actor that does not wait for a future. It runs on the child's thread, where
    /// a panic of it is no.
    pub fn owes(mut self, owes: impl Fn() -> bool + 'static) -> Self {
        self.owes = Some(Rc::new(owes));
        self
    }

    pub(super) fn owing(&self) -> Option<Owes> {
        self.owes.clone()
    }

    /// Work that most wake-ups of the actor are for, made after every build. It has its turn at each of
    /// them, after the context; and the context, which asks all it has at each poll, only has one when
    /// something woke it. It is paused, and its panic is the actor's, as that of a future that the
    /// actor has spawned.
    pub(crate) fn beside(mut self, make: impl FnMut(&mut A) -> Beside + 'static) -> Self {
        self.beside = Some(Box::new(make));
        self
    }

    pub(super) fn make_beside(&mut self, actor: &mut A) -> Option<Beside> {
        self.beside.as_mut().map(|make| make(actor))
    }

    pub(super) fn paused(&mut self, paused: bool, path: &str) {
        for hook in &mut self.on_pause {
            if let Err(message) = super::contain::contain(|| hook(paused)) {
                tracing::error!(path, %message, "a pause hook panicked");
            }
        }
    }

    pub(super) fn build(&mut self, ctx: &mut Context<A>) -> A {
        let mut actor = (self.factory)(ctx);
        self.on_start.iter_mut().for_each(|hook| hook(&mut actor, ctx));
        actor
    }

    pub(super) fn exited(&mut self, exit: &Exit) {
        for hook in &mut self.on_exit {
            if let Err(message) = super::contain::contain(|| hook(exit)) {
                tracing::error!(path = %exit.path, %message, "an exit hook panicked");
            }
        }
    }
}

impl<A: Actor<Context = Context<A>>> std::fmt::Debug for Recipe<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recipe").finish_non_exhaustive()
    }
}
