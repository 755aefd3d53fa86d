//! The whole product in virtual time, against the tables in `golden/`.
//!
//! Every fault, at both sides, at the first and second passage of every kind of frame in both
//! directions, for every policy pair and both identity orders. A step that is never reached is in
//! the table too. The promises are checked apart: a golden file can be updated, they cannot.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use stellate::testing::{Direction, Edge};

use crate::case::*;
use crate::promises::broken;
use crate::stage::Pace;
use crate::talk::in_virtual_time;
use crate::tally::Side;

const EDGES: [Edge; 16] = [
    Edge::Dial,
    Edge::Accept,
    Edge::Hello,
    Edge::HelloAnswer,
    Edge::Resume,
    Edge::ResumeAnswer,
    Edge::Lost,
    Edge::Message,
    Edge::Announce,
    Edge::Pull,
    Edge::Chunk,
    Edge::Ack,
    Edge::Grant,
    Edge::Heartbeat,
    Edge::Admitted,
    Edge::Close,
];

/// Every frame edge at both sides, up to its nth passage.
pub fn steps(nth_max: u64) -> impl Iterator<Item = Step> {
    EDGES.into_iter().flat_map(move |edge| {
        // A dial is always sent, an accept always received.
        let directions: &[Direction] = match edge {
            Edge::Dial => &[Direction::Sent],
            Edge::Accept => &[Direction::Received],
            _ => &[Direction::Sent, Direction::Received],
        };
        directions.iter().flat_map(move |direction| {
            Which::BOTH.into_iter().flat_map(move |at| {
                (1..=nth_max).map(move |nth| Step { at, direction: *direction, edge, nth })
            })
        })
    })
}

const HEAD: &str = "\
# What comes of a fault at every frame edge. Written by UPDATE=1 cargo test -p stellate --test scenarios
#
# The numbers of a side are over all of its sessions:
#   d  dials                       l  links accepted / of them in place of one that was up
#   h  hellos sent / received      z  resets
#   r  resumes sent / received     up, re  events Connected, Resumed
# and then the causes of the events of its ends, in the order of the sessions.
# Of the undisturbed conversation: A connects; the link is cut once if the pair is lossless; A closes.
# Where the fault is at a Close, the side that sends it closes.
";

/// The sides of a case, with the promises checked; nothing if its step is never reached.
fn sides(case: &Case, wrong: &mut String) -> Option<(Side, Side)> {
    match in_virtual_time(case) {
        Err(stuck) => writeln!(wrong, "{case}: {stuck}").unwrap(),
        Ok(outcome) => {
            for promise in broken(case, &Pace::virtual_time(), &outcome) {
                writeln!(wrong, "{case}: {promise}").unwrap();
            }
            if case.fault.is_none() || outcome.hits > 0 {
                return Some((outcome.a.side(), outcome.b.side()));
            }
        }
    }
    None
}

/// One step: each outcome once, with the faults that have it.
fn rows_of(
    pair: Pair,
    order: Order,
    step: Step,
    calm: &(Side, Side),
    wrong: &mut String,
) -> String {
    let mut found: Vec<((Side, Side), Vec<String>)> = Vec::new();
    for strike in Strike::ALL {
        let case = Case::new(pair, order, Some((strike, step)));
        let Some(sides) = sides(&case, wrong) else {
            return format!("{step}: never\n");
        };
        match found.iter_mut().find(|(known, _)| *known == sides) {
            Some((_, strikes)) => strikes.push(format!("{strike:?}")),
            None => found.push((sides, vec![format!("{strike:?}")])),
        }
    }
    let mut text = format!("{step}\n");
    for ((a, b), strikes) in found {
        let strikes = strikes.join(" ");
        match (&a, &b) == (&calm.0, &calm.1) {
            true => writeln!(text, "  {strikes:<32} as undisturbed").unwrap(),
            false => writeln!(text, "  {strikes:<32} A {a:<44} B {b}").unwrap(),
        }
    }
    text
}

fn table(pair: Pair, order: Order) -> String {
    let mut wrong = String::new();
    let calm = sides(&Case::new(pair, order, None), &mut wrong).expect("the undisturbed case ends");
    let mut text = format!("{HEAD}\n{:<34} A {:<44} B {}\n\n", "undisturbed", calm.0, calm.1);
    // The mixed pairs are lossy as the lossy ones: what they do with a second one is no news.
    let nth_max = if [LOSSY_STATEFUL, LOSSLESS_STATELESS].contains(&pair) { 1 } else { 2 };
    for step in steps(nth_max) {
        text.push_str(&rows_of(pair, order, step, &calm, &mut wrong));
    }
    assert!(wrong.is_empty(), "broken promises:\n{wrong}");
    text
}

fn path_of(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios/golden").join(name)
}

/// A table as others read it.
pub struct Expected {
    text: String,
}

impl Expected {
    pub fn of(pair: Pair, order: Order) -> Self {
        Self { text: std::fs::read_to_string(path_of(&name_of(pair, order))).unwrap() }
    }

    /// Both sides after that fault there; nothing where the step is never reached.
    pub fn find(&self, step: Step, strike: Strike) -> Option<(String, String)> {
        let head = step.to_string();
        let rows = self.text.lines().skip_while(|line| *line != head).skip(1);
        let mut rows = rows.take_while(|line| line.starts_with(' '));
        let name = format!("{strike:?}");
        let row = rows.find(|row| row.split_whitespace().any(|word| word == name))?;
        let row = match row.contains("as undisturbed") {
            true => self.text.lines().find(|line| line.starts_with("undisturbed"))?,
            false => row,
        };
        let (_, sides) = row.split_once(" A ")?;
        let (a, b) = sides.split_once(" B ")?;
        Some((a.trim().into(), b.trim().into()))
    }
}

/// A pair with a race has a table for each identity order.
fn name_of(pair: Pair, order: Order) -> String {
    match (pair.a == pair.b, order) {
        (false, _) => format!("{}.txt", pair.name),
        (true, Order::AGreater) => format!("{}.a-greater.txt", pair.name),
        (true, Order::BGreater) => format!("{}.b-greater.txt", pair.name),
    }
}

fn compare(name: &str, found: &str) {
    let path = path_of(name);
    if std::env::var_os("UPDATE").is_some() {
        return std::fs::write(&path, found).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    let mut differ = String::new();
    let mut step = "";
    for (number, (old, new)) in golden.lines().zip(found.lines()).enumerate() {
        step = if new.starts_with(' ') { step } else { new };
        if old != new {
            write!(differ, "{name}:{}: {step}\n - {old}\n + {new}\n", number + 1).unwrap();
        }
    }
    let same_length = golden.lines().count() == found.lines().count();
    assert!(
        differ.is_empty() && same_length,
        "the outcome of faults has changed; if that is meant, UPDATE=1 and review:\n{differ}"
    );
}

fn check_race(pair: Pair) {
    for order in [Order::AGreater, Order::BGreater] {
        compare(&name_of(pair, order), &table(pair, order));
    }
}

/// Where only one side dials nobody races, and the order of the identities means nothing.
fn check_without_race(pair: Pair) {
    let found = table(pair, Order::AGreater);
    compare(&name_of(pair, Order::AGreater), &found);
    assert!(found == table(pair, Order::BGreater), "{}: the order matters", pair.name);
}

#[test]
fn s4_every_fault_at_every_edge_of_a_lossy_pair() {
    check_without_race(LOSSY);
}

#[test]
fn s4_every_fault_at_every_edge_of_a_lossy_client_of_a_stateful_server() {
    check_without_race(LOSSY_STATEFUL);
}

#[test]
fn s4_every_fault_at_every_edge_of_a_lossless_client_of_a_stateless_server() {
    check_without_race(LOSSLESS_STATELESS);
}

#[test]
fn s2_every_fault_at_every_edge_of_a_lossless_client_and_server() {
    check_without_race(LOSSLESS);
}

#[test]
fn s2_every_fault_at_every_edge_of_peers_of_which_one_dials() {
    check_race(PEERS);
}

#[test]
fn s5_every_fault_at_every_edge_of_peers_that_both_dial() {
    check_race(PEERS_BOTH);
}
