//! Ends at any moment: close, abort and shutdown, under load, from two threads, without a peer.

mod support;

use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use stellate_actors::handle::SessionHandle;
use stellate_actors::inbox::Item;
use stellate_actors::shared::Refusal;
use stellate_actors::supervise::Phase;
use stellate_protocol::event::{Ask, CallResult, EndCause, Fate};
use stellate_protocol::frame::Outcome;
use stellate_protocol::policy::Policy;
use stellate_protocol::{Class, EntityName};
use support::{Draw, PATIENCE, TestNode, number_of, parcel, quick, scale, until, within};

const A: EntityName = EntityName::osd(1);
const B: EntityName = EntityName::osd(2);

async fn start(name: EntityName, instance: u128) -> TestNode {
    TestNode::start(quick(name, instance, Policy::lossless_peer())).await
}

/// Sends until it may not, and says how many were taken.
async fn flood(handle: SessionHandle) -> u64 {
    let body = Bytes::from(vec![5; 300]);
    let mut taken = 0u64;
    while let Ok(room) = handle.reserve(308, false).await {
        let message = parcel(&taken.to_le_bytes(), body.clone());
        if room.submit(Class::Normal, message, Ask::Nothing).is_err() {
            break;
        }
        taken += 1;
    }
    taken
}

/// S2, S4: what was taken before `close` is delivered, and the counts say so.
#[actix_rt::test]
async fn close_under_load_delivers_all_that_was_taken() {
    let mut draw = Draw(3);
    for _ in 0..scale(15, 200) {
        let (mut a, mut b) = (start(A, 1).await, start(B, 2).await);
        let there = a.dial(&b);
        let sending = actix_rt::spawn(flood(there.clone()));
        let before = draw.below(2_000);
        let mut got = 0;
        while got < before {
            assert_eq!(number_of(&b.next_parcel().await), got);
            got += 1;
        }
        there.close();
        let taken = within("the sender to stop", sending).await.expect("no panic");
        while got < taken {
            assert_eq!(number_of(&b.next_parcel().await), got, "S1, S2");
            got += 1;
        }
        within("the end", there.ended()).await;
        let (here, other) = (a.next_end().await, b.next_end().await);
        assert_eq!(here.cause, EndCause::ClosedHere);
        assert_eq!(other.cause, EndCause::ClosedByPeer);
        let counts = here.counts[Class::Normal.index()];
        assert_eq!((counts.unacked, here.unacked.len()), (0, 0));
        assert_eq!(other.counts[Class::Normal.index()].undelivered, 0);
        assert_eq!((a.ends_now(), b.ends_now()), (vec![], vec![]), "S4: once");
        a.shutdown().await;
        b.shutdown().await;
    }
}

/// An answer that is given before the close is sent before it, also when its handler is done in the
/// same breath: then nothing else is owed.
#[actix_rt::test]
async fn a_reply_that_is_given_as_the_session_closes_arrives() {
    for close_first in [true, false] {
        let (a, mut b) = (start(A, 1).await, start(B, 2).await);
        let there = a.dial(&b);
        let back = b.connected().await;
        let call = there.try_request(Class::Normal, parcel(b"ask", ""), None).expect("room");
        let (mut arrived, _) = b.next_arrived().await;
        // All before the session's next turn.
        if close_first {
            back.close();
        }
        assert!(arrived.reply(parcel(b"answer", "")));
        drop(arrived);
        back.close();
        let result = within("the answer", call).await;
        let CallResult::Answered(Outcome::Reply, payload) = result else {
            panic!("an answer, not {result:?}");
        };
        assert_eq!(payload.front()[..], *b"answer");
        within("the end", back.ended()).await;
        within("the end", there.ended()).await;
        a.shutdown().await;
        b.shutdown().await;
    }
}

/// S4: an abort at any moment. What the peer says it delivered is what it delivered.
#[actix_rt::test]
async fn abort_under_load_ends_both_sides_with_exact_counts() {
    let mut draw = Draw(4);
    for _ in 0..scale(25, 300) {
        let (mut a, mut b) = (start(A, 1).await, start(B, 2).await);
        let there = a.dial(&b);
        let sending = actix_rt::spawn(flood(there.clone()));
        let before = draw.below(1_000);
        let mut got = 0;
        while got < before {
            assert_eq!(number_of(&b.next_parcel().await), got);
            got += 1;
        }
        // Either side.
        let by_receiver = draw.below(2) == 0;
        match by_receiver {
            true => b.node.sessions().iter().for_each(SessionHandle::abort),
            false => there.abort(),
        }
        let taken = within("the sender to stop", sending).await.expect("no panic");
        let (here, other) = (a.next_end().await, b.next_end().await);
        let causes = match by_receiver {
            true => [EndCause::ClosedByPeer, EndCause::ClosedHere],
            false => [EndCause::ClosedHere, EndCause::ClosedByPeer],
        };
        let known = [here.cause, other.cause];
        assert_eq!(known, causes);
        let counts = here.counts[Class::Normal.index()];
        assert_eq!(counts.unacked, here.unacked.len() as u64);
        assert!(counts.unacked <= taken);
        for (place, unacked) in here.unacked.iter().enumerate() {
            let number = taken - here.unacked.len() as u64 + place as u64;
            assert_eq!(number_of(&unacked.payload), number, "nothing vanishes");
        }
        if let Some(delivered) = counts.peer_delivered {
            assert_eq!(delivered, got, "S4: exact or unknown");
        }
        let undelivered = other.counts[Class::Normal.index()].undelivered;
        assert!(taken - counts.unacked <= got + undelivered, "S4: what was acked is accounted for");
        assert_eq!((a.ends_now(), b.ends_now()), (vec![], vec![]), "S4: once");
        a.shutdown().await;
        b.shutdown().await;
    }
}

/// S4: what handlers got since the session last looked is not reported as undelivered.
#[actix_rt::test]
async fn s4_what_is_opened_right_before_the_end_was_delivered() {
    let (mut a, mut b) = (start(A, 1).await, start(B, 2).await);
    let there = a.dial(&b);
    let back = b.connected().await;
    for number in 0..5u64 {
        there.try_send(Class::Normal, parcel(&number.to_le_bytes(), "")).expect("room");
    }
    until("all to wait", || b.inbox.len() == 5).await;
    // All in one turn of this thread, so the session has none in between.
    let mut items = std::collections::VecDeque::new();
    let taken = b.inbox.poll_take(&mut Context::from_waker(Waker::noop()), &mut items, 5);
    assert!(taken.is_ready() && items.len() == 5);
    for item in items.iter_mut().take(2) {
        let Item::Message(arrived) = item else { panic!("a message") };
        assert!(arrived.open().is_some());
    }
    back.abort();
    let end = b.next_end().await;
    assert_eq!(
        (end.cause, end.counts[Class::Normal.index()].undelivered),
        (EndCause::ClosedHere, 3)
    );
    let told = a.next_end().await.counts[Class::Normal.index()].peer_delivered;
    assert_eq!(told, Some(2), "and the peer hears the same");
    drop(items);
    a.shutdown().await;
    b.shutdown().await;
}

/// S4: what came with the last turn before a failure is counted: it may be acknowledged by then.
#[actix_rt::test]
async fn s4_what_came_right_before_a_failure_is_counted() {
    let (a, mut b) = (start(A, 1).await, start(B, 2).await);
    let there = a.dial(&b);
    let back = b.connected().await;
    for number in 0..5u64 {
        there.try_send(Class::Normal, parcel(&number.to_le_bytes(), "")).expect("room");
    }
    until("all to wait", || b.inbox.len() == 5).await;
    b.node.tree().panic(&format!("sessions/{}", back.shared().key().0)).expect("there");
    let end = b.next_end().await;
    let undelivered = end.counts[Class::Normal.index()].undelivered;
    assert_eq!((end.cause, undelivered), (EndCause::InternalFault, 5));
    a.shutdown().await;
    b.shutdown().await;
}

/// Before the peer is reached, and when it has gone without a word.
#[actix_rt::test]
async fn close_without_a_peer_ends_within_drain_max() {
    let mut a = start(A, 1).await;
    // A port that nobody listens at, of an address that no other test binds.
    let port = std::net::TcpListener::bind("127.0.9.1:0").expect("binds");
    let address = format!("tcp://{}", port.local_addr().expect("bound"));
    drop(port);
    let to = vec![address.parse().expect("an address")];
    let silent = a.node.connect(B, to.clone()).expect("connects");
    silent.close();
    within("the end", silent.ended()).await;
    assert_eq!(a.next_end().await.cause, EndCause::ClosedHere);
    let owing = a.node.connect(B, to).expect("connects");
    owing.try_send(Class::Normal, parcel(b"x", "")).expect("room");
    let call = owing.try_request(Class::Normal, parcel(b"y", ""), None).expect("room");
    owing.close();
    assert!(matches!(
        owing.try_send(Class::Normal, parcel(b"z", "")),
        Err(Refusal::Ended(_, None))
    ));
    let most = a.node.limits().drain_max + PATIENCE / 2;
    tokio::time::timeout(most, owing.ended()).await.expect("drain_max");
    let end = a.next_end().await;
    assert_eq!(end.cause, EndCause::ClosedHere);
    assert_eq!(end.unacked.len(), 2, "all of it comes back");
    assert_eq!(call.await, CallResult::SessionEnded(Fate::NotSent));
    a.shutdown().await;
}

/// The peer's process is there and its session is, but nobody opens what it received.
#[actix_rt::test]
async fn close_while_the_peer_does_not_handle_ends_within_drain_max() {
    let (mut a, mut b) = (start(A, 1).await, start(B, 2).await);
    let there = a.dial(&b);
    b.connected().await;
    for number in 0..10u64 {
        there.try_send(Class::Normal, parcel(&number.to_le_bytes(), "")).expect("room");
    }
    within("the ack", there.received(Class::Normal, 10)).await.expect("received");
    there.close();
    within("the end", there.ended()).await;
    assert_eq!(a.next_end().await.cause, EndCause::ClosedHere);
    let other = b.next_end().await;
    assert_eq!(other.cause, EndCause::ClosedByPeer);
    assert_eq!(other.counts[Class::Normal.index()].undelivered, 10, "S4");
    a.shutdown().await;
    b.shutdown().await;
}

/// Both sides, and both threads of one side, at once.
#[actix_rt::test]
async fn ends_from_all_sides_at_once_are_one_end() {
    let mut draw = Draw(5);
    for _ in 0..scale(40, 400) {
        let (mut a, mut b) = (start(A, 1).await, start(B, 2).await);
        let there = a.dial(&b);
        let back = b.connected().await;
        let tasks = [there.clone(), back.clone()].map(|handle| actix_rt::spawn(flood(handle)));
        let ways: [fn(&SessionHandle); 2] = [SessionHandle::close, SessionHandle::abort];
        let threads: Vec<_> = [&there, &there, &back, &back]
            .into_iter()
            .map(|handle| {
                let (handle, way) = (handle.clone(), ways[draw.below(2) as usize]);
                #[allow(clippy::disallowed_methods)] // What is tested: ends from any thread.
                tokio::task::spawn_blocking(move || way(&handle))
            })
            .collect();
        for thread in threads {
            thread.await.expect("no panic");
        }
        for task in tasks {
            within("a sender to stop", task).await.expect("no panic");
        }
        within("the end here", there.ended()).await;
        within("the end there", back.ended()).await;
        a.next_end().await;
        b.next_end().await;
        assert_eq!((a.ends_now(), b.ends_now()), (vec![], vec![]), "S4: once");
        a.shutdown().await;
        b.shutdown().await;
    }
}

/// Shutdown with many sessions under load, both sides at once, and nothing stays.
#[actix_rt::test]
async fn shutdown_under_load_returns_and_frees_everything() {
    let hub = start(A, 1).await;
    let mut spokes = Vec::new();
    for number in 0..100u64 {
        let name = EntityName::osd(100 + number);
        let mut config = quick(name, 100 + u128::from(number), Policy::lossless_peer());
        config.limits.outbox_messages = 16;
        spokes.push(TestNode::start(config).await);
    }
    let handles: Vec<_> = spokes.iter().map(|spoke| spoke.dial(&hub)).collect();
    let tasks: Vec<_> =
        handles.iter().map(|handle| actix_rt::spawn(flood(handle.clone()))).collect();
    for spoke in &mut spokes {
        spoke.connected().await;
    }
    // The hub handles what comes, for a while.
    let mut hub = hub;
    for _ in 0..1_000 {
        hub.next_parcel().await;
    }
    let weak: Vec<_> = handles.iter().map(|handle| Arc::downgrade(handle.shared())).collect();
    let node = hub.node.clone();
    let draining = async {
        let discard = async {
            loop {
                hub.next_parcel().await;
            }
        };
        tokio::select! {
            () = node.shutdown() => {}
            () = discard => {}
        }
    };
    within("the hub's shutdown", draining).await;
    assert!(hub.node.sessions().is_empty());
    assert_eq!(hub.node.tree().len(), 0, "{:?}", hub.node.tree().members(""));
    for task in tasks {
        within("a sender to stop", task).await.expect("no panic");
    }
    let spokes_gone = futures::future::join_all(spokes.into_iter().map(TestNode::shutdown));
    within("the others' shutdown", spokes_gone).await;
    drop((handles, hub));
    support::until("the sessions to be freed", || weak.iter().all(|weak| weak.upgrade().is_none()))
        .await;
}

/// Shutdown while the other side does the same, and while dials are out.
#[actix_rt::test]
async fn shutdown_of_both_sides_at_once_returns() {
    let start = |name, instance| {
        let mut config = quick(name, instance, Policy::lossless_peer());
        // Nobody handles what comes, so each round takes all of it.
        config.limits.drain_max = Duration::from_millis(100);
        TestNode::start(config)
    };
    for _ in 0..scale(20, 300) {
        let (a, b) = (start(A, 1).await, start(B, 2).await);
        let there = a.dial(&b);
        let back = b.dial(&a);
        let tasks = [there, back].map(|handle| actix_rt::spawn(flood(handle)));
        tokio::task::yield_now().await;
        futures::join!(a.shutdown(), b.shutdown());
        for task in tasks {
            within("a sender to stop", task).await.expect("no panic");
        }
    }
}

/// Waiters for room, for receipts and for replies all hear of the end.
#[actix_rt::test]
async fn s6_every_waiter_hears_of_the_end() {
    let mut config = quick(A, 1, Policy::lossless_peer());
    config.limits.outbox_messages = 4;
    let mut a = TestNode::start(config).await;
    let mut b = start(B, 2).await;
    let there = a.dial(&b);
    b.connected().await;
    b.node.tree().pause("links/1").expect("there");
    let call = there.try_request(Class::Normal, parcel(b"y", ""), None).expect("room");
    for _ in 0..3 {
        there.try_send(Class::Normal, parcel(b"x", "")).expect("room");
    }
    let room = actix_rt::spawn({
        let there = there.clone();
        async move { there.reserve(10, false).await.map(drop) }
    });
    let receipt = actix_rt::spawn({
        let there = there.clone();
        async move { there.received(Class::Normal, 4).await }
    });
    // Both wait from their first poll on, which is before this task goes on.
    tokio::task::yield_now().await;
    there.abort();
    within("the end", there.ended()).await;
    let ended = within("the room", room).await.expect("no panic");
    assert!(ended.is_err(), "{ended:?}");
    assert!(within("the receipt", receipt).await.expect("no panic").is_err());
    let fate = within("the call", call).await;
    assert!(matches!(fate, CallResult::SessionEnded(_)), "{fate:?}");
    a.next_end().await;
    a.shutdown().await;
    b.node.tree().resume("links/1").expect("there");
    b.shutdown().await;
}

/// S4: the last word waits behind what a slow peer has not read, also when the messenger goes.
#[actix_rt::test]
async fn shutdown_sends_its_last_word_through_a_full_link() {
    let mut config = quick(A, 1, Policy::lossless_peer());
    config.limits.drain_max = Duration::from_millis(100);
    let a = TestNode::start(config).await;
    let mut b = start(B, 2).await;
    let there = a.dial(&b);
    let back = b.connected().await;
    let own = a.node.tree().members("links")[0].clone();
    let link = b.node.tree().members("links")[0].clone();
    b.node.tree().pause(&link).expect("there");
    let body = Bytes::from(vec![5; 8_000]);
    while there.shared().outbox().1 < 12_000_000 {
        let taken = there.try_send(Class::Normal, parcel(b"full", body.clone()));
        if taken.is_err() {
            break;
        }
    }
    let resuming = async {
        there.ended().await;
        let going = || a.node.tree().phase(&own).is_none_or(|phase| phase != Phase::Up);
        until("the tree to be taken down", going).await;
        b.node.tree().resume(&link).expect("there");
    };
    futures::join!(a.node.shutdown(), resuming);
    assert_eq!(b.next_end().await.cause, EndCause::ClosedByPeer);
    within("the end", back.ended()).await;
    b.shutdown().await;
}
