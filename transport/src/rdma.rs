//! RDMA: verbs queue pairs under the same traits as TCP.
//!
//! ```text
//!   Rdma ── dial, listen ─► Endpoint ── polls ─► CM events, completions, async events
//!                              │ a batch to an inbox, one wake-up
//!                              ▼
//!   session ── submit ─► RdmaLink ── SEND: frames in slots, offers ─► queue pair ─► verbs
//!                              └──── READ: what the peer offers ────►
//! ```
//!
//! Small messages are copied into a slot of registered memory and sent; the data of large ones is
//! announced and pulled by the session as everywhere, and each chunk that it sends becomes an
//! *offer*, which the receiver READs into its final place. `verbs.rs` is the seam: below it are
//! the real libraries (feature `rdma`) or a NIC in virtual time.
//!
//! Whoever is on the other side of a link can read the memory that leases, pulled data and offers
//! lie in, of all links of the device: peers must trust each other.

mod audience;
mod buddy;
mod cq_room;
mod credit;
mod endpoint;
pub mod fake;
mod flight;
mod greeting;
mod header;
mod homecoming;
mod inbox;
mod incoming;
mod interest;
mod link;
pub mod memory;
mod options;
mod outgoing;
mod pool;
#[cfg(any(feature = "rdma", feature = "rsockets"))]
pub(crate) mod refusal;
mod sends;
mod sink;
#[cfg(feature = "rdma")]
pub mod sys;
mod transport;
pub mod verbs;

pub use self::endpoint::EndpointUse;
pub use self::options::RdmaOptions;
pub use self::pool::{Lease, PoolOptions, PoolUse};
pub use self::transport::Rdma;

/// The scheme.
pub(crate) const SCHEME: &str = "rdma";
