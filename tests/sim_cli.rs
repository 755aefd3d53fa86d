//! `stellate sim` as its users run it: exit code, one JSON document on stdout, and case files.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used)] // Helpers of tests are outside of what the lint takes for a test.

use std::process::{Command, Stdio};

use serde_json::Value;

fn sim(options: &[&str]) -> (i32, Value, String) {
    let ran = Command::new(env!("CARGO_BIN_EXE_stellate"))
        .args(["sim", "--json"])
        .args(options)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    let document = match ran.stdout.is_empty() {
        true => Value::Null,
        false => {
            serde_json::from_slice(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
        }
    };
    (ran.status.code().unwrap(), document, said)
}

fn without_the_clock(mut document: Value) -> Value {
    document.as_object_mut().unwrap().remove("wall_seconds").unwrap();
    document
}

/// D1: in another process, with another environment and on another number of threads.
#[test]
fn d1_processes_and_threads_change_nothing() {
    let seeds = ["--seeds", "5..9", "--nodes", "3", "--faults", "everything"];
    let (code, one, said) = sim(&[&seeds[..], &["--jobs", "1"]].concat());
    assert_eq!(code, 0, "{one:#}");
    assert!(said.contains("seeds from 5"), "{said}");
    let two = sim(&[&seeds[..], &["--jobs", "3"]].concat()).1;
    let keys: Vec<&String> = one.as_object().unwrap().keys().collect();
    let all = [
        "coverage",
        "failures",
        "faults_injected",
        "messages",
        "seeds",
        "trace_hash",
        "virtual_seconds",
        "wall_seconds",
    ];
    assert_eq!(keys, all);
    assert_eq!(one["seeds"], 4);
    assert!(one["coverage"]["hit"].as_u64().unwrap() > 5);
    assert_eq!(without_the_clock(one.clone()), without_the_clock(two));
    assert_ne!(sim(&["--seed", "5"]).1["trace_hash"], one["trace_hash"]);
}

/// One seed takes some rows of the table and no more: that fails where it was asked for.
#[test]
fn rows_that_were_not_taken_fail_a_run_that_is_to_cover_them() {
    let seed = ["--seed", "5", "--faults", "calm", "--nodes", "2"];
    let (code, document, _) = sim(&seed);
    let rows = |key: &str| document["coverage"][key].as_array().unwrap().clone();
    assert_eq!(code, 0, "{document:#}");
    assert!(rows("missed").contains(&"LinkLostPoison".into()), "{document:#}");
    assert!(rows("missed").iter().all(|row| rows("never").contains(row)), "{document:#}");
    assert!(
        rows("never").contains(&"Faulted".into()) && !rows("missed").contains(&"Faulted".into())
    );
    let (code, again, _) = sim(&[&seed[..], &["--cover"]].concat());
    assert_eq!((code, &again["coverage"]), (1, &document["coverage"]));
}

/// What is kept from the checkers is noticed, cut down to next to nothing, and fails again from
/// its file.
#[test]
fn a_failing_seed_becomes_a_small_case_that_fails_again() {
    let cases = tempfile::tempdir().unwrap();
    let dir = cases.path().to_str().unwrap();
    let (code, document, _) =
        sim(&["--seed", "3", "--sabotage", "5", "--shrink", "300", "--cases", dir]);
    assert_eq!(code, 1, "{document:#}");
    let failure = &document["failures"][0];
    assert_eq!(failure["seed"], 3);
    let path = failure["case"].as_str().unwrap();
    let invariant = failure["invariant"].as_str().unwrap();
    assert!(["S1", "S3", "S8"].contains(&invariant), "{invariant}");
    assert!(failure["command"].as_str().unwrap().contains(path));
    let case: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let length = |field: &str| case[field].as_array().unwrap().len();
    assert!(length("nodes") <= 3 && length("ops") <= 2 && length("script") == 0, "{case:#}");
    let (code, again, _) = sim(&["--case", path]);
    assert_eq!((code, &again["failures"][0]["invariant"]), (1, &failure["invariant"]));
}

#[test]
fn what_makes_no_sense_is_told_and_not_run() {
    let cases = tempfile::tempdir().unwrap();
    let file = cases.path().join("case.json");
    std::fs::write(&file, "{\"order\": 1, \"colour\": 2}").unwrap();
    for (options, says) in [
        (&["--seeds", "9..3"][..], "the first seed is below the last"),
        (&["--profile", "pigeon"], "one of stream"),
        (&["--nodes", "1"], "2 to 1000 nodes"),
        (&["--case", file.to_str().unwrap()], "unknown field `colour`"),
        (&["--case", "nowhere.json"], "nowhere.json: "),
    ] {
        let (code, document, said) = sim(options);
        assert_eq!((code, document), (2, Value::Null), "{said}");
        assert!(said.contains(says), "{said:?} does not say {says:?}");
    }
}
