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

/// Explores all of it, and fails with the shortest way to the first broken promise.
fn check(spec: Spec) {
    std::panic::set_hook(Box::new(|info| println!("{info}")));
    let name = spec.name;
    let limit = 100;
    let began = std::time::Instant::now();
    let checker = Machine::new(spec)
        .checker()
        .threads(1) // two can wait for each other for ever when one stops early (0.31)
        .timeout(std::time::Duration::from_secs(limit))
        .finish_when(HasDiscoveries::Any)
        .spawn_bfs()
        .join();
    let (unique, depth) = (checker.unique_state_count(), checker.max_depth());
    println!(
        "{name}: {unique} states, depth {depth}, {:?}",
        began.elapsed()
    );
    if let Ok(coverage) = checker.model().coverage.lock() {
        let total = stellate_protocol::session::Coverage::total();
        println!(
            "{name}: {} of {total} table cells",
            total - coverage.never().len()
        );
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

#[test]
fn client_and_server_over_one_cut() {
    check(Spec {
        says: [&[SAY, SAY], &[SAY]],
        budget: Budget {
            cuts: 1,
            ..Budget::default()
        },
        ..Spec::new("client_server_cut", CLIENT_SERVER)
    });
}

#[test]
fn race_over_one_cut() {
    check(Spec {
        says: [&[SAY], &[SAY]],
        budget: Budget {
            cuts: 1,
            ..Budget::default()
        },
        ..Spec::new("race_cut", PEERS)
    });
}

#[test]
fn race_with_early_timers() {
    check(Spec {
        says: [&[SAY], &[SAY]],
        budget: Budget {
            early: 2,
            ..Budget::default()
        },
        ..Spec::new("race_early", PEERS)
    });
}

#[test]
fn race_over_a_one_way_net() {
    check(Spec {
        says: [&[SAY], &[SAY]],
        budget: Budget {
            walls: [0, 1],
            early: 1,
            ..Budget::default()
        },
        ..Spec::new("race_wall", PEERS)
    });
}

#[test]
fn race_over_a_one_way_net_the_other_way() {
    check(Spec {
        says: [&[SAY], &[SAY]],
        budget: Budget {
            walls: [1, 0],
            early: 1,
            ..Budget::default()
        },
        ..Spec::new("race_wall_low", PEERS)
    });
}

#[test]
fn restart_of_the_server() {
    check(Spec {
        says: [&[SAY, SAY], &[SAY]],
        budget: Budget {
            restarts: [0, 1],
            ..Budget::default()
        },
        ..Spec::new("server_restart", CLIENT_SERVER)
    });
}

#[test]
fn restart_of_a_peer() {
    check(Spec {
        says: [&[SAY], &[SAY]],
        budget: Budget {
            restarts: [0, 1],
            ..Budget::default()
        },
        ..Spec::new("peer_restart", PEERS)
    });
}

#[test]
fn close_of_the_client() {
    check(Spec {
        says: [&[SAY, SAY], &[SAY]],
        leaves: [Leave::Close, Leave::Never],
        slow_handlers: true,
        budget: Budget {
            cuts: 1,
            ..Budget::default()
        },
        ..Spec::new("client_close", CLIENT_SERVER)
    });
}

#[test]
fn abort_of_a_peer() {
    check(Spec {
        says: [&[SAY], &[SAY]],
        leaves: [Leave::Abort, Leave::Never],
        ..Spec::new("peer_abort", PEERS)
    });
}

#[test]
fn held_at_the_server() {
    check(Spec {
        says: [&[SAY, SAY], &[]],
        gates: [Gate::Open, Gate::Whimsical],
        budget: Budget {
            cuts: 1,
            ..Budget::default()
        },
        ..Spec::new("hold", CLIENT_SERVER)
    });
}

#[test]
fn bodies_and_requests() {
    check(Spec {
        says: [&[BODY, ASK], &[ASK]],
        budget: Budget {
            cuts: 1,
            ..Budget::default()
        },
        window: 1,
        ..Spec::new("bodies", CLIENT_SERVER)
    });
}

#[test]
fn lossy_pair() {
    check(Spec {
        says: [&[SAY, SAY], &[SAY]],
        budget: Budget {
            cuts: 1,
            ..Budget::default()
        },
        ..Spec::new(
            "lossy",
            [Policy::lossy_client(), Policy::stateless_server()],
        )
    });
}
