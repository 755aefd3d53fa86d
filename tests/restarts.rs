//! Restart and identity, in virtual time: who comes back as whom, one event for each session that
//! ended, and nothing of an older instance, session, attempt or link in a newer one (S6).
#![allow(clippy::unwrap_used)] // Helpers are outside of `#[test]` functions.

mod facade_support;

use std::time::Duration;

use facade_support::*;
use stellate::prelude::*;
use stellate::testing::sim::{Profile, Quality};
use stellate::testing::{Direction, Fault, Faults, FrameKind, Gate, World};
use stellate::testing::{virtual_time, virtual_time_over};

const SECOND: Duration = Duration::from_secs(1);

/// What a side was told of its sessions, and the notes that it handled, in order.
fn told(side: &mut Side) -> Vec<String> {
    let line = |seen| match seen {
        Seen::Note(n, ..) => Some(format!("note {n}")),
        Seen::Event(SessionEvent::Connected { .. }) => Some("connected".into()),
        Seen::Event(SessionEvent::Resumed { .. }) => Some("resumed".into()),
        Seen::Event(SessionEvent::Ended { cause, mut unacked, .. }) => {
            Some(format!("ended {cause:?}, back {:?}", notes(&mut unacked)))
        }
        Seen::Event(SessionEvent::Reset { old, cause, mut unacked, .. }) => {
            assert_eq!((old.counters().resets, old.counters().ended), (1, 1));
            Some(format!("reset {cause:?}, back {:?}", notes(&mut unacked)))
        }
        Seen::Event(SessionEvent::NameConflict { .. }) => Some("conflict".into()),
        Seen::Event(other) => Some(format!("{other:?}")),
        _ => None,
    };
    side.rest().into_iter().filter_map(line).collect()
}

fn notes(unacked: &mut stellate::Unacked) -> Vec<u64> {
    unacked.drain().map(|message| message.downcast::<Note>().unwrap().body.n).collect()
}

fn osd1(world: &World, policy: Policy) -> MessengerBuilder {
    world.messenger(EntityName::osd(1)).policy(EntityKind::OSD, policy)
}

fn osd2(world: &World, policy: Policy) -> MessengerBuilder {
    world.messenger(EntityName::osd(2)).policy(EntityKind::OSD, policy)
}

async fn send(connection: &Connection, n: u64) {
    let sent = connection.send(Note { n }).await.unwrap();
    connection.received(sent).await.unwrap();
}

/// The acceptor dies with something on its way to it, and is back at once, at the same address.
#[test]
fn s4_s6_a_restart_at_once_ends_each_session_once() {
    let (lossless, lossy) = (Policy::lossless_client(), Policy::lossy_client());
    let (stateful, stateless) = (Policy::stateful_server(), Policy::stateless_server());
    let peer = Policy::lossless_peer();
    let cases = [
        // Goes on by itself; the dialler alone knows that there was a session.
        (peer, peer, "reset PeerRestarted, back [2, 3]", true),
        (lossless, stateful, "reset PeerRestarted, back [2, 3]", true),
        (lossless, stateless, "ended LinkLost, back [2, 3]", false),
        (lossy, stateless, "ended LinkLost, back [2, 3]", false),
        (lossy, stateful, "ended LinkLost, back [2, 3]", false),
    ];
    for (mine, theirs, end, goes_on) in cases {
        virtual_time(1, async |world| {
            let mut one = Side::new(osd1(&world, mine)).await;
            let mut two = Side::new(osd2(&world, theirs)).await;
            let old = one.messenger.connect(EntityName::osd(2), "sim://osd.2").unwrap();
            send(&old, 1).await;
            // Put on a link that will not carry it, and one behind it.
            world.net().partition("osd.1", "osd.2");
            old.send(Note { n: 2 }).await.unwrap();
            old.send(Note { n: 3 }).await.unwrap();
            world.sleep(SECOND / 10).await;
            world.crash(&two.messenger).await;
            let mut again = Side::new(osd2(&world, theirs)).await;
            world.net().heal("osd.1", "osd.2");
            old.ended().await;
            assert_eq!(told(&mut two)[..2], ["connected", "note 1"], "{}", mine.name());
            if !goes_on {
                one.messenger.connect(EntityName::osd(2), "sim://osd.2").unwrap();
            }
            let new = one.messenger.sessions().pop().unwrap();
            assert_ne!(new, old);
            send(&new, 4).await;
            world.sleep(60 * SECOND).await;
            assert_eq!(told(&mut one), ["connected", end, "connected"], "{}", mine.name());
            assert_eq!(told(&mut again), ["connected", "note 4"], "{}", theirs.name());
            assert_eq!(one.messenger.sessions().len(), 1);
        });
    }
}

/// The dialler restarts. Its server still has the old session, up for all it knows or not.
#[test]
fn s4_s6_a_dialler_that_restarts_ends_its_old_session_at_the_server() {
    for (mine, theirs, ended) in [
        (Policy::lossless_client(), Policy::stateful_server(), "ended PeerRestarted, back []"),
        // Goes on: with the session that the new instance has just made.
        (Policy::lossless_peer(), Policy::lossless_peer(), "reset PeerRestarted, back []"),
        (Policy::lossy_client(), Policy::stateless_server(), "ended LinkLost, back []"),
    ] {
        // With a notice that the link is gone, and on a fabric that gives none.
        for profile in [Profile::STREAM, Profile::PSM] {
            virtual_time_over(profile, 1, async |world| {
                let one = Side::new(osd1(&world, mine)).await;
                let mut two = Side::new(osd2(&world, theirs)).await;
                let first = one.messenger.connect(EntityName::osd(2), "sim://osd.2").unwrap();
                send(&first, 1).await;
                world.crash(&one.messenger).await;
                let mut again = Side::new(osd1(&world, mine)).await;
                let second = again.messenger.connect(EntityName::osd(2), "sim://osd.2").unwrap();
                send(&second, 2).await;
                world.sleep(40 * SECOND).await;
                let mut log = told(&mut two);
                let at = log.iter().position(|line| *line == ended);
                let at = at.unwrap_or_else(|| panic!("{} {}: {log:?}", mine.name(), profile.name));
                log.remove(at);
                assert_eq!(log, ["connected", "note 1", "connected", "note 2"], "{}", mine.name());
                assert_eq!(told(&mut again), ["connected"]);
                assert_eq!(two.messenger.sessions().len(), 1);
            });
        }
    }
}

#[test]
fn s4_s6_both_restart_at_the_same_time() {
    virtual_time(1, async |world| {
        let peer = Policy::lossless_peer();
        for life in 1..4 {
            let mut one = Side::new(osd1(&world, peer)).await;
            let mut two = Side::new(osd2(&world, peer)).await;
            let there = one.messenger.connect(EntityName::osd(2), "sim://osd.2").unwrap();
            let back = two.messenger.connect(EntityName::osd(1), "sim://osd.1").unwrap();
            // All at once, and only this life's arrive.
            for n in 0..5 {
                there.send(Note { n: life * 100 + n }).await.unwrap();
                back.send(Note { n: life * 100 + 50 + n }).await.unwrap();
            }
            world.sleep(5 * SECOND).await;
            let expected = |from: u64| -> Vec<String> {
                let notes = (from..from + 5).map(|n| format!("note {n}"));
                std::iter::once("connected".into()).chain(notes).collect()
            };
            assert_eq!(told(&mut one), expected(life * 100 + 50), "life {life}");
            assert_eq!(told(&mut two), expected(life * 100), "life {life}");
            assert_eq!((one.messenger.sessions().len(), two.messenger.sessions().len()), (1, 1));
            // Something is on its way when they die.
            there.send(Note { n: 1 }).await.unwrap();
            back.send(Note { n: 2 }).await.unwrap();
            futures::future::join(world.crash(&one.messenger), world.crash(&two.messenger)).await;
        }
    });
}

/// Two processes run under one name: both are served, both users are told, and nothing ends.
#[test]
fn s6_two_live_processes_with_one_name_conflict_once_and_live_on() {
    virtual_time(1, async |world| {
        let mut one = Side::new(world.messenger(EntityName::osd(1))).await;
        let mut twins = Vec::new();
        for node in ["osd.2a", "osd.2b"] {
            let twin = Side::new(world.messenger_on(node, EntityName::osd(2))).await;
            let to = twin.messenger.connect(EntityName::osd(1), "sim://osd.1").unwrap();
            send(&to, 1).await;
            twins.push((twin, to));
        }
        world.sleep(60 * SECOND).await;
        for (_, to) in &twins {
            send(to, 2).await;
        }
        world.sleep(60 * SECOND).await;
        let log = told(&mut one);
        let of = |what: &str| log.iter().filter(|line| line.starts_with(what)).count();
        let counts = (of("connected"), of("conflict"), of("note 1"), of("note 2"), of("ended"));
        assert_eq!(counts, (2, 2, 2, 2, 0), "one conflict for each session: {log:?}");
        assert_eq!(one.messenger.sessions().len(), 2);
        for (twin, _) in &mut twins {
            assert_eq!(told(twin), ["connected"]);
        }
    });
}

/// S6: they call at one moment, and a session waits for that name that knows neither. The directory
/// sends both hellos there; it takes one, and the other is no hello to be forgotten.
#[test]
fn s6_two_processes_of_one_name_that_call_at_once_are_both_let_in() {
    virtual_time(1, async |world| {
        let quality = Quality { latency: 1, jitter: 0, ..Quality::default() };
        world.net().set_quality(quality);
        let mut one = Side::new(world.messenger(EntityName::osd(1))).await;
        let to_either = one.messenger.connect(EntityName::osd(2), "sim://nobody").unwrap();
        let mut twins = Vec::new();
        for node in ["osd.2a", "osd.2b"] {
            twins.push(Side::new(world.messenger_on(node, EntityName::osd(2))).await);
        }
        let call = |twin: &Side| twin.messenger.connect(EntityName::osd(1), "sim://osd.1").unwrap();
        let calls: Vec<_> = twins.iter().map(call).collect();
        for from_twin in &calls {
            send(from_twin, 1).await;
        }
        world.sleep(60 * SECOND).await;
        for from_twin in &calls {
            assert_eq!(from_twin.counters().dials, 1);
        }
        send(&to_either, 3).await;
        world.sleep(SECOND).await;
        let log = told(&mut one);
        let of = |what: &str| log.iter().filter(|line| line.starts_with(what)).count();
        assert_eq!((of("connected"), of("conflict"), of("note 1")), (2, 2, 2), "{log:?}");
        let heard: Vec<_> = twins.iter_mut().map(told).collect();
        let (mut with, without) = (["connected", "note 3"], ["connected"]);
        with.sort_unstable();
        assert!(heard == [&with[..], &without] || heard == [&without[..], &with], "{heard:?}");
    });
}

/// Where both say which boot they are, the lower one is over, once on each side, and stays out.
#[test]
fn s4_s6_the_lower_incarnation_is_superseded() {
    virtual_time(1, async |world| {
        let mut one = Side::new(world.messenger(EntityName::osd(1))).await;
        let twin = |node, boot| world.messenger_on(node, EntityName::osd(2)).incarnation(boot);
        let mut old = Side::new(twin("osd.2a", 1)).await;
        let from_old = old.messenger.connect(EntityName::osd(1), "sim://osd.1").unwrap();
        send(&from_old, 1).await;
        let mut new = Side::new(twin("osd.2b", 2)).await;
        let from_new = new.messenger.connect(EntityName::osd(1), "sim://osd.1").unwrap();
        send(&from_new, 2).await;
        assert_eq!(from_old.ended().await, Some(EndCause::Superseded));
        let late = old.messenger.connect(EntityName::osd(1), "sim://osd.1").unwrap();
        assert_eq!(late.ended().await, Some(EndCause::Superseded));
        world.sleep(60 * SECOND).await;
        send(&from_new, 3).await;
        let mut log = told(&mut one);
        let ended = "ended Superseded, back []";
        let at = log.iter().position(|line| line == ended).expect("the old one ended");
        log.remove(at);
        assert_eq!(log, ["connected", "note 1", "connected", "note 2", "note 3"]);
        assert_eq!(told(&mut old), ["connected", ended, ended]);
        assert_eq!(told(&mut new), ["connected"]);
    });
}

/// S6: a hello of an instance that is gone comes out of the network when its successor is served.
#[test]
fn s6_a_late_hello_of_an_older_instance_changes_nothing() {
    // On a fabric that tells nobody that its dialler is dead.
    virtual_time_over(Profile::PSM, 1, async |world| {
        let gate = Gate::new();
        let faults = Faults::new();
        faults.on(FrameKind::Hello, Direction::Received, 1, Fault::Block(gate.clone()));
        let served = world.messenger(EntityName::osd(1));
        let limits = Limits { hello_timeout: 600 * SECOND, ..Limits::default() };
        let served = served.limits(limits).transport(faults.wrap(world.transport("osd.1")));
        let mut one = Side::new(served).await;
        let old = Side::new(world.messenger(EntityName::osd(2)).incarnation(1)).await;
        let lost = old.messenger.connect(EntityName::osd(1), "sim://osd.1").unwrap();
        lost.send(Note { n: 1 }).await.unwrap();
        gate.reached().await;
        world.crash(&old.messenger).await;
        let mut new = Side::new(world.messenger(EntityName::osd(2)).incarnation(2)).await;
        let there = new.messenger.connect(EntityName::osd(1), "sim://osd.1").unwrap();
        send(&there, 2).await;
        gate.open();
        world.sleep(60 * SECOND).await;
        send(&there, 3).await;
        assert_eq!(told(&mut one), ["connected", "note 2", "note 3"]);
        assert_eq!(told(&mut new), ["connected"]);
        assert_eq!(one.messenger.sessions().len(), 1);
    });
}

/// S6: frames of an old session of the same instance come out when its successor is up.
#[test]
fn s6_late_frames_of_an_older_session_change_nothing() {
    virtual_time(1, async |world| {
        let gate = Gate::new();
        let faults = Faults::new();
        faults.on(FrameKind::Message, Direction::Received, 2, Fault::Block(gate.clone()));
        let mut one = Side::new(
            world.messenger(EntityName::osd(1)).transport(faults.wrap(world.transport("osd.1"))),
        )
        .await;
        let mut two = Side::new(world.messenger(EntityName::osd(2))).await;
        let old = two.messenger.connect(EntityName::osd(1), "sim://osd.1").unwrap();
        send(&old, 1).await;
        old.send(Note { n: 2 }).await.unwrap();
        gate.reached().await;
        // Ends here at once; its last word is stuck behind the message.
        old.abort();
        assert_eq!(old.ended().await, Some(EndCause::ClosedHere));
        let new = two.messenger.connect(EntityName::osd(1), "sim://osd.1").unwrap();
        send(&new, 3).await;
        gate.open();
        world.sleep(60 * SECOND).await;
        send(&new, 4).await;
        let log = told(&mut one);
        let notes: Vec<_> = log.iter().filter(|line| line.starts_with("note")).collect();
        assert_eq!(notes, ["note 1", "note 3", "note 4"]);
        let ends = log.iter().filter(|line| line.starts_with("ended")).count();
        assert_eq!((ends, one.messenger.sessions().len()), (1, 1), "{log:?}");
        let end = log.iter().position(|line| line.starts_with("ended")).unwrap();
        let next = log.iter().position(|line| line == "note 3").unwrap();
        assert!(end < next, "the end comes before the messages of the next session: {log:?}");
        assert_eq!(told(&mut two), ["connected", "ended ClosedHere, back [2]", "connected"]);
    });
}
