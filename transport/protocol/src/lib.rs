//! The rules of Stellate: frames, sessions, budgets, races and ends, as pure state machines.
#![forbid(unsafe_code)]

pub mod class;
pub mod codec;
pub mod error;
pub mod frame;
pub mod id;
mod parcel;

pub use class::{Class, Lane};
pub use error::Blame;
pub use frame::{Frame, FrameKind, Payload};
pub use id::{
    Attempt, EntityKind, EntityName, Identity, Incarnation, Instance, LinkId, RequestId, Role, Seq,
    SessionId, Time,
};
pub use parcel::Parcel;
