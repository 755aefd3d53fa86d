//! The same conversations over RDMA, on a NIC in virtual time: RoCE and iWARP in turns.
//!
//! Faults at every edge of three pairs, and the named rows. The promises hold in each, no rule
//! of the fabric is broken, and a fault strikes once where it strikes at all; the counts of the
//! golden files are those of a byte stream and are not compared.

use stellate::testing::rdma::fake::{FakeNet, Personality};
use stellate::testing::virtual_time;

use crate::case::{Case, LOSSLESS, LOSSY, Order, PEERS, Pair, Strike};
use crate::golden::steps;
use crate::promises::broken;
use crate::rows;
use crate::stage::{Pace, Stage};
use crate::talk::play;

/// What a conversation broke, in words.
fn wrong(case: &Case, personality: Personality) -> Vec<String> {
    virtual_time(1, async |_| {
        let stage = Stage::Rdma(FakeNet::new(1), personality);
        let outcome = match play(&stage, case).await {
            Ok(outcome) => outcome,
            Err(stuck) => return vec![stuck],
        };
        let mut wrong = broken(case, &Pace::virtual_time(), &outcome);
        if outcome.hits > 1 {
            wrong.push(format!("the fault struck {} times", outcome.hits));
        }
        wrong
    })
}

fn hold(cases: impl Iterator<Item = Case>) {
    let (mut all, mut count) = (String::new(), 0);
    for (case, personality) in
        cases.zip([Personality::ROCE, Personality::IWARP].into_iter().cycle())
    {
        count += 1;
        for wrong in wrong(&case, personality) {
            all += &format!("{case} on {}: {wrong}\n", personality.fabric);
        }
    }
    assert!(all.is_empty() && count > 0, "{all}");
}

fn product(pair: Pair, strikes: &[Strike]) {
    let strikes = |step| strikes.iter().map(move |strike| Some((*strike, step)));
    hold(steps(1).flat_map(strikes).map(|fault| Case::new(pair, Order::AGreater, fault)));
}

#[test]
fn each_row_holds_over_rdma() {
    hold(rows::cases());
}

#[test]
fn every_fault_of_a_lossy_pair_over_rdma() {
    product(LOSSY, &Strike::ALL);
}

#[test]
fn every_fault_of_a_lossless_pair_over_rdma() {
    product(LOSSLESS, &Strike::ALL);
}

#[test]
fn lost_and_stalled_frames_of_two_peers_over_rdma() {
    product(PEERS, &[Strike::Fail, Strike::StallAfter]);
}
