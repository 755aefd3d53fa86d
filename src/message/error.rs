//! Why a front could not be written or read, and where in it.

use std::fmt;

/// The longest text kept from a type's own error: a hostile front must not size our logs.
const TEXT_MAX: usize = 240;

/// A front that could not be encoded or decoded.
///
/// A receiver turns it into `Undeliverable` for its user and a negative answer for the sender;
/// it ends nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrontError {
    /// What is wrong.
    pub kind: FrontErrorKind,
    /// Decoding: the byte in the front at which the value that failed begins.
    /// Encoding: how many bytes had been written.
    pub offset: usize,
}

/// What is wrong with a front.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrontErrorKind {
    /// The front ends inside a value, or a length in it promises more than the front holds.
    Truncated,
    /// Bytes follow the value.
    Trailing,
    /// Values are nested deeper than [`DEPTH_MAX`](super::DEPTH_MAX).
    TooDeep,
    /// The front would be longer than this many bytes.
    TooLong(usize),
    /// A text is not UTF-8.
    Utf8,
    /// A byte that begins no value, or an extension type, which fronts do not use.
    Unsupported(u8),
    /// A field without a default is missing, or a sequence has the wrong length.
    Length(Box<str>),
    /// A variant that this side's enum does not have, most likely a newer one.
    UnknownVariant(Box<str>),
    /// The value is not what the type expects; in the words of the type.
    Mismatch(Box<str>),
}

/// Formats into at most [`TEXT_MAX`] bytes, so that the cost of an error is bounded too.
fn short(text: &dyn fmt::Display) -> Box<str> {
    struct Short(String);
    impl fmt::Write for Short {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let mut room = TEXT_MAX.saturating_sub(self.0.len()).min(text.len());
            while !text.is_char_boundary(room) {
                room -= 1;
            }
            self.0.push_str(&text[..room]);
            if room < text.len() { Err(fmt::Error) } else { Ok(()) }
        }
    }
    let mut short = Short(String::new());
    if fmt::write(&mut short, format_args!("{text}")).is_err() {
        short.0.push('…');
    }
    short.0.into_boxed_str()
}

/// A [`FrontError`] before anyone knows where: one word wide, so that the results of the many
/// small reads and writes travel in registers.
#[derive(Debug)]
pub(super) struct Fault(Box<FrontErrorKind>);

impl Fault {
    #[cold]
    pub(super) fn new(kind: FrontErrorKind) -> Self {
        Self(Box::new(kind))
    }

    #[cold]
    pub(super) fn at(self, offset: usize) -> FrontError {
        FrontError { kind: *self.0, offset }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Fault {}

impl serde::de::Error for Fault {
    #[cold]
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self::new(FrontErrorKind::Mismatch(short(&text)))
    }

    #[cold]
    fn invalid_length(found: usize, expected: &dyn serde::de::Expected) -> Self {
        let text = short(&format_args!("found {found} elements, expected {expected}"));
        Self::new(FrontErrorKind::Length(text))
    }

    #[cold]
    fn missing_field(field: &'static str) -> Self {
        Self::new(FrontErrorKind::Length(short(&format_args!("field `{field}` is missing"))))
    }

    #[cold]
    fn unknown_variant(variant: &str, _expected: &'static [&'static str]) -> Self {
        Self::new(FrontErrorKind::UnknownVariant(short(&variant)))
    }
}

impl serde::ser::Error for Fault {
    #[cold]
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self::new(FrontErrorKind::Mismatch(short(&text)))
    }
}

impl fmt::Display for FrontErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("the front ends inside a value"),
            Self::Trailing => f.write_str("bytes follow the value"),
            Self::TooDeep => f.write_str("values are nested too deep"),
            Self::TooLong(limit) => write!(f, "longer than {limit} bytes"),
            Self::Utf8 => f.write_str("a text is not UTF-8"),
            Self::Unsupported(byte) => write!(f, "byte {byte:#04x} begins no value"),
            Self::UnknownVariant(name) => write!(f, "unknown variant `{name}`"),
            Self::Length(text) | Self::Mismatch(text) => f.write_str(text),
        }
    }
}

impl fmt::Display for FrontError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, at byte {} of the front", self.kind, self.offset)
    }
}

impl std::error::Error for FrontError {}
