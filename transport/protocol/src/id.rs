//! Who and which: the identities that Ceph's first messenger mixed up, kept apart.
//!
//! | type | answers | compared how |
//! | --- | --- | --- |
//! | [`EntityName`] | who, in the cluster | equality; order only for the race (S5) |
//! | [`Role`] | which messenger of that daemon | equality |
//! | [`Instance`] | which start of that messenger | equality; order only for the race |
//! | [`Incarnation`] | which boot, if the daemon knows | greater is newer |
//! | [`SessionId`] | which conversation | equality |
//! | [`Attempt`] | which dial of one instance | greater is newer, never across instances |
//! | [`LinkId`] | which socket or queue pair, locally | equality |
//! | [`Question`] | which question to the admission of one session | equality |
//!
//! Addresses are not here: an address says where to dial and is never part of identity.

use std::fmt;

use crate::error::NameError;

/// Longest kind or role, in bytes.
pub const SHORT_NAME_MAX: usize = 15;

/// A short ASCII name held inline: `[a-z0-9_-]`, 1 to [`SHORT_NAME_MAX`] bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShortName {
    len: u8,
    bytes: [u8; SHORT_NAME_MAX],
}

impl ShortName {
    /// Checks and copies `name`.
    ///
    /// # Errors
    /// [`NameError`] if it is empty, too long, or has a byte outside `[a-z0-9_-]`.
    pub const fn new(name: &str) -> Result<Self, NameError> {
        let source = name.as_bytes();
        if source.is_empty() || source.len() > SHORT_NAME_MAX {
            return Err(NameError::Length { len: source.len(), max: SHORT_NAME_MAX });
        }
        let mut bytes = [0; SHORT_NAME_MAX];
        let mut at = 0;
        while at < source.len() {
            let byte = source[at];
            if !matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-') {
                return Err(NameError::Character { byte });
            }
            bytes[at] = byte;
            at += 1;
        }
        Ok(Self { len: source.len() as u8, bytes })
    }

    const fn known(name: &str) -> Self {
        match Self::new(name) {
            Ok(name) => name,
            Err(_) => panic!("a predefined name is valid"),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or("?")
    }
}

impl fmt::Debug for ShortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for ShortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What sort of daemon or client: open, with the usual ones predefined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntityKind(ShortName);

impl EntityKind {
    /// An object storage daemon.
    pub const OSD: Self = Self(ShortName::known("osd"));
    /// A monitor.
    pub const MON: Self = Self(ShortName::known("mon"));
    /// A metadata server.
    pub const MDS: Self = Self(ShortName::known("mds"));
    /// A manager.
    pub const MGR: Self = Self(ShortName::known("mgr"));
    /// A client.
    pub const CLIENT: Self = Self(ShortName::known("client"));

    /// A kind of your own.
    ///
    /// # Errors
    /// As [`ShortName::new`].
    pub const fn new(name: &str) -> Result<Self, NameError> {
        match ShortName::new(name) {
            Ok(name) => Ok(Self(name)),
            Err(error) => Err(error),
        }
    }

    /// The kind as text, `osd`.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for EntityKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Kind and number, `osd.3`; or a kind without a number, which is never looked up by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntityName {
    kind: EntityKind,
    number: Option<u64>,
}

impl EntityName {
    /// `kind.number`.
    pub const fn new(kind: EntityKind, number: u64) -> Self {
        Self { kind, number: Some(number) }
    }

    /// `osd.number`.
    pub const fn osd(number: u64) -> Self {
        Self::new(EntityKind::OSD, number)
    }

    /// `mon.number`.
    pub const fn mon(number: u64) -> Self {
        Self::new(EntityKind::MON, number)
    }

    /// `mds.number`.
    pub const fn mds(number: u64) -> Self {
        Self::new(EntityKind::MDS, number)
    }

    /// `client.number`.
    pub const fn client(number: u64) -> Self {
        Self::new(EntityKind::CLIENT, number)
    }

    /// One of many that need no number: told apart by [`Instance`] only.
    pub const fn anonymous(kind: EntityKind) -> Self {
        Self { kind, number: None }
    }

    /// The kind.
    pub const fn kind(&self) -> EntityKind {
        self.kind
    }

    /// The number, absent when anonymous.
    pub const fn number(&self) -> Option<u64> {
        self.number
    }

    /// Whether it has no number.
    pub const fn is_anonymous(&self) -> bool {
        self.number.is_none()
    }
}

impl fmt::Display for EntityName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            Some(number) => write!(f, "{}.{number}", self.kind),
            None => write!(f, "{}.?", self.kind),
        }
    }
}

impl std::str::FromStr for EntityName {
    type Err = NameError;

    /// Reads what [`Display`](fmt::Display) writes.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let (kind, number) = text.split_once('.').ok_or(NameError::NoNumber)?;
        let kind = EntityKind::new(kind)?;
        match number {
            "?" => Ok(Self::anonymous(kind)),
            _ => number
                .parse()
                .map(|number| Self::new(kind, number))
                .map_err(|_| NameError::NoNumber),
        }
    }
}

/// Separates the several messengers of one daemon: `public`, `cluster`, `heartbeat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Role(ShortName);

impl Role {
    /// A role.
    ///
    /// # Errors
    /// As [`ShortName::new`].
    pub const fn new(name: &str) -> Result<Self, NameError> {
        match ShortName::new(name) {
            Ok(name) => Ok(Self(name)),
            Err(error) => Err(error),
        }
    }

    /// The role as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u128);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl fmt::Display for $name {
            /// The first eight hexadecimal digits: enough to tell two apart in a log line.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:08x}", (self.0 >> 96) as u32 ^ self.0 as u32)
            }
        }
    };
}

random_id! {
    /// Random 128 bits per messenger start. Its order means nothing but in the race (S5).
    Instance
}
random_id! {
    /// Random 128 bits, chosen by the dialler before its first hello and repeated until the
    /// session is up, so that a retry after a lost answer is a resume and not a second birth.
    SessionId
}

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl $name {
            /// The one after.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

counter! {
    /// A boot number that the daemon knows (a boot epoch): greater is newer.
    Incarnation
}
counter! {
    /// Counts the dials of one instance; compared only within that instance.
    Attempt
}
counter! {
    /// Place of a message in its lane, from 1; 0 means none yet.
    Seq
}
counter! {
    /// A link as its own messenger knows it; never on the wire.
    LinkId
}
counter! {
    /// Chosen by the requester, unique among its open requests of one session.
    RequestId
}
counter! {
    /// Counts what one session asks its own user's admission, from 1; never on the wire. Only the last
    /// question can be answered.
    Question
}

/// A point in time: nanoseconds since an origin that only the driver knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    /// The time `span` later, saturating.
    #[must_use]
    pub const fn after(self, span: std::time::Duration) -> Self {
        let nanos = span.as_nanos();
        let nanos = if nanos > u64::MAX as u128 { u64::MAX } else { nanos as u64 };
        Self(self.0.saturating_add(nanos))
    }

    /// How long since `earlier`; zero if that is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> std::time::Duration {
        std::time::Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Everything a hello says about who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Who.
    pub name: EntityName,
    /// Which messenger of that daemon.
    pub role: Option<Role>,
    /// Which start of it.
    pub instance: Instance,
    /// Which boot, if known.
    pub incarnation: Option<Incarnation>,
}

impl Identity {
    /// The rank in a race of simultaneous dials: the greater keeps its dial (S5).
    ///
    /// Addresses are not part of it: both ends must agree whatever they were dialled as.
    pub fn rank(&self) -> (EntityName, Instance) {
        (self.name, self.instance)
    }
}
