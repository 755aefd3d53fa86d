//! Stellate's supervision tree, and one thin actor per moving part of the messenger.

pub mod supervise;
