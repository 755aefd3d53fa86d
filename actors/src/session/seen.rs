//! What a session has read of the ledger of one lane, and what is new in it since.

use stellate_protocol::Lane;
use stellate_protocol::event::Settled;

use crate::shared::Entries;

/// What was read so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    opened: u64,
    done: u64,
    cost: u64,
    pulled: u64,
    in_hand: (u64, u64),
}

impl Seen {
    /// How many messages were opened, when that was last read.
    pub(super) fn opened(&self) -> u64 {
        self.opened
    }

    /// How many were opened in all, if there are more.
    #[inline]
    pub(super) fn take_opened(&mut self, now: &Entries) -> Option<u64> {
        let before = std::mem::replace(&mut self.opened, now.sums[0]);
        (before != self.opened).then_some(self.opened)
    }

    /// What was done since. Sums that are ahead of their count go with the next one.
    #[inline]
    pub(super) fn take_settled(&mut self, lane: Lane, now: &Entries) -> Option<Settled> {
        let [_, done, cost, pulled] = now.sums;
        if done == self.done {
            return None;
        }
        let settled = Settled {
            lane,
            messages: done - self.done,
            cost: cost - self.cost,
            pulled: pulled - self.pulled,
        };
        (self.done, self.cost, self.pulled) = (done, cost, pulled);
        Some(settled)
    }

    /// Requests in hand and their cost, if that has changed.
    #[inline]
    pub(super) fn take_in_hand(&mut self, now: &Entries) -> Option<(u64, u64)> {
        let before = std::mem::replace(&mut self.in_hand, now.in_hand);
        (before != self.in_hand).then_some(self.in_hand)
    }
}

#[cfg(test)]
mod tests {
    use stellate_protocol::Class;

    use super::*;

    const LANE: Lane = Lane::messages(Class::Normal);

    fn entries(sums: [u64; 4]) -> Entries {
        Entries { sums, in_hand: (0, 0) }
    }

    fn settled(messages: u64, cost: u64, pulled: u64) -> Option<Settled> {
        Some(Settled { lane: LANE, messages, cost, pulled })
    }

    /// S7: the window gets back what was done since, neither more nor less.
    #[test]
    fn s7_what_is_done_is_told_once() {
        let mut seen = Seen::default();
        assert_eq!(seen.take_settled(LANE, &entries([9, 0, 0, 0])), None);
        assert_eq!(seen.take_settled(LANE, &entries([9, 2, 70, 30])), settled(2, 70, 30));
        assert_eq!(seen.take_settled(LANE, &entries([9, 2, 70, 30])), None);
        // A thread has added its cost, and is about to add its count.
        assert_eq!(seen.take_settled(LANE, &entries([9, 2, 100, 45])), None);
        assert_eq!(seen.take_settled(LANE, &entries([9, 5, 110, 50])), settled(3, 40, 20));
    }

    #[test]
    fn what_is_opened_and_in_hand_is_told_when_it_changes() {
        let mut seen = Seen::default();
        assert_eq!(seen.take_opened(&entries([0; 4])), None);
        assert_eq!(seen.take_opened(&entries([3, 0, 0, 0])), Some(3));
        assert_eq!(seen.take_opened(&entries([3, 1, 0, 0])), None);
        assert_eq!((seen.take_opened(&entries([4, 1, 0, 0])), seen.opened()), (Some(4), 4));
        let hold = |in_hand| Entries { sums: [0; 4], in_hand };
        assert_eq!(seen.take_in_hand(&hold((0, 0))), None);
        assert_eq!(seen.take_in_hand(&hold((1, 50))), Some((1, 50)));
        assert_eq!(seen.take_in_hand(&hold((1, 50))), None);
        assert_eq!(seen.take_in_hand(&hold((0, 0))), Some((0, 0)));
    }
}
