//! A slow handler and one that blocks its thread, for a minute, against senders at full speed: the
//! senders wait, memory stays within the formula, others are served and no link is lost (S7, S9).
//!
//! One test, since it measures the whole process. Two seconds each; with `STELLATE_LONG` a minute.
#![allow(clippy::unwrap_used)] // Helpers are outside of `#[test]` functions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix::AtomicResponse;
use actix::prelude::*;
use stellate::prelude::{
    Body as _, Class, Connection, Deserialize, EntityName, Incoming, Limits, MessageType,
    Messenger, Placement, Restart, Serialize,
};
use tokio::time::Instant;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
/// Data of one message.
const BODY: usize = 4_000;
/// What one message takes of its handler's time.
const WORK: Duration = Duration::from_millis(10);
/// What the formula does not count: what the allocator keeps, a place in a queue for each message,
/// the threads of the actors.
const SLACK: u64 = 12 * MIB;
/// Buffers of both ends of a link.
const LINKS: u64 = 2 * MIB;

macro_rules! message {
    ($name:ident, $number:literal, $reply:ty) => {
        #[derive(Debug, Clone, Serialize, Deserialize)]
        struct $name(u64);

        impl stellate::prelude::Message for $name {
            const TYPE: MessageType = MessageType::new($number);
            type Reply = $reply;
        }
    };
}

message!(Slow, 0x0301, ());
message!(Blocking, 0x0302, ());
message!(Ping, 0x0303, u64);

/// Handles with so much work, and checks the order.
struct Worker(Arc<AtomicU64>);

impl Worker {
    fn book(&self, number: u64) {
        assert_eq!(self.0.fetch_add(1, Ordering::SeqCst), number, "S1, S2");
    }
}

impl Actor for Worker {
    type Context = Context<Self>;
}

impl Handler<Incoming<Slow>> for Worker {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, slow: Incoming<Slow>, _: &mut Self::Context) -> Self::Result {
        self.book(slow.0);
        let work = async move {
            tokio::time::sleep(WORK).await;
            drop(slow);
        };
        AtomicResponse::new(Box::pin(work.into_actor(self)))
    }
}

impl Handler<Incoming<Blocking>> for Worker {
    type Result = ();

    fn handle(&mut self, blocking: Incoming<Blocking>, _: &mut Self::Context) {
        self.book(blocking.0);
        std::thread::sleep(WORK);
    }
}

struct Pong;

impl Actor for Pong {
    type Context = Context<Self>;
}

impl Handler<Incoming<Ping>> for Pong {
    type Result = ();

    fn handle(&mut self, ping: Incoming<Ping>, _: &mut Self::Context) {
        let number = ping.0;
        ping.reply(number);
    }
}

/// Limits whose formula is small: what is never sent here takes no part.
fn limits() -> Limits {
    Limits {
        front_max: 4 * KIB as u32,
        data_max: 64 * KIB as u32,
        outbox_bytes: 8 * MIB,
        window_bytes: 2 * MIB,
        heartbeat_every: Duration::from_millis(500),
        heartbeat_deadline: Duration::from_secs(5),
        ..Limits::default()
    }
}

/// The parts of the formula that this test fills: one class, eager messages.
fn one_way() -> u64 {
    let limits = limits();
    let message = u64::from(limits.front_max) + u64::from(limits.data_max);
    limits.outbox_bytes + limits.outbox_bytes / 16 + limits.window_bytes + 2 * message
}

/// Resident memory of this process.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a resident size");
    let kib = line.split_whitespace().nth(1).expect("a number");
    kib.parse::<u64>().expect("a number") * KIB
}

async fn messenger(number: u64) -> Messenger {
    let builder = Messenger::builder(EntityName::osd(number)).bind("tcp://127.0.0.1:0");
    builder.limits(limits()).arbiters(1).build().await.unwrap()
}

/// Sends as fast as there is room, until the session ends.
async fn flood<M>(there: Connection, make: fn(u64) -> M)
where
    M: stellate::prelude::Message,
{
    for number in 0.. {
        // Bytes of its own, so that they count.
        let message = make(number).with(vec![number as u8; BODY]);
        if there.send(message).await.is_err() {
            break;
        }
    }
}

#[actix_rt::test]
async fn s7_s9_a_slow_and_a_blocking_handler_for_a_minute() {
    let long = std::env::var_os("STELLATE_LONG").is_some();
    let span = Duration::from_secs(if long { 60 } else { 2 });
    stand("slow", span, Slow).await;
    stand("blocking", span, Blocking).await;
}

async fn stand<M>(what: &str, span: Duration, make: fn(u64) -> M)
where
    M: stellate::prelude::Message + 'static,
    Worker: Handler<Incoming<M>>,
{
    let (a, b) = (messenger(1).await, messenger(2).await);
    let handled = Arc::new(AtomicU64::new(0));
    let book = handled.clone();
    b.supervise("worker", move || Worker(book.clone()), Restart::default())
        .handle::<M>()
        .placement(Placement::OwnArbiter)
        .start()
        .unwrap();
    b.supervise("pong", || Pong, Restart::default()).handle::<Ping>().start().unwrap();
    a.ready();
    b.ready();
    let there = a.connect(EntityName::osd(2), b.local_addresses()).unwrap();
    there.request(Ping(0)).await.unwrap();
    let before = resident();
    let sending = actix_rt::spawn(flood(there.clone(), make));
    let start = Instant::now();
    let (mut pings, mut most, mut slowest, mut fullest) = (0, 0, Duration::ZERO, 0);
    while start.elapsed() < span {
        let asked = Instant::now();
        let pong = there.request(Ping(pings).class(Class::Control)).await.unwrap();
        assert_eq!(pong.body, pings);
        slowest = slowest.max(asked.elapsed());
        pings += 1;
        most = most.max(resident());
        fullest = fullest.max(there.outbox().1);
    }
    let grown = most.saturating_sub(before);
    let handled = handled.load(Ordering::SeqCst);
    println!(
        "{what}, {} s: {handled} handled, {} KiB more resident at most ({} KiB by the formula), \
         outbox {} KiB, {pings} pings, slowest {} ms",
        span.as_secs(),
        grown / KIB,
        one_way() / KIB,
        fullest / KIB,
        slowest.as_millis(),
    );
    assert!(handled > 0);
    assert!(fullest <= limits().outbox_bytes * 17 / 16, "S7: {fullest} bytes in the outbox");
    assert!(grown <= one_way() + LINKS + SLACK, "S7: {grown} bytes more");
    assert!(slowest < limits().heartbeat_deadline, "S9: a ping took {slowest:?}");
    for side in [&there, &b.sessions()[0]] {
        assert_eq!(side.counters().links_lost, 0, "S9");
    }
    there.abort();
    sending.await.unwrap();
    a.shutdown().await;
    b.shutdown().await;
}
