//! Messages as users define them, and the codec that turns their typed part into a front and back.
//!
//! TODO-DOC

mod access;
mod decode;
mod encode;
mod error;
mod front;
mod kind;
mod outgoing;
mod reader;

pub use error::{FrontError, FrontErrorKind};
pub use front::{DEPTH_MAX, decode_front, encode_front};
pub use kind::{FIRST_USER_TYPE, MessageType, Stamp, TooNew, accepts};
pub use outgoing::Outgoing;

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
