//! From a typed message to the parcel that the session carries: once, in the caller.
//!
//! A front is written on the stack and copied into a chunk of its thread's, with its data where that
//! is small: no allocation and no lock per small message. What is still in some outbox keeps its
//! chunk alive, so this memory is counted in chunks where messages are few and far between.

use std::cell::RefCell;

use bytes::{Bytes, BytesMut};
use stellate_protocol::Parcel;

use crate::message::{Body, FrontError, Message, Scratch, Stamp, write_front};

/// Bytes of a chunk; a front over what is left of one gets the next.
const CHUNK: usize = 64 * 1024;

/// Bytes that any front may have at most: what the wire can say.
const FRONT_MAX: usize = u32::MAX as usize;

/// Data up to here is copied behind its front, bytes: one handle is then all that the session
/// moves, and the copy costs less than the second one would.
const JOIN_MAX: usize = 512;

thread_local! {
    static CHUNKS: RefCell<BytesMut> = RefCell::new(BytesMut::with_capacity(CHUNK));
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
    let mut front = Scratch::new(FRONT_MAX);
    write_front(body, &mut front, FRONT_MAX)?;
    *parcel = if data.len() > JOIN_MAX {
        Parcel::new(kind, version, compat, keep(front.as_slice(), &[]), data)
    } else {
        let front = front.as_slice();
        Parcel::joined(kind, version, compat, keep(front, &data), front.len())
    };
    Ok(())
}

/// Copies both, one behind the other, into this thread's chunk.
fn keep(front: &[u8], data: &[u8]) -> Bytes {
    let len = front.len() + data.len();
    if len == 0 {
        return Bytes::new();
    }
    // No user code runs in here, so nobody else has borrowed it.
    let kept = CHUNKS.try_with(|chunk| {
        let mut chunk = chunk.borrow_mut();
        if chunk.capacity() < len {
            chunk.reserve(len.max(CHUNK));
        }
        chunk.extend_from_slice(front);
        chunk.extend_from_slice(data);
        chunk.split().freeze()
    });
    // While a thread is torn down there is no chunk any more: a buffer of its own does.
    kept.unwrap_or_else(|_| [front, data].concat().into())
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
    fn a_serialize_that_itself_sends_is_well() {
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
