//! Properties of the front codec: any two versions of a type read each other, arbitrary values
//! come back, and arbitrary bytes never panic.

use bytes::BytesMut;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use stellate::message::{Body, FrontError, FrontErrorKind, decode_front, encode_front};

/// Three versions of one type, each with what its reader sees of the newest.
macro_rules! version {
    ($module:ident: $($item:item)*) => {
        mod $module {
            use super::*;
            $(#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)] $item)*
        }
    };
}

version! { v1:
    pub(crate) struct Inner { pub(crate) id: u64 }
    pub(crate) struct Pair(pub(crate) i32, pub(crate) String);
    pub(crate) struct Marker;
    pub(crate) enum Choice { Plain, Named { id: u64 }, Listed(u8, Inner), One(Inner) }
    pub(crate) struct Outer {
        pub(crate) inner: Inner,
        pub(crate) list: Vec<Inner>,
        pub(crate) maybe: Option<Inner>,
        pub(crate) pairs: BTreeMap<String, Pair>,
        pub(crate) choices: Vec<Option<Choice>>,
        pub(crate) marker: Marker,
        pub(crate) nested: Vec<Vec<(u8, Inner)>>,
    }
}

version! { v2:
    pub(crate) struct Inner { pub(crate) id: u64, #[serde(default)] pub(crate) tags: Vec<u32> }
    pub(crate) struct Pair(pub(crate) i32, pub(crate) String, #[serde(default)] pub(crate) u8);
    pub(crate) struct Marker { #[serde(default)] pub(crate) seen: bool }
    pub(crate) enum Choice {
        Plain { #[serde(default)] why: String },
        Named { id: u64, #[serde(default)] more: Option<Inner> },
        Listed(u8, Inner, #[serde(default)] i64),
        One(Inner),
    }
    pub(crate) struct Outer {
        pub(crate) inner: Inner,
        pub(crate) list: Vec<Inner>,
        pub(crate) maybe: Option<Inner>,
        pub(crate) pairs: BTreeMap<String, Pair>,
        pub(crate) choices: Vec<Option<Choice>>,
        pub(crate) marker: Marker,
        pub(crate) nested: Vec<Vec<(u8, Inner)>>,
        #[serde(default)]
        pub(crate) epoch: u32,
    }
}

version! { v3:
    pub(crate) struct Inner {
        pub(crate) id: u64,
        #[serde(default)] pub(crate) tags: Vec<u32>,
        #[serde(default)] pub(crate) deep: BTreeMap<u8, Vec<Option<String>>>,
    }
    pub(crate) struct Pair(
        pub(crate) i32,
        pub(crate) String,
        #[serde(default)] pub(crate) u8,
        #[serde(default)] pub(crate) Option<Inner>,
    );
    pub(crate) struct Marker {
        #[serde(default)] pub(crate) seen: bool,
        #[serde(default)] pub(crate) by: Vec<Inner>,
    }
    pub(crate) enum Choice {
        Plain { #[serde(default)] why: String, #[serde(default)] when: u64 },
        Named { id: u64, #[serde(default)] more: Option<Inner>, #[serde(default)] last: f64 },
        Listed(u8, Inner, #[serde(default)] i64, #[serde(default)] Vec<Inner>),
        One(Inner),
    }
    pub(crate) struct Outer {
        pub(crate) inner: Inner,
        pub(crate) list: Vec<Inner>,
        pub(crate) maybe: Option<Inner>,
        pub(crate) pairs: BTreeMap<String, Pair>,
        pub(crate) choices: Vec<Option<Choice>>,
        pub(crate) marker: Marker,
        pub(crate) nested: Vec<Vec<(u8, Inner)>>,
        #[serde(default)]
        pub(crate) epoch: u32,
        #[serde(default)]
        pub(crate) snaps: Option<Vec<Choice>>,
    }
}

fn inner() -> impl Strategy<Value = v3::Inner> {
    let deep = btree_map(any::<u8>(), vec(proptest::option::of(".{0,3}"), 0..3), 0..3);
    (any::<u64>(), vec(any::<u32>(), 0..4), deep).prop_map(|(id, tags, deep)| v3::Inner {
        id,
        tags,
        deep,
    })
}

fn pair() -> impl Strategy<Value = v3::Pair> {
    (any::<i32>(), ".{0,40}", any::<u8>(), proptest::option::of(inner()))
        .prop_map(|(a, b, c, d)| v3::Pair(a, b, c, d))
}

fn choice() -> impl Strategy<Value = v3::Choice> {
    prop_oneof![
        (".{0,5}", any::<u64>()).prop_map(|(why, when)| v3::Choice::Plain { why, when }),
        (any::<u64>(), proptest::option::of(inner()), -1e9..1e9f64)
            .prop_map(|(id, more, last)| v3::Choice::Named { id, more, last }),
        (any::<u8>(), inner(), any::<i64>(), vec(inner(), 0..3))
            .prop_map(|(a, b, c, d)| v3::Choice::Listed(a, b, c, d)),
        inner().prop_map(v3::Choice::One),
    ]
}

fn outer() -> impl Strategy<Value = v3::Outer> {
    let old = (
        inner(),
        vec(inner(), 0..20),
        proptest::option::of(inner()),
        btree_map(".{0,4}", pair(), 0..4),
        vec(proptest::option::of(choice()), 0..6),
        (any::<bool>(), vec(inner(), 0..2)),
        vec(vec((any::<u8>(), inner()), 0..3), 0..3),
    );
    let new = (any::<u32>(), proptest::option::of(vec(choice(), 0..3)));
    (old, new).prop_map(|(old, (epoch, snaps))| {
        let (inner, list, maybe, pairs, choices, (seen, by), nested) = old;
        let marker = v3::Marker { seen, by };
        v3::Outer { inner, list, maybe, pairs, choices, marker, nested, epoch, snaps }
    })
}

/// Writes the newest version as the older ones, by hand: the oracle of the evolution tests.
macro_rules! downgrade {
    ($module:ident, $inner:expr, $pair:expr, $choice:expr, $marker:expr,
     |$outer:ident| { $($field:ident: $value:expr),* }) => {{
        let inner = $inner;
        let pair = $pair;
        let choice = $choice;
        let $outer: v3::Outer = $outer.clone();
        $module::Outer {
            inner: inner($outer.inner),
            list: $outer.list.into_iter().map(inner).collect(),
            maybe: $outer.maybe.map(inner),
            pairs: $outer.pairs.into_iter().map(|(key, value)| (key, pair(value))).collect(),
            choices: $outer.choices.into_iter().map(|c| c.map(choice)).collect(),
            marker: $marker,
            nested: $outer
                .nested
                .into_iter()
                .map(|row| row.into_iter().map(|(key, value)| (key, inner(value))).collect())
                .collect(),
            $($field: $value),*
        }
    }};
}

fn as_v1(outer: &v3::Outer) -> v1::Outer {
    let inner = |from: v3::Inner| v1::Inner { id: from.id };
    let choice = |from: v3::Choice| match from {
        v3::Choice::Plain { .. } => v1::Choice::Plain,
        v3::Choice::Named { id, .. } => v1::Choice::Named { id },
        v3::Choice::Listed(a, b, ..) => v1::Choice::Listed(a, inner(b)),
        v3::Choice::One(a) => v1::Choice::One(inner(a)),
    };
    let pair = |from: v3::Pair| v1::Pair(from.0, from.1);
    downgrade!(v1, inner, pair, choice, v1::Marker, |outer| {})
}

fn as_v2(outer: &v3::Outer) -> v2::Outer {
    let inner = |from: v3::Inner| v2::Inner { id: from.id, tags: from.tags };
    let choice = |from: v3::Choice| match from {
        v3::Choice::Plain { why, .. } => v2::Choice::Plain { why },
        v3::Choice::Named { id, more, .. } => v2::Choice::Named { id, more: more.map(inner) },
        v3::Choice::Listed(a, b, c, _) => v2::Choice::Listed(a, inner(b), c),
        v3::Choice::One(a) => v2::Choice::One(inner(a)),
    };
    let pair = |from: v3::Pair| v2::Pair(from.0, from.1, from.2);
    let marker = v2::Marker { seen: outer.marker.seen };
    downgrade!(v2, inner, pair, choice, marker, |outer| { epoch: outer.epoch })
}

fn encoded<B: Body>(body: &B) -> Vec<u8> {
    let mut front = BytesMut::new();
    encode_front(body, &mut front, 1 << 24).expect("encodes");
    front.to_vec()
}

/// `body`, written by its version and read by the version of the result.
fn reread<A: Body, B: Body>(body: &A) -> Result<B, FrontError> {
    decode_front(&encoded(body))
}

proptest! {
    #[test]
    fn any_two_versions_read_each_other(newest in outer()) {
        let (first, second) = (as_v1(&newest), as_v2(&newest));
        // Old readers see their own part of what new senders say.
        prop_assert_eq!(&reread::<_, v1::Outer>(&newest).expect("v3 to v1"), &first);
        prop_assert_eq!(&reread::<_, v2::Outer>(&newest).expect("v3 to v2"), &second);
        prop_assert_eq!(&reread::<_, v1::Outer>(&second).expect("v2 to v1"), &first);
        // New readers see it all, and defaults for the rest.
        let up: v3::Outer = reread(&first).expect("v1 to v3");
        prop_assert_eq!(&as_v1(&up), &first);
        prop_assert_eq!((up.epoch, &up.snaps, &up.inner.tags), (0, &None, &vec![]));
        let up: v2::Outer = reread(&first).expect("v1 to v2");
        prop_assert_eq!(&reread::<_, v1::Outer>(&up).expect("v2 to v1"), &first);
        let up: v3::Outer = reread(&second).expect("v2 to v3");
        prop_assert_eq!(&as_v2(&up), &second);
        prop_assert_eq!(up.snaps, None);
    }

    #[test]
    fn values_come_back_and_the_format_is_rmp_serdes(value in outer()) {
        prop_assert_eq!(&reread::<_, v3::Outer>(&value).expect("reads"), &value);
        prop_assert_eq!(&encoded(&value), &rmp_serde::to_vec(&value).expect("encodes"));
        // By name is understood too.
        let named = rmp_serde::to_vec_named(&value).expect("encodes");
        prop_assert_eq!(decode_front::<v3::Outer>(&named), Ok(value));
    }

    #[test]
    fn bytes_never_panic_and_are_read_as_rmp_serde_reads_them(front in vec(any::<u8>(), 0..64)) {
        let ours = decode_front::<v3::Outer>(&front);
        let theirs = rmp_serde::from_slice::<v3::Outer>(&front);
        if let (Ok(ours), Ok(theirs)) = (ours, theirs) {
            prop_assert_eq!(ours, theirs);
        }
        let _ = decode_front::<v3::Choice>(&front);
        let _ = decode_front::<Tree>(&front);
        let _ = decode_front::<Vec<Option<v3::Pair>>>(&front);
        let _ = decode_front::<(u128, i128, f32, char, ())>(&front);
    }

    #[test]
    fn damage_never_panics_and_cuts_are_always_noticed(
        value in outer(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut front = encoded(&value);
        let cut = at.index(front.len());
        let error = decode_front::<v3::Outer>(&front[..cut]).expect_err("a cut front");
        prop_assert_eq!(&error.kind, &FrontErrorKind::Truncated);
        prop_assert!(error.offset <= cut);
        front[cut] = byte;
        let _ = decode_front::<v3::Outer>(&front);
        let _ = decode_front::<v1::Outer>(&front);
    }

    #[test]
    fn trailing_bytes_are_refused(value in outer(), tail in vec(any::<u8>(), 1..5)) {
        let mut front = encoded(&value);
        let end = front.len();
        front.extend(tail);
        let error = decode_front::<v1::Outer>(&front).expect_err("a tail");
        prop_assert_eq!(error, FrontError { kind: FrontErrorKind::Trailing, offset: end });
    }
}

/// Nests without end, in every way a type can.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Tree {
    Leaf,
    One(Box<Tree>),
    Many(Vec<Tree>),
    Named { left: Option<Box<Tree>>, keyed: BTreeMap<u8, Tree> },
}
