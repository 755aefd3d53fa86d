//! A supervision tree for actix actors that survives their panics.
//!
//! ```text
//!   Tree (handle) ──────► Shared ─── Plan: who restarts, when, or who gives up (pure)
//!                           │  ▲
//!                    orders │  │ Started, Exited, Owing one task each, on any arbiter
//!                           ▼  │
//!                        ChildFuture ── mailbox, recipe ── ContextFut ── the actor of the day
//! ```
//!
//! Nobody stands between a child and the decision about it: there is no supervisor task that could
//! fall behind or die. A child's exit is judged where it happens, under one lock that is taken at
//! starts and exits only, never per message.
//!
//! * **V1** A panic in a handler, timer, stream, spawned future, hook or factory costs at most the
//!   message being handled. Mailbox and `Addr` survive, and the actor value is rebuilt by its
//!   [`Recipe`].
//! * **V2** [`Strategy`], [`Intensity`] and [`Backoff`] with seeded jitter; no two starts without a
//!   delay between.
//! * **V3** Spent intensity goes to the parent, and from the root ends the tree in order, with the
//!   chain of causes.
//! * **V4** Anyone's actors hang in the tree; all they need is `Actor<Context = Context<Self>>`.
//! * **V5** [`Tree::kill`], [`Tree::panic`], [`Tree::pause`], [`Tree::resume`], [`Tree::history`].
//!
//! Out of reach, since Rust aborts there: a panic in a destructor that runs while another panic
//! unwinds, such as that of the message in hand, and two panicking destructors in one actor value.
//! An actor whose thread hangs cannot be stopped. A timer or future runs late while its actor is
//! paused.

#[cfg(not(panic = "unwind"))]
compile_error!("stellate-actors rebuilds actors after a panic (V1): build with panic = \"unwind\"");

mod abandon;
mod beside;
mod cause;
mod child;
mod contain;
mod control;
mod history;
mod node;
mod placement;
mod plan;
mod policy;
mod pump;
mod recipe;
mod shared;
mod tree;
mod verbs;

pub(crate) use abandon::{abandon_thread, is_abandoning};
pub use cause::{Cause, Exit, Fate};
pub(crate) use contain::contain;
pub use history::{Entry, HISTORY_MAX, Mark, What};
pub use node::{Input, NodeId, Output, Phase, TreeError};
pub use placement::Placement;
pub use plan::Plan;
pub use policy::{
    BACKOFF, Backoff, ChildOptions, DRAIN_MAX, INTENSITY, Intensity, MAILBOX, Restart, StopOrder,
    Strategy, Supervisor, Time,
};
pub use pump::BATCH;
pub use recipe::Recipe;
pub use tree::Tree;
pub use verbs::WaitError;
