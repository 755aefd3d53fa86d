//! Arbitrary bytes, cut anywhere, into the decoder.
//!
//! Nothing panics; the cuts change nothing; memory stays within what was pulled and what came;
//! what decodes encodes again to the same frame. With a byte of the input the checksums are made
//! right, so that the fuzzer gets past them.
//!
//! Input: mode, number of cut sizes, cut sizes, bytes.
#![no_main]

use bytes::{Buf, BufMut, BytesMut};
use libfuzzer_sys::fuzz_target;
use stellate_protocol::codec::{
    CodecError, Decoder, First, HEADER_LEN, MAGIC, Outbound, WIRE_VERSION, WireLimits, encode,
};
use stellate_protocol::{Class, Frame, FrameKind, Lane, Parcel, Seq};

const PULLED: u32 = 40_000;
const LIMITS: WireLimits = WireLimits {
    front_max: 64 * 1024,
    data_max: 1 << 20,
    slot_bytes: 1 << 20,
    hello_max: 32 * 1024,
};

fuzz_target!(|input: &[u8]| {
    let Some((&[mode, cuts], rest)) = input.split_first_chunk::<2>() else {
        return;
    };
    let Some((sizes, bytes)) = rest.split_at_checked(usize::from(cuts % 16)) else {
        return;
    };
    let first = match mode & 3 {
        0 => First::Hello,
        1 => First::Answer,
        _ => First::Anything,
    };
    let mut bytes = bytes.to_vec();
    if mode & 4 != 0 {
        mend(&mut bytes);
    }
    let whole = run(first, &bytes, &[]);
    let cut = run(first, &bytes, sizes);
    assert_eq!(whole, cut, "cuts change the outcome");
    for frame in whole.0 {
        apart(&frame);
        again(frame);
    }
});

/// Makes lengths small and checksums right, frame after frame.
fn mend(bytes: &mut [u8]) {
    let mut rest = bytes;
    while rest.len() >= HEADER_LEN {
        let (header, body) = rest.split_at_mut(HEADER_LEN);
        header[0] &= 15;
        header[2] &= 7;
        let kind = FrameKind::from_wire(header[0]);
        // Two bytes of each length remain: enough for the long paths.
        header[6..8].fill(0);
        header[10..12].fill(0);
        if (1..=5).contains(&header[0]) {
            header[16..22].copy_from_slice(&MAGIC);
            header[22..24].copy_from_slice(&WIRE_VERSION.to_le_bytes());
        }
        let len = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]) as usize;
        let body_len = match kind {
            Some(FrameKind::Announce) => len(4),
            _ => len(4) + len(8),
        };
        let body_len = body_len.min(body.len());
        let (body, after) = body.split_at_mut(body_len);
        let crc = crc32c::crc32c(body);
        header[12..16].copy_from_slice(&crc.to_le_bytes());
        header[44..48].fill(0);
        let crc = crc32c::crc32c(header);
        header[44..48].copy_from_slice(&crc.to_le_bytes());
        rest = after;
    }
}

/// All frames up to the end or the first error. No sizes: all at once.
fn run(first: First, bytes: &[u8], sizes: &[u8]) -> (Vec<Frame<Parcel>>, Option<CodecError>) {
    let mut decoder = Decoder::new(LIMITS, first);
    for seq in 0..2 {
        decoder.expect(Lane::messages(Class::Control), Seq(seq), PULLED).expect("a first pull");
    }
    let mut frames = Vec::new();
    let mut input = BytesMut::new();
    let mut rest = bytes;
    let mut sizes = sizes.iter().cycle();
    loop {
        match decoder.decode(&mut input) {
            Ok(Some(frame)) => {
                frames.push(frame);
                continue;
            }
            Ok(None) if rest.is_empty() => return (frames, None),
            Ok(None) => {}
            Err(error) => {
                assert_eq!(decoder.decode(&mut input), Err(error), "errors are final");
                return (frames, Some(error));
            }
        }
        let size = match sizes.next() {
            // From one byte to more than the longest body that fits here.
            Some(size) => (1 + usize::from(*size).pow(2)).min(rest.len()),
            None => rest.len(),
        };
        let came = bytes.len() - rest.len();
        match decoder.direct() {
            Some(mut direct) if size % 3 != 0 => {
                assert!(input.is_empty(), "direct reads never overtake the input");
                let room = direct.get_ref().capacity();
                let ours = PULLED as usize;
                assert!(room <= ours.max(2 * came + 256 * 1024), "{room} for {came}");
                let size = size.min(direct.remaining_mut());
                direct.put_slice(&rest[..size]);
                rest.advance(size);
            }
            _ => {
                input.extend_from_slice(&rest[..size]);
                rest.advance(size);
            }
        }
    }
}

/// A message comes out the same from two pieces, cut where a transport may have cut it.
fn apart(frame: &Frame<Parcel>) {
    let Frame::Message(message) = frame else {
        return;
    };
    let mut out = Outbound::new();
    encode(frame, &mut out).expect("what was decoded can be sent");
    let bytes = out.copy_to_bytes(out.len());
    for seam in [HEADER_LEN, HEADER_LEN + message.payload.front().len()] {
        let (mut head, rest) = (bytes.slice(..seam), bytes.slice(seam..));
        let mut decoder = Decoder::new(LIMITS, First::Anything);
        assert_eq!(decoder.decode_apart(&mut head, &rest).as_ref(), Ok(&Some(frame.clone())));
        assert!(head.is_empty());
    }
}

/// What was decoded can be sent, and comes out the same.
fn again(frame: Frame<Parcel>) {
    // A received chunk has its bytes elsewhere.
    if matches!(frame, Frame::Chunk(_)) {
        return;
    }
    let mut out = Outbound::new();
    encode(&frame, &mut out).expect("what was decoded can be sent");
    let mut input = BytesMut::new();
    while !out.is_empty() {
        let len = out.chunk().len();
        input.extend_from_slice(out.chunk());
        out.advance(len);
    }
    let mut decoder = Decoder::new(LIMITS, First::Anything);
    assert_eq!(decoder.decode(&mut input), Ok(Some(frame)));
    assert!(input.is_empty());
}
