//! The rules of Stellate: frames, sessions, budgets, races and ends, as pure state machines.
#![forbid(unsafe_code)]

pub mod check;
pub mod class;
pub mod codec;
pub mod directory;
pub mod error;
pub mod event;
pub mod frame;
pub mod id;
pub mod inbox;
pub mod limits;
pub mod outbox;
mod parcel;
pub mod policy;
pub mod session;

pub use class::{Class, Lane, LaneSet};
pub use error::Blame;
pub use frame::{Frame, FrameKind, Payload};
pub use id::{
    Attempt, EntityKind, EntityName, Identity, Incarnation, Instance, LinkId, Question, RequestId,
    Role, Seq, SessionId, Time,
};
pub use parcel::Parcel;
