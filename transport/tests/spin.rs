//! When the endpoint asks to be woken, on a fake NIC: not while it spins, which it does not for ever,
//! and for what was sent only where somebody waits for it.
//!
//! Virtual time stands still while a task is busy, so these tests move it themselves.

mod support;

use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::task::noop_waker_ref;
use stellate_transport::Transport;
use stellate_transport::rdma::fake::{FakeNet, Personality};
use stellate_transport::rdma::{Rdma, RdmaOptions};
use support::{End, answer, hello, message, seqs};
use tokio::time::{Instant, advance};

const NEAR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const FAR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));
const TICK: Duration = Duration::from_millis(1);
const SPIN: Duration = Duration::from_millis(50);

/// Polls it, and moves time by a tick after each turn, until it has an answer.
async fn ticking<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    for _ in 0..1000 {
        if let Poll::Ready(ready) = poll(&mut Context::from_waker(noop_waker_ref())) {
            return ready;
        }
        advance(TICK).await;
    }
    panic!("nothing came in a second");
}

/// Both ends of a link whose near host spins, that is up.
async fn pair(fake: &FakeNet, spin: Duration) -> (End, End) {
    let options = RdmaOptions { spin, ..RdmaOptions::default() };
    let near = Rdma::with(fake.host(NEAR, Personality::ROCE), options);
    let far = Rdma::on(fake.host(FAR, Personality::ROCE));
    let at = "rdma://10.0.0.2:0".parse().expect("an address");
    let mut listener = Arc::new(far).listen(&at).expect("listens");
    let mut dial = near.dial(&listener.local());
    let near = ticking(|cx| dial.as_mut().poll(cx)).await;
    let mut near = End::new(near.expect("dials"));
    near.send(hello());
    near.drive(&mut Context::from_waker(noop_waker_ref()));
    let far = ticking(|cx| listener.poll_accept(cx)).await;
    let mut far = End::new(far.expect("accepts"));
    far.send(answer());
    until(&mut near, &mut far, |near, far| near.frames.len() == 1 && far.frames.len() == 1).await;
    (near, far)
}

async fn until(near: &mut End, far: &mut End, mut done: impl FnMut(&End, &End) -> bool) {
    ticking(|cx| {
        near.drive(cx);
        far.drive(cx);
        if done(near, far) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// A message there and one back, so many times.
async fn rounds(near: &mut End, far: &mut End, from: u64, count: u64) {
    for seq in from..from + count {
        near.send(message(seq, b"there"));
        far.send(message(seq, b"back"));
        let read = |end: &End| seqs(&end.frames).last() == Some(&seq);
        until(near, far, |near, far| read(near) && read(far)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn while_there_is_work_it_asks_for_no_wake_up() {
    let fake = FakeNet::new(1);
    let (mut near, mut far) = pair(&fake, SPIN).await;
    let (spun, slept) = (fake.arms(NEAR), fake.arms(FAR));
    rounds(&mut near, &mut far, 1, 30).await;
    assert_eq!(fake.arms(NEAR), spun, "it looked, and was never about to sleep");
    assert!(fake.arms(FAR) > slept + 30, "which the other end was after each message");
}

#[tokio::test(start_paused = true)]
async fn without_work_it_sleeps_after_its_time_and_is_woken_for_more() {
    let fake = FakeNet::new(1);
    let (mut near, mut far) = pair(&fake, SPIN).await;
    let spun = fake.arms(NEAR);
    let idle = Instant::now();
    while fake.arms(NEAR) == spun {
        advance(TICK).await;
        assert!(idle.elapsed() < SPIN * 3, "it spins for ever");
    }
    assert!(idle.elapsed() + TICK * 10 >= SPIN, "it looked as long as it was told");
    // Time moves by itself only while all tasks sleep.
    let begin = Instant::now();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(begin.elapsed() >= Duration::from_secs(3600));
    let slept = fake.arms(NEAR);
    assert!(slept < spun + 10, "asleep it stays asleep");
    // What comes wakes it, and it spins again.
    rounds(&mut near, &mut far, 1, 1).await;
    let woken = fake.arms(NEAR);
    rounds(&mut near, &mut far, 2, 10).await;
    assert_eq!(fake.arms(NEAR), woken);
}

#[tokio::test(start_paused = true)]
async fn without_spin_it_sleeps_at_once() {
    let fake = FakeNet::new(1);
    let (mut near, mut far) = pair(&fake, Duration::ZERO).await;
    let before = fake.arms(NEAR);
    rounds(&mut near, &mut far, 1, 10).await;
    assert!(fake.arms(NEAR) > before + 10);
}

/// Submits so many messages, each in a SEND of its own; how long until all are told as done.
async fn sent_alone(near: &mut End, far: &mut End, count: u64) -> Duration {
    let (before, begin) = (near.done, Instant::now());
    for seq in 1..=count {
        near.send(message(seq, b"there"));
        near.drive(&mut Context::from_waker(noop_waker_ref()));
        if seq == 1 {
            // The endpoint plans to look, and is asleep again when the others go.
            tokio::time::sleep(TICK).await;
        }
    }
    until(near, far, |near, _| near.done == before + count).await;
    assert_eq!(far.frames.len() as u64, 1 + count, "the hello, and these");
    begin.elapsed()
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_wakes_nobody_but_is_told_after_a_while() {
    let fake = FakeNet::new(1);
    let (mut near, mut far) = pair(&fake, Duration::ZERO).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = fake.arms(NEAR);
    let took = sent_alone(&mut near, &mut far, 12).await;
    assert!(took >= TICK * 10 && took < TICK * 40, "F1: {took:?}, nothing came that woke it");
    assert!(fake.arms(NEAR) <= before + 3, "{} for twelve SENDs", fake.arms(NEAR) - before);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_what_it_sent_is_woken_for_it() {
    let fake = FakeNet::new(1);
    let (mut near, mut far) = pair(&fake, Duration::ZERO).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    // More than half of the SENDs that may be under way.
    let took = sent_alone(&mut near, &mut far, 20).await;
    assert!(took < TICK * 10, "{took:?}");
}

/// It has come when the endpoint is about to sleep: that is not asked for again and again.
#[tokio::test(start_paused = true)]
async fn a_deadline_that_is_due_is_looked_at_by_the_next_turn() {
    let fake = FakeNet::new(1);
    let near = Rdma::on(fake.host(NEAR, Personality::ROCE));
    let options = RdmaOptions { accept: Duration::ZERO, ..RdmaOptions::default() };
    let far = Rdma::with(fake.host(FAR, Personality::ROCE), options);
    let at = "rdma://10.0.0.2:0".parse().expect("an address");
    let listener = far.listen(&at).expect("listens");
    tokio::time::sleep(TICK).await;
    let dial = near.dial(&listener.local());
    let before = fake.arms(FAR);
    let _ = tokio::time::timeout(TICK * 100, dial).await;
    let arms = fake.arms(FAR) - before;
    assert_eq!(far.in_use().queue_pairs, 0, "its time was over at once");
    assert!(arms < 8, "{arms}");
}
