//! The model checker over the real session and directory code: every order of events, small worlds.
//!
//! `cargo test -p stellate-protocol --test model -- --nocapture` prints the states of each instance.
//! The large instances are ignored by default:
//! `cargo test --release -p stellate-protocol --test model -- --ignored --nocapture --test-threads 1`
//!
//! `tests/model/planted.sh` shows that it can fail; `tests/model/PLANTED.md` has its last result.

#[path = "model/cached.rs"]
mod cached;
#[path = "model/driver.rs"]
mod driver;
#[path = "model/machine.rs"]
mod machine;
#[path = "model/payload.rs"]
mod payload;
#[path = "model/promises.rs"]
mod promises;
#[path = "model/spec.rs"]
mod spec;
#[path = "model/world.rs"]
mod world;

use std::fmt::Write as _;

use machine::Machine;
use spec::{ASK, BODY, Budget, Gate, Leave, SAY, Spec};
use stateright::{Checker, HasDiscoveries, Model};
use stellate_protocol::policy::Policy;

/// Seconds after which an instance counts as too large.
const LIMIT: u64 = 900;

/// Explores all of it, and fails with the shortest way to the first broken promise.
#[allow(clippy::disallowed_methods)] // how long it took is for people
fn check(spec: Spec) {
    std::panic::set_hook(Box::new(|info| println!("{info}")));
    let name = spec.name;
    let began = std::time::Instant::now();
    let checker = Machine::new(spec)
        .checker()
        .threads(1) // two can wait for each other for ever when one stops early (0.31)
        .timeout(std::time::Duration::from_secs(LIMIT))
        .finish_when(HasDiscoveries::Any)
        .spawn_bfs()
        .join();
    assert!(began.elapsed().as_secs() < LIMIT, "{name}: stopped before all was seen");
    let (unique, depth) = (checker.unique_state_count(), checker.max_depth());
    println!("{name}: {unique} states, depth {depth}, {:?}", began.elapsed());
    if let Ok(coverage) = checker.model().coverage.lock() {
        let total = stellate_protocol::session::Coverage::total();
        println!("{name}: {} of {total} table cells", total - coverage.never().len());
    }
    let mut trace = String::new();
    if let Some((broken, path)) = checker.discoveries().into_iter().next() {
        let _ = writeln!(trace, "{name}: {broken} (after {unique} states)");
        for (world, step) in path.into_vec() {
            let phases = |node: usize| -> String {
                let lives = world.nodes[node].lives.iter();
                lives
                    .map(|life| {
                        format!(
                            "{}/{:?}{} ",
                            life.id(),
                            life.session.phase(),
                            if life.gone { "(gone)" } else { "" }
                        )
                    })
                    .collect()
            };
            let _ = writeln!(trace, "  [{}| {}] {:?}", phases(0), phases(1), world.broken);
            if let Some(step) = step {
                let _ = writeln!(trace, "    {step:?}");
            }
        }
    }
    assert!(trace.is_empty(), "{trace}");
}

const PEERS: [Policy; 2] = [Policy::lossless_peer(), Policy::lossless_peer()];
const CLIENT_SERVER: [Policy; 2] = [Policy::lossless_client(), Policy::stateful_server()];
const LOSSY: [Policy; 2] = [Policy::lossy_client(), Policy::stateless_server()];
const NONE: Budget = Budget::NONE;

macro_rules! instances {
    ($($(#[$meta:meta])* $name:ident: $policies:ident { $($field:ident: $value:expr),* $(,)? })*) => { $(
        #[test]
        $(#[$meta])*
        fn $name() {
            check(Spec { $($field: $value,)* ..Spec::new(stringify!($name), $policies) });
        }
    )* };
}

instances! {
    client_cut: CLIENT_SERVER { says: [&[SAY, SAY], &[SAY]], budget: Budget { cuts: 1, ..NONE } }
    client_early: CLIENT_SERVER { says: [&[SAY], &[SAY]], budget: Budget { early: 1, ..NONE } }
    client_bodies: CLIENT_SERVER { says: [&[BODY, ASK], &[]], budget: Budget { cuts: 1, ..NONE }, window: 1 }
    client_close: CLIENT_SERVER { says: [&[SAY], &[SAY]], leaves: [Leave::Close, Leave::Never],
        budget: Budget { cuts: 1, ..NONE }, slow_handlers: true }
    client_hold: CLIENT_SERVER { says: [&[SAY, SAY], &[]], gates: [Gate::Open, Gate::Whimsical],
        budget: Budget { cuts: 1, ..NONE } }
    client_slots: CLIENT_SERVER { says: [&[SAY, SAY], &[SAY]], slots: Some(4) }
    server_restart: CLIENT_SERVER { says: [&[SAY, SAY], &[SAY]], budget: Budget { restarts: [0, 1], ..NONE } }
    client_restart: CLIENT_SERVER { says: [&[SAY, SAY], &[SAY]], budget: Budget { restarts: [1, 0], ..NONE } }
    lossy_cut: LOSSY { says: [&[SAY, SAY], &[SAY]], budget: Budget { cuts: 1, ..NONE } }
    peer_race: PEERS { says: [&[SAY], &[SAY]], budget: Budget { early: 1, ..NONE } }
    peer_cut: PEERS { says: [&[SAY], &[SAY]], budget: Budget { cuts: 1, ..NONE } }
    peer_wall: PEERS { says: [&[SAY], &[SAY]], budget: Budget { walls: [0, 1], early: 1, ..NONE } }
    peer_restart: PEERS { says: [&[SAY], &[SAY]], budget: Budget { restarts: [0, 1], ..NONE } }
    peer_abort: PEERS { says: [&[SAY], &[SAY]], leaves: [Leave::Abort, Leave::Never] }

    #[ignore = "large"]
    large_client_cuts: CLIENT_SERVER { says: [&[SAY, SAY], &[SAY, SAY]], budget: Budget { cuts: 2, ..NONE } }
    #[ignore = "large"]
    large_client_bodies: CLIENT_SERVER { says: [&[BODY, ASK], &[ASK]], budget: Budget { cuts: 2, early: 1, ..NONE }, window: 1 }
    #[ignore = "large"]
    large_client_close: CLIENT_SERVER { says: [&[SAY, SAY], &[SAY]], leaves: [Leave::Close, Leave::Never],
        budget: Budget { cuts: 1, early: 1, ..NONE }, slow_handlers: true }
    #[ignore = "large"]
    large_client_slots: CLIENT_SERVER { says: [&[SAY, SAY], &[SAY]], slots: Some(4), budget: Budget { cuts: 1, heartbeats: 2, ..NONE } }
    #[ignore = "large"]
    large_server_restart: CLIENT_SERVER { says: [&[SAY, SAY], &[SAY]], budget: Budget { cuts: 1, restarts: [0, 1], ..NONE } }
    #[ignore = "large"]
    large_client_restart: CLIENT_SERVER { says: [&[SAY, SAY], &[SAY]], budget: Budget { cuts: 1, restarts: [1, 0], ..NONE } }
    #[ignore = "large"]
    large_peer_cuts: PEERS { says: [&[SAY], &[SAY]], budget: Budget { cuts: 2, heartbeats: 1, ..NONE } }
    #[ignore = "large"]
    large_peer_early: PEERS { says: [&[SAY], &[SAY]], budget: Budget { early: 2, ..NONE } }
    #[ignore = "large"]
    large_peer_wall: PEERS { says: [&[SAY], &[SAY]], budget: Budget { walls: [1, 1], early: 1, cuts: 1, ..NONE } }
    #[ignore = "large"]
    large_peer_restart: PEERS { says: [&[SAY, SAY], &[SAY]], budget: Budget { early: 1, restarts: [1, 0], ..NONE } }
    #[ignore = "large"]
    large_peer_epochs: PEERS { says: [&[SAY], &[SAY]], incarnations: true, budget: Budget { cuts: 1, restarts: [1, 1], ..NONE } }
    #[ignore = "large"]
    large_peer_close: PEERS { says: [&[SAY], &[SAY]], leaves: [Leave::Close, Leave::Close], slow_handlers: true, budget: Budget { cuts: 1, ..NONE } }
    #[ignore = "large"]
    large_peer_hold: PEERS { says: [&[SAY], &[SAY]], gates: [Gate::Whimsical, Gate::Accepts], budget: Budget { cuts: 1, ..NONE } }
}
