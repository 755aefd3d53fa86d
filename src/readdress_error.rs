//! Why a connection stays on the addresses that it has.

use std::fmt;

use stellate_actors::shared;
use stellate_protocol::event::EndCause;
use stellate_protocol::{Blame, EntityName};
use stellate_transport::{Address, AddressError};

/// Why [`readdress`](crate::Connection::readdress) did nothing. What the network does is not among
/// it: a session that was readdressed dials until it comes up, or ends as any other.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReaddressError {
    /// A text is no address.
    Address(AddressError),
    /// No address was given.
    NoAddress,
    /// No transport is built in for the scheme.
    NoTransport(Address),
    /// The policy towards that peer is a server's, which never dials: the peer has to move.
    NeverDials(EntityName),
    /// The session is lossy and up: it ends with its link. Close it and connect anew.
    Lossy,
    /// The session is closing, or over.
    SessionEnded {
        /// Why it ended; `None` while it is closing.
        cause: Option<EndCause>,
    },
}

impl ReaddressError {
    pub(crate) fn new(error: shared::ReaddressError) -> Self {
        match error {
            shared::ReaddressError::NoAddress => Self::NoAddress,
            shared::ReaddressError::NoTransport(address) => Self::NoTransport(address),
            shared::ReaddressError::NeverDials(name) => Self::NeverDials(name),
            shared::ReaddressError::Lossy => Self::Lossy,
            shared::ReaddressError::Ended(cause) => Self::SessionEnded { cause },
        }
    }

    /// Who is to blame; nobody for a session that ended in order.
    pub fn blame(&self) -> Option<Blame> {
        match self {
            Self::SessionEnded { cause } => cause.as_ref().and_then(crate::send_error::blame_of),
            _ => Some(Blame::Local),
        }
    }
}

impl fmt::Display for ReaddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(error) => error.fmt(f),
            Self::NoAddress => f.write_str("readdress needs an address to dial"),
            Self::NoTransport(address) => {
                write!(f, "no transport is built in for {address}: see `stellate explain`")
            }
            Self::NeverDials(name) => {
                write!(f, "the policy towards {name} is a server's, which never dials")
            }
            Self::Lossy => {
                f.write_str("a lossy session ends with its link: close it and connect anew")
            }
            Self::SessionEnded { cause: Some(cause) } => {
                write!(f, "the session has ended: {}", crate::send_error::describe(cause))
            }
            Self::SessionEnded { cause: None } => f.write_str("the session is closing"),
        }
    }
}

impl std::error::Error for ReaddressError {}
