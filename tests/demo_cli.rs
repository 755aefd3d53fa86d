//! `stellate demo` as its users run it: exit code, and one JSON document on stdout.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used)] // Helpers of tests are outside of what the lint takes for a test.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

fn tree() -> tempfile::TempDir {
    let tree = tempfile::tempdir().unwrap();
    for n in 0..40 {
        std::fs::write(tree.path().join(format!("file {n}")), vec![n as u8; n * 500]).unwrap();
    }
    tree
}

fn demo(tree: &Path, options: &[&str]) -> (i32, Value) {
    let ran = Command::new(env!("CARGO_BIN_EXE_stellate"))
        .args(["demo", "--json", "--path"])
        .arg(tree)
        .args(options)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    let document = serde_json::from_slice(&ran.stdout);
    let document = document.unwrap_or_else(|error| panic!("{error}; stderr: {said}"));
    (ran.status.code().unwrap(), document)
}

fn number(document: &Value, field: &str) -> u64 {
    document[field].as_u64().unwrap_or_else(|| panic!("{field} in {document:#}"))
}

#[test]
fn a_process_that_is_killed_loses_nothing_that_was_acknowledged() {
    let tree = tree();
    let (code, document) = demo(tree.path(), &["--processes"]);
    assert_eq!(code, 0, "{document:#}");
    assert_eq!((number(&document, "objects"), number(&document, "verified")), (40, 120));
    for field in ["lost", "duplicated", "reordered", "corrupt"] {
        assert_eq!(number(&document, field), 0, "{field} in {document:#}");
    }
    assert_eq!((number(&document, "kills"), number(&document, "restarts") >= 2), (1, true));
    for field in ["bytes", "resumes", "replayed", "deduplicated"] {
        number(&document, field);
    }
    let unacked = document["unacked_at_cut"].as_array().unwrap();
    assert_eq!(unacked.len() as u64, number(&document, "link_cuts"));
    assert!(!unacked.is_empty() && unacked.iter().all(|n| n.as_u64() > Some(0)), "{document:#}");
    assert!(document["seconds"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_check_that_fails_is_told_by_the_exit_code() {
    let tree = tree();
    let sorts =
        [("drop", "lost"), ("dup", "duplicated"), ("swap", "reordered"), ("flip", "corrupt")];
    for (sabotage, counter) in sorts {
        let (code, document) = demo(tree.path(), &["--sabotage", sabotage]);
        assert_eq!(code, 1, "{sabotage}: {document:#}");
        assert!(number(&document, counter) > 0, "{sabotage}: {document:#}");
    }
}
