//! Messages between two nodes over TCP: order, completeness, large bodies, local delivery.

mod support;

use bytes::Bytes;
use stellate_protocol::policy::Policy;
use stellate_protocol::{Class, EntityName};
use support::{TestNode, config, parcel};

#[actix_rt::test]
async fn s1_s2_messages_arrive_in_order_and_once() {
    let sender = TestNode::start(config(EntityName::osd(1), 1, Policy::lossless_peer())).await;
    let mut receiver =
        TestNode::start(config(EntityName::osd(2), 2, Policy::lossless_peer())).await;
    let to = receiver.node.local_addresses();
    let handle = sender.node.connect(EntityName::osd(2), to).expect("connects");
    const COUNT: u64 = 20_000;
    let sending = actix_rt::spawn({
        let handle = handle.clone();
        async move {
            for number in 0..COUNT {
                let message =
                    parcel(&number.to_le_bytes(), Bytes::from(vec![7; (number % 3000) as usize]));
                let bytes = (message.front().len() + message.data().len()) as u64;
                let room = handle.reserve(bytes, false).await.expect("open");
                room.submit(Class::Normal, message, stellate_protocol::event::Ask::Nothing)
                    .expect("reserved");
            }
        }
    });
    for number in 0..COUNT {
        let got = receiver.next_parcel().await;
        assert_eq!(got.front()[..], number.to_le_bytes(), "S1");
        assert_eq!(got.data().len(), (number % 3000) as usize);
    }
    sending.await.expect("sends all");
    handle.close();
    handle.ended().await;
    sender.node.shutdown().await;
    receiver.node.shutdown().await;
}

#[actix_rt::test]
async fn large_bodies_are_pulled() {
    let sender = TestNode::start(config(EntityName::osd(1), 1, Policy::lossless_peer())).await;
    let mut receiver =
        TestNode::start(config(EntityName::osd(2), 2, Policy::lossless_peer())).await;
    let to = receiver.node.local_addresses();
    let handle = sender.node.connect(EntityName::osd(2), to).expect("connects");
    let body: Bytes = (0..3_000_000u32).map(|n| (n * 7) as u8).collect::<Vec<u8>>().into();
    for number in 0..5u8 {
        handle.try_send(Class::Bulk, parcel(&[number], body.clone())).expect("room");
    }
    for number in 0..5u8 {
        let got = receiver.next_parcel().await;
        assert_eq!(got.front()[..], [number]);
        assert!(got.data() == body, "content");
    }
    sender.node.shutdown().await;
    receiver.node.shutdown().await;
}

#[actix_rt::test]
async fn a_node_reaches_itself() {
    let mut node = TestNode::start(config(EntityName::osd(1), 1, Policy::lossless_peer())).await;
    let to = node.node.local_addresses();
    let handle = node.node.connect(EntityName::osd(1), to).expect("connects");
    handle.try_send(Class::Normal, parcel(b"me", "data")).expect("room");
    assert_eq!(node.next_parcel().await.front()[..], *b"me");
    node.node.shutdown().await;
}
