//! A peer away for long and a sender at full speed: `send` waits at the limit, memory stays within
//! the formula, and all of it arrives after the return (S2, S7).
//!
//! One test, since it measures the whole process.

mod support;

use std::cell::Cell;
use std::rc::Rc;

use stellate_actors::handle::SessionHandle;
use stellate_actors::node::NodeConfig;
use stellate_protocol::limits::Limits;
use stellate_protocol::policy::Policy;
use stellate_protocol::{Class, EntityName};
use support::chaos::Chaos;
use support::{TestNode, number_of, parcel, quick, quick_limits, raw, scale, send, until, within};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// What the formula does not count: the allocator keeps what was freed, and each message has a
/// place in a queue (some 200 B) beside its bytes.
const SLACK: u64 = 12 * MIB;
/// Buffers of the two ends of a link and of the proxy between them, two links a way while one goes.
const LINKS: u64 = 4 * MIB;

/// Resident memory of this process.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a resident size");
    let kib = line.split_whitespace().nth(1).expect("a number");
    kib.parse::<u64>().expect("a number") * KIB
}

/// Limits whose formula is small: what is never sent here takes no part.
fn limits() -> Limits {
    Limits { front_max: 4 * KIB as u32, data_max: 64 * KIB as u32, ..quick_limits() }
}

fn node(number: u64) -> NodeConfig {
    let mut config = quick(EntityName::osd(number), number.into(), Policy::lossless_peer());
    config.limits = limits();
    config
}

/// The parts of the formula that this test fills: one class, eager messages.
fn one_way() -> u64 {
    let limits = limits();
    let message = u64::from(limits.front_max) + u64::from(limits.data_max);
    let out = limits.outbox_bytes + limits.outbox_bytes / 16 + message;
    out + limits.window_bytes + message
}

async fn send_all(handle: SessionHandle, count: u64, len: usize, sent: Rc<Cell<u64>>) {
    for number in 0..count {
        // Bytes of its own, so that they count.
        let data = vec![number as u8; len];
        send(&handle, Class::Normal, parcel(&number.to_le_bytes(), data)).await;
        sent.set(number + 1);
    }
}

#[actix_rt::test]
async fn s7_a_peer_away_for_long_and_a_sender_at_full_speed() {
    away(64, scale(40_000, 2_000_000)).await;
    away(4 * KIB as usize, scale(20_000, 400_000)).await;
}

async fn away(len: usize, count: u64) {
    let mut a = TestNode::start(node(1)).await;
    let mut b = TestNode::start(node(2)).await;
    let sockets = [&a, &b].map(|node| raw::at(node).parse().expect("a socket address"));
    let chaos = Chaos::start(sockets).await;
    let there = a.node.connect(EntityName::osd(2), vec![chaos.front_of(1)]).expect("connects");
    a.connected().await;
    b.connected().await;
    chaos.set_away(true);
    until("the link to go", || there.shared().snapshot().counters.links_lost > 0).await;
    let before = resident();
    let sent = Rc::new(Cell::new(0));
    let sending = actix_rt::spawn(send_all(there.clone(), count, len, sent.clone()));
    let (messages, bytes) = (u64::from(limits().outbox_messages), limits().outbox_bytes);
    let fits = messages.min(bytes / (8 + len as u64));
    until("the outbox to be full", || sent.get() >= fits).await;
    // Long is many dials here: nothing grows with them.
    let dials = || there.shared().snapshot().counters.dials;
    let first = dials();
    let mut most = resident();
    until("many dials", || {
        most = most.max(resident());
        dials() > first + scale(40, 2_000)
    })
    .await;
    assert_eq!(sent.get(), fits, "S7: send waits");
    assert_eq!(there.shared().outbox().0, fits);
    let grown = most.saturating_sub(before);
    println!("{len} B: {fits} accepted while away, {} KiB more resident", grown / KIB);
    assert!(grown <= fits * (8 + len as u64) + SLACK, "S7: {grown} bytes more");
    chaos.set_away(false);
    for number in 0..count {
        let got = b.next_parcel().await;
        assert_eq!(number_of(&got), number, "S1, S2");
        assert!(got.data().len() == len && got.data().iter().all(|byte| *byte == number as u8));
        if number % 512 == 0 {
            most = most.max(resident());
        }
    }
    within("all to be sent", sending).await.expect("sent");
    let grown = most.saturating_sub(before);
    println!("{len} B: {count} in all, {} KiB more resident at most", grown / KIB);
    assert!(grown <= one_way() + LINKS + SLACK, "S7: {grown} bytes more");
    let counters = there.shared().snapshot().counters;
    assert_eq!(counters.ended, 0);
    for node in [a, b] {
        node.shutdown().await;
    }
}
