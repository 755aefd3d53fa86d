//! Blocks of registered memory: powers of two, split and joined again. Pure.
//!
//! ```text
//!   arena ── halved until it fits ──► block ── given back ──► joined with its buddy, and so on
//! ```
//!
//! A block's buddy lies where its address within the arena differs in one bit, counted in units.
//! Blocks are handles that own their bytes, so a block that is given twice cannot exist.

use std::collections::BTreeMap;

use bytes::BytesMut;

use super::memory::RegionId;

/// Free blocks of some arenas.
#[derive(Debug)]
pub(super) struct Buddy {
    /// Bytes of the smallest block.
    unit: usize,
    /// Free blocks by order, then by place.
    free: Vec<BTreeMap<Place, BytesMut>>,
    /// By where they begin.
    arenas: BTreeMap<u64, Whole>,
    used: usize,
}

/// The so many-th arena, and how far into it: not the address, which differs from run to run (D1).
type Place = (usize, u64);

/// An arena.
#[derive(Clone, Copy, Debug)]
struct Whole {
    nth: usize,
    len: usize,
    region: RegionId,
}

impl Buddy {
    /// Without memory; its smallest block has `unit` bytes.
    pub(super) fn new(unit: usize) -> Self {
        Self { unit: unit.max(1), free: Vec::new(), arenas: BTreeMap::new(), used: 0 }
    }

    /// Adds an arena; what is behind its largest power of two units is not used.
    pub(super) fn add(&mut self, mut memory: BytesMut, region: RegionId) {
        let units = memory.len() / self.unit;
        if units == 0 {
            return;
        }
        let order = units.ilog2() as usize;
        memory.truncate(self.unit << order);
        let nth = self.arenas.len();
        self.arenas.insert(addr(&memory), Whole { nth, len: memory.len(), region });
        while self.free.len() <= order {
            self.free.push(BTreeMap::new());
        }
        self.free[order].insert((nth, 0), memory);
    }

    /// Bytes of the smallest block.
    pub(super) fn unit(&self) -> usize {
        self.unit
    }

    /// Bytes of the block that `len` bytes take.
    pub(super) fn block(&self, len: usize) -> usize {
        len.max(1).div_ceil(self.unit).next_power_of_two() * self.unit
    }

    /// Bytes of blocks that are out.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// A block of [`block`](Self::block) bytes, if there is one.
    pub(super) fn take(&mut self, len: usize) -> Option<(BytesMut, RegionId)> {
        let order = self.order(len);
        let from = (order..self.free.len()).find(|order| !self.free[*order].is_empty())?;
        self.cut(from, order)
    }

    /// The largest block that there is, if it is not as large as that.
    pub(super) fn take_less(&mut self, len: usize) -> Option<(BytesMut, RegionId)> {
        let below = self.order(len).min(self.free.len());
        let from = (0..below).rev().find(|order| !self.free[*order].is_empty())?;
        self.cut(from, from)
    }

    fn order(&self, len: usize) -> usize {
        (self.block(len) / self.unit).ilog2() as usize
    }

    /// A block of one order, out of one of that order or a higher.
    fn cut(&mut self, from: usize, order: usize) -> Option<(BytesMut, RegionId)> {
        let ((nth, at), mut block) = self.free[from].pop_first()?;
        for order in (order..from).rev() {
            let upper = block.split_off(self.unit << order);
            self.free[order].insert((nth, at + block.len() as u64), upper);
        }
        self.used += block.len();
        let region = self.region(addr(&block), block.len())?;
        Some((block, region))
    }

    /// Takes a block back.
    pub(super) fn put(&mut self, mut block: BytesMut) {
        self.used = self.used.saturating_sub(block.len());
        let Some((&base, &Whole { nth, len, .. })) = self.arenas.range(..=addr(&block)).next_back()
        else {
            return;
        };
        let mut order = (block.len() / self.unit).max(1).ilog2() as usize;
        while block.len() < len {
            let unit = self.unit as u64;
            let place = (addr(&block) - base) / unit;
            let buddy = (place ^ 1 << order) * unit;
            let Some(mut other) = self.free[order].remove(&(nth, buddy)) else { break };
            if place & 1 << order != 0 {
                std::mem::swap(&mut block, &mut other);
            }
            block.unsplit(other);
            order += 1;
        }
        self.free[order].insert((nth, addr(&block) - base), block);
    }

    /// The region that these bytes lie in.
    pub(super) fn region(&self, at: u64, len: usize) -> Option<RegionId> {
        let (base, whole) = self.arenas.range(..=at).next_back()?;
        (at.checked_add(len as u64)? <= base + whole.len as u64).then_some(whole.region)
    }

    /// Forgets everything, free or not; what is out is nobody's then.
    pub(super) fn clear(&mut self) -> Vec<RegionId> {
        let regions = self.arenas.values().map(|whole| whole.region).collect();
        self.arenas.clear();
        self.free.clear();
        self.used = 0;
        regions
    }
}

fn addr(memory: &BytesMut) -> u64 {
    memory.as_ptr().addr() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rdma::memory::Arena;

    #[test]
    fn f8_whatever_is_taken_and_given_back_makes_a_whole_arena_again() {
        let (_arena, memory) = Arena::allocate(64 * 100);
        let mut buddy = Buddy::new(100);
        buddy.add(memory, RegionId(1));
        let mut random = 7u64;
        let mut out = Vec::new();
        for _ in 0..20_000 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            if random & 3 < 2 {
                let len = (random >> 8) as usize % 1700;
                let room = buddy.take(len);
                out.extend(room.inspect(|(block, _)| assert!(block.len() >= len)));
            } else if !out.is_empty() {
                let (block, _) = out.swap_remove((random >> 8) as usize % out.len());
                buddy.put(block);
            }
            let sum: usize = out.iter().map(|(block, _)| block.len()).sum();
            assert_eq!(buddy.used(), sum);
        }
        for (block, _) in out {
            buddy.put(block);
        }
        assert_eq!(buddy.used(), 0);
        let (whole, region) = buddy.take(6400).expect("joined again");
        assert_eq!((whole.len(), region), (6400, RegionId(1)));
        assert_eq!(buddy.take(1), None);
    }

    /// Where an arena lies differs from run to run, and what is taken goes over the wire as an offer.
    #[test]
    fn d1_blocks_are_taken_in_the_order_of_arenas_wherever_these_lie() {
        let mut arenas = [Arena::allocate(200), Arena::allocate(200)];
        for _ in 0..2 {
            arenas.reverse();
            let mut buddy = Buddy::new(100);
            for (nth, (_, memory)) in (0..).zip(&mut arenas) {
                buddy.add(std::mem::take(memory), RegionId(nth));
            }
            let taken: Vec<_> = std::iter::from_fn(|| buddy.take(100)).collect();
            let regions: Vec<u64> = taken.iter().map(|(_, region)| region.0).collect();
            assert_eq!(regions, [0, 0, 1, 1]);
            let begins = |at: usize| addr(&taken[at].0) < addr(&taken[at + 1].0);
            assert!(begins(0) && begins(2), "from its beginning");
            arenas = [Arena::allocate(200), Arena::allocate(200)];
            arenas.sort_by_key(|(_, memory)| addr(memory));
        }
    }

    #[test]
    fn bytes_are_found_in_their_region_and_nowhere_else() {
        let mut buddy = Buddy::new(100);
        let (_one, first) = Arena::allocate(200);
        let (_two, second) = Arena::allocate(200);
        let (at, other) = (addr(&first), addr(&second));
        buddy.add(first, RegionId(1));
        buddy.add(second, RegionId(2));
        assert_eq!(buddy.region(at, 200), Some(RegionId(1)));
        assert_eq!(buddy.region(other + 199, 1), Some(RegionId(2)));
        assert_eq!(buddy.region(at, 201), None);
        assert_eq!(buddy.region(at.min(other) - 1, 1), None);
        let mut regions = buddy.clear();
        regions.sort();
        assert_eq!(regions, [RegionId(1), RegionId(2)]);
        assert_eq!(buddy.region(at, 1), None);
    }
}
