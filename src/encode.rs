//! From a typed message to the parcel that the session carries: once, in the caller.
//!
//! Each thread encodes into a chunk of its own and splits the front off it, with its data where
//! that is small: no allocation and no lock per small message. What is still in some outbox keeps
//! its chunk alive, so this memory is counted in chunks where messages are few and far between.

use std::cell::Cell;

use bytes::{Bytes, BytesMut};
use stellate_protocol::Parcel;

use crate::message::{Body, FrontError, Message, Stamp, encode_front};

/// Bytes of a chunk; a front over what is left of one gets the next.
const CHUNK: usize = 64 * 1024;

/// Data up to here is copied behind its front, bytes: one handle is then all that the session
/// moves, and the copy costs less than the second one would.
const JOIN_MAX: usize = 512;

thread_local! {
    // Taken out while it is used: a `Serialize` that itself sends finds an empty one.
    static FRONTS: Cell<BytesMut> = Cell::new(BytesMut::with_capacity(CHUNK));
}

/// A message with its data. Its length is checked where it is sent.
pub(crate) fn pack<M: Message>(body: &M, data: Bytes) -> Result<Parcel, FrontError> {
    let mut parcel = Parcel::default();
    pack_into(body, data, &mut parcel)?;
    Ok(parcel)
}

/// As [`pack`], where the parcel is wanted: it is moved once less.
#[inline]
pub(crate) fn pack_into<M: Message>(
    body: &M,
    data: Bytes,
    parcel: &mut Parcel,
) -> Result<(), FrontError> {
    stamped::<M, M>(body, data, parcel)
}

/// The reply to an `M`, under the stamp of `M`: it changes with its request.
pub(crate) fn pack_reply<M: Message>(body: &M::Reply, data: Bytes) -> Result<Parcel, FrontError> {
    let mut parcel = Parcel::default();
    stamped::<M, M::Reply>(body, data, &mut parcel)?;
    Ok(parcel)
}

fn stamped<M: Message, B: Body>(
    body: &B,
    data: Bytes,
    parcel: &mut Parcel,
) -> Result<(), FrontError> {
    let Stamp { message_type, version, compat } = const { Stamp::of::<M>() };
    let kind = message_type.get();
    // While a thread is torn down there is no chunk any more: a buffer of its own does.
    let mut chunk = FRONTS.try_with(Cell::take).unwrap_or_default();
    let encoded = encode_front(body, &mut chunk, u32::MAX as usize).map(|front_len| {
        *parcel = if data.len() > JOIN_MAX {
            Parcel::new(kind, version, compat, take(&mut chunk), data)
        } else {
            chunk.extend_from_slice(&data);
            Parcel::joined(kind, version, compat, take(&mut chunk), front_len)
        };
    });
    if chunk.capacity() == 0 {
        chunk.reserve(CHUNK);
    }
    // Failing means the same as above.
    let _ = FRONTS.try_with(|fronts| fronts.set(chunk));
    encoded
}

fn take(chunk: &mut BytesMut) -> Bytes {
    if chunk.is_empty() { Bytes::new() } else { chunk.split().freeze() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{MessageType, decode_front};

    #[derive(serde::Serialize, serde::Deserialize)]
    struct Note(String);

    impl Message for Note {
        const TYPE: MessageType = MessageType::new(0x123);
        const VERSION: u16 = 3;
        const COMPAT: u16 = 2;
        type Reply = ();
    }

    #[test]
    fn fronts_share_a_chunk_and_stay_apart() {
        let texts: Vec<String> = (0..2000).map(|n| "x".repeat(n % 97) + &n.to_string()).collect();
        let parcels: Vec<Parcel> = texts
            .iter()
            .map(|text| pack(&Note(text.clone()), Bytes::from_static(b"data")).unwrap())
            .collect();
        for (parcel, text) in parcels.iter().zip(&texts) {
            assert_eq!(&decode_front::<Note>(parcel.front()).unwrap().0, text);
            assert_eq!((parcel.kind, parcel.version, parcel.compat), (0x123, 3, 2));
            assert_eq!(parcel.data(), b"data");
        }
        let chunks: std::collections::BTreeSet<usize> =
            parcels.iter().map(|parcel| parcel.front().as_ptr() as usize / CHUNK).collect();
        assert!(chunks.len() <= 8, "{} allocations for 2000 fronts", chunks.len());
    }

    #[test]
    fn large_data_is_not_copied() {
        for len in [0, JOIN_MAX, JOIN_MAX + 1] {
            let data = Bytes::from(vec![7; len]);
            let parcel = pack(&Note("n".into()), data.clone()).unwrap();
            assert_eq!(parcel.data(), &data[..]);
            assert_eq!(parcel.data().as_ptr() == data.as_ptr(), len > JOIN_MAX, "{len}");
        }
    }

    #[test]
    fn a_serialize_that_sends_finds_a_chunk() {
        struct Nested;
        impl serde::Serialize for Nested {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                let inner = pack(&Note("inner".into()), Bytes::new()).unwrap();
                s.serialize_u64(inner.front().len() as u64)
            }
        }
        impl<'de> serde::Deserialize<'de> for Nested {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                u64::deserialize(d).map(|_| Self)
            }
        }
        impl Message for Nested {
            const TYPE: MessageType = MessageType::new(0x124);
            type Reply = ();
        }
        let parcel = pack(&Nested, Bytes::new()).unwrap();
        assert!(decode_front::<Nested>(parcel.front()).is_ok());
    }
}
