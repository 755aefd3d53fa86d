//! RDMA links whose pool has little left: what one waits for never waits for another that waits.

mod support;

use bytes::Bytes;
use stellate_protocol::frame::Heartbeat;
use stellate_protocol::{Frame, FrameKind};
use stellate_transport::faults::Faults;
use stellate_transport::rdma::fake::Personality;
use stellate_transport::rdma::{PoolOptions, RdmaOptions};
use support::two::{FAR, NEAR, Two, ask, chunks_of, in_time, is_whole, until_one, whole};
use support::{End, Pair, kinds, pattern};

/// The least that is ever kept for what passes, and nothing for what stays.
fn least() -> RdmaOptions {
    let pool = PoolOptions { kept_max: 0, passing_max: 0, ..PoolOptions::default() };
    RdmaOptions { pool, ..RdmaOptions::default() }
}

/// Both ends of each link have so much that the other wants.
async fn ask_both_ways(pairs: &mut [Pair], data: &Bytes) {
    for pair in &mut *pairs {
        for _ in 0..2 {
            ask(pair, data, 1).await;
            std::mem::swap(&mut pair.near, &mut pair.far);
        }
    }
    for pair in pairs {
        for frame in chunks_of(1, data, 128 * 1024) {
            pair.near.send(frame.clone());
            pair.far.send(frame);
        }
    }
}

/// All of it comes, on all links.
async fn all_comes(pairs: &mut [Pair], data: &Bytes) {
    let all = pairs.iter_mut().map(|pair| {
        pair.until(|pair| {
            let came = is_whole(&pair.near) && is_whole(&pair.far);
            came && [&pair.near, &pair.far].iter().all(|end| end.done == end.submitted)
        })
    });
    in_time(futures::future::join_all(all)).await;
    for end in pairs.iter_mut().flat_map(|pair| [&mut pair.near, &mut pair.far]) {
        assert_eq!(&whole(end), data);
    }
}

#[tokio::test(start_paused = true)]
async fn s8_a_link_that_is_loaded_both_ways_needs_no_more_than_the_least_memory() {
    for personality in [Personality::ROCE, Personality::IWARP] {
        let two = Two::new(7, personality, least());
        let mut pairs = [two.pair().await];
        let data = Bytes::from(pattern(1_000_000));
        ask_both_ways(&mut pairs, &data).await;
        all_comes(&mut pairs, &data).await;
        drop(pairs);
        two.nothing_left(0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn s8_links_share_what_was_registered_before_no_more_could_be() {
    let two = Two::new(8, Personality::ROCE, RdmaOptions::default());
    let mut pairs = Vec::new();
    for _ in 0..6 {
        pairs.push(two.pair().await);
    }
    for host in [NEAR, FAR] {
        two.fake.limit_memory(host, two.fake.counts(host).registered);
    }
    let data = Bytes::from(pattern(5_000_000));
    ask_both_ways(&mut pairs, &data).await;
    all_comes(&mut pairs, &data).await;
    drop(pairs);
    two.nothing_left(0).await;
}

/// Small pieces lie everywhere; a large one that waits is sent in pieces that there is room for.
#[tokio::test(start_paused = true)]
async fn s8_a_large_chunk_is_cut_to_the_memory_that_is_left() {
    let two = Two::new(9, Personality::ROCE, least());
    let (mut small, mut large) = (two.pair().await, two.pair().await);
    // 8 KiB each, and nobody drives the far end: all but one block are taken.
    let data = Bytes::from(pattern(31 * 8192));
    ask(&mut small, &data, 1).await;
    for frame in chunks_of(1, &data, 8192) {
        small.near.send(frame);
    }
    let passing = || two.near.in_use().pools["fake0"].passing;
    in_time(until_one(&mut small.near, |_| passing() == 31 * 8192)).await;
    let data = Bytes::from(pattern(300_000));
    ask(&mut large, &data, 1).await;
    for frame in chunks_of(1, &data, 128 * 1024) {
        large.near.send(frame);
    }
    in_time(large.until(|pair| is_whole(&pair.far))).await;
    assert_eq!(whole(&mut large.far), data);
    drop((small, large));
    two.nothing_left(0).await;
}

fn heartbeat() -> Frame<stellate_protocol::Parcel> {
    Frame::Heartbeat(Heartbeat { ask: 1, answer: 0 })
}

/// Sends as a session: chunks only while they are taken.
fn send_within_room(end: &mut End, frames: &mut Vec<Frame<stellate_protocol::Parcel>>) {
    while end.link().room() > 0
        && end.link().takes_chunks()
        && let Some(frame) = frames.pop()
    {
        end.submit(frame).expect("there is room");
    }
}

#[tokio::test(start_paused = true)]
async fn s9_signs_of_life_pass_a_chunk_that_cannot_be_offered() {
    signs_of_life_pass(Two::new(10, Personality::ROCE, least())).await;
}

/// What wraps a link tells all that it tells.
#[tokio::test(start_paused = true)]
async fn s9_signs_of_life_pass_a_chunk_below_a_plan_of_faults() {
    let mut two = Two::new(10, Personality::ROCE, least());
    two.rig.dials = Faults::new().wrap(two.rig.dials.clone());
    signs_of_life_pass(two).await;
}

/// One peer reads nothing of what it is offered, and has all the memory. The others are alive.
async fn signs_of_life_pass(two: Two) {
    let (mut slow, mut quick) = (two.pair().await, two.pair().await);
    let data = Bytes::from(pattern(3_000_000));
    for pair in [&mut slow, &mut quick] {
        ask(pair, &data, 1).await;
    }
    let mut chunks: Vec<_> = chunks_of(1, &data, 128 * 1024);
    chunks.reverse();
    let mut again = chunks.clone();
    let passing = || two.near.in_use().pools["fake0"].passing;
    send_within_room(&mut slow.near, &mut chunks);
    in_time(until_one(&mut slow.near, |_| passing() == 256 * 1024)).await;
    // As many as it takes. None of them can go.
    send_within_room(&mut quick.near, &mut again);
    assert!(!again.is_empty() && quick.near.link().room() > 0, "S7, S9");
    let before = quick.near.done;
    let chunks_there = quick.near.submitted - before;
    for beat in 1..=100 {
        quick.near.submit(heartbeat()).expect("there is room");
        in_time(quick.until(|pair| pair.far.frames.len() == beat)).await;
    }
    assert!(kinds(&quick.far.frames).iter().all(|kind| *kind == FrameKind::Heartbeat));
    assert_eq!(quick.near.done, before, "F1, F2: told in order, and no chunk was read");
    quick.far.frames.clear();
    // The slow one reads: both come to their end.
    let mut rooms = 0;
    let all = async {
        let slow = slow.until(|pair| {
            send_within_room(&mut pair.near, &mut chunks);
            is_whole(&pair.far)
        });
        let quick = quick.until(|pair| {
            send_within_room(&mut pair.near, &mut again);
            rooms = pair.near.rooms;
            is_whole(&pair.far) && pair.near.done == pair.near.submitted
        });
        futures::join!(slow, quick)
    };
    in_time(all).await;
    assert!(chunks_there > 0 && rooms > 0, "it was told that chunks are taken again");
    assert_eq!((whole(&mut slow.far), whole(&mut quick.far)), (data.clone(), data));
    drop((slow, quick));
    two.nothing_left(0).await;
}
