//! What no peer, however hostile or damaged its bytes, can make the decoder do.
#![allow(missing_docs, clippy::unwrap_used)] // a test may panic

mod codec_support;

use bytes::{Bytes, BytesMut};
use codec_support::*;
use proptest::collection::vec;
use proptest::prelude::*;
use stellate_protocol::codec::{
    CONTROL_MAX, ChunkFault, CodecError, DIRECT_MIN, Decoder, First, HEADER_LEN, MAGIC,
    WIRE_VERSION, WireLimits,
};
use stellate_protocol::frame::*;
use stellate_protocol::*;

const LANE: Lane = Lane::messages(Class::Bulk);

fn opening() -> Opening {
    Opening {
        terms: Terms {
            front_max: 65_536,
            data_max: 1 << 26,
            slot_bytes: 8192,
            slots: Some(64),
            requests_max: 4096,
        },
        lanes: [LaneState::default(); Lane::COUNT],
        held: false,
        features: vec![Feature { id: 9, required: true, data: Bytes::from_static(b"zz") }],
        metadata: Bytes::from_static(b"epoch 7"),
        auth: Bytes::new(),
    }
}

fn identity() -> Identity {
    Identity {
        name: EntityName::osd(3),
        role: Some(Role::new("cluster").unwrap()),
        instance: Instance(42),
        incarnation: Some(Incarnation(5)),
    }
}

fn hello() -> Frame<Parcel> {
    Frame::Hello(Box::new(Hello {
        from: identity(),
        target: EntityName::mon(0),
        session: SessionId(77),
        attempt: Attempt(1),
        established: false,
        insist: false,
        policy: PolicyOffer { lossy: false, stance: Stance::Peer },
        opening: opening(),
    }))
}

fn answer(verdict: Verdict) -> Frame<Parcel> {
    Frame::Answer(Box::new(Answer {
        from: identity(),
        session: SessionId(77),
        attempt: Attempt(1),
        latest: Attempt(2),
        resume: false,
        verdict,
    }))
}

fn message(front: usize, data: usize) -> Message<Parcel> {
    Message {
        lane: LANE,
        seq: Seq(5),
        call: Call::Request { id: RequestId(8), ttl_ms: Some(1000) },
        payload: Parcel::new(0x101, 2, 1, pattern(front, 1), pattern(data, 2)),
    }
}

fn close() -> Frame<Parcel> {
    Frame::Close(Box::new(Close {
        reason: CloseReason::Closed,
        delivered: [1, 2, 3, 4, 5, 6, 7, 8],
        text: "done".into(),
    }))
}

/// One of each kind that stands alone.
fn samples() -> Vec<Frame<Parcel>> {
    let mut ack = Ack::default();
    ack.lanes[4] = Some(LaneState { received: Seq(3), window: Seq(9), window_bytes: 1 << 22 });
    vec![
        hello(),
        answer(Verdict::Accepted { lossy: false, opening: opening() }),
        answer(Verdict::Lost),
        answer(Verdict::NoSession),
        answer(Verdict::Refused { reason: RefuseReason::Busy, text: "later".into() }),
        Frame::Message(message(64, 24)),
        Frame::Announce(Message {
            payload: Parcel::announcing(0x101, 2, 1, pattern(64, 1), 1 << 20),
            ..message(64, 0)
        }),
        Frame::Pull(Pull { lane: LANE, seq: Seq(4) }),
        Frame::Ack(Box::new(ack)),
        Frame::Grant(Grant { slots: 12 }),
        Frame::Heartbeat(Heartbeat { ask: 1, answer: 0 }),
        Frame::Admitted,
        close(),
    ]
}

/// Decodes a whole buffer with a decoder that takes any first frame.
fn decode(bytes: &[u8]) -> Result<Option<Frame<Parcel>>, CodecError> {
    anything().decode(&mut BytesMut::from(bytes))
}

/// The bytes of `frame` with a changed header that is valid again.
fn forged(frame: &Frame<Parcel>, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut bytes = bytes_of(std::slice::from_ref(frame));
    change(&mut bytes);
    let body = crc32c::crc32c(&bytes[HEADER_LEN..]);
    bytes[12..16].copy_from_slice(&body.to_le_bytes());
    reseal(&mut bytes);
    bytes
}

fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

#[test]
fn every_flipped_bit_is_a_transport_fault() {
    for frame in samples() {
        let bytes = bytes_of(std::slice::from_ref(&frame));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let error = decode(&damaged).expect_err("a flipped bit shows");
            assert_eq!(error.blame(), Blame::Transport, "{:?} bit {bit}", frame.kind());
        }
    }
}

#[test]
fn every_flipped_bit_of_a_chunk_shows() {
    let data = pattern(300, 3);
    let bytes = bytes_of(&chunks(LANE, Seq(1), &data, 300));
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let mut decoder = anything();
        decoder.expect(LANE, Seq(1), 300).unwrap();
        let error = feed(&mut decoder, &damaged, &[77]).expect_err("a flipped bit shows");
        assert_eq!(error.blame(), Blame::Transport);
    }
}

#[test]
fn an_error_is_final() {
    let mut bytes = bytes_of(&[Frame::Admitted, Frame::Admitted]);
    bytes[20] ^= 1;
    let mut decoder = anything();
    let mut input = BytesMut::from(&bytes[..]);
    for _ in 0..3 {
        assert_eq!(decoder.decode(&mut input), Err(CodecError::HeaderChecksum));
        assert!(decoder.direct().is_none());
        assert!(!decoder.is_between_frames());
    }
}

#[test]
fn a_stranger_is_named_after_its_first_byte() {
    for stranger in [
        &b"GET / HTTP/1.1\r\nHost: a\r\n"[..],
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"\x16\x03\x01",
        b"ceph v2\n",
    ] {
        for first in [First::Hello, First::Answer] {
            let mut decoder = Decoder::new(WireLimits::default(), first);
            let error = feed(&mut decoder, stranger, &[1]).unwrap_err();
            assert_eq!(error, CodecError::NotStellate);
            assert_eq!(error.blame(), Blame::PeerIncompatible);
        }
    }
    // A stranger whose first byte happens to be a kind.
    let mut decoder = Decoder::new(WireLimits::default(), First::Hello);
    let error = feed(&mut decoder, &[1; 60], &[60]).unwrap_err();
    assert_eq!(error, CodecError::NotStellate);
}

#[test]
fn another_version_is_named_whatever_its_header_looks_like() {
    let mut bytes = bytes_of(&[hello()]);
    assert_eq!(bytes[16..22], MAGIC);
    bytes[22..24].copy_from_slice(&(WIRE_VERSION + 1).to_le_bytes());
    bytes[44] ^= 0xff;
    for first in [First::Hello, First::Answer] {
        let mut decoder = Decoder::new(WireLimits::default(), first);
        let error = feed(&mut decoder, &bytes, &[1]).unwrap_err();
        assert_eq!(error, CodecError::Version { theirs: WIRE_VERSION + 1 });
    }
}

#[test]
fn only_the_right_frame_opens_a_link_and_only_once() {
    for frame in samples() {
        let bytes = bytes_of(std::slice::from_ref(&frame));
        for (first, kinds) in [
            (First::Hello, &[FrameKind::Hello, FrameKind::Resume][..]),
            (First::Answer, &[FrameKind::HelloAnswer, FrameKind::ResumeAnswer, FrameKind::Lost]),
        ] {
            let mut decoder = Decoder::new(wide(), first);
            let result = feed(&mut decoder, &bytes, &[10]);
            let kind = frame.kind();
            if kinds.contains(&kind) {
                assert_eq!(result.unwrap(), std::slice::from_ref(&frame));
                let again = feed(&mut decoder, &bytes, &[10]).unwrap_err();
                assert_eq!(again, CodecError::NotFirst { frame: kind });
            } else {
                assert_eq!(result.unwrap_err(), CodecError::UnexpectedFirst { frame: kind });
            }
        }
    }
}

#[test]
fn s7_lengths_over_a_limit_are_refused_by_the_header_alone() {
    let limits = WireLimits::default();
    let cases: [(Frame<Parcel>, usize, u32); 7] = [
        (Frame::Message(message(8, 0)), 4, limits.front_max),
        (Frame::Message(message(8, 0)), 8, limits.slot_bytes),
        (samples().swap_remove(6), 8, limits.data_max),
        (hello(), 4, limits.hello_max),
        (hello(), 8, 0),
        (close(), 4, CONTROL_MAX),
        (Frame::Admitted, 4, CONTROL_MAX),
    ];
    for (frame, at, max) in cases {
        for (len, fits) in [(max, true), (max + 1, false), (u32::MAX, false)] {
            let mut bytes = bytes_of(std::slice::from_ref(&frame));
            put_u32(&mut bytes, at, len);
            reseal(&mut bytes);
            let mut decoder = Decoder::new(limits, First::Anything);
            let result = decoder.decode(&mut BytesMut::from(&bytes[..HEADER_LEN]));
            match result {
                Err(CodecError::TooLong { len: told, .. }) if !fits => {
                    assert_eq!(told, u64::from(len));
                }
                Ok(None) | Err(CodecError::BodyChecksum { .. }) if fits => {}
                other => panic!("{:?} {at} {len}: {other:?}", frame.kind()),
            }
        }
    }
}

#[test]
fn s7_memory_for_a_long_body_follows_the_bytes_that_came() {
    let limits = WireLimits { slot_bytes: 32 << 20, ..WireLimits::default() };
    let mut bytes = bytes_of(&[Frame::Message(message(0, 0))]);
    put_u32(&mut bytes, 8, 32 << 20);
    reseal(&mut bytes);
    let mut decoder = Decoder::new(limits, First::Anything);
    let mut input = BytesMut::from(&bytes[..]);
    assert_eq!(decoder.decode(&mut input), Ok(None));
    let mut came = 0;
    while came < 4 << 20 {
        use bytes::BufMut;
        let mut direct = decoder.direct().expect("much is missing");
        let room = direct.get_ref().capacity();
        assert!(room <= 2 * came + 128 * 1024, "{room} bytes for {came}");
        let chunk = direct.chunk_mut().len().min(10_000);
        direct.put_bytes(1, chunk);
        came += chunk;
        assert_eq!(decoder.decode(&mut input), Ok(None));
    }
}

#[test]
fn direct_buffers_are_offered_only_for_what_is_worth_a_system_call() {
    let data = pattern(DIRECT_MIN + 10, 0);
    let bytes = bytes_of(&chunks(LANE, Seq(1), &data, data.len()));
    let mut decoder = anything();
    decoder.expect(LANE, Seq(1), data.len() as u32).unwrap();
    let mut input = BytesMut::from(&bytes[..HEADER_LEN + 10]);
    assert_eq!(decoder.decode(&mut input), Ok(None));
    assert!(decoder.direct().is_some());
    input.extend_from_slice(&bytes[HEADER_LEN + 10..HEADER_LEN + 11]);
    assert_eq!(decoder.decode(&mut input), Ok(None));
    assert!(decoder.direct().is_none());
    input.extend_from_slice(&bytes[HEADER_LEN + 11..]);
    assert!(matches!(
        decoder.decode(&mut input),
        Ok(Some(Frame::Chunk(Chunk { part: Some(_), .. })))
    ));
}

fn chunk_fault(len: u32, sent: &[Frame<Parcel>]) -> ChunkFault {
    let mut decoder = anything();
    decoder.expect(LANE, Seq(1), len).unwrap();
    match feed(&mut decoder, &bytes_of(sent), &[50]).unwrap_err() {
        error @ CodecError::UnexpectedChunk { fault, .. } => {
            assert_eq!(error.blame(), Blame::PeerMisbehaved);
            fault
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn chunks_that_do_not_fit_the_pull_are_refused() {
    let data = pattern(300, 0);
    let sent = chunks(LANE, Seq(1), &data, 100);
    let other = chunks(LANE, Seq(2), &data, 100);
    assert_eq!(chunk_fault(300, &other[..1]), ChunkFault::NotPulled);
    let again = [sent[0].clone(), sent[0].clone()];
    let fault = chunk_fault(300, &again);
    assert_eq!(fault, ChunkFault::Offset { at: 0, want: 100 });
    let gap = [sent[0].clone(), sent[2].clone()];
    let fault = chunk_fault(300, &gap);
    assert_eq!(fault, ChunkFault::Offset { at: 200, want: 100 });
    let fault = chunk_fault(299, &sent);
    assert_eq!(fault, ChunkFault::Beyond { end: 300, len: 299 });
    // After the last piece the pull is done.
    let more: Vec<_> = sent.iter().chain(&sent[..1]).cloned().collect();
    assert_eq!(chunk_fault(300, &more), ChunkFault::NotPulled);
}

#[test]
fn an_empty_chunk_is_refused_and_so_is_an_endless_one() {
    let sent = chunks(LANE, Seq(1), &pattern(10, 0), 10);
    for (len, aux) in [(0, 0), (u32::MAX, 0), (10, u32::MAX), (WireLimits::default().data_max, 1)] {
        let mut bytes = bytes_of(&sent);
        put_u32(&mut bytes, 8, len);
        put_u32(&mut bytes, 40, aux);
        reseal(&mut bytes);
        let mut decoder = anything();
        decoder.expect(LANE, Seq(1), 10).unwrap();
        let error = feed(&mut decoder, &bytes, &[60]).unwrap_err();
        assert_eq!(error.blame(), Blame::PeerMisbehaved, "{error}");
    }
}

#[test]
fn expect_keeps_its_limits_and_forget_all_its_word() {
    let mut decoder = anything();
    let max = WireLimits::default().data_max;
    let error = decoder.expect(LANE, Seq(1), max + 1).unwrap_err();
    assert!(matches!(error, CodecError::TooLong { .. }));
    decoder.expect(LANE, Seq(1), 300).unwrap();
    let error = decoder.expect(LANE, Seq(1), 300).unwrap_err();
    assert_eq!(error.blame(), Blame::Local);
    assert_eq!(decoder.reserved(), 300);
    let sent = chunks(LANE, Seq(1), &pattern(300, 0), 300);
    let bytes = bytes_of(&sent);
    feed(&mut decoder, &bytes[..100], &[100]).unwrap();
    assert!(!decoder.is_between_frames());
    decoder.forget_all();
    assert_eq!(decoder.reserved(), 0);
    assert!(decoder.is_between_frames());
    decoder.expect(LANE, Seq(1), 300).unwrap();
    assert_eq!(feed(&mut decoder, &bytes, &[100]).unwrap(), sent);
}

#[test]
fn what_a_later_version_appends_is_ignored() {
    for frame in samples() {
        let kind = frame.kind();
        if matches!(kind, FrameKind::Message | FrameKind::Announce) {
            continue;
        }
        let mut bytes = bytes_of(std::slice::from_ref(&frame));
        bytes.extend_from_slice(b"of a later version");
        let front_len = (bytes.len() - HEADER_LEN) as u32;
        put_u32(&mut bytes, 4, front_len);
        bytes[1] |= 0x80;
        let body = crc32c::crc32c(&bytes[HEADER_LEN..]);
        bytes[12..16].copy_from_slice(&body.to_le_bytes());
        reseal(&mut bytes);
        assert_eq!(decode(&bytes), Ok(Some(frame)), "{kind:?}");
    }
}

#[test]
fn an_ack_with_longer_lane_states_is_understood() {
    let mut ack = Ack::default();
    ack.lanes[1] = Some(LaneState { received: Seq(1), window: Seq(2), window_bytes: 3 });
    ack.lanes[7] = Some(LaneState::default());
    let frame = Frame::Ack(Box::new(ack));
    let bytes = bytes_of(std::slice::from_ref(&frame));
    let mut longer = bytes[..HEADER_LEN + 2].to_vec();
    longer[HEADER_LEN + 1] = 32;
    for entry in bytes[HEADER_LEN + 2..].chunks(24) {
        longer.extend_from_slice(entry);
        longer.extend_from_slice(&[0xee; 8]);
    }
    let front_len = (longer.len() - HEADER_LEN) as u32;
    put_u32(&mut longer, 4, front_len);
    let body = crc32c::crc32c(&longer[HEADER_LEN..]);
    longer[12..16].copy_from_slice(&body.to_le_bytes());
    reseal(&mut longer);
    assert_eq!(decode(&longer), Ok(Some(frame)));
}

#[test]
fn fields_without_a_meaning_are_refused_by_name() {
    let request = Frame::Message(message(4, 0));
    let reply = Frame::Message(Message {
        call: Call::Reply { id: RequestId(1), outcome: Outcome::Handled },
        ..message(0, 0)
    });
    let rejected = Frame::Message(Message {
        call: Call::Rejected { seq: Seq(1), reason: UndeliverableReason::BadFront },
        ..message(0, 0)
    });
    let lost = answer(Verdict::Lost);
    let cases = [
        (forged(&request, |bytes| bytes[2] = 8), "lane"),
        (forged(&request, |bytes| bytes[1] = 0x70), "call"),
        (forged(&reply, |bytes| bytes[3] = 5), "outcome"),
        (forged(&reply, |bytes| bytes[3] = 21), "outcome"),
        (forged(&rejected, |bytes| bytes[3] = 0), "reason"),
        (forged(&lost, |bytes| bytes[3] = 0), "lossy"),
        (forged(&lost, |bytes| bytes[3] = 2), "verdict"),
        (forged(&lost, |bytes| bytes[3] = 4), "verdict"),
        (forged(&close(), |bytes| bytes[3] = 0), "reason"),
        (forged(&samples()[8], |bytes| bytes[49] = 23), "stride"),
        (forged(&samples()[6], |bytes| put_u32(bytes, 8, 0)), "data_len"),
    ];
    for (bytes, want) in cases {
        match decode(&bytes) {
            Err(CodecError::BadField { field, .. }) => assert_eq!(field, want),
            other => panic!("{want}: {other:?}"),
        }
    }
    let unknown = forged(&Frame::Admitted, |bytes| bytes[0] = 15);
    assert_eq!(decode(&unknown), Err(CodecError::UnknownKind { number: 15 }));
}

#[test]
fn a_frame_without_bytes_leaves_no_trace() {
    use stellate_protocol::codec::{Outbound, encode};
    let missing =
        Frame::Message(Message { payload: message(0, 9).payload.announced(), ..message(0, 9) });
    let mut beyond = chunks(LANE, Seq(1), &pattern(10, 0), 10).remove(0);
    if let Frame::Chunk(chunk) = &mut beyond {
        chunk.offset = 1;
    }
    let empty = Frame::Announce(message(3, 0));
    let mut fat = opening();
    fat.metadata = pattern(METADATA_MAX + 1, 0);
    let fat = answer(Verdict::Accepted { lossy: true, opening: fat });
    let mut out = Outbound::new();
    encode(&Frame::Admitted, &mut out).unwrap();
    for frame in [missing, beyond, empty, fat] {
        let error = encode(&frame, &mut out).unwrap_err();
        assert_eq!(error.blame(), Blame::Local);
        assert_eq!(out.len(), HEADER_LEN);
    }
}

#[test]
fn a_long_text_is_cut_between_characters() {
    let frame = Frame::Close(Box::new(Close {
        reason: CloseReason::Aborted,
        delivered: [0; 8],
        text: "ö".repeat(TEXT_MAX),
    }));
    let Ok(Some(Frame::Close(close))) = decode(&bytes_of(&[frame])) else {
        panic!("a close");
    };
    assert_eq!(close.text, "ö".repeat(TEXT_MAX / 2));
}

#[test]
fn the_longest_hello_fits_its_limit() {
    let Frame::Hello(mut hello) = hello() else {
        panic!("a hello");
    };
    hello.opening.metadata = pattern(METADATA_MAX, 0);
    hello.opening.auth = pattern(AUTH_MAX, 0);
    let feature = Feature { id: 1, required: false, data: pattern(FEATURE_DATA_MAX, 0) };
    hello.opening.features = vec![feature; FEATURES_MAX];
    let frame = Frame::Hello(hello);
    let bytes = bytes_of(std::slice::from_ref(&frame));
    let mut decoder = Decoder::new(WireLimits::default(), First::Hello);
    assert_eq!(feed(&mut decoder, &bytes, &[1000]).unwrap(), [frame]);
}

#[test]
fn errors_say_what_and_what_next() {
    let error = CodecError::TooLong { what: "front", len: 10, max: 5 };
    assert_eq!(
        error.to_string(),
        "front of 10 is over the limit of 5; raise it here or send less there"
    );
    let error = CodecError::UnexpectedChunk {
        lane: LANE,
        seq: Seq(3),
        fault: ChunkFault::Offset { at: 1, want: 2 },
    };
    assert!(error.to_string().contains("begins at 1 instead of 2"));
}

/// Bytes that get past the header checksum now and then.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let header = (vec(any::<u8>(), HEADER_LEN), 0u8..16, 0u32..400, 0u32..400);
    let sealed = (header, vec(any::<u8>(), 0..400), any::<bool>()).prop_map(
        |((mut bytes, kind, front, data), body, fix)| {
            bytes[0] = kind;
            bytes[2] &= 7;
            put_u32(&mut bytes, 4, front);
            put_u32(&mut bytes, 8, data);
            if matches!(kind, 1..=5) {
                bytes[16..22].copy_from_slice(&MAGIC);
                bytes[22..24].copy_from_slice(&WIRE_VERSION.to_le_bytes());
            }
            if fix {
                let len = if kind == 7 { front } else { front + data } as usize;
                bytes.extend(body.iter().copied().cycle().take(if body.is_empty() {
                    0
                } else {
                    len
                }));
                let crc = crc32c::crc32c(&bytes[HEADER_LEN..]);
                bytes[12..16].copy_from_slice(&crc.to_le_bytes());
            } else {
                bytes.extend(body);
            }
            reseal(&mut bytes);
            bytes
        },
    );
    prop_oneof![1 => vec(any::<u8>(), 0..300), 6 => sealed]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn hostile_bytes_give_the_same_result_however_they_are_cut(
        parts in vec(hostile(), 1..4),
        sizes in vec(1usize..120, 1..10),
        first in proptest::sample::select(vec![First::Hello, First::Answer, First::Anything]),
    ) {
        let bytes = parts.concat();
        let whole = all(first, &bytes, &[usize::MAX]);
        let cut = all(first, &bytes, &sizes);
        prop_assert_eq!(whole, cut);
    }

    #[test]
    fn damaged_streams_never_panic(
        sent in vec(frames(), 1..5),
        damage in vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = bytes_of(&sent);
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] ^= value | 1;
        }
        prop_assert!(feed(&mut anything(), &bytes, &[333]).is_err() || bytes == bytes_of(&sent));
    }
}

/// All frames before the first error, and the error.
fn all(first: First, bytes: &[u8], sizes: &[usize]) -> (Vec<Frame<Parcel>>, Option<CodecError>) {
    let mut decoder = Decoder::new(wide(), first);
    decoder.expect(LANE, Seq(1), 300).unwrap();
    let mut frames = Vec::new();
    let mut input = BytesMut::new();
    let mut rest = bytes;
    let mut sizes = sizes.iter().cycle();
    loop {
        match decoder.decode(&mut input) {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) if rest.is_empty() => return (frames, None),
            Ok(None) => {
                let (now, later) = rest.split_at((*sizes.next().unwrap()).clamp(1, rest.len()));
                input.extend_from_slice(now);
                rest = later;
            }
            Err(error) => return (frames, Some(error)),
        }
    }
}
