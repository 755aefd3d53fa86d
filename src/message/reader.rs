//! Reads MessagePack values from a slice: markers, lengths, scalars, and skipping.
//!
//! Knows nothing of serde. Every length is checked against the bytes that are there before
//! anyone hears of it, so nothing is allocated for a length that cannot be true.

use super::error::{FrontError, FrontErrorKind};

type Result<T> = std::result::Result<T, FrontError>;

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

/// A cursor over one front.
#[derive(Debug)]
pub(super) struct Reader<'de> {
    rest: &'de [u8],
    length: usize,
    /// Where the value begins that was read last: what errors point at.
    value_at: usize,
    /// How many more levels may be entered.
    pub(super) levels_left: u8,
}

#[cold]
pub(super) fn truncated() -> FrontError {
    FrontError::new(FrontErrorKind::Truncated)
}

impl<'de> Reader<'de> {
    pub(super) const fn new(front: &'de [u8], depth_max: u8) -> Self {
        Self {
            rest: front,
            length: front.len(),
            value_at: 0,
            levels_left: depth_max,
        }
    }

    pub(super) const fn value_at(&self) -> usize {
        self.value_at
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

    #[inline]
    fn fixed<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or_else(truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    #[inline]
    fn length8(&mut self) -> Result<usize> {
        Ok(usize::from(self.fixed::<1>()?[0]))
    }

    #[inline]
    fn length16(&mut self) -> Result<usize> {
        Ok(usize::from(u16::from_be_bytes(self.fixed()?)))
    }

    #[inline]
    fn length32(&mut self) -> Result<usize> {
        usize::try_from(u32::from_be_bytes(self.fixed()?)).map_err(|_| truncated())
    }

    /// `count` values of at least one byte each must still fit into what is left.
    #[inline]
    fn fits(&self, count: usize, values_each: usize) -> Result<usize> {
        let values = count.checked_mul(values_each).ok_or_else(truncated)?;
        if values > self.rest.len() {
            Err(truncated())
        } else {
            Ok(count)
        }
    }

    /// Reads the next value's head.
    #[inline]
    pub(super) fn head(&mut self) -> Result<Head<'de>> {
        self.value_at = self.position();
        let (&marker, rest) = self.rest.split_first().ok_or_else(truncated)?;
        self.rest = rest;
        Ok(match marker {
            0x00..=0x7f => Head::Unsigned(u64::from(marker)),
            0xcf => Head::Unsigned(u64::from_be_bytes(self.fixed()?)),
            0xce => Head::Unsigned(u64::from(u32::from_be_bytes(self.fixed()?))),
            0xcd => Head::Unsigned(u64::from(u16::from_be_bytes(self.fixed()?))),
            0xcc => Head::Unsigned(u64::from(self.fixed::<1>()?[0])),
            0xa0..=0xbf => Head::Text(self.take(usize::from(marker & 0x1f))?),
            0x90..=0x9f => Head::Array(self.fits(usize::from(marker & 0x0f), 1)?),
            0x80..=0x8f => Head::Map(self.fits(usize::from(marker & 0x0f), 2)?),
            0xc0 => Head::Nil,
            0xc2 => Head::Bool(false),
            0xc3 => Head::Bool(true),
            0xe0..=0xff => Head::Signed(i64::from(i8::from_be_bytes([marker]))),
            _ => return self.rare_head(marker),
        })
    }

    /// The heads that short messages seldom have, kept out of the way of the others.
    fn rare_head(&mut self, marker: u8) -> Result<Head<'de>> {
        let length = match marker {
            0xc4 | 0xd9 => self.length8()?,
            0xc5 | 0xda | 0xdc | 0xde => self.length16()?,
            0xc6 | 0xdb | 0xdd | 0xdf => self.length32()?,
            _ => 0,
        };
        Ok(match marker {
            0xc4..=0xc6 => Head::Binary(self.take(length)?),
            0xd9..=0xdb => Head::Text(self.take(length)?),
            0xdc | 0xdd => Head::Array(self.fits(length, 1)?),
            0xde | 0xdf => Head::Map(self.fits(length, 2)?),
            0xca => Head::Float32(f32::from_be_bytes(self.fixed()?)),
            0xcb => Head::Float64(f64::from_be_bytes(self.fixed()?)),
            0xd0 => Head::Signed(i64::from(i8::from_be_bytes(self.fixed()?))),
            0xd1 => Head::Signed(i64::from(i16::from_be_bytes(self.fixed()?))),
            0xd2 => Head::Signed(i64::from(i32::from_be_bytes(self.fixed()?))),
            0xd3 => Head::Signed(i64::from_be_bytes(self.fixed()?)),
            _ => return Err(FrontError::new(FrontErrorKind::Unsupported(marker))),
        })
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
    std::str::from_utf8(bytes).map_err(|_| FrontError::new(FrontErrorKind::Utf8))
}
