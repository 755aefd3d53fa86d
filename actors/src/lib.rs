//! Stellate's supervision tree, and one thin actor per moving part of the messenger.

mod alarm;
mod dispatch;
mod endpoint;
pub mod handle;
pub mod inbox;
mod link;
mod listener;
pub mod node;
mod reactor;
mod reconnect;
pub mod router;
mod session;
pub mod shared;
pub mod supervise;
mod told;
pub mod waiting;
mod wake;
