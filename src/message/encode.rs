//! Stands between the user's type and rmp-serde's serializer, and refuses what no reader could read.
//!
//! That is: a field left out before one that is written (`skip_serializing_if`), since the later
//! ones would silently move into its place; values nested deeper than a reader takes; and
//! MessagePack extension types. Everything else passes through as it is.

use serde::ser::{self, Error, Serialize, Serializer};

/// A serializer, and how many more levels may be entered below it.
pub(super) struct Strict<S> {
    inner: S,
    levels_left: u8,
}

impl<S: Serializer> Strict<S> {
    pub(super) const fn new(inner: S, depth_max: u8) -> Self {
        Self { inner, levels_left: depth_max }
    }

    /// The levels left `levels` further down.
    #[inline]
    fn deeper(&self, levels: u8) -> Result<u8, S::Error> {
        match self.levels_left.checked_sub(levels) {
            Some(left) => Ok(left),
            None => Err(S::Error::custom("values are nested too deep for any reader")),
        }
    }
}

/// A value that is serialized through [`Strict`] whatever serializer it is given to.
struct Below<'v, T: ?Sized> {
    value: &'v T,
    levels_left: u8,
}

impl<T: Serialize + ?Sized> Serialize for Below<'_, T> {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(Strict { inner: serializer, levels_left: self.levels_left })
    }
}

/// A container under way.
pub(super) struct Parts<C> {
    inner: C,
    levels_left: u8,
    /// The first field that was left out, if any.
    skipped: Option<&'static str>,
}

macro_rules! scalars {
    ($($method:ident($value:ty);)*) => {$(
        #[inline]
        fn $method(self, value: $value) -> Result<S::Ok, S::Error> {
            self.inner.$method(value)
        }
    )*};
}

macro_rules! containers {
    ($($method:ident($($name:ident: $of:ty),*) -> $parts:ident, levels $levels:literal;)*) => {$(
        #[inline]
        fn $method(self, $($name: $of),*) -> Result<Parts<S::$parts>, S::Error> {
            let levels_left = self.deeper($levels)?;
            let inner = self.inner.$method($($name),*)?;
            Ok(Parts { inner, levels_left, skipped: None })
        }
    )*};
}

impl<S: Serializer> Serializer for Strict<S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Parts<S::SerializeSeq>;
    type SerializeTuple = Parts<S::SerializeTuple>;
    type SerializeTupleStruct = Parts<S::SerializeTupleStruct>;
    type SerializeTupleVariant = Parts<S::SerializeTupleVariant>;
    type SerializeMap = Parts<S::SerializeMap>;
    type SerializeStruct = Parts<S::SerializeStruct>;
    type SerializeStructVariant = Parts<S::SerializeStructVariant>;

    #[inline]
    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }

    scalars! {
        serialize_bool(bool); serialize_char(char); serialize_str(&str); serialize_bytes(&[u8]);
        serialize_u8(u8); serialize_u16(u16); serialize_u32(u32); serialize_u64(u64);
        serialize_i8(i8); serialize_i16(i16); serialize_i32(i32); serialize_i64(i64);
        serialize_u128(u128); serialize_i128(i128); serialize_f32(f32); serialize_f64(f64);
        serialize_unit_struct(&'static str);
    }

    // The levels are those that the reader counts: a variant with fields is an enum and an array.
    containers! {
        serialize_seq(length: Option<usize>) -> SerializeSeq, levels 1;
        serialize_map(length: Option<usize>) -> SerializeMap, levels 1;
        serialize_tuple(length: usize) -> SerializeTuple, levels 1;
        serialize_tuple_struct(name: &'static str, length: usize)
            -> SerializeTupleStruct, levels 1;
        serialize_struct(name: &'static str, length: usize) -> SerializeStruct, levels 1;
        serialize_tuple_variant(name: &'static str, index: u32, variant: &'static str,
            length: usize) -> SerializeTupleVariant, levels 2;
        serialize_struct_variant(name: &'static str, index: u32, variant: &'static str,
            length: usize) -> SerializeStructVariant, levels 2;
    }

    #[inline]
    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_none()
    }

    #[inline]
    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.inner.serialize_unit()
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        let levels_left = self.deeper(1)?;
        self.inner.serialize_some(&Below { value, levels_left })
    }

    #[inline]
    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<S::Ok, S::Error> {
        self.deeper(1)?;
        self.inner.serialize_unit_variant(name, index, variant)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        if name == rmp_serde::MSGPACK_EXT_STRUCT_NAME {
            return Err(S::Error::custom("fronts have no extension types"));
        }
        let levels_left = self.deeper(1)?;
        self.inner.serialize_newtype_struct(name, &Below { value, levels_left })
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let levels_left = self.deeper(1)?;
        let value = Below { value, levels_left };
        self.inner.serialize_newtype_variant(name, index, variant, &value)
    }
}

macro_rules! unnamed_parts {
    ($($part:ident::$method:ident;)*) => {$(
        impl<C: ser::$part> ser::$part for Parts<C> {
            type Ok = C::Ok;
            type Error = C::Error;

            #[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
                self.inner.$method(&Below { value, levels_left: self.levels_left })
            }

            #[inline]
            fn end(self) -> Result<C::Ok, C::Error> {
                self.inner.end()
            }
        }
    )*};
}

unnamed_parts! {
    SerializeSeq::serialize_element;
    SerializeTuple::serialize_element;
    SerializeTupleStruct::serialize_field;
    SerializeTupleVariant::serialize_field;
}

macro_rules! named_parts {
    ($($part:ident)*) => {$(
        impl<C: ser::$part> ser::$part for Parts<C> {
            type Ok = C::Ok;
            type Error = C::Error;

            #[inline]
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                field: &'static str,
                value: &T,
            ) -> Result<(), C::Error> {
                if let Some(skipped) = self.skipped {
                    return Err(hole(skipped, field));
                }
                self.inner.serialize_field(field, &Below { value, levels_left: self.levels_left })
            }

            #[inline]
            fn skip_field(&mut self, field: &'static str) -> Result<(), C::Error> {
                self.skipped.get_or_insert(field);
                self.inner.skip_field(field)
            }

            #[inline]
            fn end(self) -> Result<C::Ok, C::Error> {
                self.inner.end()
            }
        }
    )*};
}

named_parts! { SerializeStruct SerializeStructVariant }

#[cold]
fn hole<E: Error>(skipped: &str, field: &str) -> E {
    E::custom(format_args!(
        "field `{skipped}` was left out before `{field}`, which would take its place: \
         skip_serializing_if is for the last fields only"
    ))
}

impl<C: ser::SerializeMap> ser::SerializeMap for Parts<C> {
    type Ok = C::Ok;
    type Error = C::Error;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
        self.inner.serialize_key(&Below { value, levels_left: self.levels_left })
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
        self.inner.serialize_value(&Below { value, levels_left: self.levels_left })
    }

    #[inline]
    fn end(self) -> Result<C::Ok, C::Error> {
        self.inner.end()
    }
}
