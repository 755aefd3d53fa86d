//! The same conversations over RDMA: on a NIC in virtual time, RoCE and iWARP in turns, and in the
//! guest of `tests/rdma-guest.sh`, on the real kernel stack and in real time.
//!
//! On the fake NIC every fault at the first passage of every edge of every pair, races in both
//! orders, and the named rows; in the guest those rows, and a few edges of every pair. What is
//! checked, and what a NIC does not have, `fabrics.rs` says.

use stellate::testing::rdma::fake::Personality;

use crate::case::{LOSSLESS, LOSSLESS_STATELESS, LOSSY, LOSSY_STATEFUL, PEERS, PEERS_BOTH};
use crate::case::{Pair, Strike};
use crate::fabrics::{Fabric, all_reached, product};
use crate::rows;

const NICS: [Fabric; 2] = [Fabric::Nic(Personality::ROCE), Fabric::Nic(Personality::IWARP)];

/// Every fault; of one step and of one order the first is on RoCE, of the next on iWARP.
fn every_fault(pairs: &[Pair], pairs_reach_all: bool) {
    let deal = |step: usize, order: usize| {
        let nic = |(nth, strike)| (NICS[(step + order + nth) % NICS.len()], strike);
        Strike::ALL.into_iter().enumerate().map(nic).collect()
    };
    let reached = product(NICS[0], pairs, deal);
    if pairs_reach_all {
        all_reached(NICS[0], &reached);
    }
}

#[test]
fn each_row_holds_over_rdma() {
    let mut wrong = Vec::new();
    for case in rows::cases() {
        for nic in NICS {
            nic.hold(&case, &mut wrong);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_fault_of_a_lossy_pair_over_rdma() {
    every_fault(&[LOSSY, LOSSY_STATEFUL, LOSSLESS_STATELESS], false);
}

#[test]
fn every_fault_of_a_lossless_pair_over_rdma() {
    every_fault(&[LOSSLESS], false);
}

#[test]
fn every_fault_of_peers_of_which_one_dials_over_rdma() {
    every_fault(&[PEERS], false);
}

#[test]
fn s5_every_fault_of_peers_that_both_dial_over_rdma() {
    every_fault(&[PEERS_BOTH], true);
}

/// `STELLATE_HOSTS_AT` is where the first of two hosts listens, and the second: with a space between.
#[cfg(feature = "rdma")]
mod fabric {
    use stellate::testing::Edge;

    use crate::case::{Case, Order, Which, received, sent};
    use crate::many::{Played, Want, run};
    use crate::promises::broken;
    use crate::stage::{Pace, Stage};

    use super::*;

    /// Conversations at once.
    const AT_ONCE: usize = 12;

    fn hold(cases: Vec<Case>) {
        let at = std::env::var("STELLATE_HOSTS_AT").expect("STELLATE_HOSTS_AT: two addresses");
        let (first, second) = at.split_once(' ').expect("two addresses");
        let stage = Stage::Fabric([first.to_owned(), second.to_owned()]);
        let (mut all, mut count, mut busy, mut struck) = (String::new(), 0, 0, 0);
        for Played { case, outcome, disturbed, took } in run(stage, AT_ONCE, Want::Promises, cases)
        {
            println!("{took:.1?} {case}");
            count += 1;
            busy += usize::from(disturbed);
            let outcome = match outcome {
                Ok(outcome) => outcome,
                Err(stuck) => {
                    all += &format!("{case}: {stuck}\n");
                    continue;
                }
            };
            struck += usize::from(outcome.hits > 0);
            for wrong in broken(&case, &Pace::real_time(), &outcome) {
                // How long it took is the machine's doing then.
                if !(disturbed && wrong.starts_with("S8")) {
                    all += &format!("{case}: {wrong}\n");
                }
            }
            if outcome.hits > 1 {
                all += &format!("{case}: the fault struck {} times\n", outcome.hits);
            }
        }
        println!("{count} conversations, {struck} struck, {busy} while the machine was busy");
        assert!(all.is_empty() && count > 0 && struck > 0, "{all}");
    }

    #[test]
    #[ignore = "needs an RDMA device"]
    fn each_row_holds_on_a_real_fabric() {
        hold(rows::cases().collect());
    }

    #[test]
    #[ignore = "needs an RDMA device"]
    fn every_pair_comes_through_lost_frames_on_a_real_fabric() {
        let mut cases = Vec::new();
        for pair in Pair::ALL {
            let faults = [
                None,
                Some((Strike::Fail, received(Which::A, Edge::HelloAnswer, 1))),
                Some((Strike::Fail, received(Which::A, Edge::Message, 2))),
                Some((Strike::Fail, sent(Which::B, Edge::Ack, 1))),
                Some((Strike::Fail, sent(Which::A, Edge::Chunk, 1))),
                Some((Strike::StallAfter, received(Which::B, Edge::Pull, 1))),
            ];
            cases.extend(faults.map(|fault| Case::new(pair, Order::AGreater, fault)));
        }
        hold(cases);
    }
}
