//! What goes in at one end comes out at the other, however the bytes are cut.
#![allow(missing_docs, clippy::unwrap_used)] // a test may panic

mod codec_support;

use bytes::Bytes;
use codec_support::*;
use proptest::collection::vec;
use proptest::prelude::*;
use stellate_protocol::codec::{CodecError, DIRECT_MIN, Decoder, First, HEADER_LEN, WireLimits};
use stellate_protocol::*;

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![Just(vec![usize::MAX]), vec(1usize..100, 1..20), vec(1usize..70_000, 1..20),]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn f3_frames_come_out_whole_and_in_order(
        sent in vec(frames(), 1..8),
        sizes in sizes(),
    ) {
        let bytes = bytes_of(&sent);
        let mut decoder = anything();
        let got = feed(&mut decoder, &bytes, &sizes).unwrap();
        prop_assert_eq!(got, sent);
        prop_assert!(decoder.is_between_frames());
    }

    #[test]
    fn interleaved_pulls_are_joined_in_their_buffers(
        first in (1usize..200_000, 1usize..70_000),
        second in (1usize..200_000, 1usize..70_000),
        between in vec(messages().prop_map(Frame::Message), 0..3),
        sizes in sizes(),
    ) {
        let pulls = [(Lane::messages(Class::Bulk), Seq(7), first), (Lane::replies(Class::High), Seq(7), second)];
        let mut decoder = anything();
        let mut queues = Vec::new();
        for (lane, seq, (len, piece)) in pulls {
            decoder.expect(lane, seq, len as u32).unwrap();
            queues.push(chunks(lane, seq, &pattern(len, piece as u8), piece.max(len / 8)).into_iter());
        }
        let mut sent = Vec::new();
        let mut between = between.into_iter();
        loop {
            let before = sent.len();
            for queue in &mut queues {
                sent.extend(queue.next());
            }
            if sent.len() == before {
                break;
            }
            sent.extend(between.next());
        }
        let got = feed(&mut decoder, &bytes_of(&sent), &sizes).unwrap();
        prop_assert_eq!(got.len(), sent.len());
        for (got, mut sent) in got.into_iter().zip(sent) {
            if let Frame::Chunk(chunk) = &mut sent {
                let whole = chunk.part.as_ref().unwrap().data_len();
                if chunk.offset + chunk.len < whole {
                    chunk.part = None;
                }
            }
            prop_assert_eq!(got, sent);
        }
        prop_assert_eq!(decoder.reserved(), 0);
    }
}

proptest! {
    #[test]
    fn a_message_in_two_pieces_is_the_message_wherever_the_seam_is(
        frame in prop_oneof![messages().prop_map(Frame::Message), frames()],
        at in any::<prop::sample::Index>(),
        natural in 0..3,
        damaged in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = bytes_of(std::slice::from_ref(&frame));
        let message = match &frame {
            Frame::Message(message) => Some(HEADER_LEN + message.payload.front().len()),
            _ => None,
        };
        let seam = match (natural, message) {
            (0, Some(_)) => HEADER_LEN,
            (1, Some(behind_front)) => behind_front,
            _ => at.index(bytes.len()),
        };
        let apart = message.is_some_and(|behind_front| [HEADER_LEN, behind_front].contains(&seam));
        let (_, body) = bytes.split_at_mut(HEADER_LEN);
        if let (Some(place), false) = (damaged, body.is_empty()) {
            body[place.index(body.len())] ^= 4;
        }
        let whole = anything().decode(&mut Bytes::from(bytes.clone()));
        let (mut head, rest) = (Bytes::from(bytes.clone()), Bytes::from(bytes).split_off(seam));
        head.truncate(seam);
        let before = head.clone();
        let mut decoder = anything();
        let got = decoder.decode_apart(&mut head, &rest);
        if apart {
            prop_assert_eq!(&got, &whole);
            if let Ok(Some(Frame::Message(frame::Message { payload, .. }))) = &got
                && !payload.data().is_empty()
            {
                prop_assert!(rest.as_ptr_range().contains(&payload.data().as_ptr()), "not copied");
            }
            prop_assert_eq!(decoder.decode(&mut Bytes::new()), whole.map(|_| None), "errors stay");
        } else {
            prop_assert_eq!(got, Ok(None));
            prop_assert_eq!(&head, &before, "nothing is taken");
            let mut input = bytes::BytesMut::from(&head[..]);
            input.extend_from_slice(&rest);
            prop_assert_eq!(decoder.decode(&mut input), whole);
        }
    }

    #[test]
    fn a_message_apart_comes_between_frames_and_after_a_greeting(message in messages()) {
        let bytes = Bytes::from(bytes_of(&[Frame::Message(message)]));
        let (mut head, rest) = (bytes.slice(..HEADER_LEN), bytes.slice(HEADER_LEN..));
        let mut begun = anything();
        prop_assert_eq!(begun.gathers(), 0);
        begun.decode(&mut bytes.slice(..HEADER_LEN)).unwrap();
        prop_assert_eq!(begun.gathers(), if rest.len() > DIRECT_MIN { 0 } else { rest.len() });
        if !begun.is_between_frames() {
            prop_assert_eq!(begun.decode_apart(&mut head, &rest), Ok(None), "a frame is half read");
        }
        let mut fresh = Decoder::new(wide(), First::Hello);
        let refused = CodecError::UnexpectedFirst { frame: FrameKind::Message };
        prop_assert_eq!(fresh.decode_apart(&mut head, &rest), Err(refused));
    }
}

#[test]
fn fronts_and_data_are_slices_of_what_was_read() {
    let message = frame::Message {
        lane: Lane::messages(Class::Normal),
        seq: Seq(1),
        call: frame::Call::OneWay,
        payload: Parcel::new(0, 0, 0, Bytes::from_static(b"front"), Bytes::from_static(b"data!")),
    };
    let bytes = bytes_of(&[Frame::Message(message)]);
    let mut input = bytes::BytesMut::from(&bytes[..]);
    let read = input.as_ptr() as usize..input.as_ptr() as usize + input.len();
    let mut decoder = Decoder::new(WireLimits::default(), First::Anything);
    let Some(Frame::Message(got)) = decoder.decode(&mut input).unwrap() else {
        panic!("a message");
    };
    assert!(read.contains(&(got.payload.front().as_ptr() as usize)));
    assert!(read.contains(&(got.payload.data().as_ptr() as usize)));
}
