//! What a session waits for and since when, put together from all who know a part of it.
//!
//! ```text
//!   outbox ─► protocol: window, link, ack ─► link        links and dials: the session's actor
//!   inboxes, handlers ◄─ dispatch ◄─ held ◄──── link     queues: the inboxes, and the ledger
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use stellate_protocol::session::{Phase, Session, Trouble, WaitsFor, Why};
use stellate_protocol::{Class, Lane, Parcel, Time};
use stellate_transport::DialError;

use crate::inbox::Inbox;
use crate::node::Node;
use crate::shared::SessionShared;

/// What a session waits for; nothing of it is there if nothing waits.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Waiting {
    /// The message of ours that has waited longest for what it waits for now.
    pub oldest: Option<Oldest>,
    /// Messages and bytes of ours that the peer is not known to have.
    pub outbox: (u64, u64),
    /// There is no link.
    pub no_link: Option<NoLink>,
    /// The peer keeps what it gets until its user admits us.
    pub held_there: bool,
    /// We keep what we get until our user admits the peer.
    pub held_here: bool,
    /// What was received and waits in front of our actors, by their names.
    pub queues: Vec<Queue>,
    /// What was received and is on its way to those queues, or kept from them by our admission.
    pub undispatched: u64,
    /// Handlers have it and are not done.
    pub in_hand: u64,
    /// Requests and notifies of ours that have no outcome yet.
    pub open_calls: u64,
}

/// The message of ours that has waited longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Oldest {
    /// Its class.
    pub class: Class,
    /// Whether it answers a request of the peer.
    pub is_reply: bool,
    /// Its place in its class, from 1.
    pub position: u64,
    /// What it waits for.
    pub waits_for: WaitsFor,
    /// For how long it has waited for that.
    pub since: Duration,
}

/// A session without a link.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NoLink {
    /// What is done about it.
    pub phase: Phase,
    /// For how long there was none.
    pub since: Duration,
    /// What became of the last try.
    pub trouble: Option<Trouble>,
    /// What the transport said to it, where it said something.
    pub dial: Option<DialError>,
}

/// Messages in front of an actor.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Queue {
    /// The actor's name in the tree.
    pub actor: String,
    /// How many of this session.
    pub messages: u64,
    /// For how long the first of them has waited.
    pub since: Duration,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        let others = self.undispatched + self.in_hand + self.open_calls;
        self.oldest.is_none() && self.queues.is_empty() && others == 0
    }
}

impl SessionShared {
    /// What the session waits for; `None` if nothing waits, or it has ended.
    pub fn waiting(&self) -> Option<Waiting> {
        let node = self.owner()?;
        self.intake().err().flatten().is_none().then_some(())?;
        let snapshot = self.snapshot();
        let now = node.now();
        let oldest = snapshot.why.map(|(why, since)| Oldest {
            class: why.lane.class(),
            is_reply: why.lane.is_replies(),
            position: why.position,
            waits_for: why.waits_for,
            since: now.since(since),
        });
        let no_link = snapshot.no_link.map(|since| NoLink {
            phase: snapshot.phase.unwrap_or(Phase::Backoff),
            since: now.since(since),
            trouble: snapshot.trouble,
            dial: self.dial_error().filter(|_| snapshot.trouble == Some(Trouble::DialFailed)),
        });
        let queues = self.queues(&node, now);
        let queued: u64 = queues.iter().map(|queue| queue.messages).sum();
        let (unopened, in_hand) = self.unopened_and_in_hand();
        let waiting = Waiting {
            oldest,
            outbox: self.outbox(),
            no_link,
            held_there: snapshot.held_there,
            held_here: snapshot.holding,
            undispatched: unopened.saturating_sub(queued) + snapshot.kept,
            queues,
            in_hand,
            open_calls: self.open_calls(),
        };
        (!waiting.is_empty()).then_some(waiting)
    }

    fn queues(&self, node: &Node, now: Time) -> Vec<Queue> {
        let routes = node.router().routes();
        // An inbox of several types once.
        let inboxes: BTreeMap<usize, &Arc<Inbox>> =
            routes.inboxes().map(|inbox| (Arc::as_ptr(inbox) as usize, inbox)).collect();
        let waits = inboxes.into_values().filter_map(|inbox| {
            let (messages, first) = inbox.waiting_of(self.key())?;
            let since = now.since(Time(first));
            Some(Queue { actor: inbox.name().to_owned(), messages, since })
        });
        let mut queues: Vec<_> = waits.collect();
        queues.sort_by(|one, other| one.actor.cmp(&other.actor));
        queues
    }
}

/// What a session's actor remembers of waits, from turn to turn.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Of the lanes that ever got a message.
    waits: [Option<(Why, Time)>; Lane::COUNT],
    no_link: Option<Time>,
}

impl Watch {
    /// The longest wait of a message, and since when there is no link.
    pub(crate) fn look(
        &mut self,
        core: &Session<Parcel>,
        now: Time,
    ) -> (Option<(Why, Time)>, Option<Time>) {
        let mut longest: Option<(Why, Time)> = None;
        for lane in core.lanes_used() {
            let known = &mut self.waits[lane.index()];
            let Some(why) = core.wait_of(lane) else {
                *known = None;
                continue;
            };
            let since = match known {
                Some((earlier, since)) if why.goes_on(earlier) => *since,
                _ => now,
            };
            *known = Some((why, since));
            if longest.is_none_or(|(_, longest)| since < longest) {
                longest = *known;
            }
        }
        self.no_link = match core.phase() {
            Phase::Up => None,
            _ => self.no_link.or(Some(now)),
        };
        (longest, self.no_link)
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if let Some(no_link) = &self.no_link {
            parts.push(no_link.to_string());
        }
        if let Some(oldest) = &self.oldest {
            parts
                .push(format!("{oldest}; {} messages, {} B unacked", self.outbox.0, self.outbox.1));
        }
        if self.held_there {
            parts.push("the peer has not admitted us".to_owned());
        }
        if self.held_here {
            parts.push("our admission holds the peer".to_owned());
        }
        parts.extend(self.queues.iter().map(ToString::to_string));
        if self.undispatched > 0 {
            parts.push(format!("{} received and not in front of an actor yet", self.undispatched));
        }
        if self.in_hand > 0 {
            parts.push(format!("{} in hand", self.in_hand));
        }
        match self.open_calls {
            0 => {}
            1 => parts.push("1 answer is awaited".to_owned()),
            open => parts.push(format!("{open} answers are awaited")),
        }
        f.write_str(&parts.join("; "))
    }
}

impl fmt::Display for Oldest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.is_reply { "reply" } else { "message" };
        let waits_for = match self.waits_for {
            WaitsFor::Link(_) => "a link",
            WaitsFor::Window => "the peer's window",
            WaitsFor::Admission => "the peer's admission",
            WaitsFor::LinkRoom => "room on the link",
            WaitsFor::Ack => "the peer's ack",
        };
        let Self { class, position, since, .. } = self;
        write!(f, "{class:?} {what} {position} waits {since:.1?} for {waits_for}")
    }
}

impl fmt::Display for NoLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no link for {:.1?} ({:?}", self.since, self.phase)?;
        match (&self.dial, &self.trouble) {
            (Some(dial), _) => write!(f, ": {dial})"),
            (None, Some(trouble)) => write!(f, ": {trouble})"),
            (None, None) => f.write_str(")"),
        }
    }
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { actor, messages, since } = self;
        write!(f, "{messages} in front of actor {actor:?} for {since:.1?}")
    }
}
