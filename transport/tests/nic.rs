//! The fake NIC itself, without the driver: it says no where a NIC does, and lists what the driver
//! must never do.
#![allow(clippy::unwrap_used)] // Helpers are outside of `#[test]` functions.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use stellate_transport::rdma::fake::{FakeNet, Personality, Violation};
use stellate_transport::rdma::memory::{Arena, Buf};
use stellate_transport::rdma::verbs::{
    Access, AsyncEvent, CmEventKind, CmId, Completion, CompletionQueue, ConnectParams, Device,
    EventChannel, Operation, QpConfig, QpTag, QueuePair, Queues, ReadWork, Remote, SendWork, Verbs,
    VerbsErrorKind, WorkFault, WorkId,
};

const IPS: [IpAddr; 2] = [
    IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)),
    IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2)),
];

struct Host {
    device: Arc<dyn Device>,
    channel: Arc<dyn EventChannel>,
    cq: Arc<dyn CompletionQueue>,
    id: CmId,
    pair: Arc<dyn QueuePair>,
    memory: BytesMut,
    region: stellate_transport::rdma::memory::RegionId,
}

const CONFIG: QpConfig = QpConfig { send_depth: 8, recv_depth: 8, segments: 1, inline_max: 64 };

fn params() -> ConnectParams {
    ConnectParams {
        private: Bytes::from_static(b"hello"),
        responder_resources: 1,
        initiator_depth: 1,
        retry_count: 6,
        rnr_retry_count: 6,
    }
}

async fn event(channel: &Arc<dyn EventChannel>) -> stellate_transport::rdma::verbs::CmEvent {
    loop {
        if let Some(event) = channel.next_event().unwrap() {
            return event;
        }
        std::future::poll_fn(|cx| channel.poll_readable(cx)).await;
    }
}

impl Host {
    fn on(verbs: &Arc<dyn Verbs>, channel: Arc<dyn EventChannel>, id: CmId, depth: u32) -> Self {
        let device = verbs.open(&channel.device(id).unwrap()).unwrap();
        let cq = device.create_cq(depth).unwrap();
        let (arena, memory) = Arena::allocate(64 * 1024);
        let region = device.register(arena, Access::RemoteRead).unwrap();
        let queues = Queues { sent: cq.clone(), received: cq.clone() };
        let pair = channel.create_qp(id, &device, &queues, &CONFIG, QpTag(1)).unwrap();
        Self { device, channel, cq, id, pair, memory, region }
    }

    fn buf(&mut self, len: usize) -> Buf {
        Buf::lone(self.memory.split_to(len), self.region)
    }

    fn receive(&mut self, work: u32, len: usize) {
        let buf = self.buf(len);
        self.pair.post_recv(WorkId(work), buf).unwrap();
    }

    fn send(&mut self, work: u32, bytes: &[u8]) {
        let mut head = self.buf(bytes.len());
        head.copy_from_slice(bytes);
        let head_len = bytes.len() as u32;
        let pieces = Vec::new();
        let send = SendWork { head, head_len, pieces, signalled: true, inline: false };
        self.pair.post_send(WorkId(work), send).unwrap();
    }

    async fn completion(&self) -> Completion {
        let mut out = Vec::new();
        loop {
            // Armed, looked at again, and only then slept on.
            self.cq.arm().unwrap();
            self.cq.poll(1, &mut out).unwrap();
            if let Some(completion) = out.pop() {
                return completion;
            }
            std::future::poll_fn(|cx| self.cq.poll_readable(cx)).await;
        }
    }
}

/// Two connected queue pairs; the second has so many receives.
async fn connected(personality: Personality, receives: u32) -> (FakeNet, Host, Host) {
    let fake = FakeNet::new(1);
    let hosts = IPS.map(|ip| fake.host(ip, personality));
    let channels = [hosts[0].event_channel().unwrap(), hosts[1].event_channel().unwrap()];
    let listener = channels[1].create_id().unwrap();
    let at = channels[1].listen(listener, SocketAddr::new(IPS[1], 0), 8).unwrap();
    let id = channels[0].create_id().unwrap();
    channels[0].resolve_addr(id, at, Duration::from_secs(1)).unwrap();
    assert_eq!(event(&channels[0]).await.kind, CmEventKind::AddrResolved);
    channels[0].resolve_route(id, Duration::from_secs(1)).unwrap();
    assert_eq!(event(&channels[0]).await.kind, CmEventKind::RouteResolved);
    let near = Host::on(&hosts[0], channels[0].clone(), id, 64);
    near.channel.connect(id, &params()).unwrap();
    let CmEventKind::ConnectRequest { child, private, .. } = event(&channels[1]).await.kind else {
        panic!("a request");
    };
    assert!(private.starts_with(b"hello") && private.len() > 5, "padded");
    let mut far = Host::on(&hosts[1], channels[1].clone(), child, 64);
    for work in 0..receives {
        far.receive(100 + work, 1024);
    }
    far.channel.accept(child, &params()).unwrap();
    for channel in &channels {
        assert!(matches!(event(channel).await.kind, CmEventKind::Established { .. }));
    }
    (fake, near, far)
}

#[tokio::test(start_paused = true)]
async fn a_send_arrives_and_completes_at_both_ends() {
    let (fake, mut near, far) = connected(Personality::ROCE, 2).await;
    near.send(7, b"ping");
    let arrived = far.completion().await;
    assert_eq!((arrived.work, arrived.operation), (WorkId(100), Operation::Receive));
    assert_eq!((arrived.result, &arrived.buf.unwrap()[..4]), (Ok(4), &b"ping"[..]));
    let sent = near.completion().await;
    assert_eq!((sent.work, sent.operation, sent.buf.is_none()), (WorkId(7), Operation::Send, true));
    assert_eq!(fake.violations(), []);
}

#[tokio::test(start_paused = true)]
async fn f6_without_a_receive_roce_tries_again_and_iwarp_ends_the_connection() {
    let (fake, mut near, mut far) = connected(Personality::ROCE, 0).await;
    near.send(1, b"early");
    tokio::time::sleep(Duration::from_millis(3)).await;
    far.receive(5, 1024);
    assert_eq!(near.completion().await.result, Ok(5), "the hardware tried again");
    near.send(2, b"never");
    assert_eq!(near.completion().await.result, Err(WorkFault::ReceiverNotReady));
    assert!(fake.violations().contains(&Violation::NoReceive));

    let (fake, mut near, far) = connected(Personality::IWARP, 0).await;
    near.send(1, b"fatal");
    assert!(near.completion().await.result.is_err());
    assert_eq!(far.device.next_async(), Ok(Some(AsyncEvent::QpFatal(far.pair.number()))));
    assert_eq!(fake.violations(), [Violation::NoReceive]);
}

#[tokio::test(start_paused = true)]
async fn what_is_flushed_comes_home_and_what_is_posted_later_too() {
    let (_fake, mut near, mut far) = connected(Personality::ROCE, 3).await;
    far.pair.to_error();
    for _ in 0..3 {
        let flushed = far.completion().await;
        assert_eq!(flushed.result, Err(WorkFault::Flushed));
        assert!(flushed.buf.is_some(), "its buffer is ours again");
    }
    far.receive(9, 64);
    assert_eq!(far.completion().await.result, Err(WorkFault::Flushed));
    near.channel.disconnect(near.id);
    near.send(1, b"late");
    assert_eq!(near.completion().await.result, Err(WorkFault::Flushed));
    assert_eq!(event(&near.channel).await.kind, CmEventKind::Disconnected);
}

#[tokio::test(start_paused = true)]
async fn a_read_of_what_is_not_exported_breaks_both_ends() {
    let (fake, mut near, mut far) = connected(Personality::ROCE, 0).await;
    let mut source = far.buf(1000);
    source.fill(7);
    let region = source.region();
    let piece = stellate_transport::rdma::memory::Piece { bytes: source.freeze(1000), region };
    let remote = far.device.export(&piece).unwrap();
    let sink = near.buf(1000);
    near.pair.post_read(WorkId(1), ReadWork { sink, remote }).unwrap();
    let read = near.completion().await;
    assert_eq!((read.result, &read.buf.unwrap()[..]), (Ok(1000), &[7; 1000][..]));
    far.device.withdraw(remote);
    let sink = near.buf(1000);
    near.pair.post_read(WorkId(2), ReadWork { sink, remote }).unwrap();
    assert_eq!(near.completion().await.result, Err(WorkFault::RemoteAccess));
    // Two at once where one was agreed on, and a key of nobody.
    let (again, mut near, _far) = connected(Personality::ROCE, 0).await;
    for work in 0..2 {
        let (sink, remote) = (near.buf(10), Remote { addr: 1, rkey: 1 });
        near.pair.post_read(WorkId(work), ReadWork { sink, remote }).unwrap();
    }
    assert_eq!(fake.violations(), [Violation::NotExported]);
    assert_eq!(again.violations(), [Violation::TooManyReads]);
}

/// What the driver makes impossible: that this is seen is why its tests say something.
#[tokio::test(start_paused = true)]
async fn an_overrun_completion_queue_is_seen() {
    let fake = FakeNet::new(1);
    let verbs = fake.host(IPS[0], Personality::ROCE);
    let channel = verbs.event_channel().unwrap();
    fake.host(IPS[1], Personality::ROCE);
    let id = channel.create_id().unwrap();
    let to = SocketAddr::new(IPS[1], 1);
    channel.resolve_addr(id, to, Duration::from_secs(1)).unwrap();
    assert_eq!(event(&channel).await.kind, CmEventKind::AddrResolved);
    let mut host = Host::on(&verbs, channel, id, 4);
    for work in 0..8 {
        host.receive(work, 64);
    }
    host.pair.to_error();
    assert_eq!(fake.violations(), [Violation::CqOverrun]);
    assert_eq!(host.device.next_async(), Ok(Some(AsyncEvent::CqError(host.cq.number()))));
}

#[tokio::test(start_paused = true)]
async fn more_than_a_device_has_is_refused() {
    let fake = FakeNet::new(1);
    let verbs = fake.host(IPS[0], Personality::IWARP);
    let channel = verbs.event_channel().unwrap();
    fake.host(IPS[1], Personality::IWARP);
    let id = channel.create_id().unwrap();
    let to = SocketAddr::new(IPS[1], 1);
    channel.resolve_addr(id, to, Duration::from_secs(1)).unwrap();
    event(&channel).await;
    let device = verbs.open("fake0").unwrap();
    let cq = device.create_cq(64).unwrap();
    let queues = Queues { sent: cq.clone(), received: cq };
    let create = |config| channel.create_qp(id, &device, &queues, &config, QpTag(1)).map(|_| ());
    let refused = create(QpConfig { inline_max: 81, ..CONFIG }).unwrap_err();
    assert_eq!(refused.kind, VerbsErrorKind::Invalid, "refused, not clamped");
    let refused = create(QpConfig { segments: 7, ..CONFIG }).unwrap_err();
    assert_eq!(refused.kind, VerbsErrorKind::Invalid);
    fake.limit_memory(IPS[0], 100);
    let refused = device.register(Arena::allocate(4096).0, Access::Local).unwrap_err();
    assert_eq!(refused.kind, VerbsErrorKind::LockedMemory);
    assert!(device.create_cq(1 << 20).is_err());
}

/// A handle of a device that somebody kept is no business of who opened it after that.
#[tokio::test(start_paused = true)]
async fn f8_a_device_that_is_dropped_late_takes_nothing_of_the_next_one() {
    let fake = FakeNet::new(1);
    let verbs = fake.host(IPS[0], Personality::ROCE);
    let channel = verbs.event_channel().unwrap();
    fake.host(IPS[1], Personality::ROCE);
    let kept = verbs.open("fake0").unwrap();
    let id = channel.create_id().unwrap();
    channel.resolve_addr(id, SocketAddr::new(IPS[1], 1), Duration::from_secs(1)).unwrap();
    event(&channel).await;
    let mut host = Host::on(&verbs, channel, id, 64);
    drop(kept);
    assert_eq!(fake.violations(), [], "the queue pair is in another's domain");
    let source = host.buf(1000);
    let region = source.region();
    let piece = stellate_transport::rdma::memory::Piece { bytes: source.freeze(1000), region };
    assert!(host.device.export(&piece).is_ok(), "its memory is registered still");
    // Its own is seen.
    let Host { device, pair, cq, .. } = host;
    drop(device);
    assert_eq!(fake.violations(), [Violation::InUse]);
    drop((pair, cq));
}
