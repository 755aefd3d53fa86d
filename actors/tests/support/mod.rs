//! Nodes over TCP on loopback, and inboxes read by hand.
#![allow(dead_code)] // each test file uses its part

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;

use bytes::Bytes;
use stellate_actors::inbox::{Inbox, Item};
use stellate_actors::node::{Node, NodeConfig, Policies};
use stellate_protocol::limits::Limits;
use stellate_protocol::policy::Policy;
use stellate_protocol::{EntityName, Identity, Instance, Parcel};
use stellate_transport::Tcp;

/// The one message type of these tests.
pub(crate) const KIND: u32 = 0x100;

pub(crate) struct TestNode {
    pub(crate) node: Node,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) events: Arc<Inbox>,
    batch: VecDeque<Item>,
    notices: VecDeque<Item>,
}

pub(crate) fn config(name: EntityName, instance: u128, policy: Policy) -> NodeConfig {
    let mut policies = Policies::default();
    policies.others(policy);
    NodeConfig {
        me: Identity {
            name,
            role: None,
            instance: Instance(instance),
            incarnation: None,
        },
        limits: Limits::default(),
        bind: vec!["tcp://127.0.0.1:0".parse().expect("an address")],
        transports: vec![Arc::new(Tcp::new())],
        policies,
        metadata: Bytes::new(),
        arbiters: 0,
        seed: instance as u64,
    }
}

impl TestNode {
    pub(crate) async fn start(config: NodeConfig) -> Self {
        let node = Node::start(config).await.expect("starts");
        let inbox = Inbox::new(1024);
        let events = Inbox::new(16);
        node.router()
            .register(&inbox, &[KIND], false, false)
            .expect("free");
        node.router()
            .register(&events, &[], true, false)
            .expect("free");
        node.ready();
        Self {
            node,
            inbox,
            events,
            batch: VecDeque::new(),
            notices: VecDeque::new(),
        }
    }

    pub(crate) async fn next(&mut self) -> Item {
        while self.batch.is_empty() {
            poll_fn(|cx| self.inbox.poll_take(cx, &mut self.batch, 64)).await;
        }
        self.batch.pop_front().expect("just filled")
    }

    pub(crate) async fn next_parcel(&mut self) -> Parcel {
        loop {
            if let Item::Message(mut arrived) = self.next().await
                && let Some(parcel) = arrived.open()
            {
                return parcel;
            }
        }
    }

    pub(crate) async fn next_event(&mut self) -> Item {
        while self.notices.is_empty() {
            poll_fn(|cx| self.events.poll_take(cx, &mut self.notices, 64)).await;
        }
        self.notices.pop_front().expect("just filled")
    }
}

pub(crate) fn parcel(front: &[u8], data: impl Into<Bytes>) -> Parcel {
    let data = data.into();
    Parcel {
        kind: KIND,
        version: 1,
        compat: 1,
        front: Bytes::copy_from_slice(front),
        data_len: data.len() as u32,
        data,
    }
}
