//! Links cut at any byte, both ways at once, with everything in flight: S1, S2.

mod support;

use std::sync::Arc;

use bytes::Bytes;
use stellate_actors::handle::SessionHandle;
use stellate_protocol::policy::Policy;
use stellate_protocol::{Class, EntityName, Parcel};
use stellate_transport::tcp::ByteCut;
use stellate_transport::{Tcp, TcpOptions};
use support::{Draw, TestNode, number_of, parcel, quick, scale, send, within};

/// What message `number` carries: small ones mostly, some that fill a slot, some that are pulled.
fn message(number: u64, body: &Bytes) -> (Class, Parcel) {
    let mut draw = Draw(number);
    let class = Class::ALL[draw.below(4) as usize];
    let len = match draw.below(1000) {
        0..900 => draw.below(200),
        900..990 => draw.below(8_500),
        990..999 => draw.below(40_000),
        _ => draw.below(300_000),
    } as usize;
    let from = draw.below((body.len() - len) as u64) as usize;
    let front = number.to_le_bytes();
    (class, parcel(&front, body.slice(from..from + len)))
}

async fn send_all(handle: SessionHandle, count: u64, body: Bytes) {
    for number in 0..count {
        let (class, message) = message(number, &body);
        send(&handle, class, message).await;
    }
}

/// Takes all, each once, in order within its class, unchanged.
async fn take_all(node: &mut TestNode, count: u64, body: &Bytes, mut progress: impl FnMut(u64)) {
    let mut next = [0u64; Class::COUNT];
    for taken in 0..count {
        let (arrived, got) = node.next_arrived().await;
        let number = number_of(&got);
        let (class, expected) = message(number, body);
        assert_eq!(arrived.class(), class);
        let place = &mut next[class.index()];
        while message(*place, body).0 != class {
            *place += 1;
        }
        assert_eq!(number, *place, "S1, S2: the next of its class");
        *place += 1;
        assert!(got.data() == expected.data(), "content");
        progress(taken);
    }
}

#[actix_rt::test]
async fn s1_s2_through_cuts_at_any_byte() {
    cut_often(0).await;
}

#[actix_rt::test]
async fn s1_s2_through_cuts_at_any_byte_on_several_threads() {
    cut_often(2).await;
}

async fn cut_often(arbiters: usize) {
    let (count, cuts) = (scale(10_000, 500_000), scale(100, 1_000));
    let body: Bytes = {
        let mut draw = Draw(7);
        (0..400_000).map(|_| draw.next() as u8).collect::<Vec<_>>().into()
    };
    let knives = [ByteCut::disarmed(), ByteCut::disarmed()];
    let start = |name: EntityName, instance, knife: &ByteCut| {
        let mut config = quick(name, instance, Policy::lossless_peer());
        config.arbiters = arbiters;
        config.transports = vec![Arc::new(Tcp::with(TcpOptions {
            cut: Some(knife.clone()),
            ..TcpOptions::default()
        }))];
        TestNode::start(config)
    };
    let mut a = start(EntityName::osd(1), 1, &knives[0]).await;
    let mut b = start(EntityName::osd(2), 2, &knives[1]).await;
    let there = a.dial(&b);
    let back = b.connected().await;
    let sending = [there.clone(), back.clone()]
        .map(|handle| actix_rt::spawn(send_all(handle, count, body.clone())));
    let mut draw = Draw(1);
    let mut armed = 0;
    // A cut every so many messages, on either side, a few bytes or a few hundred thousand on.
    let cut = |taken: u64| {
        let quiet = knives.iter().all(|knife| !knife.is_armed());
        if quiet && armed < cuts && taken * cuts >= armed * count {
            armed += 1;
            let range = [100, 5_000, 300_000][draw.below(3) as usize];
            knives[draw.below(2) as usize].arm(1 + draw.below(range));
        }
    };
    futures::join!(take_all(&mut a, count, &body, |_| {}), take_all(&mut b, count, &body, cut),);
    for task in sending {
        within("all to be sent", task).await.expect("sent");
    }
    let (left, right) = (there.shared().snapshot(), back.shared().snapshot());
    let lost = left.counters.links_lost.max(right.counters.links_lost);
    // A cut far on may find no bytes any more.
    assert!(armed >= 10 && lost >= armed / 2, "{lost} links were lost for {armed} cuts");
    assert_eq!(left.counters.ended + right.counters.ended, 0);
    for node in [a, b] {
        node.shutdown().await;
    }
}
