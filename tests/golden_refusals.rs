//! What the front codec refuses, with what words, and what the message layer promises around it.

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use stellate::message::{
    Body, DEPTH_MAX, FrontError, FrontErrorKind, Message, MessageType, Outgoing, Stamp,
    decode_front, encode_front,
};
use stellate_protocol::Class;

fn refusal<B: Body>(front: &[u8]) -> FrontError {
    match decode_front::<B>(front) {
        Ok(_) => panic!("{front:x?} was read"),
        Err(error) => error,
    }
}

fn encoded<B: Body>(body: &B) -> Vec<u8> {
    let mut front = BytesMut::new();
    encode_front(body, &mut front, 1 << 24).expect("encodes");
    front.to_vec()
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Write {
    oid: u64,
    name: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Written {
    version: u64,
}

impl Message for Write {
    const TYPE: MessageType = MessageType::new(0x0101);
    const VERSION: u16 = 3;
    const COMPAT: u16 = 2;
    type Reply = Written;
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Note;

impl Message for Note {
    const TYPE: MessageType = MessageType::new(0x0102);
    type Reply = ();
}

#[test]
fn lengths_are_refused_before_anything_is_allocated() {
    // 4 Gi elements, bytes or entries promised, none there: these would be gigabytes.
    for front in [[0xdd, 0xff, 0xff, 0xff, 0xff], [0xc6, 0xff, 0xff, 0xff, 0xff]] {
        assert_eq!(refusal::<Vec<u64>>(&front).kind, FrontErrorKind::Truncated);
    }
    let text = [0xdb, 0xff, 0xff, 0xff, 0xff, b'a'];
    assert_eq!(refusal::<String>(&text).kind, FrontErrorKind::Truncated);
    let map = [0xdf, 0xff, 0xff, 0xff, 0xff, 0x00, 0x00];
    assert_eq!(refusal::<BTreeMap<u8, u8>>(&map).kind, FrontErrorKind::Truncated);
    // Also in what is only passed over.
    let skipped = [0x93, 0x01, 0xa0, 0xdd, 0xff, 0xff, 0xff, 0xff];
    assert_eq!(refusal::<Write>(&skipped).kind, FrontErrorKind::Truncated);
}

/// Gives away, as an error, how many elements it was told to expect.
#[derive(Serialize)]
struct Hinted;

impl<'de> Deserialize<'de> for Hinted {
    fn deserialize<D: serde::Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Hinted;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a sequence")
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, seq: A) -> Result<Hinted, A::Error> {
                Err(serde::de::Error::custom(format_args!("{:?}", seq.size_hint())))
            }
        }
        reader.deserialize_seq(Visitor)
    }
}

#[test]
fn types_are_never_told_a_length_that_is_not_there() {
    // Refused before the type is even asked.
    let promised = [0xdd, 0x00, 0x00, 0x10, 0x00, 0x00];
    assert_eq!(refusal::<Hinted>(&promised).kind, FrontErrorKind::Truncated);
    let short = encoded(&vec![0_u8; 100]);
    assert_eq!(refusal::<Hinted>(&short).kind, FrontErrorKind::Mismatch("Some(100)".into()));
    // There, but an element may be large in memory: room is made as elements come.
    let long = encoded(&vec![0_u8; 1_000_000]);
    assert_eq!(refusal::<Hinted>(&long).kind, FrontErrorKind::Mismatch("Some(4096)".into()));
}

#[test]
fn errors_say_what_and_where() {
    let error = refusal::<Write>(&[0x92, 0x01, 0xa2, 0xff, 0xfe]);
    assert_eq!(error, FrontError { kind: FrontErrorKind::Utf8, offset: 2 });
    let error = refusal::<Write>(&[0x92, 0x01, 0xc1]);
    assert_eq!(error, FrontError { kind: FrontErrorKind::Unsupported(0xc1), offset: 2 });
    assert_eq!(error.to_string(), "byte 0xc1 begins no value, at byte 2 of the front");
    let error = refusal::<Write>(&[0x92, 0xc3, 0xa0]);
    assert_eq!(
        error.to_string(),
        "invalid type: boolean `true`, expected u64, at byte 1 of the front"
    );
    let error = refusal::<Write>(&[0x91, 0x01]);
    assert!(matches!(error.kind, FrontErrorKind::Length(_)), "{error}");
    let error = refusal::<u8>(&[0xcd, 0x01, 0x00]);
    assert!(error.to_string().contains("256"), "{error}");
    assert_eq!(refusal::<Write>(&[]), FrontError { kind: FrontErrorKind::Truncated, offset: 0 });
}

#[test]
fn texts_of_errors_are_bounded() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Choice {
        One,
    }
    let error = refusal::<Choice>(&encoded(&"é".repeat(100_000)));
    let FrontErrorKind::UnknownVariant(name) = &error.kind else { panic!("{error}") };
    assert!(name.len() < 300 && name.ends_with('…'), "{name}");
}

#[test]
fn fixed_shapes_stay_exact() {
    // Only structs and variants grow; a longer tuple, array or map is a mistake.
    assert!(matches!(refusal::<(u8, u8)>(&[0x93, 1, 2, 3]).kind, FrontErrorKind::Length(_)));
    assert!(matches!(refusal::<[u8; 2]>(&[0x93, 1, 2, 3]).kind, FrontErrorKind::Length(_)));
    assert!(matches!(refusal::<[u8; 2]>(&[0xc4, 3, 1, 2, 3]).kind, FrontErrorKind::Length(_)));
    assert!(matches!(refusal::<(u8, u8)>(&[0x91, 1]).kind, FrontErrorKind::Length(_)));
    assert_eq!(decode_front::<Vec<u8>>(&[0xc4, 3, 1, 2, 255]), Ok(vec![1, 2, 255]));
}

#[derive(Debug, Serialize, Deserialize)]
enum Tree {
    Leaf,
    One(Box<Tree>),
    Many(Vec<Tree>),
    Named { below: Option<Box<Tree>> },
}

/// Reads nothing before it asks for itself again.
#[derive(Debug, Serialize, Deserialize)]
struct Endless(Option<Box<Endless>>);

#[test]
fn a_hostile_front_cannot_overflow_the_stack() {
    let one: Vec<u8> = b"\x81\xa3One".repeat(1_000_000);
    let many: Vec<u8> = b"\x81\xa4Many\x91".repeat(1_000_000);
    let named: Vec<u8> = b"\x81\xa5Named\x91".repeat(1_000_000);
    for front in [one, many, named] {
        assert_eq!(refusal::<Tree>(&front).kind, FrontErrorKind::TooDeep);
    }
    assert_eq!(refusal::<Endless>(&[0x01]).kind, FrontErrorKind::TooDeep);
    // What is passed over has no depth, since it is passed over without recursion.
    let mut surplus = vec![0x93, 0x01, 0xa0];
    surplus.resize(1_000_000, 0x91);
    surplus.push(0xc0);
    assert_eq!(decode_front(&surplus), Ok(Write { oid: 1, name: String::new() }));
}

#[test]
fn nesting_is_read_up_to_the_limit_and_levels_are_given_back() {
    let nested = |levels: u8| {
        let mut front = vec![0x91; usize::from(levels)];
        front.push(0xc0);
        front
    };
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Nest(Vec<Nest>);
    // Each level is a newtype and an array.
    let deepest = usize::from(DEPTH_MAX / 2);
    let mut front = vec![0x91; deepest - 1];
    front.push(0x90);
    assert!(decode_front::<Nest>(&front).is_ok());
    front.insert(0, 0x91);
    assert_eq!(refusal::<Nest>(&front).kind, FrontErrorKind::TooDeep);
    assert!(decode_front::<Vec<Vec<()>>>(&nested(2)).is_ok());
    // Many siblings are not depth.
    let wide: Vec<Vec<Option<Write>>> = (0..1000).map(|_| vec![None]).collect();
    assert_eq!(decode_front(&encoded(&wide)), Ok(wide));
}

mod choices {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub(crate) enum Old {
        Read,
        #[serde(other)]
        Unknown,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub(crate) enum Strict {
        Read,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub(crate) enum New {
        Read,
        Trim,
        Zero(u64, u64),
        Clone { from: u64, to: Vec<u64> },
    }
}

#[test]
fn an_old_reader_sees_a_new_variant_as_other_or_as_an_error() {
    use choices::{New, Old, Strict};
    let new = vec![New::Read, New::Trim, New::Zero(1, 2), New::Clone { from: 1, to: vec![2] }];
    let front = encoded(&new);
    let old: Vec<Old> = decode_front(&front).expect("other takes them");
    assert_eq!(old, [Old::Read, Old::Unknown, Old::Unknown, Old::Unknown]);
    let error = refusal::<Vec<Strict>>(&front);
    assert_eq!(error.kind, FrontErrorKind::UnknownVariant("Trim".into()));
    assert_eq!(error.to_string(), "unknown variant `Trim`, at byte 6 of the front");
}

#[test]
fn what_no_reader_could_read_is_not_written() {
    #[derive(Serialize, Deserialize)]
    struct Skips {
        first: u8,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        second: Option<u8>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        third: Option<u8>,
    }
    let write = |second, third| {
        let mut out = BytesMut::new();
        let body = vec![Skips { first: 1, second, third }];
        encode_front(&body, &mut out, 64).map(|_| out.to_vec())
    };
    // At the end it is just an old sender's array.
    assert_eq!(write(None, None), Ok(vec![0x91, 0x91, 1]));
    assert_eq!(write(Some(2), None), Ok(vec![0x91, 0x92, 1, 2]));
    let error = write(None, Some(3)).expect_err("3 would be read as second");
    assert!(error.to_string().contains("`second` was left out before `third`"), "{error}");

    let mut tree = Tree::Leaf;
    for _ in 1..DEPTH_MAX {
        tree = Tree::One(Box::new(tree));
    }
    assert!(decode_front::<Tree>(&encoded(&tree)).is_ok());
    let error = encode_front(&Tree::One(Box::new(tree)), &mut BytesMut::new(), 1 << 20);
    assert!(error.expect_err("too deep").to_string().contains("nested too deep"));
}

#[test]
fn a_front_over_the_limit_leaves_the_buffer_as_it_was() {
    let body = vec!["x".repeat(100); 10];
    let length = encoded(&body).len();
    for capacity in [0, 50, 4096] {
        let mut out = BytesMut::with_capacity(capacity);
        out.extend_from_slice(b"header");
        let error = encode_front(&body, &mut out, length - 1).expect_err("too long");
        assert_eq!(error.kind, FrontErrorKind::TooLong(length - 1));
        assert_eq!(&out[..], b"header");
        assert_eq!(encode_front(&body, &mut out, length), Ok(length));
        assert_eq!(out.len(), length + 6);
    }
}

#[test]
fn encoding_appends_without_allocating_when_there_is_room() {
    let body = Write { oid: 1, name: "n".into() };
    let mut out = BytesMut::with_capacity(64);
    let before = out.as_ptr();
    while out.capacity() - out.len() >= 8 {
        encode_front(&body, &mut out, 8).expect("fits");
    }
    assert_eq!(out.as_ptr(), before);
}

#[test]
fn a_reader_takes_what_declares_itself_readable() {
    let stamp = Stamp::of::<Write>();
    assert_eq!((stamp.message_type.get(), stamp.version, stamp.compat), (0x0101, 3, 2));
    assert_eq!(stamp.check::<Write>(), Ok(()));
    assert_eq!(Stamp { version: 9, compat: 3, ..stamp }.check::<Write>(), Ok(()));
    let error = Stamp { version: 9, compat: 4, ..stamp }.check::<Write>().expect_err("too new");
    assert_eq!((error.reader_version, error.sender_compat), (3, 4));
    assert_eq!(
        error.to_string(),
        "message type 0x0101, version 9, can be read from version 4 on; this side knows version 3"
    );
}

/// Stands for `send`: takes whatever becomes an [`Outgoing`].
fn send<M: Message>(message: impl Into<Outgoing<M>>) -> Outgoing<M> {
    message.into()
}

/// Stands for `reply`: the type is known from the request.
fn reply<M: Message>(answer: impl Into<Outgoing<M::Reply>>) -> Outgoing<M::Reply> {
    answer.into()
}

#[test]
fn bodies_and_dressed_bodies_are_both_sent() {
    let write = || Write { oid: 1, name: String::new() };
    assert_eq!(send(write()), Outgoing::new(write()));
    let sent = send(write().with("data").class(Class::Bulk));
    assert_eq!((sent.data, sent.class), (Bytes::from("data"), Class::Bulk));
    let sent = send(write().class(Class::Control).with(vec![1, 2]));
    assert_eq!((sent.data.len(), sent.class), (2, Class::Control));
    assert_eq!(reply::<Write>(Written { version: 1 }.with("old")).data, "old");
    assert_eq!(reply::<Note>(()).body, ());
}
