//! One direction of a simulated link.
//!
//! ```text
//!   accepted ──bandwidth──► in flight ──latency, order kept──► posted receive? ──► inbox ──► link
//!                               │ partition, stall: waits            │ none: as the profile says
//! ```

use std::collections::VecDeque;
use std::ops::Range;

use stellate_protocol::FrameKind;

use super::run::Run;
use crate::fault::LinkFault;
use crate::limits::{Boundary, LinkLimits, Underflow};
use crate::trace::Passage;

/// Bytes on the way in one direction, of a stream or of messages, before the sender waits.
pub(super) const WINDOW_BYTES: usize = 256 * 1024;

/// What goes along a direction.
#[derive(Debug)]
pub(super) enum Item {
    /// Bytes of a frame; with its last ones what the trace says of it.
    Bytes { bytes: Run, kind: FrameKind, ends: Option<Passage> },
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

    /// What the trace says of the frame that ends with it.
    fn passage(&self) -> Option<&Passage> {
        match self {
            Self::Bytes { ends, .. } => ends.as_ref(),
            Self::End(_) => None,
        }
    }

    fn into_passage(self) -> Option<Passage> {
        match self {
            Self::Bytes { ends, .. } => ends,
            Self::End(_) => None,
        }
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

/// An item in its place.
#[derive(Debug)]
struct Entry {
    /// The tick in which it arrives, from when it leaves.
    due: u64,
    item: Item,
}

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// In the order in which they were sent: what has arrived and is not read, the inbox; what is in
    /// flight; what has not left yet. One after the other, since most go through all three at once.
    line: VecDeque<Entry>,
    /// Of the first, how many have arrived.
    arrived: usize,
    /// Of those behind them, how many are in flight.
    flying: usize,
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
        self.line.push_back(Entry { due: 0, item });
    }

    /// Whether something has not left yet.
    pub(super) fn is_waiting(&self) -> bool {
        self.line.len() > self.arrived + self.flying
    }

    /// Whether something has not arrived yet.
    pub(super) fn is_busy(&self) -> bool {
        self.line.len() > self.arrived
    }

    /// Whether something waits to be read.
    pub(super) fn has_arrived(&self) -> bool {
        self.arrived > 0
    }

    /// Lets the next item leave, if bandwidth lets it at `now`: until it is handed to
    /// [`fly`](Self::fly), or all of its pieces, it stays the first that waits.
    pub(super) fn depart(&mut self, now: u64, bandwidth: Option<u32>) -> bool {
        if let Some(bandwidth) = bandwidth {
            let ticks = now.saturating_sub(self.allowance_at).min(1 << 20) as i64;
            let gained = ticks.saturating_mul(i64::from(bandwidth));
            self.allowance = (self.allowance + gained).min(i64::from(bandwidth));
            self.allowance_at = now;
            if self.allowance <= 0 {
                return false;
            }
        }
        let Some(entry) = self.line.get(self.arrived + self.flying) else {
            return false;
        };
        if bandwidth.is_some() {
            self.allowance -= entry.item.len() as i64;
        }
        true
    }

    /// The bytes that leave next; none of a last word.
    pub(super) fn departing(&self) -> Option<usize> {
        let entry = self.line.get(self.arrived + self.flying)?;
        matches!(entry.item, Item::Bytes { .. }).then(|| entry.item.len())
    }

    /// Cuts what leaves next in two, after so many bytes.
    pub(super) fn cut_departing(&mut self, at: usize) {
        let next = self.arrived + self.flying;
        if let Some(Entry { item: Item::Bytes { bytes, kind, .. }, .. }) = self.line.get_mut(next) {
            let item = Item::Bytes { bytes: bytes.split_to(at), kind: *kind, ends: None };
            self.line.insert(next, Entry { due: 0, item });
        }
    }

    /// What leaves next is on its way, and arrives at `arrival` or, since order is kept, later. When
    /// that is, if nothing else arrives then.
    pub(super) fn fly(&mut self, arrival: u64) -> Option<u64> {
        let before = self.last_arrival;
        let entry = self.line.get_mut(self.arrived + self.flying)?;
        self.last_arrival = before.max(arrival);
        entry.due = self.last_arrival;
        self.flying += 1;
        (self.last_arrival > before || self.flying == 1).then_some(self.last_arrival)
    }

    /// Lands the first item in flight, if it is due at `now`.
    pub(super) fn land(&mut self, now: u64, limits: &LinkLimits) -> Option<Landed> {
        if self.flying == 0 {
            return None;
        }
        let Entry { due, item } = self.line.get(self.arrived)?;
        if *due > now {
            return None;
        }
        if item.takes_slot()
            && !self.unread
            && let Some(refused) = self.take_slot(limits)
        {
            return Some(refused);
        }
        self.starving_since = None;
        self.receive(limits)
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

    /// What becomes of the first item in flight, which has come.
    fn receive(&mut self, limits: &LinkLimits) -> Option<Landed> {
        let place = self.arrived;
        self.flying -= 1;
        if self.unread {
            let Entry { item, .. } = self.line.remove(place)?;
            self.bytes -= item.len();
            self.lost.extend(item.into_passage());
            return Some(Landed::Yes);
        }
        let Item::Bytes { bytes, ends, .. } = &mut self.line.get_mut(place)?.item else {
            self.arrived += 1;
            return Some(Landed::Yes);
        };
        let len = bytes.len();
        let (mut landed, mut kept) = (Landed::Yes, len);
        match &mut self.cut_after {
            Some(CutAfter::Frames(left)) if ends.is_some() => {
                *left = left.saturating_sub(1);
                if *left == 0 {
                    landed = Landed::ThenCut;
                }
            }
            Some(CutAfter::Bytes(left)) if *left <= len as u64 => {
                // Messages arrive whole or not at all.
                kept = match limits.boundary {
                    Boundary::Stream => *left as usize,
                    Boundary::Message if *left == len as u64 => len,
                    Boundary::Message => 0,
                };
                landed = Landed::ThenCut;
            }
            Some(CutAfter::Bytes(left)) => *left -= len as u64,
            _ => {}
        }
        if kept < len {
            bytes.truncate(kept);
            self.lost.extend(ends.take());
        }
        self.frames_arrived += u64::from(ends.is_some());
        self.bytes_arrived += kept as u64;
        self.bytes -= len - kept;
        if landed == Landed::ThenCut {
            self.cut_after = None;
        }
        if kept > 0 {
            self.arrived += 1;
        } else {
            self.line.remove(place);
        }
        Some(landed)
    }

    /// Takes the first of what waits to be read.
    pub(super) fn take(&mut self) -> Option<Item> {
        self.arrived = self.arrived.checked_sub(1)?;
        let Entry { item, .. } = self.line.pop_front()?;
        self.bytes -= item.len();
        Some(item)
    }

    /// The receiving end reads this after all that has arrived.
    pub(super) fn end_with(&mut self, fault: LinkFault) {
        self.line.insert(self.arrived, Entry { due: 0, item: Item::End(fault) });
        self.arrived += 1;
    }

    /// What the trace says of the frames under way, those that are not read included.
    pub(super) fn passages(&self) -> impl Iterator<Item = &Passage> {
        self.line.iter().filter_map(|entry| entry.item.passage())
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
        self.lose_these(self.arrived..self.line.len());
        self.flying = 0;
    }

    /// Loses what has not left yet.
    pub(super) fn unsend(&mut self) {
        self.lose_these(self.arrived + self.flying..self.line.len());
    }

    /// Nobody reads any more: what has arrived is lost, and all that comes.
    pub(super) fn unread(&mut self) {
        self.unread = true;
        self.lose_these(0..self.arrived);
        self.arrived = 0;
    }

    fn lose_these(&mut self, places: Range<usize>) {
        for Entry { item, .. } in self.line.drain(places) {
            self.bytes -= item.len();
            self.lost.extend(item.into_passage());
        }
    }
}
