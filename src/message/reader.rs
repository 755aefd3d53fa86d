//! Reads MessagePack values from a slice: markers, lengths, scalars, and skipping.
//!
//! Every length is checked against the bytes that are there before
//! anyone hears of it, so nothing is allocated for a length that cannot be true.

use super::error::{Fault, FrontErrorKind};
use serde::de::{Error, Expected, Unexpected};

type Result<T> = std::result::Result<T, Fault>;

/// One value's head. Scalars and slices are complete; of containers only the length is read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Head<'de> {
    Nil,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float32(f32),
    Float64(f64),
    /// Not yet checked to be UTF-8.
    Text(&'de [u8]),
    Binary(&'de [u8]),
    Array(usize),
    Map(usize),
}

impl Head<'_> {
    /// The complaint of a type that expected something else.
    #[cold]
    #[inline(never)]
    pub(super) fn unwanted(self, expected: &dyn Expected) -> Fault {
        let found = match self {
            Self::Nil => Unexpected::Unit,
            Self::Bool(value) => Unexpected::Bool(value),
            Self::Unsigned(value) => Unexpected::Unsigned(value),
            Self::Signed(value) => Unexpected::Signed(value),
            Self::Float32(value) => Unexpected::Float(f64::from(value)),
            Self::Float64(value) => Unexpected::Float(value),
            Self::Text(_) => Unexpected::Other("text"),
            Self::Binary(_) => Unexpected::Other("binary data"),
            Self::Array(_) => Unexpected::Seq,
            Self::Map(_) => Unexpected::Map,
        };
        Error::invalid_type(found, expected)
    }
}

/// A cursor over one front.
#[derive(Debug)]
pub(super) struct Reader<'de> {
    rest: &'de [u8],
    length: usize,
    /// How many bytes were left where the value begins that was read last: what errors point at.
    left_at_value: usize,
    /// How many more levels may be entered.
    pub(super) levels_left: u8,
}

#[cold]
pub(super) fn truncated() -> Fault {
    Fault::new(FrontErrorKind::Truncated)
}

/// Numbers in network byte order. Each gives the number itself and not its bytes: the bytes
/// would go over the stack, one store for each and one stalled load for all.
macro_rules! be {
    ($($name:ident: $number:ty;)*) => {$(
        #[inline]
        pub(super) fn $name(&mut self) -> Result<$number> {
            match self.rest.split_first_chunk() {
                Some((bytes, rest)) => {
                    self.rest = rest;
                    Ok(<$number>::from_be_bytes(*bytes))
                }
                None => Err(truncated()),
            }
        }
    )*};
}

impl<'de> Reader<'de> {
    pub(super) const fn new(front: &'de [u8], depth_max: u8) -> Self {
        Self {
            rest: front,
            length: front.len(),
            left_at_value: front.len(),
            levels_left: depth_max,
        }
    }

    pub(super) const fn value_at(&self) -> usize {
        self.length - self.left_at_value
    }

    pub(super) const fn position(&self) -> usize {
        self.length - self.rest.len()
    }

    pub(super) const fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// The byte that begins the next value, which stays unread.
    #[inline]
    pub(super) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    #[inline]
    fn take(&mut self, count: usize) -> Result<&'de [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or_else(truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    be! {
        read_u8: u8; read_u16: u16; read_u32: u32; read_u64: u64;
        read_i8: i8; read_i16: i16; read_i32: i32; read_i64: i64;
        read_f32: f32; read_f64: f64;
    }

    fn length32(&mut self) -> Result<usize> {
        usize::try_from(self.read_u32()?).map_err(|_| truncated())
    }

    /// `count` values of at least one byte each must still fit into what is left.
    #[inline]
    fn fits(&self, count: usize, values_each: usize) -> Result<usize> {
        let values = count.checked_mul(values_each).ok_or_else(truncated)?;
        if values > self.rest.len() { Err(truncated()) } else { Ok(count) }
    }

    /// Reads the byte that begins the next value.
    #[inline]
    pub(super) fn marker(&mut self) -> Result<u8> {
        self.left_at_value = self.rest.len();
        self.read_u8()
    }

    /// Reads the next value's head.
    pub(super) fn head(&mut self) -> Result<Head<'de>> {
        let marker = self.marker()?;
        self.head_after(marker)
    }

    /// Reads the rest of the head that begins with `marker`.
    pub(super) fn head_after(&mut self, marker: u8) -> Result<Head<'de>> {
        Ok(match marker {
            0x00..=0x7f => Head::Unsigned(u64::from(marker)),
            0xe0..=0xff => Head::Signed(i64::from(i8::from_be_bytes([marker]))),
            0xcc => Head::Unsigned(u64::from(self.read_u8()?)),
            0xcd => Head::Unsigned(u64::from(self.read_u16()?)),
            0xce => Head::Unsigned(u64::from(self.read_u32()?)),
            0xcf => Head::Unsigned(self.read_u64()?),
            0xd0 => Head::Signed(i64::from(self.read_i8()?)),
            0xd1 => Head::Signed(i64::from(self.read_i16()?)),
            0xd2 => Head::Signed(i64::from(self.read_i32()?)),
            0xd3 => Head::Signed(self.read_i64()?),
            0xa0..=0xbf | 0xd9..=0xdb => Head::Text(self.text_after(marker)?),
            0x90..=0x9f | 0xdc | 0xdd => Head::Array(self.array_after(marker)?),
            0x80..=0x8f | 0xde | 0xdf => Head::Map(self.map_after(marker)?),
            0xc0 => Head::Nil,
            0xc2 => Head::Bool(false),
            0xc3 => Head::Bool(true),
            0xca => Head::Float32(self.read_f32()?),
            0xcb => Head::Float64(self.read_f64()?),
            0xc4 => {
                let length = usize::from(self.read_u8()?);
                Head::Binary(self.take(length)?)
            }
            0xc5 => {
                let length = usize::from(self.read_u16()?);
                Head::Binary(self.take(length)?)
            }
            0xc6 => {
                let length = self.length32()?;
                Head::Binary(self.take(length)?)
            }
            0xc1 | 0xc7..=0xc9 | 0xd4..=0xd8 => {
                return Err(Fault::new(FrontErrorKind::Unsupported(marker)));
            }
        })
    }

    /// The bytes of the text that begins with `marker`, which must be a text's.
    #[inline]
    pub(super) fn text_after(&mut self, marker: u8) -> Result<&'de [u8]> {
        let length = match marker {
            0xd9 => usize::from(self.read_u8()?),
            0xda => usize::from(self.read_u16()?),
            0xdb => self.length32()?,
            short => usize::from(short & 0x1f),
        };
        self.take(length)
    }

    /// The length of the array that begins with `marker`, which must be an array's.
    #[inline]
    pub(super) fn array_after(&mut self, marker: u8) -> Result<usize> {
        let length = match marker {
            0xdc => usize::from(self.read_u16()?),
            0xdd => self.length32()?,
            short => usize::from(short & 0x0f),
        };
        self.fits(length, 1)
    }

    /// The length of the map that begins with `marker`, which must be a map's.
    #[inline]
    pub(super) fn map_after(&mut self, marker: u8) -> Result<usize> {
        let length = match marker {
            0xde => usize::from(self.read_u16()?),
            0xdf => self.length32()?,
            short => usize::from(short & 0x0f),
        };
        self.fits(length, 2)
    }

    /// Passes over `count` whole values, however deep, without recursion.
    pub(super) fn skip(&mut self, count: usize) -> Result<()> {
        let mut pending = count;
        while pending > 0 {
            // Each pending value takes a byte at least, so `pending` cannot overflow either.
            if pending > self.rest.len() {
                return Err(truncated());
            }
            pending -= 1;
            match self.head()? {
                Head::Array(length) => pending += length,
                Head::Map(length) => pending += 2 * length,
                _ => {}
            }
        }
        Ok(())
    }
}

/// The text in `bytes`.
#[inline]
pub(super) fn utf8(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| Fault::new(FrontErrorKind::Utf8))
}
