//! Classes of urgency, and the lanes that carry them.
//!
//! Order is promised within a class (S1), never across: a [`Class::Control`] message overtakes a
//! half-moved 4 MiB body. Each class has two lanes, one for messages and one for replies, since a
//! reply must never wait for the window that requests spend (the third budget).

use std::fmt;

/// How urgent a message is; also the unit of order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Class {
    /// Maps, leases, pings: small, rare, urgent.
    Control = 0,
    /// Client work that somebody waits for.
    High = 1,
    /// The usual.
    #[default]
    Normal = 2,
    /// Recovery, scrub, backfill.
    Bulk = 3,
}

impl Class {
    /// How many classes there are.
    pub const COUNT: usize = 4;
    /// All, the most urgent first.
    pub const ALL: [Self; Self::COUNT] = [Self::Control, Self::High, Self::Normal, Self::Bulk];

    /// Share of the bytes out of 16 when every class has work. Not strict: the least is 1/16.
    pub const fn weight(self) -> u32 {
        match self {
            Self::Control => 8,
            Self::High => 4,
            Self::Normal => 3,
            Self::Bulk => 1,
        }
    }

    /// As an array index, 0 to 3.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The class with that index.
    pub const fn from_index(index: u8) -> Option<Self> {
        match index {
            0 => Some(Self::Control),
            1 => Some(Self::High),
            2 => Some(Self::Normal),
            3 => Some(Self::Bulk),
            _ => None,
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Control => "control",
            Self::High => "high",
            Self::Normal => "normal",
            Self::Bulk => "bulk",
        })
    }
}

/// One ordered stream of a session and direction: sequence, acks and replay are per lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane(u8);

impl Lane {
    /// How many lanes a direction has.
    pub const COUNT: usize = 2 * Class::COUNT;

    /// The lane of ordinary messages and requests of `class`.
    pub const fn messages(class: Class) -> Self {
        Self(class as u8 * 2)
    }

    /// The lane of replies of `class`.
    pub const fn replies(class: Class) -> Self {
        Self(class as u8 * 2 + 1)
    }

    /// The lane with that index, if there is one.
    pub const fn from_index(index: u8) -> Option<Self> {
        if (index as usize) < Self::COUNT { Some(Self(index)) } else { None }
    }

    /// As an array index, 0 to 7.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// All lanes, in index order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT as u8).map(Self)
    }

    /// The class it belongs to.
    pub const fn class(self) -> Class {
        Class::ALL[(self.0 / 2) as usize]
    }

    /// Whether it carries replies, which no window holds back.
    pub const fn is_replies(self) -> bool {
        self.0 % 2 == 1
    }
}

/// A set of lanes. Most sessions use few of the eight: whoever looks at these only leaves the
/// memory of the others alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LaneSet(u8);

impl LaneSet {
    /// Every lane.
    pub const ALL: Self = Self(u8::MAX);

    /// Puts a lane in.
    #[inline]
    pub fn insert(&mut self, lane: Lane) {
        self.0 |= 1 << lane.0;
    }

    /// Those that are in either.
    #[inline]
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those of messages, or those of replies.
    #[inline]
    #[must_use]
    pub fn of_replies(self, replies: bool) -> Self {
        Self(self.0 & if replies { 0b1010_1010 } else { 0b0101_0101 })
    }
}

/// In index order.
impl Iterator for LaneSet {
    type Item = Lane;

    #[inline]
    fn next(&mut self) -> Option<Lane> {
        let lane = Lane::from_index(self.0.trailing_zeros() as u8)?;
        self.0 &= self.0 - 1;
        Some(lane)
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.class(), if self.is_replies() { "/replies" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_sum_to_sixteen_so_that_bulk_gets_its_sixteenth() {
        assert_eq!(Class::ALL.iter().map(|class| class.weight()).sum::<u32>(), 16);
    }

    #[test]
    fn lanes_map_to_classes_and_back() {
        for class in Class::ALL {
            assert_eq!(Lane::messages(class).class(), class);
            assert_eq!(Lane::replies(class).class(), class);
            assert!(Lane::replies(class).is_replies() && !Lane::messages(class).is_replies());
        }
        assert_eq!(Lane::all().count(), Lane::COUNT);
        assert_eq!(Lane::from_index(8), None);
    }

    #[test]
    fn a_set_gives_its_lanes_in_order_and_once() {
        let mut set = LaneSet::default();
        assert_eq!(set.next(), None);
        for lane in [Lane::replies(Class::Bulk), Lane::messages(Class::High)] {
            set.insert(lane);
            set.insert(lane);
        }
        assert_eq!(set.of_replies(true).collect::<Vec<_>>(), [Lane::replies(Class::Bulk)]);
        assert_eq!(set.of_replies(false).collect::<Vec<_>>(), [Lane::messages(Class::High)]);
        let mut sorted = [Lane::replies(Class::Bulk), Lane::messages(Class::High)];
        sorted.sort_by_key(|lane| lane.index());
        assert_eq!(set.collect::<Vec<_>>(), sorted);
        assert!(LaneSet::ALL.eq(Lane::all()));
        assert_eq!(set.union(LaneSet::ALL), LaneSet::ALL);
    }
}
