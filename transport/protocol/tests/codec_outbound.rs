//! What waits for the transport leaves in order, long pieces uncopied, memory used again.
#![allow(missing_docs, clippy::unwrap_used)] // a test may panic

mod codec_support;

use std::io::IoSlice;

use bytes::{Buf, Bytes};
use codec_support::*;
use proptest::collection::vec;
use proptest::prelude::*;
use stellate_protocol::codec::{COPY_MAX, HEADER_LEN, Outbound, encode};
use stellate_protocol::frame::*;
use stellate_protocol::*;

fn message(front: usize, data: Bytes) -> Frame<Parcel> {
    Frame::Message(Message {
        lane: Lane::messages(Class::Normal),
        seq: Seq(1),
        call: Call::OneWay,
        payload: Parcel::new(0, 0, 0, pattern(front, 1), data),
    })
}

#[test]
fn small_frames_share_one_slice_and_long_data_is_a_handle() {
    let long = pattern(COPY_MAX + 1, 2);
    let mut out = Outbound::new();
    encode(&message(64, pattern(COPY_MAX, 1)), &mut out).unwrap();
    encode(&Frame::Admitted, &mut out).unwrap();
    assert_eq!(out.segments(), 1);
    encode(&message(64, long.clone()), &mut out).unwrap();
    encode(&Frame::Admitted, &mut out).unwrap();
    assert_eq!(out.segments(), 3);
    let mut slices = [IoSlice::new(&[]); 4];
    assert_eq!(out.io_slices(&mut slices), 3);
    assert_eq!(slices[1].as_ptr(), long.as_ptr());
    assert_eq!(slices[2].len(), HEADER_LEN);
    // A chunk is a slice of the whole, not a copy.
    let data = pattern(4 * COPY_MAX, 3);
    let mut out = Outbound::new();
    let chunk = &chunks(Lane::messages(Class::Bulk), Seq(1), &data, 2 * COPY_MAX)[1];
    encode(chunk, &mut out).unwrap();
    let mut slices = [IoSlice::new(&[]); 4];
    assert_eq!(out.io_slices(&mut slices), 2);
    assert_eq!(slices[1].as_ptr(), data[2 * COPY_MAX..].as_ptr());
}

#[test]
fn a_short_vector_takes_the_first_slices() {
    let mut out = Outbound::new();
    for _ in 0..3 {
        encode(&message(0, pattern(COPY_MAX + 1, 2)), &mut out).unwrap();
    }
    let mut slices = [IoSlice::new(&[]); 3];
    assert_eq!(out.io_slices(&mut slices), 3);
    assert_eq!(slices[0].len(), HEADER_LEN);
    assert_eq!(out.io_slices(&mut []), 0);
}

#[test]
fn memory_is_used_again_under_steady_load() {
    // Never empty: there is always a part of a frame left, as under load.
    let mut out = Outbound::new();
    let frame = message(100, Bytes::new());
    let mut places = Vec::new();
    for _ in 0..10_000 {
        encode(&frame, &mut out).unwrap();
        encode(&frame, &mut out).unwrap();
        let out_len = out.len();
        // Writing moves nothing.
        let before = out.chunk().as_ptr() as usize;
        out.advance(out.len() - 60);
        assert_eq!(out.chunk().as_ptr() as usize, before + out_len - 60);
        let place = out.chunk().as_ptr() as usize;
        if !places.iter().any(|known: &usize| known.abs_diff(place) < 4096) {
            places.push(place);
        }
    }
    assert!(places.len() <= 4, "{} buffers", places.len());
}

#[test]
fn the_last_handle_can_be_taken_out_and_a_copy_cannot() {
    let mut out = Outbound::copying(100);
    assert_eq!(out.take_last_handle(), None);
    let (short, long) = (pattern(100, 1), pattern(101, 2));
    for data in [short, long.clone()] {
        encode(&message(10, data), &mut out).unwrap();
    }
    let (len, segments) = (out.len(), out.segments());
    assert_eq!(out.take_last_handle().map(|data| data.as_ptr()), Some(long.as_ptr()));
    assert_eq!((out.len(), out.segments()), (len - long.len(), segments - 1));
    assert_eq!(out.take_last_handle(), None, "what is left are copies");
    assert_eq!(drain(&mut out).len(), len - long.len());
}

#[test]
fn clear_and_advance_beyond_the_end_take_all() {
    let mut out = Outbound::new();
    encode(&message(10, pattern(COPY_MAX + 1, 0)), &mut out).unwrap();
    out.clear();
    assert!(out.is_empty() && out.segments() == 0 && out.chunk().is_empty());
    encode(&Frame::Admitted, &mut out).unwrap();
    out.advance(usize::MAX);
    assert_eq!((out.len(), out.segments()), (0, 0));
}

proptest! {
    #[test]
    fn bytes_leave_in_order_however_short_the_writes(
        sent in vec(messages().prop_map(Frame::Message), 1..10),
        writes in vec(1usize..30_000, 1..10),
    ) {
        let mut out = Outbound::new();
        let mut wrote = Vec::new();
        let mut writes = writes.iter().cycle();
        let mut want = Vec::new();
        for frame in &sent {
            want.extend(bytes_of(std::slice::from_ref(frame)));
            encode(frame, &mut out).unwrap();
            write(&mut out, &mut wrote, *writes.next().unwrap());
            prop_assert_eq!(out.len(), want.len() - wrote.len());
        }
        while !out.is_empty() {
            write(&mut out, &mut wrote, *writes.next().unwrap());
        }
        prop_assert_eq!(out.segments(), 0);
        prop_assert_eq!(wrote, want);
    }
}

/// A vectored write that takes at most `max` bytes.
fn write(out: &mut Outbound, wrote: &mut Vec<u8>, max: usize) {
    let mut slices = [IoSlice::new(&[]); 3];
    let filled = out.io_slices(&mut slices);
    let before = wrote.len();
    for slice in &slices[..filled] {
        let room = max - (wrote.len() - before);
        wrote.extend_from_slice(&slice[..room.min(slice.len())]);
    }
    let n = wrote.len() - before;
    out.advance(n);
}
