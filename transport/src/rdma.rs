//! RDMA: verbs queue pairs under the same traits as TCP.
//!
//! ```text
//!   driver ──► verbs (a thin trait) ──► the real libraries, or a fake NIC in virtual time
//! ```

pub mod memory;
pub mod verbs;
