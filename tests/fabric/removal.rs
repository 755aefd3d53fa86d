//! The RDMA device under a session goes.

use std::process::{Child, Command};

use stellate::prelude::*;

use crate::side::{Side, fabric, scheme, send, setting};

/// Takes the device away. The kernel is not done before every process has let go of it, which
/// librdmacm never does: it ends after us. Soft RoCE works until then, and tells nobody.
fn remove() -> Child {
    let script = format!(". {}; remove {}", setting("STELLATE_HOSTS"), setting("STELLATE_CABLE"));
    Command::new("bash").args(["-c", &script]).spawn().unwrap()
}

#[actix_rt::test]
#[ignore = "needs an RDMA device, and takes it away"]
async fn s1_s2_a_loaded_session_goes_on_while_its_device_is_removed() {
    let fabric = fabric();
    let two = Side::new(2, &["tcp://127.0.0.1:0", &fabric]).await;
    let one = Side::new(1, &[]).await;
    let to = [two.address(scheme(&fabric)), two.address("tcp")];
    let there = one.messenger.connect(EntityName::osd(2), to).unwrap();
    send(&there, 0..40).await;
    two.has_begun(1).await;
    let mut removing = remove();
    send(&there, 40..120).await;
    two.has_read(120, &there).await;
    let counters = there.counters();
    println!("links lost: {}, removed: {:?}", counters.links_lost, removing.try_wait());
    assert_eq!(counters.ended, 0);
}
