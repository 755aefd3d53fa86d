//! All links of the network, by number.

use super::wire::Wire;

/// Links by number, in the order in which they came up. A number is a place, and is never used
/// again: finding a link costs no search.
#[derive(Debug, Default)]
pub(super) struct Wires {
    places: Vec<Option<Box<Wire>>>,
    /// No link below this place is left.
    first: usize,
}

fn place(link: u64) -> Option<usize> {
    usize::try_from(link.checked_sub(1)?).ok()
}

impl Wires {
    /// Adds a link; its number, from 1.
    pub(super) fn add(&mut self, wire: Wire) -> u64 {
        self.places.push(Some(Box::new(wire)));
        self.places.len() as u64
    }

    #[inline]
    pub(super) fn get(&self, link: u64) -> Option<&Wire> {
        self.places.get(place(link)?)?.as_deref()
    }

    #[inline]
    pub(super) fn get_mut(&mut self, link: u64) -> Option<&mut Wire> {
        self.places.get_mut(place(link)?)?.as_deref_mut()
    }

    pub(super) fn remove(&mut self, link: u64) {
        if let Some(wire) = place(link).and_then(|place| self.places.get_mut(place)) {
            *wire = None;
        }
        while self.places.get(self.first).is_some_and(Option::is_none) {
            self.first += 1;
        }
    }

    /// Those that are there, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Wire)> {
        let places = self.places.iter().enumerate().skip(self.first);
        places.filter_map(|(place, wire)| Some((place as u64 + 1, wire.as_deref()?)))
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Wire> {
        self.places.iter_mut().skip(self.first).filter_map(Option::as_deref_mut)
    }
}
