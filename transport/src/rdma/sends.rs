//! The send queue: what may be posted, what is signalled, and what is over. Pure.
//!
//! ```text
//!   post: unsignalled … unsignalled, signalled ──► one completion says that all of them are over
//! ```
//!
//! * Posted work never exceeds the depth of the queue, one place kept for the marker of a
//!   teardown.
//! * The last work before nothing more can be posted is signalled: nothing waits for a completion
//!   that never comes.
//! * A READ is over by its own completion alone: on siw a SEND that was posted later may complete
//!   first, and must not give up the READ's buffer.
//! * **F1** Everything posted is over once, SENDs in order.

use std::collections::VecDeque;

/// Work after which a signalled one comes, at most.
const UNSIGNALLED_MAX: u32 = 16;

/// The send queue of a link: SENDs and READs, each with what it carries of ours.
#[derive(Debug)]
pub(super) struct Sends<T> {
    depth: u32,
    next: u32,
    unsignalled: u32,
    posted: VecDeque<Posted<T>>,
}

/// Work that is not over.
#[derive(Debug)]
struct Posted<T> {
    number: u32,
    work: T,
    /// Only its own completion ends it.
    alone: bool,
}

/// A completion of work that is not posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unknown;

impl<T> Sends<T> {
    /// An empty queue of that depth.
    pub(super) fn new(depth: u32) -> Self {
        Self { depth, next: 0, unsignalled: 0, posted: VecDeque::new() }
    }

    /// Places that are free.
    pub(super) fn room(&self) -> u32 {
        (self.depth - 1).saturating_sub(self.posted.len() as u32)
    }

    /// Posts work; `more` says that other work follows at once. Its number, and whether it is to
    /// be signalled.
    pub(super) fn post(&mut self, work: T, more: bool) -> (u32, bool) {
        let number = self.push(work, false);
        let signalled = !more || self.room() == 0 || self.unsignalled + 1 >= UNSIGNALLED_MAX;
        self.unsignalled = if signalled { 0 } else { self.unsignalled + 1 };
        (number, signalled)
    }

    /// Posts a READ, which is signalled. Its number.
    pub(super) fn post_alone(&mut self, work: T) -> u32 {
        self.push(work, true)
    }

    fn push(&mut self, work: T, alone: bool) -> u32 {
        let number = self.next & WORK_MASK;
        self.next = (self.next + 1) & WORK_MASK;
        self.posted.push_back(Posted { number, work, alone });
        number
    }

    /// A completion came: gives `over` that READ, or all SENDs up to that one, oldest first.
    pub(super) fn complete(&mut self, number: u32, mut over: impl FnMut(T)) -> Result<(), Unknown> {
        let named = |posted: &Posted<T>| posted.number == number;
        let place = self.posted.iter().position(named).ok_or(Unknown)?;
        let alone = self.posted[place].alone;
        let first = if alone { place } else { 0 };
        let mut look = first;
        for _ in first..=place {
            if !alone && self.posted[look].alone {
                look += 1;
            } else if let Some(posted) = self.posted.remove(look) {
                over(posted.work);
            }
        }
        Ok(())
    }

    /// Work that is not over.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.posted.len()
    }
}

/// Numbers of sends stay below the bit that tells receives apart.
const WORK_MASK: u32 = 0x3fff_ffff;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f1_one_completion_ends_all_before_it_in_order() {
        let mut sends = Sends::new(8);
        let signalled: Vec<bool> = (0..4).map(|n| sends.post(n, n < 3).1).collect();
        assert_eq!(signalled, [false, false, false, true], "the last one is");
        let mut over = Vec::new();
        assert_eq!(sends.complete(3, |n| over.push(n)), Ok(()));
        assert_eq!(over, [0, 1, 2, 3]);
        assert_eq!(sends.complete(3, |_| panic!("once")), Err(Unknown));
        assert_eq!(sends.complete(9, |_| panic!("never posted")), Err(Unknown));
    }

    #[test]
    fn f2_a_send_that_completes_first_does_not_end_a_read() {
        let mut sends = Sends::new(8);
        let read = sends.post_alone("read");
        let (send, _) = sends.post("send", false);
        let late = sends.post_alone("late");
        let mut over = Vec::new();
        assert_eq!(sends.complete(send, |work| over.push(work)), Ok(()));
        assert_eq!(sends.complete(late, |work| over.push(work)), Ok(()));
        assert_eq!((&over[..], sends.len()), (&["send", "late"][..], 1));
        assert_eq!(sends.complete(read, |work| over.push(work)), Ok(()));
        assert_eq!((over.len(), sends.len()), (3, 0));
        assert_eq!(sends.complete(read, |_| panic!("once")), Err(Unknown));
    }

    #[test]
    fn nothing_waits_for_a_completion_that_never_comes() {
        let mut sends = Sends::new(8);
        let mut last = false;
        while sends.room() > 0 {
            last = sends.post((), true).1;
        }
        assert!(last, "a full queue ends in a signalled one");
        assert_eq!(sends.len(), 7, "one place is kept");
        let mut sends = Sends::new(1000);
        let longest = (0..500).map(|_| sends.post((), true).1).collect::<Vec<_>>();
        let longest = longest.split(|signalled| *signalled).map(<[bool]>::len).max();
        assert_eq!(longest, Some(UNSIGNALLED_MAX as usize - 1));
    }

    #[test]
    fn numbers_wrap() {
        let mut sends = Sends::new(4);
        sends.next = WORK_MASK;
        assert_eq!(sends.post((), false).0, WORK_MASK);
        assert_eq!(sends.post((), false).0, 0);
        let mut over = 0;
        assert_eq!(sends.complete(0, |()| over += 1), Ok(()));
        assert_eq!(over, 2);
    }
}
