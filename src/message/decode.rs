//! Reads a front into the user's type: rmp-serde's format, with room for fields that were appended.
//!
//! The one difference to rmp-serde's own decoder, which refuses an array longer than the struct:
//! a struct, tuple struct, struct variant or tuple variant takes what it knows and passes over
//! the rest, at every level, also where what it knows is nothing (unit structs, unit variants,
//! `#[serde(other)]`). Sequences, tuples and maps stay exact.

use super::access::{Elements, Entries, Octets, Variant};
use super::error::{Fault, FrontErrorKind};
use super::reader::{Head, Reader, utf8};
use serde::de::{Deserializer, Expected, Visitor};

/// What follows an array's elements that its reader did not ask for.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Surplus {
    /// Fields appended by a newer sender: passed over.
    Skip,
    /// An error, since the shape is fixed.
    Refuse,
}

impl<'de> Reader<'de> {
    /// Runs `read` one level deeper.
    #[inline]
    pub(super) fn deeper<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let Some(left) = self.levels_left.checked_sub(1) else {
            return Err(Fault::new(FrontErrorKind::TooDeep));
        };
        self.levels_left = left;
        let value = read(self)?;
        self.levels_left = left + 1;
        Ok(value)
    }

    #[inline]
    fn visit_array<V: Visitor<'de>>(
        &mut self,
        length: usize,
        surplus: Surplus,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deeper(|reader| {
            let mut elements = Elements::new(reader, length);
            let value = visitor.visit_seq(&mut elements)?;
            match elements.left() {
                0 => Ok(value),
                left if surplus == Surplus::Skip => reader.skip(left).map(|()| value),
                left => Err(serde::de::Error::invalid_length(
                    length,
                    &format!("a sequence of {}", length - left).as_str(),
                )),
            }
        })
    }

    #[inline]
    fn visit_map<V: Visitor<'de>>(&mut self, length: usize, visitor: V) -> Result<V::Value, Fault> {
        self.deeper(|reader| {
            let mut entries = Entries::new(reader, length);
            let value = visitor.visit_map(&mut entries)?;
            match entries.left() {
                0 => Ok(value),
                left => Err(serde::de::Error::invalid_length(
                    length,
                    &format!("a map of {}", length - left).as_str(),
                )),
            }
        })
    }

    /// Shows the visitor whatever comes next.
    #[inline]
    fn visit<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Fault> {
        match self.head()? {
            Head::Nil => visitor.visit_unit(),
            Head::Bool(value) => visitor.visit_bool(value),
            Head::Unsigned(value) => visitor.visit_u64(value),
            Head::Signed(value) => visitor.visit_i64(value),
            Head::Float32(value) => visitor.visit_f32(value),
            Head::Float64(value) => visitor.visit_f64(value),
            Head::Text(text) => visitor.visit_borrowed_str(utf8(text)?),
            Head::Binary(bytes) => visitor.visit_borrowed_bytes(bytes),
            Head::Array(length) => self.visit_array(length, Surplus::Refuse, visitor),
            Head::Map(length) => self.visit_map(length, visitor),
        }
    }

    /// A sequence; binary data is shown as a sequence of bytes.
    #[inline]
    fn visit_sequence<V: Visitor<'de>>(
        &mut self,
        surplus: Surplus,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.head()? {
            Head::Array(length) => self.visit_array(length, surplus, visitor),
            Head::Binary(bytes) => {
                let mut octets = Octets::new(bytes);
                let value = visitor.visit_seq(&mut octets)?;
                if octets.left() == 0 || surplus == Surplus::Skip {
                    return Ok(value);
                }
                let expected = format!("a sequence of {}", bytes.len() - octets.left());
                Err(serde::de::Error::invalid_length(bytes.len(), &expected.as_str()))
            }
            other => Err(other.unwanted(&visitor)),
        }
    }

    /// The fields of a struct or variant: an array, surplus passed over, or a map by name.
    #[inline]
    pub(super) fn visit_fields<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Fault> {
        let marker = self.marker()?;
        match marker {
            0x90..=0x9f | 0xdc | 0xdd => {
                let length = self.array_after(marker)?;
                self.visit_array(length, Surplus::Skip, visitor)
            }
            0x80..=0x8f | 0xde | 0xdf => {
                let length = self.map_after(marker)?;
                self.visit_map(length, visitor)
            }
            _ => Err(self.unwanted(marker, &visitor)),
        }
    }

    /// A number; without the detour over [`Head`], since most values are numbers.
    #[inline]
    fn visit_number<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Fault> {
        let marker = self.marker()?;
        match marker {
            0x00..=0x7f => visitor.visit_u64(u64::from(marker)),
            0xcc => visitor.visit_u64(u64::from(self.read_u8()?)),
            0xcd => visitor.visit_u64(u64::from(self.read_u16()?)),
            0xce => visitor.visit_u64(u64::from(self.read_u32()?)),
            0xcf => visitor.visit_u64(self.read_u64()?),
            0xe0..=0xff => visitor.visit_i64(i64::from(i8::from_be_bytes([marker]))),
            0xd0 => visitor.visit_i64(i64::from(self.read_i8()?)),
            0xd1 => visitor.visit_i64(i64::from(self.read_i16()?)),
            0xd2 => visitor.visit_i64(i64::from(self.read_i32()?)),
            0xd3 => visitor.visit_i64(self.read_i64()?),
            _ => Err(self.unwanted(marker, &visitor)),
        }
    }

    #[inline]
    fn visit_float<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Fault> {
        match self.head()? {
            Head::Float32(value) => visitor.visit_f32(value),
            Head::Float64(value) => visitor.visit_f64(value),
            Head::Unsigned(value) => visitor.visit_u64(value),
            Head::Signed(value) => visitor.visit_i64(value),
            other => Err(other.unwanted(&visitor)),
        }
    }

    #[inline]
    fn visit_text<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Fault> {
        let marker = self.marker()?;
        match marker {
            0xa0..=0xbf | 0xd9..=0xdb => {
                let text = self.text_after(marker)?;
                visitor.visit_borrowed_str(utf8(text)?)
            }
            _ => Err(self.unwanted(marker, &visitor)),
        }
    }

    /// What a type says that expected something else than the value that `marker` begins.
    #[cold]
    fn unwanted(&mut self, marker: u8, expected: &dyn Expected) -> Fault {
        match self.head_after(marker) {
            Ok(head) => head.unwanted(expected),
            Err(fault) => fault,
        }
    }

    /// The bytes of a 128-bit integer, which rmp-serde writes as binary, or a smaller integer.
    fn wide(&mut self) -> Result<i128, WideOr> {
        match self.head().map_err(WideOr::Error)? {
            Head::Unsigned(value) => Ok(i128::from(value)),
            Head::Signed(value) => Ok(i128::from(value)),
            Head::Binary(bytes) => match bytes.try_into() {
                Ok(bytes) => Err(WideOr::Bytes(bytes)),
                Err(_) => Err(WideOr::Error(serde::de::Error::invalid_length(
                    bytes.len(),
                    &"16 bytes of an integer",
                ))),
            },
            _ => Err(WideOr::Error(serde::de::Error::custom("expected an integer"))),
        }
    }
}

/// What [`Reader::wide`] gives where it is not a plain integer.
enum WideOr {
    Bytes([u8; 16]),
    Error(Fault),
}

/// Several of serde's methods that read the same way.
macro_rules! forward {
    ($($to:ident: $($from:ident)*;)*) => {$($(
        #[inline]
        fn $from<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            self.$to(visitor)
        }
    )*)*};
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = Fault;

    #[inline]
    fn is_human_readable(&self) -> bool {
        false
    }

    #[inline]
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.visit(visitor)
    }

    #[inline]
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let marker = self.marker()?;
        match marker {
            0xc2 => visitor.visit_bool(false),
            0xc3 => visitor.visit_bool(true),
            _ => Err(self.unwanted(marker, &visitor)),
        }
    }

    #[inline]
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.head()? {
            Head::Map(length) => self.visit_map(length, visitor),
            other => Err(other.unwanted(&visitor)),
        }
    }

    #[inline]
    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.peek() {
            Some(0xa0..=0xbf | 0xd9..=0xdb) => self.visit_text(visitor),
            _ => self.visit_number(visitor),
        }
    }

    forward! {
        visit_number: deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
            deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64;
        visit_float: deserialize_f32 deserialize_f64;
        visit_text: deserialize_char deserialize_str deserialize_string;
    }

    fn deserialize_i128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.wide() {
            Ok(value) => visitor.visit_i128(value),
            Err(WideOr::Bytes(bytes)) => visitor.visit_i128(i128::from_be_bytes(bytes)),
            Err(WideOr::Error(error)) => Err(error),
        }
    }

    fn deserialize_u128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.wide() {
            Ok(value) => match u128::try_from(value) {
                Ok(value) => visitor.visit_u128(value),
                Err(_) => visitor.visit_i128(value),
            },
            Err(WideOr::Bytes(bytes)) => visitor.visit_u128(u128::from_be_bytes(bytes)),
            Err(WideOr::Error(error)) => Err(error),
        }
    }

    #[inline]
    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.head()? {
            Head::Text(bytes) | Head::Binary(bytes) => visitor.visit_borrowed_bytes(bytes),
            Head::Array(length) => self.visit_array(length, Surplus::Refuse, visitor),
            other => Err(other.unwanted(&visitor)),
        }
    }

    #[inline]
    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_bytes(visitor)
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.peek() == Some(0xc0) {
            self.head()?;
            return visitor.visit_none();
        }
        // Takes no byte, so only this level ends a type that is an option of itself.
        self.deeper(|reader| visitor.visit_some(reader))
    }

    #[inline]
    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.head()? {
            Head::Nil => visitor.visit_unit(),
            Head::Array(length) => self.skip(length).and_then(|()| visitor.visit_unit()),
            other => Err(other.unwanted(&visitor)),
        }
    }

    #[inline]
    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_unit(visitor)
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deeper(|reader| visitor.visit_newtype_struct(reader))
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.visit_sequence(Surplus::Refuse, visitor)
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.visit_sequence(Surplus::Refuse, visitor)
    }

    #[inline]
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.visit_fields(visitor)
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.visit_fields(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        // A variant with content is a map of one entry, a variant without is its bare name.
        let bare = !matches!(self.peek(), Some(0x80..=0x8f | 0xde | 0xdf));
        if !bare {
            match self.head()? {
                Head::Map(1) => {}
                _ => return Err(serde::de::Error::custom("an enum is a map of one entry")),
            }
        }
        self.deeper(|reader| visitor.visit_enum(Variant::new(reader, bare)))
    }

    #[inline]
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.skip(1)?;
        visitor.visit_unit()
    }
}
