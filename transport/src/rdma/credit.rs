//! Receive slots as credit: what may be sent, and when credit is returned. Pure.
//!
//! ```text
//!   ours:   posted there ── spend ──► in flight, or lying there ── returned ──► ours again
//!   theirs: a receive is posted again: owed ── half the ring, or any message ──► told
//! ```
//!
//! Every message spends one slot of the peer's ring, whatever it carries.
//!
//! * **F6** What is spent never exceeds what is granted.
//! * Two slots are kept: messages with content leave them alone. What returns credit may take
//!   them, and the very last is taken only by a message that returns some. So both sides cannot
//!   run out at once: whoever sends with its last slot gives the other side at least one.

/// Slots that messages with content leave alone.
pub(super) const KEPT: u32 = 2;
/// Fewest slots of a ring: some for content besides those that are kept.
pub(super) const RING_MIN: u32 = 8;

/// The credit of one link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Credits {
    /// Slots of the peer that we may fill.
    ours: u32,
    /// Slots of the peer's ring.
    peer_ring: u32,
    /// Slots that were posted again and that the peer was not told of.
    owed: u32,
    /// Slots of our ring.
    ring: u32,
}

/// The peer returned slots that it never had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overgranted;

impl Credits {
    /// Both rings are posted whole.
    pub(super) fn new(ring: u32, peer_ring: u32) -> Self {
        Self { ours: peer_ring, peer_ring, owed: 0, ring }
    }

    /// Messages with content that may go now.
    pub(super) fn content(&self) -> u32 {
        self.ours.saturating_sub(KEPT)
    }

    /// Whether a message that only returns something may go now.
    pub(super) fn may_return(&self) -> bool {
        self.ours > 1 || (self.ours == 1 && self.owed > 0)
    }

    /// Whether so much is owed that a message of its own is due.
    pub(super) fn is_due(&self) -> bool {
        self.owed >= self.ring / 2
    }

    /// A message goes: what it returns.
    pub(super) fn spend(&mut self) -> u16 {
        debug_assert!(self.ours > 0, "F6: spent more than granted");
        self.ours = self.ours.saturating_sub(1);
        // A ring has far fewer slots than that.
        let told = self.owed.min(u32::from(u16::MAX));
        self.owed -= told;
        told as u16
    }

    /// A receive was used and is posted again.
    pub(super) fn posted(&mut self) {
        self.owed += 1;
    }

    /// A message returned so much.
    pub(super) fn returned(&mut self, slots: u16) -> Result<(), Overgranted> {
        let ours = self.ours + u32::from(slots);
        if ours > self.peer_ring {
            return Err(Overgranted);
        }
        self.ours = ours;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// A message on its way: what it returns.
    type Wire = VecDeque<u16>;

    struct Side {
        credits: Credits,
        content: u32,
        posted: u32,
    }

    impl Side {
        fn new(ring: u32, peer_ring: u32, content: u32) -> Self {
            Self { credits: Credits::new(ring, peer_ring), content, posted: ring }
        }

        fn send(&mut self, out: &mut Wire) -> bool {
            if self.content > 0 && self.credits.content() > 0 {
                self.content -= 1;
            } else if !(self.credits.is_due() && self.credits.may_return()) {
                return false;
            }
            out.push_back(self.credits.spend());
            true
        }

        fn receive(&mut self, wire: &mut Wire) -> bool {
            let Some(returned) = wire.pop_front() else { return false };
            assert!(self.posted > 0, "F6: a message found no receive");
            self.posted -= 1;
            self.credits.returned(returned).expect("only what was posted is returned");
            self.posted += 1;
            self.credits.posted();
            true
        }
    }

    #[test]
    fn f6_a_flood_both_ways_never_starves_and_never_underflows() {
        for (ring, peer) in [(8, 8), (8, 64), (64, 64), (9, 31)] {
            for seed in 0..200u64 {
                let mut sides = [Side::new(ring, peer, 500), Side::new(peer, ring, 500)];
                let mut wires = [Wire::new(), Wire::new()];
                let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
                let mut idle = 0;
                while idle < 64 {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    let at = (random & 1) as usize;
                    let moved = if random & 2 == 0 {
                        sides[at].send(&mut wires[at])
                    } else {
                        sides[at].receive(&mut wires[1 - at])
                    };
                    idle = if moved { 0 } else { idle + 1 };
                }
                let left = [sides[0].content, sides[1].content];
                assert_eq!(left, [0, 0], "rings {ring} and {peer}, seed {seed}: stuck");
            }
        }
    }

    #[test]
    fn the_last_slot_goes_only_to_a_message_that_returns_some() {
        let mut credits = Credits::new(8, 8);
        for _ in 0..6 {
            assert!(credits.content() > 0);
            credits.spend();
        }
        assert_eq!((credits.content(), credits.may_return()), (0, true), "two are kept");
        credits.spend();
        assert!(!credits.may_return(), "it would return nothing");
        credits.posted();
        assert!(credits.may_return());
        assert_eq!(credits.spend(), 1);
        assert!(!credits.may_return());
    }

    #[test]
    fn credit_that_was_never_spent_is_refused() {
        let mut credits = Credits::new(8, 8);
        assert_eq!(credits.returned(1), Err(Overgranted));
        credits.spend();
        assert_eq!(credits.returned(1), Ok(()));
    }
}
