//! What a node must stand from those who dial it, and from those it dials.

mod support;

use std::time::Duration;

use stellate_protocol::event::{EndCause, Event};
use stellate_protocol::frame::{CloseReason, Feature, RefuseReason, UndeliverableReason, Verdict};
use stellate_protocol::policy::Policy;
use stellate_protocol::{Class, EntityName, Frame, Incarnation};
use support::raw::{Raw, accepting, at, hello, message, who, wire};
use support::{KIND, TestNode, parcel, quick, quick_limits, until, within};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

const ME: EntityName = EntityName::osd(1);
const GOOD: EntityName = EntityName::osd(2);
const BAD: EntityName = EntityName::osd(66);
/// The feature of a hello that says where its sender listens.
const LISTENS_AT: u16 = 1;

async fn victim() -> TestNode {
    TestNode::start(quick(ME, 1, Policy::lossless_peer())).await
}

/// A good peer is still served.
async fn serves(victim: &mut TestNode, instance: u128) {
    let name = EntityName::osd(instance as u64);
    let good = TestNode::start(quick(name, instance, Policy::lossless_peer())).await;
    let handle = good.dial(victim);
    handle.try_send(Class::Normal, parcel(b"good", "")).expect("room");
    assert_eq!(victim.next_parcel().await.front()[..], *b"good");
    within("the ack", handle.received(Class::Normal, 1)).await.expect("received");
    handle.close();
    within("the end", handle.ended()).await;
    good.shutdown().await;
    assert_eq!(victim.next_end().await.cause, EndCause::ClosedByPeer);
}

#[actix_rt::test]
async fn garbage_ends_its_link_and_nothing_else() {
    let mut victim = victim().await;
    let good_hello = wire(&Frame::Hello(Box::new(hello(who(BAD, 66), ME, 1, 1))));
    let mut wrong_magic = good_hello.clone();
    wrong_magic[16] = b'X';
    let mut huge = good_hello.clone();
    huge[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    let garbage = [
        vec![0; 100],
        vec![0xFF; 100_000],
        b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\nUser-Agent: somebody\r\n\r\n"
            .to_vec(),
        wrong_magic,
        huge,
        wire(&message(Class::Normal, 1, parcel(b"no hello", "data"))),
    ];
    for bytes in garbage {
        let mut raw = Raw::dial(&at(&victim)).await;
        raw.say(&bytes).await;
        raw.dropped().await;
    }
    assert!(victim.node.sessions().is_empty(), "no session was born");
    assert!(victim.events_now().is_empty(), "and nobody heard of any");
    serves(&mut victim, 2).await;
    victim.shutdown().await;
}

#[actix_rt::test]
async fn half_a_hello_is_dropped_in_time() {
    let mut victim = victim().await;
    let whole = wire(&Frame::Hello(Box::new(hello(who(BAD, 66), ME, 1, 1))));
    for len in [0, 1, 47, 48, whole.len() - 1] {
        let mut raw = Raw::dial(&at(&victim)).await;
        raw.say(&whole[..len]).await;
        raw.dropped().await;
    }
    assert!(victim.node.sessions().is_empty());
    serves(&mut victim, 2).await;
    victim.shutdown().await;
}

#[actix_rt::test]
async fn a_hello_and_then_rubbish_is_a_link_fault() {
    let mut victim = victim().await;
    let mut raw = Raw::greet(&at(&victim), hello(who(BAD, 66), ME, 1, 1)).await;
    raw.say(&[0xAB; 500]).await;
    raw.closed().await;
    let (handle, event) = victim.next_session_event().await;
    assert!(matches!(event, Event::Connected { .. }));
    support::until("the link to be lost", || handle.shared().snapshot().counters.links_lost == 1)
        .await;
    assert!(!handle.shared().is_over(), "it may come back (S2)");
    serves(&mut victim, 2).await;
    handle.abort();
    within("the end", handle.ended()).await;
    victim.shutdown().await;
}

/// Rubbish in the same write as the hello: nothing may be born, or what is born must end.
#[actix_rt::test]
async fn a_hello_with_rubbish_behind_it_is_dropped() {
    let mut victim = victim().await;
    let mut bytes = wire(&Frame::Hello(Box::new(hello(who(BAD, 66), ME, 1, 1))));
    bytes.extend([0xAB; 500]);
    let mut raw = Raw::dial(&at(&victim)).await;
    raw.say(&bytes).await;
    raw.dropped().await;
    serves(&mut victim, 2).await;
    victim.shutdown().await;
}

#[actix_rt::test]
async fn the_same_wrong_checksum_three_times_ends_the_session() {
    let mut victim = victim().await;
    let from = who(BAD, 66);
    let mut damaged = wire(&message(Class::Normal, 1, parcel(b"front", "data")));
    *damaged.last_mut().expect("bytes") ^= 1;
    for attempt in 1..=3 {
        let mut hello = hello(from, ME, 7, attempt);
        hello.established = attempt > 1;
        let mut raw = Raw::greet(&at(&victim), hello).await;
        raw.say(&damaged).await;
        raw.dropped().await;
    }
    let end = victim.next_end().await;
    assert!(matches!(end.cause, EndCause::ProtocolViolation { .. }), "{:?}", end.cause);
    let mut hello = hello(from, ME, 7, 4);
    hello.established = true;
    let mut raw = Raw::dial(&at(&victim)).await;
    raw.send(&Frame::Hello(Box::new(hello))).await;
    assert_eq!(raw.answer().await.verdict, Verdict::NoSession, "no poison loop");
    serves(&mut victim, 2).await;
    assert_eq!(victim.ends_now(), [], "S4: one event an end");
    victim.shutdown().await;
}

/// A sender whose messages are always damaged on the way: the receiver ends it, the sender learns.
#[actix_rt::test]
async fn a_dialler_that_is_answered_with_damage_ends_too() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = format!("tcp://{}", listener.local_addr().expect("bound"));
    let mut victim = victim().await;
    let to = vec![address.parse().expect("an address")];
    let handle = victim.node.connect(BAD, to).expect("connects");
    // It has always something to say, so it always dials again.
    handle.try_send(Class::Normal, parcel(b"x", "")).expect("room");
    let mut damaged = wire(&message(Class::High, 1, parcel(b"front", "data")));
    *damaged.last_mut().expect("bytes") ^= 1;
    for _ in 0..3 {
        let mut raw = Raw::accept(&listener).await;
        let Some(Frame::Hello(hello)) = raw.receive().await else {
            panic!("a hello comes first");
        };
        raw.send(&accepting(who(BAD, 66), &hello)).await;
        raw.say(&damaged).await;
        raw.dropped().await;
    }
    let end = victim.next_end().await;
    assert!(matches!(end.cause, EndCause::ProtocolViolation { .. }));
    assert_eq!(end.unacked.len(), 1, "S4: nothing vanishes");
    victim.shutdown().await;
}

#[actix_rt::test]
async fn a_type_that_nobody_handles_comes_back_as_undeliverable() {
    let mut victim = victim().await;
    let mut good = TestNode::start(quick(GOOD, 2, Policy::lossless_peer())).await;
    let handle = good.dial(&victim);
    let mut stranger = parcel(b"?", "data");
    stranger.kind = KIND + 1;
    handle.try_send(Class::Normal, stranger.clone()).expect("room");
    let (_, reply) = handle.try_notify(Class::Normal, stranger.clone()).expect("room");
    let request = handle.try_request(Class::Normal, stranger, None).expect("room");
    handle.try_send(Class::Normal, parcel(b"known", "")).expect("room");
    use stellate_protocol::event::CallResult;
    use stellate_protocol::frame::Outcome;
    let unknown = Outcome::Undeliverable(UndeliverableReason::UnknownType);
    for call in [reply, request] {
        let result = within("the outcome", call).await;
        assert!(matches!(&result, CallResult::Answered(outcome, _) if *outcome == unknown));
    }
    let negative = |event: &Event<_>| {
        matches!(event, Event::Undeliverable { reason: UndeliverableReason::UnknownType, .. })
    };
    good.event_where(negative).await;
    assert_eq!(victim.next_parcel().await.front()[..], *b"known", "it ends nothing");
    within("all to be received", handle.received(Class::Normal, 4)).await.expect("received");
    good.shutdown().await;
    victim.shutdown().await;
}

#[actix_rt::test]
async fn data_over_the_limit_is_refused_at_send_or_given_back_never_a_fault() {
    let mut small = quick(ME, 1, Policy::lossless_peer());
    small.limits.data_max = 10_000;
    let mut victim = TestNode::start(small).await;
    let mut good = TestNode::start(quick(GOOD, 2, Policy::lossless_peer())).await;
    let handle = good.dial(&victim);
    // Before the hello: queued, then given back.
    handle.try_send(Class::Normal, parcel(b"early", vec![1; 20_000])).expect("room");
    handle.try_send(Class::Normal, parcel(b"next", "")).expect("room");
    let too_large = |event: &Event<_>| {
        matches!(
            event,
            Event::Undeliverable { reason: UndeliverableReason::TooLarge, payload: Some(_), .. }
        )
    };
    good.event_where(too_large).await;
    assert_eq!(victim.next_parcel().await.front()[..], *b"next");
    // After it: refused at once.
    let refused = handle.try_send(Class::Normal, parcel(b"late", vec![1; 20_000]));
    assert!(matches!(refused, Err(stellate_actors::shared::Refusal::TooLarge(_))));
    // A peer that does not keep to it breaks its link.
    let mut raw = Raw::greet(&at(&victim), hello(who(BAD, 66), ME, 1, 1)).await;
    raw.say(&wire(&Frame::Announce(stellate_protocol::frame::Message {
        lane: stellate_protocol::Lane::messages(Class::Bulk),
        seq: stellate_protocol::Seq(1),
        call: stellate_protocol::frame::Call::OneWay,
        payload: stellate_protocol::Payload::announced(&parcel(b"f", vec![1; 20_000])),
    })))
    .await;
    raw.dropped().await;
    assert_eq!(handle.shared().snapshot().counters.links_lost, 0);
    good.shutdown().await;
    let of_bad =
        |session: &stellate_actors::handle::SessionHandle| session.shared().target() == BAD;
    victim.node.sessions().iter().filter(|s| of_bad(s)).for_each(|s| s.abort());
    victim.shutdown().await;
}

/// Each limit of a message, exactly at it: on an unchanged session.
#[actix_rt::test]
async fn a_front_at_the_limit_passes() {
    let mut victim = TestNode::start(support::config(ME, 1, Policy::lossless_peer())).await;
    let good = TestNode::start(support::config(GOOD, 2, Policy::lossless_peer())).await;
    let handle = good.dial(&victim);
    let front = vec![3; victim.node.limits().front_max as usize];
    handle.try_send(Class::Normal, parcel(&front, "")).expect("room");
    assert_eq!(victim.next_parcel().await.front().len(), front.len());
    good.shutdown().await;
    victim.shutdown().await;
}

#[actix_rt::test]
async fn connections_that_come_and_go_take_no_place_for_long() {
    let mut config = quick(ME, 1, Policy::lossless_peer());
    config.limits.handshakes_max = 16;
    let mut victim = TestNode::start(config).await;
    let to = at(&victim);
    let count = support::scale(1_000, 10_000);
    // Silent ones hold all the places until the hello time is over, and the good one comes all
    // the same.
    let mut silent = Vec::new();
    for _ in 0..32 {
        silent.push(TcpStream::connect(&to).await.expect("connects"));
    }
    serves(&mut victim, 2).await;
    for number in 0..count {
        let mut stream = TcpStream::connect(&to).await.expect("connects");
        if number % 3 == 0 {
            let _ = stream.write_all(b"x").await;
        }
        if number % 100 == 0 {
            assert!(victim.node.tree().members("links").len() <= 16 + 4, "S7");
        }
    }
    serves(&mut victim, 3).await;
    drop(silent);
    support::until("all links to go", || victim.node.tree().members("links").is_empty()).await;
    victim.shutdown().await;
}

#[actix_rt::test]
async fn s6_two_live_processes_of_one_name_are_told_to_both_users() {
    let mut victim = victim().await;
    let mut first = TestNode::start(quick(GOOD, 2, Policy::lossless_peer())).await;
    let mut second = TestNode::start(quick(GOOD, 3, Policy::lossless_peer())).await;
    let one = first.dial(&victim);
    first.connected().await;
    victim.connected().await;
    let two = second.dial(&victim);
    second.connected().await;
    let mut conflicts = 0;
    while conflicts < 2 {
        let (_, event) = victim.next_session_event().await;
        assert!(!matches!(event, Event::Ended(_)), "{event:?}");
        conflicts += usize::from(event == Event::NameConflict);
    }
    for (number, handle) in [&one, &two].into_iter().enumerate() {
        handle.try_send(Class::Normal, parcel(&[number as u8], "")).expect("both stay");
    }
    let mut got = [victim.next_parcel().await.front()[0], victim.next_parcel().await.front()[0]];
    got.sort_unstable();
    assert_eq!(got, [0, 1]);
    assert_eq!(victim.events_now().len(), 0, "once each");
    first.shutdown().await;
    second.shutdown().await;
    victim.shutdown().await;
}

#[actix_rt::test]
async fn s6_an_old_instance_that_is_silent_was_restarted() {
    let mut victim = victim().await;
    // A peer that reads nothing and says nothing, but whose link is up.
    let mut silent = Raw::greet(&at(&victim), hello(who(GOOD, 2), ME, 1, 1)).await;
    victim.connected().await;
    let second = TestNode::start(quick(GOOD, 3, Policy::lossless_peer())).await;
    second.dial(&victim);
    assert_eq!(victim.next_end().await.cause, EndCause::PeerRestarted);
    silent.closed().await;
    assert_eq!(victim.node.sessions().len(), 1);
    second.shutdown().await;
    victim.shutdown().await;
}

#[actix_rt::test]
async fn s6_the_lower_incarnation_is_superseded_and_refused_later() {
    let mut victim = victim().await;
    let start = |instance: u128, boot: u64| {
        let mut config = quick(GOOD, instance, Policy::lossless_peer());
        config.me.incarnation = Some(Incarnation(boot));
        TestNode::start(config)
    };
    let mut old = start(2, 1).await;
    old.dial(&victim);
    old.connected().await;
    victim.connected().await;
    let mut new = start(3, 2).await;
    new.dial(&victim);
    assert_eq!(victim.next_end().await.cause, EndCause::Superseded);
    assert_eq!(old.next_end().await.cause, EndCause::Superseded);
    new.connected().await;
    let mut older = start(4, 1).await;
    older.dial(&victim);
    assert_eq!(older.next_end().await.cause, EndCause::Superseded, "refused");
    assert_eq!(victim.ends_now(), []);
    for node in [old, new, older, victim] {
        node.shutdown().await;
    }
}

#[actix_rt::test]
async fn an_address_of_somebody_else_refuses_at_birth() {
    let victim = victim().await;
    let mut good = TestNode::start(quick(GOOD, 2, Policy::lossless_peer())).await;
    let handle =
        good.node.connect(EntityName::osd(99), victim.node.local_addresses()).expect("connects");
    handle.try_send(Class::Normal, parcel(b"lost", "")).expect("room");
    let end = good.next_end().await;
    assert_eq!(end.cause, EndCause::Refused(RefuseReason::WrongEntity));
    assert_eq!(end.unacked.len(), 1);
    assert!(!end.unacked[0].sent, "it never left");
    within("the end", handle.ended()).await;
    assert_eq!(good.ends_now(), [], "S4: exactly one event");
    good.shutdown().await;
    victim.shutdown().await;
}

/// Whoever is dialled may lie about its name in the answer.
#[actix_rt::test]
async fn an_answer_of_a_stranger_refuses_at_birth() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = format!("tcp://{}", listener.local_addr().expect("bound"));
    let mut victim = victim().await;
    let to = vec![address.parse().expect("an address")];
    victim.node.connect(GOOD, to).expect("connects");
    let mut raw = Raw::accept(&listener).await;
    let Some(Frame::Hello(hello)) = raw.receive().await else {
        panic!("a hello comes first");
    };
    raw.send(&accepting(who(BAD, 66), &hello)).await;
    let end = victim.next_end().await;
    assert_eq!(end.cause, EndCause::Refused(RefuseReason::WrongEntity));
    victim.shutdown().await;
}

/// An acceptor that never answers, or answers with rubbish, is unreachable in the end.
#[actix_rt::test]
async fn a_dialled_peer_that_talks_rubbish_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = format!("tcp://{}", listener.local_addr().expect("bound"));
    let serving = actix_rt::spawn(async move {
        for turn in 0u32.. {
            let mut raw = Raw::accept(&listener).await;
            if turn % 2 == 0 {
                raw.say(&[0x5A; 64]).await;
            }
            raw.dropped().await;
        }
    });
    let mut config = quick(ME, 1, Policy::lossless_peer());
    config.limits.standby_max = Duration::from_secs(1);
    let mut victim = TestNode::start(config).await;
    let to = vec![address.parse().expect("an address")];
    let handle = victim.node.connect(GOOD, to).expect("connects");
    assert_eq!(victim.next_end().await.cause, EndCause::Unreachable);
    let dials = handle.shared().snapshot().counters.dials;
    let fastest = 1_000 / quick_limits().backoff_min.as_millis() as u64;
    assert!(dials > 1 && dials < fastest, "backs off: {dials} dials");
    serving.abort();
    victim.shutdown().await;
}

/// Frames of a raw link up to the next message, whose front it returns.
async fn next_front(raw: &mut Raw) -> Vec<u8> {
    loop {
        match within("a frame", raw.receive()).await {
            Some(Frame::Message(message)) => return message.payload.front().to_vec(),
            Some(_) => {}
            None => panic!("the link is gone"),
        }
    }
}

/// Nobody knows where a peer listens that did not say so: it is waited for, and dialled once it has.
#[actix_rt::test]
async fn s2_a_peer_that_says_where_it_listens_only_later_is_dialled_then() {
    let mut victim = victim().await;
    let mut raw = Raw::greet(&at(&victim), hello(who(GOOD, 2), ME, 7, 1)).await;
    let handle = victim.connected().await;
    handle.try_send(Class::Normal, parcel(b"kept", "")).expect("room");
    assert_eq!(next_front(&mut raw).await, b"kept");
    drop(raw);
    let dials = || handle.shared().snapshot().counters.dials;
    until("a dial to nowhere", || dials() > 0).await;

    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = format!("tcp://{}", listener.local_addr().expect("bound"));
    let mut again = hello(who(GOOD, 2), ME, 7, 2);
    again.established = true;
    again.opening.features =
        vec![Feature { id: LISTENS_AT, required: false, data: address.into() }];
    let mut raw = Raw::greet(&at(&victim), again).await;
    assert_eq!(next_front(&mut raw).await, b"kept", "S2");
    // What is known already stays: our user, or the peer itself, has said so before.
    let mut once_more = hello(who(GOOD, 2), ME, 7, 3);
    once_more.established = true;
    let data = "tcp://127.0.0.1:9".into();
    once_more.opening.features = vec![Feature { id: LISTENS_AT, required: false, data }];
    let last = Raw::greet(&at(&victim), once_more).await;
    drop((raw, last));
    let mut raw = within("a dial", Raw::accept(&listener)).await;
    let Some(Frame::Hello(hello)) = within("a hello", raw.receive()).await else {
        panic!("a hello comes first");
    };
    assert!(hello.established && hello.session.0 == 7);
    assert_eq!(victim.ends_now(), []);
    victim.shutdown().await;
}

/// S4: whoever has let us in meanwhile hears that there is nobody any more.
#[actix_rt::test]
async fn s4_a_session_that_fails_while_it_greets_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = format!("tcp://{}", listener.local_addr().expect("bound"));
    let mut victim = victim().await;
    let to = vec![address.parse().expect("an address")];
    let handle = victim.node.connect(GOOD, to).expect("connects");
    let mut raw = Raw::accept(&listener).await;
    assert!(matches!(raw.receive().await, Some(Frame::Hello(_))));
    let path = format!("sessions/{}", handle.shared().key().0);
    victim.node.tree().panic(&path).expect("there");
    let Some(Frame::Close(close)) = within("a last word", raw.receive()).await else {
        panic!("it goes without a word");
    };
    assert_eq!(close.reason, CloseReason::InternalFault);
    assert_eq!(victim.next_end().await.cause, EndCause::InternalFault);
    victim.shutdown().await;
}
