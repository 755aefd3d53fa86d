//! The payload of production: a typed front and a raw data segment, by handle.
//!
//! ```text
//!   joined   front│data            one handle: as it arrives, or small and copied together
//!   apart    ► front, ► data       two handles: the user's own large data is never copied
//! ```
//!
//! A parcel is moved many times between the socket and the handler, so it is small: one handle in
//! its place, and the second one, where there is one, behind a pointer.

use std::fmt;
use std::hash::{Hash, Hasher};

use bytes::{Buf, Bytes};

use crate::frame::Payload;

/// A message as its bytes. Cloning copies handles, never the bytes.
#[derive(Clone, Default)]
pub struct Parcel {
    /// Number of the message type.
    pub kind: u32,
    /// Version of the type that encoded the front.
    pub version: u16,
    /// Oldest version whose reader can understand the front.
    pub compat: u16,
    front_len: u32,
    /// Also while the data is only announced.
    data_len: u32,
    /// The front, and right behind it the data, unless that is apart or only announced.
    body: Bytes,
    apart: Option<Box<Bytes>>,
}

impl Parcel {
    /// A message of a front and a data segment of their own. A length that does not fit 32 bits
    /// is over every limit, and is cut to the largest that does.
    pub fn new(kind: u32, version: u16, compat: u16, front: Bytes, data: Bytes) -> Self {
        let (front_len, data_len) = (saturated(front.len()), saturated(data.len()));
        let apart = if data.is_empty() { None } else { Some(Box::new(data)) };
        Self { kind, version, compat, front_len, data_len, body: front, apart }
    }

    /// A message whose data follows right behind its front of `front_len` bytes.
    ///
    /// A front that is longer than all there is takes it all.
    #[inline]
    pub fn joined(kind: u32, version: u16, compat: u16, body: Bytes, front_len: usize) -> Self {
        let front_len = front_len.min(body.len());
        let data_len = saturated(body.len() - front_len);
        let front_len = saturated(front_len);
        Self { kind, version, compat, front_len, data_len, body, apart: None }
    }

    /// A message whose data of `data_len` bytes is to be pulled.
    pub fn announcing(kind: u32, version: u16, compat: u16, front: Bytes, data_len: u32) -> Self {
        let front_len = saturated(front.len());
        Self { kind, version, compat, front_len, data_len, body: front, apart: None }
    }

    /// Data alone, as the last piece of a pull carries it.
    pub fn of_data(data: Bytes) -> Self {
        Self::joined(0, 0, 0, data, 0)
    }

    /// The encoded body.
    #[inline]
    pub fn front(&self) -> &[u8] {
        &self.body[..self.front_len as usize]
    }

    /// The data segment; empty while it is only announced.
    #[inline]
    pub fn data(&self) -> &[u8] {
        match &self.apart {
            None => &self.body[self.front_len as usize..],
            Some(data) => data,
        }
    }

    /// A handle of the front.
    pub fn front_bytes(&self) -> Bytes {
        self.body.slice(..self.front_len as usize)
    }

    /// A handle of the data.
    pub fn data_bytes(&self) -> Bytes {
        match &self.apart {
            None => self.body.slice(self.front_len as usize..),
            Some(data) => Bytes::clone(data),
        }
    }

    /// The data, by value: the front is given up.
    #[inline]
    pub fn into_data(self) -> Bytes {
        match self.apart {
            Some(data) => *data,
            None if self.body.len() == self.front_len as usize => Bytes::new(),
            None => {
                let mut body = self.body;
                body.advance(self.front_len as usize);
                body
            }
        }
    }

    /// Bytes of front and data, also while the data is only announced.
    #[inline]
    pub fn bytes(&self) -> u64 {
        u64::from(self.front_len) + u64::from(self.data_len)
    }

    /// Front and data where they lie one behind the other, as on the wire.
    #[inline]
    pub(crate) fn as_joined(&self) -> Option<&Bytes> {
        if self.apart.is_none() { Some(&self.body) } else { None }
    }

    /// Copies what lies in a buffer that others share to memory of its own size.
    pub fn own_memory(&mut self) {
        self.body = Bytes::copy_from_slice(&self.body);
    }

    /// Whether all the data is there, not only announced.
    #[inline]
    pub(crate) fn is_whole(&self) -> bool {
        self.data().len() == self.data_len as usize
    }
}

#[inline]
fn saturated(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// Parcels are equal if their bytes are, wherever those lie.
impl PartialEq for Parcel {
    fn eq(&self, other: &Self) -> bool {
        let head = |of: &Self| (of.kind, of.version, of.compat, of.data_len);
        head(self) == head(other) && self.front() == other.front() && self.data() == other.data()
    }
}

impl Eq for Parcel {}

impl Hash for Parcel {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.kind, self.version, self.compat, self.data_len).hash(state);
        self.front().hash(state);
        self.data().hash(state);
    }
}

impl fmt::Debug for Parcel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parcel")
            .field("kind", &self.kind)
            .field("version", &self.version)
            .field("compat", &self.compat)
            .field("front", &self.front_bytes())
            .field("data", &self.data_bytes())
            .field("data_len", &self.data_len)
            .finish()
    }
}

impl Payload for Parcel {
    #[inline]
    fn front_len(&self) -> u32 {
        self.front_len
    }

    #[inline]
    fn data_len(&self) -> u32 {
        self.data_len
    }

    fn announced(&self) -> Self {
        Self { body: self.front_bytes(), apart: None, ..*self }
    }

    fn attach(&mut self, pulled: Self) {
        self.apart = Some(Box::new(pulled.into_data()));
    }

    fn empty() -> Self {
        Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_bytes_lie_makes_no_difference() {
        let (front, data) = (Bytes::from_static(b"front"), Bytes::from_static(b"data"));
        let apart = Parcel::new(7, 2, 1, front.clone(), data.clone());
        let joined = Parcel::joined(7, 2, 1, Bytes::from_static(b"frontdata"), 5);
        let mut pulled = Parcel::announcing(7, 2, 1, front.clone(), 4);
        assert_ne!(apart, pulled, "its data has not come yet");
        assert_eq!(apart.announced(), pulled);
        assert_eq!(joined.announced(), pulled);
        assert!(!pulled.is_whole() && pulled.data().is_empty());
        pulled.attach(Parcel::of_data(data.clone()));
        for parcel in [apart, joined, pulled] {
            assert!(parcel.is_whole());
            assert_eq!((parcel.front(), parcel.data()), (&front[..], &data[..]));
            assert_eq!((parcel.front_bytes(), parcel.data_bytes()), (front.clone(), data.clone()));
            assert_eq!((parcel.front_len(), parcel.data_len()), (5, 4));
            assert_eq!(parcel.clone(), parcel);
            assert_eq!(parcel.into_data(), data);
        }
    }

    #[test]
    fn a_front_is_never_longer_than_all_there_is() {
        let parcel = Parcel::joined(1, 1, 1, Bytes::from_static(b"abc"), 9);
        assert_eq!((parcel.front(), parcel.data()), (&b"abc"[..], &b""[..]));
        assert!(parcel.into_data().is_empty());
    }

    #[test]
    fn it_is_small() {
        assert!(size_of::<Option<Parcel>>() <= 56, "{}", size_of::<Option<Parcel>>());
    }
}
