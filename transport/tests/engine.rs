//! An RDMA endpoint that dies with whoever drove it, at the worst moments.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::mpsc;
use std::time::Duration;

use stellate_transport::Transport;
use stellate_transport::rdma::fake::{Counts, FakeNet, Personality};
use stellate_transport::rdma::{Rdma, RdmaOptions};

const NEAR: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

/// Runs it in virtual time on a thread of its own: what waits for itself is told as that, and does
/// not hang the tests.
#[allow(clippy::disallowed_methods)] // A thread that may hang.
fn within_reach(test: impl AsyncFnOnce() + Send + 'static) {
    let (told, over) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().start_paused(true).build().expect("a runtime");
        runtime.block_on(test());
        told.send(()).expect("somebody waits");
    });
    over.recv_timeout(Duration::from_secs(20)).expect("it failed, or waits for itself");
}

#[test]
fn f8_an_endpoint_dies_with_a_link_that_its_dialler_has_not_taken() {
    within_reach(async || {
        let fake = FakeNet::new(1);
        let on = |ip| Rdma::with(fake.host(ip, Personality::ROCE), RdmaOptions::default());
        let (near, far) = (on(NEAR), on(FAR));
        let mut engine = near.engine().expect("nobody drives it yet");
        let driver = tokio::spawn(std::future::poll_fn(move |cx| {
            engine.poll(cx);
            std::task::Poll::<()>::Pending
        }));
        let at = "rdma://10.0.0.2:0".parse().expect("an address");
        let listener = far.listen(&at).expect("listens");
        let mut dial = near.dial(&listener.local());
        assert!(futures::poll!(&mut dial).is_pending());
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(near.in_use().queue_pairs, 1, "it is up, and lies there");
        driver.abort();
        assert!(driver.await.is_err());
        let dialled = dial.await.map(|_| ());
        assert!(dialled.is_err(), "its endpoint is gone: {dialled:?}");
        drop(near);
        assert_eq!(fake.counts(NEAR), Counts::default());
        assert_eq!(fake.violations(), []);
        drop(listener);
    });
}
