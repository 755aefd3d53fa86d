//! Faults at frame edges, on the simulated network and on TCP alike.

mod support;

use std::sync::Arc;

use stellate_protocol::{Frame, FrameKind, Parcel, SessionId};
use stellate_transport::faults::{Direction, Edge, Fault, Faults, Gate};
use stellate_transport::sim::SimNet;
use stellate_transport::trace::SessionTag;
use stellate_transport::{DialError, LinkFault, Tcp, Transport};
use support::{Pair, Rig, message, seqs};
use tokio::time::{Duration, Instant, timeout};

fn run<F: Future<Output = ()>>(paused: bool, test: impl FnOnce() -> F) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(paused)
        .build()
        .expect("a runtime")
        .block_on(async { timeout(Duration::from_secs(600), test()).await.expect("ends") });
}

/// A rig whose dialling side follows the plan.
fn sim(faults: &Faults) -> Rig {
    let net = SimNet::new(1);
    Rig {
        dials: faults.wrap(Arc::new(net.transport("a"))),
        listens: Arc::new(net.transport("b")),
        at: "sim://b".parse().expect("an address"),
        net: Some(net),
        fake: None,
    }
}

fn tcp(faults: &Faults) -> Rig {
    let tcp: Arc<dyn Transport> = Arc::new(Tcp::new());
    Rig {
        dials: faults.wrap(tcp.clone()),
        listens: tcp,
        at: "tcp://127.0.0.1:0".parse().expect("an address"),
        net: None,
        fake: None,
    }
}

/// Runs on both kinds of rig.
fn on_both<F: Future<Output = ()>>(test: impl Fn(Rig, Faults) -> F) {
    let faults = Faults::new();
    run(true, || test(sim(&faults), faults.clone()));
    let faults = Faults::new();
    run(false, || test(tcp(&faults), faults.clone()));
}

#[test]
fn fail_cuts_the_link_at_the_frame_and_both_ends_learn_it() {
    on_both(|rig, faults| async move {
        faults.on(FrameKind::Message, Direction::Sent, 3, Fault::Fail);
        let mut pair = Pair::up(&rig).await;
        for seq in 1..=5 {
            pair.near.send(message(seq, b"x"));
        }
        pair.until_closed().await;
        assert_eq!(pair.near.closed, Some(LinkFault::Injected));
        assert!(pair.near.failed >= 3, "the third and those behind it");
        assert!(seqs(&pair.far.frames).len() <= 2);
        assert_eq!(faults.hits().len(), 1);
        // It happens once: the next link is sound.
        let mut pair = Pair::up(&rig2(rig, pair)).await;
        pair.near.send(message(1, b"x"));
        pair.until(|pair| pair.far.frames.len() == 1).await;
    });
}

/// The rig again, once the listener of the pair is gone.
fn rig2(rig: Rig, pair: Pair) -> Rig {
    drop(pair);
    rig
}

#[test]
fn fail_on_receipt_loses_the_frame() {
    on_both(|rig, faults| async move {
        faults.on(FrameKind::Message, Direction::Received, 2, Fault::Fail);
        let mut pair = Pair::up(&rig).await;
        for seq in 1..=5 {
            pair.far.send(message(seq, b"x"));
        }
        pair.until_closed().await;
        assert_eq!(seqs(&pair.near.frames), [1]);
        assert_eq!(pair.near.closed, Some(LinkFault::Injected));
    });
}

#[test]
fn a_gate_holds_a_frame_and_all_behind_it_until_it_opens() {
    on_both(|rig, faults| async move {
        for direction in [Direction::Sent, Direction::Received] {
            let gate = Gate::new();
            faults.on_next(FrameKind::Message, direction, 2, Fault::Block(gate.clone()));
        }
        let mut pair = Pair::up(&rig).await;
        for seq in 1..=4 {
            pair.near.send(message(seq, b"out"));
            pair.far.send(message(seq, b"in"));
        }
        pair.until(|pair| pair.far.frames.len() == 1 && pair.near.frames.len() == 1).await;
        pair.until(|_| faults.hits().len() == 2).await;
        faults.clear();
        assert_eq!((pair.far.frames.len(), pair.near.frames.len()), (1, 1));
    });
}

#[test]
fn an_opened_gate_lets_everything_through_in_order() {
    on_both(|rig, faults| async move {
        let gate = Gate::new();
        let there = Fault::Block(gate.clone());
        faults.on(FrameKind::Message, Direction::Sent, 2, there.clone());
        faults.on(FrameKind::Message, Direction::Received, 2, there);
        let mut pair = Pair::up(&rig).await;
        for seq in 1..=50 {
            pair.near.send(message(seq, b"out"));
            pair.far.send(message(seq, b"in"));
        }
        pair.until(|_| gate.is_reached() && faults.hits().len() == 2).await;
        gate.reached().await;
        assert!(pair.far.frames.len() <= 1);
        gate.open();
        pair.until(|pair| pair.far.frames.len() == 50 && pair.near.frames.len() == 50).await;
        let all: Vec<u64> = (1..=50).collect();
        assert_eq!(seqs(&pair.far.frames), all);
        assert_eq!(seqs(&pair.near.frames), all);
    });
}

#[test]
fn a_stalled_link_is_half_open() {
    run(true, || async {
        let faults = Faults::new();
        faults.on(FrameKind::Message, Direction::Sent, 2, Fault::StallAfter);
        let mut pair = Pair::up(&sim(&faults)).await;
        for seq in 1..=4 {
            pair.near.send(message(seq, b"out"));
            pair.far.send(message(seq, b"in"));
        }
        let still = timeout(Duration::from_secs(60), pair.until(|_| false));
        assert!(still.await.is_err());
        assert_eq!(seqs(&pair.far.frames), [1, 2], "nothing after it");
        assert_eq!(seqs(&pair.near.frames), [1, 2, 3, 4], "the other way is free");
        assert_eq!((pair.near.closed.clone(), pair.far.closed.clone()), (None, None));
        // A stalled link can still be given up (F1 is checked by the end).
        pair.near.link().close(stellate_transport::CloseHow::Abort);
        pair.until_closed().await;
        assert_eq!(pair.near.failed, 2);
    });
}

#[test]
fn a_delay_takes_its_time() {
    run(true, || async {
        let faults = Faults::new();
        let late = Duration::from_secs(7);
        faults.on(FrameKind::Message, Direction::Sent, 1, Fault::Delay(late));
        let mut pair = Pair::up(&sim(&faults)).await;
        let start = Instant::now();
        pair.near.send(message(1, b"x"));
        pair.until(|pair| pair.far.frames.len() == 1).await;
        assert!(start.elapsed() >= late);
    });
}

#[test]
fn dials_and_accepts_can_fail() {
    on_both(|mut rig, faults| async move {
        rig.listens = faults.wrap(rig.listens);
        faults.on(Edge::Dial, Direction::Sent, 1, Fault::Fail);
        faults.on(Edge::Accept, Direction::Received, 1, Fault::Fail);
        let mut listener = rig.listens.listen(&rig.at).expect("listens");
        let at = listener.local();
        let failed = rig.dials.dial(&at).await.expect_err("the first");
        assert_eq!(failed, DialError::Injected);
        let cut = rig.dials.dial(&at);
        let accept = std::future::poll_fn(|cx| listener.poll_accept(cx));
        let second = async {
            let cut = cut.await.expect("is dialled, then cut");
            (cut, rig.dials.dial(&at).await.expect("the second"))
        };
        let ((_cut, _near), accepted) = futures::join!(second, accept);
        accepted.expect("the second is accepted");
        let edges: Vec<Edge> = faults.hits().iter().map(|hit| hit.edge).collect();
        assert_eq!(edges, [Edge::Dial, Edge::Accept]);
    });
}

#[test]
fn an_accepted_link_that_stalls_holds_up_no_other() {
    on_both(|mut rig, faults| async move {
        rig.listens = faults.wrap(rig.listens);
        faults.on(Edge::Accept, Direction::Received, 1, Fault::StallAfter);
        let mut listener = rig.listens.listen(&rig.at).expect("listens");
        let at = listener.local();
        let accept = std::future::poll_fn(|cx| listener.poll_accept(cx));
        let both = async {
            let first = rig.dials.dial(&at).await.expect("is up, for all it knows");
            (first, rig.dials.dial(&at).await.expect("the second"))
        };
        let (_dialled, accepted) = futures::join!(both, accept);
        accepted.expect("the second is accepted");
        assert_eq!(faults.hits().len(), 1);
    });
}

#[test]
fn any_counts_frames_of_every_kind_over_all_links() {
    on_both(|rig, faults| async move {
        // Hello and answer are frames too; the second link's hello is the third sent.
        faults.on(Edge::Any, Direction::Sent, 3, Fault::Fail);
        let mut pair = Pair::up(&rig).await;
        pair.near.send(message(1, b"x"));
        pair.until(|pair| pair.far.frames.len() == 1).await;
        let rig = rig2(rig, pair);
        let mut pair = Pair::connected(&rig).await;
        pair.near.send(support::hello());
        pair.until_closed().await;
        assert_eq!(pair.near.closed, Some(LinkFault::Injected));
    });
}

#[test]
fn f1_frames_that_the_inner_link_loses_are_reported_as_failed() {
    run(true, || async {
        let rig = sim(&Faults::new());
        let net = rig.net.clone().expect("simulated");
        let mut pair = Pair::up(&rig).await;
        net.partition("a", "b");
        while pair.near.submit(message(1, &support::pattern(8000))).is_ok() {
            std::future::poll_fn(|cx| {
                pair.near.drive(cx);
                std::task::Poll::Ready(())
            })
            .await;
        }
        let moved = pair.near.done;
        net.cut_all();
        pair.until_closed().await;
        assert_eq!(pair.near.failed, pair.near.submitted - moved);
        assert!(pair.near.failed > 0);
    });
}

/// Another listener for the same dialling side.
fn beside(rig: &Rig) -> Rig {
    let (listens, at): (Arc<dyn Transport>, _) = match &rig.net {
        Some(net) => (Arc::new(net.transport("c")), "sim://c"),
        None => (rig.listens.clone(), "tcp://127.0.0.1:0"),
    };
    let (dials, net) = (rig.dials.clone(), rig.net.clone());
    Rig { dials, listens, at: at.parse().expect("an address"), net, fake: None }
}

fn hello_of(session: u128) -> Frame<Parcel> {
    let Frame::Hello(mut hello) = support::hello() else { unreachable!("it is one") };
    hello.session = SessionId(session);
    Frame::Hello(hello)
}

/// A link that is up and has moved, whose hello names that session.
async fn link_of(rig: &Rig, session: u128) -> Pair {
    let mut pair = Pair::connected(rig).await;
    pair.near.send(hello_of(session));
    pair.until(|pair| pair.far.frames.len() == 1).await;
    pair.far.send(support::answer());
    pair.until(|pair| pair.near.frames.len() == 1).await;
    pair.far.frames.clear();
    pair.near.frames.clear();
    // It goes to the thread of its session.
    pair.near.detach_and_attach().await;
    pair
}

/// A plan counts for each session apart, over all its links and both ways; one rule strikes once.
#[test]
fn the_nth_of_a_kind_is_that_of_a_session() {
    on_both(|rig, faults| async move {
        let other = beside(&rig);
        faults.on(FrameKind::Message, Direction::Sent, 5, Fault::Fail);
        faults.on(FrameKind::Message, Direction::Received, 4, Fault::Fail);
        faults.on(FrameKind::Hello, Direction::Sent, 3, Fault::Fail);
        let mut one = link_of(&rig, 1).await;
        let mut two = link_of(&other, 2).await;
        for pair in [&mut one, &mut two] {
            for seq in 1..=3 {
                pair.near.send(message(seq, b"out"));
                pair.far.send(message(seq, b"in"));
            }
            pair.until(|pair| pair.far.frames.len() == 3 && pair.near.frames.len() == 3).await;
        }
        assert_eq!((faults.hits(), faults.seen(FrameKind::Message, Direction::Sent)), (vec![], 6));
        // A later link of the session goes on where the one before was.
        drop(two);
        let mut two = link_of(&other, 2).await;
        two.near.send(message(4, b"out"));
        two.until(|pair| pair.far.frames.len() == 1).await;
        two.near.send(message(5, b"out"));
        two.until_closed().await;
        one.near.send(message(4, b"out"));
        one.near.send(message(5, b"out"));
        one.until(|pair| pair.far.frames.len() == 5).await;
        one.far.send(message(4, b"in"));
        one.until_closed().await;
        // What was refused at its hello is that session's as well.
        let mut two = Pair::connected(&rig2(other, two)).await;
        two.near.send(hello_of(2));
        two.until_closed().await;
        let hits: Vec<_> =
            faults.hits().iter().map(|hit| (hit.edge, hit.nth, hit.session)).collect();
        let [one, two] = [1, 2].map(|id| SessionTag::from(SessionId(id)));
        assert_eq!(hits, [(Edge::Message, 5, two), (Edge::Message, 4, one), (Edge::Hello, 3, two)]);
    });
}

/// Counted from now it is that of a session, too, and of dials and accepts that of the plan.
#[test]
fn the_next_of_a_kind_is_counted_from_now() {
    on_both(|mut rig, faults| async move {
        rig.listens = faults.wrap(rig.listens);
        let other = beside(&rig);
        let mut one = link_of(&rig, 1).await;
        let mut two = link_of(&other, 2).await;
        for seq in 1..=3 {
            one.near.send(message(seq, b"out"));
        }
        one.until(|pair| pair.far.frames.len() == 3).await;
        faults.on_next(FrameKind::Message, Direction::Sent, 2, Fault::Fail);
        faults.on_next(Edge::Dial, Direction::Sent, 1, Fault::Fail);
        one.near.send(message(4, b"out"));
        one.until(|pair| pair.far.frames.len() == 4).await;
        two.near.send(message(1, b"out"));
        two.until(|pair| pair.far.frames.len() == 1).await;
        two.near.send(message(2, b"out"));
        two.until_closed().await;
        assert_eq!(rig.dials.dial(&rig.at).await.expect_err("the next"), DialError::Injected);
        let hits: Vec<_> = faults.hits().iter().map(|hit| (hit.nth, hit.session)).collect();
        assert_eq!(hits, [(2, SessionId(2).into()), (3, SessionTag::NONE)]);
        assert_eq!(faults.seen(FrameKind::Message, Direction::Sent), 6);
    });
}
