//! Stellate's supervision tree, and one thin actor per moving part of the messenger.

pub mod handle;
pub mod inbox;
pub mod router;
pub mod shared;
pub mod supervise;
