//! How `stellate demo` ends when it is interrupted, or when its disk takes no more: with a clear
//! word, and with nothing left behind.
#![cfg(all(feature = "cli", unix))]
#![allow(clippy::unwrap_used)] // Helpers of tests are outside of what the lint takes for a test.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Files of so many bytes in all to store.
fn tree(place: &Path, bytes: usize) {
    std::fs::create_dir_all(place.join("tree")).unwrap();
    for n in 0..100 {
        std::fs::write(place.join("tree").join(format!("file {n}")), vec![n; bytes / 100]).unwrap();
    }
}

/// A demonstration whose files go to `place`, started through a shell that runs `limits` first.
fn demo(place: &Path, limits: &str, options: &[&str]) -> Child {
    std::fs::create_dir_all(place.join("store")).unwrap();
    let script = format!("{limits} exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_stellate"), "demo"]);
    command.arg("--path").arg(place.join("tree")).arg("--store").arg(place.join("store"));
    command.args(options).env("TMPDIR", place).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Its exit code and what it said to the end, and that it left nothing.
fn end_of(mut demo: Child, mut said: impl Read, place: &Path) -> (Option<i32>, String) {
    let mut words = String::new();
    said.read_to_string(&mut words).unwrap();
    let code = demo.wait().unwrap().code();
    assert_eq!(std::fs::read_dir(place.join("store")).unwrap().count(), 0, "left behind");
    (code, words)
}

/// Interrupts it once it runs.
fn interrupted(options: &[&str]) {
    let place = tempfile::tempdir().unwrap();
    tree(place.path(), 20 << 20);
    let mut demo = demo(place.path(), "", options);
    let mut said = BufReader::new(demo.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("stellate why") {
        line.clear();
        assert_ne!(said.read_line(&mut line).unwrap(), 0, "it ended by itself");
    }
    let id = demo.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let (code, words) = end_of(demo, said, place.path());
    assert_eq!(code, Some(2), "{words}");
    assert!(words.contains("stellate: interrupted at"), "{words}");
    assert!(words.contains("drained, and nothing is left behind"), "{words}");
}

#[test]
fn ctrl_c_drains_and_exits() {
    interrupted(&["--cuts", "100"]);
}

/// The OSD that was told to wait does not hold up the end.
#[test]
fn ctrl_c_wakes_who_was_paused() {
    interrupted(&["--pause", "50"]);
}

#[test]
fn ctrl_c_stops_the_processes_too() {
    interrupted(&["--processes"]);
}

/// A limit of the size of files stands for the disk: it ends a write in the middle just so.
#[test]
fn a_disk_that_takes_no_more_is_told_with_the_osd_and_the_cause() {
    let place = tempfile::tempdir().unwrap();
    tree(place.path(), 20 << 20);
    // In blocks of 512 or 1,024 bytes, which is less than the files in either case.
    let mut demo = demo(place.path(), "trap '' XFSZ; ulimit -f 4000;", &[]);
    let said = demo.stderr.take().unwrap();
    let (code, words) = end_of(demo, said, place.path());
    assert_eq!(code, Some(2), "{words}");
    let told = words.lines().find(|line| line.starts_with("stellate: osd.")).expect(&words);
    assert!(told.contains("does not take writes") && told.contains("File too large"), "{told}");
}

#[test]
fn a_store_that_cannot_be_made_is_told_with_its_path() {
    let place = tempfile::tempdir().unwrap();
    tree(place.path(), 1 << 10);
    let file = place.path().join("tree/file 0");
    let mut command = Command::new(env!("CARGO_BIN_EXE_stellate"));
    command.arg("demo").arg("--path").arg(place.path().join("tree")).arg("--store").arg(&file);
    let output = command.output().unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{words}");
    assert!(words.contains("cannot make a directory for the databases in"), "{words}");
    assert!(words.contains("file 0") && words.contains("--store"), "{words}");
}
