//! For tests: faults at frame edges, and the virtual network.
//!
//! ```
//! # use std::sync::Arc;
//! # use stellate::prelude::*;
//! use stellate::testing::{Direction, Fault, Faults, FrameKind, Tcp};
//! # async fn cut(name: EntityName) -> Result<Messenger, BuildError> {
//! let faults = Faults::new();
//! // Its third message is lost, and the link with it.
//! faults.on(FrameKind::Message, Direction::Sent, 3, Fault::Fail);
//! let tcp = faults.wrap(Arc::new(Tcp::new()));
//! let messenger = Messenger::builder(name).transport(tcp).build().await?;
//! # Ok(messenger)
//! # }
//! ```
//!
//! The supervision verbs (`kill`, `panic`, `pause`, `resume`) are on
//! [`Messenger::tree`](crate::Messenger::tree).

pub use stellate_actors::supervise::{Cause, Entry, Mark, Phase as NodePhase, Tree, What};
pub use stellate_protocol::FrameKind;
pub use stellate_transport::faults::{Direction, Edge, Fault, Faults, Gate, Hit};
pub use stellate_transport::sim::{self, SimNet};
pub use stellate_transport::{Tcp, TcpOptions, Transport};
