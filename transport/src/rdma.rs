//! RDMA: verbs queue pairs under the same traits as TCP.
//!
//! ```text
//!   driver ──► verbs (a thin trait) ──► the real libraries, or a fake NIC in virtual time
//! ```

#![allow(dead_code)] // The driver that uses these parts comes next.

mod buddy;
mod credit;
mod greeting;
mod header;
pub mod memory;
mod pool;
mod sends;
#[cfg(feature = "rdma")]
pub mod sys;
pub mod verbs;

pub use self::pool::{PoolOptions, PoolUse};
