//! Messages as users define them, and the codec that turns their typed part into a front and back.
//!
//! ```text
//!             header                     front                  data
//!   ┌──────────────────────────┬────────────────────────┬──────────────────┐
//!   │ type │ version │ compat  │ the body: MessagePack, │ raw Bytes, never │
//!   │ Stamp::of::<M>()         │ structs as arrays      │ through serde    │
//!   └──────────────────────────┴────────────────────────┴──────────────────┘
//!    Stamp::check::<M>()         encode_front, decode_front
//! ```
//!
//! A [`Message`] is a serde type with a number. A [`Body`] is any serde type: what a message or
//! a reply consists of. [`Outgoing`] is a body dressed with data and class.
//!
//! # What may change in a type that is in use
//!
//! Fronts are rmp-serde's arrays: a field is known by its position. Old and new versions of a type
//! read each other, at every level of nesting, as long as it only changes like this:
//!
//! | Change | Old reader, new sender | New reader, old sender |
//! | --- | --- | --- |
//! | append a field with `#[serde(default)]` to a struct, tuple struct, struct variant or tuple variant of two or more | passes over it | gets the default |
//! | give fields with defaults to a unit struct or unit variant, in braces | passes over them | gets the defaults |
//! | rename a field or a struct | sees no difference | sees no difference |
//! | append a variant to an enum | the message is `Undeliverable` with [`FrontErrorKind::UnknownVariant`]; or the enum's `#[serde(other)]` variant, if it has one, whatever the new one contains | sees no difference |
//! | reorder the variants of an enum | sees no difference | sees no difference |
//!
//! Each of these raises `VERSION` by one. Give an enum that may grow a `#[serde(other)]` variant
//! in its first version.
//!
//! What may not change, since the other side would misread it or fail:
//!
//! * reordering, removing or inserting fields; stop using a field instead, and keep its place;
//! * the type of a field. (A wider integer, or `Option<T>` for `T`, is read from old senders; an
//!   old reader fails on the values that it cannot hold.)
//! * the name of an enum's variant, which is what stands on the wire (`#[serde(alias)]` lets a
//!   new reader take both names, and changes nothing for old readers);
//! * the length of a tuple or fixed-size array, which are exact;
//! * a newtype struct or newtype variant into one with two fields: they are written as the bare
//!   inner value. Use braces for whatever may grow;
//! * a last field without a default after one that has it.
//!
//! If it must, raise `COMPAT` to the version that made the change: older readers then get
//! `Undeliverable` with [`TooNew`], and are not shown what they would misread. See [`accepts`].
//!
//! Attributes that fronts do not agree with: `skip_serializing_if` on any but the last fields (an
//! error when it leaves a hole; in a tuple struct nobody can notice), `skip_serializing` or
//! `skip_deserializing` alone; `flatten` writes names; `untagged` and `tag = ".."` are read by
//! way of serde's own buffer, which is exact about lengths, so such types cannot grow.
//! `Some(None)` and `Some(())` are read as `None`, as in JSON. A `Vec<u8>` is written as numbers:
//! raw data belongs in the data segment.
//!
//! # What is refused
//!
//! A front may come from anyone. Reading it never panics and never recurses beyond [`DEPTH_MAX`]
//! (what is passed over is not recursed into at all). A length is checked against the bytes that
//! are there before the type hears of it, and a type is told to make room for at most 4,096
//! elements ahead. Memory is thus bounded by what the type makes of the front's bytes.
//! Bytes after the value, texts that are not UTF-8, and extension types are refused.
//! [`FrontError`] says what and where. Writing checks what a reader would: length and depth.
//!
//! # Why arrays, and our own reader
//!
//! rmp-serde's reader refuses an array longer than the struct (`LengthMismatch`), does not count
//! newtype variants and options as depth, and cannot say where it failed. Maps by name would
//! evolve with it, but cost more. On a 2-core virtual machine, best of 40 rounds, time of encoding
//! and decoding together, over several runs:
//!
//! | | 2 integers | 8 fields, nested, 3 enums | 64 structs in a `Vec` |
//! | --- | --- | --- | --- |
//! | bytes, maps by name ÷ arrays | 1.7 | 1.7 | 2.4 |
//! | time, maps by name, read by rmp-serde ÷ ours | 2.0 | 1.9 to 2.4 | 2.4 to 2.6 |
//! | time, maps by name, read by our reader ÷ ours | 1.6 to 1.7 | 1.5 to 2.0 | 2.6 to 3.3 |
//! | time, plain rmp-serde arrays, which do not evolve ÷ ours | 1.0 to 1.1 | 0.9 to 1.0 | 1.0 to 1.2 |
//!
//! The two integers take about 16 ns to write and 13 ns to read. Our reader takes maps by name
//! too, so a front written by hand or by another tool with names is understood.

mod access;
mod decode;
mod encode;
mod error;
mod front;
mod kind;
mod outgoing;
mod reader;
mod scratch;

pub use error::{FrontError, FrontErrorKind};
pub(crate) use front::write_front;
pub use front::{DEPTH_MAX, decode_front, encode_front};
pub use kind::{FIRST_USER_TYPE, MessageType, Stamp, TooNew, accepts};
pub use outgoing::Outgoing;
pub(crate) use scratch::Scratch;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use stellate_protocol::Class;

/// Anything that can be the typed part of a message or of a reply: any owned serde type.
///
/// Implemented for all of them; brings the methods that dress a body for sending.
pub trait Body: Serialize + DeserializeOwned + Send + 'static {
    /// This body with a data segment.
    fn with(self, data: impl Into<Bytes>) -> Outgoing<Self> {
        Outgoing::new(self).with(data)
    }

    /// This body in a class other than [`Class::Normal`].
    fn class(self, class: Class) -> Outgoing<Self> {
        Outgoing::new(self).class(class)
    }
}

impl<T: Serialize + DeserializeOwned + Send + 'static> Body for T {}

/// A type that can be sent on its own.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # use stellate::message::{Message, MessageType};
/// #[derive(Serialize, Deserialize)]
/// struct Write { oid: u64, offset: u64 }
/// #[derive(Serialize, Deserialize)]
/// struct Written { version: u64 }
///
/// impl Message for Write {
///     const TYPE: MessageType = MessageType::new(0x0101);
///     type Reply = Written;
/// }
/// ```
pub trait Message: Body {
    /// The number of the type on the wire, the same in every version; 0 to 0xff are reserved.
    const TYPE: MessageType;

    /// The version of the type, counted up with every change to its fields.
    const VERSION: u16 = 1;

    /// The oldest version that reads this one without misunderstanding it. See [`accepts`].
    const COMPAT: u16 = 1;

    /// What a request is answered with; `()` for a message that goes one way.
    type Reply: Body;
}
