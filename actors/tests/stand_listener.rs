//! A listener that the machine lets down: it goes on when it can.

mod support;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use stellate_protocol::EntityName;
use stellate_protocol::policy::Policy;
use stellate_transport::{
    AcceptError, Address, DialError, Link, LinkLimits, ListenError, Listener, Tcp, Transport,
};
use support::raw::at;
use support::{TestNode, quick, until};
use tokio::net::TcpStream;

/// What happens to accepts, in turn.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mishap {
    Transient,
    Fatal,
}

/// TCP whose listeners fail as told, and whose binds fail so often after the first.
struct Shaky {
    inner: Tcp,
    mishaps: Arc<Mutex<Vec<Mishap>>>,
    binds: AtomicU32,
    refuse: u32,
    polls: Arc<AtomicU32>,
}

struct ShakyListener {
    inner: Box<dyn Listener>,
    mishaps: Arc<Mutex<Vec<Mishap>>>,
    /// How often it was asked for a link.
    polls: Arc<AtomicU32>,
}

impl Transport for Shaky {
    fn scheme(&self) -> &'static str {
        self.inner.scheme()
    }

    fn limits(&self) -> &LinkLimits {
        self.inner.limits()
    }

    fn dial(&self, to: &Address) -> BoxFuture<'static, Result<Box<dyn Link>, DialError>> {
        self.inner.dial(to)
    }

    fn listen(&self, at: &Address) -> Result<Box<dyn Listener>, ListenError> {
        let nth = self.binds.fetch_add(1, Ordering::SeqCst);
        if (1..=self.refuse).contains(&nth) {
            return Err(ListenError::PortInUse);
        }
        Ok(Box::new(ShakyListener {
            inner: self.inner.listen(at)?,
            mishaps: self.mishaps.clone(),
            polls: self.polls.clone(),
        }))
    }
}

impl Listener for ShakyListener {
    fn local(&self) -> Address {
        self.inner.local()
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Box<dyn Link>, AcceptError>> {
        self.polls.fetch_add(1, Ordering::SeqCst);
        let mishap = self.mishaps.lock().expect("no panic").pop();
        let out_of_files = std::io::ErrorKind::Other;
        match mishap {
            Some(Mishap::Transient) => Poll::Ready(Err(AcceptError::Transient(out_of_files, None))),
            Some(Mishap::Fatal) => Poll::Ready(Err(AcceptError::Fatal(out_of_files, None))),
            None => self.inner.poll_accept(cx),
        }
    }
}

#[actix_rt::test]
async fn a_listener_goes_on_after_every_mishap() {
    use Mishap::{Fatal, Transient};
    for (mishaps, refuse) in [
        (vec![Transient], 0),
        (vec![Transient, Transient, Transient], 0),
        (vec![Fatal], 0),
        (vec![Fatal, Transient, Fatal], 3),
    ] {
        let mut config = quick(EntityName::osd(1), 1, Policy::lossless_peer());
        config.transports = vec![Arc::new(Shaky {
            inner: Tcp::new(),
            mishaps: Arc::new(Mutex::new(mishaps)),
            binds: AtomicU32::new(0),
            refuse,
            polls: Arc::default(),
        })];
        let shaky = TestNode::start(config).await;
        let mut good = TestNode::start(quick(EntityName::osd(2), 2, Policy::lossless_peer())).await;
        good.dial(&shaky);
        good.connected().await;
        good.shutdown().await;
        shaky.shutdown().await;
    }
}

/// A listener takes a place before it asks for a link, and gives it back if there is none. That is
/// not news to any listener, also if it was the last place: else they wake each other for ever.
#[actix_rt::test]
async fn a_listener_one_place_below_its_limit_sleeps() {
    let polls = Arc::new(AtomicU32::new(0));
    let mut config = quick(EntityName::osd(1), 1, Policy::lossless_peer());
    config.limits.handshakes_max = 3;
    config.limits.hello_timeout = std::time::Duration::from_secs(60);
    config.transports = vec![Arc::new(Shaky {
        inner: Tcp::new(),
        mishaps: Arc::default(),
        binds: AtomicU32::new(0),
        refuse: 0,
        polls: polls.clone(),
    })];
    let node = TestNode::start(config).await;
    let mut silent = Vec::new();
    for _ in 0..2 {
        silent.push(TcpStream::connect(at(&node)).await.expect("connects"));
    }
    until("both to be accepted", || node.node.tree().members("links").len() == 2).await;
    let turns = 2_000;
    let before = polls.load(Ordering::SeqCst);
    for _ in 0..turns {
        tokio::task::yield_now().await;
    }
    let asked = polls.load(Ordering::SeqCst) - before;
    assert!(asked < turns / 100, "asked {asked} times in {turns} turns");
    // The last place is there for whoever comes.
    let mut good = TestNode::start(quick(EntityName::osd(2), 2, Policy::lossless_peer())).await;
    good.dial(&node);
    good.connected().await;
    drop(silent);
    good.shutdown().await;
    node.shutdown().await;
}
