//! Sessions through the facade: their events, their ends, admission, and what is refused.
#![allow(clippy::unwrap_used)] // Helpers are outside of `#[test]` functions.

mod facade_support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use facade_support::*;
use stellate::prelude::*;
use stellate::testing::{Direction, Fault, Faults, FrameKind, Tcp, virtual_time};

fn connected(event: SessionEvent) -> Option<bool> {
    match event {
        SessionEvent::Connected { held, .. } => Some(held),
        _ => None,
    }
}

#[actix_rt::test]
async fn s4_each_side_is_told_once_of_the_birth_and_once_of_the_end() {
    let (mut one, mut two, there) = pair().await;
    within(there.send(Note { n: 1 })).await.unwrap();
    assert_eq!(two.note().await, 1);
    within(there.close()).await;
    let (connection, cause, unacked) = one.end().await;
    assert_eq!((connection, cause, unacked.len()), (there.clone(), EndCause::ClosedHere, 0));
    let (_, cause, _) = two.end().await;
    assert_eq!(cause, EndCause::ClosedByPeer);

    // A second session brings its own events; none of the first are among them.
    let again = one.messenger.connect(EntityName::osd(2), two.addresses()).unwrap();
    assert_ne!(again, there);
    within(again.send(Note { n: 2 })).await.unwrap();
    for side in [&mut one, &mut two] {
        side.event(|event| match event {
            SessionEvent::Connected { held: false, .. } => Some(()),
            other => panic!("{other:?}"),
        })
        .await;
    }
    assert_eq!(two.note().await, 2);
    assert!(one.rest().is_empty() && two.rest().is_empty());
}

#[actix_rt::test]
async fn s6_what_is_sent_on_an_ended_connection_fails_with_its_cause() {
    let (mut one, two, there) = pair().await;
    let sent = within(there.send(Note { n: 1 })).await.unwrap();
    within(there.received(sent)).await.unwrap();
    there.abort();
    assert_eq!(within(there.ended()).await, Some(EndCause::ClosedHere));
    assert_eq!(there.state(), Phase::Ended);
    let (connection, ..) = one.end().await;
    let clones = [there.clone(), connection];
    for there in &clones {
        match within(there.send(Note { n: 2 })).await {
            Err(SendError::SessionEnded { cause, message: Some(message) }) => {
                assert_eq!(cause, Some(EndCause::ClosedHere));
                assert_eq!(message.downcast::<Note>().unwrap().body.n, 2);
            }
            other => panic!("{other:?}"),
        }
        match there.try_send(Note { n: 3 }) {
            Err(TrySendError::SessionEnded { cause, message }) => {
                assert_eq!((cause, message.body.n), (Some(EndCause::ClosedHere), 3));
            }
            other => panic!("{other:?}"),
        }
        let reserved = within(there.reserve(1)).await;
        assert!(matches!(reserved, Err(SendError::SessionEnded { message: None, .. })));
    }
    drop(two);
}

#[actix_rt::test]
async fn s4_unacked_messages_come_back_and_can_be_sent_again() {
    let mut one = Side::new(osd(1)).await;
    let mut two = Side::new(osd(2)).await;
    let nobody = one.messenger.connect(EntityName::osd(2), "tcp://127.0.0.1:9").unwrap();
    for n in 0..3 {
        within(nobody.send(Note { n }.with(vec![n as u8; 10]))).await.unwrap();
    }
    let receipt = nobody.try_send(Note { n: 3 }).unwrap();
    let asked = nobody.request(Ask { n: 4, how: How::Reply });
    let asked = actix_rt::spawn(async move { asked.await });
    while nobody.outbox().0 < 5 || nobody.why().is_none() {
        tokio::task::yield_now().await;
    }
    nobody.abort();
    let (_, cause, mut unacked) = one.end().await;
    assert_eq!((cause, unacked.len()), (EndCause::ClosedHere, 5));
    let ended = within(asked).await.unwrap();
    let not_sent = Fate::NotSent;
    assert!(matches!(ended, Err(RequestError::SessionEnded { fate, .. }) if fate == not_sent));
    assert!(receipt.received().await.is_err());

    let there = one.messenger.connect(EntityName::osd(2), two.addresses()).unwrap();
    let mut requests = 0;
    for message in unacked.drain() {
        assert!(!message.was_sent() && !message.is_reply());
        if message.is_request() {
            requests += 1;
            let wrong = message.downcast::<Note>().unwrap_err();
            assert_eq!(wrong.message.downcast::<Ask>().unwrap().body.n, 4);
            continue;
        }
        let note = message.clone().downcast::<Note>().unwrap();
        assert_eq!(note.class, Class::Normal);
        within(there.send_raw(message.into_raw())).await.unwrap();
        assert_eq!(two.note().await, note.body.n);
    }
    assert_eq!((requests, unacked.len()), (1, 0));
}

#[actix_rt::test]
async fn ones_own_name_is_delivered_locally() {
    let mut one = Side::new(osd(1)).await;
    let none: [Address; 0] = [];
    let here = one.messenger.connect(EntityName::osd(1), none).unwrap();
    for n in 0..50 {
        within(here.send(Note { n }.with(vec![7; 100_000]))).await.unwrap();
    }
    for n in 0..50 {
        assert_eq!(one.note().await, n);
    }
    let reply = within(here.request(Ask { n: 9, how: How::Reply })).await.unwrap();
    assert_eq!(reply.body.n, 9);
    within(here.close()).await;
}

#[actix_rt::test]
async fn a_peer_is_held_then_let_in() {
    let mut one = Side::new(osd(1).metadata("epoch 12").incarnation(3)).await;
    let mut two = Side::with(osd(2), |desk| desk.events().admission()).await;
    let there = one.messenger.connect(EntityName::osd(2), two.addresses()).unwrap();
    let sent = within(there.send(Note { n: 1 })).await.unwrap();
    let request = two.admission().await;
    assert_eq!(request.name(), EntityName::osd(1));
    assert_eq!((&request.metadata[..], request.resumed), (&b"epoch 12"[..], false));
    assert_eq!(request.incarnation(), Some(Incarnation(3)));
    let ticket = request.hold();
    // Received, and kept: not delivered.
    within(there.received(sent)).await.unwrap();
    assert!(one.event(connected).await);
    assert!(ticket.connection().is_holding());
    assert!(!two.rest().iter().any(|seen| matches!(seen, Seen::Note(..))));
    ticket.accept();
    one.event(|event| matches!(event, SessionEvent::Admitted { .. }).then_some(())).await;
    assert_eq!(two.note().await, 1);
}

/// A ticket answers its own question: what the peer offered on an older link.
#[test]
fn s6_a_ticket_of_an_older_question_answers_nothing() {
    virtual_time(1, async |world| {
        let one = Side::new(world.messenger(EntityName::osd(1)).metadata("epoch 5")).await;
        let asks = world.messenger(EntityName::osd(2));
        let mut two = Side::with(asks, |desk| desk.events().admission()).await;
        let there = one.messenger.connect(EntityName::osd(2), "sim://osd.2").unwrap();
        there.try_send(Note { n: 1 }).unwrap();
        let older = two.admission().await.hold();
        one.messenger.set_metadata("epoch 7").unwrap();
        world.net().cut_all();
        let newer = two.admission().await;
        assert_eq!((&newer.metadata[..], newer.resumed), (&b"epoch 7"[..], true));
        older.accept();
        world.sleep(Duration::from_secs(1)).await;
        assert!(newer.connection().is_holding());
        assert!(!two.rest().iter().any(|seen| matches!(seen, Seen::Note(..))));
        newer.refuse("our map is 5");
        assert_eq!(two.end().await.1, EndCause::AdmissionRefused);
        world.until("the end", || there.end_cause() == Some(EndCause::AdmissionRefused)).await;
    });
}

#[actix_rt::test]
async fn a_peer_is_refused_by_word_or_by_silence() {
    let limits = Limits { hold_max: Duration::from_millis(50), ..Limits::default() };
    let mut one = Side::new(osd(1)).await;
    let mut two = Side::with(osd(2).limits(limits), |desk| desk.events().admission()).await;
    for by_word in [true, false] {
        let there = one.messenger.connect(EntityName::osd(2), two.addresses()).unwrap();
        within(there.send(Note { n: 1 })).await.unwrap();
        let request = two.admission().await;
        if by_word {
            request.refuse("too old a map");
        } else {
            drop(request);
        }
        assert_eq!(one.end().await.1, EndCause::AdmissionRefused);
        assert_eq!(two.end().await.1, EndCause::AdmissionRefused);
    }
    assert!(!two.rest().iter().any(|seen| matches!(seen, Seen::Note(..))));
}

#[actix_rt::test]
async fn s2_a_cut_link_loses_nothing_and_doubles_nothing() {
    let faults = Faults::new();
    let broken = osd(1).transport(faults.wrap(Arc::new(Tcp::new())));
    let (mut one, mut two) = (Side::new(broken).await, Side::new(osd(2)).await);
    for nth in [3, 20, 21, 60] {
        faults.on(FrameKind::Message, Direction::Sent, nth, Fault::Fail);
    }
    let there = one.messenger.connect(EntityName::osd(2), two.addresses()).unwrap();
    for n in 0..100 {
        within(there.send(Note { n }.with(vec![0; 100]))).await.unwrap();
    }
    for n in 0..100 {
        assert_eq!(two.note().await, n);
    }
    let resumed = |event| matches!(event, SessionEvent::Resumed { .. }).then_some(());
    one.event(resumed).await;
    assert!(there.counters().replayed > 0, "{:?}", there.counters());
    assert!(!two.rest().iter().any(|seen| matches!(seen, Seen::Note(..))));
}

/// Of two sessions under one plan, the one is cut that comes to its third message first.
async fn cut_at_the_third(one: MessengerBuilder, others: [MessengerBuilder; 2], faults: &Faults) {
    faults.on(FrameKind::Message, Direction::Sent, 3, Fault::Fail);
    let one = Side::new(one).await;
    let [two, three] = others;
    let (mut two, mut three) = (Side::new(two).await, Side::new(three).await);
    let connect = |to: &Side| one.messenger.connect(to.messenger.name(), to.addresses()).unwrap();
    let there = [connect(&two), connect(&three)];
    let lost = || [0, 1].map(|at: usize| there[at].counters().links_lost);
    for (at, n, expected) in [
        (0, 0, [0, 0]),
        (0, 1, [0, 0]),
        (1, 0, [0, 0]),
        (1, 1, [0, 0]),
        (1, 2, [0, 1]),
        (0, 2, [0, 1]),
        (0, 3, [0, 1]),
    ] {
        let sent = within(there[at].send(Note { n })).await.unwrap();
        within(there[at].received(sent)).await.unwrap();
        assert_eq!(lost(), expected, "after {n} to {at}");
    }
    for (to, count) in [(&mut two, 4), (&mut three, 3)] {
        for n in 0..count {
            assert_eq!(to.note().await, n);
        }
    }
    let hits = faults.hits();
    assert_eq!((hits.len(), hits[0].nth), (1, 3));
    // Three and the one that was lost, and three more to the other.
    assert_eq!(faults.seen(FrameKind::Message, Direction::Sent), 8);
    for side in [one, two, three] {
        side.messenger.shutdown().await;
    }
}

#[test]
fn a_fault_counts_the_frames_of_each_session_apart() {
    virtual_time(1, async |world| {
        let node = |number| world.messenger(EntityName::osd(number));
        let faults = Faults::new();
        let one = node(1).transport(faults.wrap(world.transport("osd.1")));
        cut_at_the_third(one, [node(2), node(3)], &faults).await;
    });
}

#[actix_rt::test]
async fn a_fault_counts_the_frames_of_each_session_apart_over_tcp() {
    let faults = Faults::new();
    let one = osd(1).transport(faults.wrap(Arc::new(Tcp::new())));
    cut_at_the_third(one, [osd(2), osd(3)], &faults).await;
}

#[actix_rt::test]
async fn what_cannot_be_built_is_said_with_its_cause() {
    let one = Side::new(osd(1)).await;
    let taken = one.addresses()[0].clone();
    let errors = [
        osd(2).bind("127.0.0.1:0").build().await.unwrap_err(),
        osd(2).bind(["tcp://localhost:1"]).build().await.unwrap_err(),
        osd(2).role("Public Role").build().await.unwrap_err(),
        osd(2).bind(&taken).build().await.unwrap_err(),
        osd(2).bind("avian://carrier").build().await.unwrap_err(),
        osd(2).metadata(vec![0; 4097]).build().await.unwrap_err(),
        osd(2)
            .limits(Limits { outbox_messages: 0, ..Limits::default() })
            .build()
            .await
            .unwrap_err(),
    ];
    for error in &errors {
        assert_eq!(error.blame(), Blame::Local, "{error}");
    }
    assert!(matches!(errors[0], BuildError::Address(_)));
    assert!(matches!(errors[1], BuildError::Address(_)), "{:?}", errors[1]);
    assert!(matches!(errors[2], BuildError::Role(..)));
    assert!(matches!(&errors[3], BuildError::PortInUse(address) if *address == taken));
    assert!(matches!(errors[4], BuildError::NoTransport(_)));
    assert!(matches!(errors[5], BuildError::Metadata(_)));
    assert!(matches!(errors[6], BuildError::Limits(_)));
    let texts: BTreeSet<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), errors.len());
}

#[actix_rt::test]
async fn what_cannot_be_dialled_is_said_at_once() {
    let one = osd(1).dial(EntityKind::CLIENT, Policy::stateless_server()).build().await.unwrap();
    let connect = |name, address: &str| one.connect(name, address).unwrap_err();
    let osd2 = EntityName::osd(2);
    assert!(matches!(connect(osd2, "nowhere"), ConnectError::Address(_)));
    assert!(matches!(connect(osd2, "avian://carrier"), ConnectError::NoTransport(_)));
    let client = EntityName::client(1);
    let never = connect(client, "tcp://127.0.0.1:1");
    assert_eq!(never, ConnectError::NeverDials(client));
    let nobody = EntityName::anonymous(EntityKind::OSD);
    assert_eq!(connect(nobody, "tcp://127.0.0.1:1"), ConnectError::Anonymous);
    let none: Vec<Address> = Vec::new();
    assert_eq!(one.connect(osd2, none).unwrap_err(), ConnectError::NoAddress);
    within(one.shutdown()).await;
    assert_eq!(connect(osd2, "tcp://127.0.0.1:1"), ConnectError::ShuttingDown);
}

/// A session that cannot move says so to whoever wants it to, and stays.
#[actix_rt::test]
async fn what_cannot_be_readdressed_is_said_at_once() {
    let (_one, mut two, there) = pair().await;
    within(there.send(Note { n: 1 })).await.unwrap();
    assert_eq!(two.note().await, 1);
    let refused = |to: &str| there.readdress(to).unwrap_err();
    assert!(matches!(refused("nowhere"), ReaddressError::Address(_)));
    let stranger = refused("avian://carrier");
    assert!(matches!(&stranger, ReaddressError::NoTransport(to) if to.scheme() == "avian"));
    assert_eq!(stranger.blame(), Some(Blame::Local));
    let mixed = there.readdress(["tcp://127.0.0.1:1", "avian://carrier"]);
    assert!(matches!(mixed, Err(ReaddressError::NoTransport(_))));
    let none: Vec<Address> = Vec::new();
    assert_eq!(there.readdress(none), Err(ReaddressError::NoAddress));
    // It stayed where it was.
    within(there.send(Note { n: 2 })).await.unwrap();
    assert_eq!(two.note().await, 2);
    assert_eq!(there.counters().dials, 1);
    within(there.close()).await;
    let cause = Some(EndCause::ClosedHere);
    let ended = there.readdress(two.addresses());
    assert_eq!(ended, Err(ReaddressError::SessionEnded { cause }));
}

/// Neither may a server, which never dials, nor a session that ends with its link.
#[actix_rt::test]
async fn a_policy_that_may_not_move_says_so() {
    let client = Messenger::builder(EntityName::client(1)).arbiters(1);
    let client = Side::new(client.policy(EntityKind::OSD, Policy::lossy_client())).await;
    let mut server = Side::new(osd(1).policy(EntityKind::CLIENT, Policy::stateless_server())).await;
    let there = client.messenger.connect(EntityName::osd(1), server.addresses()).unwrap();
    within(there.send(Note { n: 1 })).await.unwrap();
    let back = server
        .event(|event| match event {
            SessionEvent::Connected { connection, .. } => Some(connection),
            _ => None,
        })
        .await;
    assert_eq!(server.note().await, 1);
    let to = "tcp://127.0.0.1:1";
    assert_eq!(back.readdress(to), Err(ReaddressError::NeverDials(EntityName::client(1))));
    assert_eq!(there.readdress(to), Err(ReaddressError::Lossy));
    within(there.send(Note { n: 2 })).await.unwrap();
    assert_eq!(server.note().await, 2);
}

/// A second session would end the first before it has drained.
#[actix_rt::test]
async fn a_peer_is_not_dialled_again_while_its_session_closes() {
    let (mut one, mut two, there) = pair().await;
    let back = two.messenger.connect(EntityName::osd(1), one.addresses()).unwrap();
    // It is answered when there is a second one: until then the close has to wait.
    let ask = |n| tokio::task::spawn_local(back.request(Ask { n, how: How::Defer }).into_future());
    let first = ask(1);
    one.next(|seen| matches!(seen, Seen::Ask(1)).then_some(())).await;
    let closed = there.close();
    let again = one.messenger.connect(EntityName::osd(2), two.addresses());
    assert_eq!(again.unwrap_err(), ConnectError::StillClosing(EntityName::osd(2)));
    let second = ask(2);
    for ask in [first, second] {
        within(ask).await.unwrap().unwrap();
    }
    within(closed).await;
    let again = one.messenger.connect(EntityName::osd(2), two.addresses()).unwrap();
    assert_ne!(again, there);
    within(again.send(Note { n: 3 })).await.unwrap();
    assert_eq!(two.note().await, 3);
}

#[actix_rt::test]
async fn a_shutdown_ends_sessions_in_order_and_frees_the_port() {
    // Another program may dial from the port right after it was freed, seldom, and not each time.
    for _ in 0..5 {
        let (mut one, two, there) = pair().await;
        let sent = within(there.send(Note { n: 1 })).await.unwrap();
        within(there.received(sent)).await.unwrap();
        let address = two.addresses()[0].clone();
        within(two.messenger.shutdown()).await;
        assert_eq!(one.end().await.1, EndCause::ClosedByPeer);
        match Messenger::builder(EntityName::osd(2)).bind(&address).build().await {
            Ok(again) => return assert_eq!(again.local_addresses(), [address]),
            Err(BuildError::PortInUse(_)) => {}
            Err(other) => panic!("{other}"),
        }
    }
    panic!("the port is never free");
}

#[actix_rt::test]
async fn connections_and_messages_are_used_from_other_threads() {
    let (_one, mut two, there) = pair().await;
    let threads: Vec<_> = (0..4u64)
        .map(|thread| {
            let there = there.clone();
            #[allow(clippy::disallowed_methods)] // What is tested: a thread without a runtime.
            std::thread::spawn(move || {
                for n in 0..50 {
                    let note = Note { n: thread * 1000 + n };
                    futures::executor::block_on(there.send(note)).unwrap();
                }
                let ask = there.request(Ask { n: thread, how: How::Reply });
                futures::executor::block_on(ask.into_future()).unwrap().body.n
            })
        })
        .collect();
    let mut last = [None; 4];
    for _ in 0..200 {
        let n = two.note().await;
        // In order for each sender (S1).
        let place = &mut last[n as usize / 1000];
        assert_eq!(place.replace(n % 1000).map_or(0, |before| before + 1), n % 1000);
    }
    for (n, thread) in threads.into_iter().enumerate() {
        #[allow(clippy::disallowed_methods)] // It only waits for a thread of the test.
        let joined = tokio::task::spawn_blocking(move || thread.join());
        let found = within(joined).await;
        assert_eq!(found.unwrap().unwrap(), n as u64);
    }
}

/// A messenger in a system of its own, which is torn down without a word at the end.
fn crashing(
    bind: Address,
    end: futures::channel::oneshot::Receiver<()>,
) -> (Address, std::thread::JoinHandle<()>) {
    let (tell, told) = std::sync::mpsc::channel();
    #[allow(clippy::disallowed_methods)] // What is tested: a process that dies.
    let process = std::thread::spawn(move || {
        actix_rt::System::new().block_on(async move {
            let side = Side::new(Messenger::builder(EntityName::osd(2)).bind(&bind).arbiters(0));
            let side = side.await;
            tell.send(side.addresses()[0].clone()).unwrap();
            end.await.unwrap();
        });
    });
    (told.recv().unwrap(), process)
}

#[actix_rt::test]
async fn s6_a_peer_that_restarted_resets_the_session_and_gets_none_of_the_old() {
    let mut one = Side::new(osd(1)).await;
    let (end, ended) = futures::channel::oneshot::channel();
    // Of an address that no other test binds: its port is free again for the next life.
    let (address, process) = crashing("tcp://127.0.9.1:0".parse().unwrap(), ended);
    let there = one.messenger.connect(EntityName::osd(2), &address).unwrap();
    let sent = within(there.send(Note { n: 1 })).await.unwrap();
    within(there.received(sent)).await.unwrap();
    one.event(connected).await;
    end.send(()).unwrap();
    // Its memory is gone; what is sent now must not reach its next life on this session.
    while there.is_up() {
        tokio::task::yield_now().await;
    }
    within(there.send(Note { n: 2 })).await.unwrap();
    process.join().unwrap();
    let (end, ended) = futures::channel::oneshot::channel();
    let (again, _process) = crashing(address.clone(), ended);
    assert_eq!(again, address);
    let (old, new, cause, unacked) = one
        .event(|event| match event {
            SessionEvent::Reset { old, new, cause, unacked, .. } => {
                Some((old, new, cause, unacked))
            }
            other => panic!("{other:?}"),
        })
        .await;
    assert_eq!((&old, cause), (&there, EndCause::PeerRestarted));
    assert_ne!(old, new);
    assert_eq!(there.end_cause(), Some(EndCause::PeerRestarted));
    let mut unacked = unacked;
    let notes: Vec<u64> =
        unacked.drain().map(|message| message.downcast::<Note>().unwrap().body.n).collect();
    assert_eq!(notes, [2]);
    one.event(connected).await;
    let reply = within(new.request(Ask { n: 5, how: How::Reply })).await;
    assert_eq!(reply.unwrap().body.n, 5);
    end.send(()).unwrap();
}

#[actix_rt::test]
async fn what_waits_for_an_answer_learns_the_fate_and_the_cause() {
    for by_peer in [false, true] {
        let (mut one, mut two, there) = pair().await;
        let asked = there.request(Ask { n: 1, how: How::Defer });
        let asked = actix_rt::spawn(asked.into_future());
        two.next(|seen| match seen {
            Seen::Ask(1) => Some(()),
            _ => None,
        })
        .await;
        let cause = if by_peer {
            two.messenger.sessions()[0].abort();
            EndCause::ClosedByPeer
        } else {
            there.abort();
            EndCause::ClosedHere
        };
        match within(asked).await.unwrap() {
            Err(RequestError::SessionEnded { fate, cause: found }) => {
                assert_eq!((fate, found), (Fate::MaybeHandled, Some(cause)));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(one.end().await.1, cause);
        two.end().await;
    }
}
