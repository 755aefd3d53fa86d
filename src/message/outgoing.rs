//! A message on its way out: the body, the raw data beside it, and the class it travels in.

use super::Body;
use bytes::Bytes;
use stellate_protocol::Class;

/// A body with its data segment and class, as `send`, `try_send`, `permit.send` and `reply` take it.
///
/// A bare body converts into one, with no data and [`Class::Normal`], so
/// `connection.send(Write { .. })` and `connection.send(Write { .. }.with(bytes))` both work.
///
/// The data segment never passes through serde and is not copied where the transport allows.
/// Its size is limited by `data_max` (64 MiB by default), checked when the message is sent.
///
/// ```
/// # use stellate::message::{Body, Outgoing};
/// # use stellate_protocol::Class;
/// # #[derive(serde::Serialize, serde::Deserialize)]
/// # struct Write { oid: u64 }
/// let plain: Outgoing<Write> = Write { oid: 1 }.into();
/// assert_eq!(plain.class, Class::Normal);
/// let urgent = Write { oid: 2 }.with(vec![0; 512]).class(Class::High);
/// assert_eq!((urgent.data.len(), urgent.class), (512, Class::High));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "an outgoing message does nothing until it is sent"]
pub struct Outgoing<M> {
    /// The typed part, encoded as the front.
    pub body: M,
    /// The raw part, carried as it is.
    pub data: Bytes,
    /// The class it is ordered, windowed and scheduled in.
    pub class: Class,
}

impl<M> Outgoing<M> {
    /// `body` without data, in [`Class::Normal`].
    pub const fn new(body: M) -> Self {
        Self { body, data: Bytes::new(), class: Class::Normal }
    }

    /// Sets the data segment, in place of any set before.
    pub fn with(mut self, data: impl Into<Bytes>) -> Self {
        self.data = data.into();
        self
    }

    /// Sets the class. Order is promised within a class only (S1).
    pub fn class(mut self, class: Class) -> Self {
        self.class = class;
        self
    }
}

impl<M: Body> From<M> for Outgoing<M> {
    fn from(body: M) -> Self {
        Self::new(body)
    }
}
