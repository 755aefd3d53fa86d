//! Placeholder.

pub mod message;
