//! The simulated network: determinism, every fault, and what sets each profile apart.

mod support;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use stellate_protocol::Frame;
use stellate_protocol::frame::Grant;
use stellate_transport::limits::Boundary;
use stellate_transport::sim::{CutAfter, Origin, Profile, Quality, SimNet};
use stellate_transport::{DialError, LinkFault, Transport};
use support::{End, Pair, Rig, answer, hello, message, pattern, seqs};
use tokio::time::{Duration, Instant, sleep, timeout};

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime")
        .block_on(async { timeout(Duration::from_secs(3600), test).await.expect("ends") })
}

fn rig(net: &SimNet) -> Rig {
    Rig {
        dials: Arc::new(net.transport("a")),
        listens: Arc::new(net.transport("b")),
        at: "sim://b".parse().expect("an address"),
        net: Some(net.clone()),
        fake: None,
    }
}

/// Drives one end alone.
async fn until_one(end: &mut End, mut done: impl FnMut(&End) -> bool) {
    poll_fn(|cx| {
        end.drive(cx);
        if done(end) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Drives both ends for that long.
async fn for_ticks(pair: &mut Pair, ticks: u64) {
    let span = Duration::from_millis(ticks);
    assert!(timeout(span, pair.until(|_| false)).await.is_err());
}

fn traffic(seed: u64, profile: Profile) -> (u64, u64) {
    run(async move {
        let net = SimNet::with_profile(seed, profile);
        net.set_quality(Quality { latency: 2, jitter: 5, bandwidth: Some(4000), cut_chance: 0 });
        let mut pair = Pair::up(&rig(&net)).await;
        for seq in 1..=200 {
            pair.near.send(message(seq, &pattern(seq as usize * 13)));
            pair.far.send(message(seq, b"back"));
        }
        pair.until(|pair| pair.far.frames.len() == 200 && pair.near.frames.len() == 200).await;
        assert_eq!(net.violations(), []);
        assert!(net.trace_events() > 400);
        (net.trace_hash(), net.tick())
    })
}

#[test]
fn d1_the_same_seed_gives_the_same_trace_and_another_seed_another() {
    for profile in Profile::ALL {
        let first = traffic(1, profile);
        assert_eq!(first, traffic(1, profile), "{}", profile.name);
        assert_ne!(first.0, traffic(2, profile).0, "{}", profile.name);
    }
}

/// Bytes of a simulation are in memory once, however many nodes have them. In a stream a frame may
/// be cut, and what is cut is put together in a buffer, as over TCP.
#[test]
fn long_data_arrives_by_handle() {
    for profile in Profile::ALL {
        run(async move {
            let net = SimNet::with_profile(9, profile);
            let mut pair = Pair::up(&rig(&net)).await;
            let mut sent = Vec::new();
            for seq in 1..=20 {
                let data = pattern(2000 + seq as usize);
                let frame = message(seq, &data);
                if let Frame::Message(message) = &frame {
                    sent.push(message.payload.data().as_ptr());
                }
                pair.near.send(frame);
            }
            pair.until(|pair| pair.far.frames.len() == 20).await;
            let same = pair.far.frames.iter().zip(&sent).filter(|(frame, sent)| match frame {
                Frame::Message(message) => {
                    let data = message.payload.data();
                    assert_eq!(data, &pattern(data.len())[..]);
                    data.as_ptr() == **sent
                }
                _ => false,
            });
            let (same, stream) = (same.count(), profile.limits.boundary == Boundary::Stream);
            assert!(if stream { (5..20).contains(&same) } else { same == 20 }, "{same} by handle");
        });
    }
}

#[test]
fn latency_and_bandwidth_take_their_time() {
    run(async {
        let net = SimNet::new(3);
        net.set_quality(Quality { latency: 10, jitter: 0, bandwidth: Some(1000), cut_chance: 0 });
        let mut pair = Pair::up(&rig(&net)).await;
        sleep(Duration::from_secs(1)).await;
        let start = Instant::now();
        for seq in 1..=10 {
            pair.near.send(message(seq, &pattern(4947)));
        }
        pair.until(|pair| pair.far.frames.len() == 10).await;
        // 10 frames of 5,000 bytes at 1,000 a tick, then 10 ticks on the way.
        let took = start.elapsed().as_millis();
        assert!((50..=65).contains(&took), "{took} ticks");
    });
}

#[test]
fn a_partition_holds_everything_and_healing_delivers_it() {
    run(async {
        let net = SimNet::new(4);
        let mut pair = Pair::up(&rig(&net)).await;
        net.partition_one_way("a", "b");
        pair.near.send(message(1, b"held"));
        pair.far.send(message(1, b"passes"));
        for_ticks(&mut pair, 60_000).await;
        assert_eq!(seqs(&pair.far.frames), [0; 0]);
        assert_eq!(seqs(&pair.near.frames), [1]);
        net.heal("a", "b");
        pair.until(|pair| pair.far.frames.len() == 1).await;
    });
}

#[test]
fn a_partition_longer_than_its_patience_ends_a_queue_pair_at_the_sender_only() {
    run(async {
        let net = SimNet::with_profile(4, Profile::VERBS);
        let mut pair = Pair::up(&rig(&net)).await;
        net.partition("a", "b");
        pair.near.send(message(1, b"held"));
        for_ticks(&mut pair, 60_000).await;
        assert_eq!(pair.near.closed, Some(LinkFault::TimedOut));
        assert_eq!(pair.far.closed, None, "nobody tells the idle end");
    });
}

#[test]
fn dials_are_refused_swallowed_or_time_out() {
    run(async {
        let net = SimNet::new(5);
        let rig = rig(&net);
        let listener = rig.listens.listen(&rig.at).expect("listens");
        let at = listener.local();
        net.refuse_dials("b", true);
        let refused = rig.dials.dial(&at).await.expect_err("refused");
        assert_eq!(refused, DialError::Refused);
        net.refuse_dials("b", false);
        net.black_hole_dials("b", true);
        let dial = timeout(Duration::from_secs(60), rig.dials.dial(&at));
        assert!(dial.await.is_err(), "no answer");
        let start = Instant::now();
        let late = rig.dials.dial(&at).await.expect_err("in the end");
        assert_eq!(late, DialError::TimedOut);
        assert!(start.elapsed() > Duration::from_secs(100));
        let dial = rig.dials.dial(&at);
        net.black_hole_dials("b", false);
        assert!(dial.await.is_ok(), "it is tried again");
    });
}

#[test]
fn a_dial_given_up_leaves_the_acceptor_with_a_link_that_ends() {
    run(async {
        let net = SimNet::new(5);
        let rig = rig(&net);
        let mut listener = rig.listens.listen(&rig.at).expect("listens");
        let mut dial = rig.dials.dial(&listener.local());
        let accept = poll_fn(|cx| {
            let _ = dial.as_mut().poll(cx);
            listener.poll_accept(cx)
        });
        let mut far = End::new(accept.await.expect("accepts"));
        drop(dial);
        until_one(&mut far, |far| far.closed.is_some()).await;
        drop(far);
        assert_eq!(net.links(), []);
    });
}

#[test]
fn a_cut_stream_tells_both_ends_and_loses_what_was_on_its_way() {
    run(async {
        let net = SimNet::new(6);
        let mut pair = Pair::up(&rig(&net)).await;
        let link = net.links()[0].id;
        net.cut_after(link, Origin::Dialler, CutAfter::Frames(3));
        for seq in 1..=9 {
            pair.near.send(message(seq, b"x"));
        }
        pair.until_closed().await;
        assert_eq!(seqs(&pair.far.frames), [1, 2, 3], "cut at the frame edge");
        assert_eq!(pair.near.closed, Some(LinkFault::Reset));
        assert_eq!(pair.far.closed, Some(LinkFault::Reset));
    });
}

#[test]
fn a_cut_within_a_frame_delivers_no_part_of_it() {
    run(async {
        let net = SimNet::new(6);
        let mut pair = Pair::up(&rig(&net)).await;
        let link = net.links()[0].id;
        net.cut_after(link, Origin::Dialler, CutAfter::Bytes(1500));
        for seq in 1..=9 {
            pair.near.send(message(seq, &pattern(1000)));
        }
        pair.until_closed().await;
        assert_eq!(seqs(&pair.far.frames), [1]);
    });
}

#[test]
fn without_close_notice_nobody_learns_of_a_cut() {
    run(async {
        for profile in [Profile::PSM, Profile::UGNI, Profile::PORTALS4] {
            let net = SimNet::with_profile(6, profile);
            let mut pair = Pair::up(&rig(&net)).await;
            assert_eq!(net.cut_between("b", "a"), 1);
            pair.near.send(message(1, b"into the void"));
            for_ticks(&mut pair, 60_000).await;
            assert_eq!((pair.near.closed, pair.far.closed), (None, None));
            assert_eq!(pair.near.done, pair.near.submitted, "F1 holds all the same");
        }
    });
}

/// Spends more slots than were granted, as no session should.
async fn overspend(profile: Profile, frames: u32) -> (SimNet, Pair) {
    let net = SimNet::with_profile(8, profile);
    let mut pair = Pair::up(&rig(&net)).await;
    for seq in 1..=frames {
        pair.near.credit = Some(100);
        pair.near.submit(message(seq.into(), b"x")).expect("room");
    }
    let ring = profile.limits.recv_slots.expect("counted");
    // The far end takes frames but grants nothing.
    pair.far.grants = false;
    for_ticks(&mut pair, 100).await;
    assert!(frames > ring);
    (net, pair)
}

#[test]
fn f6_underflow_does_what_the_profile_says() {
    run(async {
        let (net, pair) = overspend(Profile::IWARP, 65).await;
        assert_eq!(pair.far.frames.len(), 64);
        assert_eq!(pair.near.closed, Some(LinkFault::Underflow), "fatal at once");
        assert_eq!(net.violations()[0].fault, LinkFault::Underflow);

        let (net, pair) = overspend(Profile::VERBS, 65).await;
        assert_eq!(pair.near.closed, Some(LinkFault::Underflow), "after its retries");
        assert_eq!(net.violations().len(), 1);

        let (_, mut pair) = overspend(Profile::UGNI, 20).await;
        assert_eq!((pair.far.frames.len(), pair.near.closed.clone()), (16, None), "blocks");
        pair.far.grants = true;
        pair.until(|pair| pair.far.frames.len() == 20).await;

        let (_, pair) = overspend(Profile::PORTALS4, 80).await;
        assert_eq!((pair.far.frames.len(), pair.near.closed), (80, None), "overflow list");
        let (net, pair) = overspend(Profile::PORTALS4, 81).await;
        assert_eq!(pair.near.closed, Some(LinkFault::Underflow), "disables itself");
        assert_eq!(net.violations().len(), 1);
    });
}

#[test]
fn f6_a_receive_that_comes_back_in_time_saves_a_retrying_link() {
    run(async {
        let net = SimNet::with_profile(8, Profile::VERBS);
        let mut pair = Pair::up(&rig(&net)).await;
        pair.far.grants = false;
        for seq in 1..=65 {
            pair.near.credit = Some(100);
            pair.near.submit(message(seq, b"x")).expect("room");
        }
        pair.until(|pair| pair.far.frames.len() == 64).await;
        pair.far.grants = true;
        pair.until(|pair| pair.far.frames.len() == 65).await;
        assert_eq!(pair.near.closed, None);
    });
}

#[test]
fn f6_posting_beyond_the_ring_ends_the_link() {
    run(async {
        let net = SimNet::with_profile(8, Profile::IWARP);
        let mut pair = Pair::up(&rig(&net)).await;
        pair.near.send(Frame::Grant(Grant { slots: 1 }));
        pair.until_closed().await;
        assert_eq!(pair.near.closed, Some(LinkFault::Overposted));
        assert_eq!(net.violations()[0].node, "a");
    });
}

#[test]
fn on_iwarp_the_dialler_speaks_first() {
    run(async {
        let net = SimNet::with_profile(8, Profile::IWARP);
        let mut pair = Pair::connected(&rig(&net)).await;
        pair.far.send(answer());
        pair.until_closed().await;
        assert_eq!(pair.far.closed, Some(LinkFault::SpokeFirst));

        let net = SimNet::with_profile(8, Profile::VERBS);
        let mut pair = Pair::connected(&rig(&net)).await;
        pair.far.send(answer());
        pair.until(|pair| pair.near.frames.len() == 1).await;
        pair.near.send(hello());
        pair.until(|pair| pair.far.frames.len() == 1).await;
    });
}

#[test]
fn a_frame_longer_than_a_slot_is_a_fault_where_slots_are_real() {
    run(async {
        let net = SimNet::with_profile(8, Profile::VERBS);
        let mut pair = Pair::up(&rig(&net)).await;
        pair.near.send(message(1, &pattern(9000)));
        pair.until_closed().await;
        let over = LinkFault::OverSlot { len: 9005, slot: 8192 };
        assert_eq!(pair.near.closed, Some(over));
    });
}

#[test]
fn a_crashed_node_is_gone_and_its_next_life_listens_again() {
    run(async {
        let net = SimNet::new(9);
        let mut old = rig(&net);
        let mut pair = Pair::up(&old).await;
        net.crash("b");
        assert!(old.listens.listen(&old.at).is_err(), "the old life is over");
        let mut far = pair.far;
        until_one(&mut far, |far| far.closed.is_some()).await;
        until_one(&mut pair.near, |near| near.closed.is_some()).await;
        let refused = old.dials.dial(&old.at).await.expect_err("nobody there");
        assert_eq!(refused, DialError::Refused);
        old.listens = Arc::new(net.transport("b"));
        let _next_life = Pair::up(&old).await;
        drop(pair.listener);
        assert_eq!(net.links().len(), 1);
    });
}

#[test]
fn a_slow_reader_holds_its_sender_back_and_memory_stays_bounded() {
    run(async {
        let net = SimNet::new(10);
        let mut pair = Pair::up(&rig(&net)).await;
        net.slow_reader("b", Some(1000));
        for seq in 1..=400 {
            pair.near.send(message(seq, &pattern(8000)));
        }
        for_ticks(&mut pair, 50).await;
        let taken = pair.far.frames.len();
        assert!((1..=60).contains(&taken), "{taken} in 50 ticks");
        assert!(pair.near.waiting.len() > 100, "the rest waits for room");
        net.slow_reader("b", None);
        pair.until(|pair| pair.far.frames.len() == 400).await;
    });
}

#[test]
fn a_stall_ends_by_itself() {
    run(async {
        let net = SimNet::new(11);
        let mut pair = Pair::up(&rig(&net)).await;
        net.stall("a", "b", 500);
        let start = Instant::now();
        pair.near.send(message(1, b"late"));
        pair.until(|pair| pair.far.frames.len() == 1).await;
        assert!(start.elapsed() >= Duration::from_millis(500));
    });
}

#[test]
fn f8_the_driver_ends_with_the_last_handle() {
    run(async {
        let before = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let net = SimNet::new(12);
        let pair = Pair::up(&rig(&net)).await;
        drop((net, pair));
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        let after = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        assert_eq!(before, after);
    });
}

#[test]
fn an_address_of_another_node_cannot_be_listened_at() {
    run(async {
        let net = SimNet::new(13);
        let node = net.transport("a");
        assert!(node.listen(&"sim://b".parse().expect("an address")).is_err());
        let any = node.listen(&"sim://a:0".parse().expect("an address"));
        assert_ne!(any.expect("a port").local().rest(), "a:0");
    });
}

/// Two actors-like tasks on a `LocalSet`, as an actix system runs them.
fn on_a_local_set(seed: u64) -> u64 {
    run(async move {
        let net = SimNet::new(seed);
        let local = tokio::task::LocalSet::new();
        let there = net.clone();
        let (done, wait) = tokio::sync::oneshot::channel();
        local.spawn_local(async move {
            let mut pair = Pair::up(&rig(&there)).await;
            let mut near = pair.near;
            let echo = tokio::task::spawn_local(async move {
                let mut seen = 0;
                poll_fn(|cx| {
                    pair.far.drive(cx);
                    while seen < pair.far.frames.len() {
                        pair.far.send(pair.far.frames[seen].clone());
                        seen += 1;
                        pair.far.drive(cx);
                    }
                    if seen == 50 { Poll::Ready(()) } else { Poll::Pending }
                })
                .await;
                pair.far
            });
            for seq in 1..=50 {
                near.send(message(seq, b"ping"));
            }
            until_one(&mut near, |near| near.frames.len() == 50).await;
            let _far = echo.await.expect("ended well");
            done.send(()).expect("awaited");
        });
        local.run_until(wait).await.expect("sent");
        net.trace_hash()
    })
}

#[test]
fn d1_holds_on_a_local_set_too() {
    assert_eq!(on_a_local_set(1), on_a_local_set(1));
    assert_ne!(on_a_local_set(1), on_a_local_set(2));
}

/// The order in which eight ends are served that all get a frame in the same tick.
fn order_within_a_tick(seed: u64) -> Vec<usize> {
    run(async move {
        let net = SimNet::new(seed);
        net.set_quality(Quality { latency: 3, jitter: 0, bandwidth: None, cut_chance: 0 });
        let served = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
        let local = tokio::task::LocalSet::new();
        let mut tasks = Vec::new();
        let mut nears = Vec::new();
        for index in 0..8 {
            let mut rig = rig(&net);
            rig.at = format!("sim://b:{index}").parse().expect("an address");
            let mut pair = Pair::up(&rig).await;
            nears.push(pair.near);
            let served = served.clone();
            tasks.push(local.spawn_local(async move {
                until_one(&mut pair.far, |far| !far.frames.is_empty()).await;
                served.borrow_mut().push(index);
                pair.far
            }));
        }
        let all = async {
            sleep(Duration::from_millis(100)).await;
            poll_fn(|cx| {
                for near in &mut nears {
                    near.send(message(1, b"at once"));
                    near.drive(cx);
                }
                Poll::Ready(())
            })
            .await;
            futures::future::join_all(tasks).await
        };
        local.run_until(all).await;
        served.take()
    })
}

#[test]
fn d1_what_happens_within_a_tick_is_ordered_by_the_seed() {
    let mut orders: Vec<_> = (0..5).map(order_within_a_tick).collect();
    assert_eq!(orders[0], order_within_a_tick(0));
    orders.sort();
    orders.dedup();
    assert!(orders.len() >= 4, "{orders:?}");
}

#[test]
fn f1_a_void_takes_what_it_is_given_and_memory_stays_bounded() {
    run(async {
        let net = SimNet::with_profile(6, Profile::PSM);
        let mut pair = Pair::up(&rig(&net)).await;
        net.cut_all();
        for seq in 1..=500 {
            pair.near.send(message(seq, &pattern(8000)));
        }
        pair.until(|pair| pair.near.waiting.is_empty() && pair.near.done == pair.near.submitted)
            .await;
    });
}

#[test]
fn frames_to_an_end_that_left_without_a_word_go_nowhere() {
    run(async {
        let net = SimNet::with_profile(6, Profile::UGNI);
        let mut pair = Pair::up(&rig(&net)).await;
        drop(pair.far.link.take());
        let mut near = pair.near;
        for seq in 1..=500 {
            near.credit = Some(100);
            near.send(message(seq, &pattern(8000)));
            until_one(&mut near, |near| near.waiting.is_empty()).await;
        }
        assert_eq!(near.closed, None);
    });
}
