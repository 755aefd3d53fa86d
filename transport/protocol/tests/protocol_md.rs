//! PROTOCOL.md says what the code does: its generated parts are made again and compared, and the
//! tests that it names exist.
//!
//! `UPDATE=1 cargo test -p stellate-protocol --test protocol_md` writes the generated parts anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use stellate_protocol::class::Class;
use stellate_protocol::limits::Limits;
use stellate_protocol::policy::Policy;
use stellate_protocol::session::{Phase, TABLE};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The tables and text of the codec's module documentation, from the frame's header on.
fn bytes() -> String {
    let source = read("transport/protocol/src/codec.rs");
    let docs = source.lines().map_while(|line| line.strip_prefix("//!"));
    let lines: Vec<&str> = docs.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
    let from = lines.iter().position(|line| line.starts_with("A frame is a header"));
    let text = lines[from.expect("the codec documents its header")..].join("\n");
    plain_links(&text)
}

/// Rustdoc links as plain code: a reader of the page has no rustdoc.
fn plain_links(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("[`") {
        plain.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let Some(end) = rest.find("`]") else { break };
        plain.push_str(&rest[..=end]);
        rest = &rest[end + 2..];
        if let Some(tail) = rest.strip_prefix('(') {
            rest = tail.split_once(')').map_or("", |(_, after)| after);
        }
    }
    plain + rest
}

fn phases(from: &[Phase]) -> String {
    let names: Vec<String> = from.iter().map(|phase| format!("{phase:?}")).collect();
    names.join(", ")
}

fn table() -> String {
    let mut text =
        "| row | from | input | when | to | does |\n| --- | --- | --- | --- | --- | --- |\n"
            .to_owned();
    for rule in TABLE {
        let to = rule.to.map_or("stays".to_owned(), |to| format!("{to:?}"));
        let from = phases(rule.from);
        let _ = writeln!(
            text,
            "| {:?} | {from} | {} | {} | {to} | {} |",
            rule.row, rule.input, rule.guard, rule.does
        );
    }
    text
}

/// Changes of phase only; the ends are one arrow for each phase.
fn diagram() -> String {
    let mut arrows: BTreeMap<(Phase, Phase), Vec<String>> = BTreeMap::new();
    for rule in TABLE {
        for from in rule.from {
            if let Some(to) = rule.to.filter(|to| to != from) {
                arrows.entry((*from, to)).or_default().push(format!("{:?}", rule.row));
            }
        }
    }
    let mut text = "```mermaid\nstateDiagram-v2\n    [*] --> Dialing: we dial\n    [*] --> Standby: a hello begins it\n".to_owned();
    for ((from, to), rows) in arrows {
        let label = match to {
            Phase::Ended => format!("{} ways to end", rows.len()),
            _ => rows.join(", "),
        };
        let _ = writeln!(text, "    {from:?} --> {to:?}: {label}");
    }
    text + "    Ended --> [*]\n```\n"
}

fn policies() -> String {
    let mut text = "| dials ↓ accepts → |".to_owned();
    let mut rule = "| --- |".to_owned();
    for acceptor in Policy::PRESETS {
        let _ = write!(text, " {} |", acceptor.name());
        rule += " --- |";
    }
    let _ = writeln!(text, "\n{rule}");
    for dialler in Policy::PRESETS {
        let _ = write!(text, "| {} |", dialler.name());
        for acceptor in Policy::PRESETS {
            let cell = match (dialler.dials(), acceptor.accept(dialler.offer())) {
                (false, _) => "never dials",
                (_, Ok(promise)) if promise.lossy => "at most once",
                (_, Ok(_)) => "exactly once",
                (_, Err(_)) => "refused",
            };
            let _ = write!(text, " {cell} |");
        }
        text.push('\n');
    }
    text
}

fn limits() -> String {
    let limits = Limits::default();
    let control = limits.window_messages[Class::Control.index()];
    let normal = limits.window_messages[Class::Normal.index()];
    let rows = [
        ("heartbeat_every", format!("{:?}", limits.heartbeat_every)),
        ("heartbeat_deadline", format!("{:?}", limits.heartbeat_deadline)),
        ("hello_timeout", format!("{:?}", limits.hello_timeout)),
        (
            "backoff_min, backoff_max",
            format!(
                "{:?}, {:?}, and up to half of it as jitter",
                limits.backoff_min, limits.backoff_max
            ),
        ),
        ("race_wait", format!("{:?}", limits.race_wait)),
        ("probe", format!("{:?}", limits.probe)),
        ("standby_max", format!("{:?}", limits.standby_max)),
        ("hold_max", format!("{:?}", limits.hold_max)),
        ("drain_max", format!("{:?}", limits.drain_max)),
        ("ack_delay", format!("{:?}", limits.ack_delay)),
        (
            "outbox_messages, outbox_bytes",
            format!("{}, {}", limits.outbox_messages, limits.outbox_bytes),
        ),
        ("window_messages", format!("{control} Control, {normal} each of the others")),
        (
            "window_bytes, pull_bytes",
            format!("{}, {} a lane", limits.window_bytes, limits.pull_bytes),
        ),
        (
            "requests_max, requests_bytes",
            format!("{}, {} a class", limits.requests_max, limits.requests_bytes),
        ),
        ("replies_bytes", format!("{} a session", limits.replies_bytes)),
        ("front_max, data_max", format!("{}, {}", limits.front_max, limits.data_max)),
        ("slot_bytes, chunk_bytes", format!("{}, {}", limits.slot_bytes, limits.chunk_bytes)),
        (
            "handshakes_max, sessions_max, events_max, events_bytes",
            format!(
                "{}, {}, {}, {}",
                limits.handshakes_max, limits.sessions_max, limits.events_max, limits.events_bytes
            ),
        ),
        ("one session at most", format!("{} bytes", limits.session_bytes_max())),
    ];
    let mut text = "| limit | default |\n| --- | --- |\n".to_owned();
    for (name, value) in rows {
        let _ = writeln!(text, "| {name} | {value} |");
    }
    text
}

const BEGIN: &str = "<!-- generated: ";
const END: &str = "<!-- end -->";

/// The page with its generated parts made anew.
fn regenerated(page: &str) -> String {
    let mut parts = BTreeMap::from([
        ("bytes", bytes()),
        ("table", table()),
        ("diagram", diagram()),
        ("policies", policies()),
        ("limits", limits()),
    ]);
    let mut text = String::new();
    let mut rest = page;
    while let Some(at) = rest.find(BEGIN) {
        let (before, from) = rest.split_at(at);
        let (name, after) = from[BEGIN.len()..].split_once(" -->").expect("a closed marker");
        let (_, tail) = after.split_once(END).expect("an end of each generated part");
        let part = parts.remove(name).unwrap_or_else(|| panic!("no part is called {name}"));
        let _ = write!(text, "{before}{BEGIN}{name} -->\n{}\n{END}", part.trim_end());
        rest = tail;
    }
    assert!(parts.is_empty(), "PROTOCOL.md lacks {:?}", parts.keys());
    text + rest
}

#[test]
fn the_generated_parts_agree_with_the_code() {
    let page = read("PROTOCOL.md");
    let made = regenerated(&page);
    if std::env::var_os("UPDATE").is_some() {
        return std::fs::write(root().join("PROTOCOL.md"), made).expect("writable");
    }
    let differs = page.lines().zip(made.lines()).find(|(old, new)| old != new);
    assert!(page == made, "PROTOCOL.md is behind the code (UPDATE=1 writes it anew): {differs:?}");
}

/// Why that test in that file holds nothing, if so: it is not there, not run, or not with every change.
fn holds_nothing(source: &str, test: &str) -> Option<&'static str> {
    let lines: Vec<&str> = source.lines().map(str::trim_start).collect();
    // A function, or an instance of a macro that makes tests.
    let begins = [format!("fn {test}("), format!("async fn {test}("), format!("{test}: ")];
    let Some(at) = lines.iter().position(|line| begins.iter().any(|begin| line.starts_with(begin)))
    else {
        return Some("it is not there");
    };
    let above = lines[..at].iter().rev();
    let attributes: Vec<&str> = above
        .take_while(|line| line.starts_with("#[") || line.starts_with("//"))
        .copied()
        .filter(|line| line.starts_with("#["))
        .collect();
    if attributes.iter().any(|line| line.contains("ignore")) {
        return Some("it is ignored");
    }
    let is_function = !lines[at].starts_with(&begins[2]);
    let is_test = attributes.iter().any(|line| line.contains("test"));
    // Of the contract suite, whose macro has a list, or within a macro that makes tests of all it has.
    let is_listed = lines.contains(&test) || lines[..at].contains(&"scenarios! {");
    (is_function && !is_test && !is_listed).then_some("nothing runs it")
}

#[test]
fn the_tests_it_names_are_run() {
    let page = read("PROTOCOL.md");
    let mut named = 0;
    for quoted in page.split('`').skip(1).step_by(2) {
        let Some((file, test)) = quoted.split_once("::") else {
            continue;
        };
        if !file.ends_with(".rs") {
            continue;
        }
        named += 1;
        if let Some(why) = holds_nothing(&read(file), test) {
            panic!("PROTOCOL.md names {quoted}: {why}");
        }
    }
    assert!(named >= 20, "only {named} tests are named");
}

#[test]
fn a_test_that_is_not_run_holds_nothing() {
    let source = "
        #[test]
        fn runs() {}
        #[tokio::test(start_paused = true)]
        /// Says so.
        async fn runs_too() {}
        #[test]
        #[ignore = \"large\"]
        fn is_ignored() {}
        fn helper() {}
        async fn of_the_suite(rig: Rig) {}
        instances! {
            small: ONE { says: 1 }
            #[ignore = \"large\"]
            large: ONE { says: 2 }
        }
        contract!(
            of_the_suite
        );";
    let found = |test| holds_nothing(source, test);
    for test in ["runs", "runs_too", "of_the_suite", "small"] {
        assert_eq!(found(test), None, "{test}");
    }
    assert_eq!(found("is_ignored"), Some("it is ignored"));
    assert_eq!(found("large"), Some("it is ignored"));
    assert_eq!(found("helper"), Some("nothing runs it"));
    assert_eq!(found("run"), Some("it is not there"));
}

/// Each promise and each law has a test, or says how it is held without.
#[test]
fn every_promise_names_what_holds_it() {
    let page = read("PROTOCOL.md");
    let ids = [("S", 9), ("F", 8), ("V", 5)];
    for id in ids.iter().flat_map(|(kind, most)| (1..=*most).map(move |n| format!("{kind}{n}"))) {
        let row = page.lines().find(|line| line.starts_with(&format!("| {id} |")));
        let held = row.and_then(|row| row.trim_end_matches('|').rsplit('|').next());
        let held = held.unwrap_or_else(|| panic!("PROTOCOL.md has no row of {id}"));
        assert!(held.contains(".rs::") || held.contains("by type"), "{id}: {held}");
    }
}
