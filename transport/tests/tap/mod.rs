//! The real libraries, with a handle on the queue pairs that are made, to break one from outside, and
//! an ear for devices that go.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use stellate_transport::rdma::verbs::{
    CmEvent, CmEventKind, CmId, ConnectParams, Device, DeviceInfo, EventChannel, QpConfig, QpTag,
    QueuePair, Queues, Verbs, VerbsError,
};

/// Forwards everything, and remembers the queue pairs.
#[derive(Clone, Debug)]
pub(crate) struct Tap {
    inner: Arc<dyn Verbs>,
    seen: Arc<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    pairs: Mutex<Vec<Weak<dyn QueuePair>>>,
    removals: AtomicUsize,
}

#[allow(dead_code)] // Each test file uses its part.
impl Tap {
    pub(crate) fn on(inner: Arc<dyn Verbs>) -> Self {
        Self { inner, seen: Arc::default() }
    }

    /// How many identifiers the connection manager told that their device goes.
    pub(crate) fn removals(&self) -> usize {
        self.seen.removals.load(Ordering::Relaxed)
    }

    /// Moves the queue pair that was made last to error.
    pub(crate) fn to_error(&self) {
        let last = self.seen.pairs.lock().expect("no panic").iter().rev().find_map(Weak::upgrade);
        last.expect("a queue pair").to_error();
    }
}

impl Verbs for Tap {
    fn devices(&self) -> Result<Vec<DeviceInfo>, VerbsError> {
        self.inner.devices()
    }

    fn open(&self, name: &str) -> Result<Arc<dyn Device>, VerbsError> {
        self.inner.open(name)
    }

    fn event_channel(&self) -> Result<Arc<dyn EventChannel>, VerbsError> {
        let (inner, seen) = (self.inner.event_channel()?, self.seen.clone());
        Ok(Arc::new(Tapped { inner, seen }))
    }
}

#[derive(Debug)]
struct Tapped {
    inner: Arc<dyn EventChannel>,
    seen: Arc<Seen>,
}

impl EventChannel for Tapped {
    fn create_id(&self) -> Result<CmId, VerbsError> {
        self.inner.create_id()
    }

    fn listen(&self, id: CmId, at: SocketAddr, backlog: u32) -> Result<SocketAddr, VerbsError> {
        self.inner.listen(id, at, backlog)
    }

    fn resolve_addr(&self, id: CmId, to: SocketAddr, timeout: Duration) -> Result<(), VerbsError> {
        self.inner.resolve_addr(id, to, timeout)
    }

    fn resolve_route(&self, id: CmId, timeout: Duration) -> Result<(), VerbsError> {
        self.inner.resolve_route(id, timeout)
    }

    fn device(&self, id: CmId) -> Option<String> {
        self.inner.device(id)
    }

    fn peer(&self, id: CmId) -> Option<SocketAddr> {
        self.inner.peer(id)
    }

    fn create_qp(
        &self,
        id: CmId,
        device: &Arc<dyn Device>,
        queues: &Queues,
        config: &QpConfig,
        tag: QpTag,
    ) -> Result<Arc<dyn QueuePair>, VerbsError> {
        let made = self.inner.create_qp(id, device, queues, config, tag)?;
        let mut pairs = self.seen.pairs.lock().expect("no panic");
        pairs.retain(|pair| pair.strong_count() > 0);
        pairs.push(Arc::downgrade(&made));
        Ok(made)
    }

    fn connect(&self, id: CmId, params: &ConnectParams) -> Result<(), VerbsError> {
        self.inner.connect(id, params)
    }

    fn accept(&self, id: CmId, params: &ConnectParams) -> Result<(), VerbsError> {
        self.inner.accept(id, params)
    }

    fn reject(&self, id: CmId, private: &[u8]) {
        self.inner.reject(id, private);
    }

    fn disconnect(&self, id: CmId) {
        self.inner.disconnect(id);
    }

    fn communication_established(&self, id: CmId) {
        self.inner.communication_established(id);
    }

    fn destroy_id(&self, id: CmId) {
        self.inner.destroy_id(id);
    }

    fn next_event(&self) -> Result<Option<CmEvent>, VerbsError> {
        let told = self.inner.next_event()?;
        if told.as_ref().is_some_and(|told| told.kind == CmEventKind::DeviceRemoval) {
            self.seen.removals.fetch_add(1, Ordering::Relaxed);
        }
        Ok(told)
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.inner.poll_readable(cx)
    }
}
