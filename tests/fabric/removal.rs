//! The RDMA device under a session goes.

use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;

use stellate::prelude::*;
use stellate::testing::rdma::{Rdma, sys::System};
use tokio::time::{Instant, sleep};

use crate::side::{PATIENCE, Side, fabric, scheme, send, setting, until};
use crate::tap::Tap;

/// A command of the script that knows the hosts, on the device over our cable.
fn host(verb: &str) -> Command {
    let script = format!(". {}; {verb} {}", setting("STELLATE_HOSTS"), setting("STELLATE_CABLE"));
    let mut command = Command::new("bash");
    command.args(["-c", &script]);
    command
}

/// The device, as the kernel shows it while there is one.
fn device() -> PathBuf {
    let name = String::from_utf8(host("device_on").output().unwrap().stdout).unwrap();
    assert!(!name.trim().is_empty(), "the cable has a device");
    PathBuf::from("/sys/class/infiniband").join(name.trim())
}

/// Takes the device away: over when the kernel has removed it, for which it waits until nobody has a
/// soft device open.
fn remove() -> Child {
    host("remove").spawn().unwrap()
}

/// Where in the kernel those stand who remove a device.
fn stacks() -> String {
    let all = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let rdma = all.filter(|process| {
        std::fs::read_to_string(process.join("comm")).is_ok_and(|name| name == "rdma\n")
    });
    rdma.filter_map(|process| std::fs::read_to_string(process.join("stack")).ok()).collect()
}

#[actix_rt::test]
#[ignore = "needs an RDMA device, and takes it away"]
async fn s1_s2_a_loaded_session_goes_on_while_its_device_is_removed() {
    let (fabric, device) = (fabric(), device());
    let tap = Tap::on(Arc::new(System::new()));
    let rdma = Arc::new(Rdma::on(Arc::new(tap.clone())));
    let two = Side::over(2, &["tcp://127.0.0.1:0", &fabric], Some(rdma)).await;
    let one = Side::new(1, &[]).await;
    let (rdma, tcp) = (two.address(scheme(&fabric)), two.address("tcp"));
    let there = one.messenger.connect(EntityName::osd(2), rdma.clone()).unwrap();
    send(&there, 0..20).await;
    two.has_begun(1).await;
    let back = two.messenger.sessions().pop().expect("it has read from one");
    let before = [there.counters().links_lost, back.counters().links_lost];
    assert!(device.exists() && tap.removals() == 0);
    let mut removing = remove();
    // As many as find room while nothing goes.
    send(&there, 20..60).await;
    until("the word of it", || tap.removals() > 0).await;
    for (side, before) in [&there, &back].into_iter().zip(before) {
        until("the loss on both sides", || side.counters().links_lost > before).await;
    }
    there.readdress([rdma, tcp]).unwrap();
    // While we are there and have used it.
    let begin = Instant::now();
    while removing.try_wait().unwrap().is_none() {
        assert!(begin.elapsed() < PATIENCE, "the kernel waits:\n{}", stacks());
        sleep(Duration::from_millis(5)).await;
    }
    assert!(removing.wait().unwrap().success() && !device.exists(), "{device:?}");
    send(&there, 60..140).await;
    two.has_read(140, &there).await;
    assert_eq!((there.counters().ended, back.counters().ended), (0, 0));
    println!("links lost: {}, {}", there.counters().links_lost, back.counters().links_lost);
}
