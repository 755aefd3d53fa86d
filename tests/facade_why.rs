//! `Connection::why`: what a session waits for, on either side, and since when.
#![allow(clippy::unwrap_used)] // Helpers are outside of `#[test]` functions.

mod facade_support;

use std::sync::Arc;
use std::time::Duration;

use facade_support::*;
use stellate::prelude::*;
use stellate::testing::{Direction, Fault, Faults, FrameKind, Gate, Tcp};
use stellate::waiting::{DialError, Trouble, Waiting, WaitsFor};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

fn quick() -> Limits {
    Limits {
        hello_timeout: Duration::from_millis(100),
        backoff_max: Duration::from_millis(100),
        window_messages: [4; 4],
        ..Limits::default()
    }
}

/// The first answer that `wanted` likes.
async fn why(there: &Connection, mut wanted: impl FnMut(&Waiting) -> bool) -> Waiting {
    within(async {
        loop {
            if let Some(waiting) = there.why().filter(|waiting| wanted(waiting)) {
                return waiting;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
}

async fn nothing(there: &Connection) {
    within(async {
        while there.why().is_some() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// A connection to what is at `address`, with one message on it that waits.
async fn to(address: std::net::SocketAddr) -> (Side, Connection) {
    let one = Side::new(osd(1).limits(quick())).await;
    let there = one.messenger.connect(EntityName::osd(2), format!("tcp://{address}")).unwrap();
    assert_eq!(there.why().and_then(|waiting| waiting.oldest), None, "nothing was sent");
    within(there.send(Note { n: 1 })).await.unwrap();
    (one, there)
}

#[actix_rt::test]
async fn a_dial_that_is_refused_says_so() {
    // Of an address that no other test binds: its port stays free.
    let listener = TcpListener::bind("127.0.9.1:0").await.unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    let (_one, there) = to(nobody).await;
    let tried = |waiting: &Waiting| {
        let known = waiting.no_link.as_ref().is_some_and(|none| none.trouble.is_some());
        known && waiting.oldest.is_some()
    };
    let waiting = why(&there, tried).await;
    let (oldest, none) = (waiting.oldest.unwrap(), waiting.no_link.clone().unwrap());
    assert!(matches!(oldest.waits_for, WaitsFor::Link(_)), "{waiting:?}");
    assert_eq!((oldest.class, oldest.position, oldest.is_reply), (Class::Normal, 1, false));
    assert_eq!(none.trouble, Some(Trouble::DialFailed));
    assert_eq!(none.dial, Some(DialError::Refused));
    assert_eq!((waiting.outbox.0, waiting.queues.len()), (1, 0));
    // It is one wait, through all phases of trying again.
    let dials = there.counters().dials;
    let later = why(&there, |_| there.counters().dials > dials + 2).await;
    assert!(later.oldest.unwrap().since > oldest.since);
    assert!(later.no_link.unwrap().since > none.since);
    let counters = there.counters();
    assert!(counters.dials_failed > 0 && counters.dials_silent == 0, "{counters:?}");
    let text = waiting.to_string();
    assert!(text.contains("no link for") && text.contains("nobody listens"), "{text}");
    there.abort();
    within(there.ended()).await;
    assert_eq!(there.why(), None);
}

#[actix_rt::test]
async fn a_peer_that_accepts_and_says_nothing_is_no_refusal() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (_one, there) = to(listener.local_addr().unwrap()).await;
    let silent = |waiting: &Waiting| {
        waiting.no_link.as_ref().is_some_and(|none| none.trouble == Some(Trouble::HelloSilent))
    };
    let waiting = why(&there, silent).await;
    assert_eq!(waiting.no_link.unwrap().dial, None);
    let counters = there.counters();
    assert!(counters.dials_silent > 0 && counters.dials_failed == 0, "{counters:?}");
}

/// The kernel drops what asks for a listener whose backlog is full.
#[cfg(target_os = "linux")]
#[actix_rt::test]
async fn a_black_hole_is_no_refusal() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = socket.listen(0).unwrap();
    let at = full.local_addr().unwrap();
    let _one_in = TcpStream::connect(at).await.unwrap();
    let (_one, there) = to(at).await;
    let silent = |waiting: &Waiting| {
        waiting.no_link.as_ref().is_some_and(|none| none.trouble == Some(Trouble::DialSilent))
    };
    let waiting = why(&there, silent).await;
    assert!(waiting.no_link.as_ref().unwrap().trouble.unwrap().is_silence());
    assert!(waiting.to_string().contains("not answered in time"), "{waiting}");
    let counters = there.counters();
    assert!(counters.dials_silent > 0 && counters.dials_failed == 0, "{counters:?}");
}

async fn connected(side: &mut Side) -> Connection {
    side.event(|event| match event {
        SessionEvent::Connected { connection, .. } => Some(connection),
        _ => None,
    })
    .await
}

#[actix_rt::test]
async fn an_actor_that_does_not_read_is_named_on_its_side() {
    let (one, mut two) =
        (Side::new(osd(1).limits(quick())).await, Side::new(osd(2).limits(quick())).await);
    let there = one.messenger.connect(EntityName::osd(2), two.addresses()).unwrap();
    let back = connected(&mut two).await;
    two.messenger.tree().pause("desk").unwrap();
    within(async {
        while !two.messenger.tree().is_paused("desk") {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for n in 0..10 {
        within(there.send(Note { n })).await.unwrap();
    }
    let window = |waiting: &Waiting| {
        waiting.oldest.is_some_and(|oldest| oldest.waits_for == WaitsFor::Window)
    };
    let waiting = why(&there, window).await;
    assert_eq!((waiting.oldest.unwrap().position, waiting.outbox.0), (5, 6), "{waiting:?}");
    assert_eq!(waiting.no_link, None);
    let queued = |waiting: &Waiting| waiting.queues.iter().any(|queue| queue.messages == 4);
    let waiting = why(&back, queued).await;
    assert_eq!((waiting.queues[0].actor.as_str(), waiting.oldest), ("desk", None));
    let text = waiting.to_string();
    assert!(text.starts_with("4 in front of actor \"desk\" for "), "{text}");
    two.messenger.tree().resume("desk").unwrap();
    for n in 0..10 {
        assert_eq!(two.note().await, n);
    }
    nothing(&there).await;
    nothing(&back).await;
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Nap;

impl Message for Nap {
    const TYPE: MessageType = MessageType::new(0x03f1);
    type Reply = ();
}

/// Waits in its context, for ever.
struct Sleeper;

impl Actor for Sleeper {
    type Context = Context<Self>;
}

impl Handler<Incoming<Nap>> for Sleeper {
    type Result = ();

    fn handle(&mut self, _: Incoming<Nap>, ctx: &mut Self::Context) {
        ctx.wait(actix::fut::wrap_future(std::future::pending()));
    }
}

/// Its pump has taken all three out when the first makes it wait.
#[actix_rt::test]
async fn an_actor_that_waits_is_named_with_what_it_has_not_been_handed() {
    let (one, mut two) =
        (Side::new(osd(1).limits(quick())).await, Side::new(osd(2).limits(quick())).await);
    let sleeper = two.messenger.supervise("sleeper", || Sleeper, Restart::default());
    sleeper.handle::<Nap>().placement(Placement::Inline).start().unwrap();
    let there = one.messenger.connect(EntityName::osd(2), two.addresses()).unwrap();
    for _ in 0..3 {
        within(there.send(Nap)).await.unwrap();
    }
    let back = connected(&mut two).await;
    // Queues are read before the count of what is in none: all three may be handed over in between.
    let queued = |waiting: &Waiting| {
        let two =
            waiting.queues.iter().any(|queue| queue.actor == "sleeper" && queue.messages == 2);
        two && waiting.undispatched == 0
    };
    let waiting = why(&back, queued).await;
    assert_eq!(waiting.queues.len(), 1, "{waiting:?}");
}

#[actix_rt::test]
async fn a_peer_that_is_held_is_told_on_both_sides() {
    let one = Side::new(osd(1).limits(quick())).await;
    let mut two = Side::with(osd(2).limits(quick()), |desk| desk.events().admission()).await;
    let there = one.messenger.connect(EntityName::osd(2), two.addresses()).unwrap();
    for n in 0..6 {
        within(there.send(Note { n })).await.unwrap();
    }
    let back = connected(&mut two).await;
    let request = two.admission().await;
    let held = |waiting: &Waiting| {
        waiting.oldest.is_some_and(|oldest| oldest.waits_for == WaitsFor::Admission)
    };
    let waiting = why(&there, held).await;
    assert!(waiting.held_there && !waiting.held_here, "{waiting:?}");
    assert!(waiting.to_string().contains("the peer has not admitted us"), "{waiting}");
    assert!(back.is_holding());
    // What is kept is counted when the turn that took it in is over.
    let kept = why(&back, |waiting| waiting.undispatched == 4).await;
    assert!(kept.held_here, "{kept:?}");
    request.accept();
    for n in 0..6 {
        assert_eq!(two.note().await, n);
    }
    nothing(&there).await;
}

#[actix_rt::test]
async fn an_ack_that_does_not_come_is_waited_for() {
    let (faults, gate) = (Faults::new(), Gate::new());
    faults.on(FrameKind::Ack, Direction::Received, 1, Fault::Block(gate.clone()));
    let one = Side::new(osd(1).transport(faults.wrap(Arc::new(Tcp::new())))).await;
    let mut two = Side::new(osd(2)).await;
    let there = one.messenger.connect(EntityName::osd(2), two.addresses()).unwrap();
    within(there.send(Note { n: 1 }.with(vec![7; 100]))).await.unwrap();
    assert_eq!(two.note().await, 1);
    let acked =
        |waiting: &Waiting| waiting.oldest.is_some_and(|oldest| oldest.waits_for == WaitsFor::Ack);
    let waiting = why(&there, acked).await;
    assert!(waiting.to_string().contains("for the peer's ack; 1 messages"), "{waiting}");
    gate.open();
    nothing(&there).await;
}

#[actix_rt::test]
async fn a_request_in_hand_is_counted_where_it_is() {
    let (_one, mut two, there) = pair().await;
    let ask = there.request(Ask { n: 1, how: How::Defer });
    let asked = actix_rt::spawn(async move { ask.await });
    let back = connected(&mut two).await;
    why(&there, |waiting| waiting.open_calls == 1).await;
    let waiting = why(&back, |waiting| waiting.in_hand == 1).await;
    assert_eq!((waiting.queues.len(), waiting.undispatched), (0, 0), "{waiting:?}");
    there.abort();
    assert!(within(asked).await.unwrap().is_err());
}
