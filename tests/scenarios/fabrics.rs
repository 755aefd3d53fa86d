//! The same conversations on every fabric that can be simulated: the profiles, and the fake NIC.
//!
//! | fabric | named rows | every reached edge of every pair, both orders where they race |
//! | --- | --- | --- |
//! | `stream` | `rows.rs`, with counts | `golden.rs`, with counts: every fault, second passages too |
//! | `rsockets`, `verbs`, `iwarp`, `ugni`, `portals4` | here | one fault a step, dealt so that over the five each step meets all five |
//! | `psm` | here, all times short | no: its links look at the fabric every tick, at ten times the cost |
//! | fake NIC | `rdma.rs`, RoCE and iWARP | every fault, RoCE and iWARP in turns |
//!
//! The promises hold in each, each fault strikes once, and a step that a stream reaches and the fabric
//! does not is one that [`Fabric::lacks`] names. Counts are compared with nothing: who dials after a
//! loss depends on who is told of it, and when. What is heard of a row is what it says.

use std::collections::{BTreeMap, BTreeSet};

use stellate::testing::rdma::fake::{FakeNet, Personality};
use stellate::testing::sim::Profile;
use stellate::testing::{Direction, Edge, virtual_time};

use crate::case::*;
use crate::golden::{Expected, steps};
use crate::promises::broken;
use crate::rows;
use crate::stage::{Pace, Stage};
use crate::talk::{in_virtual_time, play};
use crate::tally::Outcome;

#[derive(Clone, Copy)]
pub enum Fabric {
    Sim(Profile),
    Nic(Personality),
}

impl Fabric {
    fn name(self) -> String {
        match self {
            Self::Sim(profile) => profile.name.to_owned(),
            Self::Nic(personality) => format!("a fake NIC of {}", personality.fabric),
        }
    }

    fn play(self, case: &Case) -> Result<Outcome, String> {
        match self {
            Self::Sim(profile) => in_virtual_time(&case.over(profile)),
            Self::Nic(personality) => virtual_time(1, async |_| {
                play(&Stage::Rdma(FakeNet::new(1), personality), case).await
            }),
        }
    }

    /// Plays `case`, with what it broke added to `wrong`; nothing if it did not end.
    pub fn hold(self, case: &Case, wrong: &mut Vec<String>) -> Option<Outcome> {
        let mut say = |text| wrong.push(format!("{case} on {}: {text}", self.name()));
        let outcome = self.play(case).map_err(&mut say).ok()?;
        let pace = match &self {
            Self::Sim(profile) => Pace::over(profile),
            Self::Nic(_) => Pace::virtual_time(),
        };
        broken(case, &pace, &outcome).into_iter().for_each(&mut say);
        let hits = usize::from(case.fault.is_some());
        if outcome.hits != hits {
            say(format!("the fault struck {} times", outcome.hits));
        }
        Some(outcome)
    }

    /// Why an edge is never reached here.
    fn lacks(self, edge: Edge) -> Option<&'static str> {
        let counted = matches!(self, Self::Sim(profile) if profile.limits.recv_slots.is_some());
        match edge {
            Edge::Grant if matches!(self, Self::Nic(_)) => {
                Some("the driver has credits of its own, below the session")
            }
            Edge::Grant if !counted => Some("nobody counts receives"),
            _ => None,
        }
    }
}

/// Which of two peers dials after a loss, and who wins, is a matter of milliseconds.
fn races(pair: Pair, edge: Edge) -> bool {
    use Edge::{Accept, Dial, Hello, HelloAnswer, Lost, Resume, ResumeAnswer};
    pair.a == pair.b
        && matches!(edge, Accept | Dial | Hello | HelloAnswer | Lost | Resume | ResumeAnswer)
}

/// What passes in the conversations of a pair when nothing disturbs them, by how they are made.
#[derive(Default)]
struct Calm {
    outcomes: BTreeMap<(bool, bool, bool), Option<Outcome>>,
}

impl Calm {
    /// Whether the step of the case's fault is reached: nothing differs before it strikes.
    fn reaches(&mut self, fabric: Fabric, case: &Case, wrong: &mut Vec<String>) -> bool {
        let Some((_, step)) = case.fault else { return false };
        let made = (case.admission, case.slow_winner, case.closer == Which::A);
        let outcome = self.outcomes.entry(made).or_insert_with(|| fabric.hold(&case.calm(), wrong));
        outcome.as_ref().is_some_and(|outcome| {
            let side = if step.at == Which::A { &outcome.a } else { &outcome.b };
            side.passed.seen(step.edge, step.direction) >= step.nth
        })
    }
}

/// Plays the first passage of every edge of `pair`: `deal` says which faults, on what, by the number
/// of the step and of the order.
pub fn product(
    usual: Fabric,
    pairs: &[Pair],
    deal: impl Fn(usize, usize) -> Vec<(Fabric, Strike)>,
) -> BTreeSet<(Edge, Direction)> {
    let (mut wrong, mut count, mut reached) = (Vec::new(), 0, BTreeSet::new());
    for pair in pairs {
        for (nth_order, order) in pair.orders().iter().enumerate() {
            let (golden, mut calm) = (Expected::of(*pair, *order), Calm::default());
            for (nth, step) in steps(1).enumerate() {
                let case = |strike| Case::new(*pair, *order, Some((strike, step)));
                let any = case(Strike::Fail);
                let here = calm.reaches(usual, &any, &mut wrong);
                let stream = golden.find(step, Strike::Fail).is_some();
                // The table has verbs for grants; fewer slots want more of them.
                let more = here && step.edge == Edge::Grant;
                let same = here == stream || more || races(*pair, step.edge);
                if !same && usual.lacks(step.edge).is_none() {
                    let name = usual.name();
                    wrong.push(format!("{any} on {name}: reached {here}, by a stream {stream}"));
                }
                if !here {
                    continue;
                }
                reached.insert((step.edge, step.direction));
                for (fabric, strike) in deal(nth, nth_order) {
                    count += 1;
                    fabric.hold(&case(strike), &mut wrong);
                }
            }
        }
    }
    println!("{} and others: {count} conversations", usual.name());
    assert!(wrong.is_empty() && count > 0, "{count} played:\n{}", wrong.join("\n"));
    reached
}

/// All that there is was reached, but for what the fabric lacks.
pub fn all_reached(fabric: Fabric, reached: &BTreeSet<(Edge, Direction)>) {
    for step in steps(1) {
        let found = reached.contains(&(step.edge, step.direction));
        let lacks = fabric.lacks(step.edge);
        let name = fabric.name();
        assert_eq!(found, lacks.is_none(), "{name}: {step}, lacks: {lacks:?}");
    }
}

/// The profiles that share the faults: as many as there are of those.
const DEALT: [Profile; Strike::ALL.len()] =
    [Profile::RSOCKETS, Profile::VERBS, Profile::IWARP, Profile::UGNI, Profile::PORTALS4];

/// Each step meets each fault on one of the five.
fn dealt(profile: Profile) {
    let place = DEALT.iter().position(|other| *other == profile).unwrap();
    let fabric = Fabric::Sim(profile);
    let deal = |step: usize, _| vec![(fabric, Strike::ALL[(step + place) % DEALT.len()])];
    all_reached(fabric, &product(fabric, &Pair::ALL, deal));
}

#[test]
fn each_row_holds_on_every_profile() {
    let mut wrong = Vec::new();
    for profile in Profile::ALL {
        let elsewhere = profile == Profile::STREAM || profile == Profile::PSM;
        assert!(elsewhere || DEALT.contains(&profile), "who plays {}?", profile.name);
        let fabric = Fabric::Sim(profile);
        for (case, expected) in rows::heard() {
            let Some(outcome) = fabric.hold(&case, &mut wrong) else { continue };
            let found = [outcome.a.side().heard(), outcome.b.side().heard()];
            if found != expected {
                let name = profile.name;
                wrong.push(format!("{case} on {name}: heard {found:?}, expected {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_step_over_rsockets() {
    dealt(Profile::RSOCKETS);
}

#[test]
fn every_step_over_verbs() {
    dealt(Profile::VERBS);
}

#[test]
fn every_step_over_iwarp() {
    dealt(Profile::IWARP);
}

#[test]
fn every_step_over_ugni() {
    dealt(Profile::UGNI);
}

#[test]
fn every_step_over_portals4() {
    dealt(Profile::PORTALS4);
}
