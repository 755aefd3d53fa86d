//! Hands the parts of arrays, maps, binary data and enum variants to serde, one at a time.

use super::error::Fault;
use super::reader::Reader;
use serde::de::value::U8Deserializer;
use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor};

/// The most elements that a type is told to make room for ahead: the lengths are known to be
/// no longer than the bytes that are left, but an element in memory may be far larger than its
/// byte on the wire.
const ROOM_AHEAD: usize = 4096;

/// The elements of an array.
pub(super) struct Elements<'a, 'de> {
    reader: &'a mut Reader<'de>,
    left: usize,
}

impl<'a, 'de> Elements<'a, 'de> {
    #[inline]
    pub(super) const fn new(reader: &'a mut Reader<'de>, length: usize) -> Self {
        Self { reader, left: length }
    }

    #[inline]
    pub(super) const fn left(&self) -> usize {
        self.left
    }
}

impl<'de> de::SeqAccess<'de> for Elements<'_, 'de> {
    type Error = Fault;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = left;
        seed.deserialize(&mut *self.reader).map(Some)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(self.left.min(ROOM_AHEAD))
    }
}

/// The entries of a map.
pub(super) struct Entries<'a, 'de> {
    reader: &'a mut Reader<'de>,
    left: usize,
}

impl<'a, 'de> Entries<'a, 'de> {
    #[inline]
    pub(super) const fn new(reader: &'a mut Reader<'de>, length: usize) -> Self {
        Self { reader, left: length }
    }

    #[inline]
    pub(super) const fn left(&self) -> usize {
        self.left
    }
}

impl<'de> de::MapAccess<'de> for Entries<'_, 'de> {
    type Error = Fault;

    #[inline]
    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        self.left = left;
        seed.deserialize(&mut *self.reader).map(Some)
    }

    #[inline]
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        seed.deserialize(&mut *self.reader)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(self.left.min(ROOM_AHEAD))
    }
}

/// Binary data, for a type that asked for a sequence.
pub(super) struct Octets<'de>(&'de [u8]);

impl<'de> Octets<'de> {
    pub(super) const fn new(bytes: &'de [u8]) -> Self {
        Self(bytes)
    }

    pub(super) const fn left(&self) -> usize {
        self.0.len()
    }
}

impl<'de> de::SeqAccess<'de> for Octets<'de> {
    type Error = Fault;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        let Some((&byte, rest)) = self.0.split_first() else {
            return Ok(None);
        };
        self.0 = rest;
        let byte: U8Deserializer<Fault> = byte.into_deserializer();
        seed.deserialize(byte).map(Some)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len().min(ROOM_AHEAD))
    }
}

/// A variant without fields, read as one with fields that all have defaults.
struct NoElements;

impl<'de> de::SeqAccess<'de> for NoElements {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        _seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        Ok(None)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(0)
    }
}

/// An enum's variant; `bare` if only its name is there.
pub(super) struct Variant<'a, 'de> {
    reader: &'a mut Reader<'de>,
    bare: bool,
}

impl<'a, 'de> Variant<'a, 'de> {
    pub(super) const fn new(reader: &'a mut Reader<'de>, bare: bool) -> Self {
        Self { reader, bare }
    }
}

impl<'de> de::EnumAccess<'de> for Variant<'_, 'de> {
    type Error = Fault;
    type Variant = Self;

    #[inline]
    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Fault> {
        let variant = seed.deserialize(&mut *self.reader)?;
        Ok((variant, self))
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'_, 'de> {
    type Error = Fault;

    #[inline]
    fn unit_variant(self) -> Result<(), Fault> {
        // Content was appended by a newer sender, or this is `#[serde(other)]`.
        if self.bare { Ok(()) } else { self.reader.skip(1) }
    }

    #[inline]
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        if self.bare {
            return Err(de::Error::invalid_type(de::Unexpected::UnitVariant, &"newtype variant"));
        }
        seed.deserialize(self.reader)
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(self, _length: usize, visitor: V) -> Result<V::Value, Fault> {
        if self.bare { visitor.visit_seq(NoElements) } else { self.reader.visit_fields(visitor) }
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        if self.bare { visitor.visit_seq(NoElements) } else { self.reader.visit_fields(visitor) }
    }
}
