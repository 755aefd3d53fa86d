//! What an actor keeps of the messages that it is done with costs what `user_held` says, and beyond
//! that what it keeps (S7).
//!
//! One test, since it measures the whole process.
#![allow(clippy::unwrap_used)] // Helpers are outside of `#[test]` functions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix::{Actor, Context, Handler};
use bytes::Bytes;
use stellate::prelude::*;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// Data of a message.
const LEN: u64 = KIB;
/// One in so many is kept: at least one of each buffer of 64 KiB that messages are read into.
const ONE_IN: u64 = 32;
const HELD: u64 = 2 * MIB;
/// Accepted and not acknowledged, at the sender; received and not done, at the receiver.
const MOVING: u64 = MIB + 4 * MIB;
/// Spare buffers of two pools, of the ends of a link, and what the allocator keeps of what was freed.
const SLACK: u64 = 12 * MIB;

#[derive(Serialize, Deserialize)]
struct Put {
    oid: u64,
}

impl Message for Put {
    const TYPE: MessageType = MessageType::new(0x0201);
    type Reply = ();
}

/// Keeps some of what it gets, when its message is long done.
struct Keeper {
    kept: Vec<(u64, Bytes)>,
    seen: Arc<AtomicU64>,
}

impl Actor for Keeper {
    type Context = Context<Self>;
}

impl Handler<Incoming<Put>> for Keeper {
    type Result = ();

    fn handle(&mut self, incoming: Incoming<Put>, _: &mut Self::Context) {
        let oid = incoming.message.oid;
        if oid.is_multiple_of(ONE_IN) {
            self.kept.push((oid, incoming.data.clone()));
        }
        drop(incoming);
        self.seen.fetch_add(1, Ordering::Release);
    }
}

/// Whether all that was kept is what was sent; how many that are.
struct Look;

impl actix::Message for Look {
    type Result = (bool, u64);
}

impl Handler<Look> for Keeper {
    type Result = actix::MessageResult<Look>;

    fn handle(&mut self, _: Look, _: &mut Self::Context) -> Self::Result {
        let whole = |(oid, data): &(u64, Bytes)| {
            data.len() as u64 == LEN && data.iter().all(|byte| *byte == *oid as u8)
        };
        actix::MessageResult((self.kept.iter().all(whole), self.kept.len() as u64))
    }
}

/// Resident memory of this process.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * KIB
}

/// Sends `count` messages to a keeper; how much more memory there is when all are handled, and how
/// many it kept.
async fn keep(count: u64, user_held: u64) -> (u64, u64) {
    let limits = Limits { user_held, outbox_bytes: MIB, ..Limits::default() };
    let build = |number| {
        let builder = Messenger::builder(EntityName::osd(number)).bind("tcp://127.0.0.1:0");
        builder.limits(limits).arbiters(1).build()
    };
    let (one, two) = (build(1).await.unwrap(), build(2).await.unwrap());
    let seen = Arc::new(AtomicU64::new(0));
    let counter = seen.clone();
    let keeper = two
        .supervise(
            "keeper",
            move || Keeper { kept: Vec::new(), seen: counter.clone() },
            Restart::default(),
        )
        .handle::<Put>()
        .start()
        .unwrap();
    one.ready();
    two.ready();
    let there = one.connect(EntityName::osd(2), two.local_addresses()).unwrap();
    // All that is made once is there when the count begins.
    there.request(Put { oid: 1 }.with(vec![1; LEN as usize])).await.unwrap_err();
    let before = resident();
    let mut most = before;
    for oid in 1..=count {
        there.send(Put { oid }.with(vec![oid as u8; LEN as usize])).await.unwrap();
        if oid.is_multiple_of(4096) {
            most = most.max(resident());
        }
    }
    while seen.load(Ordering::Acquire) <= count {
        tokio::task::yield_now().await;
    }
    most = most.max(resident());
    let (whole, kept) = keeper.send(Look).await.unwrap();
    assert!(whole, "S2: what is kept is what was sent");
    one.shutdown().await;
    two.shutdown().await;
    (most - before, kept)
}

/// A user that keeps little of much: it would keep all of the buffers that its messages came in.
#[actix_rt::test]
async fn s7_what_a_hosted_actor_keeps_beyond_its_incoming_stays_within_the_formula() {
    let count = if std::env::var_os("STELLATE_LONG").is_some() { 2_000_000 } else { 100_000 };
    let all = async {
        let (grown, kept) = keep(count, HELD).await;
        println!("{count} messages, {kept} kept: {} KiB more resident", grown / KIB);
        assert_eq!(kept, count / ONE_IN);
        // Each is an allocation of its own, and a place in the keeper's list.
        let formula = HELD + kept * (LEN + 128) + MOVING;
        assert!(grown <= formula + SLACK, "S7: {grown} bytes more, {formula} by the formula");
        // That it can fail: without the limit the same user keeps nearly all that arrived.
        let count = 100_000;
        let (unlimited, kept) = keep(count, u64::MAX).await;
        println!("without a limit, {kept} kept: {} KiB more resident", unlimited / KIB);
        assert!(unlimited > HELD + kept * (LEN + 128) + MOVING + SLACK, "nothing is held");
    };
    tokio::time::timeout(Duration::from_secs(600), all).await.unwrap();
}
