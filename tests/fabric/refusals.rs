//! What is said where something is missing.
#![cfg(all(feature = "rdma", feature = "rsockets"))]

use stellate::prelude::*;

use crate::side::{Side, fabric, until};

/// What listening on RDMA is answered with here.
async fn refusal(at: &str) -> String {
    let builder = Messenger::builder(EntityName::osd(1)).bind(at).arbiters(0);
    builder.build().await.expect_err("there is nothing to listen with").to_string()
}

/// On a machine without RDMA: what runs everywhere.
#[actix_rt::test]
async fn without_rdma_it_says_what_is_missing_and_what_to_do() {
    if std::path::Path::new("/dev/infiniband/rdma_cm").exists() {
        return;
    }
    for at in ["rdma://127.0.0.1:0", "rsocket://127.0.0.1:0"] {
        let said = refusal(at).await;
        assert!(said.contains("modprobe rdma_ucm"), "{said}");
    }
    // The messenger is as good as any on TCP, and the dial fails by itself.
    let one = Side::new(1, &["tcp://127.0.0.1:0"]).await;
    let there = one.messenger.connect(EntityName::osd(2), "rdma://127.0.0.1:6800").unwrap();
    until("the dial", || there.counters().dials_failed > 0).await;
    there.abort();
}

/// In the guest, which takes things away: `STELLATE_EXPECT` is what the error has to say.
#[actix_rt::test]
#[ignore = "needs a machine that was broken on purpose"]
async fn an_error_says_what_and_what_to_do() {
    let Ok(expected) = std::env::var("STELLATE_EXPECT") else { return };
    let said = refusal(&fabric()).await;
    println!("{said}");
    assert!(said.contains(&expected), "{said}");
}
