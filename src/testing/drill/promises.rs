//! The promises, checked by what actors saw and what was sent, and by nothing else.
//!
//! ```text
//!   Took ──► Talk.out: what a session has taken, and how far its peer's handlers got
//!   Delivered ──► the Talks of both ends are one conversation, in order (S1, S2, S6)
//!   Ended ──► causes that can be, counts that add up, one end each (S4, S5)
//!   Received, Answered ──► S3, fates
//! ```

mod allowed;
mod calls;
mod deliveries;
mod ends;
mod last_words;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use stellate_actors::supervise::BACKOFF;
use stellate_protocol::limits::Limits;
use stellate_protocol::{Class, EntityKind, EntityName, Incarnation, Instance};

use self::allowed::Allowed;
use super::away::Away;
use super::case::Case;
use super::poison::Tally;
use super::told::{Answer, End, Place, Told, Way};
use crate::testing::{Breach, Checker, Happening, Seen};

/// An actor is built again after half of the first back-off, at the earliest, less a tick.
const REBUILT_AFTER: Duration = Duration::from_millis(BACKOFF.min.as_millis() as u64 / 2 - 1);

/// A session of one life of a node, as that node numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TalkId {
    pub(super) node: EntityName,
    pub(super) life: u64,
    pub(super) key: u64,
}

impl TalkId {
    /// The session at the end of a message's sender.
    fn of((node, life): (EntityName, u64), place: &Place) -> Self {
        Self { node, life, key: place.key }
    }
}

/// What a session took in one class.
#[derive(Debug, Default)]
pub(super) struct Out {
    /// How each message was sent; the first is number 1.
    pub(super) ways: Vec<Way>,
    /// Of them, those that ask for something back.
    pub(super) asked: usize,
    /// When each was taken.
    pub(super) taken: Vec<Duration>,
    /// Of those with an answer: the answer.
    pub(super) answers: BTreeMap<u64, Answer>,
    /// The next number that a handler there may see.
    pub(super) next: u64,
    /// Those that were skipped there, since their time was over.
    pub(super) skipped: BTreeSet<u64>,
    /// Handlers that were done with one, beyond those below the first gap.
    pub(super) finished: BTreeSet<u64>,
    /// Up to which number the peer is known to own all.
    pub(super) received: u64,
    /// Something was taken after the peer's death: nobody owns it but this side, so it must come
    /// back with the end of the session.
    pub(super) bereft: bool,
}

/// A session, as one end of it knows it.
#[derive(Debug)]
pub(super) struct Talk {
    /// The other side, once it is known.
    pub(super) peer: Option<EntityName>,
    pub(super) instance: Option<Instance>,
    /// In which life the peer was then.
    pub(super) peer_life: Option<u64>,
    /// The session at the other end, once a message has shown it.
    pub(super) mate: Option<TalkId>,
    pub(super) out: [Out; Class::COUNT],
    /// Messages whose handlers are not done, by class; requests not counted.
    pub(super) in_hand: [u64; Class::COUNT],
    /// Handed to handlers here.
    pub(super) opened: [u64; Class::COUNT],
    pub(super) closed: bool,
    pub(super) end: Option<End>,
}

/// One life of a node.
#[derive(Debug, Default)]
pub(super) struct Life {
    pub(super) over: bool,
    pub(super) gave_up: bool,
    pub(super) incarnation: Option<Incarnation>,
    /// Lanes that have something to send.
    lanes: u64,
    /// When the actor was built, the last time.
    started: Option<Duration>,
    /// When a handler of it panicked, since then.
    panicked: Option<Duration>,
    /// What actors said when they panicked, by their paths, and when: the last words of each.
    words: BTreeMap<&'static str, (Duration, String)>,
    /// When each panicked.
    panics: Vec<Duration>,
    /// Instances that the user let in.
    pub(super) let_in: BTreeSet<Instance>,
    /// Sessions that were seen and have not ended, by the peer's name.
    pub(super) open: BTreeMap<EntityName, BTreeSet<u64>>,
}

/// See the module.
pub(super) struct Promises {
    pub(super) talks: BTreeMap<TalkId, Talk>,
    pub(super) lives: BTreeMap<(EntityName, u64), Life>,
    /// In which life of which node an instance is.
    pub(super) instances: BTreeMap<Instance, (EntityName, u64)>,
    pub(super) allowed: Allowed,
    limits: Limits,
    away: Away,
    delivered: Arc<AtomicU64>,
    tally: Arc<Tally>,
}

/// Whether the two make a lossless pair.
pub(super) fn is_lossless(a: EntityName, b: EntityName) -> bool {
    [a, b].iter().all(|name| name.kind() != EntityKind::MDS)
}

impl Promises {
    /// `delivered` and `tally` are where messages are counted.
    pub(super) fn new(case: &Case, delivered: Arc<AtomicU64>, tally: Arc<Tally>) -> Self {
        let (talks, lives) = (BTreeMap::new(), BTreeMap::new());
        let instances = BTreeMap::new();
        let (allowed, limits, away) = (Allowed::new(case), case.limits(), Away::new(case));
        Self { talks, lives, instances, allowed, limits, away, delivered, tally }
    }

    pub(super) fn talk(&mut self, id: TalkId) -> &mut Talk {
        self.talks.entry(id).or_insert_with(Talk::new)
    }

    pub(super) fn life(&mut self, node: EntityName, life: u64) -> &mut Life {
        self.lives.entry((node, life)).or_default()
    }

    pub(super) fn is_over(&self, id: &TalkId) -> bool {
        self.lives.get(&(id.node, id.life)).is_none_or(|life| life.over || life.gave_up)
    }

    fn told(&mut self, at: Duration, me: (EntityName, u64), told: &Told) -> Result<(), Breach> {
        self.speaks(me, told)?;
        let (node, life) = me;
        let id = |key: u64| TalkId { node, life, key };
        match told {
            Told::Started => self.started(at, me),
            Told::Panics { path, words } => {
                self.panics(at, me, path, words);
                Ok(())
            }
            Told::Lane(begins) => {
                let lanes = &mut self.life(node, life).lanes;
                *lanes = if *begins { *lanes + 1 } else { lanes.saturating_sub(1) };
                Ok(())
            }
            Told::Took { to, place, way } => self.took(at, id(place.key), (*to, place), *way),
            Told::Delivered { key, from, place, intact } => {
                self.delivered.fetch_add(1, Ordering::Relaxed);
                self.tally.count(from.0, node);
                self.delivered(id(*key), TalkId::of(*from, place), place, *intact)
            }
            Told::Finished { key, from, place } => {
                self.finished(id(*key), TalkId::of(*from, place), place)
            }
            Told::Received(place) => self.received(id(place.key), place),
            Told::Answered(place, answer) => self.answered(id(place.key), place, answer),
            Told::Closed(key) => {
                self.talk(id(*key)).closed = true;
                Ok(())
            }
            Told::Booted(identity) => {
                self.instances.insert(identity.instance, me);
                self.life(node, life).incarnation = identity.incarnation;
                Ok(())
            }
            Told::LetIn(instance) => {
                self.life(node, life).let_in.insert(*instance);
                Ok(())
            }
            Told::Connected { key, peer, instance } => {
                let life = self.instances.get(instance).map(|(_, life)| *life);
                self.talk(id(*key)).peer_life = life;
                self.connected(id(*key), *peer, *instance)
            }
            Told::Ended { key, peer, end } => self.ended(at, id(*key), *peer, end),
            Told::Conflict(name) if self.allowed.twins.contains(name) => Ok(()),
            Told::Conflict(name) => {
                let text = format!("{node} was told of two live processes called {name}");
                Err(Breach::new("S6", text))
            }
            Told::Late(_) if self.allowed.stalls.contains(&node) => Ok(()),
            // Virtual time waits for everybody.
            Told::Late(late) => Err(Breach::new("S9", format!("{node} woke {late:?} late"))),
            Told::Wrong { invariant, text } => {
                Err(Breach::new(*invariant, format!("{node}: {text}")))
            }
            Told::GaveUp(word) => self.gave_up(at, me, word),
        }
    }

    /// V1, V2: it is built again, and not in a spin.
    fn started(&mut self, at: Duration, (node, life): (EntityName, u64)) -> Result<(), Breach> {
        let panics = self.allowed.panics.contains(&node);
        let of = self.life(node, life);
        let (before, panicked) = (of.started.replace(at), of.panicked.take());
        // What the value before had in hand went with it.
        let mine = self.talks.range_mut(TalkId { node, life, key: 0 }..);
        mine.take_while(|(id, _)| (id.node, id.life) == (node, life))
            .for_each(|(_, talk)| talk.in_hand = [0; Class::COUNT]);
        match before {
            Some(_) if !panics => {
                Err(Breach::new("V1", format!("the actor of {node} was built twice, for nothing")))
            }
            Some(before) if at - panicked.unwrap_or(before) < REBUILT_AFTER => {
                let after = at - panicked.unwrap_or(before);
                let text = format!("the actor of {node} was built again after {after:?}");
                Err(Breach::new("V2", text))
            }
            _ => Ok(()),
        }
    }

    /// What the phase after healing waits for (S8), the first of it.
    fn first_open(&self) -> Option<String> {
        for ((node, life), of) in &self.lives {
            if !of.over && of.lanes > 0 {
                return Some(format!("{} lanes of {node} in life {life}", of.lanes));
            }
        }
        let mut live = self.talks.iter().filter(|(id, _)| !self.is_over(id));
        live.find_map(|(id, talk)| self.waits(id, talk))
    }

    /// Whether that life of the peer is over which received what was sent, or may have: nobody owes
    /// its messages then (S2), and who has had all of them acknowledged hears of it when it has
    /// something to say again.
    pub(super) fn died_with_it(&self, peer: EntityName, talk: &Talk) -> bool {
        talk.peer_life.is_some_and(|life| self.lives.get(&(peer, life)).is_some_and(|of| of.over))
    }

    /// Whether it is not known which life of the peer the session is with, and one of them is over.
    pub(super) fn may_have_died(&self, peer: EntityName, talk: &Talk) -> bool {
        let mut lives = self.lives.range((peer, 0)..).take_while(|((of, _), _)| *of == peer);
        talk.peer_life.is_none() && lives.any(|(_, life)| life.over)
    }

    fn waits(&self, id: &TalkId, talk: &Talk) -> Option<String> {
        let peer = talk.peer?;
        if let Some(mate) = self.closed_by_one_that_goes_on(id, talk) {
            return Some(format!(
                "the end of session {} of {}, which is said to have closed session {} of {}",
                mate.key, mate.node, id.key, id.node
            ));
        }
        for (class, out) in Class::ALL.iter().zip(&talk.out) {
            let taken = out.ways.len() as u64;
            let what = |what: &str| {
                Some(format!("{what} of {taken} from {} to {peer}, {class:?}", id.node))
            };
            // Nearly always all were answered: it is asked after each event.
            let is_open = out.asked > out.answers.len();
            let mut open = out.ways.iter().zip(1..).filter(|_| is_open);
            let first = open.find(|(way, n)| **way != Way::Plain && !out.answers.contains_key(n));
            if let Some((way, n)) = first {
                return what(&format!("the answer of {n} ({way:?})"));
            }
            let excused = self.died_with_it(peer, talk) && !out.bereft;
            let lossless = is_lossless(id.node, peer) && !excused;
            if lossless && talk.end.is_none() && out.next <= taken && !out.rest_may_lapse() {
                return what(&format!("message {}", out.next));
            }
        }
        None
    }
}

impl Talk {
    fn new() -> Self {
        let out = || Out { next: 1, ..Out::default() };
        Self {
            peer: None,
            instance: None,
            peer_life: None,
            mate: None,
            out: [out(), out(), out(), out()],
            in_hand: [0; Class::COUNT],
            opened: [0; Class::COUNT],
            closed: false,
            end: None,
        }
    }
}

impl Out {
    /// How it was sent; `None` if no session took it.
    pub(super) fn way(&self, n: u64) -> Option<Way> {
        let index = usize::try_from(n.checked_sub(1)?).ok()?;
        self.ways.get(index).copied()
    }

    /// Whether it need not be handed out: its time was over, or it never left.
    pub(super) fn may_lapse(&self, n: u64) -> bool {
        matches!(self.way(n), Some(Way::Ask { timed: true }))
            || matches!(self.answers.get(&n), Some(Answer::NotSent | Answer::Wrong(_)))
    }

    fn rest_may_lapse(&self) -> bool {
        (self.next..=self.ways.len() as u64).all(|n| self.may_lapse(n))
    }
}

impl Checker for Promises {
    fn see(&mut self, seen: &Seen<'_>) -> Result<(), Breach> {
        match seen.what {
            Happening::Booted => {
                self.life(seen.node, seen.life);
            }
            Happening::Crashed => {
                self.is_silent(seen.at, seen.node, seen.life)?;
                self.life(seen.node, seen.life).over = true;
            }
            _ => {}
        }
        tracing::debug!(at = ?seen.at, node = %seen.node, told = ?seen.note::<Told>());
        match seen.note::<Told>() {
            Some(told) => self.told(seen.at, (seen.node, seen.life), told),
            None => Ok(()),
        }
    }

    fn is_settled(&self) -> bool {
        self.first_open().is_none()
    }

    fn waits_for(&self) -> String {
        self.first_open().unwrap_or_default()
    }

    fn finish(&mut self) -> Result<(), Breach> {
        self.talks.iter().try_for_each(|(id, talk)| self.adds_up(id, talk))
    }
}

impl Promises {
    /// S7: no handler has more in hand than the window lets in.
    pub(super) fn in_window(&self, id: &TalkId, talk: &Talk) -> Result<(), Breach> {
        for (class, (held, max)) in
            Class::ALL.iter().zip(talk.in_hand.iter().zip(self.limits.window_messages))
        {
            if *held > u64::from(max) {
                let text = format!("{} has {held} of {class:?} in hand, window {max}", id.node);
                return Err(Breach::new("S7", text));
            }
        }
        Ok(())
    }
}

/// For the messages of breaches.
pub(super) fn said(id: &TalkId, place: &Place) -> String {
    format!("{}/{} session {} {:?} {}", id.node, id.life, id.key, place.class, place.n)
}
