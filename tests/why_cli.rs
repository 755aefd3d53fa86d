//! `stellate why` as its users run it, on a demonstration that runs.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used)] // Helpers of tests are outside of what the lint takes for a test.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

/// A place for temporary files of its own: other demonstrations are not found there.
fn stellate(place: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stellate"));
    command.args(words).env("TMPDIR", place).stdin(Stdio::null());
    command
}

fn why(place: &Path, words: &[&str]) -> Output {
    stellate(place, &[&["why"], words].concat()).output().unwrap()
}

/// Killed with its test. What it says must have somebody to read it.
struct Demo(Child, Option<BufReader<ChildStderr>>);

impl Drop for Demo {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A demonstration with an actor that pauses, and the address that it tells.
fn demo(place: &Path, options: &[&str]) -> (Demo, String) {
    let tree = place.join("tree");
    std::fs::create_dir_all(&tree).unwrap();
    for n in 0..200 {
        std::fs::write(tree.join(format!("file {n}")), vec![n as u8; n * 100]).unwrap();
    }
    let mut command = stellate(place, &["demo", "--json", "--path", tree.to_str().unwrap()]);
    command.args(options).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut demo = Demo(command.spawn().unwrap(), None);
    let stderr = BufReader::new(demo.0.stderr.take().unwrap());
    let mut lines = demo.1.insert(stderr).lines();
    let told = lines.find_map(|line| {
        let line = line.unwrap();
        line.split('`').find_map(|word| word.strip_prefix("stellate why ")).map(str::to_owned)
    });
    (demo, told.expect("the demonstration tells where it is asked"))
}

fn sessions(document: &Value) -> impl Iterator<Item = &Value> {
    let processes = document["processes"].as_array().unwrap().iter();
    processes.flat_map(|process| process["sessions"].as_array().unwrap())
}

/// Asks until a session shows what `wanted` wants.
fn ask_until(place: &Path, words: &[&str], wanted: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..600 {
        let answer = why(place, &[&["--json"], words].concat());
        if answer.status.success() {
            let document: Value = serde_json::from_slice(&answer.stdout).unwrap();
            if sessions(&document).any(&wanted) {
                return document;
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("it was never told");
}

fn queue_of<'a>(session: &'a Value, actor: &str) -> Option<&'a Value> {
    session["queues"].as_array()?.iter().find(|queue| queue["actor"] == actor)
}

#[test]
fn why_names_the_actor_in_front_of_which_messages_wait() {
    let place = tempfile::tempdir().unwrap();
    let (mut demo, address) = demo(place.path(), &["--pause", "8"]);
    let waits = |session: &Value| {
        let queue = queue_of(session, "osd");
        session["messenger"] == "osd.0"
            && queue.is_some_and(|queue| queue["since_s"].as_f64() > Some(0.5))
    };
    let document = ask_until(place.path(), &[], waits);
    let session = sessions(&document).find(|session| waits(session)).unwrap();
    assert!(queue_of(session, "osd").unwrap()["messages"].as_u64() > Some(0), "{session:#}");
    assert_eq!(document["processes"][0]["process"], demo.0.id());
    // For people, and by its address.
    let text = why(place.path(), &[&address]);
    assert_eq!(text.status.code(), Some(0));
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("in front of actor \"osd\" for "), "{text}");
    // The scheme is always the same.
    let short = address.strip_prefix("tcp://").unwrap();
    assert_eq!(why(place.path(), &[short]).status.code(), Some(0));
    // The pause costs time and nothing else.
    assert!(demo.0.wait().unwrap().success());
    nothing_runs(place.path());
}

#[test]
fn why_asks_every_process_of_a_demonstration() {
    let place = tempfile::tempdir().unwrap();
    let (mut demo, _) = demo(place.path(), &["--processes"]);
    let document = ask_until(place.path(), &[], |session| session["messenger"] == "osd.2");
    assert!(document["processes"].as_array().unwrap().len() > 1, "{document:#}");
    assert!(demo.0.wait().unwrap().success());
    nothing_runs(place.path());
}

fn nothing_runs(place: &Path) {
    let answer = why(place, &["--json"]);
    let said = String::from_utf8(answer.stderr).unwrap();
    assert_eq!((answer.status.code(), answer.stdout.len()), (Some(2), 0), "{said}");
    assert!(said.contains("nothing that could be asked runs here"), "{said}");
}

#[test]
fn why_fails_in_words_where_nothing_runs() {
    let place = tempfile::tempdir().unwrap();
    nothing_runs(place.path());
    let answer = why(place.path(), &["tcp://127.0.0.1:9"]);
    let said = String::from_utf8(answer.stderr).unwrap();
    assert_eq!(answer.status.code(), Some(2), "{said}");
    assert!(said.contains("tcp://127.0.0.1:9"), "{said}");
    let answer = why(place.path(), &["nonsense"]);
    assert_eq!(answer.status.code(), Some(2));
}
