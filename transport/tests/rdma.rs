//! RDMA links on a fake NIC: every fault it has, and that everything comes back.

mod support;

use std::net::IpAddr;
use std::sync::Arc;

use futures::FutureExt;
use stellate_protocol::{Frame, Seq};
use stellate_transport::rdma::fake::{CmWord, Counts, Personality};
use stellate_transport::rdma::verbs::{VerbsErrorKind, WorkFault};
use stellate_transport::rdma::{PoolOptions, Rdma, RdmaOptions};
use stellate_transport::{CloseHow, DialError, LinkFault, Transport};
use support::two::{FAR, NEAR, Two, chunks_of, in_time, pull_through, two, until_one};
use support::{End, Pair, Rig, announce, hello, lane, message, pattern, seqs};

#[tokio::test(start_paused = true)]
async fn f8_a_thousand_links_and_faults_leave_nothing_behind() {
    for personality in [Personality::ROCE, Personality::IWARP] {
        // Both together are a thousand.
        let two = Two::new(3, personality, RdmaOptions::default());
        let mut listener = two.rig.listens.listen(&two.rig.at).expect("listens");
        let at = listener.local();
        for round in 0..500 {
            let dial = two.rig.dials.dial(&at);
            let accept = std::future::poll_fn(|cx| listener.poll_accept(cx));
            let (near, far) = futures::join!(dial, accept);
            let (mut near, mut far) = (End::new(near.expect("up")), End::new(far.expect("up")));
            near.send(hello());
            for seq in 1..=5 {
                near.send(message(seq, &pattern(3000)));
            }
            match round % 7 {
                0 => {}
                1 => until_one(&mut far, |far| far.frames.len() == 6).now_or_never().unwrap_or(()),
                2 => two.fake.break_pairs(FAR),
                3 => two.fake.break_pairs(NEAR),
                4 => near.link().close(CloseHow::Drain),
                5 => far.link().close(CloseHow::Abort),
                _ => {
                    two.fake.partition(NEAR, FAR, true);
                    until_one(&mut near, |near| near.closed.is_some()).await;
                    two.fake.partition(NEAR, FAR, false);
                }
            }
            if round % 2 == 0 {
                drop((near, far));
            } else {
                drop((far, near));
            }
        }
        two.nothing_left(1).await;
        drop(listener);
        two.nothing_left(0).await;
        let (fake, regions) = (two.fake.clone(), two.fake.counts(NEAR).registered);
        assert!(regions > 0, "memory is kept for the next link");
        drop(two);
        tokio::task::yield_now().await;
        for host in [NEAR, FAR] {
            assert_eq!(fake.counts(host), Counts::default(), "all of it is given back");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_broken_queue_pair_ends_its_link_with_the_cause_and_every_submit_is_done() {
    let two = two();
    let mut pair = two.pair().await;
    for seq in 1..=20 {
        pair.near.submit(message(seq, &pattern(3000))).expect("room");
    }
    two.fake.break_pairs(NEAR);
    until_one(&mut pair.near, |near| near.closed.is_some()).await;
    let broken = LinkFault::Work(WorkFault::LocalProtection);
    assert_eq!(pair.near.closed, Some(broken), "the device said so");
    assert_eq!(pair.near.done, pair.near.submitted, "F1");
    until_one(&mut pair.far, |far| far.closed.is_some()).await;
    assert_eq!(pair.far.closed, Some(LinkFault::Reset));
    drop(pair);
    two.nothing_left(0).await;
}

/// More completions wait than one turn takes. Why a link ends is among them, its flush is not behind.
#[tokio::test(start_paused = true)]
async fn why_a_link_ended_is_told_however_much_else_completed() {
    for seed in 0..3 {
        let two = Two::new(seed, Personality::ROCE, RdmaOptions::default());
        let mut broken = two.pair().await;
        let mut pairs = Vec::new();
        for _ in 0..120 {
            pairs.push(two.pair().await);
        }
        for pair in &mut pairs {
            pair.near.send(message(1, b"well"));
            until_one(&mut pair.near, |near| near.waiting.is_empty()).await;
        }
        // They are sent, and nobody has looked yet.
        tokio::time::sleep(std::time::Duration::from_millis(4)).await;
        two.fake.fail_next(NEAR, WorkFault::RemoteOperation);
        broken.near.send(message(1, b"broken"));
        in_time(until_one(&mut broken.near, |near| near.closed.is_some())).await;
        let cause = LinkFault::Work(WorkFault::RemoteOperation);
        assert_eq!(broken.near.closed, Some(cause), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_acknowledges_nothing_ends_the_link() {
    let two = two();
    let mut pair = two.pair().await;
    two.fake.partition(NEAR, FAR, true);
    pair.near.submit(message(1, b"into the void")).expect("room");
    until_one(&mut pair.near, |near| near.closed.is_some()).await;
    assert_eq!(pair.near.closed, Some(LinkFault::Work(WorkFault::RetryExceeded)));
    assert_eq!((pair.near.done, pair.near.failed), (pair.near.submitted, 1), "F1");
    // Nobody told the other end: its own session has to find out.
    assert_eq!(pair.far.closed, None);
    drop(pair);
    two.nothing_left(0).await;
}

#[tokio::test(start_paused = true)]
async fn lost_and_late_words_of_the_connection_manager_lose_no_link() {
    for lost in [true, false] {
        let two = two();
        if lost {
            two.fake.lose_words(FAR, CmWord::Established, 1);
        } else {
            two.fake.delay_words(FAR, CmWord::Established, 500);
        }
        // The first message stands for the word; nobody accepts before it.
        let mut listener = two.rig.listens.listen(&two.rig.at).expect("listens");
        let near = two.rig.dials.dial(&listener.local()).await.expect("up here");
        let mut near = End::new(near);
        near.send(hello());
        until_one(&mut near, |near| near.done == 1).await;
        let far = std::future::poll_fn(|cx| listener.poll_accept(cx)).await.expect("accepted");
        let mut far = End::new(far);
        until_one(&mut far, |far| far.frames.len() == 1).await;
        far.send(support::answer());
        until_one(&mut far, |far| far.done == far.submitted && far.submitted > 0).await;
        two.fake.lose_words(NEAR, CmWord::Disconnected, 1);
        drop(far);
        // Nobody tells it: it finds out when it speaks.
        near.send(message(1, b"anybody?"));
        until_one(&mut near, |near| near.closed.is_some()).await;
        assert_eq!(near.closed, Some(LinkFault::Work(WorkFault::RetryExceeded)));
        drop((near, listener));
        two.nothing_left(0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_accepted_link_that_never_comes_up_is_buried() {
    let options = RdmaOptions { backlog: 1, ..RdmaOptions::default() };
    let two = Two::new(7, Personality::ROCE, options);
    two.fake.lose_words(FAR, CmWord::Established, 1);
    let mut listener = two.rig.listens.listen(&two.rig.at).expect("listens");
    let near = two.rig.dials.dial(&listener.local()).await.expect("up here");
    tokio::time::sleep(std::time::Duration::from_secs(30)).await;
    assert_eq!(two.far.in_use().queue_pairs, 0, "its time is over");
    drop(near);
    two.nothing_left(1).await;
    // And its place is free: a peer that never comes up must not use up the listener.
    let near = two.rig.dials.dial(&listener.local()).await.expect("taken");
    let far = std::future::poll_fn(|cx| listener.poll_accept(cx)).await.expect("accepted");
    drop((near, far, listener));
}

#[tokio::test(start_paused = true)]
async fn a_removed_device_ends_its_links_and_nothing_else() {
    let two = two();
    let mut pair = two.pair().await;
    let data = bytes::Bytes::from(pattern(200_000));
    let held = pull_through(&mut pair, &data, 1).await;
    two.fake.remove_device(FAR);
    until_one(&mut pair.far, |far| far.closed.is_some()).await;
    assert_eq!(pair.far.closed, Some(LinkFault::DeviceGone));
    assert_eq!(held, data, "what a user holds is memory like any other");
    let at = pair.listener.local();
    drop((pair, held));
    let listens = two.rig.listens.listen(&at).expect_err("no device");
    assert!(listens.to_string().contains("rdma link"), "{listens}");
    two.fake.restore_device(FAR);
    let mut again = two.pair().await;
    again.near.send(message(1, b"on another"));
    again.until(|pair| pair.far.frames.len() == 1).await;
    drop(again);
    two.nothing_left(0).await;
}

/// One daemon has several messengers on its device. What that tells by itself is for who it is about,
/// whoever reads it.
#[tokio::test(start_paused = true)]
async fn what_a_device_tells_comes_to_all_who_have_it_open() {
    // Each link has two queues, the public one's first.
    for (queue, broken) in [(0, 0), (1, 0), (2, 1), (3, 1)] {
        let public = two();
        let near = Rdma::on(public.fake.host(NEAR, Personality::ROCE));
        let rig = Rig { dials: Arc::new(near.clone()), ..public.rig.clone() };
        let mut pairs = [public.pair().await, Pair::up(&rig).await];
        public.fake.break_queue(NEAR, queue);
        let [one, other] = &mut pairs;
        let (lost, well) = if broken == 0 { (one, other) } else { (other, one) };
        in_time(lost.until(|pair| pair.near.closed.is_some())).await;
        assert_eq!(lost.near.closed, Some(LinkFault::DeviceGone), "{queue}");
        well.near.send(message(1, b"well"));
        in_time(well.until(|pair| pair.far.frames.len() == 1)).await;
        assert_eq!(well.near.closed, None, "{queue}: a queue of somebody else broke");
        // That a queue pair is broken is told to both.
        let mut again = [public.pair().await, Pair::up(&rig).await];
        public.fake.break_pairs(NEAR);
        for pair in &mut again {
            in_time(pair.until_closed()).await;
            let cause = LinkFault::Work(WorkFault::LocalProtection);
            assert_eq!(pair.near.closed, Some(cause), "{queue}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_that_only_a_listener_is_on_is_let_go_of_when_it_is_removed() {
    for personality in [Personality::ROCE, Personality::IWARP] {
        let two = Two::new(7, personality, RdmaOptions::default());
        let listener = two.rig.listens.listen(&two.rig.at).expect("listens");
        assert_eq!(two.far.in_use().pools.len(), 1, "it was asked whether it funds a link");
        two.fake.remove_device(FAR);
        two.nothing_left(0).await;
        assert_eq!(two.far.in_use().pools.len(), 0, "on {}", personality.fabric);
        drop(listener);
    }
}

#[tokio::test(start_paused = true)]
async fn what_messages_may_hold_funds_no_link() {
    let pool =
        PoolOptions { slots_max: 2 << 20, held_max: Some(1 << 20), ..PoolOptions::default() };
    let options = RdmaOptions { pool, ..RdmaOptions::default() };
    let needed = options.bytes_per_link();
    let two = Two::new(7, Personality::ROCE, options);
    let listener = two.rig.listens.listen(&two.rig.at).expect("listens");
    let elsewhere = Rdma::on(two.fake.host([10, 0, 0, 3].into(), Personality::ROCE));
    let _link = elsewhere.dial(&listener.local()).await.expect("room for one");
    let refused = elsewhere.dial(&listener.local()).await.err();
    let available = (1 << 20) - needed;
    assert_eq!(refused, Some(DialError::Unfunded { needed, available, here: false }));
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_cannot_fund_a_link_refuses_it_with_the_number() {
    let pool = PoolOptions { slots_max: 2 << 20, held_max: Some(0), ..PoolOptions::default() };
    let options = RdmaOptions { pool, ..RdmaOptions::default() };
    let needed = options.bytes_per_link();
    let two = Two::new(7, Personality::ROCE, options);
    let mut listener = two.rig.listens.listen(&two.rig.at).expect("listens");
    let at = listener.local();
    let elsewhere = Rdma::on(two.fake.host([10, 0, 0, 3].into(), Personality::ROCE));
    let mut links = Vec::new();
    let refused = loop {
        match elsewhere.dial(&at).await {
            Ok(link) => links.push(link),
            Err(error) => break error,
        }
    };
    let want = DialError::Unfunded {
        needed,
        available: (2 << 20) - needed * links.len() as u64,
        here: false,
    };
    assert_eq!((refused.clone(), links.len()), (want, 2));
    assert!(refused.to_string().contains(&needed.to_string()), "{refused}");
    assert!(refused.is_retryable());
    // With one link less there is room again.
    links.pop();
    let _ =
        listener.poll_accept(&mut std::task::Context::from_waker(futures::task::noop_waker_ref()));
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    elsewhere.dial(&at).await.expect("funded");
}

#[tokio::test(start_paused = true)]
async fn what_the_machine_lacks_is_said_with_the_remedy() {
    let two = two();
    let listener = two.rig.listens.listen(&two.rig.at).expect("listens");
    let at = listener.local();
    let failure = |error: DialError| match error {
        DialError::Verbs(error) => (error.kind, error.to_string()),
        other => panic!("not of verbs: {other:?}"),
    };
    two.fake.limit_memory(NEAR, 64 * 1024);
    let (kind, text) = failure(two.near.dial(&at).await.expect_err("no memory"));
    assert_eq!(kind, VerbsErrorKind::LockedMemory);
    assert!(text.contains("ulimit -l"), "{text}");
    // A little, but not for a ring: the number, at this side.
    two.fake.limit_memory(NEAR, 5 << 20);
    let unfunded = two.near.dial(&at).await.expect_err("no ring");
    assert!(matches!(unfunded, DialError::Unfunded { here: true, .. }), "{unfunded:?}");
    // So little is said by who would listen, too, before anybody dials.
    for (bytes, call) in [(64 * 1024, "alone"), (5 << 20, "for a ring")] {
        let host = [10, 0, 0, 8].into();
        let small = Rdma::on(two.fake.host(host, Personality::ROCE));
        two.fake.limit_memory(host, bytes);
        let at = "rdma://10.0.0.8:0".parse().expect("an address");
        let error = small.listen(&at).expect_err(call).to_string();
        assert!(error.contains("ulimit -l"), "{error}");
        assert_eq!(two.fake.counts(host).identifiers, 0);
    }
    two.fake.limit_memory(NEAR, 1 << 30);
    two.fake.limit_pairs(FAR, 0);
    assert_eq!(two.near.dial(&at).await.expect_err("no pairs there"), DialError::Busy);
    two.fake.limit_pairs(NEAR, 0);
    let (kind, _) = failure(two.near.dial(&at).await.expect_err("no pairs here"));
    assert_eq!(kind, VerbsErrorKind::Exhausted);
    let closed = two.fake.host([10, 0, 0, 9].into(), Personality::ROCE);
    two.fake.forbid([10, 0, 0, 9].into(), true);
    let (kind, text) = failure(Rdma::on(closed).dial(&at).await.expect_err("forbidden"));
    assert_eq!(kind, VerbsErrorKind::Permission);
    assert!(text.contains("/dev/infiniband"), "{text}");
    drop(listener);
    two.nothing_left(0).await;
}

#[tokio::test(start_paused = true)]
async fn completion_queues_are_never_overrun_however_many_links_there_are() {
    // Queues for one link and a half: each link gets two of its own.
    let options = RdmaOptions { cq_depth: 100, ..RdmaOptions::default() };
    let two = Two::new(7, Personality::ROCE, options);
    let mut pairs = Vec::new();
    for _ in 0..6 {
        pairs.push(two.pair().await);
    }
    assert_eq!(two.fake.counts(NEAR).completion_queues, 12);
    for pair in &mut pairs {
        for seq in 1..=300 {
            pair.near.send(message(seq, &pattern(100)));
            pair.far.send(message(seq, &pattern(100)));
        }
    }
    for pair in &mut pairs {
        pair.until(|pair| pair.far.frames.len() == 300 && pair.near.frames.len() == 300).await;
    }
    two.fake.break_pairs(NEAR);
    two.fake.break_pairs(FAR);
    drop(pairs);
    two.nothing_left(0).await;
    // And queues are used again.
    let pair = two.pair().await;
    assert_eq!(two.fake.counts(NEAR).completion_queues, 12);
    drop(pair);
}

#[tokio::test(start_paused = true)]
async fn f8_what_completed_without_a_word_comes_home_by_the_marker_of_the_teardown() {
    let two = two();
    let mut pair = two.pair().await;
    // Three slots of frames: the first two are not signalled, and the third is refused.
    two.fake.break_at_post(NEAR, 3);
    for seq in 1..=3 {
        pair.near.send(message(seq, &pattern(7000)));
    }
    let begin = tokio::time::Instant::now();
    until_one(&mut pair.near, |near| near.closed.is_some()).await;
    let (took, patience) = (begin.elapsed(), RdmaOptions::default().teardown);
    assert!(took < patience / 4, "{took:?}: all is home, and no deadline was needed");
    drop(pair);
    two.nothing_left(0).await;
}

/// The end of a link waits for what is posted, and for no deadline.
#[tokio::test(start_paused = true)]
async fn f8_a_link_that_is_closed_is_home_at_once_on_every_fabric() {
    for personality in [Personality::ROCE, Personality::IWARP] {
        let two = Two::new(7, personality, RdmaOptions::default());
        let mut pair = two.pair().await;
        pair.near.send(message(1, b"there"));
        pair.far.send(message(1, b"and back"));
        pair.until(|pair| pair.near.frames.len() == 1 && pair.far.frames.len() == 1).await;
        pair.near.link().close(CloseHow::Abort);
        let begin = tokio::time::Instant::now();
        pair.until_closed().await;
        let (took, patience) = (begin.elapsed(), RdmaOptions::default().teardown);
        assert!(took < patience / 4, "{took:?} on {}", personality.fabric);
        drop(pair);
        two.nothing_left(0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_a_wake_up_is_asked_for_is_found_by_the_second_look() {
    let two = two();
    let mut pair = two.pair().await;
    for seq in 1..=5 {
        two.fake.receive_at_arm(FAR);
        pair.near.send(message(seq, b"late"));
        let came = pair.until(|pair| pair.far.frames.len() as u64 == seq);
        let patience = std::time::Duration::from_secs(1);
        tokio::time::timeout(patience, came).await.expect("nothing else wakes for it");
    }
    drop(pair);
    two.nothing_left(0).await;
}

/// Nobody waits for what was sent, so it is looked at after a while; after a longer one, and longer,
/// while nothing comes back from a dead peer. That is not for what is sent to others.
#[tokio::test(start_paused = true)]
async fn f1_what_is_sent_beside_a_dead_peer_is_told_as_soon_as_ever() {
    let two = two();
    let third = Rdma::on(two.fake.host(IpAddr::from([10, 0, 0, 3]), Personality::ROCE));
    let at = "rdma://10.0.0.3:0".parse().expect("an address");
    let rig = Rig { listens: Arc::new(third), at, ..two.rig.clone() };
    let (mut dead, mut well) = (two.pair().await, Pair::up(&rig).await);
    two.fake.partition(NEAR, FAR, true);
    dead.near.send(message(1, b"lost"));
    until_one(&mut dead.near, |near| near.waiting.is_empty()).await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let begin = tokio::time::Instant::now();
    well.near.send(message(1, b"well"));
    in_time(until_one(&mut well.near, |near| near.done == near.submitted)).await;
    assert!(begin.elapsed() < std::time::Duration::from_millis(20), "{:?}", begin.elapsed());
    assert_eq!(dead.near.closed, None, "it was not given up meanwhile");
}

#[tokio::test(start_paused = true)]
async fn a_slow_receiver_stalls_only_its_own_link() {
    let two = two();
    let (mut slow, mut quick) = (two.pair().await, two.pair().await);
    // Nobody drives the far end of the slow link.
    for seq in 1..=400 {
        slow.near.send(message(seq, &pattern(8000)));
    }
    let stalled = |near: &End| !near.waiting.is_empty() && near.done < 400;
    until_one(&mut slow.near, stalled).await;
    for seq in 1..=2000 {
        quick.near.send(message(seq, &pattern(3000)));
    }
    quick.until(|pair| pair.far.frames.len() == 2000).await;
    assert!(slow.near.done < 200, "it has spent its credit and no more");
    assert_eq!(slow.near.closed, None, "and lives");
    slow.until(|pair| pair.far.frames.len() == 400).await;
    assert_eq!(seqs(&slow.far.frames), (1..=400).collect::<Vec<_>>());
    drop((slow, quick));
    two.nothing_left(0).await;
}

#[tokio::test(start_paused = true)]
async fn pulled_data_lies_in_the_pool_and_goes_on_from_there_without_a_copy() {
    let two = two();
    let mut pair = two.pair().await;
    let data = bytes::Bytes::from(pattern(1_000_000));
    let there = pull_through(&mut pair, &data, 1).await;
    assert_eq!(there, data);
    let kept = || two.far.in_use().pools["fake0"].kept;
    assert_eq!(kept(), 1 << 20, "the user holds pool memory");
    // Back again: it is offered where it lies.
    std::mem::swap(&mut pair.near, &mut pair.far);
    let mut passing = 0;
    pair.near.send(announce(2, there.len() as u32));
    pair.until(|pair| pair.far.frames.len() == 1).await;
    pair.far.frames.clear();
    pair.far.link().expect(lane(), Seq(2), there.len() as u32);
    for frame in chunks_of(2, &there, 128 * 1024) {
        pair.near.send(frame);
    }
    pair.until(|pair| {
        passing = passing.max(two.far.in_use().pools["fake0"].passing);
        pair.far.frames.len() == 8
    })
    .await;
    assert_eq!(passing, 0, "nothing was copied to be offered");
    drop(there);
    pair.until(|pair| pair.near.done == pair.near.submitted).await;
    assert_eq!(kept(), 0, "it came home with the last handle");
    drop(pair);
    two.nothing_left(0).await;
}

#[tokio::test(start_paused = true)]
async fn reads_are_bounded_by_both_sides() {
    let few = RdmaOptions { reads: 1, ..RdmaOptions::default() };
    let many = RdmaOptions::default();
    // The one that reads is the second; either may be the one that allows fewer.
    for options in [[few.clone(), many.clone()], [many, few]] {
        let two = Two::apart(7, Personality::ROCE, options);
        let mut pair = two.pair().await;
        let data = bytes::Bytes::from(pattern(2_000_000));
        assert_eq!(pull_through(&mut pair, &data, 1).await, data);
        drop(pair);
        two.nothing_left(0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn data_that_the_pool_has_no_place_for_comes_by_way_of_a_copy() {
    let pool = PoolOptions { kept_max: 0, passing_max: 0, ..PoolOptions::default() };
    let two = Two::new(7, Personality::IWARP, RdmaOptions { pool, ..RdmaOptions::default() });
    let mut pair = two.pair().await;
    let data = bytes::Bytes::from(pattern(3_000_000));
    assert_eq!(pull_through(&mut pair, &data, 1).await, data);
    drop(pair);
    two.nothing_left(0).await;
}

#[tokio::test(start_paused = true)]
async fn eager_data_that_users_keep_is_counted_and_beyond_the_limit_copied() {
    let pool = PoolOptions { held_max: Some(16 * 8192), ..PoolOptions::default() };
    let two = Two::new(7, Personality::ROCE, RdmaOptions { pool, ..RdmaOptions::default() });
    let mut pair = two.pair().await;
    for seq in 1..=500 {
        pair.near.send(message(seq, &pattern(7000)));
    }
    pair.until(|pair| pair.far.frames.len() == 500).await;
    assert_eq!(two.far.in_use().pools["fake0"].held, 16 * 8192, "S7");
    for frame in &pair.far.frames {
        let Frame::Message(message) = frame else { panic!("only messages") };
        assert_eq!(message.payload.data(), pattern(7000));
    }
    drop(pair);
    two.nothing_left(0).await;
}

#[tokio::test(start_paused = true)]
async fn d1_the_same_seed_gives_the_same_trace() {
    let mut hashes = Vec::new();
    for seed in [1, 1, 2] {
        let two = Two::new(seed, Personality::ROCE, RdmaOptions::default());
        let (mut one, mut other) = (two.pair().await, two.pair().await);
        for seq in 1..=200 {
            one.near.send(message(seq, &pattern(500)));
            other.near.send(message(seq, &pattern(900)));
        }
        futures::join!(
            one.until(|pair| pair.far.frames.len() == 200),
            other.until(|pair| pair.far.frames.len() == 200)
        );
        hashes.push(two.fake.trace_hash());
    }
    assert_eq!(hashes[0], hashes[1]);
    assert_ne!(hashes[0], hashes[2]);
}
