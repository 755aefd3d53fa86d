//! The state of the network and the agenda of what happens when.
//!
//! ```text
//!   agenda: (tick, drawn, number) ─► Pump      what bandwidth lets go leaves
//!                                    Arrive    what is due lands, or waits for a receive
//!                                    GiveUp    an end that got nothing through dies
//!                                    Wake      a slow reader may read again
//!                                    Dial, Answer
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use stellate_protocol::codec::{CodecError, Outbound, encode};
use stellate_protocol::{Frame, Parcel};
use tokio::time::{Duration, Instant};

use super::agenda::Agenda;
use super::flow::{Flow, Item, Landed};
use super::profile::Profile;
use super::rng::Rng;
use super::run::{COPY_MAX, Run};
use super::tamper::Tamper;
use super::trace::Trace;
use super::wire::{LinkEnd, Violation, Wire};
use super::wires::Wires;
use super::{Origin, Quality};
use crate::error::DialError;
use crate::fault::LinkFault;
use crate::limits::{Boundary, CloseNotice, Underflow};
use crate::trace::{Event as Traced, NodeNo, SessionTag, What};

/// Violations that are kept.
const VIOLATIONS_MAX: usize = 100;
/// Ends of links that are kept, the newest.
pub(crate) const LINK_ENDS_MAX: usize = 16 * 1024;
/// Most pieces that a frame on a stream is cut into.
const PIECES_MAX: usize = 4;
/// Chance of each cut, in millionths.
const PIECE_CHANCE: u32 = 400_000;

/// The network, shared by its handles.
pub(super) struct Shared {
    net: Mutex<Net>,
    /// Somebody reads what frames say for people.
    pub(super) read: AtomicBool,
    /// Somebody tampers with frames, or has.
    pub(super) tampers: AtomicBool,
    /// Where frames are encoded; empty between two. One for all, so that it is in the cache.
    scratch: Mutex<Outbound>,
}

impl Shared {
    pub(super) fn new(seed: u64, profile: Profile) -> Self {
        let net = Mutex::new(Net::new(seed, profile));
        let scratch = Mutex::new(Outbound::copying(COPY_MAX));
        Self { net, read: AtomicBool::new(false), tampers: AtomicBool::new(false), scratch }
    }

    /// The network, as it is now: its clock stands while it is locked.
    pub(super) fn lock(&self) -> MutexGuard<'_, Net> {
        let mut net = self.lock_as_it_was();
        net.look_at_clock();
        net
    }

    /// The network, with the clock of whoever looked at it last: for what no time is asked of.
    pub(super) fn lock_as_it_was(&self) -> MutexGuard<'_, Net> {
        self.net.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A frame as it goes over the wire.
    pub(super) fn encoded(&self, frame: &Frame<Parcel>) -> Result<Run, CodecError> {
        let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        let encoded = encode(frame, &mut scratch);
        // Also of one that failed.
        let run = Run::of(&mut scratch);
        encoded.map(|()| run)
    }

    /// Changes the network and wakes whom it concerns, outside of the lock.
    pub(super) fn change<T>(&self, with: impl FnOnce(&mut Net) -> T) -> T {
        let mut net = self.lock();
        let result = with(&mut net);
        self.wake_all(net);
        result
    }

    /// Wakes whom it concerns, outside of the lock.
    pub(super) fn wake_all(&self, mut net: MutexGuard<'_, Net>) {
        if net.wakes.is_empty() {
            return;
        }
        let mut wakes = std::mem::take(&mut net.wakes);
        drop(net);
        wakes.drain(..).for_each(Waker::wake);
        // Its room is worth more than another look at the lock costs.
        let mut net = self.lock_as_it_was();
        if net.wakes.capacity() == 0 {
            net.wakes = wakes;
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The driver sees that nobody is left, and ends.
        let net = self.net.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(waker) = net.driver.take() {
            waker.wake();
        }
    }
}

#[derive(Clone, Debug)]
pub(super) enum Event {
    Pump { link: u64, end: usize },
    Arrive { link: u64, end: usize },
    GiveUp { link: u64, end: usize },
    Wake { link: u64, end: usize },
    Dial { dial: u64 },
    Answer { dial: u64, outcome: Result<u64, Box<DialError>> },
}

#[derive(Debug, Default)]
pub(super) struct Path {
    pub(super) quality: Option<Quality>,
    pub(super) blocked: bool,
    pub(super) tamper: Option<Tamper>,
}

#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) refuses: bool,
    pub(super) swallows: bool,
    pub(super) slow: Option<u32>,
    /// How often it crashed: handles of an earlier life are dead.
    pub(super) life: u64,
    /// The life that the trace has told the start of.
    pub(super) told: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Backlog {
    pub(super) node: Arc<str>,
    pub(super) profile: Profile,
    pub(super) links: VecDeque<u64>,
    pub(super) waker: Option<Waker>,
    pub(super) serial: u64,
}

#[derive(Debug)]
pub(super) struct Dial {
    pub(super) from: Arc<str>,
    pub(super) node: Arc<str>,
    pub(super) to: Arc<str>,
    pub(super) since: u64,
    pub(super) outcome: Option<Result<u64, DialError>>,
    pub(super) waker: Option<Waker>,
}

pub(super) struct Net {
    pub(super) profile: Profile,
    pub(super) quality: Quality,
    pub(super) wires: Wires,
    pub(super) listeners: BTreeMap<Arc<str>, Backlog>,
    pub(super) dials: BTreeMap<u64, Dial>,
    pub(super) violations: Vec<Violation>,
    /// How links ended, the newest last.
    pub(super) ends: VecDeque<LinkEnd>,
    pub(super) trace: Trace,
    pub(super) driver: Option<Waker>,
    pub(super) driven: bool,
    rng: Rng,
    pub(super) paths: BTreeMap<(NodeNo, NodeNo), Path>,
    /// By number.
    pub(super) nodes: Vec<Node>,
    agenda: Agenda<Event>,
    pub(super) wakes: Vec<Waker>,
    origin: Option<Instant>,
    now: u64,
    serial: u64,
    /// The tick that the driver sleeps until.
    armed: Option<u64>,
}

impl Net {
    fn new(seed: u64, profile: Profile) -> Self {
        Self {
            profile,
            quality: Quality::default(),
            wires: Wires::default(),
            listeners: BTreeMap::new(),
            dials: BTreeMap::new(),
            violations: Vec::new(),
            ends: VecDeque::new(),
            trace: Trace::new(),
            driver: None,
            driven: false,
            rng: Rng::new(seed),
            paths: BTreeMap::new(),
            nodes: Vec::new(),
            agenda: Agenda::new(),
            wakes: Vec::new(),
            origin: None,
            now: 0,
            serial: 0,
            armed: None,
        }
    }

    /// Starts the clock, if it does not run yet.
    pub(super) fn start(&mut self) {
        self.origin.get_or_insert_with(Instant::now);
    }

    /// Ticks since the start.
    #[inline]
    pub(super) fn now(&self) -> u64 {
        self.now
    }

    pub(super) fn look_at_clock(&mut self) {
        if let Some(origin) = self.origin {
            self.now = origin.elapsed().as_millis() as u64;
        }
    }

    pub(super) fn instant(&self, tick: u64) -> Option<Instant> {
        Some(self.origin? + Duration::from_millis(tick))
    }

    pub(super) fn serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    pub(super) fn path(&mut self, from: &str, to: &str) -> &mut Path {
        let way = (self.trace.node(from), self.trace.node(to));
        self.paths.entry(way).or_default()
    }

    pub(super) fn node(&mut self, node: &str) -> &mut Node {
        let index = self.trace.node(node).0 as usize;
        if self.nodes.len() <= index {
            self.nodes.resize_with(index + 1, Node::default);
        }
        &mut self.nodes[index]
    }

    /// Appends something of one node, or of two, to the trace (D1).
    pub(super) fn tell(&mut self, node: &str, peer: Option<&str>, what: What) {
        let node = self.trace.node(node);
        let peer = peer.map(|peer| self.trace.node(peer));
        let (tick, link, session) = (self.now(), 0, SessionTag::NONE);
        self.trace.add(Traced { tick, node, peer, link, session, what });
    }

    /// The same of the whole network.
    pub(super) fn tell_all(&mut self, what: What) {
        let (tick, node, peer) = (self.now(), NodeNo::NETWORK, None);
        let (link, session) = (0, SessionTag::NONE);
        self.trace.add(Traced { tick, node, peer, link, session, what });
    }

    /// Something of a link, at `end` of it or on the way from there.
    pub(super) fn tell_link(&mut self, link: u64, end: usize, what: What) {
        let tick = self.now();
        let Some(Wire { places, session, .. }) = self.wires.get(link) else {
            return;
        };
        let (node, peer, session) = (places[end], Some(places[1 - end]), *session);
        self.trace.add(Traced { tick, node, peer, link, session, what });
    }

    /// Tells of the frames that were lost in both directions of a link.
    pub(super) fn tell_lost(&mut self, link: u64) {
        for end in 0..2 {
            let lost = match self.wires.get_mut(link) {
                Some(wire) if !wire.flows[end].lost.is_empty() => {
                    std::mem::take(&mut wire.flows[end].lost)
                }
                _ => continue,
            };
            for passage in lost {
                self.tell_link(link, end, What::Lost(passage));
            }
        }
    }

    pub(super) fn is_blocked(&self, from: NodeNo, to: NodeNo) -> bool {
        !self.paths.is_empty() && self.paths.get(&(from, to)).is_some_and(|path| path.blocked)
    }

    pub(super) fn quality_of(&self, from: NodeNo, to: NodeNo) -> Quality {
        if self.paths.is_empty() {
            return self.quality;
        }
        let path = self.paths.get(&(from, to));
        path.and_then(|path| path.quality).unwrap_or(self.quality)
    }

    /// A time for something to travel.
    pub(super) fn travel(&mut self, quality: Quality) -> u64 {
        let jitter = self.rng.below(u64::from(quality.jitter) + 1);
        u64::from(quality.latency.max(1)) + jitter
    }

    pub(super) fn at(&mut self, tick: u64, event: Event) {
        let drawn = self.rng.next();
        self.agenda.add(tick, drawn, event);
        if self.armed.is_none_or(|armed| tick < armed)
            && let Some(driver) = self.driver.take()
        {
            self.wakes.push(driver);
        }
    }

    /// Runs what is due and says when the next is.
    pub(super) fn run_due(&mut self) -> Option<u64> {
        let now = self.now();
        while let Some(event) = self.agenda.take_due(now) {
            self.run(event, now);
        }
        self.armed = self.agenda.next_tick();
        self.armed
    }

    fn run(&mut self, event: Event, now: u64) {
        match event {
            Event::Pump { link, end } => self.pump(link, end, now),
            Event::Arrive { link, end } => self.arrive(link, end, now),
            Event::GiveUp { link, end } => self.give_up(link, end),
            Event::Wake { link, end } => self.wake(link, end),
            Event::Dial { dial } => self.dial(dial, now),
            Event::Answer { dial, outcome } => self.answer_dial(dial, outcome, now),
        }
    }

    pub(super) fn wake_later(&mut self, waker: Option<Waker>) {
        self.wakes.extend(waker);
    }

    pub(super) fn wake(&mut self, link: u64, end: usize) {
        if let Some(wire) = self.wires.get_mut(link) {
            let waker = wire.ends[end].waker.take();
            self.wakes.extend(waker);
        }
    }

    pub(super) fn violation(&mut self, link: u64, end: usize, fault: LinkFault) {
        if self.violations.len() < VIOLATIONS_MAX
            && let Some(wire) = self.wires.get(link)
        {
            self.violations.push(Violation {
                tick: self.now(),
                link,
                node: wire.nodes[end].to_string(),
                fault,
            });
        }
    }

    /// Sends off what may leave in direction `end` of a link.
    pub(super) fn pump(&mut self, link: u64, end: usize, now: u64) {
        let Some(wire) = self.wires.get(link) else {
            return;
        };
        let (from, to) = (wire.places[end], wire.places[1 - end]);
        let stream = wire.profile.limits.boundary == Boundary::Stream;
        let quality = self.quality_of(from, to);
        if wire.dead || self.is_blocked(from, to) {
            self.start_giving_up(link, end, now);
            return;
        }
        if wire.flows[end].stalled_until > now {
            return;
        }
        loop {
            let Some(wire) = self.wires.get_mut(link) else {
                return;
            };
            let flow = &mut wire.flows[end];
            if !flow.depart(now, quality.bandwidth) {
                if flow.is_waiting() {
                    self.at(now + 1, Event::Pump { link, end });
                }
                return;
            }
            for nth in 0..=PIECES_MAX {
                let cut = stream && nth < PIECES_MAX && self.cut_off(link, end);
                let arrival = now + self.travel(quality);
                if let Some(wire) = self.wires.get_mut(link) {
                    // One event lands all that comes within a tick.
                    if let Some(arrival) = wire.flows[end].fly(arrival) {
                        self.at(arrival, Event::Arrive { link, end });
                    }
                }
                if !cut {
                    break;
                }
            }
        }
    }

    /// Cuts a first part off the bytes that leave next on a stream, if the seed says so, at an
    /// arbitrary place; whether it did.
    fn cut_off(&mut self, link: u64, end: usize) -> bool {
        let departing = self.wires.get(link).and_then(|wire| wire.flows[end].departing());
        let Some(len) = departing.filter(|len| *len >= 2) else {
            return false;
        };
        if !self.rng.chance(PIECE_CHANCE) {
            return false;
        }
        let at = 1 + self.rng.below(len as u64 - 1) as usize;
        if let Some(wire) = self.wires.get_mut(link) {
            wire.flows[end].cut_departing(at);
        }
        true
    }

    fn arrive(&mut self, link: u64, end: usize, now: u64) {
        let Some(wire) = self.wires.get(link) else {
            return;
        };
        let (from, to) = (wire.places[end], wire.places[1 - end]);
        let limits = wire.profile.limits;
        if wire.dead || wire.flows[end].stalled_until > now {
            return;
        }
        if self.is_blocked(from, to) {
            self.start_giving_up(link, end, now);
            return;
        }
        let cut_chance = self.quality_of(from, to).cut_chance;
        let mut landed = false;
        loop {
            let Some(wire) = self.wires.get_mut(link) else {
                return;
            };
            match wire.flows[end].land(now, &limits) {
                None | Some(Landed::Blocked) => break,
                Some(Landed::Yes) => {
                    landed = true;
                    if self.rng.chance(cut_chance) {
                        self.cut(link);
                        break;
                    }
                }
                Some(Landed::ThenCut) => {
                    self.cut(link);
                    landed = true;
                    break;
                }
                Some(Landed::NoReceive) => {
                    self.no_receive(link, end, now, limits.underflow);
                    break;
                }
                Some(Landed::Fatal) => {
                    self.violation(link, end, LinkFault::Underflow);
                    self.kill(link, LinkFault::Underflow);
                    break;
                }
            }
        }
        self.tell_lost(link);
        if landed {
            self.wake(link, 1 - end);
            // Where nobody reads, the window opens as things arrive.
            if self.wires.get(link).is_some_and(|wire| wire.flows[end].unread) {
                self.wake(link, end);
            }
        }
    }

    /// The receiver is not ready: the sender's hardware tries again for a while.
    fn no_receive(&mut self, link: u64, end: usize, now: u64, underflow: Underflow) {
        let Underflow::Retries(patience) = underflow else {
            return;
        };
        let Some(wire) = self.wires.get_mut(link) else {
            return;
        };
        let since = match wire.flows[end].starving_since {
            Some(since) => since,
            None => {
                wire.flows[end].starving_since = Some(now);
                self.violation(link, end, LinkFault::Underflow);
                now
            }
        };
        if now - since >= patience.as_millis() as u64 {
            self.kill(link, LinkFault::Underflow);
        } else {
            self.at(now + 1, Event::Arrive { link, end });
        }
    }

    /// A link is over, by one of its ends or by what happened to it. The first who says so is right.
    pub(super) fn over(&mut self, link: u64, by: Option<Origin>) {
        let now = self.now();
        if let Some(wire) = self.wires.get_mut(link)
            && !std::mem::replace(&mut wire.over, true)
        {
            self.ends.push_back(wire.ended(link, now, by));
            if self.ends.len() > LINK_ENDS_MAX {
                self.ends.pop_front();
            }
        }
    }

    /// The acceptor of a link lets its dialler in, which may be after that has closed it.
    pub(super) fn accepted(&mut self, link: u64) {
        let Some(wire) = self.wires.get_mut(link) else {
            return;
        };
        wire.accepted = true;
        if wire.over
            && let Some(end) = self.ends.iter_mut().rev().find(|end| end.link == link)
        {
            end.accepted = Some(true);
        }
    }

    /// The user of an end has closed it, though it may still send the rest.
    pub(super) fn leaving(&mut self, link: u64, end: usize) {
        self.over(link, Some(Origin::of(end)));
        if let Some(wire) = self.wires.get_mut(link) {
            wire.ends[end].leaving = true;
        }
    }

    /// An end says that it leaves, in order after all it sent, or at once.
    pub(super) fn leave(&mut self, link: u64, end: usize, orderly: bool) {
        let now = self.now();
        self.over(link, Some(Origin::of(end)));
        let Some(wire) = self.wires.get_mut(link) else {
            return;
        };
        if !wire.ends[end].gone {
            wire.ends[end].gone = true;
            let notice = wire.profile.limits.close_notice;
            let out = &mut wire.flows[end];
            let last = if orderly {
                LinkFault::ClosedByPeer
            } else {
                out.unsend();
                LinkFault::Reset
            };
            if notice != CloseNotice::Never && !wire.dead {
                out.accept(Item::End(last));
            }
            let inward = &mut wire.flows[1 - end];
            inward.unread();
        }
        if wire.ends.iter().all(|end| end.gone) {
            wire.flows.iter_mut().for_each(Flow::lose);
            self.tell_lost(link);
            self.wires.remove(link);
            return;
        }
        self.tell_lost(link);
        self.pump(link, end, now);
        self.at(now + 1, Event::Arrive { link, end: 1 - end });
        self.wake(link, 1 - end);
    }
}
