//! Sessions over a real fabric, with real faults: cables, queue pairs, killed processes, a
//! change of transports.
//!
//! `tests/rdma-guest.sh` runs these, over soft RoCE and soft iWARP. `STELLATE_FABRIC` is where to
//! listen, say `rdma://10.77.0.2:0`; `STELLATE_CABLE` names the network device under it, and
//! `STELLATE_HOSTS` the script whose `down` and `up` pull and plug it.
#![cfg(any(feature = "rdma", feature = "rsockets"))]
#![allow(clippy::unwrap_used, unreachable_pub)] // Helpers are outside of `#[test]` functions.

#[path = "fabric/explain.rs"]
mod explain;
#[path = "fabric/peer.rs"]
mod peer;
#[path = "fabric/refusals.rs"]
mod refusals;
#[cfg(feature = "rdma")]
#[path = "fabric/removal.rs"]
mod removal;
#[path = "fabric/side.rs"]
mod side;
#[cfg(feature = "rdma")]
#[path = "fabric/soak.rs"]
mod soak;
#[cfg(feature = "rdma")]
#[path = "../transport/tests/tap/mod.rs"]
mod tap;

use std::time::Duration;

use stellate::prelude::*;
use tokio::time::Instant;

use peer::Peer;
use side::{Side, cable, fabric, limits, scheme, send, until};

#[actix_rt::test]
#[ignore = "needs an RDMA device"]
async fn s2_s9_a_session_survives_its_cable() {
    let fabric = fabric();
    let two = Side::new(2, &[&fabric]).await;
    let one = Side::new(1, &[]).await;
    let there = one.messenger.connect(EntityName::osd(2), two.address(scheme(&fabric))).unwrap();
    let mut sent = 0;
    for round in 1..=2 {
        send(&there, sent..sent + 20).await;
        two.has_begun(sent + 1).await;
        cable("down");
        send(&there, sent + 20..sent + 40).await;
        until("the loss", || there.counters().links_lost >= round).await;
        cable("up");
        sent += 60;
        send(&there, sent - 20..sent).await;
        two.has_read(sent, &there).await;
    }
    assert_eq!(there.counters().ended, 0);
}

/// TCP, RDMA and TCP again under a loaded session.
#[actix_rt::test]
#[ignore = "needs an RDMA device"]
async fn s1_s2_a_loaded_session_moves_to_rdma_and_back() {
    let fabric = fabric();
    let two = Side::new(2, &["tcp://127.0.0.1:0", &fabric]).await;
    let one = Side::new(1, &[]).await;
    let (tcp, rdma) = (two.address("tcp"), two.address(scheme(&fabric)));
    let there = one.messenger.connect(EntityName::osd(2), tcp.clone()).unwrap();
    // Each move is in the middle of what was sent: taken, and not all read.
    send(&there, 0..40).await;
    two.has_begun(1).await;
    there.readdress(rdma.clone()).unwrap();
    send(&there, 40..80).await;
    two.has_begun(41).await;
    there.readdress(tcp.clone()).unwrap();
    send(&there, 80..120).await;
    two.has_read(120, &there).await;
    let resumed = there.counters().resumes_sent;
    assert!(resumed >= 2, "both moves were resumes: {:?}", there.counters());
    // A dead address first: the next in the list is taken.
    let dead: Address =
        format!("{}:9", rdma.to_string().rsplit_once(':').unwrap().0).parse().unwrap();
    there.readdress([dead, tcp]).unwrap();
    send(&there, 120..140).await;
    two.has_read(140, &there).await;
    assert_eq!(there.counters().ended, 0);
}

/// Once with its cable in, when its kernel says goodbye for it, and once with the cable out, when
/// nobody does.
#[actix_rt::test]
#[ignore = "needs an RDMA device"]
async fn s9_a_killed_peer_is_found_within_the_deadline() {
    for pulled in [false, true] {
        let mut peer = Peer::start();
        let one = Side::new(1, &[]).await;
        let there = one.messenger.connect(EntityName::osd(2), peer.at.clone()).unwrap();
        send(&there, 0..8).await;
        until("it is up", || there.is_up()).await;
        if pulled {
            cable("down");
        }
        peer.kill();
        let killed = Instant::now();
        until("the loss", || there.counters().links_lost > 0).await;
        let took = killed.elapsed();
        println!("cable {}: found after {took:?}", if pulled { "out" } else { "in" });
        // Silence is noticed at a heartbeat of ours; a late timer of ours is not the peer's (S9).
        let deadline = limits().heartbeat_deadline + limits().heartbeat_every;
        let stalls = there.counters().local_stalls as u32;
        let slack = Duration::from_secs(3);
        assert!(took <= deadline * (1 + stalls) + slack, "S9: {took:?}, {stalls} stalls");
        if pulled {
            cable("up");
        }
        there.abort();
    }
}
