//! Golden vectors: what every released version of a type looked like on the wire, for ever.
//!
//! A file in `golden/` is never changed once a version of the crate is out; a change of the
//! format shows as a failure here. To add one, write the test, run it, and take the bytes from
//! its message.

use bytes::BytesMut;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use stellate::message::{Body, decode_front, encode_front};

/// As released first.
mod v1 {
    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub(crate) struct Extent {
        pub(crate) offset: u64,
        pub(crate) length: u32,
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub(crate) enum Op {
        Sync,
        Write { extent: Extent },
        Copy(u64, i32),
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub(crate) struct Transaction {
        pub(crate) oid: u64,
        pub(crate) name: String,
        pub(crate) ops: Vec<Op>,
        pub(crate) base: Option<Extent>,
        pub(crate) clones: BTreeMap<u16, Extent>,
    }

    pub(crate) fn sample() -> Transaction {
        let extent = Extent { offset: 0x0102_0304_0506, length: 4096 };
        Transaction {
            oid: 7,
            name: "rbd_data.1".into(),
            ops: vec![Op::Sync, Op::Write { extent: extent.clone() }, Op::Copy(9, -70_000)],
            base: Some(Extent { offset: 0, length: 1 }),
            clones: BTreeMap::from([(3, extent)]),
        }
    }
}

/// Appended to at every level: struct, nested struct, struct variant, tuple variant, unit
/// variant, and one variant more.
mod v2 {
    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub(crate) struct Extent {
        pub(crate) offset: u64,
        pub(crate) length: u32,
        #[serde(default)]
        pub(crate) checksum: Option<u32>,
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub(crate) enum Op {
        Sync {
            #[serde(default)]
            deep: bool,
        },
        Write {
            extent: Extent,
            #[serde(default)]
            hints: Vec<String>,
        },
        Copy(u64, i32, #[serde(default)] u8),
        Zero(Extent),
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub(crate) struct Transaction {
        pub(crate) oid: u64,
        pub(crate) name: String,
        pub(crate) ops: Vec<Op>,
        pub(crate) base: Option<Extent>,
        pub(crate) clones: BTreeMap<u16, Extent>,
        #[serde(default = "normal")]
        pub(crate) priority: u8,
        #[serde(default)]
        pub(crate) parent: Option<Box<Extent>>,
    }

    fn normal() -> u8 {
        63
    }

    pub(crate) fn sample() -> Transaction {
        let extent = Extent { offset: 0x0102_0304_0506, length: 4096, checksum: Some(0xdead_beef) };
        Transaction {
            oid: 7,
            name: "rbd_data.1".into(),
            ops: vec![
                Op::Sync { deep: true },
                Op::Write { extent: extent.clone(), hints: vec!["sequential".into()] },
                Op::Copy(9, -70_000, 200),
            ],
            base: Some(Extent { offset: 0, length: 1, checksum: Some(2) }),
            clones: BTreeMap::from([(3, extent.clone())]),
            priority: 255,
            parent: Some(Box::new(extent)),
        }
    }

    /// What `v1::sample()` reads as here.
    pub(crate) fn sample_of_v1() -> Transaction {
        let extent = Extent { offset: 0x0102_0304_0506, length: 4096, checksum: None };
        Transaction {
            oid: 7,
            name: "rbd_data.1".into(),
            ops: vec![
                Op::Sync { deep: false },
                Op::Write { extent: extent.clone(), hints: vec![] },
                Op::Copy(9, -70_000, 0),
            ],
            base: Some(Extent { offset: 0, length: 1, checksum: None }),
            clones: BTreeMap::from([(3, extent)]),
            priority: 63,
            parent: None,
        }
    }
}

const TRANSACTION_V1: &str = include_str!("golden/transaction_v1.hex");
const TRANSACTION_V2: &str = include_str!("golden/transaction_v2.hex");
const SCALARS_V1: &str = include_str!("golden/scalars_v1.hex");

/// Hex digits to bytes; blanks and lines that begin with `#` are for people.
fn bytes_of(hex: &str) -> Vec<u8> {
    let lines = hex.lines().filter(|line| !line.starts_with('#'));
    let digits: Vec<u32> =
        lines.flat_map(str::chars).filter_map(|character| character.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

fn encoded<B: Body>(body: &B) -> Vec<u8> {
    let mut front = BytesMut::new();
    encode_front(body, &mut front, 1 << 20).expect("encodes");
    front.to_vec()
}

fn assert_writes<B: Body>(body: &B, golden: &str) {
    let hex: String = encoded(body).iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(encoded(body) == bytes_of(golden), "golden:\n{golden}\nnow writes\n{hex}");
}

#[test]
fn versions_are_written_as_released() {
    assert_writes(&v1::sample(), TRANSACTION_V1);
    assert_writes(&v2::sample(), TRANSACTION_V2);
}

#[test]
fn versions_read_themselves() {
    assert_eq!(decode_front(&bytes_of(TRANSACTION_V1)), Ok(v1::sample()));
    assert_eq!(decode_front(&bytes_of(TRANSACTION_V2)), Ok(v2::sample()));
}

#[test]
fn a_new_reader_fills_in_defaults_for_an_old_sender() {
    assert_eq!(decode_front(&bytes_of(TRANSACTION_V1)), Ok(v2::sample_of_v1()));
}

#[test]
fn an_old_reader_passes_over_what_a_new_sender_appended() {
    assert_eq!(decode_front(&bytes_of(TRANSACTION_V2)), Ok(v1::sample()));
    // The reason for our own reader, held here so that nobody takes it out:
    assert!(rmp_serde::from_slice::<v1::Transaction>(&bytes_of(TRANSACTION_V2)).is_err());
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Newtype(u16);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Scalars {
    unsigned: Vec<u64>,
    signed: Vec<i64>,
    wide: (u128, i128),
    floats: (f32, f64),
    flags: [bool; 2],
    letter: char,
    texts: Vec<String>,
    nothing: ((), Unit, Option<u8>),
    newtype: Newtype,
    tuple: (u8, Newtype, [i8; 3]),
}

#[test]
fn every_kind_of_value_is_written_and_read_as_released() {
    let scalars = Scalars {
        unsigned: vec![0, 127, 128, 255, 256, 65_535, 65_536, u64::from(u32::MAX), u64::MAX],
        signed: vec![0, -1, -32, -33, -128, -129, -32_768, -32_769, i64::MIN, i64::MAX],
        wide: (u128::MAX - 1, i128::MIN + 1),
        floats: (1.5, -0.1),
        flags: [true, false],
        letter: '🦑',
        texts: vec![String::new(), "a".repeat(31), "b".repeat(32), "c".repeat(256)],
        nothing: ((), Unit, None),
        newtype: Newtype(300),
        tuple: (1, Newtype(2), [-3, 4, 127]),
    };
    assert_writes(&scalars, SCALARS_V1);
    assert_eq!(decode_front(&bytes_of(SCALARS_V1)), Ok(scalars));
}
