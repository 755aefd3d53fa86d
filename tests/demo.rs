//! The main job, small: objects on a cluster of OSDs over TCP that is broken meanwhile, every copy
//! read back; and a check that each sort of sabotage is seen.
#![allow(clippy::unwrap_used)] // Helpers of tests are outside of what the lint takes for a test.

#[path = "../examples/osd/mod.rs"]
mod osd;

use std::sync::Arc;
use std::time::Duration;

use osd::client::Client;
use osd::daemon::{self, MONITOR};
use osd::messages::{Get, Got};
use osd::report::Report;
use osd::sabotage::Sabotage;
use osd::trial::Trial;
use stellate::prelude::*;
use stellate::testing::{Seat, Tcp};

/// Object number `n`: none, small ones, and some that are pulled in chunks.
fn object(n: usize) -> Bytes {
    let len = if n.is_multiple_of(10) { n * 3000 } else { n * 7 };
    (0..len).map(|at| (at ^ n) as u8).collect::<Vec<u8>>().into()
}

async fn trial(osds: u64, objects: usize, sabotage: Option<Sabotage>) -> Report {
    let home = tempfile::tempdir().unwrap();
    let cluster = daemon::blueprint(osds, 3, sabotage).deploy(home.path()).start().await.unwrap();
    let client = Client::start(&cluster.address_of(MONITOR).unwrap()).await.unwrap();
    client.wait_for(osds as usize).await;
    let names: Vec<String> = (0..objects).map(|n| format!("object-{n}")).collect();
    let trial = Trial {
        client: client.clone(),
        osds,
        names: &names,
        read: &|n| Ok(object(n)),
        cuts: 4,
        crash: None,
        progress: &|_| {},
    };
    let report = trial.run().await.unwrap();
    client.stop().await;
    cluster.stop().await;
    report
}

#[actix::test(actix_rt)]
async fn s2_everything_acknowledged_is_on_every_replica_once_and_in_order() {
    let report = trial(3, 120, None).await;
    assert!(report.holds(), "{report:#?}");
    assert_eq!((report.objects, report.verified), (120, 360));
    assert!(report.link_cuts >= 2 && !report.unacked_at_cut.contains(&0), "{report:#?}");
    assert!(report.resumes >= 2 && report.replayed >= 2, "{report:#?}");
    assert_eq!(report.restarts, 1, "{report:#?}");
    // 120 writes, and 240 copies of them, at least.
    assert!(report.checked >= 360, "{report:#?}");
}

#[actix::test(actix_rt)]
async fn one_object_on_one_osd_is_cut_and_panicked_as_well() {
    let report = trial(1, 1, None).await;
    assert!(report.holds() && report.link_cuts > 0, "{report:#?}");
    assert_eq!((report.objects, report.verified), (1, 1), "{report:#?}");
}

#[actix::test(actix_rt)]
async fn a_store_path_that_drops_is_seen() {
    let report = trial(3, 40, Some(Sabotage::Drop)).await;
    assert!(!report.holds() && report.lost > 0, "{report:#?}");
    assert_eq!((report.duplicated, report.reordered, report.corrupt), (0, 0, 0), "{report:#?}");
}

#[actix::test(actix_rt)]
async fn a_store_path_that_doubles_is_seen() {
    let report = trial(3, 40, Some(Sabotage::Dup)).await;
    assert!(!report.holds() && report.duplicated > 0, "{report:#?}");
    assert_eq!((report.lost, report.reordered, report.corrupt), (0, 0, 0), "{report:#?}");
}

#[actix::test(actix_rt)]
async fn a_store_path_that_swaps_is_seen() {
    let report = trial(3, 40, Some(Sabotage::Swap)).await;
    assert!(!report.holds() && report.reordered > 0, "{report:#?}");
    assert_eq!((report.duplicated, report.corrupt), (0, 0), "{report:#?}");
}

#[actix::test(actix_rt)]
async fn a_store_path_that_flips_is_seen() {
    let report = trial(3, 40, Some(Sabotage::Flip)).await;
    assert!(!report.holds() && report.corrupt > 0, "{report:#?}");
    assert_eq!((report.lost, report.duplicated, report.reordered), (0, 0, 0), "{report:#?}");
}

/// A peer that knows a newer map is held, its messages with it, until the map has come.
#[actix::test(actix_rt)]
async fn a_peer_with_a_newer_map_waits_for_ours() {
    let home = tempfile::tempdir().unwrap();
    let cluster = daemon::blueprint(1, 3, None).deploy(home.path()).start().await.unwrap();
    let monitor = cluster.address_of(MONITOR).unwrap();
    let client = Client::start(&monitor).await.unwrap();
    client.wait_for(1).await;

    // It says that it has epoch 2, and there is only epoch 1 yet.
    let prophet = Messenger::builder(EntityName::client(9))
        .metadata(2u64.to_le_bytes().to_vec())
        .transport(Arc::new(Tcp::new()))
        .default_policy(Policy::lossless_client())
        .build()
        .await
        .unwrap();
    prophet.ready();
    let osd = client.map().osds[&0].clone();
    let session = prophet.connect(EntityName::osd(0), osd.as_str()).unwrap();
    let mut asked =
        std::future::IntoFuture::into_future(session.request(Get { object: "none".into() }));
    while client.status(0).await.unwrap().held == 0 {
        let soon = tokio::time::timeout(Duration::from_millis(5), &mut asked).await;
        assert!(soon.is_err(), "answered before its epoch was known: {soon:?}");
    }

    // A second OSD makes epoch 2: now it is let in, and what it had asked is answered.
    let second = Seat {
        name: EntityName::osd(1),
        life: 0,
        home: home.path().to_owned(),
        bind: "tcp://127.0.0.1:0".parse().unwrap(),
        peers: [(MONITOR, monitor)].into(),
    };
    let second = daemon::blueprint(2, 3, None).sit(second).await.unwrap();
    assert_eq!(asked.await.unwrap().body, Got::Missing);

    prophet.shutdown().await;
    client.stop().await;
    second.stop().await;
    cluster.stop().await;
}
