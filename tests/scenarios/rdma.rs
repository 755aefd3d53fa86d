//! The same conversations over RDMA: on a NIC in virtual time, RoCE and iWARP in turns, and in the
//! guest of `tests/rdma-guest.sh`, on the real kernel stack and in real time.
//!
//! Faults at every edge of three pairs, and the named rows; in the guest those rows, and a few edges
//! of every pair. The promises hold in each, no rule of the fabric is broken, and a fault strikes
//! once where it strikes at all; the counts of the golden files are those of a byte stream and are
//! not compared.

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

/// `STELLATE_HOSTS_AT` is where the first of two hosts listens, and the second: with a space between.
#[cfg(feature = "rdma")]
mod fabric {
    use stellate::testing::Edge;

    use crate::case::{LOSSLESS_STATELESS, LOSSY_STATEFUL, PEERS_BOTH, Which, received, sent};
    use crate::many::{Played, Want, run};

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
        for pair in [LOSSY, LOSSY_STATEFUL, LOSSLESS_STATELESS, LOSSLESS, PEERS, PEERS_BOTH] {
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
