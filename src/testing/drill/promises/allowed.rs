//! What a case allows to happen, by the nodes that it may happen to: what is done to others is no
//! excuse.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use stellate_protocol::EntityName;
use stellate_transport::sim::Tamper;

use super::is_lossless;
use crate::testing::drill::case::{Admission, Case, Does, HangUp, Node};
use crate::testing::drill::fuse;
use crate::testing::drill::silence::{pairs, stirred_at};
use crate::testing::{Action, Step};

/// See the module.
#[derive(Debug)]
pub(in crate::testing::drill) struct Allowed {
    pub(super) crashes: bool,
    /// Nodes an actor of which panics.
    pub(super) panics: BTreeSet<EntityName>,
    /// Panics that are ordered: when, of which node, and the actor's path.
    orders: Vec<(Duration, EntityName, String)>,
    /// Nodes whose trees give up.
    pub(super) fuses: BTreeMap<EntityName, Blows>,
    /// Nodes of which an actor of the messenger's own panics.
    pub(super) inner_panics: BTreeSet<EntityName>,
    /// Who closes sessions, or ends them at once, and with whom.
    pub(super) closes: BTreeSet<(EntityName, EntityName)>,
    /// Sessions may wait for a peer in vain.
    pub(super) timeouts: bool,
    pub(super) incarnations: bool,
    /// Nodes with sessions that stand still.
    pub(super) stalls: BTreeSet<EntityName>,
    /// Nodes that ask their user before they hand anything out. A ticket dies with its actor, and who
    /// is held for ever is refused: each of them may refuse.
    pub(super) doors: BTreeSet<EntityName>,
    /// Who dials, or goes on at, an address that belongs to somebody else, and for whom.
    pub(super) strays: BTreeSet<(EntityName, EntityName)>,
    /// Nodes of which there are two at times.
    pub(super) twins: BTreeSet<EntityName>,
    /// Nodes whose policies fit nobody's.
    pub(super) misfits: BTreeSet<EntityName>,
    /// From when on lossy sessions of two nodes may end with their link.
    stirred: BTreeMap<(EntityName, EntityName), Duration>,
    /// What is done to frames between two nodes, either way.
    tampers: BTreeSet<(EntityName, EntityName, Tamper)>,
}

/// When a tree gives up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blows {
    pub(super) earliest: Duration,
    /// It is down by then.
    pub(super) blown: Duration,
}

impl Blows {
    fn of(case: &Case, node: &Node) -> Self {
        let earliest = fuse::blows_after(case, node.name).unwrap_or(Duration::MAX);
        Self { earliest, blown: fuse::blown_after(node.fuse_ms) }
    }
}

impl Allowed {
    pub(super) fn new(case: &Case) -> Self {
        let steps = || case.script.steps().iter().map(|step| &step.action);
        let ops = || case.ops.iter();
        let inner = |action: &Action| match action {
            Action::Panic { node, actor } if actor != "drill" => Some(*node),
            _ => None,
        };
        let panics = |action: &Action| match action {
            Action::Panic { node, .. } => Some(*node),
            _ => None,
        };
        let orders = |step: &Step| match &step.action {
            Action::Panic { node, actor } => Some((step.at, *node, actor.clone())),
            _ => None,
        };
        let lit = || case.nodes.iter().filter(|node| node.fuse_ms > 0);
        let ordered = ops().filter(|op| op.does.mail().is_some_and(|mail| mail.panics));
        let closes = ops().filter_map(|op| match &op.does {
            Does::Close | Does::Abort => Some((op.from, op.to)),
            does => {
                let hangs_up = does.mail().is_some_and(|mail| mail.hangs_up != HangUp::Not);
                hangs_up.then_some((op.to, op.from))
            }
        });
        let strays = ops().filter_map(|op| match op.does {
            Does::Stray { .. } => Some((op.from, op.to)),
            _ => None,
        });
        let stalls = steps().filter_map(|action| match action {
            Action::Pause { node, actor, .. } if actor.starts_with("sessions/") => Some(*node),
            _ => None,
        });
        let names = |is: fn(&Node) -> bool| {
            case.nodes.iter().filter(|node| is(node)).map(|node| node.name).collect()
        };
        let lossy = pairs(case).into_iter().filter(|(a, b)| !is_lossless(*a, *b));
        let longest = steps().filter_map(Action::lasts).max().unwrap_or_default();
        Self {
            crashes: steps().any(|action| matches!(action, Action::Crash { .. })),
            panics: steps()
                .filter_map(panics)
                .chain(ordered.map(|op| op.to))
                .chain(lit().map(|node| node.name))
                .collect(),
            orders: case.script.steps().iter().filter_map(orders).collect(),
            fuses: lit().map(|node| (node.name, Blows::of(case, node))).collect(),
            inner_panics: steps().filter_map(inner).collect(),
            closes: closes.collect(),
            timeouts: case.at_least(case.pace.standby_max) <= longest.max(case.dials_until()),
            incarnations: case.nodes.iter().any(|node| node.incarnations),
            stalls: stalls.collect(),
            doors: names(|node| node.admission != Admission::Open),
            strays: strays.collect(),
            twins: twins(case),
            stirred: lossy.map(|(a, b)| ((a, b), stirred_at(case, a, b))).collect(),
            misfits: names(|node| node.misfit),
            tampers: steps()
                .filter_map(|action| match action {
                    Action::Tamper { from, to, how, .. } => Some((*from, *to, *how)),
                    _ => None,
                })
                .collect(),
        }
    }

    /// Whether a panic of that actor was ordered by then.
    pub(super) fn ordered(&self, node: EntityName, path: &str, by: Duration) -> bool {
        self.orders.iter().any(|(at, of, actor)| *of == node && actor == path && *at <= by)
    }

    /// Whether one was, in that time.
    pub(super) fn ordered_since(
        &self,
        node: EntityName,
        path: &str,
        since: Duration,
        by: Duration,
    ) -> bool {
        self.orders
            .iter()
            .any(|(at, of, actor)| *of == node && actor == path && (since..=by).contains(at))
    }

    /// How many panics are ordered of a node.
    pub(super) fn orders(&self, node: EntityName) -> usize {
        self.orders.iter().filter(|(_, of, _)| *of == node).count()
    }

    /// Whether the tree of one of the two may be about to give up.
    pub(super) fn may_give_up(&self, nodes: [EntityName; 2], at: Duration) -> bool {
        nodes.iter().any(|node| self.fuses.get(node).is_some_and(|fuse| at >= fuse.earliest))
    }

    /// Whether frames between the two are tampered with in that way.
    pub(super) fn tampers(&self, a: EntityName, b: EntityName, how: Tamper) -> bool {
        self.tampers.contains(&(a, b, how)) || self.tampers.contains(&(b, a, how))
    }

    /// Whether a session of the two may have ended with its link by then.
    pub(super) fn may_lose_link(&self, a: EntityName, b: EntityName, at: Duration) -> bool {
        self.stirred.get(&(a.min(b), a.max(b))).is_some_and(|since| at >= *since)
    }

    /// Whether one of the two looks for the other at the address of somebody else.
    pub(super) fn stray(&self, a: EntityName, b: EntityName) -> bool {
        self.strays.contains(&(a, b)) || self.strays.contains(&(b, a))
    }

    /// Whether there are two of one of them at times. Nobody comes back to what was left with a twin.
    pub(super) fn twin(&self, a: EntityName, b: EntityName) -> bool {
        self.twins.contains(&a) || self.twins.contains(&b)
    }
}

fn twins(case: &Case) -> BTreeSet<EntityName> {
    let steps = || case.script.steps().iter().map(|step| &step.action);
    // While whoever accepts links stands still, the hello of an instance that has died since may be
    // read after that of its successor, and looks like the newer one: PROTOCOL.md, 11.
    let accepts = |actor: &str| actor == "endpoint" || actor.starts_with("listener");
    let late_hellos =
        steps().any(|action| matches!(action, Action::Pause { actor, .. } if accepts(actor)));
    let twins = steps().filter_map(|action| match action {
        Action::Twin { node, .. } => Some(*node),
        Action::Crash { node, .. } if late_hellos => Some(*node),
        _ => None,
    });
    twins.collect()
}
