//! Sessions over a real fabric, with real faults: cables, killed processes, a change of transports.
//!
//! `tests/rdma-guest.sh` runs these, over soft RoCE, soft iWARP and rsockets. `STELLATE_FABRIC` is
//! where to listen, say `rdma://10.77.0.2:0`; `STELLATE_CABLE` names the network device under it, and
//! `STELLATE_HOSTS` the script whose `down` and `up` pull and plug it.
#![cfg(any(feature = "rdma", feature = "rsockets"))]
#![allow(clippy::unwrap_used)] // Helpers are outside of `#[test]` functions.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use stellate::prelude::*;
use tokio::time::{Instant, sleep, timeout};

/// Sizes of data in turn: inline, eager, pulled.
const SIZES: [usize; 4] = [16, 3000, 20_000, 150_000];

/// Emulation is ten to thirty times slower, and the machine below it is busy.
const PATIENCE: Duration = Duration::from_secs(200);

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Note(u64);

impl Message for Note {
    const TYPE: MessageType = MessageType::new(0x0320);
    type Reply = ();
}

/// Reads notes in order, each once and whole.
struct Reader(Arc<AtomicU64>);

impl Actor for Reader {
    type Context = Context<Self>;
}

impl Handler<Incoming<Note>> for Reader {
    type Result = ();

    fn handle(&mut self, note: Incoming<Note>, _: &mut Self::Context) {
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        assert_eq!(note.0, before, "S1, S2: in order, once");
        assert_eq!(note.data, data(note.0), "whole");
    }
}

fn data(n: u64) -> Vec<u8> {
    let size = SIZES[n as usize % SIZES.len()];
    (0..size).map(|at| (at as u64 * 7 + n) as u8).collect()
}

fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} says on what to run: see the module"))
}

fn limits() -> Limits {
    Limits {
        heartbeat_every: Duration::from_secs(1),
        heartbeat_deadline: Duration::from_secs(5),
        backoff_min: Duration::from_millis(20),
        backoff_max: Duration::from_millis(500),
        ..Limits::default()
    }
}

struct Side {
    messenger: Messenger,
    read: Arc<AtomicU64>,
}

impl Side {
    async fn new(number: u64, bind: &[&str]) -> Self {
        let builder = Messenger::builder(EntityName::osd(number)).limits(limits()).arbiters(0);
        let messenger = builder.bind(bind.to_vec()).build().await.unwrap();
        let read = Arc::new(AtomicU64::new(0));
        let count = read.clone();
        messenger
            .supervise("reader", move || Reader(count.clone()), Restart::default())
            .handle::<Note>()
            .start()
            .unwrap();
        messenger.ready();
        Self { messenger, read }
    }

    async fn has_read(&self, notes: u64) {
        while self.read.load(Ordering::Relaxed) != notes {
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn has_begun(&self, notes: u64) {
        until("some notes", || self.read.load(Ordering::Relaxed) >= notes).await;
    }

    fn address(&self, scheme: &str) -> Address {
        let all = self.messenger.local_addresses();
        all.into_iter().find(|address| address.scheme() == scheme).unwrap()
    }
}

async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let waiting = async {
        while !so() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never came: {what}"));
}

/// Says what it waits for if that never comes.
async fn all_read(side: &Side, notes: u64, there: &Connection) {
    let stuck = timeout(PATIENCE, side.has_read(notes)).await.is_err();
    let read = side.read.load(Ordering::Relaxed);
    assert!(!stuck, "{read} of {notes} read: {:?}, {:?}", there.why(), there.counters());
}

async fn send(there: &Connection, notes: std::ops::Range<u64>) {
    for n in notes {
        timeout(PATIENCE, there.send(Note(n).with(data(n)))).await.expect("room").unwrap();
    }
}

/// Pulls the cable, or plugs it.
fn cable(verb: &str) {
    let script = format!(". {}; {verb} {}", setting("STELLATE_HOSTS"), setting("STELLATE_CABLE"));
    assert!(Command::new("bash").args(["-c", &script]).status().unwrap().success(), "{script}");
}

fn fabric() -> String {
    setting("STELLATE_FABRIC")
}

fn scheme(address: &str) -> &str {
    address.split(':').next().unwrap()
}

#[actix_rt::test]
#[ignore = "needs an RDMA device"]
async fn s2_s9_a_session_survives_its_cable() {
    let fabric = fabric();
    let two = Side::new(2, &[&fabric]).await;
    let one = Side::new(1, &[]).await;
    let there = one.messenger.connect(EntityName::osd(2), two.address(scheme(&fabric))).unwrap();
    let mut sent = 0;
    for _round in 0..3 {
        send(&there, sent..sent + 20).await;
        two.has_begun(sent + 1).await;
        cable("down");
        send(&there, sent + 20..sent + 40).await;
        until("the loss", || !there.is_up()).await;
        cable("up");
        sent += 60;
        send(&there, sent - 20..sent).await;
        all_read(&two, sent, &there).await;
    }
    assert!(there.counters().links_lost >= 3, "{:?}", there.counters());
    assert_eq!(there.counters().ended, 0);
}

/// TCP, RDMA and TCP again under a loaded session.
#[actix_rt::test]
#[ignore = "needs an RDMA device"]
async fn s1_s2_a_loaded_session_moves_to_rdma_and_back() {
    let fabric = fabric();
    let two = Side::new(2, &["tcp://127.0.0.1:0", &fabric]).await;
    let one = Side::new(1, &[]).await;
    let (tcp, rdma) = (two.address("tcp"), two.address(scheme(&fabric)));
    let there = one.messenger.connect(EntityName::osd(2), tcp.clone()).unwrap();
    // Each move is in the middle of what was sent: taken, and not all read.
    send(&there, 0..40).await;
    two.has_begun(1).await;
    there.readdress(rdma.clone()).unwrap();
    send(&there, 40..80).await;
    two.has_begun(41).await;
    there.readdress(tcp.clone()).unwrap();
    send(&there, 80..120).await;
    all_read(&two, 120, &there).await;
    let resumed = there.counters().resumes_sent;
    assert!(resumed >= 2, "both moves were resumes: {:?}", there.counters());
    // A dead address first: the next in the list is taken.
    let dead: Address =
        format!("{}:9", rdma.to_string().rsplit_once(':').unwrap().0).parse().unwrap();
    there.readdress([dead, tcp]).unwrap();
    send(&there, 120..140).await;
    all_read(&two, 140, &there).await;
    assert_eq!(there.counters().ended, 0);
}

/// A messenger in another process, until it is killed.
struct Peer {
    child: Child,
    at: Address,
}

impl Peer {
    fn start() -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "peer_process", "--ignored", "--nocapture"]);
        let mut child = command.env("STELLATE_PEER", "1").stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let said = lines
            .map(Result::unwrap)
            .find_map(|line| line.split_once("listens ").map(|(_, at)| at.to_owned()));
        let at = said.expect("it says where it listens").parse().unwrap();
        Self { child, at }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Not a test: the process that the one below kills.
#[actix_rt::test]
#[ignore = "started by another test"]
async fn peer_process() {
    if std::env::var_os("STELLATE_PEER").is_none() {
        return;
    }
    let fabric = fabric();
    let side = Side::new(2, &[&fabric]).await;
    println!("listens {}", side.address(scheme(&fabric)));
    sleep(PATIENCE * 2).await;
}

/// Once with its cable in, when its kernel says goodbye for it, and once with the cable out, when
/// nobody does.
#[actix_rt::test]
#[ignore = "needs an RDMA device"]
async fn s9_a_killed_peer_is_found_within_the_deadline() {
    for pulled in [false, true] {
        let mut peer = Peer::start();
        let one = Side::new(1, &[]).await;
        let there = one.messenger.connect(EntityName::osd(2), peer.at.clone()).unwrap();
        send(&there, 0..8).await;
        until("it is up", || there.is_up()).await;
        if pulled {
            cable("down");
        }
        peer.kill();
        let killed = Instant::now();
        until("the loss", || there.counters().links_lost > 0 || !there.is_up()).await;
        let took = killed.elapsed();
        println!("cable {}: found after {took:?}", if pulled { "out" } else { "in" });
        // Silence is noticed at a heartbeat of ours; a late timer of ours is not the peer's (S9).
        let deadline = limits().heartbeat_deadline + limits().heartbeat_every;
        let stalls = there.counters().local_stalls as u32;
        let slack = Duration::from_secs(3);
        assert!(took <= deadline * (1 + stalls) + slack, "S9: {took:?}, {stalls} stalls");
        if pulled {
            cable("up");
        }
        there.abort();
    }
}

/// What listening on RDMA is answered with here.
#[cfg(all(feature = "rdma", feature = "rsockets"))]
async fn refusal(at: &str) -> String {
    let builder = Messenger::builder(EntityName::osd(1)).bind(at).arbiters(0);
    builder.build().await.expect_err("there is nothing to listen with").to_string()
}

/// On a machine without RDMA: what runs everywhere.
#[cfg(all(feature = "rdma", feature = "rsockets"))]
#[actix_rt::test]
async fn without_rdma_it_says_what_is_missing_and_what_to_do() {
    if std::path::Path::new("/dev/infiniband/rdma_cm").exists() {
        return;
    }
    for at in ["rdma://127.0.0.1:0", "rsocket://127.0.0.1:0"] {
        let said = refusal(at).await;
        assert!(said.contains("modprobe rdma_ucm"), "{said}");
    }
    // The messenger is as good as any on TCP, and the dial fails by itself.
    let one = Side::new(1, &["tcp://127.0.0.1:0"]).await;
    let there = one.messenger.connect(EntityName::osd(2), "rdma://127.0.0.1:6800").unwrap();
    until("the dial", || there.counters().dials_failed > 0).await;
    let why = there.why().map(|waiting| format!("{waiting:?}")).unwrap_or_default();
    println!("{why}");
    there.abort();
}

/// In the guest, which takes things away: `STELLATE_EXPECT` is what the error has to say.
#[cfg(all(feature = "rdma", feature = "rsockets"))]
#[actix_rt::test]
#[ignore = "needs a machine that was broken on purpose"]
async fn an_error_says_what_and_what_to_do() {
    let Ok(expected) = std::env::var("STELLATE_EXPECT") else { return };
    let said = refusal(&fabric()).await;
    println!("{said}");
    assert!(said.contains(&expected), "{said}");
}
