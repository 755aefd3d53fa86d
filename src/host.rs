//! Users' actors in the messenger's supervision tree (V4).
//!
//! ```text
//!   DispatchQueue ─► Inbox ─► Pump in the actor's context ─► Handler<Incoming<M>>::handle
//!                      ▲                 │
//!                      └ registration ── Work: outlives the actor value, ends with its seat
//! ```

mod calls;
mod pump;
mod table;

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use actix::{Actor, Addr, AsyncContext, Context, Handler};
use stellate_actors::inbox::Inbox;
use stellate_actors::node::Node;
use stellate_actors::router::RouteError;
use stellate_actors::supervise::{self, ChildOptions, Recipe, TreeError};

use self::pump::{Pump, Registration, Work};
use self::table::Table;
use crate::admission::AdmissionRequest;
use crate::event::SessionEvent;
use crate::incoming::Incoming;
use crate::message::{Message, MessageType};

/// Where a user's actor runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Placement {
    /// On a thread of its own, made for it and stopped when it has left the tree for good: with it
    /// end the plain actors and futures that it started there. A handler that blocks it stalls
    /// nobody else. A message costs a hop between threads, shared by its batch. In a
    /// messenger without arbiters, as in simulation or if it was built outside of an actix system, the
    /// same as `Current`. Else any thread may start it, also one without a runtime.
    #[default]
    OwnArbiter,
    /// On a thread of the messenger: no hop, the least latency. A handler that blocks stalls every
    /// session on that thread. In a messenger without arbiters, the same as `Current`.
    Inline,
    /// On the caller's thread, in its actix system or `LocalSet`: it must be in one.
    Current,
}

/// The inboxes of a messenger's hosted actors, by their names in the tree.
///
/// An actor that has left the tree may still be on its way out on its own thread. Its types are
/// free all the same: whoever hosts the next one takes its registration back first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hosted {
    inboxes: Arc<Mutex<BTreeMap<String, Arc<Inbox>>>>,
}

impl Hosted {
    fn sweep(&self, node: &Node) {
        let mut inboxes = self.inboxes.lock().unwrap_or_else(PoisonError::into_inner);
        inboxes.retain(|name, inbox| {
            let gone = inbox.is_closed() || node.tree().phase(name).is_none();
            if gone {
                pump::retire(node, inbox);
            }
            !gone
        });
    }

    /// After the tree has it: a sweep would take it out again before.
    fn enter(&self, name: String, inbox: Arc<Inbox>) {
        let mut inboxes = self.inboxes.lock().unwrap_or_else(PoisonError::into_inner);
        inboxes.insert(name, inbox);
    }
}

/// An actor that is to be hosted: say what it handles, then [`start`](Self::start).
#[must_use = "nothing is hosted before `start`"]
pub struct Hosting<A: Actor<Context = Context<A>>> {
    node: Node,
    hosted: Hosted,
    name: String,
    factory: Box<dyn FnMut() -> A + Send>,
    options: ChildOptions,
    placement: Placement,
    table: Table<A>,
    twice: Option<MessageType>,
}

impl<A: Actor<Context = Context<A>>> Hosting<A> {
    pub(crate) fn new(
        node: Node,
        hosted: Hosted,
        name: String,
        factory: Box<dyn FnMut() -> A + Send>,
        options: ChildOptions,
    ) -> Self {
        let (placement, table) = (Placement::default(), Table::new());
        Self { node, hosted, name, factory, options, placement, table, twice: None }
    }

    /// It handles messages of type `M`, from every peer. One actor a type.
    pub fn handle<M: Message>(mut self) -> Self
    where
        A: Handler<Incoming<M>>,
    {
        if !self.table.enter::<M>() {
            self.twice = Some(M::TYPE);
        }
        self
    }

    /// It is told what happens to sessions, of all peers. Several actors may be. Messages that
    /// cannot be delivered here are told to the first of them that registered.
    pub fn events(mut self) -> Self
    where
        A: Handler<SessionEvent>,
    {
        self.table.enter_events();
        self
    }

    /// It decides who is let in. One actor a messenger; without one, everybody is.
    pub fn admission(mut self) -> Self
    where
        A: Handler<AdmissionRequest>,
    {
        self.table.enter_admission();
        self
    }

    /// Where it runs; on a thread of its own if nothing is said.
    pub fn placement(mut self, placement: Placement) -> Self {
        self.placement = placement;
        self
    }

    /// Starts it. The address is valid at once and through all restarts; the actor is built on its
    /// thread. Messages wait for it from now on.
    ///
    /// # Errors
    /// [`SuperviseError`]; nothing has changed then.
    pub fn start(self) -> Result<Addr<A>, SuperviseError> {
        let Self { node, hosted, name, factory, options, placement, table, twice } = self;
        if let Some(kind) = twice {
            return Err(SuperviseError::HandledTwice(kind));
        }
        // The tree would take the empty path for the root, which is there.
        if name.split('/').any(str::is_empty) {
            return Err(SuperviseError::Tree(TreeError::BadName, name));
        }
        if Node::owns_path(&name) {
            return Err(SuperviseError::Reserved(name));
        }
        hosted.sweep(&node);
        if node.tree().phase(&name).is_some() {
            return Err(SuperviseError::Tree(TreeError::Taken, name));
        }
        let here = match placement {
            Placement::Current => supervise::Placement::Here,
            Placement::Inline | Placement::OwnArbiter => node.inline_placement(),
        };
        let here = matches!(here, supervise::Placement::Here);
        if here && tokio::runtime::Handle::try_current().is_err() {
            return Err(SuperviseError::NoLocalSet);
        }
        let inbox = Inbox::named(&name, node.limits().inbox_messages);
        node.router()
            .register(&inbox, &table.types(), table.events.is_some(), table.admission.is_some())
            .map_err(SuperviseError::route)?;
        // From here on its drop takes it out again, however this ends.
        let mut registration =
            Registration { node: node.clone(), inbox: inbox.clone(), thread: None };
        if let Some(scribe) = node.scribe() {
            table.names.iter().for_each(|(kind, name)| scribe.name_type(*kind, name));
        }
        let place = match placement {
            Placement::Current => supervise::Placement::Here,
            Placement::Inline => node.inline_placement(),
            Placement::OwnArbiter => {
                let thread = node.own_thread();
                let thread = thread.map_err(|error| SuperviseError::NoThread(error.kind()))?;
                registration.thread.insert(thread).placement()
            }
        };
        // Moves to the actor's thread, or is dropped, which takes the registration back.
        let make = move || {
            let work = Rc::new(Work::new(registration, table));
            let news = work.clone();
            Recipe::new(factory).owes(move || news.has_news()).on_start(move |_, ctx| {
                ctx.spawn(Pump { work: work.clone() });
            })
        };
        let spawn = || node.tree().spawn_at(&place, &name, make, options);
        // A runtime is not yet a `LocalSet`, and nothing but a spawn finds out.
        let spawned = match here {
            true => catch_unwind(AssertUnwindSafe(spawn)),
            false => Ok(spawn()),
        };
        match spawned {
            Ok(Ok(addr)) => {
                hosted.enter(name, inbox);
                Ok(addr)
            }
            Ok(Err(error)) => Err(SuperviseError::Tree(error, name)),
            Err(_) => Err(SuperviseError::NoLocalSet),
        }
    }
}

impl<A: Actor<Context = Context<A>>> fmt::Debug for Hosting<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hosting")
            .field("name", &self.name)
            .field("types", &self.table.types())
            .field("placement", &self.placement)
            .finish_non_exhaustive()
    }
}

/// Why an actor could not be hosted. Always this side's to fix; nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SuperviseError {
    /// `handle` was called twice for one type, or two types have one number.
    HandledTwice(MessageType),
    /// Another actor handles that type.
    TypeTaken(MessageType),
    /// Another actor is the admission.
    AdmissionTaken,
    /// The tree did not take a child of that name.
    Tree(TreeError, String),
    /// The name is, or lies below, one of the messenger's own: `endpoint`, `sessions`, `links`, and
    /// `dispatch-`, `reconnect-` or `listener-` with a number.
    Reserved(String),
    /// It would run on this thread, which has no `LocalSet` or actix system; see [`Placement`]. On a thread
    /// with a runtime all the same, the history of the tree tells of a child that was lost.
    NoLocalSet,
    /// The system gave no thread for it.
    NoThread(std::io::ErrorKind),
}

impl SuperviseError {
    fn route(error: RouteError) -> Self {
        match error {
            RouteError::TypeTaken(kind) => Self::TypeTaken(MessageType::new(kind)),
            RouteError::AdmissionTaken => Self::AdmissionTaken,
        }
    }
}

impl fmt::Display for SuperviseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HandledTwice(kind) => {
                write!(f, "message type {kind} was given to `handle` twice for one actor")
            }
            Self::TypeTaken(kind) => {
                write!(f, "message type {kind} has a handler already: one actor a type")
            }
            Self::AdmissionTaken => f.write_str("another actor is the admission already"),
            Self::Reserved(name) => write!(
                f,
                "cannot host an actor as {name:?}: that is for the messenger's own actors, take another name"
            ),
            Self::NoLocalSet => f.write_str(
                "this thread has no `LocalSet` for the actor: start it inside of an actix system, or build \
                 the messenger in one and place the actor on a thread of its own or inline",
            ),
            Self::NoThread(kind) => write!(f, "there is no thread for the actor: {kind}"),
            Self::Tree(error, name) => write!(f, "cannot host an actor as {name:?}: {error}"),
        }
    }
}

impl std::error::Error for SuperviseError {}
