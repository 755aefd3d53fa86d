//! What happened on a simulated network and on its nodes, event by event.
//!
//! ```text
//!   SimNet: frames, links, faults ─┐
//!   Scribe: sessions, calls, notes ┴─► Event ─► hash (D1) ─► Tape, bounded
//!                                                       └──► sink, one event at a time
//! ```
//!
//! * **D1** Every event is in the hash, in order, whether or not anybody keeps it: the tick, the
//!   nodes, the link, both checksums of each frame, each call into user code.
//! * **S7** A tape keeps the newest [`TAPE_EVENTS_MAX`] events at most, and counts what it dropped.
//!   A longer run is written to a sink as it goes.
//!
//! Nothing is kept unless somebody asked: see [`SimNet::record`](crate::SimNet::record).

mod event;
mod line;
mod names;
mod tape;

pub use event::{Call, Event, Over, Passage, SessionTag, What, cause_word};
pub use line::{HEADING, Line, More};
pub use names::{NAMES_MAX, Names, NodeNo};
pub use stellate_protocol::FrameKind;
pub(crate) use tape::Recording;
pub use tape::{Sink, TAPE_EVENTS_MAX, Tape};
