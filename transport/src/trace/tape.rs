//! Events that were kept: the newest, within a bound.

use std::collections::VecDeque;
use std::fmt;

use super::event::Event;
use super::line::{HEADING, Line};
use super::names::Names;

/// Most events that a tape keeps: about 160 bytes each.
pub const TAPE_EVENTS_MAX: usize = 1 << 20;

/// Takes events one by one, as they happen. It must not call back into the network.
pub type Sink = Box<dyn FnMut(&Names, &Event) + Send>;

/// What was recorded. The oldest event comes first.
#[derive(Clone, Debug, Default)]
pub struct Tape {
    /// Names for the numbers in the events.
    pub names: Names,
    /// The newest events.
    pub events: VecDeque<Event>,
    /// How many older ones were dropped.
    pub dropped: u64,
}

impl fmt::Display for Tape {
    /// A line for each event, below a heading; see [`Line`] for the columns.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADING}")?;
        if self.dropped > 0 {
            writeln!(f, "# {} older events are not kept", self.dropped)?;
        }
        self.events.iter().try_for_each(|event| writeln!(f, "{}", Line(&self.names, event)))
    }
}

/// What keeps events while a network runs.
#[derive(Default)]
pub(crate) struct Recording {
    events: VecDeque<Event>,
    max: usize,
    dropped: u64,
    sink: Option<Sink>,
}

impl Recording {
    /// Keeps the newest `max` from now on.
    pub(crate) fn keep(&mut self, max: usize) {
        self.max = max.min(TAPE_EVENTS_MAX);
        while self.events.len() > self.max {
            self.events.pop_front();
            self.dropped += 1;
        }
    }

    /// Hands every event to `sink` from now on.
    pub(crate) fn stream(&mut self, sink: Sink) {
        self.sink = Some(sink);
    }

    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.max > 0 || self.sink.is_some()
    }

    pub(crate) fn add(&mut self, names: &Names, event: Event) {
        if let Some(sink) = &mut self.sink {
            sink(names, &event);
        }
        if self.max == 0 {
            return;
        }
        if self.events.len() == self.max {
            self.events.pop_front();
            self.dropped += 1;
        }
        self.events.push_back(event);
    }

    pub(crate) fn tape(&self, names: &Names) -> Tape {
        Tape { names: names.clone(), events: self.events.clone(), dropped: self.dropped }
    }
}
