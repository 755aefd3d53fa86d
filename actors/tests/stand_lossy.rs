//! Lossy pairs: a cut ends both sides, once each, with exact counts (S4).

mod support;

use std::sync::Arc;

use stellate_protocol::event::{EndCause, Event};
use stellate_protocol::policy::Policy;
use stellate_protocol::{Class, EntityName, FrameKind};
use stellate_transport::faults::{Direction, Fault, Faults};
use stellate_transport::{Tcp, Transport};
use support::{TestNode, number_of, parcel, quick, within};

async fn pair(faults: &Faults, client: Policy, server: Policy) -> (TestNode, TestNode) {
    let mut config = quick(EntityName::client(1), 1, client);
    let tcp: Arc<dyn Transport> = Arc::new(Tcp::new());
    config.transports = vec![faults.wrap(tcp)];
    let client = TestNode::start(config).await;
    let server = TestNode::start(quick(EntityName::osd(2), 2, server)).await;
    (client, server)
}

#[actix_rt::test]
async fn s4_a_cut_ends_both_sides_of_a_lossy_pair_once() {
    for server in [Policy::stateless_server(), Policy::stateful_server()] {
        for nth in [1, 2, 10, 37] {
            let faults = Faults::new();
            faults.on(FrameKind::Message, Direction::Sent, nth, Fault::Fail);
            let (mut a, mut b) = pair(&faults, Policy::lossy_client(), server).await;
            let handle = a.dial(&b);
            for number in 0..50u64 {
                handle
                    .try_send(Class::Normal, parcel(&number.to_le_bytes(), "data"))
                    .expect("room");
            }
            let (here, there) = (a.next_end().await, b.next_end().await);
            assert_eq!([here.cause, there.cause], [EndCause::LinkLost; 2]);
            let counts = here.counts[Class::Normal.index()];
            assert_eq!(here.unacked.len() as u64, counts.unacked, "S4");
            let sent = here.unacked.iter().filter(|message| message.sent).count();
            assert_eq!(sent as u64, counts.unacked_sent, "S4");
            // In order, at most once: what came is a beginning, and the rest was taken back.
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            let mut batch = std::collections::VecDeque::new();
            while b.inbox.poll_take(&mut cx, &mut batch, 64).is_ready() {}
            let undelivered = there.counts[Class::Normal.index()].undelivered;
            assert_eq!(undelivered, batch.len() as u64, "S4: received, never opened");
            assert!(undelivered < nth);
            let first_back = number_of(&here.unacked[0].payload);
            assert!(first_back <= undelivered, "nothing vanishes");
            assert!(matches!(
                handle.try_send(Class::Normal, parcel(b"late", "")),
                Err(stellate_actors::shared::Refusal::Ended(_, Some(EndCause::LinkLost)))
            ));
            within("the end", handle.ended()).await;
            assert_eq!((a.ends_now(), b.ends_now()), (vec![], vec![]), "S4: once");
            a.shutdown().await;
            b.shutdown().await;
        }
    }
}

/// S6: what was sent on the session before never reaches the one after.
#[actix_rt::test]
async fn s6_a_new_session_of_a_lossy_client_begins_anew() {
    let faults = Faults::new();
    let (mut a, mut b) = pair(&faults, Policy::lossy_client(), Policy::stateless_server()).await;
    for round in 0..20u64 {
        let handle = a.dial(&b);
        a.connected().await;
        b.connected().await;
        faults.on_next(FrameKind::Message, Direction::Sent, 4, Fault::Fail);
        for number in 0..8u64 {
            handle
                .try_send(Class::Normal, parcel(&(round * 100 + number).to_le_bytes(), ""))
                .expect("room");
        }
        assert_eq!(a.next_end().await.cause, EndCause::LinkLost);
        assert_eq!(b.next_end().await.cause, EndCause::LinkLost);
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let mut batch = std::collections::VecDeque::new();
        while b.inbox.poll_take(&mut cx, &mut batch, 64).is_ready() {}
        for item in batch {
            let stellate_actors::inbox::Item::Message(mut arrived) = item else {
                panic!("only messages");
            };
            assert!(arrived.open().is_none(), "S6: its session is over");
        }
    }
    assert!(!a.events_now().iter().any(|item| matches!(
        item,
        stellate_actors::inbox::Item::Notice(stellate_actors::inbox::Notice::Event(_, event))
            if matches!(**event, Event::Resumed { .. })
    )));
    a.shutdown().await;
    b.shutdown().await;
}

/// What is sent from another thread while the session ends comes back whole: what the session had
/// taken in, and what was staged behind the input that ended it.
#[actix_rt::test]
async fn s4_nothing_vanishes_that_was_accepted_while_the_session_ended() {
    for round in 0..30u64 {
        let faults = Faults::new();
        faults.on(FrameKind::Message, Direction::Sent, 100 + round * 37, Fault::Fail);
        let mut config = quick(EntityName::client(1), 1, Policy::lossy_client());
        let tcp: Arc<dyn Transport> = Arc::new(Tcp::new());
        config.transports = vec![faults.wrap(tcp)];
        config.arbiters = 1;
        let mut a = TestNode::start(config).await;
        let b = TestNode::start(quick(EntityName::osd(2), 2, Policy::stateless_server())).await;
        let handle = a.dial(&b);
        a.connected().await;
        let mut accepted = 0u64;
        loop {
            match handle.try_send(Class::Normal, parcel(&accepted.to_le_bytes(), "")) {
                Ok(_) => accepted += 1,
                Err(stellate_actors::shared::Refusal::Ended(..)) => break,
                Err(_) => tokio::task::yield_now().await,
            }
            if accepted.is_multiple_of(64) {
                tokio::task::yield_now().await;
            }
        }
        let end = a.next_end().await;
        let back: Vec<u64> = end.unacked.iter().map(|back| number_of(&back.payload)).collect();
        let first = accepted - back.len() as u64;
        let all: Vec<u64> = (first..accepted).collect();
        assert!(back == all, "S4: round {round}: of {accepted} came back {}", back.len());
        assert_eq!(end.counts[Class::Normal.index()].unacked, back.len() as u64);
        a.shutdown().await;
        b.shutdown().await;
    }
}
