//! Errors that say who is to blame and what to do next.

use std::fmt;

/// A name that cannot be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// Empty or too long.
    Length {
        /// Bytes given.
        len: usize,
        /// Most bytes allowed.
        max: usize,
    },
    /// A byte outside `[a-z0-9_-]`.
    Character {
        /// The byte.
        byte: u8,
    },
    /// Not of the form `kind.number`.
    NoNumber,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { len, max } => write!(f, "a name has 1 to {max} bytes, this one {len}"),
            Self::Character { byte } => {
                write!(f, "a name has only a-z, 0-9, '_' and '-', this one has byte {byte:#04x}")
            }
            Self::NoNumber => f.write_str("an entity is written kind.number, like osd.3"),
        }
    }
}

impl std::error::Error for NameError {}

/// Who is to blame for a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Blame {
    /// This process: fix the call or the configuration.
    Local,
    /// The peer broke the protocol: report it, a retry will not help for long.
    PeerMisbehaved,
    /// The peer is of another version or configuration: upgrade or reconfigure one side.
    PeerIncompatible,
    /// The network or the device: the session redials if its policy says so.
    Transport,
}

impl fmt::Display for Blame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local => "local",
            Self::PeerMisbehaved => "peer misbehaved",
            Self::PeerIncompatible => "peer incompatible",
            Self::Transport => "transport",
        })
    }
}
