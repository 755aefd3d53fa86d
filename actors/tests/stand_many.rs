//! Many sessions and many connections: afterwards there is nothing left of them.
//!
//! One test, since it counts the descriptors of the whole process.

mod support;

use std::sync::Arc;

use stellate_protocol::event::EndCause;
use stellate_protocol::policy::Policy;
use stellate_protocol::{Class, EntityName};
use support::raw::at;
use support::{TestNode, config, number_of, parcel, scale, send, until, within};
use tokio::net::TcpStream;

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("linux").count()
}

fn node(number: u64) -> impl Future<Output = TestNode> {
    let mut config =
        config(EntityName::osd(number), u128::from(number) + 1, Policy::lossless_peer());
    config.limits.handshakes_max = 64;
    config.limits.hello_timeout = std::time::Duration::from_secs(2);
    TestNode::start(config)
}

#[actix_rt::test]
async fn s7_many_come_and_go_and_nothing_stays() {
    // What the runtime itself takes, once.
    node(0).await.shutdown().await;
    let before = descriptors();
    many_sessions(scale(24, 46)).await;
    until("the sessions' descriptors to go", || descriptors() <= before).await;
    many_connections(scale(2_000, 10_000)).await;
    until("the connections' descriptors to go", || descriptors() <= before).await;
}

/// Every node with every other, all dialled from both sides at once.
async fn many_sessions(count: u64) {
    const EACH: u64 = 5;
    let mut nodes = Vec::new();
    for number in 0..count {
        nodes.push(node(number).await);
    }
    let mut handles = Vec::new();
    for here in &nodes {
        for there in &nodes {
            if here.node.me().name != there.node.me().name {
                handles.push(here.dial(there));
            }
        }
    }
    let sending: Vec<_> = handles
        .iter()
        .map(|handle| {
            let handle = handle.clone();
            actix_rt::spawn(async move {
                for number in 0..EACH {
                    send(&handle, Class::Normal, parcel(&number.to_le_bytes(), "data")).await;
                }
            })
        })
        .collect();
    let receiving = nodes.iter_mut().map(|node| async {
        let mut next = std::collections::BTreeMap::new();
        for _ in 0..EACH * (count - 1) {
            let (arrived, got) = node.next_arrived().await;
            let place: &mut u64 = next.entry(arrived.session().key()).or_default();
            assert_eq!(number_of(&got), *place, "S1, S2");
            *place += 1;
        }
    });
    futures::future::join_all(receiving).await;
    for task in sending {
        within("all to be sent", task).await.expect("sent");
    }
    for node in &mut nodes {
        // Races ended in one session with each (S5).
        assert_eq!(node.node.sessions().len() as u64, count - 1);
        assert_eq!(node.ends_now(), Vec::<EndCause>::new());
    }
    let weak: Vec<_> = handles.iter().map(|handle| Arc::downgrade(handle.shared())).collect();
    drop(handles);
    let trees: Vec<_> = nodes.iter().map(|node| node.node.tree().clone()).collect();
    let gone = futures::future::join_all(nodes.into_iter().map(TestNode::shutdown));
    within("all to shut down", gone).await;
    for tree in trees {
        assert_eq!(tree.len(), 0, "{:?}", tree.members(""));
    }
    until("the sessions to be freed", || weak.iter().all(|weak| weak.upgrade().is_none())).await;
}

/// Connections that say nothing and go.
async fn many_connections(count: u64) {
    let victim = node(1).await;
    let to = at(&victim);
    let before = victim.node.tree().len();
    let mut open = std::collections::VecDeque::new();
    for number in 0..count {
        open.push_back(TcpStream::connect(&to).await.expect("connects"));
        if open.len() > 100 {
            open.pop_front();
        }
        if number % 50 == 0 {
            let links = victim.node.tree().members("links").len();
            assert!(links <= 64 + 8, "S7: {links} handshakes");
        }
    }
    let mut good = node(2).await;
    good.dial(&victim);
    good.connected().await;
    good.shutdown().await;
    drop(open);
    until("the links to go", || victim.node.tree().len() == before).await;
    victim.shutdown().await;
}
