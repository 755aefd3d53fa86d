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
            assert_eq!(
                undelivered,
                batch.len() as u64,
                "S4: received, never opened"
            );
            assert!(undelivered < nth);
            let first_back = number_of(&here.unacked[0].payload);
            assert!(first_back <= undelivered, "nothing vanishes");
            assert!(matches!(
                handle.try_send(Class::Normal, parcel(b"late", "")),
                Err(stellate_actors::shared::Refusal::Ended(
                    _,
                    Some(EndCause::LinkLost)
                ))
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
                .try_send(
                    Class::Normal,
                    parcel(&(round * 100 + number).to_le_bytes(), ""),
                )
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
