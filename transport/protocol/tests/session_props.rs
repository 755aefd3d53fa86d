//! Arbitrary schedules: whatever the network, the processes and the users do, the promises hold.
//!
//! The reference is what users did: per session, direction and class a queue of what was sent and
//! a queue of what was seen ([`check`](stellate_protocol::check)). It is compared all the time; at
//! the end faults stop, time passes, and a lossless session must have delivered everything (S8).
#![allow(unreachable_pub)] // a test binary has no public items

#[macro_use]
mod pair;

use pair::{A, Admit, B, Conn, Reach, World};
use proptest::prelude::*;
use stellate_protocol::event::{Ask, Decision, Input};
use stellate_protocol::frame::FrameKind;
use stellate_protocol::policy::Policy;
use stellate_protocol::session::Phase;
use stellate_protocol::{Blame, Class};

#[derive(Clone, Debug)]
enum Op {
    Send { node: usize, class: usize, data: u32, ask: u8 },
    Deliver { count: u8, choice: usize },
    Dials,
    Advance { millis: u64 },
    Cut { nth: usize, blame: Blame },
    Stall { node: usize, stalled: bool },
    Reach { from: usize, reach: Reach },
    Hands { node: usize, opens: bool, finishes: bool },
    Handle { node: usize, count: usize },
    Admit { node: usize, decision: Decision },
    Corrupt { kind: usize },
    Readdress { node: usize },
    Restart { node: usize, quiet: bool },
    Close { node: usize },
    Abort { node: usize },
    Connect { node: usize },
}

/// Faults of the network and of slow users; no process dies, nobody closes.
fn gentle() -> impl Strategy<Value = Op> {
    let node = 0usize..2;
    let reach = prop_oneof![
        3 => Just(Reach::Open),
        1 => Just(Reach::Refused),
        1 => Just(Reach::BlackHole),
        1 => Just(Reach::Deaf),
    ];
    let data = prop_oneof![4 => 0u32..100, 1 => 200u32..5000];
    prop_oneof![
        8 => (node.clone(), 0usize..4, data, 0u8..4)
            .prop_map(|(node, class, data, ask)| Op::Send { node, class, data, ask }),
        8 => (1u8..12, any::<usize>()).prop_map(|(count, choice)| Op::Deliver { count, choice }),
        2 => Just(Op::Dials),
        4 => prop_oneof![1u64..5, 40u64..400, 1000u64..30_000].prop_map(|millis| Op::Advance { millis }),
        3 => (0usize..4).prop_map(|nth| Op::Cut { nth, blame: Blame::Transport }),
        2 => (node.clone(), any::<bool>()).prop_map(|(node, stalled)| Op::Stall { node, stalled }),
        2 => (node.clone(), reach).prop_map(|(from, reach)| Op::Reach { from, reach }),
        2 => (node.clone(), any::<bool>(), any::<bool>())
            .prop_map(|(node, opens, finishes)| Op::Hands { node, opens, finishes }),
        2 => (node.clone(), 0usize..9).prop_map(|(node, count)| Op::Handle { node, count }),
        1 => (node.clone(), any::<bool>()).prop_map(|(node, accept)| Op::Admit {
            node,
            decision: if accept { Decision::Accept } else { Decision::Hold },
        }),
        1 => node.clone().prop_map(|node| Op::Readdress { node }),
        2 => node.prop_map(|node| Op::Connect { node }),
    ]
}

/// All of it.
fn rough() -> impl Strategy<Value = Op> {
    let node = 0usize..2;
    prop_oneof![
        30 => gentle(),
        1 => (node.clone(), any::<bool>()).prop_map(|(node, quiet)| Op::Restart { node, quiet }),
        1 => node.clone().prop_map(|node| Op::Close { node }),
        1 => node.clone().prop_map(|node| Op::Abort { node }),
        1 => (0usize..14).prop_map(|kind| Op::Corrupt { kind }),
        1 => node.prop_map(|node| Op::Admit { node, decision: Decision::Refuse("no".into()) }),
    ]
}

#[derive(Clone, Copy, Debug)]
struct Setup {
    pair: usize,
    /// Greater rank at A.
    swap: bool,
    window: u32,
    slots: Option<u32>,
    asks: [bool; 2],
    room: usize,
    codec: bool,
}

fn setups() -> impl Strategy<Value = Setup> {
    let window = prop_oneof![Just(1u32), 2u32..6, Just(1024)];
    let slots = prop_oneof![2 => Just(None), 1 => (4u32..9).prop_map(Some)];
    let room = prop_oneof![Just(1usize), Just(usize::MAX)];
    let asks = prop_oneof![3 => Just([false; 2]), 1 => any::<[bool; 2]>()];
    (0usize..5, any::<bool>(), window, slots, asks, room, any::<bool>()).prop_map(
        |(pair, swap, window, slots, asks, room, codec)| Setup {
            pair,
            swap,
            window,
            slots,
            asks,
            room,
            codec,
        },
    )
}

const PAIRS: [(Policy, Policy); 5] = [
    (Policy::lossless_peer(), Policy::lossless_peer()),
    (Policy::lossless_client(), Policy::stateful_server()),
    (Policy::lossy_client(), Policy::stateless_server()),
    (Policy::lossy_client(), Policy::stateful_server()),
    (Policy::lossless_client(), Policy::stateless_server()),
];

fn world(setup: Setup) -> World {
    let (client, server) = PAIRS[setup.pair];
    let mut world = World::pair(client, server);
    if setup.swap {
        world.nodes[A].me.name = stellate_protocol::EntityName::osd(9);
    }
    world.limits(|limits| {
        limits.window_messages = [setup.window; 4];
        limits.window_bytes = 2000;
        limits.pull_bytes = 3000;
        limits.slot_bytes = 256;
        limits.chunk_bytes = 1000;
        limits.outbox_messages = 64;
        limits.requests_max = 16;
    });
    world.room = setup.room;
    world.codec = setup.codec;
    for (node, asks) in [(A, setup.asks[0]), (B, setup.asks[1])] {
        world.nodes[node].slots = setup.slots;
        world.nodes[node].admission = asks.then_some(Admit::Silent);
    }
    world
}

/// The latest live session of a node.
fn current(world: &World, node: usize) -> Option<Conn> {
    let all = world.all(node);
    let live = |conn: &&Conn| {
        let side = world.side(**conn);
        !side.dead && side.end().is_none()
    };
    all.iter().rfind(live).copied()
}

fn may_dial(world: &World, node: usize) -> bool {
    world.nodes[node].dial.dials()
}

fn apply(world: &mut World, op: Op) {
    match op {
        Op::Send { node, class, data, ask } => {
            let Some(conn) = current(world, node) else {
                return;
            };
            let ask = match ask {
                0 => Ask::Request(world.fresh_request(conn), Some(500_000_000)),
                1 => Ask::Notify(world.fresh_request(conn)),
                _ => Ask::Nothing,
            };
            world.try_send(conn, Class::ALL[class], data, ask);
        }
        Op::Deliver { count, choice } => (0..count).for_each(|n| {
            world.step(choice.wrapping_add(usize::from(n) * 7).max(1));
        }),
        Op::Dials => world.run_dials(),
        Op::Advance { millis } => world.millis(millis),
        Op::Cut { nth, blame } => {
            if let Some(link) = world.wires.keys().nth(nth).copied() {
                world.cut(link, blame);
            }
        }
        Op::Stall { node, stalled } => world.stall(node, stalled),
        Op::Reach { from, reach } => world.set_reach(from, 1 - from, reach),
        Op::Hands { node, opens, finishes } => {
            if let Some(conn) = current(world, node) {
                let side = world.side_mut(conn);
                (side.opens, side.finishes) = (opens, finishes);
            }
        }
        Op::Handle { node, count } => {
            if let Some(conn) = current(world, node) {
                world.handle(conn, count);
            }
        }
        Op::Admit { node, decision } => {
            if let Some(conn) = current(world, node) {
                world.answer(conn, decision);
            }
        }
        Op::Corrupt { kind } => {
            world.corrupt = Some((kind % 2, FrameKind::ALL[kind]));
        }
        Op::Readdress { node } => {
            let Some(conn) = current(world, node) else {
                return;
            };
            let side = &world.side(conn).session;
            let legal =
                !side.is_lossy() && !matches!(side.phase(), Phase::Yielding | Phase::Finishing);
            if legal && may_dial(world, node) && !side_closing(world, conn) {
                world.feed(conn, Input::Readdress);
            }
        }
        Op::Restart { node, quiet } => world.restart(node, quiet),
        Op::Close { node } => {
            if let Some(conn) = current(world, node) {
                world.side_mut(conn).closing = true;
                world.feed(conn, Input::Close);
            }
        }
        Op::Abort { node } => {
            if let Some(conn) = current(world, node) {
                world.feed(conn, Input::Abort);
            }
        }
        Op::Connect { node } => {
            if may_dial(world, node) {
                world.connect(node, 1 - node);
            }
        }
    }
}

fn side_closing(world: &World, conn: Conn) -> bool {
    world.side(conn).closing
}

/// Faults stop, users work, time passes.
fn heal(world: &mut World) {
    world.reach.clear();
    world.corrupt = None;
    for node in [A, B] {
        world.stall(node, false);
        world.nodes[node].admission =
            world.nodes[node].admission.as_ref().map(|_| Admit::Says(Decision::Accept));
    }
    let slow = |world: &mut World| {
        let live = [current(world, A), current(world, B)];
        for conn in live.into_iter().flatten() {
            let side = world.side_mut(conn);
            (side.opens, side.finishes) = (true, true);
            world.answer(conn, Decision::Accept);
            world.handle(conn, 0);
        }
    };
    slow(world);
    // S8: the heartbeat deadline, the longest back-off, and a race.
    let limits = world.nodes[A].limits;
    world.advance(limits.heartbeat_deadline + limits.backoff_max + limits.race_wait);
    slow(world);
    world.millis(20);
}

/// S8 for what still lives.
fn all_delivered(world: &World) {
    for (left, right) in world.couples() {
        let ended = |conn| world.side(conn).end().is_some() || world.side(conn).dead;
        if !ended(left) && !ended(right) {
            world.check_healed(left, right);
            for conn in [left, right] {
                let side = world.side(conn);
                assert_eq!(side.used, (0, 0), "S8: {conn:?} waits in {:?}", side.session.phase());
                assert_eq!(side.session.open_requests(), 0, "S8: {conn:?} waits for answers");
            }
        }
    }
}

fn cases() -> ProptestConfig {
    ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(500),
        max_shrink_iters: 20_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases())]

    /// S1, S2, S3, S7, S8: the network does what it likes, both processes live.
    #[test]
    fn s2_whatever_the_network_does(
        setup in setups(),
        ops in proptest::collection::vec(gentle(), 1..80),
    ) {
        let mut world = world(setup);
        world.connect(A, B);
        ops.into_iter().for_each(|op| apply(&mut world, op));
        heal(&mut world);
        all_delivered(&world);
        let lossless = setup.pair < 2;
        if lossless && !setup.asks.contains(&true) {
            for conn in [world.all(A), world.all(B)].concat() {
                let end = world.side(conn).end().map(|end| end.cause);
                prop_assert!(end.is_none(), "no reason to end: {end:?}");
            }
            prop_assert_eq!((world.all(A).len(), world.all(B).len()), (1, 1));
        }
    }

    /// S4, S6: processes die, users close, frames are damaged.
    #[test]
    fn s6_whatever_anybody_does(
        setup in setups(),
        ops in proptest::collection::vec(rough(), 1..80),
    ) {
        let mut world = world(setup);
        world.connect(A, B);
        ops.into_iter().for_each(|op| apply(&mut world, op));
        heal(&mut world);
        all_delivered(&world);
    }
}
