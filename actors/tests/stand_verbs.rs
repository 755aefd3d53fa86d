//! Killed actors of the messenger itself, under load: each costs what the design says, no more.

mod support;

use bytes::Bytes;
use stellate_actors::handle::SessionHandle;
use stellate_actors::supervise::What;
use stellate_protocol::event::EndCause;
use stellate_protocol::policy::Policy;
use stellate_protocol::{Class, EntityName};
use support::{TestNode, number_of, parcel, quick, send, within};

const COUNT: u64 = 4_000;

async fn pair() -> (TestNode, TestNode) {
    let start = |name: EntityName, instance| {
        TestNode::start(quick(name, instance, Policy::lossless_peer()))
    };
    (start(EntityName::osd(1), 1).await, start(EntityName::osd(2), 2).await)
}

fn sending(handle: &SessionHandle) -> actix_rt::task::JoinHandle<()> {
    let handle = handle.clone();
    actix_rt::spawn(async move {
        let body = Bytes::from(vec![5; 300]);
        for number in 0..COUNT {
            send(&handle, Class::Normal, parcel(&number.to_le_bytes(), body.clone())).await;
        }
    })
}

/// Both sides under load, `hurt` at several moments on either side: nothing is lost or doubled.
async fn stands(mut hurt: impl FnMut(&TestNode)) -> (TestNode, TestNode) {
    let (a, mut b) = pair().await;
    let there = a.dial(&b);
    let back = b.connected().await;
    let mut nodes = [a, b];
    let tasks = [sending(&there), sending(&back)];
    let [a, b] = &mut nodes;
    for number in 0..COUNT {
        if number % 1_000 == 500 {
            hurt(a);
        }
        if number % 1_000 == 900 {
            hurt(b);
        }
        for node in [&mut *a, &mut *b] {
            assert_eq!(number_of(&node.next_parcel().await), number, "S1, S2");
        }
    }
    for task in tasks {
        within("all to be sent", task).await.expect("sent");
    }
    for (node, handle) in [(&mut *a, there), (&mut *b, back)] {
        within("all to be received", handle.received(Class::Normal, COUNT))
            .await
            .expect("received");
        assert_eq!(node.ends_now(), []);
    }
    let [a, b] = nodes;
    (a, b)
}

async fn end(nodes: (TestNode, TestNode)) {
    nodes.0.shutdown().await;
    nodes.1.shutdown().await;
}

fn link_of(node: &TestNode) -> Option<std::sync::Arc<str>> {
    node.node.tree().members("links").into_iter().last()
}

#[actix_rt::test]
async fn v1_a_killed_dispatch_queue_loses_nothing() {
    let nodes = stands(|node| {
        node.node.tree().kill("dispatch-0").expect("there");
    })
    .await;
    for node in [&nodes.0, &nodes.1] {
        let history = node.node.tree().history_of("dispatch-0");
        let kills = history.iter().filter(|what| **what == What::Killed).count();
        assert!(kills >= 2, "{kills} kills");
    }
    end(nodes).await;
}

#[actix_rt::test]
async fn v1_a_panic_in_the_dispatch_queue_costs_at_most_a_batch_of_nothing() {
    end(stands(|node| {
        node.node.tree().panic("dispatch-0").expect("there");
    })
    .await)
    .await;
}

#[actix_rt::test]
async fn v1_a_killed_link_is_a_link_fault() {
    let (a, b) = stands(|node| {
        if let Some(link) = link_of(node) {
            // It may be going by itself.
            let _ = node.node.tree().kill(&link);
        }
    })
    .await;
    let session = &a.node.sessions()[0];
    let counters = session.shared().snapshot().counters;
    assert!(counters.links_lost >= 2, "{counters:?}");
    end((a, b)).await;
}

#[actix_rt::test]
async fn v1_a_panicking_link_is_a_link_fault() {
    end(stands(|node| {
        if let Some(link) = link_of(node) {
            let _ = node.node.tree().panic(&link);
        }
    })
    .await)
    .await;
}

#[actix_rt::test]
async fn v1_a_killed_reconnect_supervisor_costs_a_back_off() {
    end(stands(|node| {
        // With a dial out: the link goes first.
        if let Some(link) = link_of(node) {
            let _ = node.node.tree().kill(&link);
        }
        node.node.tree().kill("reconnect-0").expect("there");
    })
    .await)
    .await;
}

#[actix_rt::test]
async fn v1_a_killed_endpoint_keeps_routing() {
    end(stands(|node| {
        if let Some(link) = link_of(node) {
            let _ = node.node.tree().kill(&link);
        }
        node.node.tree().kill("endpoint").expect("there");
    })
    .await)
    .await;
}

#[actix_rt::test]
async fn v1_a_killed_listener_keeps_accepting() {
    let (a, b) = stands(|node| {
        if let Some(link) = link_of(node) {
            let _ = node.node.tree().kill(&link);
        }
        node.node.tree().kill("listener-0").expect("there");
    })
    .await;
    let mut c = TestNode::start(quick(EntityName::osd(3), 3, Policy::lossless_peer())).await;
    c.dial(&a);
    c.connected().await;
    c.shutdown().await;
    end((a, b)).await;
}

/// S4: a session's actor dies under load. Both sides hear once, with exact counts, and a new
/// session goes through.
async fn session_dies(hurt: impl Fn(&TestNode, &str)) {
    let (mut a, mut b) = pair().await;
    let there = a.dial(&b);
    let back = b.connected().await;
    a.connected().await;
    let task = {
        let there = there.clone();
        actix_rt::spawn(async move {
            let mut accepted = 0u64;
            while let Ok(room) = there.reserve(8, false).await {
                let message = parcel(&accepted.to_le_bytes(), "");
                let ask = stellate_protocol::event::Ask::Nothing;
                if room.submit(Class::Normal, message, ask).is_err() {
                    break;
                }
                accepted += 1;
            }
            accepted
        })
    };
    let mut opened = 0;
    while opened < 1_000 {
        assert_eq!(number_of(&b.next_parcel().await), opened);
        opened += 1;
    }
    let path = a.node.tree().members("sessions")[0].clone();
    hurt(&a, &path);
    let end = a.next_end().await;
    assert_eq!(end.cause, EndCause::InternalFault);
    let accepted = within("the sender to hear of it", task).await.expect("no panic");
    let counts = end.counts[Class::Normal.index()];
    assert!(counts.unacked <= accepted, "{counts:?} of {accepted}");
    assert_eq!(counts.undelivered, 0);
    let other = within("the other side", b.next_end()).await;
    assert!(
        matches!(other.cause, EndCause::InternalFault | EndCause::ClosedByPeer),
        "{:?}",
        other.cause
    );
    within("the end here", there.ended()).await;
    within("the end there", back.ended()).await;
    let again = a.dial(&b);
    a.connected().await;
    again.try_send(Class::Normal, parcel(&u64::MAX.to_le_bytes(), "")).expect("room");
    // What was received before and not opened died with its session (S6).
    assert_eq!(number_of(&b.next_parcel().await), u64::MAX);
    assert_eq!((a.ends_now(), b.ends_now()), (vec![], vec![]), "S4: once");
    a.shutdown().await;
    b.shutdown().await;
}

#[actix_rt::test]
async fn s4_a_killed_session_ends_on_both_sides() {
    session_dies(|node, path| {
        node.node.tree().kill(path).expect("there");
    })
    .await;
}

#[actix_rt::test]
async fn s4_a_panicking_session_ends_on_both_sides() {
    session_dies(|node, path| {
        node.node.tree().panic(path).expect("there");
    })
    .await;
}

/// The other side has nothing to say, so only the one that died can tell it: also when it was let
/// in and does not know yet.
#[actix_rt::test]
async fn s4_a_killed_session_tells_a_peer_that_only_listens() {
    for waits in [true, false] {
        let (mut a, mut b) = pair().await;
        let there = a.dial(&b);
        if waits {
            a.connected().await;
        }
        b.connected().await;
        a.node.tree().kill("sessions/1").expect("there");
        within("the end here", there.ended()).await;
        let end = b.next_end().await;
        assert_eq!(end.cause, EndCause::InternalFault);
        a.shutdown().await;
        b.shutdown().await;
    }
}

/// S9: a link whose actor does not move is as silent as one whose peer is.
#[actix_rt::test]
async fn s9_a_link_that_hangs_is_replaced() {
    let start = |name: EntityName, instance| {
        let mut config = quick(name, instance, Policy::lossless_peer());
        config.limits.heartbeat_deadline = std::time::Duration::from_millis(500);
        config.limits.heartbeat_every = std::time::Duration::from_millis(100);
        TestNode::start(config)
    };
    let mut a = start(EntityName::osd(1), 1).await;
    let mut b = start(EntityName::osd(2), 2).await;
    let there = a.dial(&b);
    a.connected().await;
    let link = link_of(&a).expect("up");
    a.node.tree().pause(&link).expect("there");
    there.try_send(Class::Normal, parcel(b"through", "")).expect("room");
    assert_eq!(b.next_parcel().await.front()[..], *b"through");
    let link = link_of(&a).expect("up again");
    a.node.tree().pause(&link).expect("there");
    there.try_send(Class::Normal, parcel(b"stuck", "")).expect("room");
    there.close();
    within("the end", there.ended()).await;
    assert_eq!(a.next_end().await.cause, EndCause::ClosedHere);
    a.shutdown().await;
    b.shutdown().await;
}

/// V2: who dies too often takes nobody along but by the rules; the messenger ends in order.
#[actix_rt::test]
#[ignore = "a dozen seconds of back-off"]
async fn v3_an_endpoint_that_keeps_dying_ends_the_tree_in_order() {
    let (a, b) = pair().await;
    let there = a.dial(&b);
    let ended = a.node.tree().ended();
    for _ in 0..100 {
        if a.node.tree().kill("endpoint").is_err() {
            break;
        }
        let started = |what: &What| matches!(what, What::Started | What::GaveUp { .. });
        let waiting = a.node.tree().wait_for("endpoint", started);
        let _ = tokio::time::timeout(std::time::Duration::from_millis(700), waiting).await;
    }
    let cause = within("the tree to end", ended).await;
    assert!(cause.is_some(), "V3: with the chain of causes");
    within("the session to end", there.ended()).await;
    b.shutdown().await;
}
