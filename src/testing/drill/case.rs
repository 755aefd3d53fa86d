//! A case: a cluster, what its nodes send, and what goes wrong, as plain data.
//!
//! Nothing in a case is drawn: it says each message and each fault. Its `order` number decides what
//! else could be either way, as jitter and what comes first within a millisecond.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stellate_protocol::limits::Limits;
use stellate_protocol::{Class, EntityKind, EntityName};
use stellate_transport::sim::Quality;

use super::text::{self, QualityText};
use crate::testing::{Action, Fabric, Script};

/// Most nodes of a case.
pub const NODES_MAX: usize = 1_000;
/// Most ops of a case.
pub const OPS_MAX: usize = 1_000_000;
/// Most messages of one op.
pub const COUNT_MAX: u32 = 1_000_000;
/// Longest data segment of a message.
pub const LEN_MAX: u32 = 8 << 20;
/// Most that a clock drifts, in millionths, either way.
pub const DRIFT_MAX: u32 = 200_000;
/// Longest that a fuse burns, in milliseconds: the tree's count of restarts goes back a minute.
pub const FUSE_MAX: u32 = 1_000;
/// Longest that anything in a case takes, or that it begins after.
pub const SPAN_MAX: Duration = Duration::from_secs(3_600);

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What decides between orders that are equally right.
    pub order: u64,
    /// The fabric, by its name.
    pub profile: String,
    /// How good all ways are.
    #[serde(with = "QualityText")]
    pub quality: Quality,
    /// How long nodes have something to send; the script may last longer.
    #[serde(rename = "span_ms", with = "text::ms")]
    pub span: Duration,
    /// The messengers' limits, where they are not the default.
    pub pace: Pace,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// What they send, in order of time for each pair.
    pub ops: Vec<Op>,
    /// What goes wrong.
    pub script: Script,
    /// Each so manieth message is kept from the checkers, to show that they notice; 0 for none.
    #[serde(default)]
    pub sabotage: u32,
}

/// The limits that a case may set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pace {
    /// [`Limits::heartbeat_every`]; the deadline is four times that.
    #[serde(rename = "heartbeat_ms", with = "text::ms")]
    pub heartbeat: Duration,
    /// [`Limits::backoff_max`].
    #[serde(rename = "backoff_max_ms", with = "text::ms")]
    pub backoff_max: Duration,
    /// [`Limits::standby_max`].
    #[serde(rename = "standby_max_ms", with = "text::ms")]
    pub standby_max: Duration,
    /// [`Limits::hold_max`].
    #[serde(rename = "hold_max_ms", with = "text::ms", default = "hold_max")]
    pub hold_max: Duration,
    /// [`Limits::drain_max`].
    #[serde(rename = "drain_max_ms", with = "text::ms", default = "drain_max")]
    pub drain_max: Duration,
    /// [`Limits::hello_timeout`].
    #[serde(rename = "hello_timeout_ms", with = "text::ms", default = "hello_timeout")]
    pub hello_timeout: Duration,
    /// [`Limits::outbox_messages`].
    pub outbox_messages: u32,
    /// [`Limits::window_messages`] of `High`, `Normal` and `Bulk`.
    pub window_messages: u32,
}

fn hold_max() -> Duration {
    Limits::default().hold_max
}

fn drain_max() -> Duration {
    Limits::default().drain_max
}

fn hello_timeout() -> Duration {
    Limits::default().hello_timeout
}

impl Default for Pace {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            heartbeat: limits.heartbeat_every,
            backoff_max: limits.backoff_max,
            standby_max: limits.standby_max,
            hold_max: limits.hold_max,
            drain_max: limits.drain_max,
            hello_timeout: limits.hello_timeout,
            outbox_messages: limits.outbox_messages,
            window_messages: limits.window_messages[Class::Normal.index()],
        }
    }
}

/// A node. Its kind decides its policies: `osd` with `osd` are lossless peers, a `client` is a
/// lossless client of an `osd`, an `mds` a lossy one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Its name.
    #[serde(with = "text")]
    pub name: EntityName,
    /// How it answers peers at its door.
    #[serde(default)]
    pub admission: Admission,
    /// Whether it numbers its boots.
    #[serde(default)]
    pub incarnations: bool,
    /// Milliseconds that its clock is ahead.
    #[serde(default)]
    pub clock_ms: i64,
    /// Millionths that its clock runs too fast, its messenger's timers with it.
    #[serde(default)]
    pub drift_ppm: i32,
    /// Whether its policies fit nobody's: an `osd` dials as a client, the others as peers.
    #[serde(default)]
    pub misfit: bool,
    /// Milliseconds that an actor deep in its tree lives each time, in its first life, until its tree
    /// gives up; 0 for no such actor.
    #[serde(default)]
    pub fuse_ms: u32,
}

/// How a node answers peers at its door.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Admission {
    /// It does not ask.
    #[default]
    Open,
    /// It holds each for so long, then lets it in.
    Holds {
        /// Milliseconds.
        ms: u32,
    },
    /// It refuses every so manieth.
    Refuses {
        /// From 2.
        every: u32,
    },
}

/// Something that a node does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Op {
    /// When.
    #[serde(rename = "at_ms", with = "text::ms")]
    pub at: Duration,
    /// Who.
    #[serde(with = "text")]
    pub from: EntityName,
    /// With whom.
    #[serde(with = "text")]
    pub to: EntityName,
    /// What.
    pub does: Does,
}

/// What a node does with a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Does {
    /// Sends messages, waiting for room.
    Send(Mail),
    /// Sends messages without waiting, and asks how far each got.
    Try(Mail),
    /// Asks, and waits for no answer before the next.
    Ask {
        /// The request.
        mail: Mail,
        /// Milliseconds that it waits at most; 0 is for ever.
        timeout_ms: u32,
    },
    /// Closes the session.
    Close,
    /// Ends the session at once.
    Abort,
    /// Goes on over the peer's other address.
    Readdress,
    /// Goes on, or begins, at the address of another node, and sends a message into it; comes back
    /// after a while.
    Stray {
        /// Whose address.
        #[serde(with = "text")]
        by: EntityName,
        /// Milliseconds.
        ms: u32,
    },
}

/// Messages of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mail {
    /// How many.
    pub count: u32,
    /// In which class: 0 is `Control`, 3 is `Bulk`.
    pub class: u8,
    /// Bytes of data in each.
    pub len: u32,
    /// Milliseconds that the handler keeps each in hand.
    pub hold_ms: u32,
    /// Whether the handler of the last one panics with it in hand.
    pub panics: bool,
    /// Whether the receiving actor takes nothing else while it keeps one in hand.
    #[serde(default)]
    pub blocks: bool,
    /// What the handler of the last one does to the session that it came in.
    #[serde(default)]
    pub hangs_up: HangUp,
}

/// What a handler does to the session that a message came in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum HangUp {
    /// Nothing.
    #[default]
    Not,
    /// It closes it.
    Closes,
    /// It ends it at once.
    Aborts,
}

impl Mail {
    pub(super) fn class(&self) -> Class {
        Class::from_index(self.class).unwrap_or(Class::Normal)
    }
}

impl Does {
    pub(super) fn mail(&self) -> Option<&Mail> {
        match self {
            Self::Send(mail) | Self::Try(mail) | Self::Ask { mail, .. } => Some(mail),
            _ => None,
        }
    }
}

/// What is wrong with a case, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseError(String);

impl fmt::Display for CaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CaseError {}

fn wrong<T>(text: impl Into<String>) -> Result<T, CaseError> {
    Err(CaseError(text.into()))
}

impl Case {
    /// When the last op and the last fault are over.
    pub fn ends_at(&self) -> Duration {
        let steps = self.script.steps().iter();
        let over = steps.map(|step| step.at + step.action.lasts().unwrap_or_default());
        over.max().unwrap_or_default().max(self.span)
    }

    /// Until when a session may have no link for what went wrong: a dial whose answer was lost is
    /// given up only then, and the next one waits its back-off.
    pub(super) fn dials_until(&self) -> Duration {
        let limits = self.limits();
        let again = limits.hello_timeout + limits.backoff_max.mul_f64(1.5) + limits.race_wait;
        self.ends_at() + self.at_most(again)
    }

    /// How long a span may really be that one of the nodes measures, if its clock is slow.
    pub(super) fn at_most(&self, span: Duration) -> Duration {
        let slowest = self.nodes.iter().map(|node| -node.drift_ppm).max().unwrap_or(0).max(0);
        span.mul_f64(1e6 / (1e6 - f64::from(slowest)))
    }

    /// How short it may really be, if one is fast.
    pub(super) fn at_least(&self, span: Duration) -> Duration {
        let fastest = self.nodes.iter().map(|node| node.drift_ppm).max().unwrap_or(0).max(0);
        span.mul_f64(1e6 / (1e6 + f64::from(fastest)))
    }

    /// How many messages nodes are to send.
    pub fn messages(&self) -> u64 {
        let mails = self.ops.iter().filter_map(|op| op.does.mail());
        mails.map(|mail| u64::from(mail.count)).sum()
    }

    pub(super) fn fabric(&self) -> Result<Fabric, CaseError> {
        let names: Vec<&str> = Fabric::all().map(|fabric| fabric.name()).collect();
        let found = Fabric::by_name(&self.profile);
        let unknown = || format!("no profile {:?}: there are {}", self.profile, names.join(", "));
        found.ok_or_else(|| CaseError(unknown()))
    }

    pub(super) fn limits(&self) -> Limits {
        let window = self.pace.window_messages;
        let standard = Limits::default();
        Limits {
            heartbeat_every: self.pace.heartbeat,
            heartbeat_deadline: self.pace.heartbeat * 4,
            backoff_max: self.pace.backoff_max,
            standby_max: self.pace.standby_max,
            hold_max: self.pace.hold_max,
            drain_max: self.pace.drain_max,
            hello_timeout: self.pace.hello_timeout,
            outbox_messages: self.pace.outbox_messages,
            window_messages: [standard.window_messages[0].min(window), window, window, window],
            // Short, so that there is much to pull over every fabric.
            slot_bytes: 8 * 1024,
            ..standard
        }
    }

    /// Checks what the types do not say: that names are known, and numbers within their limits.
    ///
    /// # Errors
    /// The first thing that is wrong, and where.
    pub fn check(&self) -> Result<(), CaseError> {
        self.fabric()?;
        if self.nodes.is_empty() || self.nodes.len() > NODES_MAX {
            return wrong(format!("a case has 1 to {NODES_MAX} nodes, not {}", self.nodes.len()));
        }
        let names: BTreeSet<EntityName> = self.nodes.iter().map(|node| node.name).collect();
        if names.len() != self.nodes.len() {
            return wrong("two nodes have one name");
        }
        let kinds = [EntityKind::OSD, EntityKind::CLIENT, EntityKind::MDS];
        for node in &self.nodes {
            if node.name.is_anonymous() || !kinds.contains(&node.name.kind()) {
                return wrong(format!("{}: a node is an osd, a client or an mds", node.name));
            }
            if node.drift_ppm.unsigned_abs() > DRIFT_MAX {
                return wrong(format!("{}: a clock drifts by {DRIFT_MAX} ppm at most", node.name));
            }
            if node.fuse_ms > FUSE_MAX {
                return wrong(format!("{}: a fuse burns for {FUSE_MAX} ms at most", node.name));
            }
            if matches!(node.admission, Admission::Refuses { every: 0 | 1 }) {
                return wrong(format!("{}: it would refuse everybody", node.name));
            }
        }
        self.check_pace()?;
        if self.ops.len() > OPS_MAX {
            return wrong(format!("a case has at most {OPS_MAX} ops, not {}", self.ops.len()));
        }
        for (at, op) in self.ops.iter().enumerate() {
            op.check(&names).map_err(|text| CaseError(format!("op {at}: {text}")))?;
        }
        for (at, step) in self.script.steps().iter().enumerate() {
            let place = |text: String| CaseError(format!("step {at} of the script: {text}"));
            check_span(step.at).map_err(place)?;
            check_action(&step.action, &names).map_err(place)?;
        }
        check_span(self.span).map_err(CaseError)
    }

    fn check_pace(&self) -> Result<(), CaseError> {
        let Pace { heartbeat, backoff_max, standby_max, hold_max, drain_max, .. } = &self.pace;
        let Pace { hello_timeout, outbox_messages, window_messages, .. } = &self.pace;
        let spans = [heartbeat, backoff_max, standby_max, hold_max, drain_max, hello_timeout];
        if spans.iter().any(|span| span.is_zero() || **span > SPAN_MAX) {
            return wrong("pace: a span is above 0 ms and at most an hour");
        }
        let most = 1 << 20;
        if [outbox_messages, window_messages].iter().any(|n| **n == 0 || **n > most) {
            return wrong(format!("pace: an outbox or a window has 1 to {most} messages"));
        }
        Ok(())
    }
}

fn check_span(span: Duration) -> Result<(), String> {
    if span > SPAN_MAX {
        return Err(format!("{span:?} is more than {SPAN_MAX:?}"));
    }
    Ok(())
}

fn known(name: &EntityName, names: &BTreeSet<EntityName>) -> Result<(), String> {
    if names.contains(name) { Ok(()) } else { Err(format!("there is no node {name}")) }
}

impl Op {
    fn check(&self, names: &BTreeSet<EntityName>) -> Result<(), String> {
        check_span(self.at)?;
        known(&self.from, names)?;
        known(&self.to, names)?;
        if self.from == self.to {
            return Err(format!("{} does it with itself", self.from));
        }
        if self.to.kind() != EntityKind::OSD {
            return Err(format!("{} is no osd: only an osd is dialled", self.to));
        }
        if let Does::Stray { by, .. } = &self.does {
            known(by, names)?;
        }
        let Some(mail) = self.does.mail() else {
            return Ok(());
        };
        if mail.count == 0 || mail.count > COUNT_MAX {
            return Err(format!("{} messages: 1 to {COUNT_MAX}", mail.count));
        }
        if usize::from(mail.class) >= Class::COUNT {
            return Err(format!("class {}: 0 to 3", mail.class));
        }
        if mail.len > LEN_MAX {
            return Err(format!("{} bytes of data: at most {LEN_MAX}", mail.len));
        }
        check_span(Duration::from_millis(u64::from(mail.hold_ms)))
    }
}

fn check_action(action: &Action, names: &BTreeSet<EntityName>) -> Result<(), String> {
    match action {
        Action::Cut { a, b } => known(a, names).and(known(b, names)),
        Action::CutAfterFrames { from, to, .. }
        | Action::CutAfterBytes { from, to, .. }
        | Action::Tamper { from, to, .. }
        | Action::OneWay { from, to, .. } => known(from, names).and(known(to, names)),
        Action::Stall { from, to, lasts } => {
            check_span(*lasts)?;
            known(from, names).and(known(to, names))
        }
        Action::Partition { side, .. } => side.iter().try_for_each(|name| known(name, names)),
        Action::Refuse { node, .. }
        | Action::BlackHole { node, .. }
        | Action::Slow { node, .. }
        | Action::Crash { node, .. }
        | Action::Panic { node, .. }
        | Action::Nic { node, .. }
        | Action::Pause { node, .. }
        | Action::Twin { node, .. }
        | Action::Step { node, .. } => known(node, names),
        Action::Weather { .. } => Ok(()),
    }?;
    check_span(action.lasts().unwrap_or_default())
}
