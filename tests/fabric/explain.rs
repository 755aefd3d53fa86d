//! The part of `stellate explain` that tells of devices.
#![cfg(feature = "rdma")]

#[path = "../../src/cli/explain/pairs.rs"]
mod pairs;
#[path = "../../src/cli/explain/rdma.rs"]
mod rdma;

use stellate::Limits;

/// On a machine without RDMA: what runs everywhere.
#[test]
fn where_no_device_is_it_says_what_is_missing_and_what_to_do() {
    if std::path::Path::new("/dev/infiniband/rdma_cm").exists() {
        return;
    }
    let section = rdma::section(&Limits::default());
    assert_eq!(section["built_in"], true);
    let text = rdma::text(&section);
    assert!(text.contains("none: "), "{text}");
    assert!(text.contains("no RDMA connection manager"), "{text}");
    assert!(text.contains("modprobe rdma_ucm"), "{text}");
}
