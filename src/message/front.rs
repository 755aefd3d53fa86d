//! The front codec: a body to bytes at the end of a buffer, and bytes to a body.

use super::Body;
use super::encode::Strict;
use super::error::{Fault, FrontError, FrontErrorKind};
use super::reader::Reader;
use super::scratch::Scratch;
use bytes::BytesMut;
use rmp_serde::encode::Error as EncodeError;

/// How deep values may be nested in a front, written or read: arrays, maps, enums, options and
/// newtype structs count one each. Keeps a hostile front off the end of the stack.
pub const DEPTH_MAX: u8 = 128;

/// Appends the front of `body` to `out` and returns its length in bytes, at most `limit`.
///
/// Allocates only if `out` has to grow, and for fronts of more than 256 bytes.
///
/// # Errors
///
/// [`FrontErrorKind::TooLong`] beyond `limit`; [`FrontErrorKind::Mismatch`] if the type's own
/// `Serialize` fails or what it writes could not be read (see [the module](super)).
/// `out` is then as it was.
pub fn encode_front<B: Body>(
    body: &B,
    out: &mut BytesMut,
    limit: usize,
) -> Result<usize, FrontError> {
    let mut scratch = Scratch::new(limit);
    let length = write_front(body, &mut scratch, limit)?;
    out.extend_from_slice(scratch.as_slice());
    Ok(length)
}

/// Writes the front of `body` to an empty `out`. Errors as [`encode_front`].
#[inline]
pub(crate) fn write_front<B: Body>(
    body: &B,
    out: &mut Scratch,
    limit: usize,
) -> Result<usize, FrontError> {
    let mut serializer = rmp_serde::Serializer::new(&mut *out);
    let result = body.serialize(Strict::new(&mut serializer, DEPTH_MAX));
    let length = out.as_slice().len();
    let fault = match result {
        Ok(()) if length <= limit => return Ok(length),
        Ok(()) | Err(EncodeError::InvalidValueWrite(_)) => {
            Fault::new(FrontErrorKind::TooLong(limit))
        }
        Err(error) => serde::ser::Error::custom(error),
    };
    Err(fault.at(length))
}

/// Reads a front that [`encode_front`] wrote, of this version of the type or of another.
///
/// Allocates what the type needs and nothing else; no length in the front is trusted.
///
/// # Errors
///
/// A [`FrontError`] that says where in the front and what is wrong.
///
/// ```
/// # use bytes::BytesMut;
/// # use serde::{Deserialize, Serialize};
/// # use stellate::message::{decode_front, encode_front};
/// #[derive(Serialize, Deserialize)]
/// struct WriteV1 { oid: u64 }
/// #[derive(Serialize, Deserialize)]
/// struct WriteV2 { oid: u64, #[serde(default)] flags: u32 }
///
/// let mut front = BytesMut::new();
/// encode_front(&WriteV2 { oid: 7, flags: 1 }, &mut front, 4096)?;
/// assert_eq!(decode_front::<WriteV1>(&front)?.oid, 7);     // a newer sender
/// front.clear();
/// encode_front(&WriteV1 { oid: 8 }, &mut front, 4096)?;
/// assert_eq!(decode_front::<WriteV2>(&front)?.flags, 0);   // an older sender
/// # Ok::<(), stellate::message::FrontError>(())
/// ```
pub fn decode_front<B: Body>(front: &[u8]) -> Result<B, FrontError> {
    let mut reader = Reader::new(front, DEPTH_MAX);
    match B::deserialize(&mut reader) {
        Ok(body) if reader.is_at_end() => Ok(body),
        Ok(_) => Err(Fault::new(FrontErrorKind::Trailing).at(reader.position())),
        Err(error) => Err(error.at(reader.value_at())),
    }
}
