//! Messages, requests and receipts between two messengers over TCP.
#![allow(clippy::unwrap_used)] // Helpers are outside of `#[test]` functions.

mod facade_support;

use std::time::Duration;

use facade_support::*;
use stellate::prelude::*;
use stellate::{Origin, RequestFault};

#[actix_rt::test]
async fn s1_messages_go_both_ways_in_order_with_data_and_class() {
    let (mut one, mut two, there) = pair().await;
    for n in 0..300 {
        let data = vec![n as u8; n as usize * 40];
        within(there.send(Note { n }.with(data).class(Class::High))).await.unwrap();
    }
    for n in 0..300 {
        let (found, data, class) = two
            .next(|seen| match seen {
                Seen::Note(n, data, class) => Some((n, data, class)),
                _ => None,
            })
            .await;
        assert_eq!((found, class), (n, Class::High));
        assert_eq!(data, vec![n as u8; n as usize * 40]);
    }
    // The same session serves the way back.
    let back = two.messenger.connect(EntityName::osd(1), one.addresses()).unwrap();
    within(back.send(Note { n: 7 })).await.unwrap();
    assert_eq!(one.note().await, 7);
    assert_eq!(two.messenger.sessions().len(), 1);
    assert_eq!(two.messenger.sessions()[0], back);
}

#[actix_rt::test]
async fn a_large_body_arrives_as_it_was_sent() {
    let (_one, mut two, there) = pair().await;
    let data: Bytes = (0..5_000_000u32).map(|n| (n * 7 / 3) as u8).collect();
    within(there.send(Note { n: 1 }.with(data.clone()))).await.unwrap();
    let found = two
        .next(|seen| match seen {
            Seen::Note(_, data, _) => Some(data),
            _ => None,
        })
        .await;
    assert!(found == data);
}

#[actix_rt::test]
async fn requests_end_in_every_way_there_is() {
    let (_one, mut two, there) = pair().await;
    let ask = |n, how| there.request(Ask { n, how });

    let Reply { body, data } =
        within(there.request(Ask { n: 1, how: How::Reply }.with(vec![5; 9]))).await.unwrap();
    assert_eq!((body, &data[..]), (Answer { n: 1 }, &[5; 9][..]));

    let silent = within(ask(2, How::Silent)).await;
    assert!(matches!(silent, Err(RequestError::NoReply)), "{silent:?}");

    let panicked = within(ask(3, How::Panic)).await;
    assert!(matches!(panicked, Err(RequestError::HandlerPanicked)), "{panicked:?}");

    let stranger = within(there.request(Stranger { n: 4 })).await;
    let unknown = RequestError::Undeliverable(UndeliverableReason::UnknownType);
    assert_eq!(format!("{:?}", stranger.unwrap_err()), format!("{unknown:?}"));
    two.event(|event| match event {
        SessionEvent::Undeliverable { origin, reason, message, .. } => {
            assert_eq!((origin, reason), (Origin::There, UndeliverableReason::UnknownType));
            let message = message.unwrap().downcast::<Stranger>().unwrap();
            assert_eq!(message.body.n, 4);
            Some(())
        }
        _ => None,
    })
    .await;

    // Both are answered, the later one first, from other threads.
    let (first, second) =
        futures::future::join(within(ask(5, How::Defer)), within(ask(6, How::Defer))).await;
    assert_eq!((first.unwrap().body.n, second.unwrap().body.n), (99, 99));

    let timed = ask(7, How::Defer).timeout(Duration::from_millis(50));
    let timed = within(timed).await;
    assert!(matches!(timed, Err(RequestError::Timeout)), "{timed:?}");

    for n in 8..40 {
        assert_eq!(within(there.request(Slow { n })).await.unwrap().body.n, n);
    }
    within(there.close()).await;
    let ended = within(ask(50, How::Reply)).await;
    match ended {
        Err(RequestError::SessionEnded { fate: Fate::NotSent, cause }) => {
            assert_eq!(cause, Some(EndCause::ClosedHere));
        }
        other => panic!("{other:?}"),
    }
}

#[actix_rt::test]
async fn s3_receipts_tell_received_and_handled_apart() {
    let (_one, mut two, there) = pair().await;
    let receipt = there.try_send(Note { n: 1 }).unwrap();
    within(receipt.received()).await.unwrap();
    within(receipt.handled()).await.unwrap();
    assert_eq!(two.note().await, 1);

    // Unwinding is not handled.
    let receipt = there.try_send(Note { n: PANIC }).unwrap();
    within(receipt.received()).await.unwrap();
    let panicked = within(receipt.handled()).await;
    assert!(matches!(panicked, Err(RequestError::HandlerPanicked)), "{panicked:?}");

    let sent = within(there.send(Note { n: 2 })).await.unwrap();
    assert_eq!((sent.class(), sent.position()), (Class::Normal, 3));
    within(there.received(sent)).await.unwrap();
    assert_eq!(two.note().await, 2);
}

/// Sent before the peer's limits were known: what was over them came back, and no receipt of its
/// takes the acknowledgement of a later message for its own.
#[actix_rt::test]
async fn s3_a_message_that_came_back_as_too_large_was_not_received() {
    let one = Side::new(osd(1)).await;
    let small = Limits { data_max: 1_000, ..Limits::default() };
    let mut two = Side::new(osd(2).limits(small)).await;
    let there = one.messenger.connect(EntityName::osd(2), two.addresses()).unwrap();
    let large = there.try_send(Note { n: 1 }.with(vec![1; 2_000])).unwrap();
    let sent = within(there.send(Note { n: 2 }.with(vec![2; 2_000]))).await.unwrap();
    let small = there.try_send(Note { n: 3 }).unwrap();
    within(small.received()).await.unwrap();
    assert_eq!(two.note().await, 3);
    // Also those who ask late, and all who ask for the same place.
    let (first, second) = (large.received(), large.received());
    let both = within(async { futures::join!(first, second) }).await;
    assert_eq!(both, (Err(NotReceived::TooLarge), Err(NotReceived::TooLarge)));
    assert_eq!(NotReceived::TooLarge.blame(), Some(Blame::Local));
    assert_eq!(within(there.received(sent)).await, Err(NotReceived::TooLarge));
    let handled = within(large.handled()).await;
    let reason = UndeliverableReason::TooLarge;
    assert!(matches!(handled, Err(RequestError::Undeliverable(found)) if found == reason));
}

#[actix_rt::test]
async fn a_message_that_does_not_decode_is_told_to_both_sides() {
    let (mut one, mut two, there) = pair().await;
    let refused = |reason| {
        move |event| match event {
            SessionEvent::Undeliverable { origin, reason: found, .. } => {
                assert_eq!(found, reason);
                Some(origin)
            }
            _ => None,
        }
    };
    within(there.send(FutureNote { n: 1 })).await.unwrap();
    let too_new = UndeliverableReason::TooNew;
    assert_eq!(two.event(refused(too_new)).await, Origin::There);
    assert_eq!(one.event(refused(too_new)).await, Origin::Here);

    let receipt = there.try_send(FalseNote { text: "x".into() }).unwrap();
    let bad = UndeliverableReason::BadFront;
    assert_eq!(two.event(refused(bad)).await, Origin::There);
    match within(receipt.handled()).await {
        Err(RequestError::Undeliverable(found)) => assert_eq!(found, bad),
        other => panic!("{other:?}"),
    }
    // It ends nothing.
    within(there.send(Note { n: 3 })).await.unwrap();
    assert_eq!(two.note().await, 3);
}

#[actix_rt::test]
async fn s7_a_full_outbox_gives_the_message_back_and_tells_when_there_is_room() {
    let limits = Limits { outbox_messages: 4, ..Limits::default() };
    let mut one = Side::new(osd(1).limits(limits)).await;
    let mut two = Side::new(osd(2)).await;
    // Nobody there yet: what is sent stays in the outbox.
    let there = one.messenger.connect(EntityName::osd(2), "tcp://127.0.0.1:9").unwrap();
    for n in 0..4 {
        there.try_send(Note { n }).unwrap();
    }
    let refused = there.try_send(Note { n: 4 }.with(vec![1; 10])).unwrap_err();
    assert!(refused.is_full());
    let back = refused.into_message();
    assert_eq!((back.body.n, back.data.len()), (4, 10));
    let waiting = there.send(back);
    futures::pin_mut!(waiting);
    assert!(futures::poll!(&mut waiting).is_pending());

    there.readdress(two.addresses()).unwrap();
    within(waiting).await.unwrap();
    one.event(|event| match event {
        SessionEvent::Writable { connection } => (connection == there).then_some(()),
        _ => None,
    })
    .await;
    for n in 0..5 {
        assert_eq!(two.note().await, n);
    }
}

#[actix_rt::test]
async fn a_permit_is_room_and_a_dropped_one_gives_it_back() {
    let limits = Limits { outbox_messages: 1, ..Limits::default() };
    let one = Side::new(osd(1).limits(limits)).await;
    let there = one.messenger.connect(EntityName::osd(2), "tcp://127.0.0.1:9").unwrap();
    let permit = within(there.reserve(4096)).await.unwrap();
    let second = there.reserve(4096);
    futures::pin_mut!(second);
    assert!(futures::poll!(&mut second).is_pending());
    assert!(there.try_send(Note { n: 0 }).unwrap_err().is_full());
    drop(permit);
    let permit = within(second).await.unwrap();
    permit.send(Note { n: 1 }.with(vec![0; 4096])).unwrap();
    assert_eq!(there.outbox().0, 1);

    // Dropped before it has room, a send has sent nothing.
    let waiting = Box::pin(there.send(Note { n: 2 }));
    let mut waiting = waiting;
    assert!(futures::poll!(&mut waiting).is_pending());
    drop(waiting);
    there.abort();
    within(there.ended()).await;
    assert_eq!(there.end_cause(), Some(EndCause::ClosedHere));
}

#[actix_rt::test]
async fn s7_a_permit_for_more_than_there_is_has_the_outbox_for_itself() {
    let one = Side::new(osd(1)).await;
    let there = one.messenger.connect(EntityName::osd(2), "tcp://127.0.0.1:9").unwrap();
    let permit = within(there.reserve(usize::MAX)).await.unwrap();
    let second = there.reserve(usize::MAX);
    futures::pin_mut!(second);
    assert!(futures::poll!(&mut second).is_pending());
    assert!(there.try_send(Note { n: 0 }).unwrap_err().is_full());
    // What is sent takes as much as it has, and all else is there again.
    permit.send(Note { n: 1 }).unwrap();
    assert!(futures::poll!(&mut second).is_pending(), "not before it is empty");
    there.abort();
    assert!(matches!(within(second).await, Err(SendError::SessionEnded { .. })));
}

#[actix_rt::test]
async fn over_the_peers_limit_is_too_large_and_comes_back() {
    let limits = Limits { data_max: 1000, ..Limits::default() };
    let (one, mut two) = (Side::new(osd(1)).await, Side::new(osd(2).limits(limits)).await);
    let there = one.messenger.connect(EntityName::osd(2), two.addresses()).unwrap();
    within(there.send(Note { n: 1 })).await.unwrap();
    assert_eq!(two.note().await, 1);
    let error = within(there.send(Note { n: 2 }.with(vec![0; 1001]))).await.unwrap_err();
    assert_eq!(error.blame(), Some(Blame::Local));
    let back = error.into_message().unwrap().downcast::<Note>().unwrap();
    assert_eq!((back.body.n, back.data.len()), (2, 1001));
    let error = there.try_send(Note { n: 3 }.with(vec![0; 1001])).unwrap_err();
    assert!(matches!(error, TrySendError::TooLarge(Outgoing { body: Note { n: 3 }, .. })));
    let asked = there.request(Ask { n: 4, how: How::Reply }.with(vec![0; 1001]));
    let error = within(asked).await.unwrap_err();
    assert!(matches!(error, RequestError::Local(RequestFault::TooLarge(_))), "{error}");
    within(there.send(Note { n: 5 }.with(vec![0; 1000]))).await.unwrap();
    assert_eq!(two.note().await, 5);
}

/// The handler has run: who sends the request again has it done twice.
#[actix_rt::test]
async fn a_reply_over_our_limits_is_said_to_be_the_reply_and_its_request_is_handled() {
    let limits = Limits { data_max: 1000, ..Limits::default() };
    let (one, mut two) = (Side::new(osd(1).limits(limits)).await, Side::new(osd(2)).await);
    let there = one.messenger.connect(EntityName::osd(2), two.addresses()).unwrap();
    // By then what the peer takes is known.
    within(there.try_send(Note { n: 1 }).unwrap().received()).await.unwrap();
    // The data comes back with the reply.
    let asked = there.request(Ask { n: 7, how: How::Reply }.with(vec![0; 1001]));
    let error = within(asked).await.unwrap_err();
    assert!(matches!(error, RequestError::ReplyTooLarge), "{error}");
    assert!(!error.is_unhandled(), "it was handled");
    assert_eq!(error.blame(), Some(Blame::PeerIncompatible));
    assert!(error.to_string().contains("its reply is over our limits"), "{error}");
    two.next(|seen| matches!(seen, Seen::Ask(7)).then_some(())).await;
    // A request that goes back before it was sent is another matter.
    let three = Side::new(osd(3)).await;
    let there = three.messenger.connect(EntityName::osd(1), one.addresses()).unwrap();
    let asked = there.request(Ask { n: 8, how: How::Reply }.with(vec![0; 1001]));
    let error = within(asked).await.unwrap_err();
    let reason = UndeliverableReason::TooLarge;
    assert!(matches!(error, RequestError::Undeliverable(found) if found == reason), "{error}");
    assert!(error.is_unhandled());
    assert_eq!(error.blame(), Some(Blame::Local));
}
