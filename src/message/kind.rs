//! What a message says about itself in the frame header: its type, its version, and how far back
//! it can be read.

use super::Message;

/// The first type number that users may take; the numbers below belong to the messenger.
pub const FIRST_USER_TYPE: u32 = 0x100;

/// The number that names a message type on the wire, the same in every version of the type.
///
/// Numbers below [`FIRST_USER_TYPE`] (0 to 0xff) are reserved for the messenger; a
/// [`Message`] that takes one does not compile where it is first sent or handled.
///
/// ```
/// # use stellate::message::MessageType;
/// const WRITE: MessageType = MessageType::new(0x0101);
/// assert_eq!(WRITE.get(), 0x0101);
/// assert!(!WRITE.is_reserved());
/// assert_eq!(WRITE.to_string(), "0x0101");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageType(u32);

impl MessageType {
    /// The type with this number. Any number is taken, since a peer may send any.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number as it stands on the wire.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Whether the number belongs to the messenger itself.
    #[must_use]
    pub const fn is_reserved(self) -> bool {
        self.0 < FIRST_USER_TYPE
    }
}

impl std::fmt::Display for MessageType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#06x}", self.0)
    }
}

/// Whether a reader that knows a type up to `reader_version` may read a message whose sender
/// declared it readable from `sender_compat` on.
///
/// The sender's own version does not matter: an appended field with a default raises the
/// version and leaves `COMPAT` alone, so old readers go on reading. Only a change after which
/// an old reader would misunderstand the message raises `COMPAT`.
///
/// ```
/// # use stellate::message::accepts;
/// assert!(accepts(1, 1));  // the same version, or a newer one that only appended
/// assert!(accepts(3, 1));  // an old sender
/// assert!(!accepts(1, 2)); // the sender says: version 1 would misunderstand this
/// ```
#[must_use]
pub const fn accepts(reader_version: u16, sender_compat: u16) -> bool {
    sender_compat <= reader_version
}

/// Type number, version and compatible-back-to version, as one frame header carries them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// The type number.
    pub message_type: MessageType,
    /// The version of the type that the sender knows.
    pub version: u16,
    /// The oldest version of the type that understands this message.
    pub compat: u16,
}

impl Stamp {
    /// The stamp of `M`.
    ///
    /// `TYPE` in the reserved range, `COMPAT` of 0, or `COMPAT` above `VERSION` is an error of
    /// the build, not of the run.
    ///
    /// ```compile_fail
    /// # use stellate::message::{Message, MessageType, Stamp};
    /// #[derive(serde::Serialize, serde::Deserialize)]
    /// struct Ping;
    /// impl Message for Ping { const TYPE: MessageType = MessageType::new(0x01); type Reply = (); }
    /// let stamp = Stamp::of::<Ping>(); // 0x01 is reserved
    /// ```
    #[must_use]
    pub const fn of<M: Message>() -> Self {
        const {
            assert!(!M::TYPE.is_reserved(), "message types 0 to 0xff are reserved");
            assert!(M::COMPAT >= 1, "COMPAT starts at 1");
            assert!(M::COMPAT <= M::VERSION, "COMPAT must not be above VERSION");
        }
        Self { message_type: M::TYPE, version: M::VERSION, compat: M::COMPAT }
    }

    /// Whether a reader of `M` may read a message with this stamp.
    ///
    /// Says nothing about the type number: that is looked up before.
    ///
    /// # Errors
    ///
    /// [`TooNew`] if the sender says that this reader would misunderstand the message.
    pub const fn check<M: Message>(self) -> Result<(), TooNew> {
        if accepts(M::VERSION, self.compat) {
            return Ok(());
        }
        Err(TooNew {
            message_type: self.message_type,
            reader_version: M::VERSION,
            sender_version: self.version,
            sender_compat: self.compat,
        })
    }
}

/// A message that its sender declared unreadable for our version of the type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooNew {
    /// The type of the message.
    pub message_type: MessageType,
    /// The version that this side knows.
    pub reader_version: u16,
    /// The version that the sender knows.
    pub sender_version: u16,
    /// The oldest version that understands the message.
    pub sender_compat: u16,
}

impl std::fmt::Display for TooNew {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { message_type, reader_version, sender_version, sender_compat } = self;
        write!(
            f,
            "message type {message_type}, version {sender_version}, can be read from version \
             {sender_compat} on; this side knows version {reader_version}"
        )
    }
}

impl std::error::Error for TooNew {}
