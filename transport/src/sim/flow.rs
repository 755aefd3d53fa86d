//! One direction of a simulated link.
//!
//! ```text
//!   accepted ──bandwidth──► in flight ──latency, order kept──► posted receive? ──► inbox ──► link
//!                               │ partition, stall: waits            │ none: as the profile says
//! ```

use std::collections::VecDeque;

use bytes::Bytes;
use stellate_protocol::FrameKind;

use crate::fault::LinkFault;
use crate::limits::{Boundary, LinkLimits, Underflow};
use crate::trace::Passage;

/// Bytes on the way in one direction, of a stream or of messages, before the sender waits.
pub(super) const WINDOW_BYTES: usize = 256 * 1024;

/// What goes along a direction.
#[derive(Clone, Debug)]
pub(super) enum Item {
    /// Bytes of a frame; `ends` with its last ones.
    Bytes { bytes: Bytes, kind: FrameKind, ends: bool },
    /// The last word for the receiving end.
    End(LinkFault),
}

impl Item {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Bytes { bytes, .. } => bytes.len(),
            Self::End(_) => 0,
        }
    }

    /// Whether the last bytes of a frame are in it.
    fn ends(&self) -> bool {
        matches!(self, Self::Bytes { ends: true, .. })
    }

    /// Whether it takes one of the posted receives. A greeting and a farewell have receives of
    /// their own outside the ring: they come before and after credits are counted.
    fn takes_slot(&self) -> bool {
        match self {
            Self::Bytes { kind, .. } => !matches!(
                kind,
                FrameKind::Hello
                    | FrameKind::HelloAnswer
                    | FrameKind::Resume
                    | FrameKind::ResumeAnswer
                    | FrameKind::Lost
                    | FrameKind::Close
            ),
            Self::End(_) => false,
        }
    }
}

/// When a link is to be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutAfter {
    /// When so many more frames have arrived.
    Frames(u64),
    /// When so many more bytes have arrived, in the middle of a frame if need be.
    Bytes(u64),
}

/// What became of an item that arrived.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Landed {
    /// It is in the inbox.
    Yes,
    /// It is in the inbox, and it was the last before a planned cut.
    ThenCut,
    /// It waits for a posted receive: the sender tries again.
    NoReceive,
    /// It waits for a posted receive, as long as it takes.
    Blocked,
    /// It found no receive, and that ends the link.
    Fatal,
}

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Flow {
    pub(super) queue: VecDeque<Item>,
    pub(super) flight: VecDeque<(u64, Item)>,
    pub(super) inbox: VecDeque<Item>,
    /// What the trace says of each frame under way, those in the inbox included.
    pub(super) manifest: VecDeque<Passage>,
    /// Frames that will not arrive, and are not in the trace yet.
    pub(super) lost: Vec<Passage>,
    /// Bytes in all three.
    pub(super) bytes: usize,
    /// Bytes that may leave now; negative after a frame longer than a tick's worth.
    allowance: i64,
    allowance_at: u64,
    last_arrival: u64,
    /// Receives posted at the receiving end.
    posted: Option<u32>,
    /// Frames in the overflow list.
    overflowed: u32,
    /// Since when the first in flight finds no receive.
    pub(super) starving_since: Option<u64>,
    pub(super) stalled_until: u64,
    pub(super) cut_after: Option<CutAfter>,
    pub(super) frames_arrived: u64,
    pub(super) bytes_arrived: u64,
    /// The receiving end is gone: what arrives is lost.
    pub(super) unread: bool,
    /// What the receiving end may read in this tick, if it is slow.
    pub(super) read_at: u64,
    pub(super) read_bytes: u64,
}

impl Flow {
    pub(super) fn new(limits: &LinkLimits) -> Self {
        Self { posted: limits.recv_slots, ..Self::default() }
    }

    /// Whether the sender may add.
    pub(super) fn has_window(&self) -> bool {
        self.bytes < WINDOW_BYTES
    }

    pub(super) fn accept(&mut self, item: Item) {
        self.bytes += item.len();
        self.queue.push_back(item);
    }

    /// The next item that bandwidth lets go at `now`, if any.
    pub(super) fn depart(&mut self, now: u64, bandwidth: Option<u32>) -> Option<Item> {
        if let Some(bandwidth) = bandwidth {
            let ticks = now.saturating_sub(self.allowance_at).min(1 << 20) as i64;
            let gained = ticks.saturating_mul(i64::from(bandwidth));
            self.allowance = (self.allowance + gained).min(i64::from(bandwidth));
            self.allowance_at = now;
            if self.allowance <= 0 {
                return None;
            }
        }
        let item = self.queue.pop_front()?;
        if bandwidth.is_some() {
            self.allowance -= item.len() as i64;
        }
        Some(item)
    }

    /// It is on its way, and arrives at `arrival` or, since order is kept, later. When that is, if
    /// nothing else arrives then.
    pub(super) fn fly(&mut self, arrival: u64, item: Item) -> Option<u64> {
        let before = self.last_arrival;
        self.last_arrival = before.max(arrival);
        self.flight.push_back((self.last_arrival, item));
        (self.last_arrival > before || self.flight.len() == 1).then_some(self.last_arrival)
    }

    /// Lands the first item in flight, if it is due at `now`.
    pub(super) fn land(&mut self, now: u64, limits: &LinkLimits) -> Option<Landed> {
        let (arrival, item) = self.flight.front()?;
        if *arrival > now {
            return None;
        }
        if item.takes_slot()
            && !self.unread
            && let Some(refused) = self.take_slot(limits)
        {
            return Some(refused);
        }
        self.starving_since = None;
        let (_, item) = self.flight.pop_front()?;
        Some(self.receive(item, limits))
    }

    fn take_slot(&mut self, limits: &LinkLimits) -> Option<Landed> {
        let posted = self.posted.as_mut()?;
        if *posted > 0 {
            *posted -= 1;
            return None;
        }
        match limits.underflow {
            Underflow::Blocks => Some(Landed::Blocked),
            Underflow::Retries(_) => Some(Landed::NoReceive),
            Underflow::Fatal => Some(Landed::Fatal),
            Underflow::Buffers(max) if self.overflowed >= max => Some(Landed::Fatal),
            Underflow::Buffers(_) => {
                self.overflowed += 1;
                None
            }
        }
    }

    fn receive(&mut self, item: Item, limits: &LinkLimits) -> Landed {
        if self.unread {
            self.bytes -= item.len();
            if item.ends() {
                self.lost.extend(self.manifest.pop_front());
            }
            return Landed::Yes;
        }
        let Item::Bytes { bytes, kind, ends } = item else {
            self.inbox.push_back(item);
            return Landed::Yes;
        };
        let len = bytes.len() as u64;
        let mut landed = Landed::Yes;
        let mut kept = bytes.len();
        match &mut self.cut_after {
            Some(CutAfter::Frames(left)) if ends => {
                *left = left.saturating_sub(1);
                if *left == 0 {
                    landed = Landed::ThenCut;
                }
            }
            Some(CutAfter::Bytes(left)) if *left <= len => {
                // Messages arrive whole or not at all.
                kept = match limits.boundary {
                    Boundary::Stream => *left as usize,
                    Boundary::Message if *left == len => kept,
                    Boundary::Message => 0,
                };
                landed = Landed::ThenCut;
            }
            Some(CutAfter::Bytes(left)) => *left -= len,
            _ => {}
        }
        if landed == Landed::ThenCut {
            self.cut_after = None;
        }
        self.bytes -= bytes.len() - kept;
        let whole = kept == bytes.len();
        self.frames_arrived += u64::from(ends && whole);
        self.bytes_arrived += kept as u64;
        if kept > 0 {
            self.inbox.push_back(Item::Bytes {
                bytes: bytes.slice(..kept),
                kind,
                ends: ends && whole,
            });
        }
        landed
    }

    /// Posts receives again; false if the ring has no place for them (F6).
    pub(super) fn repost(&mut self, slots: u32, limits: &LinkLimits) -> bool {
        let (Some(posted), Some(ring)) = (&mut self.posted, limits.recv_slots) else {
            return true;
        };
        let drained = slots.min(self.overflowed);
        self.overflowed -= drained;
        let total = u64::from(*posted) + u64::from(slots - drained);
        *posted = total.min(u64::from(ring)) as u32;
        total <= u64::from(ring)
    }

    /// Loses everything that has not arrived.
    pub(super) fn lose(&mut self) {
        let lost = self.queue.iter().map(Item::len).sum::<usize>()
            + self.flight.iter().map(|(_, item)| item.len()).sum::<usize>();
        self.bytes -= lost;
        self.queue.clear();
        self.flight.clear();
        let arrived = self.inbox.iter().filter(|item| item.ends()).count();
        self.lost.extend(self.manifest.drain(arrived.min(self.manifest.len())..));
    }

    /// Loses what has not left yet.
    pub(super) fn unsend(&mut self) {
        self.bytes -= self.queue.iter().map(Item::len).sum::<usize>();
        let unsent = self.queue.iter().filter(|item| item.ends()).count();
        self.queue.clear();
        let rest = self.manifest.len().saturating_sub(unsent);
        self.lost.extend(self.manifest.drain(rest..));
    }

    /// Nobody reads any more: what waits in the inbox is lost, and all that comes.
    pub(super) fn unread(&mut self) {
        self.unread = true;
        self.bytes -= self.inbox.iter().map(Item::len).sum::<usize>();
        let arrived = self.inbox.iter().filter(|item| item.ends()).count();
        self.inbox.clear();
        self.lost.extend(self.manifest.drain(..arrived.min(self.manifest.len())));
    }
}
