//! The bytes of every kind of frame as released: they never change within a wire version.
//!
//! `golden_frames/NAME.hex` holds a frame, 16 bytes a line. After a change of the wire version
//! `STELLATE_BLESS=1 cargo test -p stellate-protocol --test codec_golden` writes them anew.
#![allow(missing_docs, clippy::unwrap_used)] // a test may panic

mod codec_support;

use std::fmt::Write as _;
use std::path::PathBuf;

use bytes::Bytes;
use codec_support::*;
use stellate_protocol::frame::*;
use stellate_protocol::*;

const LANE: Lane = Lane::messages(Class::High);

fn opening() -> Opening {
    let lane =
        |n: u64| LaneState { received: Seq(n), window: Seq(n + 1024), window_bytes: n + (4 << 20) };
    Opening {
        terms: Terms {
            front_max: 65_536,
            data_max: 64 << 20,
            slot_bytes: 8192,
            slots: Some(62),
            requests_max: 4096,
        },
        lanes: [0, 1, 2, 3, 4, 5, 6, 7].map(lane),
        held: true,
        features: vec![
            Feature { id: 1, required: true, data: Bytes::from_static(b"x") },
            Feature { id: 0x0203, required: false, data: Bytes::new() },
        ],
        metadata: Bytes::from_static(b"epoch 7"),
        auth: Bytes::from_static(b"none"),
    }
}

fn identity() -> Identity {
    Identity {
        name: EntityName::osd(3),
        role: Some(Role::new("cluster").unwrap()),
        instance: Instance(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10),
        incarnation: Some(Incarnation(9)),
    }
}

fn hello(established: bool) -> Frame<Parcel> {
    Frame::Hello(Box::new(Hello {
        from: identity(),
        target: EntityName::anonymous(EntityKind::MON),
        session: SessionId(0x1112_1314_1516_1718_191a_1b1c_1d1e_1f20),
        attempt: Attempt(2),
        established,
        insist: established,
        policy: PolicyOffer { lossy: false, stance: Stance::Peer },
        opening: opening(),
    }))
}

fn answer(resume: bool, verdict: Verdict) -> Frame<Parcel> {
    Frame::Answer(Box::new(Answer {
        from: identity(),
        session: SessionId(0x21),
        attempt: Attempt(2),
        latest: Attempt(3),
        resume,
        verdict,
    }))
}

fn accepted() -> Verdict {
    Verdict::Accepted { lossy: false, opening: opening() }
}

fn message(call: Call, front: &'static [u8], data: &'static [u8]) -> Message<Parcel> {
    Message {
        lane: LANE,
        seq: Seq(0x0807_0605_0403_0201),
        call,
        payload: Parcel::new(0x101, 3, 2, Bytes::from_static(front), Bytes::from_static(data)),
    }
}

fn announced() -> Frame<Parcel> {
    let mut message = message(Call::OneWay, b"front", b"");
    message.payload = Parcel::announcing(0x101, 3, 2, Bytes::from_static(b"front"), 1 << 20);
    Frame::Announce(message)
}

fn ack() -> Frame<Parcel> {
    let mut ack = Ack::default();
    ack.lanes[2] = Some(opening().lanes[2]);
    ack.lanes[7] = Some(opening().lanes[7]);
    Frame::Ack(ack.into())
}

fn samples() -> Vec<(&'static str, Frame<Parcel>)> {
    let id = RequestId(0x33);
    let request = Call::Request { id, ttl_ms: Some(30_000) };
    let reply = |outcome| Call::Reply { id, outcome };
    let panicked = reply(Outcome::HandlerPanicked);
    let too_new = reply(Outcome::Undeliverable(UndeliverableReason::TooNew));
    let rejected = Call::Rejected { seq: Seq(5), reason: UndeliverableReason::UnknownType };
    let refused =
        Verdict::Refused { reason: RefuseReason::WrongEntity, text: "this is osd.4".into() };
    let close = Close {
        reason: CloseReason::Superseded,
        delivered: [1, 2, 3, 4, 5, 6, 7, 8],
        text: "epoch 8 is here".into(),
    };
    let whole = Bytes::from_static(b"0123456789");
    vec![
        ("hello", hello(false)),
        ("resume", hello(true)),
        ("hello_answer", answer(false, accepted())),
        ("resume_answer", answer(true, accepted())),
        ("lost", answer(true, Verdict::Lost)),
        ("no_session", answer(true, Verdict::NoSession)),
        ("refused", answer(false, refused)),
        ("one_way", Frame::Message(message(Call::OneWay, b"front", b"data"))),
        ("notify", Frame::Message(message(Call::Notify { id }, b"", b"data"))),
        ("request", Frame::Message(message(request, b"front", b""))),
        ("reply", Frame::Message(message(reply(Outcome::Reply), b"front", b"data"))),
        ("reply_panicked", Frame::Message(message(panicked, b"", b""))),
        ("reply_too_new", Frame::Message(message(too_new, b"", b""))),
        ("rejected", Frame::Message(message(rejected, b"", b""))),
        ("announce", announced()),
        ("pull", Frame::Pull(Pull { lane: LANE, seq: Seq(6) })),
        ("chunk", chunks(LANE, Seq(6), &whole, 10).remove(0)),
        ("ack", ack()),
        ("grant", Frame::Grant(Grant { slots: 31 })),
        ("heartbeat", Frame::Heartbeat(Heartbeat { ask: 7, answer: 3 })),
        ("admitted", Frame::Admitted),
        ("close", Frame::Close(Box::new(close))),
    ]
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for line in bytes.chunks(16) {
        for (at, byte) in line.iter().enumerate() {
            let space = if at == 0 { "" } else { " " };
            write!(text, "{space}{byte:02x}").unwrap();
        }
        text.push('\n');
    }
    text
}

fn unhex(text: &str) -> Vec<u8> {
    text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

fn path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/golden_frames", name]
        .iter()
        .collect::<PathBuf>()
        .with_extension("hex")
}

#[test]
fn every_kind_has_its_released_bytes() {
    let bless = std::env::var_os("STELLATE_BLESS").is_some();
    for (name, frame) in samples() {
        let bytes = bytes_of(std::slice::from_ref(&frame));
        if bless {
            std::fs::write(path(name), hex(&bytes)).unwrap();
        }
        let golden = std::fs::read_to_string(path(name)).unwrap();
        assert_eq!(hex(&bytes), golden, "{name} is sent as released");
        let mut decoder = anything();
        decoder.expect(LANE, Seq(6), 10).unwrap();
        let got = feed(&mut decoder, &unhex(&golden), &[usize::MAX]).unwrap();
        assert_eq!(got, [frame], "{name} is read as released");
    }
}

#[test]
fn no_kind_is_left_out() {
    let samples = samples();
    for kind in FrameKind::ALL {
        assert!(samples.iter().any(|(_, frame)| frame.kind() == kind), "{kind:?}");
    }
}
