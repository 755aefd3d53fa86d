//! Arbitrary frames, and the way of a transport through the codec, for the codec's tests.
#![allow(dead_code, missing_docs, unreachable_pub)] // each test file uses its part
#![allow(clippy::unwrap_used)] // a test may panic

use bytes::{Buf, Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;
use stellate_protocol::codec::{
    CodecError, DIRECT_MIN, Decoder, First, HEADER_LEN, Outbound, WireLimits, encode,
};
use stellate_protocol::frame::*;
use stellate_protocol::*;

pub fn lanes() -> impl Strategy<Value = Lane> {
    (0u8..8).prop_map(|index| Lane::from_index(index).unwrap())
}

pub fn seqs() -> impl Strategy<Value = Seq> {
    any::<u64>().prop_map(Seq)
}

pub fn ids() -> impl Strategy<Value = RequestId> {
    any::<u64>().prop_map(RequestId)
}

/// Mostly short, sometimes around the thresholds.
pub fn blobs(max: usize) -> impl Strategy<Value = Bytes> {
    prop_oneof![
        1 => Just(Bytes::new()),
        6 => vec(any::<u8>(), 0..200.min(max)).prop_map(Bytes::from),
        1 => (0..=max, any::<u8>()).prop_map(|(len, seed)| pattern(len, seed)),
    ]
}

/// Bytes that differ by place.
pub fn pattern(len: usize, seed: u8) -> Bytes {
    (0..len).map(|at| (at as u8).wrapping_mul(31).wrapping_add((at >> 8) as u8) ^ seed).collect()
}

pub fn kinds() -> impl Strategy<Value = EntityKind> {
    "[a-z0-9_-]{1,15}".prop_map(|name| EntityKind::new(&name).unwrap())
}

pub fn names() -> impl Strategy<Value = EntityName> {
    (kinds(), any::<Option<u64>>()).prop_map(|(kind, number)| match number {
        Some(number) => EntityName::new(kind, number),
        None => EntityName::anonymous(kind),
    })
}

pub fn identities() -> impl Strategy<Value = Identity> {
    let role = proptest::option::of("[a-z0-9_-]{1,15}".prop_map(|name| Role::new(&name).unwrap()));
    (names(), role, any::<u128>(), any::<Option<u64>>()).prop_map(
        |(name, role, instance, incarnation)| Identity {
            name,
            role,
            instance: Instance(instance),
            incarnation: incarnation.map(Incarnation),
        },
    )
}

pub fn lane_states() -> impl Strategy<Value = LaneState> {
    any::<(u64, u64, u64)>().prop_map(|(received, window, window_bytes)| LaneState {
        received: Seq(received),
        window: Seq(window),
        window_bytes,
    })
}

pub fn terms() -> impl Strategy<Value = Terms> {
    any::<(u32, u32, u32, Option<u32>, u32)>().prop_map(
        |(front_max, data_max, slot_bytes, slots, requests_max)| Terms {
            front_max,
            data_max,
            slot_bytes,
            slots,
            requests_max,
        },
    )
}

pub fn features() -> impl Strategy<Value = Feature> {
    (any::<u16>(), any::<bool>(), blobs(FEATURE_DATA_MAX))
        .prop_map(|(id, required, data)| Feature { id, required, data })
}

pub fn openings() -> impl Strategy<Value = Opening> {
    (
        terms(),
        proptest::array::uniform8(lane_states()),
        any::<bool>(),
        vec(features(), 0..4),
        blobs(METADATA_MAX),
        blobs(AUTH_MAX),
    )
        .prop_map(|(terms, lanes, held, features, metadata, auth)| Opening {
            terms,
            lanes,
            held,
            features,
            metadata,
            auth,
        })
}

pub fn hellos() -> impl Strategy<Value = Hello> {
    let stance = prop_oneof![Just(Stance::Client), Just(Stance::Server), Just(Stance::Peer)];
    let policy = (any::<bool>(), stance).prop_map(|(lossy, stance)| PolicyOffer { lossy, stance });
    let flags = any::<(bool, bool)>();
    let ids = any::<(u128, u64)>();
    (identities(), names(), ids, flags, policy, openings()).prop_map(
        |(from, target, (session, attempt), (established, insist), policy, opening)| Hello {
            from,
            target,
            session: SessionId(session),
            attempt: Attempt(attempt),
            established,
            insist,
            policy,
            opening,
        },
    )
}

pub fn texts() -> impl Strategy<Value = String> {
    "\\PC{0,64}"
}

pub fn verdicts() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        (any::<bool>(), openings())
            .prop_map(|(lossy, opening)| Verdict::Accepted { lossy, opening }),
        Just(Verdict::Lost),
        Just(Verdict::NoSession),
        (proptest::sample::select(&RefuseReason::ALL[..]), texts())
            .prop_map(|(reason, text)| Verdict::Refused { reason, text }),
    ]
}

pub fn answers() -> impl Strategy<Value = Answer> {
    let ids = any::<(u128, u64, u64)>();
    (identities(), ids, any::<bool>(), verdicts()).prop_map(
        |(from, (session, attempt, latest), resume, verdict)| Answer {
            from,
            session: SessionId(session),
            attempt: Attempt(attempt),
            latest: Attempt(latest),
            resume,
            verdict,
        },
    )
}

pub fn undeliverables() -> impl Strategy<Value = UndeliverableReason> {
    (1u8..=4).prop_map(|number| UndeliverableReason::from_wire(number).unwrap())
}

pub fn outcomes() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        Just(Outcome::Reply),
        Just(Outcome::Handled),
        Just(Outcome::NoReply),
        Just(Outcome::HandlerPanicked),
        Just(Outcome::Expired),
        undeliverables().prop_map(Outcome::Undeliverable),
    ]
}

pub fn calls() -> impl Strategy<Value = Call> {
    prop_oneof![
        Just(Call::OneWay),
        ids().prop_map(|id| Call::Notify { id }),
        (ids(), any::<Option<u32>>()).prop_map(|(id, ttl_ms)| Call::Request { id, ttl_ms }),
        (ids(), outcomes()).prop_map(|(id, outcome)| Call::Reply { id, outcome }),
        (seqs(), undeliverables()).prop_map(|(seq, reason)| Call::Rejected { seq, reason }),
    ]
}

pub fn messages() -> impl Strategy<Value = Message<Parcel>> {
    let numbers = any::<(u32, u16, u16)>();
    (lanes(), seqs(), calls(), numbers, blobs(40_000), blobs(70_000)).prop_map(
        |(lane, seq, call, (kind, version, compat), front, data)| Message {
            lane,
            seq,
            call,
            payload: Parcel::new(kind, version, compat, front, data),
        },
    )
}

pub fn announces() -> impl Strategy<Value = Message<Parcel>> {
    (messages(), 1u32..=64 << 20).prop_map(|(mut message, data_len)| {
        let Parcel { kind, version, compat, .. } = message.payload;
        let front = message.payload.front_bytes();
        message.payload = Parcel::announcing(kind, version, compat, front, data_len);
        message
    })
}

/// Every kind but chunks, which only mean something after a pull.
pub fn frames() -> impl Strategy<Value = Frame<Parcel>> {
    let acks = proptest::array::uniform8(proptest::option::of(lane_states()));
    let closes = (1u8..=6, any::<[u64; 8]>(), texts()).prop_map(|(reason, delivered, text)| {
        Frame::Close(Box::new(Close {
            reason: CloseReason::from_wire(reason).unwrap(),
            delivered,
            text,
        }))
    });
    prop_oneof![
        2 => hellos().prop_map(|hello| Frame::Hello(Box::new(hello))),
        2 => answers().prop_map(|answer| Frame::Answer(Box::new(answer))),
        6 => messages().prop_map(Frame::Message),
        2 => announces().prop_map(Frame::Announce),
        1 => (lanes(), seqs()).prop_map(|(lane, seq)| Frame::Pull(Pull { lane, seq })),
        2 => acks.prop_map(|lanes| Frame::Ack(Box::new(Ack { lanes }))),
        1 => any::<u32>().prop_map(|slots| Frame::Grant(Grant { slots })),
        1 => any::<(u32, u32)>().prop_map(|(ask, answer)| Frame::Heartbeat(Heartbeat { ask, answer })),
        1 => Just(Frame::Admitted),
        1 => closes,
    ]
}

/// Limits under which every arbitrary frame passes.
pub fn wide() -> WireLimits {
    WireLimits { slot_bytes: 128 * 1024, ..WireLimits::default() }
}

/// The bytes of frames as one write would send them.
pub fn bytes_of(frames: &[Frame<Parcel>]) -> Vec<u8> {
    let mut out = Outbound::new();
    for frame in frames {
        encode(frame, &mut out).unwrap();
    }
    drain(&mut out)
}

/// Takes everything out of `out`, by whole vectors.
pub fn drain(out: &mut Outbound) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !out.is_empty() {
        let mut slices = [std::io::IoSlice::new(&[]); 8];
        let filled = out.io_slices(&mut slices);
        assert!(filled > 0, "an outbound with bytes has slices");
        let before = bytes.len();
        slices[..filled].iter().for_each(|slice| bytes.extend_from_slice(slice));
        out.advance(bytes.len() - before);
    }
    bytes
}

/// Feeds `bytes` in pieces of the given sizes, over and over, as a transport would: into the
/// direct buffer when one is offered.
pub fn feed(
    decoder: &mut Decoder,
    bytes: &[u8],
    sizes: &[usize],
) -> Result<Vec<Frame<Parcel>>, CodecError> {
    let mut rest = bytes;
    let mut input = BytesMut::new();
    let mut frames = Vec::new();
    let mut sizes = sizes.iter().cycle();
    loop {
        while let Some(frame) = decoder.decode(&mut input)? {
            frames.push(frame);
        }
        if rest.is_empty() {
            return Ok(frames);
        }
        let size = (*sizes.next().unwrap()).clamp(1, rest.len());
        match decoder.direct() {
            Some(mut direct) => {
                use bytes::BufMut;
                assert!(input.is_empty(), "direct reads do not overtake the input");
                assert!(direct.remaining_mut() >= DIRECT_MIN);
                let size = size.min(direct.remaining_mut());
                direct.put_slice(&rest[..size]);
                rest.advance(size);
            }
            None => {
                input.extend_from_slice(&rest[..size]);
                rest.advance(size);
            }
        }
    }
}

pub fn anything() -> Decoder {
    Decoder::new(wide(), First::Anything)
}

/// Chunk frames that carry all of `data` in pieces of `piece` bytes, as a sender builds them.
pub fn chunks(lane: Lane, seq: Seq, data: &Bytes, piece: usize) -> Vec<Frame<Parcel>> {
    (0..data.len())
        .step_by(piece)
        .map(|offset| {
            Frame::Chunk(Chunk {
                lane,
                seq,
                offset: offset as u32,
                len: piece.min(data.len() - offset) as u32,
                part: Some(Parcel::of_data(data.clone())),
            })
        })
        .collect()
}

/// Puts the checksum of a header right again after a test changed it.
pub fn reseal(frame: &mut [u8]) {
    frame[HEADER_LEN - 4..HEADER_LEN].fill(0);
    let crc = crc32c::crc32c(&frame[..HEADER_LEN]);
    frame[HEADER_LEN - 4..HEADER_LEN].copy_from_slice(&crc.to_le_bytes());
}
