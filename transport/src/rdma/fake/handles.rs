//! The handles of a fake host: the traits of `verbs.rs`, one call each.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::cm::{Channel, Id};
use super::device::{Cq, Region};
use super::driver;
use super::pair::{Cqs, Pair, PairState, Posting, rkey};
use super::world::{Host, Shared};
use super::{Violation, World};
use crate::rdma::audience::Ear;
use crate::rdma::memory::{Arena, Buf, Piece, RegionId};
use crate::rdma::verbs::{
    Access, AsyncEvent, CmEvent, CmEventKind, CmId, Completion, CompletionQueue, ConnectParams,
    Device, DeviceInfo, EventChannel, GREETING_MAX, Granted, Operation, PortState, Posted,
    QpConfig, QpTag, QueuePair, Queues, ReadWork, Refused, Remote, SendWork, Verbs, VerbsError,
    VerbsErrorKind, WorkId,
};

const DEVICE: &str = "fake0";

fn failed(call: &'static str, kind: VerbsErrorKind) -> VerbsError {
    VerbsError::new(call, kind)
}

#[derive(Debug)]
pub(super) struct FakeVerbs {
    pub(super) shared: Arc<Shared>,
    pub(super) host: usize,
}

fn info(host: &Host) -> DeviceInfo {
    let personality = host.personality;
    DeviceInfo {
        name: DEVICE.to_owned(),
        fabric: personality.fabric,
        port: PortState::Active,
        qp_max: personality.qp_max,
        qp_depth_max: personality.qp_depth_max,
        cq_max: 1024,
        cq_depth_max: personality.cq_depth_max,
        segments_max: personality.segments_max,
        read_segments_max: 1,
        reads_in_max: personality.reads_max,
        reads_out_max: personality.reads_max,
        region_max: 1 << 40,
        greeting_max: GREETING_MAX,
    }
}

impl Verbs for FakeVerbs {
    fn devices(&self) -> Result<Vec<DeviceInfo>, VerbsError> {
        let world = self.shared.lock();
        let host = &world.hosts[self.host];
        if host.forbidden {
            return Err(failed("rdma_get_devices", VerbsErrorKind::Permission));
        }
        if !host.present {
            return Err(failed("rdma_get_devices", VerbsErrorKind::NoDevice));
        }
        Ok(vec![info(host)])
    }

    fn open(&self, name: &str) -> Result<Arc<dyn Device>, VerbsError> {
        let found = self.devices()?.into_iter().find(|device| device.name == name);
        let info = found.ok_or_else(|| failed("ibv_open_device", VerbsErrorKind::NoDevice))?;
        let mut world = self.shared.lock();
        let ear = world.hosts[self.host].audience.join();
        let number = world.serial();
        drop(world);
        let shared = self.shared.clone();
        Ok(Arc::new(FakeDevice { shared, host: self.host, number, info, ear }))
    }

    fn event_channel(&self) -> Result<Arc<dyn EventChannel>, VerbsError> {
        const CALL: &str = "rdma_create_event_channel";
        if !driver::ensure(&self.shared) {
            return Err(failed(CALL, VerbsErrorKind::NoEndpoint));
        }
        let mut world = self.shared.lock();
        if world.hosts[self.host].forbidden {
            return Err(failed(CALL, VerbsErrorKind::Permission));
        }
        let number = world.serial();
        let channel = Channel { host: self.host, events: Default::default(), waker: None };
        world.channels.insert(number, channel);
        drop(world);
        Ok(Arc::new(FakeChannel { shared: self.shared.clone(), host: self.host, number }))
    }
}

#[derive(Debug)]
struct FakeDevice {
    shared: Arc<Shared>,
    host: usize,
    /// Of its protection domain: what is made with one handle is no business of another's.
    number: u64,
    info: DeviceInfo,
    ear: Arc<Ear>,
}

impl Device for FakeDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn register(&self, arena: Arena, access: Access) -> Result<RegionId, VerbsError> {
        let mut world = self.shared.lock();
        let host = &world.hosts[self.host];
        if !host.present {
            return Err(failed("ibv_reg_mr", VerbsErrorKind::DeviceGone));
        }
        let most = host.personality.locked_max;
        let mine = world.regions.values().filter(|region| region.host == self.host);
        let locked: usize = mine.map(|region| region.arena.len()).sum();
        if locked + arena.len() > most {
            return Err(failed("ibv_reg_mr", VerbsErrorKind::LockedMemory));
        }
        let number = world.serial();
        let device = self.number;
        world.regions.insert(number, Region { host: self.host, device, arena, access });
        Ok(RegionId(number))
    }

    fn deregister(&self, region: RegionId) {
        let mut world = self.shared.lock();
        let Some(gone) = world.regions.remove(&region.0) else {
            return;
        };
        let begin = gone.arena.addr();
        let len = gone.arena.len() as u64;
        let inside = |buf: &Buf| buf.addr() >= begin && buf.addr() < begin + len;
        if world.pairs.values().any(|pair| pair.has_posted(inside)) {
            world.violation(Violation::InUse);
        }
    }

    fn export(&self, piece: &Piece) -> Result<Remote, VerbsError> {
        let mut world = self.shared.lock();
        let addr = piece.bytes.as_ptr().addr() as u64;
        if !world.is_readable(piece.region.0, addr, piece.bytes.len()) {
            return Err(failed("export", VerbsErrorKind::Invalid));
        }
        // What goes over the wire is no address of ours: those differ from run to run (D1).
        let begin = world.regions.get(&piece.region.0).map_or(0, |region| region.arena.addr());
        let addr = piece.region.0 << 32 | (addr - begin);
        let entry = world.exports.entry((self.host, addr)).or_insert((0, piece.bytes.clone()));
        entry.0 += 1;
        if piece.bytes.len() > entry.1.len() {
            entry.1 = piece.bytes.clone();
        }
        Ok(Remote { addr, rkey: rkey(self.host) })
    }

    fn withdraw(&self, remote: Remote) {
        let mut world = self.shared.lock();
        let key = (self.host, remote.addr);
        let mut gone = None;
        if let Some(entry) = world.exports.get_mut(&key) {
            entry.0 -= 1;
            if entry.0 == 0 {
                gone = world.exports.remove(&key);
            }
        }
        drop(world);
        drop(gone);
    }

    fn create_cq(&self, depth: u32) -> Result<Arc<dyn CompletionQueue>, VerbsError> {
        let mut world = self.shared.lock();
        if depth > world.hosts[self.host].personality.cq_depth_max {
            return Err(failed("ibv_create_cq", VerbsErrorKind::Invalid));
        }
        let number = world.serial();
        let cq = Cq {
            host: self.host,
            depth,
            entries: Default::default(),
            stale: 0,
            armed: false,
            hidden: false,
            woken: false,
            broken: false,
            waker: None,
        };
        world.cqs.insert(number, cq);
        drop(world);
        Ok(Arc::new(FakeCq { shared: self.shared.clone(), number, depth }))
    }

    fn next_async(&self) -> Result<Option<AsyncEvent>, VerbsError> {
        Ok(self.ear.next())
    }

    fn poll_async_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.ear.poll(cx)
    }
}

impl Drop for FakeDevice {
    fn drop(&mut self) {
        self.shared.change(|world| {
            if world.pairs.values().any(|pair| pair.device == self.number) {
                world.violation(Violation::InUse);
            }
            let mine = |region: &Region| region.device == self.number;
            let gone: Vec<u64> =
                world.regions.iter().filter(|(_, r)| mine(r)).map(|(n, _)| *n).collect();
            for region in gone {
                let region = world.regions.remove(&region);
                world.homeward.push(Box::new(region));
            }
        });
    }
}

#[derive(Debug)]
pub(super) struct FakeCq {
    shared: Arc<Shared>,
    number: u64,
    depth: u32,
}

impl CompletionQueue for FakeCq {
    fn number(&self) -> u64 {
        self.number
    }

    fn depth(&self) -> u32 {
        self.depth
    }

    fn poll(&self, max: usize, out: &mut Vec<Completion>) -> Result<usize, VerbsError> {
        Ok(self.shared.lock().poll_completions(self.number, max, out))
    }

    fn arm(&self) -> Result<(), VerbsError> {
        let mut world = self.shared.lock();
        if let Some(cq) = world.cqs.get_mut(&self.number) {
            (cq.armed, cq.hidden) = (true, false);
            let host = cq.host;
            world.hosts[host].arms += 1;
        }
        Ok(())
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut world = self.shared.lock();
        let Some(cq) = world.cqs.get_mut(&self.number) else {
            return Poll::Pending;
        };
        if std::mem::take(&mut cq.woken) {
            return Poll::Ready(());
        }
        cq.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for FakeCq {
    fn drop(&mut self) {
        self.shared.change(|world| {
            let cq = world.cqs.remove(&self.number);
            world.homeward.push(Box::new(cq));
        });
    }
}

#[derive(Debug)]
struct FakeChannel {
    shared: Arc<Shared>,
    host: usize,
    number: u64,
}

impl FakeChannel {
    fn with_id<T>(
        &self,
        call: &'static str,
        id: CmId,
        with: impl FnOnce(&mut World, &mut Id) -> Result<T, VerbsError>,
    ) -> Result<T, VerbsError> {
        self.shared.change(|world| {
            let Some(mut entry) = world.ids.remove(&id.0) else {
                return Err(failed(call, VerbsErrorKind::Invalid));
            };
            let result = with(world, &mut entry);
            world.ids.insert(id.0, entry);
            result
        })
    }
}

impl EventChannel for FakeChannel {
    fn create_id(&self) -> Result<CmId, VerbsError> {
        Ok(CmId(self.shared.lock().make_id(self.host, self.number)))
    }

    fn listen(&self, id: CmId, at: SocketAddr, _: u32) -> Result<SocketAddr, VerbsError> {
        self.with_id("rdma_bind_addr", id, |world, entry| {
            let host = &world.hosts[self.host];
            let ours = at.ip().is_unspecified() || at.ip() == host.ip;
            if !ours || !host.present {
                return Err(failed("rdma_bind_addr", VerbsErrorKind::Unreachable));
            }
            let mut at = at;
            if at.port() == 0 {
                at.set_port(20_000 + (world.serial() % 10_000) as u16);
            }
            if world.listeners.contains_key(&at) {
                return Err(failed("rdma_bind_addr", VerbsErrorKind::AddressInUse));
            }
            world.listeners.insert(at, id.0);
            entry.listens = Some(at);
            entry.bound = !at.ip().is_unspecified();
            Ok(at)
        })
    }

    fn resolve_addr(&self, id: CmId, to: SocketAddr, _: Duration) -> Result<(), VerbsError> {
        self.with_id("rdma_resolve_addr", id, |world, entry| {
            if !world.hosts[self.host].present {
                return Err(failed("rdma_resolve_addr", VerbsErrorKind::NoDevice));
            }
            entry.to = Some(to);
            entry.peer_addr = Some(to);
            entry.bound = true;
            let known = world.index_of(to.ip()).is_some();
            let kind = if known { CmEventKind::AddrResolved } else { CmEventKind::AddrError(-113) };
            let at = world.now() + 1;
            world.at(at, super::world::Event::Word { id: id.0, kind });
            Ok(())
        })
    }

    fn resolve_route(&self, id: CmId, _: Duration) -> Result<(), VerbsError> {
        self.with_id("rdma_resolve_route", id, |world, _| {
            let at = world.now() + 1;
            let kind = CmEventKind::RouteResolved;
            world.at(at, super::world::Event::Word { id: id.0, kind });
            Ok(())
        })
    }

    fn device(&self, id: CmId) -> Option<String> {
        // Also one that is gone: an identifier has it until it is destroyed.
        let world = self.shared.lock();
        world.ids.get(&id.0)?.bound.then(|| DEVICE.to_owned())
    }

    fn peer(&self, id: CmId) -> Option<SocketAddr> {
        self.shared.lock().ids.get(&id.0)?.peer_addr
    }

    fn create_qp(
        &self,
        id: CmId,
        device: &Arc<dyn Device>,
        queues: &Queues,
        config: &QpConfig,
        tag: QpTag,
    ) -> Result<Arc<dyn QueuePair>, VerbsError> {
        const CALL: &str = "rdma_create_qp";
        let device: &dyn Any = &**device;
        let device = device.downcast_ref::<FakeDevice>();
        let device = device.ok_or_else(|| failed(CALL, VerbsErrorKind::Invalid))?.number;
        let ours = |cq: &Arc<dyn CompletionQueue>| {
            let cq: &dyn Any = &**cq;
            let cq = cq.downcast_ref::<FakeCq>();
            Ok(cq.ok_or_else(|| failed(CALL, VerbsErrorKind::Invalid))?.number)
        };
        let cqs = Cqs { sent: ours(&queues.sent)?, received: ours(&queues.received)? };
        let number = self.with_id(CALL, id, |world, entry| {
            let host = &world.hosts[self.host];
            let personality = host.personality;
            let depth = config.send_depth.max(config.recv_depth);
            if !host.present {
                return Err(failed(CALL, VerbsErrorKind::DeviceGone));
            }
            if config.inline_max > personality.inline_max
                || config.segments > personality.segments_max
                || depth > personality.qp_depth_max
                || entry.pair.is_some()
            {
                return Err(failed(CALL, VerbsErrorKind::Invalid));
            }
            let pairs = world.pairs.values().filter(|pair| pair.host == self.host).count();
            if pairs as u64 >= u64::from(personality.qp_max) {
                return Err(failed(CALL, VerbsErrorKind::Exhausted));
            }
            let number = world.serial() as u32;
            let granted = Granted {
                send_depth: config.send_depth,
                recv_depth: config.recv_depth,
                segments: config.segments,
                inline_max: config.inline_max,
            };
            world.pairs.insert(number, Pair::new(self.host, device, tag, cqs, granted));
            entry.pair = Some(number);
            Ok(number)
        })?;
        Ok(Arc::new(FakePair { shared: self.shared.clone(), number }))
    }

    fn connect(&self, id: CmId, params: &ConnectParams) -> Result<(), VerbsError> {
        if params.private.len() > GREETING_MAX {
            return Err(failed("rdma_connect", VerbsErrorKind::Invalid));
        }
        self.shared.change(|world| world.connect(id.0, params.clone()));
        Ok(())
    }

    fn accept(&self, id: CmId, params: &ConnectParams) -> Result<(), VerbsError> {
        if params.private.len() > GREETING_MAX {
            return Err(failed("rdma_accept", VerbsErrorKind::Invalid));
        }
        let accepted = self.shared.change(|world| world.accept(id.0, params.clone()));
        accepted.then_some(()).ok_or_else(|| failed("rdma_accept", VerbsErrorKind::Other))
    }

    fn reject(&self, id: CmId, private: &[u8]) {
        self.shared.change(|world| world.reject(id.0, private));
    }

    fn disconnect(&self, id: CmId) {
        self.shared.change(|world| world.disconnect(id.0));
    }

    fn communication_established(&self, _: CmId) {}

    fn destroy_id(&self, id: CmId) {
        self.shared.change(|world| world.forget_id(id.0));
    }

    fn next_event(&self) -> Result<Option<CmEvent>, VerbsError> {
        let mut world = self.shared.lock();
        Ok(world.channels.get_mut(&self.number).and_then(|channel| channel.events.pop_front()))
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut world = self.shared.lock();
        let Some(channel) = world.channels.get_mut(&self.number) else {
            return Poll::Pending;
        };
        if !channel.events.is_empty() {
            return Poll::Ready(());
        }
        channel.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for FakeChannel {
    fn drop(&mut self) {
        self.shared.change(|world| {
            let of_channel = world.ids.iter().filter(|(_, id)| id.channel == self.number);
            let ids: Vec<u64> = of_channel.map(|(id, _)| *id).collect();
            for id in ids {
                world.forget_id(id);
            }
            world.channels.remove(&self.number);
        });
    }
}

#[derive(Debug)]
struct FakePair {
    shared: Arc<Shared>,
    number: u32,
}

impl FakePair {
    /// Why nothing can be posted, if so.
    fn refusal(&self, world: &World, call: &'static str, send: bool) -> Option<VerbsError> {
        let Some(pair) = world.pairs.get(&self.number) else {
            return Some(failed(call, VerbsErrorKind::DeviceGone));
        };
        let full = match send {
            true => pair.places() >= pair.granted.send_depth,
            false => pair.receives.len() >= pair.granted.recv_depth as usize,
        };
        let lost = pair.state == PairState::Lost || (send && pair.state == PairState::Init);
        (full || lost).then(|| failed(call, VerbsErrorKind::Exhausted))
    }
}

impl QueuePair for FakePair {
    fn number(&self) -> u32 {
        self.number
    }

    fn granted(&self) -> Granted {
        let world = self.shared.lock();
        let none = Granted { send_depth: 0, recv_depth: 0, segments: 0, inline_max: 0 };
        world.pairs.get(&self.number).map_or(none, |pair| pair.granted)
    }

    fn set_rnr_timer(&self, _: u8) {}

    fn post_recv(&self, work: WorkId, buf: Buf) -> Result<(), Refused<Buf>> {
        self.shared.change(|world| {
            if let Some(error) = self.refusal(world, "ibv_post_recv", false) {
                return Err(Refused { work: buf, error });
            }
            world.post_receive(self.number, work, buf);
            Ok(())
        })
    }

    fn post_send(&self, work: WorkId, send: SendWork) -> Result<(), Refused<SendWork>> {
        self.shared.change(|world| {
            if let Some(error) = self.refusal(world, "ibv_post_send", true) {
                return Err(Refused { work: send, error });
            }
            if world.is_broken_by_post(self.number) {
                let error = failed("ibv_post_send", VerbsErrorKind::Invalid);
                return Err(Refused { work: send, error });
            }
            let SendWork { head, head_len, pieces, signalled, .. } = send;
            let remote = Remote { addr: 0, rkey: 0 };
            let (head_len, operation) = (head_len as usize, Operation::Send);
            let posting = Posting { work, operation, signalled, head, head_len, pieces, remote };
            world.post(self.number, posting);
            Ok(())
        })
    }

    fn post_read(&self, work: WorkId, read: ReadWork) -> Result<(), Refused<ReadWork>> {
        self.shared.change(|world| {
            if let Some(error) = self.refusal(world, "ibv_post_send", true) {
                return Err(Refused { work: read, error });
            }
            let ReadWork { sink, remote } = read;
            let (head_len, operation) = (sink.len(), Operation::Read);
            let (pieces, signalled, head) = (Vec::new(), true, sink);
            let posting = Posting { work, operation, signalled, head, head_len, pieces, remote };
            world.post(self.number, posting);
            Ok(())
        })
    }

    fn to_error(&self) {
        self.shared.change(|world| {
            world.over(self.number, true);
            world.flush_pair(self.number);
        });
    }

    fn posted(&self) -> Posted {
        let world = self.shared.lock();
        world.pairs.get(&self.number).map(Pair::posted).unwrap_or_default()
    }

    fn destroy(&self) -> usize {
        self.shared.change(|world| world.destroy_pair(self.number))
    }
}

impl Drop for FakePair {
    fn drop(&mut self) {
        self.destroy();
    }
}
