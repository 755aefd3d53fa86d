//! `stellate bench` and `stellate explain` as tools call them: one JSON document, with the fields
//! that are fixed, and a stream that is checked.
#![cfg(feature = "cli")]

use std::process::{Command, Output};

use serde_json::Value;

fn stellate(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stellate"));
    command.args(words).output().expect("the binary runs")
}

fn document(words: &[&str]) -> Value {
    let output = stellate(words);
    let words_of_it = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {words_of_it}");
    serde_json::from_slice(&output.stdout).expect("one JSON document and nothing else")
}

#[test]
fn rows_compare_ours_with_the_peer_in_all_placements() {
    let words = ["bench", "--peer", "raw", "--case", "stream,pingpong", "--sizes", "64"];
    let rest = ["--seconds", "0.1", "--rounds", "1", "--json"];
    let document = document(&[&words[..], &rest[..]].concat());
    let rows = document["rows"].as_array().expect("rows");
    assert_eq!(
        rows.len(),
        (2 + 3) * 2,
        "a stream in two placements, ping-pong in three, two figures each"
    );
    for row in rows {
        for number in ["ours", "peer", "ratio"] {
            assert!(row[number].as_f64().is_some_and(|value| value > 0.0), "{number} in {row}");
        }
        assert_eq!((row["size"].as_u64(), row["peer_name"].as_str()), (Some(64), Some("raw")));
        let (ours, peer) = (row["ours"].as_f64().unwrap(), row["peer"].as_f64().unwrap());
        let more_is_better = row["case"] == "stream";
        let ratio = if more_is_better { ours / peer } else { peer / ours };
        assert!((row["ratio"].as_f64().unwrap() - ratio).abs() < 1e-9, "above 1 is better: {row}");
    }
}

#[test]
fn every_other_case_runs() {
    let cases = "request_w32,control_under_bulk,lossless_cost,dial_storm,many_connections,fanin";
    let words = ["bench", "--case", cases, "--sizes", "64", "--seconds", "0.1", "--rounds", "1"];
    let document = document(&[&words[..], &["--json"]].concat());
    let rows = document["rows"].as_array().expect("rows");
    for case in cases.split(',') {
        assert!(rows.iter().any(|row| row["case"] == case), "{case} is missing");
    }
}

#[test]
fn unknown_peers_cases_and_sizes_are_refused() {
    for words in [["--peer", "carrier-pigeon"], ["--case", "nap"], ["--sizes", "1"]] {
        let output = stellate(&[&["bench"], &words[..]].concat());
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn explain_tells_transports_and_memory() {
    let document = document(&["explain", "--json"]);
    let transports = document["transports"].as_array().expect("transports");
    assert!(transports.iter().any(|transport| transport["scheme"] == "tcp"));
    let memory = &document["memory"];
    let most = stellate::Limits::default().session_bytes_max();
    assert_eq!(memory["session_bytes_max"].as_u64(), Some(most));
}
