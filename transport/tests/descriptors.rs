//! Out of file descriptors: an accept that fails is transient, and the listener lives on.
//!
//! The limit is the process's own, so the test runs itself again in a small process.

use std::future::poll_fn;
use std::process::Command;

use stellate_transport::{AcceptError, DialError, Tcp, Transport};
use tokio::net::TcpStream;
use tokio::time::{Duration, timeout};

const INNER: &str = "in_a_process_with_few_descriptors";

#[test]
fn running_out_of_descriptors_is_transient() {
    let this = std::env::current_exe().expect("this test");
    let script = format!("ulimit -n 40 && exec \"$0\" --ignored --exact {INNER}");
    let status = Command::new("sh").arg("-c").arg(script).arg(this).status();
    assert!(status.expect("a shell").success());
}

#[test]
#[ignore = "run by the test above, under its limit"]
fn in_a_process_with_few_descriptors() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        timeout(Duration::from_secs(20), starve()).await.expect("ends");
    });
}

async fn starve() {
    let tcp = Tcp::new();
    let at = "tcp://127.0.0.1:0".parse().expect("an address");
    let mut listener = tcp.listen(&at).expect("listens");
    let home = listener.local();
    let client = TcpStream::connect(home.socket().expect("a socket")).await;
    let _client = client.expect("dials");
    let mut hoard = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        hoard.push(file);
    }
    let error = poll_fn(|cx| listener.poll_accept(cx)).await;
    let error = error.expect_err("no descriptor left");
    assert!(matches!(error, AcceptError::Transient(_, Some(24))), "{error}");
    let dial = tcp.dial(&home).await.expect_err("no descriptor left");
    assert_eq!(dial, DialError::OutOfDescriptors);
    drop(hoard);
    let link = poll_fn(|cx| listener.poll_accept(cx)).await;
    link.expect("the connection waited in the backlog");
}
