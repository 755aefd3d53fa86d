//! The promises, as properties of every reachable world.
//!
//! Most compare the ghosts of a sender with those of its receiver. A session of the sender and one
//! of the receiver belong together if they have the same id.

use stateright::Property;
use stellate_protocol::class::{Class, Lane};
use stellate_protocol::session::Phase;

use super::machine::Machine;
use super::spec::Spec;
use super::world::{Life, World};

/// All of them; names start with the promise's id.
pub(crate) fn all() -> Vec<Property<Machine>> {
    vec![
        Property::always(
            "the rules hold: no assertion, no illegal input, exact counts",
            |_, world: &World| world.broken.is_none(),
        ),
        Property::always(
            "S1 S2 delivered in order, without gap or duplicate",
            |_, world: &World| {
                pairs(world).all(|(to, from)| in_order(to, from)) && each_once(world)
            },
        ),
        Property::always("S3 what is acked is owned by the receiver", |_, world: &World| {
            pairs(world).all(|(to, from)| acks_are_true(to, from))
        }),
        Property::always(
            "S4 counts about the other side are exact or unknown",
            |_, world: &World| pairs(world).all(|(to, from)| counts_agree(to, from)),
        ),
        Property::always(
            "S5 one live confirmed session per pair of instances, one id per link",
            |_, world: &World| one_session(world) && one_id(world),
        ),
        Property::always(
            "S6 nothing crosses from another session or instance",
            |_, world: &World| nothing_crosses(world),
        ),
        Property::always(
            "S8 at rest all is delivered, or both sides were told the end",
            |machine: &Machine, world: &World| {
                world.broken.is_some() || !machine.is_quiescent(world) || at_rest(machine, world)
            },
        ),
        Property::always(
            "no livelock: dials are bounded by faults",
            |machine: &Machine, world: &World| {
                world.nodes.iter().all(|node| node.attempt <= machine.spec.dials_max)
            },
        ),
    ]
}

/// Receiving and sending halves of the same session of the same two instances, both directions.
fn pairs(world: &World) -> impl Iterator<Item = (&Life, &Life)> {
    (0..2).flat_map(move |node| {
        world.nodes[node].lives.iter().flat_map(move |to| {
            let others = world.nodes[1 - node].lives.iter();
            let paired = move |from: &&Life| {
                from.id() == to.id()
                    && is_bound(to, from, 1 - node)
                    && is_bound(from, to, node)
                    && !is_phantom(to)
                    && !is_phantom(from)
            };
            others.filter(paired).map(move |from| (to, from))
        })
    })
}

/// Whether `life` knows that `other`, a session of `node`, is its peer's.
fn is_bound(life: &Life, other: &Life, node: usize) -> bool {
    let peer = life.session.peer();
    peer.is_some_and(|peer| peer.instance == Spec::instance(node, other.start))
}

/// A stateless server looks nobody up, so each hello of a retry is a session of its own there.
/// Nothing was received on those whose answer was never seen.
fn is_phantom(life: &Life) -> bool {
    life.session.is_lossy() && !life.session.is_confirmed()
}

fn message_lanes() -> impl Iterator<Item = Lane> {
    Class::ALL.into_iter().map(Lane::messages)
}

/// What was opened is a prefix of what was submitted.
fn in_order(to: &Life, from: &Life) -> bool {
    message_lanes().all(|lane| {
        let opened = to.ghost.opened.iter().filter(|(of, _)| *of == lane);
        let mut submitted = from.ghost.submitted_in(lane);
        opened.map(|(_, id)| *id).all(|id| submitted.next() == Some(id))
    })
}

/// No message was ever opened twice, in whatever sessions.
fn each_once(world: &World) -> bool {
    world.nodes.iter().all(|node| {
        let mut ids: Vec<u8> =
            node.lives.iter().flat_map(|life| &life.ghost.opened).map(|(_, id)| *id).collect();
        ids.sort_unstable();
        ids.windows(2).all(|two| two[0] != two[1])
    })
}

/// What `to` has opened, and at least and at most what it owns unopened.
fn owned(to: &Life, lane: Lane) -> (u64, u64) {
    let opened = to.ghost.opened_in(lane);
    let waiting = opened + to.ghost.waiting_in(lane);
    match to.over {
        Some(over) => {
            let all = opened + over.counts[lane.class().index()].undelivered;
            (all, all)
        }
        // Held input is not told; it is checked at the end.
        None if to.session.is_holding() || to.gone => (waiting, u64::MAX),
        None => (waiting, waiting),
    }
}

fn acks_are_true(to: &Life, from: &Life) -> bool {
    message_lanes().all(|lane| {
        let acked = from.ghost.acked[lane.index()];
        acked <= owned(to, lane).1
    })
}

fn counts_agree(to: &Life, from: &Life) -> bool {
    let Some(over) = from.over else { return true };
    message_lanes().all(|lane| {
        let counts = over.counts[lane.class().index()];
        let owns = owned(to, lane).0;
        let sent = from.ghost.acked[lane.index()] + counts.unacked_sent;
        let told = counts.peer_delivered.is_none_or(|told| told == to.ghost.opened_in(lane));
        told && owns <= sent
    })
}

/// Confirmed sessions of a node with one instance of the peer.
fn one_session(world: &World) -> bool {
    world.nodes.iter().all(|node| {
        let mut peers: Vec<_> = node
            .living()
            .filter(|(_, life)| life.session.is_confirmed() && !life.session.is_lossy())
            .filter_map(|(_, life)| Some(life.session.peer()?.instance))
            .collect();
        let all = peers.len();
        peers.sort_unstable();
        peers.dedup();
        peers.len() == all
    })
}

/// Both up and confirmed on the two ends of one link: they agree on the id.
fn one_id(world: &World) -> bool {
    let up = |node: usize| {
        let living = world.nodes[node].living();
        living.filter(|(_, life)| life.is_up() && life.session.is_confirmed())
    };
    up(0).all(|(_, a)| up(1).all(|(_, b)| a.session.link() != b.session.link() || a.id() == b.id()))
}

/// Each opened message came from the session with the same id, of the instance it is bound to.
fn nothing_crosses(world: &World) -> bool {
    (0..2).all(|node| {
        let senders = &world.nodes[1 - node].lives;
        world.nodes[node].lives.iter().all(|to| {
            to.ghost.opened.iter().all(|opened| {
                senders.iter().any(|from| {
                    let same = from.id() == to.id() && is_bound(to, from, 1 - node);
                    same && from.ghost.submitted.contains(opened)
                })
            })
        })
    })
}

fn at_rest(machine: &Machine, world: &World) -> bool {
    let spec = &machine.spec;
    let rests = (0..2).all(|node| {
        world.nodes[node].living().all(|(_, life)| {
            let quiet = matches!(life.session.phase(), Phase::Up | Phase::Standby);
            let mut others = world.nodes[1 - node].living();
            let meets = others.any(|(_, other)| other.id() == life.id());
            let empty = life.session.outbox().messages == 0 && life.ghost.inbox.is_empty();
            quiet && meets && empty && life.ghost.asking.is_empty()
        })
    });
    let ended_both = pairs(world)
        .all(|(to, from)| to.gone || from.gone || to.over.is_some() == from.over.is_some());
    rests && ended_both && (!spec.loses_nothing() || all_delivered(machine, world))
}

/// Nothing was allowed to be lost: nothing is, and no session ended.
fn all_delivered(machine: &Machine, world: &World) -> bool {
    let none_ended =
        world.nodes.iter().flat_map(|node| &node.lives).all(|life| life.over.is_none());
    none_ended
        && (0..2).all(|node| {
            let said = machine.spec.says[node].len();
            let opened: usize =
                world.nodes[1 - node].lives.iter().map(|life| life.ghost.opened.len()).sum();
            said == opened
        })
}
