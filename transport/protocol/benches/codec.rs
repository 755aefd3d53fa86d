//! Encode and decode: nanoseconds a message at 64 bytes in batches of 64, and 1 MiB of pulled data.
#![allow(missing_docs)]

use std::hint::black_box;
use std::io::IoSlice;

use bytes::{BufMut, Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use stellate_protocol::codec::{Decoder, First, Outbound, WireLimits, encode};
use stellate_protocol::frame::{Call, Chunk, Message};
use stellate_protocol::{Class, Frame, Lane, Parcel, Seq};

const BATCH: usize = 64;
const SMALL: usize = 64;
const LARGE: usize = 1024 * 1024;

fn small_messages(front: usize, data: usize) -> Vec<Frame<Parcel>> {
    (0..BATCH as u64)
        .map(|seq| {
            Frame::Message(Message {
                lane: Lane::messages(Class::Normal),
                seq: Seq(seq),
                call: Call::OneWay,
                payload: Parcel::new(0x0101, 1, 1, vec![7; front].into(), vec![9; data].into()),
            })
        })
        .collect()
}

fn bytes_of(frames: &[Frame<Parcel>]) -> Vec<u8> {
    let mut out = Outbound::new();
    for frame in frames {
        encode(frame, &mut out).expect("a frame that can be sent");
    }
    let mut bytes = Vec::new();
    while !out.is_empty() {
        let mut slices = [IoSlice::new(&[]); 16];
        let filled = out.io_slices(&mut slices);
        let before = bytes.len();
        slices[..filled].iter().for_each(|slice| bytes.extend_from_slice(slice));
        out.advance(bytes.len() - before);
    }
    bytes
}

/// As after a write of everything.
fn written(out: &mut Outbound) {
    let mut slices = [IoSlice::new(&[]); 16];
    black_box(out.io_slices(&mut slices));
    out.advance(out.len());
}

fn encode_frames(c: &mut Criterion, name: &str, frames: &[Frame<Parcel>]) {
    let mut group = c.benchmark_group("encode");
    group.throughput(Throughput::Elements(frames.len() as u64));
    group.bench_function(name, |b| {
        let mut out = Outbound::new();
        b.iter(|| {
            for frame in frames {
                encode(black_box(frame), &mut out).expect("a frame that can be sent");
            }
            written(&mut out);
        });
    });
}

fn decode_frames(c: &mut Criterion, name: &str, frames: &[Frame<Parcel>]) {
    let bytes = bytes_of(frames);
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements(frames.len() as u64));
    group.bench_function(name, |b| {
        let mut decoder = Decoder::new(WireLimits::default(), First::Anything);
        let mut input = BytesMut::with_capacity(64 * 1024);
        b.iter(|| {
            // The copy stands for the read; it is part of the figure, some 2 ns a message.
            input.reserve(16 * 1024);
            input.extend_from_slice(&bytes);
            while let Some(frame) = decoder.decode(&mut input).expect("good bytes") {
                black_box(&frame);
            }
        });
    });
}

fn small(c: &mut Criterion) {
    let front = small_messages(SMALL, 0);
    encode_frames(c, "64B_front_x64", &front);
    decode_frames(c, "64B_front_x64", &front);
    let both = small_messages(24, 40);
    encode_frames(c, "24B_front_40B_data_x64", &both);
    decode_frames(c, "24B_front_40B_data_x64", &both);
    let acks = vec![Frame::Ack(Box::default()); BATCH];
    encode_frames(c, "empty_ack_x64", &acks);
    decode_frames(c, "empty_ack_x64", &acks);
}

fn large(c: &mut Criterion) {
    let data = Bytes::from(vec![3; LARGE]);
    let lane = Lane::messages(Class::Bulk);
    let chunk = Frame::Chunk(Chunk {
        lane,
        seq: Seq(1),
        offset: 0,
        len: LARGE as u32,
        part: Some(Parcel::of_data(data.clone())),
    });
    let mut group = c.benchmark_group("chunk_1MiB");
    group.throughput(Throughput::Bytes(LARGE as u64));
    group.bench_function("encode", |b| {
        let mut out = Outbound::new();
        b.iter(|| {
            encode(black_box(&chunk), &mut out).expect("a frame that can be sent");
            written(&mut out);
        });
    });
    group.bench_function("checksum_alone", |b| b.iter(|| crc32c::crc32c(black_box(&data))));
    let bytes = bytes_of(std::slice::from_ref(&chunk));
    group.bench_function("decode_direct", |b| {
        let mut decoder = Decoder::new(WireLimits::default(), First::Anything);
        let mut input = BytesMut::new();
        b.iter(|| {
            decoder.expect(lane, Seq(1), LARGE as u32).expect("room");
            let (head, mut rest) = bytes.split_at(48);
            input.extend_from_slice(head);
            loop {
                if let Some(frame) = decoder.decode(&mut input).expect("good bytes") {
                    break black_box(frame);
                }
                // Reads of 256 KiB, the copy standing for the kernel's.
                let piece = rest.len().min(256 * 1024);
                match decoder.direct() {
                    Some(mut direct) => direct.put_slice(&rest[..piece]),
                    None => input.extend_from_slice(&rest[..piece]),
                }
                rest = &rest[piece..];
            }
        });
    });
}

criterion_group!(benches, small, large);
criterion_main!(benches);
