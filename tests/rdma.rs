//! Whole sessions over RDMA, on a NIC in virtual time: they move there and back under load, come
//! back when their endpoint dies or its device goes, and send from leased memory without a copy.
#![allow(clippy::unwrap_used)] // Helpers are outside of `#[test]` functions.

use std::cell::Cell;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stellate::prelude::*;
use stellate::testing::rdma::fake::{FakeNet, Personality};
use stellate::testing::rdma::{PoolOptions, Rdma, RdmaOptions};
use stellate::testing::{Faults, World, virtual_time};

const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const TWO: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));
const TWO_AT: &str = "rdma://10.0.0.2:6800";

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Note(u32);

impl Message for Note {
    const TYPE: MessageType = MessageType::new(0x0321);
    type Reply = u32;
}

/// The data of a message: none, a little, one that is pulled, and one in many pieces.
fn data(n: u32) -> Vec<u8> {
    let len = [0, 700, 60_000, 400_000][n as usize % 4];
    (0..len).map(|at: u32| (at * 7 + n) as u8).collect()
}

#[derive(Default)]
struct Seen {
    read: AtomicU32,
    kept: Mutex<Vec<Bytes>>,
    keep: bool,
}

struct Reader(Arc<Seen>);

impl Actor for Reader {
    type Context = Context<Self>;
}

impl Handler<Incoming<Note>> for Reader {
    type Result = ();

    fn handle(&mut self, note: Incoming<Note>, _: &mut Self::Context) {
        let so_far = self.0.read.fetch_add(1, Ordering::Relaxed);
        assert_eq!(note.0, so_far, "S1, S2: in order, once");
        assert!(note.data == data(so_far), "whole");
        if self.0.keep {
            self.0.kept.lock().unwrap().push(note.data.clone());
        }
        note.reply(so_far);
    }
}

/// osd.1 and osd.2, each on the simulated network and on an RDMA fabric.
struct Pair {
    fake: FakeNet,
    one: Messenger,
    two: Messenger,
    seen: Arc<Seen>,
    /// What osd.1 was sent.
    back: Arc<Seen>,
    rdma: [Rdma; 2],
}

async fn node(builder: MessengerBuilder, seen: &Arc<Seen>) -> Messenger {
    let messenger = builder.build().await.unwrap();
    let seen = seen.clone();
    let make = move || Reader(seen.clone());
    messenger.supervise("reader", make, Restart::default()).handle::<Note>().start().unwrap();
    messenger.ready();
    messenger
}

async fn pair(world: &World, personality: Personality, keep: bool) -> Pair {
    pair_with(world, personality, keep, RdmaOptions::default()).await
}

async fn pair_with(
    world: &World,
    personality: Personality,
    keep: bool,
    options: RdmaOptions,
) -> Pair {
    let fake = FakeNet::new(5);
    let rdma = [ONE, TWO].map(|ip| Rdma::with(fake.host(ip, personality), options.clone()));
    let seen = Arc::new(Seen { keep, ..Seen::default() });
    let with = |number, rdma: &Rdma, at: &str| {
        let builder = world.messenger(EntityName::osd(number)).transport(Arc::new(rdma.clone()));
        builder.bind(at).policy(EntityKind::OSD, Policy::lossless_peer())
    };
    let back = Arc::new(Seen::default());
    let one = node(with(1, &rdma[0], "rdma://10.0.0.1:6800"), &back).await;
    let two = node(with(2, &rdma[1], TWO_AT), &seen).await;
    Pair { fake, one, two, seen, back, rdma }
}

impl Pair {
    fn read(&self) -> u32 {
        self.seen.read.load(Ordering::Relaxed)
    }

    /// Sends the notes from `from` on, as fast as there is room.
    fn send(&self, connection: &Connection, from: u32, count: u32) {
        let connection = connection.clone();
        actix::spawn(async move {
            for n in from..from + count {
                connection.send(Note(n).with(Bytes::from(data(n)))).await.unwrap();
            }
        });
    }

    fn links(&self) -> usize {
        self.rdma.iter().map(|rdma| rdma.in_use().queue_pairs).sum()
    }

    /// Both are shut down, and nothing is left on the fabric.
    async fn end(self) {
        self.one.shutdown().await;
        self.two.shutdown().await;
        self.seen.kept.lock().unwrap().clear();
        drop(self.rdma);
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(self.fake.violations(), []);
        for host in [ONE, TWO] {
            let counts = self.fake.counts(host);
            assert_eq!((counts.queue_pairs, counts.identifiers), (0, 0));
            assert_eq!((counts.regions, counts.exports), (0, 0));
        }
    }
}

#[test]
fn s2_a_loaded_session_moves_to_rdma_and_back() {
    for personality in [Personality::ROCE, Personality::IWARP] {
        virtual_time(1, async |world| {
            let pair = pair(&world, personality, false).await;
            let there = pair.one.connect(EntityName::osd(2), "sim://osd.2").unwrap();
            pair.send(&there, 0, 200);
            world.until("some", || pair.read() > 40).await;
            there.readdress(TWO_AT).unwrap();
            world.until("a queue pair at each side", || pair.links() == 2).await;
            let then = pair.read();
            world.until("more", || pair.read() > then + 60).await;
            there.readdress("sim://osd.2").unwrap();
            world.until("all", || pair.read() == 200).await;
            world.until("no queue pair", || pair.links() == 0).await;
            let counters = there.counters();
            assert_eq!((counters.ended, counters.resumes_sent), (0, 2));
            pair.end().await;
        });
    }
}

#[test]
fn another_address_is_used_when_the_rdma_device_goes() {
    virtual_time(2, async |world| {
        let pair = pair(&world, Personality::ROCE, false).await;
        let there = pair.one.connect(EntityName::osd(2), [TWO_AT, "sim://osd.2"]).unwrap();
        pair.send(&there, 0, 100);
        world.until("some over RDMA", || pair.read() > 20 && pair.links() == 2).await;
        pair.fake.remove_device(TWO);
        world.until("all, over the other", || pair.read() == 100).await;
        assert_eq!(there.counters().ended, 0);
        pair.end().await;
    });
}

#[test]
fn v1_when_the_endpoint_dies_its_links_fault_and_sessions_come_back_through_another() {
    virtual_time(3, async |world| {
        let pair = pair(&world, Personality::IWARP, false).await;
        let there = pair.one.connect(EntityName::osd(2), TWO_AT).unwrap();
        pair.send(&there, 0, 160);
        let mut lost = 0;
        for (at, whose) in [(20, &pair.one), (60, &pair.two), (100, &pair.one)] {
            world.until("some more", || pair.read() > at).await;
            whose.tree().panic("endpoint").unwrap();
            lost += 1;
            world.until("the loss", || there.counters().links_lost == lost).await;
        }
        world.until("all", || pair.read() == 160).await;
        let counters = there.counters();
        assert_eq!((counters.ended, counters.links_lost), (0, lost));
        let restarted = |messenger: &Messenger| messenger.tree().history_of("endpoint").len();
        assert!(restarted(&pair.one) > restarted(&pair.two));
        pair.end().await;
    });
}

/// What `asked` came to, and the most memory of its sender that copies lay in meanwhile.
async fn copied<T>(world: &World, pair: &Pair, asked: impl Future<Output = T>) -> (T, usize) {
    let most = Cell::new(0);
    let look = async {
        loop {
            world.sleep(Duration::from_millis(1)).await;
            most.set(pair.rdma[0].in_use().pools["fake0"].passing.max(most.get()));
        }
    };
    let (asked, look) = (std::pin::pin!(asked), std::pin::pin!(look));
    match futures::future::select(asked, look).await {
        futures::future::Either::Left((done, _)) => (done, most.get()),
        futures::future::Either::Right((never, _)) => never,
    }
}

#[test]
fn leased_data_goes_out_where_it_lies_and_is_kept_where_it_came() {
    virtual_time(4, async |world| {
        let pair = pair(&world, Personality::ROCE, true).await;
        assert!(pair.one.lease(100).is_registered(), "who listens has its device open");
        let there = pair.one.connect(EntityName::osd(2), TWO_AT).unwrap();
        let reply = there.request(Note(0)).await.unwrap();
        assert_eq!(reply.body, 0);
        let kept = |side: usize| pair.rdma[side].in_use().pools["fake0"].kept;
        for n in 1..4 {
            let data = data(n);
            let mut lease = pair.one.lease(data.len());
            assert!(lease.is_registered());
            lease.copy_from_slice(&data);
            let asked = there.request(Note(n).with(lease.freeze()));
            let (reply, copied) = copied(&world, &pair, asked.into_future()).await;
            assert_eq!((reply.unwrap().body, copied), (n, 0), "sent from where it lies");
        }
        // Two were larger than a slot; the user keeps them in pool memory.
        assert_eq!(kept(1), 64 * 1024 + 512 * 1024);
        world.until("the leases are free", || kept(0) == 0).await;
        pair.seen.kept.lock().unwrap().clear();
        // What is the user's own is copied into memory that passes.
        for n in 4..7 {
            let asked = there.request(Note(n).with(data(n)));
            let (reply, copied) = copied(&world, &pair, asked.into_future()).await;
            assert_eq!((reply.unwrap().body, copied > 0), (n, n == 6));
        }
        pair.seen.kept.lock().unwrap().clear();
        world.until("the kept is free", || kept(1) == 0).await;
        pair.end().await;
    });
}

/// Both hosts are full of what the other is to read, and have nowhere to read it to but what is kept
/// for that.
#[test]
fn s8_a_session_that_is_loaded_both_ways_needs_no_more_than_the_least_memory() {
    virtual_time(7, async |world| {
        let pool = PoolOptions { kept_max: 0, passing_max: 0, ..PoolOptions::default() };
        let options = RdmaOptions { pool, ..RdmaOptions::default() };
        let pair = pair_with(&world, Personality::IWARP, false, options).await;
        let there = pair.one.connect(EntityName::osd(2), TWO_AT).unwrap();
        pair.send(&there, 0, 200);
        world.until("it is up", || pair.read() > 0).await;
        let back = pair.two.connect(EntityName::osd(1), "rdma://10.0.0.1:6800").unwrap();
        pair.send(&back, 0, 200);
        let begin = world.elapsed();
        let read = |seen: &Seen| seen.read.load(Ordering::Relaxed);
        world.until("all", || read(&pair.seen) == 200 && read(&pair.back) == 200).await;
        assert!(world.elapsed() - begin < Limits::default().heartbeat_every, "at once");
        let lost = [&there, &back].map(|connection| connection.counters().links_lost);
        assert_eq!(lost, [0, 0], "S9: no side took the other for dead");
        pair.end().await;
    });
}

#[test]
fn a_silent_peer_is_found_by_heartbeat() {
    virtual_time(5, async |world| {
        let pair = pair(&world, Personality::ROCE, false).await;
        let there = pair.one.connect(EntityName::osd(2), TWO_AT).unwrap();
        pair.send(&there, 0, 5);
        world.until("all", || pair.read() == 5).await;
        let before = world.elapsed();
        pair.fake.partition(ONE, TWO, true);
        world.until("the loss", || there.counters().links_lost == 1).await;
        let deadline = Limits::default().heartbeat_deadline + Duration::from_secs(6);
        assert!(world.elapsed() - before < deadline, "S9");
        pair.fake.partition(ONE, TWO, false);
        pair.send(&there, 5, 20);
        world.until("the rest", || pair.read() == 25).await;
        pair.end().await;
    });
}

/// The fault plan of tests strikes frames on RDMA as anywhere.
#[test]
fn faults_at_frame_edges_lose_nothing() {
    virtual_time(6, async |world| {
        let fake = FakeNet::new(5);
        let seen = Arc::new(Seen::default());
        let faults = Faults::new();
        let mut nodes = Vec::new();
        for (number, ip, at) in [(1, ONE, "rdma://10.0.0.1:6800"), (2, TWO, TWO_AT)] {
            let rdma = Rdma::on(fake.host(ip, Personality::IWARP));
            let builder = world.messenger(EntityName::osd(number));
            let builder = builder.transport(faults.wrap(Arc::new(rdma))).bind(at);
            let mine = if number == 2 { seen.clone() } else { Arc::default() };
            nodes.push(node(builder.policy(EntityKind::OSD, Policy::lossless_peer()), &mine).await);
        }
        let there = nodes[0].connect(EntityName::osd(2), TWO_AT).unwrap();
        use stellate::testing::{Direction, Edge, Fault};
        for (edge, nth) in [(Edge::Message, 5), (Edge::Chunk, 3), (Edge::Pull, 4), (Edge::Ack, 2)] {
            faults.on(edge, Direction::Sent, nth, Fault::Fail);
        }
        for n in 0..60 {
            there.send(Note(n).with(Bytes::from(data(n)))).await.unwrap();
        }
        let read = || seen.read.load(Ordering::Relaxed);
        world.until("all", || read() == 60).await;
        assert!(there.counters().links_lost >= 3, "{:?}", there.counters());
        for node in nodes {
            node.shutdown().await;
        }
        assert_eq!(fake.violations(), []);
    });
}
