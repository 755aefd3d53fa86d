//! `stellate::testing` itself: virtual time passes at once, and the same seed gives the same run.
#![allow(clippy::unwrap_used)] // Helpers are outside of `#[test]` functions.

use std::sync::Arc;
use std::time::Duration;

use stellate::prelude::*;
use stellate::testing::sim::Quality;
use stellate::testing::{Direction, Fault, Faults, FrameKind, Recorder, World, virtual_time};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Ping(u64);

impl Message for Ping {
    const TYPE: MessageType = MessageType::new(0x0301);
    type Reply = u64;
}

struct Pong;

impl Actor for Pong {
    type Context = Context<Self>;
}

impl Handler<Incoming<Ping>> for Pong {
    type Result = ();

    fn handle(&mut self, ping: Incoming<Ping>, _: &mut Self::Context) {
        let n = ping.0;
        ping.reply(n);
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Load(u64, String);

impl Message for Load {
    const TYPE: MessageType = MessageType::new(0x0302);
    type Reply = u64;
}

impl Handler<Incoming<Load>> for Pong {
    type Result = ();

    fn handle(&mut self, load: Incoming<Load>, _: &mut Self::Context) {
        let n = load.0;
        load.reply(n);
    }
}

async fn node(builder: MessengerBuilder) -> (Messenger, Recorder) {
    let messenger = builder.build().await.unwrap();
    let pong = messenger.supervise("pong", || Pong, Restart::default());
    pong.handle::<Ping>().handle::<Load>().start().unwrap();
    let recorder = Recorder::start(&messenger).unwrap();
    messenger.ready();
    (messenger, recorder)
}

fn ended(event: &SessionEvent) -> Option<EndCause> {
    match event {
        SessionEvent::Ended { cause, .. } => Some(*cause),
        _ => None,
    }
}

/// Three peers that all ask each other over bad ways, with cuts.
async fn storm(world: World) -> (u64, u64, String) {
    world.net().set_quality(Quality { latency: 2, jitter: 9, bandwidth: None, cut_chance: 3_000 });
    let mut nodes = Vec::new();
    for number in 1..=3 {
        let builder = world.messenger(EntityName::osd(number));
        let limits = Limits { backoff_max: Duration::from_millis(200), ..Limits::default() };
        nodes.push(node(builder.limits(limits)).await);
    }
    let mut asked = Vec::new();
    for (messenger, _) in &nodes {
        for number in (1..=3).filter(|number| messenger.name() != EntityName::osd(*number)) {
            let to = format!("sim://osd.{number}");
            let peer = messenger.connect(EntityName::osd(number), to.as_str()).unwrap();
            for n in 0..40 {
                asked.push(actix::spawn(peer.request(Ping(n)).into_future()));
            }
        }
    }
    for asked in asked {
        asked.await.unwrap().unwrap();
    }
    let mut log = String::new();
    for (messenger, recorder) in &nodes {
        for connection in messenger.sessions() {
            log.push_str(&format!("{connection:?} {:?}\n", connection.counters()));
        }
        log.push_str(&format!("{recorder:?}\n"));
    }
    (world.net().trace_hash(), world.net().trace_events(), log)
}

/// D1: frame by frame, event by event.
#[test]
fn d1_the_same_seed_gives_the_same_run_and_another_another() {
    let first = virtual_time(3, storm);
    assert_eq!(first, virtual_time(3, storm));
    assert_ne!(first.0, virtual_time(4, storm).0);
    assert!(first.2.contains("Resumed"), "the ways were bad");
}

/// What a hello allows its messenger's links take, whoever made them.
#[test]
fn raised_limits_hold_on_a_transport_that_was_handed_in() {
    virtual_time(1, async |world| {
        let raised = |name| {
            let limits = Limits { front_max: 4 << 20, ..Limits::default() };
            world.messenger(name).limits(limits)
        };
        let wrapped = Faults::new().wrap(world.transport("osd.1"));
        let (one, _) = node(raised(EntityName::osd(1)).transport(wrapped)).await;
        let (two, _) = node(raised(EntityName::osd(2))).await;
        let connection = one.connect(EntityName::osd(2), two.local_addresses()).unwrap();
        assert_eq!(connection.request(Load(7, "x".repeat(2 << 20))).await.unwrap().body, 7);
        let back = two.sessions().pop().expect("it is up");
        assert_eq!(back.request(Load(8, "x".repeat(2 << 20))).await.unwrap().body, 8);
        assert_eq!(connection.counters().links_lost, 0);
    });
}

/// Whatever it is that says that it is one; and a seed mends it.
#[test]
fn d1_a_messenger_without_a_seed_is_refused_in_a_simulation() {
    let name = EntityName::osd(1);
    let bare = || Messenger::builder(name).arbiters(0);
    let refused = |built: Result<Messenger, BuildError>| {
        let error = built.unwrap_err();
        assert!(matches!(error, BuildError::NoSeed(of) if of == name), "{error}");
        assert!(error.to_string().contains("the messenger of osd.1"), "{error}");
    };
    let net = virtual_time(1, async |world| {
        refused(bare().build().await);
        bare().seed(7).build().await.unwrap();
        world.net().clone()
    });
    // A virtual network in another runtime, or its trace alone.
    let real_time = actix_rt::System::new();
    real_time.block_on(async {
        refused(bare().transport(Arc::new(net.transport("osd.1"))).build().await);
        refused(bare().trace(net.scribe("osd.1")).build().await);
        bare().build().await.unwrap();
    });
}

/// Both sides of a session without a link give up after `standby_max`, 15 minutes, at once.
#[test]
fn standby_max_passes_in_virtual_time() {
    #[allow(clippy::disallowed_methods)] // The real clock is what is tested.
    let start = std::time::Instant::now();
    virtual_time(1, async |world| {
        let (one, heard) = node(world.messenger(EntityName::osd(1))).await;
        let (two, there) = node(world.messenger(EntityName::osd(2))).await;
        let connection = one.connect(EntityName::osd(2), two.local_addresses()).unwrap();
        assert_eq!(connection.request(Ping(1)).await.unwrap().body, 1);
        world.net().partition("osd.1", "osd.2");
        assert_eq!(connection.ended().await, Some(EndCause::TimedOut));
        world.until("the other end", || there.count(|event| ended(event).is_some()) == 1).await;
        for heard in [heard, there] {
            let ends: Vec<_> = heard.take().iter().filter_map(ended).collect();
            assert_eq!(ends, [EndCause::TimedOut]);
        }
        assert!(world.elapsed() >= Limits::default().standby_max);
    });
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn a_crash_and_a_restart_are_two_instances() {
    virtual_time(1, async |world| {
        let (one, heard) = node(world.messenger(EntityName::osd(1))).await;
        let (two, _) = node(world.messenger(EntityName::osd(2))).await;
        let before = one.connect(EntityName::osd(2), "sim://osd.2").unwrap();
        assert_eq!(before.request(Ping(1)).await.unwrap().body, 1);
        world.crash(&two).await;
        let (again, _) = node(world.messenger(EntityName::osd(2))).await;
        assert_ne!(two.identity().instance, again.identity().instance);
        before.send(Ping(2)).await.unwrap();
        let new = loop {
            match heard.next().await {
                SessionEvent::Reset { new, cause, .. } => {
                    assert_eq!(cause, EndCause::PeerRestarted);
                    break new;
                }
                SessionEvent::Connected { .. } => {}
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(new.request(Ping(3)).await.unwrap().body, 3);
    });
}

#[test]
fn a_plan_of_faults_wraps_the_virtual_transport() {
    virtual_time(1, async |world| {
        let faults = Faults::new();
        faults.on(FrameKind::Hello, Direction::Sent, 1, Fault::Fail);
        let broken =
            world.messenger(EntityName::osd(1)).transport(faults.wrap(world.transport("osd.1")));
        let (one, _) = node(broken).await;
        let (two, _) = node(world.messenger(EntityName::osd(2))).await;
        let connection = one.connect(EntityName::osd(2), two.local_addresses()).unwrap();
        assert_eq!(connection.request(Ping(1)).await.unwrap().body, 1);
        let counters = connection.counters();
        assert_eq!((counters.dials, counters.hellos_sent, faults.hits().len()), (2, 2, 1));
    });
}

#[test]
#[should_panic(expected = "of virtual time")]
fn a_test_that_hangs_is_told() {
    virtual_time(1, async |_| std::future::pending::<()>().await);
}

/// S9: we wake late, and the peer is silent as well: both say so, and it is told once.
#[test]
fn s9_a_late_wake_beside_a_silent_peer_is_told_once() {
    virtual_time(1, async |world| {
        let (one, heard) = node(world.messenger(EntityName::osd(1))).await;
        let (two, _) = node(world.messenger(EntityName::osd(2))).await;
        let there = one.connect(EntityName::osd(2), two.local_addresses()).unwrap();
        assert_eq!(there.request(Ping(1)).await.unwrap().body, 1);
        world.net().partition("osd.1", "osd.2");
        // Nobody ran for longer than the deadline.
        tokio::time::advance(Limits::default().heartbeat_deadline * 2).await;
        world.sleep(Duration::from_secs(1)).await;
        assert_eq!((there.counters().local_stalls, there.counters().links_lost), (1, 0));
        let stalled = |event: &SessionEvent| matches!(event, SessionEvent::LocalStall { .. });
        assert_eq!(heard.count(stalled), 1);
        world.net().heal("osd.1", "osd.2");
        assert_eq!(there.request(Ping(2)).await.unwrap().body, 2);
    });
}

/// S2, F5: a link that is full is given nothing, so nothing that it would refuse has to be said again.
#[test]
fn s2_a_full_link_is_given_nothing() {
    virtual_time(5, async |world| {
        let quality = Quality { bandwidth: Some(4_000), ..Quality::default() };
        world.net().set_quality(quality);
        let (one, heard) = node(world.messenger(EntityName::osd(1))).await;
        let (two, _) = node(world.messenger(EntityName::osd(2))).await;
        let there = one.connect(EntityName::osd(2), two.local_addresses()).unwrap();
        // Half a megabyte, where a link has room for an eighth.
        let asked = (0..30).map(|n| there.request(Load(n, "x".repeat(16_000))).into_future());
        for (n, reply) in futures::future::join_all(asked).await.into_iter().enumerate() {
            assert_eq!(reply.unwrap().body, n as u64);
        }
        let counters = there.counters();
        assert_eq!((counters.links_lost, counters.replayed, counters.hellos_sent), (0, 0, 1));
        let writable = |event: &SessionEvent| matches!(event, SessionEvent::Writable { .. });
        assert_eq!(heard.count(writable), 0, "nobody was refused");
    });
}

/// A loop of sends waits for nothing while there is room, and yet its session, on the same thread, has
/// its turn every 512 messages, before they fall out of the cache.
#[test]
fn a_send_in_a_loop_lets_its_session_run_now_and_then() {
    virtual_time(1, async |world| {
        let (one, _) = node(world.messenger(EntityName::osd(1))).await;
        let (two, _) = node(world.messenger(EntityName::osd(2))).await;
        let there = one.connect(EntityName::osd(2), two.local_addresses()).unwrap();
        assert_eq!(there.request(Ping(0)).await.unwrap().body, 0);
        world.sleep(Duration::from_secs(1)).await;
        let runs = || there.why().is_some_and(|why| why.oldest.is_some());
        let mut first = None;
        for n in 1..=1_000 {
            there.send(Ping(n)).await.unwrap();
            first = first.or_else(|| runs().then_some(n));
        }
        assert_eq!(first, Some(513), "it has sent the ones before");
    });
}

/// S7, F8: a session that ends leaves its link to send the rest; a peer that takes nothing does not
/// keep that link for longer than `drain_max`.
#[test]
fn s7_a_drain_that_nobody_takes_is_given_up() {
    virtual_time(3, async |world| {
        let faults = Faults::new();
        faults.on(FrameKind::Message, Direction::Sent, 2, Fault::StallAfter);
        let limits = Limits { drain_max: Duration::from_secs(2), ..Limits::default() };
        let one = world.messenger_on("one", EntityName::osd(1)).limits(limits);
        let one = one.transport(faults.wrap(world.transport("one")));
        let (one, _) = node(one).await;
        let (_two, _) = node(world.messenger(EntityName::osd(2))).await;
        let there = one.connect(EntityName::osd(2), "sim://osd.2").unwrap();
        assert_eq!(there.request(Ping(1)).await.unwrap().body, 1);
        for n in 2..10 {
            there.send(Ping(n)).await.unwrap();
        }
        world.sleep(Duration::from_millis(50)).await;
        let links =
            || (0..20).filter(|id| one.tree().phase(&format!("links/{id}")).is_some()).count();
        assert_eq!(links(), 1);
        there.abort();
        world.sleep(Duration::from_secs(1)).await;
        assert_eq!(links(), 1, "it tries for a while");
        world.sleep(Duration::from_secs(2)).await;
        assert_eq!(links(), 0, "and gives up");
    });
}
