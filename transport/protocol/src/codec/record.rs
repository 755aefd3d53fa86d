//! Reading and writing the small records in fronts, so that later versions can append to them.

use bytes::{BufMut, BytesMut};

use crate::frame::FrameKind;

use super::error::CodecError;
use super::limits::within;

/// Reads fields one after the other; what is left at the end is of a later version.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    frame: FrameKind,
}

impl<'a> Reader<'a> {
    /// Reads the record in `bytes`, of a frame of that kind.
    pub(super) fn new(frame: FrameKind, bytes: &'a [u8]) -> Self {
        Self { rest: bytes, frame }
    }

    /// The error that names `field`.
    pub(super) fn bad(&self, field: &'static str) -> CodecError {
        CodecError::BadField { frame: self.frame, field }
    }

    /// The next `len` bytes.
    pub(super) fn take(&mut self, len: usize, field: &'static str) -> Result<&'a [u8], CodecError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or_else(|| self.bad(field))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], CodecError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, field)?);
        Ok(array)
    }

    pub(super) fn u8(&mut self, field: &'static str) -> Result<u8, CodecError> {
        self.array(field).map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self, field: &'static str) -> Result<u16, CodecError> {
        self.array(field).map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, CodecError> {
        self.array(field).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, field: &'static str) -> Result<u64, CodecError> {
        self.array(field).map(u64::from_le_bytes)
    }

    pub(super) fn u128(&mut self, field: &'static str) -> Result<u128, CodecError> {
        self.array(field).map(u128::from_le_bytes)
    }

    /// A byte that is 0 or 1.
    pub(super) fn bool(&mut self, field: &'static str) -> Result<bool, CodecError> {
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.bad(field)),
        }
    }

    /// An optional value.
    pub(super) fn option<T>(
        &mut self,
        field: &'static str,
        read: impl FnOnce(&mut Self) -> Result<T, CodecError>,
    ) -> Result<Option<T>, CodecError> {
        if self.bool(field)? { read(self).map(Some) } else { Ok(None) }
    }

    /// A record with its own length, whose unknown end does not touch what follows it.
    pub(super) fn sized(&mut self, field: &'static str) -> Result<Reader<'a>, CodecError> {
        let len = self.u16(field)?;
        let bytes = self.take(usize::from(len), field)?;
        Ok(Reader::new(self.frame, bytes))
    }

    /// Bytes with their own length, at most `max`.
    pub(super) fn blob(&mut self, field: &'static str, max: usize) -> Result<&'a [u8], CodecError> {
        let len = self.u16(field)?;
        within(field, len.into(), max as u32)?;
        self.take(usize::from(len), field)
    }

    /// Text with its own length, at most `max` bytes.
    pub(super) fn text(&mut self, field: &'static str, max: usize) -> Result<String, CodecError> {
        let bytes = self.blob(field, max)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(self.bad(field)),
        }
    }

    /// A short name: a u8 length and its text.
    pub(super) fn short(&mut self, field: &'static str) -> Result<&'a str, CodecError> {
        let len = self.u8(field)?;
        let bytes = self.take(usize::from(len), field)?;
        std::str::from_utf8(bytes).map_err(|_| self.bad(field))
    }
}

/// Writes a record with its length, which its writer keeps below 64 KiB.
pub(super) fn put_sized(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    let at = out.len();
    out.put_u16_le(0);
    write(out);
    let len = out.len() - at - 2;
    debug_assert!(len <= usize::from(u16::MAX), "a record fits its length");
    out[at..at + 2].copy_from_slice(&(len as u16).to_le_bytes());
}

/// Writes an optional value.
pub(super) fn put_option<T>(
    out: &mut BytesMut,
    value: Option<T>,
    write: impl FnOnce(&mut BytesMut, T),
) {
    match value {
        Some(value) => {
            out.put_u8(1);
            write(out, value);
        }
        None => out.put_u8(0),
    }
}

/// Writes a short name, which is at most 15 bytes.
pub(super) fn put_short(out: &mut BytesMut, name: &str) {
    out.put_u8(name.len() as u8);
    out.put_slice(name.as_bytes());
}

/// Writes text for people, cut at `max` bytes: a reason too long is better than none.
pub(super) fn put_text(out: &mut BytesMut, text: &str, max: usize) {
    let end = text.floor_char_boundary(max);
    put_sized(out, |out| out.put_slice(&text.as_bytes()[..end]));
}
