//! The libraries on a real kernel stack: `tests/rdma-guest.sh` runs these, nothing else can.
//!
//! `STELLATE_RDMA` is an address that a device of this machine has, and that another reaches.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;

use super::*;
use crate::rdma::memory::{Arena, Buf, Piece, RegionId};
use crate::rdma::verbs::{
    Access, CmEvent, CmEventKind, CmId, Completion, CompletionQueue, ConnectParams, Operation,
    QpConfig, QpTag, QueuePair, Queues, ReadWork, SendWork, WorkFault, WorkId,
};

const SLOT: usize = 8192;
const SLOTS: usize = 16;
const PATIENCE: Duration = Duration::from_secs(100);

fn address() -> SocketAddr {
    let address = std::env::var("STELLATE_RDMA").expect("STELLATE_RDMA, an address of a device");
    SocketAddr::new(address.parse().expect("an IP address"), 0)
}

fn run<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.expect("nothing hangs") });
}

/// One end: a device, memory, and a queue pair on an identifier.
struct End {
    channel: Arc<dyn EventChannel>,
    id: CmId,
    qp: Arc<dyn QueuePair>,
    cq: Arc<dyn CompletionQueue>,
    device: Arc<dyn Device>,
    region: RegionId,
    memory: BytesMut,
}

impl End {
    fn new(channel: &Arc<dyn EventChannel>, id: CmId) -> Self {
        let name = channel.device(id).expect("bound to a device");
        let device = System.open(&name).expect("opens");
        let (arena, memory) = Arena::allocate(SLOT * SLOTS);
        let region = device.register(arena, Access::RemoteRead).expect("registers");
        let cq = device.create_cq(64).expect("a queue");
        assert!(cq.depth() >= 64);
        let queues = Queues { sent: cq.clone(), received: cq.clone() };
        let config = QpConfig { send_depth: 16, recv_depth: 16, segments: 4, inline_max: 64 };
        let qp = channel.create_qp(id, &device, &queues, &config, QpTag(7)).expect("a queue pair");
        assert!(qp.granted().segments >= 4 && qp.granted().inline_max >= 64);
        Self { channel: channel.clone(), id, qp, cq, device, region, memory }
    }

    fn buf(&mut self) -> Buf {
        Buf::new(self.memory.split_to(SLOT), self.region, None)
    }

    fn post_recv(&mut self, work: u32) {
        let buf = self.buf();
        self.qp.post_recv(WorkId(work), buf).expect("room");
    }

    async fn next(&self) -> Completion {
        let mut out = Vec::new();
        loop {
            self.cq.arm().expect("armed");
            if self.cq.poll(1, &mut out).expect("works") > 0 {
                return out.pop().expect("one");
            }
            poll_fn(|cx| self.cq.poll_readable(cx)).await;
        }
    }
}

async fn event(channel: &Arc<dyn EventChannel>) -> CmEvent {
    loop {
        if let Some(event) = channel.next_event().expect("works") {
            return event;
        }
        poll_fn(|cx| channel.poll_readable(cx)).await;
    }
}

fn params(private: &'static [u8]) -> ConnectParams {
    ConnectParams {
        private: private.into(),
        responder_resources: 4,
        initiator_depth: 4,
        retry_count: 5,
        rnr_retry_count: 3,
    }
}

struct Up {
    near: End,
    far: End,
    listener: CmId,
}

/// Two ends, connected, with receives posted at the far one.
async fn up(receives: u32) -> Up {
    let (dials, listens) = (System.event_channel().unwrap(), System.event_channel().unwrap());
    let listener = listens.create_id().unwrap();
    let at = listens.listen(listener, address(), 16).expect("listens");
    assert_ne!(at.port(), 0);
    let id = dials.create_id().unwrap();
    dials.resolve_addr(id, at, Duration::from_secs(2)).unwrap();
    assert_eq!(event(&dials).await, CmEvent { id, kind: CmEventKind::AddrResolved });
    dials.resolve_route(id, Duration::from_secs(2)).unwrap();
    assert_eq!(event(&dials).await.kind, CmEventKind::RouteResolved);
    let near = End::new(&dials, id);
    dials.connect(id, &params(b"from the dialler")).unwrap();
    let asked = event(&listens).await;
    assert_eq!(asked.id, listener);
    let CmEventKind::ConnectRequest { child, peer, private, .. } = asked.kind else {
        panic!("{asked:?}");
    };
    assert!(peer.is_some());
    assert!(private.starts_with(b"from the dialler"), "{private:?}");
    let mut far = End::new(&listens, child);
    for work in 0..receives {
        far.post_recv(work);
    }
    listens.accept(child, &params(b"from the listener")).unwrap();
    let established = event(&dials).await;
    let CmEventKind::Established { private, .. } = &established.kind else {
        panic!("{established:?}");
    };
    assert!(private.starts_with(b"from the listener"), "{private:?}");
    // The dialler speaks first; on InfiniBand the listener's event may wait for that.
    near.qp.set_rnr_timer(12);
    Up { near, far, listener }
}

fn send(end: &mut End, work: u32, len: usize, signalled: bool, inline: bool) {
    let mut head = end.buf();
    head[..len].fill(work as u8);
    let head_len = len as u32;
    let send = SendWork { head, head_len, pieces: Vec::new(), signalled, inline };
    end.qp.post_send(WorkId(work), send).expect("room");
}

#[test]
#[ignore = "needs an RDMA device"]
fn sends_arrive_and_only_the_signalled_ones_are_told() {
    run(async {
        let Up { mut near, far, .. } = up(4).await;
        send(&mut near, 100, 64, false, true);
        send(&mut near, 101, 5000, false, false);
        send(&mut near, 102, 10, true, false);
        for (work, len) in [(0, 64), (1, 5000), (2, 10)] {
            let got = far.next().await;
            assert_eq!((got.tag, got.work), (QpTag(7), WorkId(work)));
            assert_eq!((got.operation, got.result), (Operation::Receive, Ok(len)));
            let buf = got.buf.expect("comes home");
            assert!(buf[..len as usize].iter().all(|byte| *byte == 100 + work as u8));
        }
        let done = near.next().await;
        assert_eq!((done.work, done.operation), (WorkId(102), Operation::Send));
        assert!(done.result.is_ok());
        assert_eq!((near.qp.destroy(), far.qp.destroy()), (0, 1), "one receive is left");
        assert_eq!(far.qp.destroy(), 0, "once");
    });
}

#[test]
#[ignore = "needs an RDMA device"]
fn a_read_fetches_what_was_exported_and_nothing_else() {
    run(async {
        let Up { mut near, mut far, .. } = up(1).await;
        let mut source = near.buf();
        source.fill(0x5a);
        let piece = Piece { bytes: source.freeze(SLOT), region: near.region };
        let remote = near.device.export(&piece).expect("lies in its region");
        // The dialler speaks first, also to the peer's READs.
        send(&mut near, 1, 8, true, false);
        assert_eq!(far.next().await.operation, Operation::Receive);
        let sink = far.buf();
        far.qp.post_read(WorkId(9), ReadWork { sink, remote }).expect("room");
        let got = far.next().await;
        assert_eq!((got.work, got.operation), (WorkId(9), Operation::Read));
        assert!(got.result.is_ok(), "{:?}", got.result);
        assert!(got.buf.expect("comes home").iter().all(|byte| *byte == 0x5a));
        let stray = Piece { bytes: vec![0; 8].into(), region: near.region };
        assert!(near.device.export(&stray).is_err());
        let wrong = crate::rdma::verbs::Remote { addr: remote.addr, rkey: remote.rkey ^ 0x55 };
        let sink = far.buf();
        far.qp.post_read(WorkId(10), ReadWork { sink, remote: wrong }).expect("room");
        let got = far.next().await;
        assert!(got.result.is_err() && got.buf.is_some(), "{got:?}");
    });
}

#[test]
#[ignore = "needs an RDMA device"]
fn what_is_posted_comes_home_flushed_when_the_peer_disconnects() {
    run(async {
        let Up { near, far, .. } = up(5).await;
        near.channel.disconnect(near.id);
        loop {
            // Established may come first.
            if event(&far.channel).await.kind == CmEventKind::Disconnected {
                break;
            }
        }
        for _ in 0..5 {
            let got = far.next().await;
            assert_eq!((got.operation, got.result), (Operation::Receive, Err(WorkFault::Flushed)));
            assert!(got.buf.is_some());
        }
        assert_eq!(far.qp.destroy(), 0);
        far.channel.destroy_id(far.id);
        near.channel.destroy_id(near.id);
        assert!(
            near.qp.post_recv(WorkId(1), Buf::new(BytesMut::zeroed(8), near.region, None)).is_err()
        );
    });
}

#[test]
#[ignore = "needs an RDMA device"]
fn an_own_error_flushes_as_well() {
    run(async {
        let Up { near: _near, far, .. } = up(2).await;
        far.qp.to_error();
        for _ in 0..2 {
            assert_eq!(far.next().await.result, Err(WorkFault::Flushed));
        }
    });
}

#[test]
#[ignore = "needs an RDMA device"]
fn refusals_say_what_and_addresses_that_nobody_has_are_unreachable() {
    run(async {
        let channel = System.event_channel().unwrap();
        let (one, two) = (channel.create_id().unwrap(), channel.create_id().unwrap());
        let at = channel.listen(one, address(), 1).unwrap();
        let taken = channel.listen(two, at, 1).expect_err("taken");
        assert_eq!(taken.kind, VerbsErrorKind::AddressInUse);
        let absent = channel.create_id().unwrap();
        let nobody = "192.0.2.1:1".parse().unwrap();
        let refused = channel.listen(absent, nobody, 1).expect_err("nobody has it");
        assert_eq!(refused.kind, VerbsErrorKind::Unreachable, "{refused}");
        for id in [one, two, absent, absent] {
            channel.destroy_id(id);
        }
        let dial = channel.create_id().unwrap();
        channel.resolve_addr(dial, at, Duration::from_secs(2)).unwrap();
        assert_eq!(event(&channel).await.kind, CmEventKind::AddrResolved);
        channel.resolve_route(dial, Duration::from_secs(2)).unwrap();
        assert_eq!(event(&channel).await.kind, CmEventKind::RouteResolved);
        let end = End::new(&channel, dial);
        channel.connect(dial, &params(b"")).unwrap();
        let refused = event(&channel).await.kind;
        assert!(matches!(refused, CmEventKind::Rejected { .. }), "{refused:?}");
        drop(end);
        let device = System.open(&channel.device(dial).unwrap()).unwrap();
        let (arena, _memory) = Arena::allocate(64);
        let region = device.register(arena, Access::Local).unwrap();
        device.deregister(region);
        device.deregister(region);
        assert!(device.next_async().unwrap().is_none());
    });
}

#[test]
#[ignore = "needs an RDMA device"]
fn f8_everything_is_given_back() {
    let count = || {
        let text = |object: &str| {
            let shown =
                std::process::Command::new("rdma").args(["resource", "show", object]).output();
            String::from_utf8(shown.expect("rdma runs").stdout).expect("text").lines().count()
        };
        let fds = std::fs::read_dir("/proc/self/fd").unwrap().count();
        (text("mr"), text("qp"), text("cm_id"), text("cq"), fds)
    };
    // The first one opens the devices for good.
    run(async { drop(up(1).await) });
    let before = count();
    run(async {
        for _ in 0..20 {
            let Up { near, far, listener } = up(3).await;
            far.channel.destroy_id(listener);
            drop((near, far));
        }
    });
    assert_eq!(count(), before);
}
