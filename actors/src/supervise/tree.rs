//! The handle to a supervision tree.

use std::future::Future;
use std::sync::Arc;

use actix::dev::channel::{AddressReceiver, channel};
use actix::{Actor, Addr, Context};

use super::cause::Cause;
use super::child::{ChildFuture, Seat};
use super::control::Control;
use super::node::{Input, NodeId, TreeError};
use super::placement::Placement;
use super::policy::{ChildOptions, Restart, Supervisor, Time};
use super::recipe::Recipe;
use super::shared::Shared;

/// A supervision tree, or one group of it: the group that [`Tree::supervisor`] returned sees paths
/// from there on.
///
/// A handle is cheap to clone and may be used from any thread. Dropping all handles ends nothing:
/// the children hold the tree, and [`Tree::shutdown`] ends it.
///
/// Paths are names joined by `/`, such as `osd` or `endpoint/session-3`. The groups on the way must
/// exist.
#[derive(Clone)]
pub struct Tree {
    pub(super) shared: Arc<Shared>,
    base: Arc<str>,
}

impl Tree {
    /// A tree whose root group is supervised so. It needs no task of its own, so no runtime either.
    pub fn new(root: Supervisor) -> Self {
        Self { shared: Arc::new(Shared::new(root)), base: "".into() }
    }

    /// Makes a group at `path` and returns a handle to it.
    ///
    /// # Errors
    ///
    /// See [`TreeError`]; nothing has changed then.
    pub fn supervisor(&self, path: &str, spec: Supervisor) -> Result<Self, TreeError> {
        let base = self.absolute(path);
        self.shared.change(|core| core.plan.add_group(core.now, &base, spec))?;
        Ok(Self { shared: self.shared.clone(), base })
    }

    /// As [`Tree::supervisor`], of a group that counts as started after everything else beside it, also
    /// after what comes later: it is the first to be stopped.
    ///
    /// # Errors
    ///
    /// [`TreeError::WrongKind`] in a rest-for-one group; else see [`TreeError`]. Nothing has changed then.
    pub fn outer_supervisor(&self, path: &str, spec: Supervisor) -> Result<Self, TreeError> {
        let base = self.absolute(path);
        self.shared.change(|core| core.plan.add_outer_group(core.now, &base, spec))?;
        Ok(Self { shared: self.shared.clone(), base })
    }

    /// A handle to a group that exists.
    ///
    /// # Errors
    ///
    /// [`TreeError::NotFound`], or [`TreeError::WrongKind`] for a child.
    pub fn group(&self, path: &str) -> Result<Self, TreeError> {
        let base = self.absolute(path);
        self.shared.read(|core| match core.plan.find(&base) {
            None => Err(TreeError::NotFound),
            Some(node) if core.plan.is_group(node) => Ok(()),
            Some(_) => Err(TreeError::WrongKind),
        })?;
        Ok(Self { shared: self.shared.clone(), base })
    }

    /// Starts a child here, which `factory` builds at every start. Short for [`Tree::spawn`].
    ///
    /// # Errors
    ///
    /// See [`TreeError`]; nothing has changed then.
    ///
    /// # Panics
    ///
    /// Outside of a `LocalSet` or actix system, as every local spawn.
    pub fn child<A: Actor<Context = Context<A>>>(
        &self,
        path: &str,
        factory: impl FnMut() -> A + 'static,
        restart: Restart,
    ) -> Result<Addr<A>, TreeError> {
        self.spawn(path, Recipe::new(factory), restart)
    }

    /// Starts a child in the caller's `LocalSet`. The address holds for all its incarnations and is
    /// valid at once; the actor is built when the child is first polled.
    ///
    /// A child lives until it is removed, ends for good by its [`Restart`], or the tree ends.
    /// Unlike a plain actix actor it does not stop when its last address is dropped.
    ///
    /// # Errors
    ///
    /// See [`TreeError`]; nothing has changed then.
    ///
    /// # Panics
    ///
    /// Outside of a `LocalSet` or actix system, as every local spawn.
    pub fn spawn<A: Actor<Context = Context<A>>>(
        &self,
        path: &str,
        recipe: Recipe<A>,
        options: impl Into<ChildOptions>,
    ) -> Result<Addr<A>, TreeError> {
        let (addr, seat, mailbox) = self.seat(path, options.into())?;
        actix_rt::spawn(ChildFuture::new(seat, recipe, mailbox));
        Ok(addr)
    }

    /// Starts a child on any thread. `make` runs there, so the recipe may hold what is not `Send`.
    /// The address is returned at once all the same, and takes messages.
    ///
    /// # Errors
    ///
    /// See [`TreeError`]; nothing has changed then, but for [`TreeError::ArbiterGone`] the history
    /// has a `Lost`.
    ///
    /// # Panics
    ///
    /// With [`Placement::Here`] outside of a `LocalSet` or actix system, as every local spawn. A panic of
    /// `make` itself is the caller's here; on another arbiter it ends the child as `Lost`.
    pub fn spawn_at<A: Actor<Context = Context<A>>>(
        &self,
        placement: &Placement,
        path: &str,
        make: impl FnOnce() -> Recipe<A> + Send + 'static,
        options: impl Into<ChildOptions>,
    ) -> Result<Addr<A>, TreeError> {
        let (addr, seat, mailbox) = self.seat(path, options.into())?;
        placement.run(move || {
            actix_rt::spawn(ChildFuture::new(seat, make(), mailbox));
        })?;
        Ok(addr)
    }

    /// Takes a child or a group out of the tree. A child drains, a group's children do in reverse
    /// start order.
    ///
    /// It begins at once; the future resolves when the node is gone and its path is free again, and
    /// may be dropped.
    ///
    /// # Errors
    ///
    /// [`TreeError::NotFound`]. For the group of this handle itself use the empty path.
    pub fn remove(
        &self,
        path: &str,
    ) -> Result<impl Future<Output = ()> + Send + 'static, TreeError> {
        self.take_out(path, false)
    }

    /// As [`Tree::remove`], without draining: actors are dropped, and what their mailboxes hold is
    /// lost.
    ///
    /// # Errors
    ///
    /// [`TreeError::NotFound`].
    pub fn discard(
        &self,
        path: &str,
    ) -> Result<impl Future<Output = ()> + Send + 'static, TreeError> {
        self.take_out(path, true)
    }

    /// Ends the whole tree, whichever group this handle is of: children stop in reverse start
    /// order, each within its drain period.
    ///
    /// It begins at once; the future resolves when all are gone, and may be dropped. It says why
    /// the tree ended: `None` for a shutdown, a cause if the root had given up before (V3).
    pub fn shutdown(&self) -> impl Future<Output = Option<Cause>> + Send + 'static {
        self.shared.change(|core| core.plan.handle(core.now, Input::Shutdown));
        self.ended()
    }

    /// Resolves when the tree has ended and nothing of it is left, so that a port its actors listened
    /// on is free: with `None` after a shutdown, with the chain of causes when the root gave up.
    pub fn ended(&self) -> impl Future<Output = Option<Cause>> + Send + 'static {
        let shared = self.shared.clone();
        async move {
            loop {
                let changed = shared.changed.notified();
                if let Some(cause) = shared.ended() {
                    return cause;
                }
                changed.await;
            }
        }
    }

    /// Time since the tree was made, as the history counts it.
    pub fn now(&self) -> Time {
        self.shared.change(|core| core.now)
    }

    /// The whole path of a path of this handle.
    pub(super) fn absolute(&self, path: &str) -> Arc<str> {
        match (&*self.base, path) {
            (_, "") => self.base.clone(),
            ("", path) => path.into(),
            (base, path) => format!("{base}/{path}").into(),
        }
    }

    fn seat<A: Actor<Context = Context<A>>>(
        &self,
        path: &str,
        options: ChildOptions,
    ) -> Result<(Addr<A>, Seat, AddressReceiver<A>), TreeError> {
        if path.is_empty() {
            return Err(TreeError::BadName);
        }
        let path = self.absolute(path);
        let control = Arc::new(Control::default());
        let node = self.shared.change(|core| {
            let node = core.plan.add_child(core.now, &path, options)?;
            core.controls.insert(node, control.clone());
            Ok(node)
        })?;
        let (sender, mailbox) = channel(options.mailbox.min(MAILBOX_MAX));
        self.shared.seated();
        let seat = Seat { shared: self.shared.clone(), control, node, path };
        Ok((Addr::new(sender), seat, mailbox))
    }

    fn take_out(
        &self,
        path: &str,
        at_once: bool,
    ) -> Result<impl Future<Output = ()> + Send + 'static, TreeError> {
        let path = self.absolute(path);
        let node = self.shared.change(|core| {
            let node = core.plan.find(&path).ok_or(TreeError::NotFound)?;
            core.plan.handle(core.now, Input::Remove { node, at_once });
            Ok(node)
        })?;
        Ok(gone(self.shared.clone(), node))
    }
}

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tree").field("base", &self.base).finish_non_exhaustive()
    }
}

/// actix refuses larger channels with a panic.
const MAILBOX_MAX: usize = 1 << 20;

async fn gone(shared: Arc<Shared>, node: NodeId) {
    loop {
        let changed = shared.changed.notified();
        if shared.read(|core| core.plan.phase(node).is_none()) {
            return;
        }
        changed.await;
    }
}
