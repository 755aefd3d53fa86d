//! For tests: faults at frame edges, and the virtual network.
//!
//! ```ignore
//! let faults = Faults::new();
//! let messenger = Messenger::builder(name).transport(faults.wrap(Arc::new(Tcp::new()))).build().await?;
//! faults.on(FrameKind::Message, Direction::Sent, 3, Fault::Fail);
//! ```
//!
//! The supervision verbs (`kill`, `panic`, `pause`, `resume`) are on
//! [`Messenger::tree`](crate::Messenger::tree).

pub use stellate_actors::supervise::{Cause, Entry, Mark, Phase as NodePhase, Tree, What};
pub use stellate_protocol::FrameKind;
pub use stellate_transport::faults::{Direction, Edge, Fault, Faults, Gate, Hit};
pub use stellate_transport::sim::{self, SimNet};
