//! Drills: the built-in workload and its checkers, over drawn cases.
#![allow(clippy::unwrap_used)] // Helpers are outside of `#[test]` functions.

use std::collections::BTreeSet;
use std::time::Duration;

use stellate::prelude::EntityName;
use stellate::testing::drill::{Case, Does, Draw, Mail, Mix, Node, Op, Pace, Report};
use stellate::testing::rdma::fake::Personality;
use stellate::testing::sim::Tamper;
use stellate::testing::{Action, Fabric, Script};

fn held(case: &Case, what: &str) -> Report {
    let report = case.run().unwrap();
    assert!(report.outcome.held(), "{what} {}: {:?}", case.order, report.outcome.breach);
    report
}

/// S1 to S9, V1 to V3: a few seeds of each mix; `stellate sim` runs more.
#[test]
fn s1_to_s9_hold_in_every_mix() {
    for mix in Mix::ALL {
        let draw = Draw { mix, ..Draw::default() };
        let (mut messages, mut faults) = (0, 0);
        for seed in 1..5 {
            let report = held(&draw.case(seed), mix.name());
            messages += report.messages;
            faults += report.outcome.faults;
        }
        assert!(messages > 500, "{}: {messages} messages", mix.name());
        assert_eq!(faults == 0, mix == Mix::Calm, "{}: {faults} faults", mix.name());
    }
}

#[test]
fn s1_to_s9_hold_over_every_fabric() {
    for fabric in Fabric::all() {
        held(&Draw { fabric: Some(fabric), ..Draw::default() }.case(2), fabric.name());
    }
}

/// Each fabric is drawn where nothing is said, NICs too, and a case names the one that it is for.
#[test]
fn every_fabric_is_drawn() {
    let drawn: BTreeSet<String> = (0..200).map(|seed| Draw::default().case(seed).profile).collect();
    let all: BTreeSet<String> = Fabric::all().map(|fabric| fabric.name().to_owned()).collect();
    assert_eq!(drawn, all);
}

/// D1 over the driver and NICs, with their faults; without those it is another run.
#[test]
fn d1_a_case_on_nics_gives_the_same_run_each_time() {
    let draw = |nic| Draw { nodes: Some(3), fabric: Some(Fabric::Nic(nic)), ..Draw::default() };
    let is_nic = |action: &Action| matches!(action, Action::Nic { .. });
    for nic in [Personality::ROCE, Personality::IWARP] {
        let case = (0..100)
            .map(|seed| draw(nic).case(seed))
            .find(|case| {
                let steps = case.script.steps().iter();
                (200..600).contains(&case.messages())
                    && steps.filter(|step| is_nic(&step.action)).count() > 3
            })
            .unwrap();
        let text = serde_json::to_string(&case).unwrap();
        let read: Case = serde_json::from_str(&text).unwrap();
        assert_eq!(read, case);
        let [one, two, again] = [&case, &case, &read].map(|case| held(case, "again"));
        assert!(one.messages > 100, "{} messages", one.messages);
        assert_eq!(one.outcome.trace_hash, two.outcome.trace_hash);
        assert_eq!(one.outcome.trace_hash, again.outcome.trace_hash);
        let steps = case.script.steps().iter().filter(|step| !is_nic(&step.action));
        let calmer = Case { script: Script::from_iter(steps.cloned()), ..case.clone() };
        let calmer = held(&calmer, "without faults of NICs");
        assert_ne!(one.outcome.trace_hash, calmer.outcome.trace_hash);
        assert!(one.outcome.faults > calmer.outcome.faults);
    }
}

/// D1: with all faults there are, to the last event, and written out and read again.
#[test]
fn d1_a_case_gives_the_same_run_each_time() {
    let draw = Draw::default();
    let case = draw.case(8);
    let text = serde_json::to_string(&case).unwrap();
    let read: Case = serde_json::from_str(&text).unwrap();
    assert_eq!(read, case);
    let hashes = [&case, &case, &read].map(|case| held(case, "again").outcome.trace_hash);
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
    let other = Case { order: 9, ..case };
    assert_ne!(held(&other, "another order").outcome.trace_hash, hashes[0]);
}

/// A file is no reason to panic, and is told where it is wrong.
#[test]
fn a_case_that_makes_no_sense_says_why() {
    let good = Draw { nodes: Some(3), ..Draw::default() }.case(3);
    let wrong = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut value = serde_json::to_value(&good).unwrap();
        change(&mut value);
        match serde_json::from_value::<Case>(value) {
            Ok(case) => case.check().unwrap_err().to_string(),
            Err(error) => error.to_string(),
        }
    };
    type Change<'a> = &'a dyn Fn(&mut serde_json::Value);
    let cases: [(&str, Change<'_>); 9] = [
        ("no profile \"avian\"", &|case| case["profile"] = "avian".into()),
        ("unknown field `colour`", &|case| case["colour"] = "blue".into()),
        ("1 to 1000 nodes, not 0", &|case| case["nodes"] = serde_json::json!([])),
        ("two nodes have one name", &|case| case["nodes"][1] = case["nodes"][0].clone()),
        ("op 0: there is no node osd.99", &|case| case["ops"][0]["from"] = "osd.99".into()),
        ("op 0: 9999999s is more than", &|case| case["ops"][0]["at_ms"] = 9_999_999_000u64.into()),
        ("\"osd.x\": ", &|case| case["nodes"][0]["name"] = "osd.x".into()),
        ("drifts by 200000 ppm at most", &|case| case["nodes"][0]["drift_ppm"] = 200_001.into()),
        ("a window has 1 to", &|case| case["pace"]["window_messages"] = 0.into()),
    ];
    for (says, change) in cases {
        let error = wrong(change);
        assert!(error.contains(says), "{error:?} does not say {says:?}");
    }
}

/// Cases that broke a promise once: each is held from then on.
#[test]
fn s1_to_s9_cases_that_failed_hold() {
    let cases = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut paths: Vec<_> =
        std::fs::read_dir(cases).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    for path in paths {
        let case: Case = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        held(&case, &path.display().to_string());
    }
}

const ONE: EntityName = EntityName::osd(1);
const TWO: EntityName = EntityName::osd(2);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Two peers that send each other a message each tenth of a second for eight seconds, with quick
/// heartbeats, and what goes wrong from one second on.
fn two_peers(action: Action) -> Case {
    let node = |name| Node {
        name,
        admission: Default::default(),
        incarnations: false,
        clock_ms: 0,
        misfit: false,
        fuse_ms: 0,
        drift_ppm: 0,
    };
    let mail = Mail { count: 1, class: 2, len: 5, ..Mail::default() };
    let op = |n: u64| {
        let (from, to) = if n.is_multiple_of(2) { (ONE, TWO) } else { (TWO, ONE) };
        Op { at: ms(100 + n * 50), from, to, does: Does::Send(mail.clone()) }
    };
    Case {
        order: 1,
        profile: "stream".into(),
        quality: Default::default(),
        span: ms(8_000),
        pace: Pace {
            heartbeat: ms(250),
            backoff_max: ms(200),
            standby_max: ms(5_000),
            ..Pace::default()
        },
        nodes: vec![node(ONE), node(TWO)],
        ops: (0..150).map(op).collect(),
        script: Script::new().at(ms(1_000), action),
        sabotage: 0,
    }
}

fn rows(report: &Report) -> Vec<String> {
    report.outcome.rows_taken()
}

/// S2, S4: whatever is done to the frames of a peer, nothing is handed out that was not sent, nothing
/// twice, nothing damaged; a peer that goes on breaking the rules ends the session on both sides.
#[test]
fn s4_a_peer_whose_frames_are_tampered_with_costs_a_session_at_most() {
    for (how, row) in [
        (Tamper::Damage, "LinkLostPoison"),
        (Tamper::Skip, "FrameFault"),
        (Tamper::Claim, "Violated"),
        (Tamper::HangUp, "PeerClosed"),
        (Tamper::Repeat, "AnswerAccepted"),
    ] {
        let tamper = Action::Tamper { from: ONE, to: TWO, how, lasts: ms(2_000) };
        let report = held(&two_peers(tamper), how.name());
        assert!(rows(&report).iter().any(|taken| taken == row), "{how}: {:?}", rows(&report));
        assert!(report.messages >= 100, "{how}: {} messages", report.messages);
    }
    // What is sent twice is handed out once, on the link that is there.
    let tamper = Action::Tamper { from: ONE, to: TWO, how: Tamper::Repeat, lasts: ms(2_000) };
    let report = held(&two_peers(tamper), "repeat");
    assert_eq!(report.messages, 150);
    assert!(!rows(&report).iter().any(|row| row.starts_with("LinkLost")), "{:?}", rows(&report));
}

/// S6: two live processes of one name are told of, and both are served.
#[test]
fn s6_a_second_process_of_a_name_is_a_conflict_and_no_end() {
    let report = held(&two_peers(Action::Twin { node: ONE, lasts: ms(3_000) }), "twin");
    for row in ["PeerProbed", "ProbeAnswered"] {
        assert!(rows(&report).iter().any(|taken| taken == row), "{row}: {:?}", rows(&report));
    }
}

/// S9: a session that stands still longer than its deadline, and hears nothing meanwhile, forgives
/// its peer once. One that only stands still reads what came, and forgives nobody.
#[test]
fn s9_a_session_that_stands_still_takes_the_blame() {
    let pause = Action::Pause { node: TWO, actor: "sessions/1".into(), lasts: ms(2_500) };
    let forgives = |case: &Case| rows(&held(case, "pause")).contains(&"StallForgiven".to_owned());
    let mut case = two_peers(pause);
    assert!(!forgives(&case));
    let silence = Action::OneWay { from: ONE, to: TWO, lasts: ms(2_600) };
    case.script = case.script.at(ms(990), silence);
    assert!(forgives(&case));
}
