//! A few nodes in one thread: directories, sessions, users, and links that are drained by hand.
//!
//! ```text
//!   World ── nodes: [Node: Directory, sides: [Side: Session + Watch + user's hands]]
//!         └─ wires: two queues of frames each, which can be cut, stalled, or lose one way
//! ```
//!
//! It does what a session's outputs say, in order, as production's actors do; time moves only in
//! [`World::advance`]. Every promise that can be checked all the time is checked all the time.
#![allow(dead_code, missing_docs, unreachable_pub)] // each test file uses its part

mod shell;
mod user;
mod wire;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use stellate_protocol::directory::{Directory, SessionKey};
use stellate_protocol::event::{Decision, Input};
use stellate_protocol::frame::{Frame, FrameKind};
use stellate_protocol::limits::Limits;
use stellate_protocol::policy::Policy;
use stellate_protocol::session::{Config, Coverage, Session};
use stellate_protocol::*;
#[allow(unused_imports)] // each test file uses its part
pub use user::{Answers, Side, parcel, tag_of};
#[allow(unused_imports)] // each test file uses its part
pub use wire::{Item, Wire};

/// One side of one session: node and key.
pub type Conn = (usize, SessionKey);

pub const A: usize = 0;
pub const B: usize = 1;

/// A messenger: what its users configured, and what it knows.
pub struct Node {
    pub me: Identity,
    pub limits: Limits,
    pub dial: Policy,
    pub accept: Policy,
    pub metadata: Bytes,
    /// What the user's admission answers at once; absent if nobody asks.
    pub admission: Option<Admit>,
    /// Receives on each link, and their bytes.
    pub slots: Option<u32>,
    /// Its fabric takes frames up to a slot, not bytes.
    pub whole: bool,
    pub directory: Directory,
    pub sides: BTreeMap<SessionKey, Side>,
    pub attempt: Attempt,
    /// Nobody answers dials, nothing is handled.
    pub down: bool,
    /// It has too many sessions.
    pub busy: bool,
}

/// What an admission handler does.
#[derive(Clone, Debug, PartialEq)]
pub enum Admit {
    Says(Decision),
    Silent,
}

/// What becomes of a dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    Open,
    Refused,
    /// No answer at all.
    BlackHole,
    /// The link comes up, and nothing that is sent on it from here arrives.
    Deaf,
}

pub struct World {
    pub now: Time,
    pub nodes: Vec<Node>,
    pub wires: BTreeMap<LinkId, Wire>,
    pub dials: VecDeque<Conn>,
    pub reach: BTreeMap<(usize, usize), Reach>,
    pub jitter: u16,
    /// Frames delivered so far, of all links.
    pub frames: u64,
    /// Cut the link on which this frame would arrive.
    pub cut_before: Option<u64>,
    /// Frames of this kind arrive at this node with a bad checksum.
    pub corrupt: Option<(usize, FrameKind)>,
    /// Frames travel as bytes.
    pub codec: bool,
    /// Kinds delivered, in order.
    pub trace: Vec<(usize, FrameKind)>,
    /// Frames that a link takes before its session must wait.
    pub room: usize,
    todo: VecDeque<(Conn, Input<Parcel>)>,
    next_link: u64,
    next_key: u64,
    next_session: u128,
    stuck: u32,
}

impl World {
    pub fn new(names: &[(EntityName, Policy, Policy)]) -> Self {
        let mut world = Self {
            now: Time(1),
            nodes: Vec::new(),
            wires: BTreeMap::new(),
            dials: VecDeque::new(),
            reach: BTreeMap::new(),
            jitter: 0,
            frames: 0,
            cut_before: None,
            corrupt: None,
            codec: false,
            trace: Vec::new(),
            room: usize::MAX,
            todo: VecDeque::new(),
            next_link: 0,
            next_key: 0,
            next_session: 0x5e55,
            stuck: 0,
        };
        for (name, dial, accept) in names {
            world.add(*name, *dial, *accept);
        }
        world
    }

    /// Two lossless peers, `osd.1` and `osd.2`: the second has the greater rank.
    pub fn peers() -> Self {
        let peer = Policy::lossless_peer();
        Self::new(&[(EntityName::osd(1), peer, peer), (EntityName::osd(2), peer, peer)])
    }

    /// Node A dials with `client`, node B answers with `server`.
    pub fn pair(client: Policy, server: Policy) -> Self {
        Self::new(&[(EntityName::client(1), client, client), (EntityName::osd(2), server, server)])
    }

    pub fn add(&mut self, name: EntityName, dial: Policy, accept: Policy) -> usize {
        let me = Identity {
            name,
            role: None,
            instance: Instance(1000 + self.nodes.len() as u128),
            incarnation: None,
        };
        self.nodes.push(Node {
            me,
            // Short, so that bodies of some ten thousand bytes are pulled.
            limits: Limits { slot_bytes: 8 * 1024, ..Limits::default() },
            dial,
            accept,
            metadata: Bytes::new(),
            admission: None,
            slots: None,
            whole: false,
            directory: Directory::new(),
            sides: BTreeMap::new(),
            attempt: Attempt(0),
            down: false,
            busy: false,
        });
        self.nodes.len() - 1
    }

    pub fn limits(&mut self, change: impl Fn(&mut Limits)) {
        self.nodes.iter_mut().for_each(|node| change(&mut node.limits));
    }

    /// `connect` of node `from` to whatever runs at node `to`, by its name.
    pub fn connect(&mut self, from: usize, to: usize) -> Conn {
        self.connect_as(from, to, self.nodes[to].me.name)
    }

    /// As `connect`, believing that `name` runs there.
    pub fn connect_as(&mut self, from: usize, to: usize, name: EntityName) -> Conn {
        if let Some(key) = self.nodes[from].directory.lookup(name) {
            return (from, key);
        }
        let conn = (from, self.fresh_key());
        let id = SessionId(self.next_session);
        self.next_session += 1;
        let config = self.config(from, name, self.nodes[from].dial);
        let session = Session::dial(config, id, self.now);
        self.nodes[from].directory.dialled(conn.1, name, id, false);
        self.enter(conn, session, to);
        self.follow(conn);
        self.work();
        conn
    }

    fn fresh_key(&mut self) -> SessionKey {
        self.next_key += 1;
        SessionKey(self.next_key)
    }

    fn config(&self, node: usize, target: EntityName, policy: Policy) -> Config {
        let node = &self.nodes[node];
        Config {
            limits: node.limits,
            me: node.me,
            target,
            policy,
            metadata: node.metadata.clone(),
            admission: node.admission.is_some(),
        }
    }

    fn enter(&mut self, conn: Conn, session: Session<Parcel>, target: usize) {
        let side = Side::new(conn, session, target);
        self.nodes[conn.0].sides.insert(conn.1, side);
    }

    pub fn side(&self, conn: Conn) -> &Side {
        &self.nodes[conn.0].sides[&conn.1]
    }

    pub fn side_mut(&mut self, conn: Conn) -> &mut Side {
        self.nodes[conn.0].sides.get_mut(&conn.1).expect("a known side")
    }

    /// The sides of a node, oldest first.
    pub fn all(&self, node: usize) -> Vec<Conn> {
        self.nodes[node].sides.keys().map(|key| (node, *key)).collect()
    }

    /// The only session of a node.
    pub fn only(&self, node: usize) -> Conn {
        let all = self.all(node);
        assert_eq!(all.len(), 1, "node {node} has sessions {all:?}");
        all[0]
    }

    /// The latest session of a node.
    pub fn last(&self, node: usize) -> Conn {
        *self.all(node).last().expect("a session")
    }

    // --- time and delivery ------------------------------------------------------------------

    /// Gives a session an input, and does all that follows at once.
    pub fn feed(&mut self, conn: Conn, input: Input<Parcel>) {
        self.todo.push_back((conn, input));
        self.work();
    }

    /// Delivers everything that is on its way; time stands still.
    pub fn run(&mut self) {
        self.work();
        let mut steps = 0;
        while self.step(0) {
            steps += 1;
            assert!(steps < 2_000_000, "never quiet: {:?}", self.tail());
        }
    }

    /// One dial or one frame; `choice` picks which. False if nothing is on its way.
    pub fn step(&mut self, choice: usize) -> bool {
        let dials = usize::from(!self.dials.is_empty());
        let ready: Vec<(LinkId, usize)> = self.ready_wires().collect();
        let total = dials + ready.len();
        if total == 0 {
            return false;
        }
        // In turn over the links when nobody chooses, so that none starves.
        let choice = if choice == 0 { self.frames as usize } else { choice };
        match (choice % total).checked_sub(dials) {
            None => self.dial_next(),
            Some(index) => {
                let (link, to) = ready[index];
                self.deliver(link, to);
            }
        }
        true
    }

    /// Lets time pass, timers fire in order, and everything be delivered at once.
    pub fn advance(&mut self, span: Duration) {
        let until = self.now.after(span);
        self.run();
        while let Some(due) = self.next_timeout().filter(|due| *due <= until) {
            self.stuck = if due > self.now { 0 } else { self.stuck + 1 };
            assert!(self.stuck < 1000, "S8: spins at {:?}: {:?}", self.now, self.tail());
            self.now = self.now.max(due);
            self.fire_timers();
            self.run();
        }
        self.now = until;
    }

    pub fn millis(&mut self, millis: u64) {
        self.advance(Duration::from_millis(millis));
    }

    pub fn secs(&mut self, secs: u64) {
        self.advance(Duration::from_secs(secs));
    }

    /// Time passes and nobody wakes: then all due timers fire late.
    pub fn oversleep(&mut self, span: Duration) {
        self.now = self.now.after(span);
        self.fire_timers();
        self.run();
    }

    pub fn next_timeout(&self) -> Option<Time> {
        self.live_sides().filter_map(|side| side.session.poll_timeout()).min()
    }

    pub fn fire_timers(&mut self) {
        let due = |side: &Side| side.session.poll_timeout().filter(|due| *due <= self.now);
        let due: Vec<(Conn, Time)> =
            self.live_sides().filter_map(|side| Some((side.conn, due(side)?))).collect();
        for (conn, due) in due {
            let late = self.now.since(due).as_nanos() as u64;
            self.feed(conn, Input::Timer { jitter: self.jitter, late });
        }
    }

    fn live_sides(&self) -> impl Iterator<Item = &Side> {
        self.nodes
            .iter()
            .filter(|node| !node.down)
            .flat_map(|node| node.sides.values())
            .filter(|side| !side.dead)
    }

    fn tail(&self) -> &[(usize, FrameKind)] {
        &self.trace[self.trace.len().saturating_sub(12)..]
    }

    // --- what tests look at -------------------------------------------------------------------

    /// How many frames of a kind arrived at a node.
    pub fn arrived(&self, node: usize, kind: FrameKind) -> usize {
        self.trace.iter().filter(|seen| **seen == (node, kind)).count()
    }

    pub fn phase(&self, conn: Conn) -> session::Phase {
        self.side(conn).session.phase()
    }

    /// Hits of all sessions that ever were.
    pub fn coverage(&self) -> Coverage {
        let mut coverage = Coverage::default();
        let sides = self.nodes.iter().flat_map(|node| node.sides.values());
        sides.for_each(|side| coverage.merge(side.session.coverage()));
        coverage
    }

    /// The two sides of each session, as far as that is clear.
    pub fn couples(&self) -> Vec<(Conn, Conn)> {
        let sides = || self.nodes.iter().flat_map(|node| node.sides.values());
        let mut couples = Vec::new();
        for left in sides() {
            let same = |right: &&Side| right.session.id() == left.session.id();
            let mut all = sides().filter(same);
            if let (Some(first), Some(second), None) = (all.next(), all.next(), all.next())
                && first.conn == left.conn
            {
                couples.push((first.conn, second.conn));
            }
        }
        couples
    }

    /// A frame out of nothing arrives at `conn` on its link.
    pub fn forge(&mut self, conn: Conn, frame: Frame<Parcel>) {
        let link = self.side(conn).session.link().expect("a link");
        self.feed(conn, Input::Frame { link, frame });
    }
}

thread_local! {
    /// Rows that the worlds of this thread took.
    pub static COVERAGE: std::cell::RefCell<Coverage> = std::cell::RefCell::default();
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        self.check_strays();
        for (left, right) in self.couples() {
            self.check_pair(left, right);
        }
        COVERAGE.with_borrow_mut(|all| all.merge(&self.coverage()));
    }
}

/// Tests that can also be run one after the other, for the coverage of all of them together.
#[macro_export]
macro_rules! scenarios {
    ($( $(#[$doc:meta])* fn $name:ident() $body:block )*) => {
        $( $(#[$doc])* #[test] fn $name() $body )*

        /// All of this file.
        pub const ALL: &[(&str, fn())] = &[$((stringify!($name), $name)),*];
    };
}
