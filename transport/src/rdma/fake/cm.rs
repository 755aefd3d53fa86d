//! The fake rdma_cm: identifiers, requests and answers.
//!
//! ```text
//!   dialler: resolve ─► connect ── Request ──► acceptor: child, ConnectRequest
//!            Established ◄── Accepted ──────────────── accept ─► Established, a little later
//!            Rejected    ◄──────────────────────────── reject
//!   either:  disconnect ─► both in error, Disconnected at both, if the other is still there
//! ```

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::task::Waker;

use bytes::{Bytes, BytesMut};

use super::CmWord;
use super::pair::PairState;
use super::world::{Event, World};
use crate::rdma::verbs::{CmEvent, CmEventKind, CmId, ConnectParams, Fabric, GREETING_MAX};

/// Ticks between two requests that get no answer, and after which the dial fails.
const REQUEST_TICKS: u64 = 200;
const UNREACHABLE_TICKS: u64 = 4_000;

#[derive(Debug)]
pub(super) struct Channel {
    pub(super) host: usize,
    pub(super) events: VecDeque<CmEvent>,
    pub(super) waker: Option<Waker>,
}

#[derive(Debug)]
pub(super) struct Id {
    pub(super) host: usize,
    pub(super) channel: u64,
    pub(super) pair: Option<u32>,
    /// Whether it has a device.
    pub(super) bound: bool,
    pub(super) to: Option<SocketAddr>,
    pub(super) listens: Option<SocketAddr>,
    pub(super) peer: Option<u64>,
    pub(super) peer_addr: Option<SocketAddr>,
    pub(super) params: Option<ConnectParams>,
    pub(super) over: bool,
}

impl World {
    pub(super) fn make_id(&mut self, host: usize, channel: u64) -> u64 {
        let number = self.serial();
        let id = Id {
            host,
            channel,
            pair: None,
            bound: false,
            to: None,
            listens: None,
            peer: None,
            peer_addr: None,
            params: None,
            over: false,
        };
        self.ids.insert(number, id);
        number
    }

    /// Tells something about an identifier, unless a fault plan loses or delays it.
    pub(super) fn tell_later(&mut self, id: u64, kind: CmEventKind, ticks: u64) {
        let Some(host) = self.ids.get(&id).map(|id| id.host) else {
            return;
        };
        let word = match kind {
            CmEventKind::Established { .. } => Some(CmWord::Established),
            CmEventKind::Disconnected => Some(CmWord::Disconnected),
            _ => None,
        };
        let mut late = 0;
        if let Some(word) = word {
            let host = &mut self.hosts[host];
            if let Some(left) = host.lost_words.get_mut(&word)
                && *left > 0
            {
                *left -= 1;
                return;
            }
            late = host.late_words.get(&word).copied().unwrap_or(0);
        }
        let at = self.now() + ticks + late;
        self.at(at, Event::Word { id, kind });
    }

    pub(super) fn tell(&mut self, id: u64, kind: CmEventKind) {
        let Some(channel) = self.ids.get(&id).map(|id| id.channel) else {
            return;
        };
        if let Some(channel) = self.channels.get_mut(&channel) {
            channel.events.push_back(CmEvent { id: CmId(id), kind });
            self.wakes.extend(channel.waker.take());
        }
    }

    pub(super) fn connect(&mut self, id: u64, params: ConnectParams) {
        let (now, travel) = (self.now(), self.travel());
        if let Some(entry) = self.ids.get_mut(&id) {
            entry.params = Some(params);
            self.at(now + travel, Event::Request { id, since: now });
        }
    }

    /// A request comes to the host that was dialled.
    pub(super) fn request(&mut self, id: u64, since: u64) {
        let now = self.now();
        let Some(dialler) = self.ids.get(&id) else {
            return;
        };
        let (from, Some(to), Some(params)) = (dialler.host, dialler.to, dialler.params.clone())
        else {
            return;
        };
        let Some(there) = self.index_of(to.ip()) else {
            return self.tell_later(id, CmEventKind::Unreachable(-113), 1);
        };
        let silent = self.hosts[there].swallows || !self.hosts[there].present;
        if self.is_blocked(from, there) || silent {
            if now - since >= UNREACHABLE_TICKS {
                return self.tell_later(id, CmEventKind::Unreachable(-110), 1);
            }
            return self.at(now + REQUEST_TICKS, Event::Request { id, since });
        }
        let wildcard = match to {
            SocketAddr::V4(_) => SocketAddr::from(([0, 0, 0, 0], to.port())),
            SocketAddr::V6(_) => SocketAddr::from(([0u16; 8], to.port())),
        };
        let mut at = self.listeners.iter().filter(|(_, listener)| {
            self.ids.get(listener).is_some_and(|listener| listener.host == there)
        });
        let listener = at.find(|(bound, _)| **bound == to || **bound == wildcard);
        let listener = listener.map(|(_, listener)| *listener);
        let Some(listener) = listener.filter(|_| !self.hosts[there].refuses) else {
            let kind = match self.hosts[from].personality.fabric {
                Fabric::IWarp => CmEventKind::ConnectError(-111),
                _ => CmEventKind::Rejected { reason: 8, private: Bytes::new() },
            };
            let travel = self.travel();
            return self.tell_later(id, kind, travel);
        };
        let Some(channel) = self.ids.get(&listener).map(|listener| listener.channel) else {
            return;
        };
        let child = self.make_id(there, channel);
        let peer_addr = SocketAddr::new(self.hosts[from].ip, 40_000 + (id % 20_000) as u16);
        if let Some(child) = self.ids.get_mut(&child) {
            child.bound = true;
            child.peer = Some(id);
            child.peer_addr = Some(peer_addr);
        }
        let kind = CmEventKind::ConnectRequest {
            child: CmId(child),
            peer: Some(peer_addr),
            private: padded(&params.private),
            initiator_depth: params.initiator_depth,
            responder_resources: params.responder_resources,
        };
        self.tell(listener, kind);
    }

    pub(super) fn accept(&mut self, child: u64, params: ConnectParams) -> bool {
        let Some(dialler) = self.ids.get(&child).and_then(|child| child.peer) else {
            return false;
        };
        if !self.ids.contains_key(&dialler) {
            return false;
        }
        let private = params.private.clone();
        if let Some(child) = self.ids.get_mut(&child) {
            child.params = Some(params);
        }
        let at = self.now() + self.travel();
        self.at(at, Event::Accepted { child, private });
        true
    }

    /// The answer comes back: both queue pairs are connected.
    pub(super) fn accepted(&mut self, child: u64, private: Bytes) {
        let Some((dialler, theirs)) =
            self.ids.get(&child).and_then(|id| Some((id.peer?, id.pair?)))
        else {
            return;
        };
        let Some((ours, host)) = self.ids.get(&dialler).and_then(|id| Some((id.pair?, id.host)))
        else {
            // The dialler gave up: the acceptor is never told.
            return;
        };
        if let Some(id) = self.ids.get_mut(&dialler) {
            id.peer = Some(child);
        }
        let params = |id: u64| self.ids.get(&id).and_then(|id| id.params.clone());
        let (Some(asked), Some(given)) = (params(dialler), params(child)) else {
            return;
        };
        let there = self.ids.get(&child).map_or(host, |child| child.host);
        for (pair, (peer, there), dialled, params, other) in [
            (ours, (theirs, there), true, &asked, &given),
            (theirs, (ours, host), false, &given, &asked),
        ] {
            if let Some(pair) = self.pairs.get_mut(&pair)
                && pair.state == PairState::Init
            {
                pair.state = PairState::Up;
                (pair.peer, pair.there) = (Some(peer), there);
                pair.dialled = dialled;
                pair.reads_max = params.initiator_depth.min(other.responder_resources);
                pair.rnr_tries = params.rnr_retry_count;
            }
        }
        let established = |private, params: &ConnectParams| CmEventKind::Established {
            private,
            responder_resources: params.responder_resources,
            initiator_depth: params.initiator_depth,
        };
        let travel = self.travel();
        self.tell_later(dialler, established(padded(&private), &given), 0);
        self.tell_later(child, established(Bytes::new(), &asked), travel);
    }

    pub(super) fn reject(&mut self, child: u64, private: &[u8]) {
        let dialler = self.ids.get(&child).and_then(|child| child.peer);
        self.forget_id(child);
        if let Some(dialler) = dialler {
            let private = padded(&Bytes::copy_from_slice(private));
            let travel = self.travel();
            self.tell_later(dialler, CmEventKind::Rejected { reason: 28, private }, travel);
        }
    }

    pub(super) fn disconnect(&mut self, id: u64) {
        let Some(entry) = self.ids.get_mut(&id) else {
            return;
        };
        if std::mem::replace(&mut entry.over, true) {
            return;
        }
        let (pair, peer, host) = (entry.pair, entry.peer, entry.host);
        if let Some(pair) = pair {
            self.over(pair, true);
            self.flush_pair(pair);
        }
        self.tell_later(id, CmEventKind::Disconnected, 1);
        if let Some(peer) = peer
            && let Some(there) = self.ids.get(&peer).map(|peer| peer.host)
            && !self.is_blocked(host, there)
        {
            let at = self.now() + self.travel();
            self.at(at, Event::Left { id: peer });
        }
    }

    /// The other end of an identifier has disconnected.
    pub(super) fn left(&mut self, id: u64) {
        let Some(entry) = self.ids.get_mut(&id) else {
            return;
        };
        if std::mem::replace(&mut entry.over, true) {
            return;
        }
        // On InfiniBand and RoCE the queue pair goes on until its owner moves it to error.
        if let Some(number) = entry.pair
            && let Some(pair) = self.pairs.get(&number)
            && self.hosts[pair.host].personality.fabric == Fabric::IWarp
        {
            self.flush_pair(number);
        }
        self.tell_later(id, CmEventKind::Disconnected, 0);
    }

    /// Destroys an identifier; its events are dropped.
    pub(super) fn forget_id(&mut self, id: u64) {
        let Some(entry) = self.ids.remove(&id) else {
            return;
        };
        if let Some(at) = entry.listens {
            self.listeners.remove(&at);
        }
        if let Some(channel) = self.channels.get_mut(&entry.channel) {
            channel.events.retain(|event| event.id != CmId(id));
        }
    }
}

/// As it arrives: longer than it was sent.
fn padded(private: &Bytes) -> Bytes {
    let mut bytes = BytesMut::from(&private[..]);
    bytes.resize(GREETING_MAX.max(private.len()), 0);
    bytes.freeze()
}
