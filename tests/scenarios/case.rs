//! One scenario as data: who talks to whom, what strikes, and where.

use std::fmt;

use stellate::prelude::Policy;
use stellate::testing::sim::Profile;
use stellate::testing::{Direction, Edge};

/// One of the two sides. `A` is the one that connects first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    A,
    B,
}

impl Which {
    pub const BOTH: [Self; 2] = [Self::A, Self::B];

    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// Two policies that make a promise together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    pub name: &'static str,
    pub a: Policy,
    pub b: Policy,
    /// Both connect, at the same moment.
    pub both: bool,
}

const fn pair(name: &'static str, a: Policy, b: Policy, both: bool) -> Pair {
    Pair { name, a, b, both }
}

pub const LOSSY: Pair =
    pair("lossy-stateless", Policy::lossy_client(), Policy::stateless_server(), false);
pub const LOSSY_STATEFUL: Pair =
    pair("lossy-stateful", Policy::lossy_client(), Policy::stateful_server(), false);
pub const LOSSLESS_STATELESS: Pair =
    pair("lossless-stateless", Policy::lossless_client(), Policy::stateless_server(), false);
pub const LOSSLESS: Pair =
    pair("lossless-stateful", Policy::lossless_client(), Policy::stateful_server(), false);
pub const PEERS: Pair = pair("peers", Policy::lossless_peer(), Policy::lossless_peer(), false);
pub const PEERS_BOTH: Pair =
    pair("peers-both-dial", Policy::lossless_peer(), Policy::lossless_peer(), true);

impl Pair {
    /// All that make a promise.
    pub const ALL: [Self; 6] =
        [LOSSY, LOSSY_STATEFUL, LOSSLESS_STATELESS, LOSSLESS, PEERS, PEERS_BOTH];

    /// The identity orders that mean something: without a race one is as the other.
    pub fn orders(&self) -> &'static [Order] {
        if self.a == self.b { &[Order::AGreater, Order::BGreater] } else { &[Order::AGreater] }
    }

    /// Whether the session ends with its link.
    pub fn is_lossy(&self) -> bool {
        self.a.is_lossy() || self.b.is_lossy()
    }
}

/// What happens there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strike {
    /// The frame is lost and its link cut; a dial fails; an accepted link is cut.
    Fail,
    /// It and all behind it wait, longer than `race_wait`, shorter than the deadlines.
    Block,
    /// The same, longer than every deadline: what comes out at last is old.
    BlockLong,
    /// It passes, and nothing after it ever does.
    StallAfter,
    /// It and all behind it come late.
    Delay,
}

impl Strike {
    pub const ALL: [Self; 5] =
        [Self::Fail, Self::Block, Self::BlockLong, Self::StallAfter, Self::Delay];
}

/// A frame edge: the nth passage of a kind, in one direction, at one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub at: Which,
    pub direction: Direction,
    pub edge: Edge,
    pub nth: u64,
}

impl Step {
    /// Whether it is met in the second leg only: of each session that races the word of who has lost
    /// is the first, the second one in the conversation is that of the race of a resume (S5).
    pub fn is_of_a_resume(&self) -> bool {
        self.edge == Edge::Lost && self.nth > 1
    }
}

pub const fn sent(at: Which, edge: Edge, nth: u64) -> Step {
    Step { at, direction: Direction::Sent, edge, nth }
}

pub const fn received(at: Which, edge: Edge, nth: u64) -> Step {
    Step { at, direction: Direction::Received, edge, nth }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = match self.direction {
            Direction::Sent => "sends",
            Direction::Received => "receives",
        };
        let text = format!("{:?} {direction} {:?} #{}", self.at, self.edge, self.nth);
        f.pad(&text)
    }
}

/// Which identity is the greater, and so wins a race.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    AGreater,
    BGreater,
}

impl Order {
    /// The number of a side's name.
    pub fn number(self, which: Which) -> u64 {
        match (self, which) {
            (Self::AGreater, Which::A) | (Self::BGreater, Which::B) => 2,
            _ => 1,
        }
    }
}

/// One conversation.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub pair: Pair,
    pub order: Order,
    pub fault: Option<(Strike, Step)>,
    /// Who closes at the end.
    pub closer: Which,
    /// Both sides admit by an actor, which holds for a while first.
    pub admission: bool,
    /// The hello of the winner of a race is long on its way, so that it has to tell the loser.
    pub slow_winner: bool,
    /// The simulated fabric, where it is played on one.
    pub profile: Profile,
}

impl Case {
    pub fn new(pair: Pair, order: Order, fault: Option<(Strike, Step)>) -> Self {
        let edge = fault.map(|(_, step)| step.edge);
        let mut case = Self {
            pair,
            order,
            fault,
            closer: Which::A,
            admission: false,
            slow_winner: edge == Some(Edge::Lost),
            profile: Profile::STREAM,
        };
        if let Some(edge) = edge {
            // Some frames are there only if the conversation is made for them.
            case.admission = edge == Edge::Admitted;
            if edge == Edge::Grant {
                case.profile = Profile::VERBS;
            }
        }
        if let Some((_, Step { at, direction, edge: Edge::Close, .. })) = case.fault {
            case.closer = if direction == Direction::Sent { at } else { at.other() };
        }
        case
    }

    /// The same without its fault.
    pub fn calm(self) -> Self {
        Self { fault: None, ..self }
    }

    pub fn over(self, profile: Profile) -> Self {
        Self { profile, ..self }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.pair.name, self.order)?;
        match self.fault {
            Some((strike, step)) => write!(f, ": {strike:?} where {step}"),
            None => f.write_str(", undisturbed"),
        }
    }
}
