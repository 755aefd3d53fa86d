//! Nodes over TCP on loopback, inboxes read by hand, and the waits that tests share.
#![allow(dead_code)] // each test file uses its part

pub(crate) mod chaos;
pub(crate) mod children;
pub(crate) mod raw;

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use stellate_actors::handle::SessionHandle;
use stellate_actors::inbox::{Arrived, Inbox, Item, Notice};
use stellate_actors::node::{Node, NodeConfig, Policies};
use stellate_protocol::event::{Ask, End, EndCause, Event};
use stellate_protocol::limits::Limits;
use stellate_protocol::policy::Policy;
use stellate_protocol::{Class, EntityName, Identity, Instance, Parcel};
use stellate_transport::Tcp;

/// The one message type of these tests.
pub(crate) const KIND: u32 = 0x100;

/// More than any wait of these tests takes on a machine that is busy with other things.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

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
        me: Identity { name, role: None, instance: Instance(instance), incarnation: None },
        limits: Limits::default(),
        bind: vec!["tcp://127.0.0.1:0".parse().expect("an address")],
        transports: vec![Arc::new(Tcp::new())],
        policies,
        metadata: Bytes::new(),
        arbiters: 0,
        seed: instance as u64,
        drift_ppm: 0,
        coverage: None,
        scribe: None,
    }
}

/// As [`config`], with limits that make faults show soon.
pub(crate) fn quick(name: EntityName, instance: u128, policy: Policy) -> NodeConfig {
    let mut config = config(name, instance, policy);
    config.limits = quick_limits();
    config
}

pub(crate) fn quick_limits() -> Limits {
    Limits {
        heartbeat_every: Duration::from_millis(200),
        heartbeat_deadline: Duration::from_secs(2),
        hello_timeout: Duration::from_millis(300),
        backoff_min: Duration::from_millis(5),
        backoff_max: Duration::from_millis(50),
        race_wait: Duration::from_millis(200),
        probe: Duration::from_millis(200),
        drain_max: Duration::from_secs(2),
        ..Limits::default()
    }
}

impl TestNode {
    pub(crate) async fn start(config: NodeConfig) -> Self {
        Self::start_with(config, 1024).await
    }

    /// With an inbox of so many messages a class.
    pub(crate) async fn start_with(config: NodeConfig, inbox_messages: u32) -> Self {
        let node = Node::start(config).await.expect("starts");
        let inbox = Inbox::new(inbox_messages);
        let events = Inbox::new(16);
        node.router().register(&inbox, &[KIND], false, false).expect("free");
        node.router().register(&events, &[], true, false).expect("free");
        node.ready();
        Self { node, inbox, events, batch: VecDeque::new(), notices: VecDeque::new() }
    }

    pub(crate) async fn next(&mut self) -> Item {
        while self.batch.is_empty() {
            let take = poll_fn(|cx| self.inbox.poll_take(cx, &mut self.batch, 64));
            within("a message", take).await;
        }
        self.batch.pop_front().expect("just filled")
    }

    /// The next message, opened.
    pub(crate) async fn next_arrived(&mut self) -> (Arrived, Parcel) {
        loop {
            if let Item::Message(mut arrived) = self.next().await
                && let Some(parcel) = arrived.open()
            {
                return (arrived, parcel);
            }
        }
    }

    pub(crate) async fn next_parcel(&mut self) -> Parcel {
        self.next_arrived().await.1
    }

    pub(crate) async fn next_event(&mut self) -> Item {
        while self.notices.is_empty() {
            let take = poll_fn(|cx| self.events.poll_take(cx, &mut self.notices, 64));
            within("an event", take).await;
        }
        self.notices.pop_front().expect("just filled")
    }

    /// The next event of a session, with that session.
    pub(crate) async fn next_session_event(&mut self) -> (SessionHandle, Event<Parcel>) {
        loop {
            if let Item::Notice(Notice::Event(session, event)) = self.next_event().await {
                return (SessionHandle::new(session), *event);
            }
        }
    }

    /// The next end, and how many other events came before it.
    pub(crate) async fn next_end(&mut self) -> Box<End<Parcel>> {
        loop {
            match self.next_event().await {
                Item::Notice(Notice::Event(_, event)) => {
                    if let Event::Ended(end) = *event {
                        return end;
                    }
                }
                Item::Notice(Notice::Reset { end, .. }) => return end,
                _ => {}
            }
        }
    }

    /// Waits for an event that `wanted` likes.
    pub(crate) async fn event_where(
        &mut self,
        mut wanted: impl FnMut(&Event<Parcel>) -> bool,
    ) -> (SessionHandle, Event<Parcel>) {
        loop {
            let (session, event) = self.next_session_event().await;
            if wanted(&event) {
                return (session, event);
            }
        }
    }

    pub(crate) async fn connected(&mut self) -> SessionHandle {
        let wanted = |event: &Event<Parcel>| matches!(event, Event::Connected { .. });
        self.event_where(wanted).await.0
    }

    /// Takes out the events that are there now.
    pub(crate) fn events_now(&mut self) -> Vec<Item> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        while let Poll::Ready(()) = self.events.poll_take(&mut cx, &mut self.notices, 64) {}
        self.notices.drain(..).collect()
    }

    /// The causes of the ends among the events that are there now.
    pub(crate) fn ends_now(&mut self) -> Vec<EndCause> {
        let ends = self.events_now().into_iter().filter_map(|item| match item {
            Item::Notice(notice) => notice.end_cause(),
            Item::Message(_) => None,
        });
        ends.collect()
    }

    /// Dials `other`.
    pub(crate) fn dial(&self, other: &Self) -> SessionHandle {
        let (name, to) = (other.node.me().name, other.node.local_addresses());
        self.node.connect(name, to).expect("connects")
    }

    pub(crate) async fn shutdown(self) {
        within("shutdown", self.node.shutdown()).await;
    }
}

/// `future`, or a failure that says what was waited for.
pub(crate) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    // The long runs take minutes where the default takes seconds.
    let patience = PATIENCE * scale(1, 10) as u32;
    match tokio::time::timeout(patience, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited too long for {what}"),
    }
}

/// Lets other tasks run until `done`.
pub(crate) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let waiting = async {
        while !done() {
            // Polls a state that has no event; the span only keeps the processor free.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    within(what, waiting).await;
}

/// Sends when there is room.
pub(crate) async fn send(handle: &SessionHandle, class: Class, message: Parcel) -> u64 {
    let bytes = (message.front().len() + message.data().len()) as u64;
    let room = within("room", handle.reserve(bytes, false)).await;
    let room = room.expect("open");
    room.submit(class, message, Ask::Nothing).expect("reserved")
}

pub(crate) fn parcel(front: &[u8], data: impl Into<Bytes>) -> Parcel {
    Parcel::new(KIND, 1, 1, Bytes::copy_from_slice(front), data.into())
}

/// The number in the front of a message.
pub(crate) fn number_of(parcel: &Parcel) -> u64 {
    u64::from_le_bytes(parcel.front()[..8].try_into().expect("eight bytes"))
}

/// Numbers for tests that want variety (splitmix64).
pub(crate) struct Draw(pub(crate) u64);

impl Draw {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// `default`, or `long` when `STELLATE_LONG` is set.
pub(crate) fn scale(default: u64, long: u64) -> u64 {
    if std::env::var_os("STELLATE_LONG").is_some() { long } else { default }
}
