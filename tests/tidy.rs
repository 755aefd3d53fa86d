//! Habits that no compiler checks: short files and lines, no leftovers, promises that are held by
//! tests, examples that the README names.

use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a source file; beyond it a file has more than one noun.
const LINES_MAX: usize = 620;
/// Columns of a source line.
const COLUMNS_MAX: usize = 110;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `dir` with that extension, build directories left out.
fn files(dir: &Path, extension: &str, into: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() {
            if !["target", ".git", "corpus", "artifacts"].iter().any(|skip| name == *skip) {
                files(&path, extension, into);
            }
        } else if path.extension().is_some_and(|found| found == extension) {
            into.push(path);
        }
    }
}

fn sources() -> Vec<(PathBuf, String)> {
    let mut paths = Vec::new();
    files(root(), "rs", &mut paths);
    assert!(paths.len() > 50, "the search found the sources");
    paths
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).expect("a source file is text");
            (path, text)
        })
        .collect()
}

#[test]
fn files_and_lines_are_short() {
    let mut long = Vec::new();
    for (path, text) in sources() {
        let lines = text.lines().count();
        let is_test = path.components().any(|part| part.as_os_str() == "tests");
        if lines > LINES_MAX && !is_test {
            long.push(format!("{}: {lines} lines", path.display()));
        }
        for (number, line) in text.lines().enumerate() {
            // A table cannot be wrapped.
            let is_table = line.trim_start().starts_with("//! |") || line.contains("=>");
            if line.chars().count() > COLUMNS_MAX && !is_table && !is_test {
                long.push(format!("{}:{}: {line}", path.display(), number + 1));
            }
        }
    }
    assert!(long.is_empty(), "too long:\n{}", long.join("\n"));
}

#[test]
fn nothing_is_left_over() {
    let markers = ["TO".to_owned() + "DO", "FIX".to_owned() + "ME", "XX".to_owned() + "X"];
    let mut left = Vec::new();
    for (path, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            if markers.iter().any(|marker| line.contains(marker.as_str())) {
                left.push(format!("{}:{}: {line}", path.display(), number + 1));
            }
        }
    }
    assert!(left.is_empty(), "left over:\n{}", left.join("\n"));
}

/// `select!` draws by lot which of its branches it looks at first: the same seed would give another
/// run (D1). The command line, examples and tests run in real time and may use it.
#[test]
fn nothing_is_drawn_by_lot_in_the_library() {
    let macros = ["tokio::sel".to_owned() + "ect!", "futures::sel".to_owned() + "ect!"];
    let real_time = ["src/cli/", "/tests/", "examples/", "benches/"];
    let mut drawn = Vec::new();
    for (path, text) in sources() {
        let place = path.strip_prefix(root()).unwrap_or(&path).display().to_string();
        let is_library = !real_time.iter().any(|part| format!("/{place}").contains(part));
        if is_library && macros.iter().any(|name| text.contains(name.as_str())) {
            drawn.push(place);
        }
    }
    assert!(drawn.is_empty(), "poll in an order of your own:\n{}", drawn.join("\n"));
}

/// Every promise of PROTOCOL.md has a test whose name begins with its id, or a row that says how
/// it is held otherwise.
#[test]
fn every_promise_is_held_by_a_test() {
    let protocol = fs::read_to_string(root().join("PROTOCOL.md")).expect("PROTOCOL.md is there");
    let sources = sources();
    let ids = (1..=9).map(|n| format!("S{n}")).chain((1..=5).map(|n| format!("V{n}")));
    for id in ids {
        assert!(protocol.contains(&format!("| {id} |")), "{id} is not in PROTOCOL.md");
        let test = format!("{}_", id.to_lowercase());
        let held = sources
            .iter()
            .any(|(_, text)| text.lines().any(|line| line.contains("fn ") && line.contains(&test)));
        assert!(held, "no test is named after {id}");
    }
}

#[test]
fn every_example_is_in_the_readme() {
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md is there");
    for entry in fs::read_dir(root().join("examples")).expect("there are examples").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".rs") {
            assert!(readme.contains(&format!("examples/{name}")), "README.md lacks {name}");
        }
    }
}
