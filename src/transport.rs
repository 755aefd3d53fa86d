//! Transports: what can be set about those that are built in, and the traits to hand in one's own.
//!
//! | Scheme | Built in | Set up by |
//! | --- | --- | --- |
//! | `tcp` | always | [`MessengerBuilder::tcp`](crate::MessengerBuilder::tcp) |
//! | `rdma` | with the feature `rdma` | `MessengerBuilder::rdma` |
//! | `rsocket` | with the feature `rsockets` | `MessengerBuilder::rsockets` |
//!
//! What the messenger's [`Limits`] say need not be repeated in these options, and is not asked of
//! them: `wire`, the lengths that a peer may send, and what users may keep of received data.
//!
//! ```
//! use std::time::Duration;
//! use stellate::prelude::*;
//! use stellate::transport::TcpOptions;
//!
//! # async fn build(name: EntityName) -> Result<Messenger, BuildError> {
//! let give_up = Some(Duration::from_secs(30));
//! let tcp = TcpOptions { user_timeout: give_up, ..TcpOptions::default() };
//! let limits = Limits { data_max: 16 << 20, ..Limits::default() };
//! let messenger = Messenger::builder(name).limits(limits).tcp(tcp).build().await?;
//! # Ok(messenger)
//! # }
//! ```
//!
//! # A transport of one's own
//!
//! Four traits: [`Transport`] dials and listens, [`Listener`] accepts, [`Link`] moves frames, and
//! [`Parked`] is a link between two threads. Their laws, F1 to F8, stand at `Link`'s module in
//! `stellate_transport`, whose suite `tests/contract.rs` holds a transport to them; `docs/rdma.md`
//! has the steps. [`codec`] makes bytes of frames. What is made goes to
//! [`MessengerBuilder::transport`](crate::MessengerBuilder::transport), as does a built-in one that is
//! to be shared by several messengers, or asked what it has in use: over RDMA with the `wire` of their
//! limits, `WireLimits::from(&limits)`, else each has an endpoint of its own in its place.

use std::time::Duration;

pub use stellate_protocol::codec::{self, Outbound, WireLimits};
pub use stellate_protocol::{Frame, Lane, Parcel};
#[cfg(feature = "rsockets")]
pub use stellate_transport::RSockets;
pub use stellate_transport::limits::{
    Boundary, CloseNotice, FirstSpeaker, LinkLimits, Readiness, Underflow,
};
pub use stellate_transport::rdma::verbs::{VerbsError, VerbsErrorKind, WorkFault};
#[cfg(feature = "rdma")]
pub use stellate_transport::rdma::{
    EndpointUse, PoolOptions, PoolUse, Rdma, RdmaOptions,
    sys::System,
    verbs::{DeviceInfo, Fabric, PortState, Verbs},
};
pub use stellate_transport::tcp::ByteCut;
pub use stellate_transport::{
    AcceptError, Address, AddressError, BYTES_PER_POLL, Batch, CloseHow, DialError, Done, Engine,
    FRAMES_PER_POLL, Full, FullBytes, Lease, Link, LinkClosed, LinkFault, ListenError, Listener,
    Parked, Tcp, TcpOptions, Token, Transport,
};

use crate::Limits;

/// Options of the transports that are built in, as their user gave them.
#[derive(Debug, Default)]
pub(crate) struct BuiltIn {
    pub(crate) tcp: TcpOptions,
    #[cfg(feature = "rsockets")]
    pub(crate) rsockets: TcpOptions,
    #[cfg(feature = "rdma")]
    pub(crate) rdma: RdmaOptions,
}

/// A stream's options, with what the messenger says for all its transports.
pub(crate) fn of_stream(
    options: TcpOptions,
    limits: &Limits,
    spin: Option<Duration>,
) -> TcpOptions {
    TcpOptions {
        wire: WireLimits::from(limits),
        user_held: user_held(limits),
        spin: spin.unwrap_or(options.spin),
        ..options
    }
}

/// The same for RDMA. What users may keep is a part of the pool there, whose options may say it.
#[cfg(any(feature = "rdma", test))]
pub(crate) fn of_rdma(
    mut options: stellate_transport::rdma::RdmaOptions,
    limits: &Limits,
    spin: Option<Duration>,
) -> stellate_transport::rdma::RdmaOptions {
    options.wire = WireLimits::from(limits);
    options.pool.held_max = Some(options.pool.held(user_held(limits)));
    options.spin = spin.unwrap_or(options.spin);
    options
}

fn user_held(limits: &Limits) -> usize {
    usize::try_from(limits.user_held).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use stellate_transport::rdma::{PoolOptions, RdmaOptions};

    use super::*;

    const MIB: usize = 1024 * 1024;

    fn limits() -> Limits {
        Limits { user_held: 3 * MIB as u64, data_max: 1234, ..Limits::default() }
    }

    #[test]
    fn options_of_a_stream_need_not_repeat_the_messengers_limits() {
        let given = TcpOptions { backlog: 7, spin: Duration::ZERO, ..TcpOptions::default() };
        let options = of_stream(given.clone(), &limits(), None);
        assert_eq!(options.wire, WireLimits::from(&limits()));
        assert_eq!(options.user_held, 3 * MIB);
        assert_eq!((options.backlog, options.spin), (7, Duration::ZERO), "as they were given");
        let spin = Duration::from_micros(9);
        assert_eq!(of_stream(given, &limits(), Some(spin)).spin, spin, "said for all");
    }

    #[test]
    fn s7_what_users_may_keep_is_the_limits_over_rdma_too() {
        let held = |pool, limits: Limits| {
            let options = RdmaOptions { pool, ring: 32, ..RdmaOptions::default() };
            let options = of_rdma(options, &limits, None);
            assert_eq!(options.wire, WireLimits::from(&limits));
            assert_eq!(options.ring, 32, "as it was given");
            options.pool.held_max
        };
        assert_eq!(held(PoolOptions::default(), limits()), Some(3 * MIB));
        let said = PoolOptions { held_max: Some(5 * MIB), ..PoolOptions::default() };
        assert_eq!(held(said, limits()), Some(5 * MIB), "its user set it");
        // Never so much that no link can be funded.
        let all = Limits { user_held: u64::MAX, ..Limits::default() };
        let slots_max = PoolOptions::default().slots_max;
        assert_eq!(held(PoolOptions::default(), all), Some(slots_max / 2));
    }
}
