//! Users' actors in the messenger: where they run, what survives their panics, what is refused.
#![allow(clippy::unwrap_used)] // Helpers are outside of `#[test]` functions.

mod facade_support;

use facade_support::*;
use futures::channel::oneshot;
use stellate::prelude::*;
use stellate::testing::What;
use tokio::sync::mpsc;

/// A bare messenger, and one that is connected to it.
async fn host_and_peer() -> (Messenger, Side) {
    let host = osd(2).build().await.unwrap();
    let peer = Side::new(osd(1)).await;
    (host, peer)
}

fn connect(peer: &Side, host: &Messenger) -> Connection {
    peer.messenger.connect(host.name(), host.local_addresses()).unwrap()
}

async fn next(log: &mut mpsc::Receiver<Seen>) -> Seen {
    within(log.recv()).await.unwrap()
}

#[actix_rt::test]
async fn actors_run_where_they_are_placed() {
    let (host, peer) = host_and_peer().await;
    let (mut threads, mut left) = (Vec::new(), Vec::new());
    for (placement, name) in [
        (Placement::Current, "current"),
        (Placement::Inline, "inline"),
        (Placement::OwnArbiter, "own"),
    ] {
        let (sender, mut log) = mpsc::channel(100);
        let addr = host
            .supervise(name, move || Desk::new(sender.clone()), Restart::default())
            .handle::<Ask>()
            .placement(placement)
            .start()
            .unwrap();
        host.ready();
        let Seen::Started(thread) = next(&mut log).await else { panic!("not started") };
        threads.push(thread);
        let there = connect(&peer, &host);
        let reply = within(there.request(Ask { n: 3, how: How::Reply })).await.unwrap();
        assert_eq!(reply.body.n, 3, "{name}");
        within(host.tree().remove(name).unwrap()).await;
        // Its type is free at once; its thread learns of it a little later.
        left.push(addr);
    }
    while left.iter().any(|addr| addr.connected()) {
        tokio::task::yield_now().await;
    }
    let here = std::thread::current().id();
    assert!(threads[0] == here && threads[1] != here && threads[2] != here);
    assert_ne!(threads[1], threads[2]);
}

#[actix_rt::test]
async fn v1_s2_a_panic_costs_the_message_in_hand_and_what_waits_is_kept_in_order() {
    let (host, peer) = host_and_peer().await;
    let (gate, gated) = oneshot::channel();
    let mut gated = Some(gated);
    let (sender, mut log) = mpsc::channel(1000);
    let make = move || match gated.take() {
        Some(gate) => Desk::gated(sender.clone(), gate),
        None => Desk::new(sender.clone()),
    };
    let addr = host
        .supervise("desk", make, Restart::default())
        .handle::<Note>()
        .handle::<Ask>()
        .start()
        .unwrap();
    host.ready();
    let there = connect(&peer, &host);
    within(there.request(Ask { n: 0, how: How::Wait })).await.unwrap();
    // The actor waits; this piles up in front of it.
    let mut lost = None;
    for n in 0..200 {
        let n = if n == 50 || n == 51 { PANIC } else { n };
        let receipt = there.try_send(Note { n }).unwrap();
        if n == PANIC {
            lost.get_or_insert(receipt);
        }
    }
    gate.send(()).unwrap();
    let (mut notes, mut starts) = (Vec::new(), 0);
    while notes.last() != Some(&199) {
        match next(&mut log).await {
            Seen::Note(n, ..) => notes.push(n),
            Seen::Started(_) => starts += 1,
            _ => {}
        }
    }
    assert_eq!(notes, (0..200).filter(|n| *n != 50 && *n != 51).collect::<Vec<_>>());
    assert_eq!(starts, 3);
    assert!(addr.connected());
    let panicked = within(lost.unwrap().handled()).await;
    assert!(matches!(panicked, Err(RequestError::HandlerPanicked)));
}

#[actix_rt::test]
async fn v4_v5_a_killed_actor_comes_back_and_goes_on() {
    let (one, mut two, there) = pair().await;
    within(there.send(Note { n: 1 })).await.unwrap();
    assert_eq!(two.note().await, 1);
    let tree = two.messenger.tree().clone();
    let mark = tree.kill("desk").unwrap();
    let up = tree.wait_since(mark, "desk", |what| matches!(what, What::Started));
    within(there.send(Note { n: 2 })).await.unwrap();
    within(up).await.unwrap();
    assert_eq!(two.note().await, 2);
    // The messenger's own actors hang there as well.
    let has = |path: &str| tree.history().iter().any(|entry| entry.path.starts_with(path));
    assert!(has("desk") && has("sessions"));
    drop(one);
}

#[actix_rt::test]
async fn what_cannot_be_hosted_is_said_and_leaves_nothing_behind() {
    let (host, peer) = host_and_peer().await;
    let (sender, _log) = mpsc::channel(1000);
    let make = move || {
        let sender = sender.clone();
        move || Desk::new(sender.clone())
    };
    let twice = host
        .supervise("twice", make(), Restart::default())
        .handle::<Note>()
        .handle::<FutureNoteToo>()
        .start();
    assert_eq!(twice.unwrap_err(), SuperviseError::HandledTwice(Note::TYPE));

    host.supervise("first", make(), Restart::default())
        .handle::<Note>()
        .admission()
        .start()
        .unwrap();
    let taken = host
        .supervise("second", make(), Restart::default())
        .handle::<Ask>()
        .handle::<Note>()
        .events()
        .start();
    assert_eq!(taken.unwrap_err(), SuperviseError::TypeTaken(Note::TYPE));
    let taken = host.supervise("second", make(), Restart::default()).handle::<Ask>().admission();
    assert_eq!(taken.start().unwrap_err(), SuperviseError::AdmissionTaken);
    let taken = host.supervise("first", make(), Restart::default()).handle::<Ask>().start();
    let error = taken.unwrap_err();
    assert!(error.to_string().contains("\"first\""), "{error}");
    for name in ["", "/", "a//b", "/desk", "desk/"] {
        let bad = host.supervise(name, make(), Restart::default()).handle::<Ask>().start();
        let bad_name = SuperviseError::Tree(stellate::TreeError::BadName, name.into());
        assert_eq!(bad.unwrap_err(), bad_name);
    }
    assert_eq!(host.tree().phase("second"), None);
    // Nothing of them holds the type.
    host.supervise("second", make(), Restart::default()).handle::<Ask>().start().unwrap();
    drop(peer);
}

/// A session that finds its own place taken would not begin.
#[actix_rt::test]
async fn nobody_is_hosted_in_the_place_of_a_session_or_another_of_the_messengers_own() {
    let (host, peer) = host_and_peer().await;
    for name in ["sessions/1", "sessions/1/a", "links/1", "endpoint", "dispatch-7", "listener-0"] {
        let make = || Desk::new(mpsc::channel(1).0);
        let hosted = host.supervise(name, make, Restart::default()).handle::<Ask>().start();
        let error = hosted.unwrap_err();
        assert_eq!(error, SuperviseError::Reserved(name.into()));
        assert!(error.to_string().contains("another name"), "{error}");
    }
    host.ready();
    let there = host.connect(peer.messenger.name(), peer.addresses()).unwrap();
    let reply = within(there.request(Ask { n: 3, how: How::Reply })).await.unwrap();
    assert_eq!(reply.body.n, 3);
    // What only looks like it is a user's.
    for name in ["dispatch", "dispatch-x", "session", "listener-", "listeners", "osd-1"] {
        let make = || Desk::new(mpsc::channel(1).0);
        host.supervise(name, make, Restart::default()).start().unwrap();
    }
    within(host.shutdown()).await;
}

/// Has the number of [`Note`].
#[derive(Debug, Serialize, Deserialize)]
struct FutureNoteToo;

impl Message for FutureNoteToo {
    const TYPE: MessageType = Note::TYPE;
    type Reply = ();
}

impl Handler<Incoming<FutureNoteToo>> for Desk {
    type Result = ();

    fn handle(&mut self, _: Incoming<FutureNoteToo>, _: &mut Self::Context) {}
}

#[actix_rt::test]
async fn an_actor_that_is_gone_for_good_leaves_its_types_to_another() {
    let (host, peer) = host_and_peer().await;
    let (sender, mut log) = mpsc::channel(1000);
    let make = {
        let sender = sender.clone();
        move || Desk::new(sender.clone())
    };
    host.supervise("desk", make, Restart::Never).handle::<Ask>().start().unwrap();
    host.ready();
    let there = connect(&peer, &host);
    let panicked = there.request(Ask { n: 1, how: How::Panic });
    let waits = there.request(Ask { n: 2, how: How::Reply });
    let (panicked, waits) = futures::future::join(within(panicked), within(waits)).await;
    assert!(matches!(panicked, Err(RequestError::HandlerPanicked)), "{panicked:?}");
    let unknown = UndeliverableReason::UnknownType;
    assert!(matches!(waits, Err(RequestError::Undeliverable(r)) if r == unknown), "{waits:?}");
    let later = within(there.request(Ask { n: 3, how: How::Reply })).await;
    assert!(matches!(later, Err(RequestError::Undeliverable(r)) if r == unknown), "{later:?}");

    let make = move || Desk::new(sender.clone());
    host.supervise("desk", make, Restart::Never).handle::<Ask>().start().unwrap();
    let reply = within(there.request(Ask { n: 4, how: How::Reply })).await.unwrap();
    assert_eq!(reply.body.n, 4);
    log.close();
}

/// Not hosted; takes one message at a time.
struct Plain(Log);

impl Actor for Plain {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(1);
    }
}

impl Handler<Incoming<Note>> for Plain {
    type Result = ();

    fn handle(&mut self, note: Incoming<Note>, ctx: &mut Self::Context) {
        let _ = self.0.try_send(Seen::Note(note.n, note.data.clone(), note.class()));
        if note.n == PANIC {
            ctx.stop();
        }
    }
}

#[actix_rt::test]
async fn a_plain_recipient_gets_messages_in_order_until_it_ends() {
    let (host, peer) = host_and_peer().await;
    let (sender, mut log) = mpsc::channel(1000);
    let plain = Plain(sender).start();
    host.route::<Note>(plain.recipient()).unwrap();
    let again = host.route::<Note>(Plain(mpsc::channel(1).0).start().recipient());
    assert!(again.is_err());
    host.ready();
    let there = connect(&peer, &host);
    for n in 0..200 {
        within(there.send(Note { n })).await.unwrap();
    }
    for n in 0..200 {
        assert!(matches!(next(&mut log).await, Seen::Note(found, ..) if found == n));
    }
    let last = there.try_send(Note { n: PANIC }).unwrap();
    within(last.handled()).await.unwrap();
    // The actor has ended; the route finds out, and the type has no handler any more.
    loop {
        let receipt = there.try_send(Note { n: 1 }).unwrap();
        match within(receipt.handled()).await {
            Ok(()) => {}
            Err(RequestError::Undeliverable(UndeliverableReason::UnknownType)) => break,
            Err(other) => panic!("{other:?}"),
        }
    }
    drop(log);
}

#[actix_rt::test]
async fn s7_an_actor_that_waits_holds_its_peer_back_and_nobody_else() {
    let limits = Limits { window_messages: [64, 8, 8, 8], inbox_messages: 2, ..Limits::default() };
    let host = osd(2).limits(limits).build().await.unwrap();
    let peer = Side::new(osd(1)).await;
    let (gate, gated) = oneshot::channel();
    let mut gated = Some(gated);
    let (sender, mut log) = mpsc::channel(1000);
    let other = sender.clone();
    let make = move || match gated.take() {
        Some(gate) => Desk::gated(sender.clone(), gate),
        None => Desk::new(sender.clone()),
    };
    host.supervise("busy", make, Restart::default())
        .handle::<Note>()
        .handle::<Ask>()
        .start()
        .unwrap();
    host.supervise("free", move || Desk::new(other.clone()), Restart::default())
        .handle::<Slow>()
        .start()
        .unwrap();
    host.ready();
    let there = connect(&peer, &host);
    within(there.request(Ask { n: 0, how: How::Wait })).await.unwrap();
    for n in 0..100 {
        within(there.send(Note { n })).await.unwrap();
    }
    // Another class goes on, to another actor.
    for n in 0..20 {
        let slow = Slow { n }.class(Class::High);
        assert_eq!(within(there.request(slow)).await.unwrap().body.n, n);
    }
    let (waiting, _) = there.outbox();
    assert!(waiting >= 100 - 8, "{waiting} wait at the sender");
    assert!(!std::iter::from_fn(|| log.try_recv().ok()).any(|seen| matches!(seen, Seen::Note(..))));
    gate.send(()).unwrap();
    let mut expected = 0;
    while expected < 100 {
        if let Seen::Note(n, ..) = next(&mut log).await {
            assert_eq!(n, expected);
            expected += 1;
        }
    }
}
