//! When a session dials: at once, then with back-off, and from the start again only after health.

use std::time::Duration;

use stellate_protocol::Class;
use stellate_protocol::policy::Policy;
use stellate_protocol::session::{Phase, Trouble};

use crate::pair::{A, B, Conn, Reach, World};

/// A client that is up, has talked, and is cut: from now on nobody is reached.
fn cut(jitter: u16, reach: Reach) -> (World, Conn) {
    let mut world = World::pair(Policy::lossless_client(), Policy::stateful_server());
    world.jitter = jitter;
    let a = world.connect(A, B);
    world.send(a, Class::Normal, 1);
    world.millis(100);
    assert_eq!(world.phase(a), Phase::Up);
    world.set_reach(A, B, reach);
    world.cut_all();
    (world, a)
}

fn dials(world: &World, conn: Conn) -> u64 {
    world.side(conn).session.counters().dials
}

/// The times of the dials after the `known` first, by milliseconds from now, within `span`.
fn times(world: &mut World, conn: Conn, mut known: u64, span: u64) -> Vec<u64> {
    let (begin, mut times) = (world.now, Vec::new());
    loop {
        let now = world.now.since(begin).as_millis() as u64;
        if now >= span {
            return times;
        }
        if dials(world, conn) > known {
            known = dials(world, conn);
            times.push(now);
        }
        // From timer to timer: nothing happens between.
        world.run();
        let next = world.next_timeout().map_or(Duration::from_secs(1), |at| at.since(world.now));
        world.advance(next.max(Duration::from_millis(1)));
    }
}

scenarios! {
fn s8_the_first_redial_is_at_once_the_next_wait_twice_as_long_each_up_to_the_most() {
    for jitter in [0, 1, 32_768, u16::MAX] {
        let (mut world, a) = cut(jitter, Reach::Refused);
        let times = times(&mut world, a, 1, 120_000);
        assert_eq!(times[0], 0, "at once");
        for (turn, pair) in times.windows(2).enumerate() {
            let base = (50 << turn).min(15_000);
            // Jitter adds at most half; a millisecond is what the clock here can tell.
            let most = base + base * u64::from(jitter) / 131_072 + 2;
            let wait = pair[1] - pair[0];
            assert!((base..=most).contains(&wait), "jitter {jitter}, turn {turn}: {wait} ms");
        }
        assert!(times.len() > 10, "{times:?}");
    }
}

fn s8_jitter_parts_those_who_lost_the_same_peer() {
    let third = |jitter| {
        let (mut world, a) = cut(jitter, Reach::Refused);
        times(&mut world, a, 1, 1_000)[2]
    };
    assert!(third(u16::MAX) > third(20_000) && third(20_000) > third(0));
}

fn s8_back_off_begins_anew_only_after_health() {
    let (mut world, a) = cut(0, Reach::Refused);
    world.secs(10);
    // Up again, and lost before anything came over the link: it goes on where it was.
    world.set_reach(A, B, Reach::Open);
    while world.phase(a) != Phase::Up {
        world.side_mut(a).opens = true;
        world.advance(Duration::from_millis(1));
        world.run_dials();
        world.deliver_to(B, 1);
        world.deliver_to(A, 1);
    }
    let known = dials(&world, a);
    world.set_reach(A, B, Reach::Refused);
    world.cut_all();
    assert_eq!(world.side(a).session.trouble(), Some(Trouble::LinkLost));
    let wait = times(&mut world, a, known, 30_000)[0];
    assert!(wait > 5_000, "{wait} ms");
    // Up again and healthy: at once, and then from the smallest.
    world.set_reach(A, B, Reach::Open);
    world.secs(30);
    assert_eq!(world.phase(a), Phase::Up);
    let known = dials(&world, a);
    world.set_reach(A, B, Reach::Refused);
    world.cut_all();
    assert_eq!(times(&mut world, a, known, 200)[..3], [0, 50, 150]);
}

fn s9_a_refusal_and_a_black_hole_are_told_apart() {
    for (reach, trouble) in
        [(Reach::Refused, Trouble::DialFailed), (Reach::BlackHole, Trouble::DialSilent)]
    {
        let (mut world, a) = cut(0, reach);
        world.secs(60);
        let session = &world.side(a).session;
        let counters = session.counters();
        assert_eq!(session.trouble(), Some(trouble));
        let (failed, silent) = (counters.dials_failed, counters.dials_silent);
        match trouble.is_silence() {
            // Each waits for `hello_timeout` first.
            true => assert!(failed == 0 && (3..=6).contains(&silent), "{counters:?}"),
            false => assert!(silent == 0 && failed > 6, "{counters:?}"),
        }
        world.set_reach(A, B, Reach::Open);
        world.secs(30);
        assert_eq!(world.side(a).session.trouble(), None);
    }
}
}
