//! Addresses: where to dial or listen, never who is there.
//!
//! An address is a scheme, which picks the transport, and a rest that only that transport reads:
//! `tcp://127.0.0.1:6800`, `tcp://[::1]:0`, `rdma://10.77.0.1:6800`, `sim://osd.1`, `local://a`.
//! Identity is apart: a peer may move to another address, or another transport, and its sessions
//! go on.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

/// Longest address, bytes.
pub const ADDRESS_MAX: usize = 255;

/// Where to dial or listen. Cloning copies a handle.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    text: Arc<str>,
    scheme_len: u8,
}

impl Address {
    /// Puts `scheme` and `rest` together.
    ///
    /// # Errors
    /// [`AddressError`] as for parsing `scheme://rest`.
    pub fn new(scheme: &str, rest: &str) -> Result<Self, AddressError> {
        Self::checked(format!("{scheme}://{rest}").into())
    }

    /// The address of a socket: `scheme://ip:port`.
    ///
    /// # Errors
    /// [`AddressError::Scheme`] if the scheme is none.
    pub fn of_socket(scheme: &str, socket: SocketAddr) -> Result<Self, AddressError> {
        Self::checked(format!("{scheme}://{socket}").into())
    }

    /// What picks the transport: `tcp`.
    pub fn scheme(&self) -> &str {
        &self.text[..usize::from(self.scheme_len)]
    }

    /// What the transport reads: `127.0.0.1:6800`.
    pub fn rest(&self) -> &str {
        &self.text[usize::from(self.scheme_len) + 3..]
    }

    /// The whole, as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The rest as IP and port. Names are not resolved: that would block.
    ///
    /// # Errors
    /// [`AddressError::Socket`] if it is not `ip:port` or `[ip6]:port`.
    pub fn socket(&self) -> Result<SocketAddr, AddressError> {
        self.rest().parse().map_err(|_| AddressError::Socket { given: self.text.clone() })
    }

    /// This address with the host of `seen` in place of an unspecified one: somebody who listens
    /// at `0.0.0.0:6800` is reached where it was seen, at port 6800. Others stay as they are.
    #[must_use]
    pub fn with_host_of(self, seen: &Self) -> Self {
        match (self.socket(), seen.socket()) {
            (Ok(mine), Ok(theirs)) if mine.ip().is_unspecified() => {
                let socket = SocketAddr::new(theirs.ip(), mine.port());
                Self::of_socket(self.scheme(), socket).unwrap_or(self)
            }
            _ => self,
        }
    }

    /// Checks that the scheme is the one given.
    ///
    /// # Errors
    /// [`AddressError::WrongScheme`] if it is another.
    pub fn expect_scheme(&self, expected: &'static str) -> Result<(), AddressError> {
        if self.scheme() == expected {
            return Ok(());
        }
        Err(AddressError::WrongScheme { given: self.text.clone(), expected })
    }

    fn checked(text: Arc<str>) -> Result<Self, AddressError> {
        if text.len() > ADDRESS_MAX {
            return Err(AddressError::TooLong { len: text.len() });
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(AddressError::NoScheme { given: text });
        };
        let letter = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'+' | b'-' | b'.');
        if scheme.is_empty() || !scheme.bytes().all(letter) {
            return Err(AddressError::Scheme { given: text });
        }
        if rest.is_empty() || !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(AddressError::Rest { given: text });
        }
        let scheme_len = scheme.len() as u8;
        Ok(Self { text, scheme_len })
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::checked(text.into())
    }
}

impl TryFrom<&str> for Address {
    type Error = AddressError;

    fn try_from(text: &str) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        Self::checked(text.into())
    }
}

impl TryFrom<&Address> for Address {
    type Error = AddressError;

    fn try_from(address: &Address) -> Result<Self, AddressError> {
        Ok(address.clone())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A text that is no address, or none for this transport. Always ours to fix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressError {
    /// No `://`.
    NoScheme {
        /// What was given.
        given: Arc<str>,
    },
    /// The scheme is empty or has other bytes than `a-z 0-9 + - .`.
    Scheme {
        /// What was given.
        given: Arc<str>,
    },
    /// Nothing after `://`, or a blank or control byte in it.
    Rest {
        /// What was given.
        given: Arc<str>,
    },
    /// Longer than [`ADDRESS_MAX`].
    TooLong {
        /// Bytes given.
        len: usize,
    },
    /// Not `ip:port`; names are not resolved.
    Socket {
        /// What was given.
        given: Arc<str>,
    },
    /// The transport that was asked serves another scheme.
    WrongScheme {
        /// What was given.
        given: Arc<str>,
        /// What it serves.
        expected: &'static str,
    },
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoScheme { given } => {
                write!(f, "an address is written scheme://rest, not {given:?}")
            }
            Self::Scheme { given } => {
                write!(f, "{given:?} has no scheme of a-z, 0-9, '+', '-', '.' before ://")
            }
            Self::Rest { given } => write!(f, "{given:?} has nothing usable after ://"),
            Self::TooLong { len } => {
                write!(f, "an address has at most {ADDRESS_MAX} bytes, this one {len}")
            }
            Self::Socket { given } => write!(
                f,
                "{given:?} needs an IP and a port, like 127.0.0.1:6800 or [::1]:0; names are not resolved"
            ),
            Self::WrongScheme { given, expected } => {
                write!(f, "{given:?} is not for the {expected} transport")
            }
        }
    }
}

impl std::error::Error for AddressError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_back_as_written() {
        for text in [
            "tcp://127.0.0.1:6800",
            "tcp://[::1]:0",
            "sim://osd.1",
            "local://a",
            "rdma://10.77.0.1:6800",
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
            assert_eq!(Address::new(address.scheme(), address.rest()).unwrap(), address);
        }
        let socket = "tcp://[::1]:7".parse::<Address>().unwrap().socket();
        assert_eq!(socket.unwrap(), "[::1]:7".parse().unwrap());
    }

    #[test]
    fn what_is_no_address_is_refused_with_its_reason() {
        let parse = |text: &str| text.parse::<Address>().unwrap_err();
        assert!(matches!(parse("localhost:1"), AddressError::NoScheme { .. }));
        assert!(matches!(parse("://a"), AddressError::Scheme { .. }));
        assert!(matches!(parse("TCP://a"), AddressError::Scheme { .. }));
        assert!(matches!(parse("tcp://"), AddressError::Rest { .. }));
        assert!(matches!(parse("tcp://a b"), AddressError::Rest { .. }));
        let long = format!("tcp://{}", "a".repeat(300));
        assert!(matches!(parse(&long), AddressError::TooLong { len: 306 }));
        let named: Address = "tcp://localhost:1".parse().unwrap();
        assert!(matches!(named.socket(), Err(AddressError::Socket { .. })));
        assert!(named.expect_scheme("sim").is_err());
    }
}
