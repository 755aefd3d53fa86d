//! Every way a request can end, each made to happen, in virtual time.
#![allow(clippy::unwrap_used)] // Helpers are outside of `#[test]` functions.

mod facade_support;

use std::future::IntoFuture;
use std::time::Duration;

use facade_support::*;
use futures::channel::oneshot;
use stellate::prelude::*;
use stellate::testing::{Direction, Fault, Faults, FrameKind, Gate, World, virtual_time};
use tokio::sync::mpsc;

const SECOND: Duration = Duration::from_secs(1);

async fn pair(world: &World) -> (Side, Side, Connection) {
    let one = Side::new(world.messenger(EntityName::osd(1))).await;
    let two = Side::new(world.messenger(EntityName::osd(2))).await;
    let there = one.messenger.connect(EntityName::osd(2), two.addresses()).unwrap();
    (one, two, there)
}

fn ask(n: u64, how: How) -> Ask {
    Ask { n, how }
}

/// The numbers of the requests that the desk has handled so far.
fn asked(side: &mut Side) -> Vec<u64> {
    let asked = |seen| match seen {
        Seen::Ask(n) => Some(n),
        _ => None,
    };
    side.rest().into_iter().filter_map(asked).collect()
}

#[test]
fn a_reply_none_a_panic_and_no_handler() {
    virtual_time(1, async |world| {
        let (_one, mut two, there) = pair(&world).await;
        assert_eq!(there.request(ask(1, How::Reply)).await.unwrap().body.n, 1);
        let silent = there.request(ask(2, How::Silent)).await;
        assert!(matches!(silent, Err(RequestError::NoReply)), "{silent:?}");
        let panicked = there.request(ask(3, How::Panic)).await;
        assert!(matches!(panicked, Err(RequestError::HandlerPanicked)), "{panicked:?}");
        let unknown = there.request(Stranger { n: 4 }).await;
        let reason = UndeliverableReason::UnknownType;
        assert!(
            matches!(unknown, Err(RequestError::Undeliverable(found)) if found == reason),
            "{unknown:?}"
        );
        // A restart of the actor lies between; the session knows nothing of it.
        assert_eq!(there.request(ask(5, How::Reply)).await.unwrap().body.n, 5);
        assert_eq!(asked(&mut two), [1, 2, 3, 5]);
    });
}

/// To the tick; and the answer that comes after it is counted and dropped.
#[test]
fn a_timeout_and_its_late_reply() {
    virtual_time(1, async |world| {
        let (_one, mut two, there) = pair(&world).await;
        there.request(ask(1, How::Reply)).await.unwrap();
        let start = world.elapsed();
        let timed = there.request(ask(2, How::Defer)).timeout(5 * SECOND).await;
        assert!(matches!(timed, Err(RequestError::Timeout)), "{timed:?}");
        let took = world.elapsed() - start;
        assert!(took >= 5 * SECOND && took < 5 * SECOND + SECOND / 100, "{took:?}");
        assert_eq!(there.counters().late_replies, 0);
        // The second deferred one lets the first go too.
        assert_eq!(there.request(ask(3, How::Defer)).await.unwrap().body.n, 99);
        world.until("the late reply", || there.counters().late_replies == 1).await;
        assert_eq!(asked(&mut two), [1, 2, 3]);
    });
}

/// Nobody waits any more: the answer is counted and dropped, and its room is free again.
#[test]
fn s7_a_dropped_future_forgets_its_request() {
    virtual_time(1, async |world| {
        let limits = Limits { requests_max: 4, ..Limits::default() };
        let one = Side::new(world.messenger(EntityName::osd(1)).limits(limits)).await;
        let mut two = Side::new(world.messenger(EntityName::osd(2))).await;
        let there = one.messenger.connect(EntityName::osd(2), two.addresses()).unwrap();
        for round in 0..20 {
            let mut dropped = there.request(ask(2 * round, How::Defer)).into_future();
            assert!(futures::poll!(&mut dropped).is_pending());
            // It is there before it is forgotten.
            two.next(|seen| matches!(seen, Seen::Ask(n) if n == 2 * round).then_some(())).await;
            drop(dropped);
            let reply = there.request(ask(2 * round + 1, How::Defer)).await;
            assert_eq!(reply.unwrap().body.n, 99);
            world.until("it to be late", || there.counters().late_replies == round + 1).await;
        }
    });
}

/// It waits in front of its actor until its time is over: then it is not handed out.
#[test]
fn an_expired_request_is_not_handed_out() {
    virtual_time(1, async |world| {
        let one = Side::new(world.messenger(EntityName::osd(1))).await;
        let messenger = world.messenger(EntityName::osd(2)).build().await.unwrap();
        let (log, seen) = mpsc::channel(100);
        let (open, gate) = oneshot::channel();
        let mut gate = Some(gate);
        let desk = move || match gate.take() {
            Some(gate) => Desk::gated(log.clone(), gate),
            None => Desk::new(log.clone()),
        };
        messenger.supervise("desk", desk, Restart::default()).handle::<Ask>().start().unwrap();
        messenger.ready();
        let mut two = Side { messenger, log: seen };
        let there = one.messenger.connect(EntityName::osd(2), two.addresses()).unwrap();
        let first = actix::spawn(there.request(ask(1, How::Wait)).into_future());
        two.next(|seen| matches!(seen, Seen::Ask(1)).then_some(())).await;
        let expires = there.request(ask(2, How::Reply)).timeout(SECOND).await;
        assert!(matches!(expires, Err(RequestError::Timeout)), "{expires:?}");
        let patient = there.request(ask(3, How::Reply)).timeout(60 * SECOND);
        let patient = actix::spawn(patient.into_future());
        world.sleep(2 * SECOND).await;
        open.send(()).unwrap();
        assert_eq!(first.await.unwrap().unwrap().body.n, 1);
        assert_eq!(patient.await.unwrap().unwrap().body.n, 3);
        assert_eq!(asked(&mut two), [3]);
    });
}

/// One that never left was not sent; one that left, or may have, may have been handled.
#[test]
fn s4_the_fate_of_a_request_whose_session_ends() {
    for (kind, fate, handled) in [
        // The session never came up.
        (Some(FrameKind::Hello), Fate::NotSent, vec![]),
        // It left, and was lost with its link: only the peer could know.
        (Some(FrameKind::Message), Fate::MaybeHandled, vec![]),
        // It was in its handler's hands.
        (None, Fate::MaybeHandled, vec![7]),
    ] {
        virtual_time(1, async |world| {
            let faults = Faults::new();
            if let Some(kind) = kind {
                faults.on(kind, Direction::Sent, 1, Fault::Block(Gate::new()));
            }
            let broken = world.messenger(EntityName::osd(1));
            let mut one = Side::new(broken.transport(faults.wrap(world.transport("osd.1")))).await;
            let mut two = Side::new(world.messenger(EntityName::osd(2))).await;
            let there = one.messenger.connect(EntityName::osd(2), two.addresses()).unwrap();
            let request = actix::spawn(there.request(ask(7, How::Defer)).into_future());
            world.sleep(3 * SECOND).await;
            there.abort();
            match request.await.unwrap() {
                Err(RequestError::SessionEnded { fate: found, cause }) => {
                    assert_eq!((found, cause), (fate, Some(EndCause::ClosedHere)), "{kind:?}");
                }
                other => panic!("{other:?}"),
            }
            let (_, cause, mut unacked) = one.end().await;
            assert_eq!(cause, EndCause::ClosedHere);
            let back: Vec<bool> = unacked.drain().map(|message| message.was_sent()).collect();
            match kind {
                Some(FrameKind::Hello) => assert_eq!(back, [false]),
                Some(_) => assert_eq!(back, [true]),
                None => assert_eq!(back, [true; 0], "it was acknowledged"),
            }
            assert_eq!(asked(&mut two), handled, "{kind:?}");
        });
    }
}

/// A link that is lost only delays: one handling, one reply.
#[test]
fn s2_a_request_outlives_its_links() {
    for (side, kind, direction) in [
        (1, FrameKind::Message, Direction::Sent),
        (2, FrameKind::Message, Direction::Received),
        (2, FrameKind::Message, Direction::Sent),
        (1, FrameKind::Message, Direction::Received),
    ] {
        virtual_time(1, async |world| {
            let plans = [Faults::new(), Faults::new()];
            let wrapped = |number: u64| {
                let node = world.transport(&format!("osd.{number}"));
                let plan: &Faults = &plans[number as usize - 1];
                let messenger = world.messenger(EntityName::osd(number));
                messenger.transport(plan.wrap(node))
            };
            let one = Side::new(wrapped(1)).await;
            let mut two = Side::new(wrapped(2)).await;
            plans[side - 1].on(kind, direction, 1, Fault::Fail);
            let there = one.messenger.connect(EntityName::osd(2), two.addresses()).unwrap();
            let reply = there.request(ask(1, How::Reply)).timeout(60 * SECOND).await;
            assert_eq!(reply.unwrap().body.n, 1);
            assert_eq!(asked(&mut two), [1], "side {side}, {direction:?}");
            assert_eq!(plans[side - 1].hits().len(), 1);
            assert_eq!(there.counters().late_replies, 0);
        });
    }
}
