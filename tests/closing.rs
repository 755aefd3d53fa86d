//! Closing at any moment, in virtual time: every `close`, `abort` and `shutdown` ends within
//! `drain_max`, gives one event on each side, and nothing vanishes (S4).
#![allow(clippy::unwrap_used)] // Helpers are outside of `#[test]` functions.

mod facade_support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use facade_support::*;
use stellate::prelude::*;
use stellate::testing::{Recorder, World, virtual_time};

const SECOND: Duration = Duration::from_secs(1);

/// Where the conversation is when it is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// Up, with nothing to do.
    Up,
    /// Up, with messages and requests on their way in both directions.
    Busy,
    /// Up, and the peer's handler does not return.
    Stuck,
    /// The peer is there and does not answer the dial.
    Dialling,
    /// Nobody is there.
    BackingOff,
    /// Both have just dialled.
    Racing,
    /// The peer's admission holds us.
    Held,
    /// Closing already.
    Draining,
    /// It was up, and the way is cut.
    Away,
}

impl Moment {
    const ALL: [Self; 9] = [
        Self::Up,
        Self::Busy,
        Self::Stuck,
        Self::Dialling,
        Self::BackingOff,
        Self::Racing,
        Self::Held,
        Self::Draining,
        Self::Away,
    ];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Close,
    Abort,
    /// One after the other.
    CloseAbort,
    /// Both sides at the same moment.
    BothClose,
    /// The whole messenger.
    Shutdown,
}

impl How {
    const ALL: [Self; 5] =
        [Self::Close, Self::Abort, Self::CloseAbort, Self::BothClose, Self::Shutdown];
}

/// What became of the messages of one side.
#[derive(Default, Debug)]
struct Account {
    accepted: u64,
    handled: u64,
    back_sent: u64,
    back_unsent: u64,
    undelivered: u64,
    ends: u64,
}

impl Account {
    fn add(&mut self, seen: Seen) {
        match seen {
            Seen::Note(..) | Seen::Ask(_) => self.handled += 1,
            Seen::Event(
                SessionEvent::Ended { counts, mut unacked, .. }
                | SessionEvent::Reset { counts, mut unacked, .. },
            ) => {
                self.ends += 1;
                self.undelivered += counts.undelivered();
                for message in unacked.drain().filter(|message| !message.is_reply()) {
                    match message.was_sent() {
                        true => self.back_sent += 1,
                        false => self.back_unsent += 1,
                    }
                }
            }
            _ => {}
        }
    }
}

struct Scene {
    sides: [Side; 2],
    connections: [Option<Connection>; 2],
    accepted: [u64; 2],
}

impl Scene {
    async fn new(world: &World, moment: Moment) -> Self {
        let one = Side::new(world.messenger(EntityName::osd(1))).await;
        let two = match moment {
            Moment::Held => {
                let builder = world.messenger(EntityName::osd(2));
                Side::with(builder, |desk| desk.events().admission()).await
            }
            _ => Side::new(world.messenger(EntityName::osd(2))).await,
        };
        let mut scene = Self { sides: [one, two], connections: [None, None], accepted: [0, 0] };
        let to = match moment {
            Moment::BackingOff => "sim://osd.9",
            _ => "sim://osd.2",
        };
        world.net().black_hole_dials("osd.2", moment == Moment::Dialling);
        let there = scene.sides[0].messenger.connect(EntityName::osd(2), to).unwrap();
        scene.connections[0] = Some(there);
        if moment == Moment::Racing {
            let back = scene.sides[1].messenger.connect(EntityName::osd(1), "sim://osd.1");
            scene.connections[1] = Some(back.unwrap());
        }
        scene.get_to(world, moment).await;
        scene
    }

    async fn get_to(&mut self, world: &World, moment: Moment) {
        match moment {
            Moment::Dialling | Moment::BackingOff => {
                self.send(0, 5);
                world.sleep(SECOND).await;
            }
            Moment::Racing => {
                self.send(0, 5);
                self.send(1, 5);
                // The dials are out, and neither has been answered.
                world.sleep(SECOND / 1000).await;
            }
            Moment::Held => {
                self.send(0, 5);
                drop(self.sides[1].admission().await.hold());
                world.sleep(SECOND / 10).await;
            }
            _ => self.come_up(world, moment).await,
        }
    }

    async fn come_up(&mut self, world: &World, moment: Moment) {
        self.send(0, 1);
        self.sides[1].note().await;
        self.connections[1] = self.sides[1].messenger.sessions().pop();
        self.accepted = [0, 0];
        world.sleep(SECOND).await;
        match moment {
            Moment::Busy => {
                self.send(0, 200);
                self.send(1, 200);
                world.sleep(SECOND / 500).await;
            }
            Moment::Stuck => {
                self.ask(How2::Wait);
                self.send(0, 20);
                world.sleep(SECOND).await;
            }
            Moment::Draining => {
                world.net().partition("osd.1", "osd.2");
                self.send(0, 5);
                drop(self.connections[0].as_ref().unwrap().close());
                world.sleep(SECOND).await;
                world.net().heal("osd.1", "osd.2");
            }
            Moment::Away => {
                world.net().partition("osd.1", "osd.2");
                world.net().cut_all();
                self.send(0, 5);
                world.sleep(SECOND).await;
            }
            _ => {}
        }
    }

    fn send(&mut self, side: usize, count: u64) {
        let connection = self.connections[side].as_ref().unwrap();
        for n in 0..count {
            connection.try_send(Note { n }.with(vec![7; 500])).unwrap();
            self.accepted[side] += 1;
        }
    }

    /// A request that stays in its handler's hands: the desk waits for a gate that never opens.
    fn ask(&mut self, how: How2) {
        let connection = self.connections[0].as_ref().unwrap();
        let mut ask = Box::pin(connection.request(Ask { n: 0, how }).into_future());
        assert!(futures::FutureExt::now_or_never(&mut ask).is_none());
        actix::spawn(ask);
        self.accepted[0] += 1;
    }
}

use facade_support::How as How2;

async fn close(scene: &Scene, closer: usize, how: How) {
    let connection = scene.connections[closer].clone();
    match (how, connection) {
        (How::Shutdown, _) => scene.sides[closer].messenger.shutdown().await,
        (How::Abort, Some(connection)) => {
            connection.abort();
            connection.ended().await;
        }
        (How::CloseAbort, Some(connection)) => {
            let closing = connection.close();
            connection.abort();
            closing.await;
        }
        (How::BothClose, _) => {
            let both = scene.connections.iter().flatten().map(Connection::close);
            futures::future::join_all(both).await;
        }
        (How::Close, Some(connection)) => connection.close().await,
        (_, None) => {}
    }
}

async fn check(world: World, moment: Moment, closer: usize, how: How) {
    let what = format!("{moment:?}, side {closer}, {how:?}");
    let mut scene = Scene::new(&world, moment).await;
    if scene.connections[closer].is_none() && how != How::Shutdown {
        return;
    }
    let start = world.elapsed();
    close(&scene, closer, how).await;
    let limits = Limits::default();
    let took = world.elapsed() - start;
    // A shutdown also waits for its actors, which drain.
    let actors = if how == How::Shutdown { 30 * SECOND } else { Duration::ZERO };
    assert!(took <= limits.drain_max + actors + SECOND, "{what}: took {took:?}");
    world.net().heal_all();
    if moment == Moment::Racing {
        // The peer's own dial may have come through after the end here: another session, which
        // nobody has closed.
        world.sleep(5 * SECOND).await;
        for connection in scene.connections.iter().flatten() {
            connection.close().await;
        }
    }
    let sessions =
        |scene: &Scene| scene.sides.each_ref().map(|side| side.messenger.sessions().len());
    world.until(&what, || sessions(&scene) == [0, 0]).await;
    world.sleep(SECOND).await;
    let mut accounts = [Account::default(), Account::default()];
    for (side, account) in scene.sides.iter_mut().zip(&mut accounts) {
        for seen in side.rest() {
            account.add(seen);
        }
    }
    for at in [0, 1] {
        accounts[at].accepted = scene.accepted[at];
        let known = scene.connections[at].is_some() || moment == Moment::Held;
        let two = moment == Moment::Racing && at == closer && accounts[at].ends == 2;
        assert!(accounts[at].ends == u64::from(known) || two, "{what}: {accounts:?}");
    }
    for (here, there) in [(0, 1), (1, 0)] {
        balance(&what, &accounts[here], &accounts[there]);
    }
}

/// S4: sent = received + taken back, received = handled + reported.
fn balance(what: &str, here: &Account, there: &Account) {
    let back = here.back_sent + here.back_unsent;
    let received = there.handled + there.undelivered;
    let least = here.accepted - back;
    let most = here.accepted - here.back_unsent;
    assert!(
        (least..=most).contains(&received),
        "{what}: of {here:?} were received {received} of {least}..={most}, {there:?}"
    );
}

#[test]
fn s4_closing_at_any_moment_ends_once_in_time_and_loses_nothing() {
    for moment in Moment::ALL {
        for closer in [0, 1] {
            for how in How::ALL {
                virtual_time(1, async |world| check(world, moment, closer, how).await);
            }
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct EndOther;

impl Message for EndOther {
    const TYPE: MessageType = MessageType::new(0x0500);
    type Reply = ();
}

/// Holds its lock in every handler, as many daemons do, and ends another connection under it.
struct Map {
    others: Arc<Mutex<Vec<Connection>>>,
    how: How,
    told: Arc<Mutex<Vec<EndCause>>>,
}

impl Actor for Map {
    type Context = Context<Self>;
}

impl Handler<Incoming<EndOther>> for Map {
    type Result = ();

    fn handle(&mut self, _: Incoming<EndOther>, _: &mut Self::Context) {
        let others = self.others.lock().unwrap();
        for other in others.iter() {
            match self.how {
                How::Abort => other.abort(),
                How::CloseAbort => {
                    drop(other.close());
                    other.abort();
                }
                _ => drop(other.close()),
            }
        }
    }
}

impl Handler<SessionEvent> for Map {
    type Result = ();

    fn handle(&mut self, event: SessionEvent, _: &mut Self::Context) {
        // Would be locked if it were called from within the handler above.
        let mut others = self.others.try_lock().expect("the user's lock is free in an event");
        if let SessionEvent::Ended { connection, cause, .. } = event {
            others.retain(|other| *other != connection);
            self.told.lock().unwrap().push(cause);
        }
    }
}

/// Of another connection, from inside a handler, under the user's lock: no callback comes while
/// the handler runs, and every end is told after it.
#[test]
fn s4_another_connection_is_ended_from_a_handler_under_the_users_lock() {
    for how in [How::Close, How::Abort, How::CloseAbort] {
        virtual_time(1, async |world| {
            let one = world.messenger(EntityName::osd(1)).build().await.unwrap();
            let (others, told) =
                <(Arc<Mutex<Vec<Connection>>>, Arc<Mutex<Vec<EndCause>>>)>::default();
            let (shared, log) = (others.clone(), told.clone());
            let map = move || Map { others: shared.clone(), how, told: log.clone() };
            one.supervise("map", map, Restart::default())
                .handle::<EndOther>()
                .events()
                .start()
                .unwrap();
            one.ready();
            let mut peers = Vec::new();
            for number in 2..6 {
                let peer = world.messenger(EntityName::osd(number)).build().await.unwrap();
                let heard = Recorder::start(&peer).unwrap();
                peer.ready();
                let to = peer.connect(EntityName::osd(1), "sim://osd.1").unwrap();
                world.until("it to be up", || to.is_up()).await;
                peers.push((peer, heard, to));
            }
            let all = one.sessions();
            let of = |number| all.iter().filter(move |to| to.name() == EntityName::osd(number));
            *others.lock().unwrap() = (3..6).flat_map(of).cloned().collect();
            peers[0].2.send(EndOther).await.unwrap();
            world.until("three ends", || told.lock().unwrap().len() == 3).await;
            world.sleep(SECOND).await;
            assert_eq!(*told.lock().unwrap(), [EndCause::ClosedHere; 3]);
            assert!(others.lock().unwrap().is_empty());
            assert!(peers[0].2.is_up());
            for (_, heard, to) in &peers[1..] {
                assert_eq!(to.end_cause(), Some(EndCause::ClosedByPeer));
                let ends = heard.count(|event| matches!(event, SessionEvent::Ended { .. }));
                assert_eq!(ends, 1);
            }
        });
    }
}

/// Real threads, over TCP: whoever comes first, it is one end, and nobody hangs.
#[actix_rt::test]
async fn s4_two_threads_that_close_and_abort_at_once_make_one_end() {
    for round in 0..20 {
        let (mut one, mut two, there) = self::pair().await;
        within(there.send(Note { n: round })).await.unwrap();
        let here = two.event(|event| match event {
            SessionEvent::Connected { connection, .. } => Some(connection),
            _ => None,
        });
        let here = here.await;
        let start = Arc::new(std::sync::Barrier::new(3));
        #[allow(clippy::disallowed_methods)] // Threads are what is tested.
        let threads: Vec<_> = [there.clone(), there.clone(), here]
            .into_iter()
            .enumerate()
            .map(|(at, connection)| {
                let start = start.clone();
                std::thread::spawn(move || {
                    start.wait();
                    match (at as u64 + round) % 2 {
                        0 => drop(connection.close()),
                        _ => connection.abort(),
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        within(there.ended()).await;
        one.end().await;
        two.end().await;
        within(futures::future::join(one.messenger.shutdown(), two.messenger.shutdown())).await;
        let ended = |seen: &Seen| matches!(seen, Seen::Event(SessionEvent::Ended { .. }));
        assert!(!one.rest().iter().any(ended) && !two.rest().iter().any(ended), "round {round}");
    }
}
