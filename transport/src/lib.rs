//! Movers of frames under Stellate sessions: TCP, RDMA, a seeded virtual network, this process.
//!
//! ```text
//!   session ──submit──► Link ──bytes or slots──► Link ──Batch──► session
//!                        ▲ made by Transport::dial and Listener::poll_accept
//! ```
//!
//! A transport decides nothing: what a frame means, when to dial again and whom to believe is
//! the session's. It keeps the laws F1 to F8 on [`Link`], says what it can do in [`LinkLimits`],
//! and says why a link ended and who is to blame in [`LinkFault`].
//!
//! | scheme | type | what for |
//! | --- | --- | --- |
//! | `tcp` | [`Tcp`] | production |
//! | `local` | [`Local`] | a messenger that connects to its own name |
//! | `rdma` | [`Rdma`](rdma::Rdma) | verbs queue pairs, on the real libraries or a fake NIC |
//! | `sim` | [`SimNet`] | clusters in virtual time, with the profile of any fabric |
//!
//! [`Faults`](faults::Faults) wraps any of them and breaks what a test names.
// Where a C library is called, and nowhere else.
#![cfg_attr(not(any(feature = "rdma", feature = "rsockets")), forbid(unsafe_code))]

pub mod address;
pub mod bell;
pub mod error;
pub mod fault;
pub mod faults;
pub mod limits;
pub mod link;
pub mod local;
pub mod rdma;
#[cfg(feature = "rsockets")]
pub mod rsockets;
pub mod sim;
pub mod tcp;
mod tokens;
pub mod trace;
mod wire;

pub use address::{Address, AddressError};
pub use error::{AcceptError, DialError, ListenError};
pub use fault::LinkFault;
pub use limits::LinkLimits;
pub use link::{
    BYTES_PER_POLL, Batch, CloseHow, Done, Engine, FRAMES_PER_POLL, Full, FullBytes, Link,
    LinkClosed, Listener, Parked, Token, Transport,
};
pub use local::{Local, LocalOptions};
pub use rdma::Lease;
#[cfg(feature = "rsockets")]
pub use rsockets::RSockets;
pub use sim::SimNet;
pub use tcp::{Tcp, TcpOptions};
