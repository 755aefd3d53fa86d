//! Connections as a test sees them: two queue pairs, and how they ended.

use std::collections::BTreeMap;

use super::pair::{Pair, PairState};
use super::world::World;
use crate::sim::{LINK_ENDS_MAX, LinkEnd, LinkInfo, Origin};
use crate::trace::SessionTag;

impl World {
    /// The number of a pair's connection, that of the dialler's; and which end of it this is.
    fn connection_of(number: u32, pair: &Pair) -> Option<(u32, usize)> {
        let peer = pair.peer?;
        Some(if pair.dialled { (number, 0) } else { (peer, 1) })
    }

    /// SENDs that arrived from the dialler and from the acceptor.
    fn heard(&self, number: u32, pair: &Pair) -> [u64; 2] {
        let there = pair.peer.and_then(|peer| self.pairs.get(&peer));
        // What the other end has of this one's, if it is still there.
        let from_here = there.filter(|there| there.peer == Some(number)).map_or(0, |end| end.heard);
        if pair.dialled { [from_here, pair.heard] } else { [pair.heard, from_here] }
    }

    pub(super) fn links(&self) -> Vec<LinkInfo> {
        let mut links: BTreeMap<u32, LinkInfo> = BTreeMap::new();
        let up = self.pairs.iter().filter(|(_, pair)| pair.state == PairState::Up);
        for (number, pair) in up {
            let Some((id, end)) = Self::connection_of(*number, pair) else { continue };
            let name = |host: usize| self.hosts[host].ip.to_string();
            let link = links.entry(id).or_insert_with(|| {
                let (here, there) = (name(pair.host), name(pair.there));
                let (dialler, acceptor) = if end == 0 { (here, there) } else { (there, here) };
                let frames = self.heard(*number, pair);
                LinkInfo {
                    id: id.into(),
                    dialler,
                    acceptor,
                    frames,
                    bytes: [0; 2],
                    open: [false; 2],
                }
            });
            link.open[end] = true;
        }
        links.into_values().collect()
    }

    /// The connection of a pair is over, by the pair's owner or by what happened to it. The first who
    /// says so is right.
    pub(super) fn over(&mut self, number: u32, by_owner: bool) {
        let tick = self.now();
        let Some(pair) = self.pairs.get(&number).filter(|pair| !pair.over) else {
            return;
        };
        let Some((id, end)) = Self::connection_of(number, pair) else {
            return;
        };
        let name = |host: usize| self.hosts[host].ip.to_string();
        let (here, there) = (name(pair.host), name(pair.there));
        let (dialler, acceptor) = if end == 0 { (here, there) } else { (there, here) };
        let (frames, by) = (self.heard(number, pair), by_owner.then(|| Origin::of(end)));
        let (link, session, accepted) = (id.into(), SessionTag::NONE, None);
        let end = LinkEnd { link, dialler, acceptor, session, tick, by, frames, accepted };
        self.ends.push_back(end);
        if self.ends.len() > LINK_ENDS_MAX {
            self.ends.pop_front();
        }
        let peer = pair.peer;
        for number in [Some(number), peer].into_iter().flatten() {
            if let Some(pair) = self.pairs.get_mut(&number) {
                pair.over = true;
            }
        }
    }
}
