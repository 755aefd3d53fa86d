//! The state of the model: two nodes, the links between them, and the ghosts of their users.
//!
//! Ghosts are what users saw and did. The properties compare them with each other and with the
//! counts that sessions report; no rule reads them.

use std::collections::{BTreeSet, VecDeque};

use stellate_protocol::class::Lane;
use stellate_protocol::directory::{Directory, SessionKey};
use stellate_protocol::event::{ClassCounts, Delivery, Done, EndCause};
use stellate_protocol::frame::Frame;
use stellate_protocol::id::{LinkId, Question, SessionId};
use stellate_protocol::session::{Phase, Session};

use super::cached::Cached;
use super::payload::Word;
use super::spec::{Budget, Spec};

/// What the user of one session saw and did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Ghost {
    /// Submitted, in order: lane and name.
    pub(crate) submitted: Vec<(Lane, u8)>,
    /// Last position told as received, per lane.
    pub(crate) acked: [u64; Lane::COUNT],
    /// Handed out, not opened.
    pub(crate) inbox: VecDeque<Delivery<Word>>,
    /// Opened by a handler, in order.
    pub(crate) opened: Vec<(Lane, u8)>,
    /// Opened, not done.
    pub(crate) in_hand: VecDeque<(Delivery<Word>, Done)>,
    /// Requests without an outcome.
    pub(crate) asking: BTreeSet<u8>,
    /// `Connected` was told.
    pub(crate) connected: bool,
    /// The user was asked this last, to admit the peer, and has not answered.
    pub(crate) asked: Option<Question>,
}

impl Ghost {
    pub(crate) fn opened_in(&self, lane: Lane) -> u64 {
        self.opened.iter().filter(|(of, _)| *of == lane).count() as u64
    }

    pub(crate) fn submitted_in(&self, lane: Lane) -> impl Iterator<Item = u8> + '_ {
        self.submitted.iter().filter(move |(of, _)| *of == lane).map(|(_, id)| *id)
    }

    pub(crate) fn waiting_in(&self, lane: Lane) -> u64 {
        let waits = |delivery: &&Delivery<Word>| delivery.message.lane == lane;
        self.inbox.iter().filter(waits).count() as u64
    }
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Over {
    pub(crate) cause: EndCause,
    pub(crate) counts: [ClassCounts; 4],
    pub(crate) goes_on: bool,
}

/// A session and its user, alive or not.
#[derive(Clone, Debug, PartialEq, Hash)]
pub(crate) struct Life {
    pub(crate) session: Cached<Session<Word>>,
    pub(crate) ghost: Cached<Ghost>,
    pub(crate) over: Option<Over>,
    /// Which start of its node it belongs to.
    pub(crate) start: u8,
    /// Its node restarted before it ended: nobody is there to be told.
    pub(crate) gone: bool,
}

impl Life {
    pub(crate) fn new(session: Session<Word>, start: u8) -> Self {
        Self {
            session: Cached::new(session),
            ghost: Cached::new(Ghost::default()),
            over: None,
            start,
            gone: false,
        }
    }

    pub(crate) fn lives(&self) -> bool {
        self.over.is_none() && !self.gone
    }

    pub(crate) fn id(&self) -> SessionId {
        self.session.id()
    }

    pub(crate) fn is_up(&self) -> bool {
        self.session.phase() == Phase::Up
    }
}

/// One messenger.
#[derive(Clone, Debug, PartialEq, Hash)]
pub(crate) struct Node {
    pub(crate) start: u8,
    pub(crate) attempt: u64,
    pub(crate) born: u8,
    pub(crate) directory: Cached<Directory>,
    /// By [`SessionKey`]; never removed.
    pub(crate) lives: Vec<Life>,
    pub(crate) dials: BTreeSet<SessionKey>,
    /// How much of its script the user has said.
    pub(crate) said: u8,
    pub(crate) left: bool,
    /// Its dials get no answer any more.
    pub(crate) walled: bool,
}

impl Node {
    fn new() -> Self {
        Self {
            start: 1,
            attempt: 0,
            born: 0,
            directory: Cached::new(Directory::new()),
            lives: Vec::new(),
            dials: BTreeSet::new(),
            said: 0,
            left: false,
            walled: false,
        }
    }

    pub(crate) fn life(&self, key: SessionKey) -> &Life {
        &self.lives[key.0 as usize]
    }

    pub(crate) fn living(&self) -> impl Iterator<Item = (SessionKey, &Life)> {
        let keyed = (0u64..).map(SessionKey).zip(&self.lives);
        keyed.filter(|(_, life)| life.lives())
    }
}

/// One end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum End {
    /// Accepted, waits for a hello.
    Fresh,
    /// Owned by a session.
    Of(SessionKey),
    /// Closed here, or told that it is lost.
    Shut,
}

/// A link: two queues of frames in flight.
#[derive(Clone, Debug, PartialEq, Hash)]
pub(crate) struct Link {
    pub(crate) ends: [End; 2],
    /// By receiver.
    pub(crate) queues: [VecDeque<Frame<Word>>; 2],
    /// Nothing sent from now on arrives; what is in flight may.
    pub(crate) cut: bool,
    /// By receiver: the other end closed without draining, so what is in flight may be lost.
    pub(crate) abrupt: [bool; 2],
    /// By sender: frames sent minus slots granted (F6).
    pub(crate) spent: [u32; 2],
}

impl Link {
    pub(crate) fn new(dialler: usize, key: SessionKey) -> Self {
        let mut ends = [End::Fresh; 2];
        ends[dialler] = End::Of(key);
        Self { ends, queues: Default::default(), cut: false, abrupt: [false; 2], spent: [0; 2] }
    }

    /// Whether `node` may be told that the link is gone.
    pub(crate) fn may_be_lost(&self, node: usize) -> bool {
        let other = self.ends[1 - node] == End::Shut;
        let drained = self.queues[node].is_empty() || self.abrupt[node];
        self.ends[node] != End::Shut && (self.cut || (other && drained))
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.cut || self.ends.contains(&End::Shut)
    }
}

/// The whole.
#[derive(Clone, Debug, PartialEq, Hash)]
pub(crate) struct World {
    pub(crate) nodes: [Node; 2],
    /// By [`LinkId`]; the same id at both nodes, used again once both ends are shut.
    pub(crate) links: Vec<Option<Link>>,
    pub(crate) left: Budget,
    /// The first promise that a step broke, if any.
    pub(crate) broken: Option<String>,
}

impl World {
    pub(crate) fn new(spec: &Spec) -> Self {
        Self {
            nodes: [Node::new(), Node::new()],
            links: Vec::new(),
            left: spec.budget,
            broken: None,
        }
    }

    pub(crate) fn link(&self, id: LinkId) -> Option<&Link> {
        self.links.get(id.0 as usize)?.as_ref()
    }

    pub(crate) fn link_mut(&mut self, id: LinkId) -> Option<&mut Link> {
        self.links.get_mut(id.0 as usize)?.as_mut()
    }

    pub(crate) fn links(&self) -> impl Iterator<Item = (LinkId, &Link)> {
        let numbered = (0u64..).map(LinkId).zip(&self.links);
        numbered.filter_map(|(id, link)| Some((id, link.as_ref()?)))
    }

    pub(crate) fn breaks(&mut self, what: impl Into<String>) {
        self.broken.get_or_insert(what.into());
    }
}
