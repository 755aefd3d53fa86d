//! `stellate replay`: the same run again, as lines, as JSON and as a chart.
#![cfg(feature = "cli")]

use std::process::{Command, Output};

fn replay(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stellate"));
    command.arg("replay").args(args).output().expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

fn json(args: &[&str]) -> serde_json::Value {
    let output = replay(args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one document, and nothing else")
}

/// D1, in two processes: as JSON, and as lines with a chart.
#[test]
fn d1_a_replay_is_the_same_run_however_it_is_watched() {
    let shape = ["--nodes", "3", "--faults", "lossy"];
    let told = json(&[&["5", "--json"], &shape[..]].concat());
    let events = told["events"].as_u64().expect("a number");
    assert!(events > 100, "{told}");
    let home = tempfile::tempdir().expect("a directory");
    let chart = home.path().join("run.html");
    let path = chart.to_str().expect("text");
    let lines = replay(&[&["5", "--chart", path], &shape[..]].concat());
    assert!(lines.status.success());
    let printed = text(&lines.stdout);
    assert_eq!(printed.lines().filter(|line| !line.starts_with('#')).count() as u64, events);
    let summary = text(&lines.stderr);
    assert!(summary.contains(told["trace_hash"].as_str().expect("text")), "{summary}");
    let page = std::fs::read_to_string(chart).expect("the chart");
    assert!(page.contains("<canvas id=\"chart\"") && page.contains("Stellate: 5"));
    assert_ne!(json(&[&["6", "--json"], &shape[..]].concat())["trace_hash"], told["trace_hash"]);
}

#[test]
fn a_case_file_is_replayed_and_what_is_none_is_told() {
    let home = tempfile::tempdir().expect("a directory");
    let draw = stellate::testing::drill::Draw { nodes: Some(2), ..Default::default() };
    let case = serde_json::to_string(&draw.case(3)).expect("a case is data");
    let path = home.path().join("case.json");
    std::fs::write(&path, case).expect("a file");
    let path = path.to_str().expect("text");
    let (drawn, read) = (json(&["3", "--nodes", "2", "--json"]), json(&[path, "--json"]));
    assert_eq!(drawn["trace_hash"], read["trace_hash"]);
    std::fs::write(path, "{}").expect("a file");
    for (wrong, why) in [(path, "is no case"), ("nothing.json", "no seed, and no case file")] {
        let output = replay(&[wrong]);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains(why), "{}", text(&output.stderr));
    }
}
