//! How a messenger ends, and what it says of it (V3).
#![allow(clippy::unwrap_used)] // Helpers are outside of `#[test]` functions.

mod facade_support;

use std::sync::{Arc, Mutex};
use std::task::{Context as Task, Wake, Waker};
use std::time::Duration;

use facade_support::*;
use futures::FutureExt;
use stellate::prelude::*;
use stellate::testing::{NodePhase, What, World, virtual_time};
use stellate::{Cause, Supervisor};
use tokio::task::LocalSet;

/// Cannot even start.
struct Broken;

impl Actor for Broken {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        panic!("no disk");
    }
}

/// Fails when it is told to.
struct Spare;

impl Actor for Spare {
    type Context = Context<Self>;
}

async fn messenger() -> Messenger {
    let builder = Messenger::builder(EntityName::osd(1)).arbiters(0);
    builder.build().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn v3_more_restarts_than_the_intensity_end_the_messenger_with_the_chain_of_causes() {
    let run = async {
        let messenger = messenger().await;
        messenger.ready();
        let own = messenger.connect(messenger.name(), [] as [Address; 0]);
        own.unwrap();
        let addr = messenger
            .supervise("disk", || Broken, Restart::default())
            .placement(Placement::Current)
            .start()
            .unwrap();
        let cause = within(messenger.ended()).await.unwrap();
        let Cause::Exhausted { child, .. } = &cause else { panic!("{cause:?}") };
        assert_eq!(&**child, "disk");
        let message = "no disk".into();
        assert_eq!(cause.first(), &Cause::Panicked { message });
        assert!(!addr.connected());
        let refused = messenger.supervise("disk", || Broken, Restart::default());
        assert!(refused.placement(Placement::Current).start().is_err());
        // It stays so, and what is left can be stopped.
        within(messenger.shutdown()).await;
        assert_eq!(within(messenger.ended()).await, Some(cause));
    };
    LocalSet::new().run_until(run).await;
}

#[tokio::test(start_paused = true)]
async fn v3_what_is_not_restarted_ends_nothing_and_a_shutdown_has_no_cause() {
    let run = async {
        let messenger = messenger().await;
        let group = Supervisor::one_for_one();
        messenger.tree().supervisor("disks", group).unwrap();
        messenger
            .supervise("disks/0", || Broken, Restart::Never)
            .placement(Placement::Current)
            .start()
            .unwrap();
        let ended = messenger.ended();
        within(messenger.tree().wait_for("disks/0", |what| matches!(what, What::Panicked { .. })))
            .await
            .unwrap();
        messenger.shutdown().await;
        assert_eq!(within(ended).await, None);
    };
    LocalSet::new().run_until(run).await;
}

/// As the docs of `supervise` say: whoever has a patient group of its own ends nobody else.
#[tokio::test(start_paused = true)]
async fn v3_an_actor_that_always_fails_ends_nothing_in_a_patient_group_of_its_own() {
    let run = async {
        let messenger = messenger().await;
        let patient = Supervisor::one_for_one().intensity(64, Duration::from_secs(60));
        messenger.tree().supervisor("disks", patient).unwrap();
        let hosting = messenger.supervise("disks/0", || Broken, Restart::default());
        hosting.placement(Placement::Current).start().unwrap();
        let ended = messenger.ended();
        let hour = Duration::from_secs(3600);
        assert!(tokio::time::timeout(hour, ended).await.is_err(), "it goes on");
        let history = messenger.tree().history();
        let panics = history.iter().filter(|entry| matches!(entry.what, What::Panicked { .. }));
        // One in 7.5 to 15 seconds.
        assert!((240..=490).contains(&panics.count()), "V2");
        messenger.shutdown().await;
    };
    LocalSet::new().run_until(run).await;
}

/// S4: what was acknowledged and is held for the admission was received and not delivered, also if
/// the session's actor panics.
#[actix_rt::test]
async fn s4_what_is_held_is_counted_when_the_session_fails() {
    let one = Side::new(osd(1)).await;
    let mut two = Side::with(osd(2), |desk| desk.events().admission()).await;
    let there = one.messenger.connect(EntityName::osd(2), two.addresses()).unwrap();
    let _ticket = two.admission().await.hold();
    for n in 0..5 {
        let sent = within(there.send(Note { n })).await.unwrap();
        within(there.received(sent)).await.unwrap();
    }
    let session = two.messenger.sessions()[0].clone();
    two.messenger.tree().panic(&format!("sessions/{}", session.key().0)).unwrap();
    let (cause, counts) = two
        .event(|event| match event {
            SessionEvent::Ended { cause, counts, .. } => Some((cause, counts)),
            _ => None,
        })
        .await;
    assert_eq!((cause, counts.undelivered()), (EndCause::InternalFault, 5));
}

/// S4: an actor that cannot read its events at that moment, since it is paused or waits for its next
/// start, still gets its ends, and its messages back, before it stops.
#[test]
fn s4_whoever_is_shut_down_is_told_of_its_ends_first() {
    for fails in [false, true] {
        virtual_time(1, async |world| {
            let mut one = Side::new(world.messenger(EntityName::osd(1))).await;
            let there = one.messenger.connect(EntityName::osd(9), "sim://osd.9").unwrap();
            for n in 0..3 {
                there.try_send(Note { n }).unwrap();
            }
            world.sleep(Duration::from_secs(1)).await;
            let tree = one.messenger.tree();
            let ordered = if fails { tree.panic("desk") } else { tree.pause("desk") };
            ordered.unwrap();
            there.abort();
            let start = world.elapsed();
            one.messenger.shutdown().await;
            assert!(world.elapsed() - start < Duration::from_secs(1));
            let (_, cause, unacked) = one.end().await;
            assert_eq!((cause, unacked.len()), (EndCause::ClosedHere, 3));
        });
    }
}

/// Hears of ends; its first lives panic at the first they hear of.
struct Shaky {
    panics: bool,
    ends: Arc<Mutex<Vec<usize>>>,
}

impl Actor for Shaky {
    type Context = Context<Self>;
}

impl Handler<SessionEvent> for Shaky {
    type Result = ();

    fn handle(&mut self, event: SessionEvent, _: &mut Self::Context) {
        if let SessionEvent::Ended { unacked, .. } = event {
            assert!(!self.panics, "asked for");
            self.ends.lock().unwrap().push(unacked.len());
        }
    }
}

/// A messenger, an actor of which the first so many lives panic at an end, and what it heard.
async fn shaky(
    world: &World,
    panics: usize,
    placement: Placement,
) -> (Messenger, Arc<Mutex<Vec<usize>>>) {
    let messenger = world.messenger(EntityName::osd(1)).build().await.unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (mut lives, ends) = (0, heard.clone());
    let factory = move || {
        lives += 1;
        Shaky { panics: lives <= panics, ends: ends.clone() }
    };
    let hosting = messenger.supervise("shaky", factory, Restart::default()).events();
    hosting.placement(placement).start().unwrap();
    messenger.ready();
    (messenger, heard)
}

/// Sessions to nobody, with 1, 2, 3 … messages that come back at their ends.
fn sessions(messenger: &Messenger, count: u64) -> Vec<Connection> {
    let open = |n| {
        let address = format!("sim://osd.{}", 9 + n);
        let there = messenger.connect(EntityName::osd(9 + n), &*address).unwrap();
        (0..n).for_each(|n| drop(there.try_send(Note { n }).unwrap()));
        there
    };
    (1..=count).map(open).collect()
}

/// S4, V1: a handler that panics while its actor drains costs the event in hand, and no other end.
#[test]
fn s4_who_panics_while_it_is_shut_down_is_told_of_the_other_ends() {
    virtual_time(1, async |world| {
        let (messenger, heard) = shaky(&world, 2, Placement::default()).await;
        let there = sessions(&messenger, 4);
        world.sleep(Duration::from_secs(1)).await;
        messenger.tree().pause("shaky").unwrap();
        there.iter().for_each(Connection::abort);
        let start = world.elapsed();
        messenger.shutdown().await;
        assert!(world.elapsed() - start < Duration::from_secs(1));
        assert_eq!(*heard.lock().unwrap(), [3, 4]);
    });
}

/// S4: an actor whose thread did not come to build it before it was told to stop.
#[test]
fn s4_who_was_not_built_yet_is_told_of_its_ends() {
    virtual_time(1, async |world| {
        let thread = LocalSet::new();
        let busy = thread.enter();
        let (messenger, heard) = shaky(&world, 0, Placement::Current).await;
        drop(busy);
        let there = sessions(&messenger, 2);
        world.sleep(Duration::from_secs(1)).await;
        there.iter().for_each(Connection::abort);
        let stopping = async {
            let tree = messenger.tree();
            world.until("a stop", || tree.phase("shaky") == Some(NodePhase::Stopping)).await;
            assert!(heard.lock().unwrap().is_empty());
            thread.await;
        };
        futures::join!(messenger.shutdown(), stopping);
        assert_eq!(*heard.lock().unwrap(), [1, 2]);
    });
}

/// Shuts the messenger down from where it is woken.
struct Hasty {
    messenger: Messenger,
    seen: Mutex<Vec<String>>,
}

impl Wake for Hasty {
    fn wake(self: Arc<Self>) {
        let shutdown = Box::pin(self.messenger.shutdown()).now_or_never();
        let desk = self.messenger.tree().phase("desk");
        self.seen.lock().unwrap().push(format!("{shutdown:?}, {desk:?}"));
    }
}

/// S4: a shutdown that begins between the end of a session and the telling of it, as on another
/// thread, keeps those who are to be told.
#[test]
fn s4_a_shutdown_waits_for_an_end_that_is_about_to_be_told() {
    virtual_time(1, async |world| {
        let mut one = Side::new(world.messenger(EntityName::osd(1))).await;
        let there = one.messenger.connect(EntityName::osd(9), "sim://osd.9").unwrap();
        let mut ask = there.request(Ask { n: 0, how: How::Reply }).into_future();
        world.sleep(Duration::from_secs(1)).await;
        let hasty = Arc::new(Hasty { messenger: one.messenger.clone(), seen: Mutex::default() });
        let waker = Waker::from(hasty.clone());
        assert!(ask.poll_unpin(&mut Task::from_waker(&waker)).is_pending());
        world.sleep(Duration::from_secs(1)).await;
        one.messenger.tree().panic(&format!("sessions/{}", there.key().0)).unwrap();
        assert_eq!(one.end().await.1, EndCause::InternalFault);
        assert_eq!(*hasty.seen.lock().unwrap(), ["None, Some(Up)"]);
        one.messenger.shutdown().await;
    });
}

/// Another actor that hears of ends, beside one that fails for ever and takes its group along.
async fn ends_in_a_group(messenger: &Messenger, heard: &Arc<Mutex<Vec<usize>>>) {
    let tree = messenger.tree();
    tree.supervisor("g", Supervisor::escalate()).unwrap();
    let ends = heard.clone();
    let factory = move || Shaky { panics: false, ends: ends.clone() };
    let other = messenger.supervise("g/shaky", factory, Restart::default()).events();
    other.placement(Placement::Current).start().unwrap();
    let disk = messenger.supervise("g/disk", || Broken, Restart::default());
    disk.placement(Placement::Current).start().unwrap();
    assert!(matches!(messenger.ended().await, Some(Cause::Exhausted { .. })));
    let mut heard = heard.lock().unwrap().clone();
    heard.sort_unstable();
    assert_eq!(heard, [1, 1, 2, 2, 3, 3]);
    messenger.shutdown().await;
}

/// S4: a session that is not built yet when its tree goes down ends as closed here.
#[test]
fn s4_a_session_that_was_not_built_yet_ends_as_closed() {
    virtual_time(1, async |world| {
        let (messenger, heard) = shaky(&world, 0, Placement::Current).await;
        let there = sessions(&messenger, 2);
        assert_eq!(messenger.tree().shutdown().await, None);
        for there in there {
            assert_eq!(there.ended().await, Some(EndCause::ClosedHere));
        }
        let mut heard = heard.lock().unwrap().clone();
        heard.sort_unstable();
        assert_eq!(heard, [1, 2]);
        messenger.shutdown().await;
    });
}

/// S4, V3: when the tree gives up its sessions go first, so that hosted actors are told of the ends and
/// get their messages back, wherever they run: one that waits for its next start, too.
#[test]
fn s4_v3_who_is_left_when_a_tree_gives_up_is_told_of_the_ends() {
    let (here, own) = (Placement::Current, Placement::OwnArbiter);
    // The last is told where it is down with its group, which gave up first.
    for (backs_off, inner, placement) in
        [(false, false, here), (true, false, here), (false, false, own), (false, true, here)]
    {
        virtual_time(1, async |world| {
            let (messenger, heard) = shaky(&world, 0, placement).await;
            let there = sessions(&messenger, 3);
            world.sleep(Duration::from_secs(1)).await;
            if inner {
                ends_in_a_group(&messenger, &heard).await;
                return;
            }
            let tree = messenger.tree();
            let spare = messenger.supervise("spare", || Spare, Restart::default());
            spare.placement(Placement::Current).start().unwrap();
            let disk = messenger.supervise("disk", || Broken, Restart::default());
            disk.placement(Placement::Current).start().unwrap();
            for _ in 0..7 {
                tree.wait_for("disk", |what| matches!(what, What::Panicked { .. })).await.unwrap();
            }
            if backs_off {
                let mark = tree.panic("shaky").unwrap();
                let restarting = |what: &_| matches!(what, What::Restarting { .. });
                tree.wait_since(mark, "shaky", restarting).await.unwrap();
                tree.panic("spare").unwrap();
            }
            let cause = messenger.ended().await.unwrap();
            let Cause::Exhausted { child, .. } = &cause else { panic!("{cause:?}") };
            assert_eq!(&**child, if backs_off { "spare" } else { "disk" });
            let mut heard = heard.lock().unwrap().clone();
            heard.sort_unstable();
            assert_eq!(heard, [1, 2, 3], "backs off: {backs_off}");
            for there in there {
                assert_eq!(there.ended().await, Some(EndCause::ClosedHere));
            }
            messenger.shutdown().await;
        });
    }
}
