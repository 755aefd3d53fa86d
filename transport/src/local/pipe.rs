//! The two pipes between the ends of a local link.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use bytes::Bytes;
use stellate_protocol::{Frame, Parcel};

/// What goes through a pipe. Frames stay unboxed: a box would be an allocation per frame.
#[allow(clippy::large_enum_variant)]
pub(super) enum Item {
    /// A frame by value.
    Frame(Frame<Parcel>),
    /// The bytes of one frame.
    Bytes(Bytes),
}

/// How the writing end of a pipe left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// After all it had to say.
    Orderly,
    /// At once.
    Cut,
}

/// One direction.
#[derive(Default)]
pub(super) struct Pipe {
    pub(super) items: VecDeque<(Item, usize)>,
    pub(super) bytes: usize,
    pub(super) left: Option<Left>,
    pub(super) reader: Option<Waker>,
    /// The writer waits for room.
    pub(super) writer: Option<Waker>,
}

pub(super) type Pipes = Arc<[Mutex<Pipe>; 2]>;

pub(super) fn pipes() -> Pipes {
    Arc::default()
}

pub(super) fn lock(pipe: &Mutex<Pipe>) -> MutexGuard<'_, Pipe> {
    pipe.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pipe {
    /// The writer leaves; a cut takes along what is in the pipe.
    pub(super) fn leave(&mut self, how: Left) -> Option<Waker> {
        if self.left.is_none() || how == Left::Cut {
            self.left = Some(how);
        }
        if how == Left::Cut {
            self.items.clear();
            self.bytes = 0;
        }
        self.reader.take()
    }
}
