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
//! * **F1** Everything posted is over once, in order.

use std::collections::VecDeque;

/// Work after which a signalled one comes, at most.
const UNSIGNALLED_MAX: u32 = 16;

/// The send queue of a link: SENDs and READs, each with what it carries of ours.
#[derive(Debug)]
pub(super) struct Sends<T> {
    depth: u32,
    next: u32,
    unsignalled: u32,
    posted: VecDeque<(u32, T)>,
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
        let number = self.next & WORK_MASK;
        self.next = (self.next + 1) & WORK_MASK;
        self.posted.push_back((number, work));
        let signalled = !more || self.room() == 0 || self.unsignalled + 1 >= UNSIGNALLED_MAX;
        self.unsignalled = if signalled { 0 } else { self.unsignalled + 1 };
        (number, signalled)
    }

    /// A completion came: gives `over` all work up to that, oldest first.
    pub(super) fn complete(&mut self, number: u32, mut over: impl FnMut(T)) -> Result<(), Unknown> {
        if !self.posted.iter().any(|(posted, _)| *posted == number) {
            return Err(Unknown);
        }
        while let Some((posted, work)) = self.posted.pop_front() {
            over(work);
            if posted == number {
                break;
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
