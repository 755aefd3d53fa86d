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
use support::{TestNode, quick};

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
}

struct ShakyListener {
    inner: Box<dyn Listener>,
    mishaps: Arc<Mutex<Vec<Mishap>>>,
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
        Ok(Box::new(ShakyListener { inner: self.inner.listen(at)?, mishaps: self.mishaps.clone() }))
    }
}

impl Listener for ShakyListener {
    fn local(&self) -> Address {
        self.inner.local()
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Box<dyn Link>, AcceptError>> {
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
        })];
        let shaky = TestNode::start(config).await;
        let mut good = TestNode::start(quick(EntityName::osd(2), 2, Policy::lossless_peer())).await;
        good.dial(&shaky);
        good.connected().await;
        good.shutdown().await;
        shaky.shutdown().await;
    }
}
