//! Events that nobody reads: bounded, and every end is told all the same.

mod support;

use stellate_protocol::event::EndCause;
use stellate_protocol::frame::{Close, CloseReason, RefuseReason, Verdict};
use stellate_protocol::policy::Policy;
use stellate_protocol::{Class, EntityName, Frame};
use support::raw::{self, Raw};
use support::{TestNode, parcel, quick, scale, send, until, within};

/// S4, S7: events that nobody reads press back on those who begin sessions, and no end is dropped.
#[actix_rt::test]
async fn s7_ends_that_nobody_reads_are_bounded_and_none_is_dropped() {
    const EVENTS: u32 = 16;
    let mut config = quick(EntityName::osd(1), 1, Policy::lossless_peer());
    config.limits.events_max = EVENTS;
    let mut node = TestNode::start(config).await;
    let close = Frame::Close(Box::new(Close {
        reason: CloseReason::Closed,
        delivered: Default::default(),
        text: String::new(),
    }));
    let mut born = 0;
    let mut instance = 100;
    for _ in 0..scale(5, 50) {
        // Until it is refused.
        loop {
            instance += 1;
            let who = raw::who(EntityName::osd(instance as u64), instance);
            let mut raw = Raw::dial(&raw::at(&node)).await;
            let hello = raw::hello(who, EntityName::osd(1), 1, 1);
            raw.send(&Frame::Hello(Box::new(hello))).await;
            match raw.answer().await.verdict {
                Verdict::Accepted { .. } => born += 1,
                Verdict::Refused { reason, .. } => {
                    assert_eq!(reason, RefuseReason::Busy);
                    break;
                }
                other => panic!("{other:?}"),
            }
            raw.send(&close).await;
            raw.closed().await;
            until("the session to end", || node.node.sessions().is_empty()).await;
            assert!(node.events.notices() <= EVENTS as usize + 1, "S7");
        }
        let dialled = node.node.connect(EntityName::osd(2), node.node.local_addresses());
        let dialled = dialled.expect("a handle");
        let dials = || dialled.shared().snapshot().counters.dials;
        until("it to try", || dials() >= 2).await;
        assert!(dialled.shared().snapshot().peer.is_none(), "nor does one begin from here");
        let ends = node.ends_now();
        assert_eq!(ends, vec![EndCause::ClosedByPeer; born], "S4: each once");
        born = 0;
        // It is read again: the dial goes out, to somebody of another name.
        assert!(matches!(node.next_end().await.cause, EndCause::Refused(_)));
        within("the end", dialled.ended()).await;
    }
    node.shutdown().await;
}

/// S7: it is not the number of ends alone. What was not acked comes back with them, and stays until
/// they are read.
#[actix_rt::test]
async fn s7_what_unread_ends_give_back_is_bounded_in_bytes() {
    const LEN: usize = 256 * 1024;
    const ENDS: usize = 4;
    let mut config = quick(EntityName::osd(1), 1, Policy::lossless_peer());
    config.limits.events_bytes = (ENDS * LEN) as u64;
    let mut node = TestNode::start(config).await;
    let close = Frame::Close(Box::new(Close {
        reason: CloseReason::Aborted,
        delivered: Default::default(),
        text: String::new(),
    }));
    let mut instance = 100;
    for _ in 0..3 {
        let mut ended = 0;
        loop {
            instance += 1;
            let who = raw::who(EntityName::osd(instance as u64), instance);
            let mut raw = Raw::dial(&raw::at(&node)).await;
            let hello = raw::hello(who, EntityName::osd(1), 1, 1);
            raw.send(&Frame::Hello(Box::new(hello))).await;
            match raw.answer().await.verdict {
                Verdict::Accepted { .. } => {}
                Verdict::Refused { reason: RefuseReason::Busy, .. } => break,
                other => panic!("{other:?}"),
            }
            let session = node.node.sessions().pop().expect("it was accepted");
            send(&session, Class::Normal, parcel(b"x", vec![7; LEN])).await;
            raw.send(&close).await;
            raw.closed().await;
            until("the session to end", || node.node.sessions().is_empty()).await;
            ended += 1;
            assert!(ended <= ENDS, "S7: {} bytes unread", ended * LEN);
        }
        assert_eq!(ended, ENDS);
        for _ in 0..ENDS {
            let end = node.next_end().await;
            assert_eq!(end.unacked.len(), 1, "S4: it comes back");
        }
    }
    node.shutdown().await;
}
