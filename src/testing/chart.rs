//! Draws a tape as a sequence chart: one HTML file that needs nothing else, and no network.
//!
//! ```text
//!   Tape ─► names as JSON, events as columns of numbers in base64 ─┐
//!   page.html, chart.css, *.js ────────────────────────────────────┴─► one file
//! ```
//!
//! * Nothing that a trace says is ever markup: the data is escaped in its script element, and the
//!   page sets it as text.
//! * The page's own policy forbids it to load anything.

mod columns;
mod json;

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use stellate_transport::trace::Tape;

use self::columns::Columns;
use self::json::Text;

const PAGE: &str = include_str!("chart/page.html");
const CSS: &str = include_str!("chart/chart.css");
const SCRIPTS: [&str; 5] = [
    include_str!("chart/tape.js"),
    include_str!("chart/view.js"),
    include_str!("chart/draw.js"),
    include_str!("chart/panel.js"),
    include_str!("chart/main.js"),
];

/// A chart that is to be written.
///
/// ```no_run
/// # use stellate::testing::{Chart, Cluster};
/// # fn save(cluster: Cluster) -> std::io::Result<()> {
/// let outcome = cluster.record(100_000).run(async |_| ());
/// if let Some(tape) = &outcome.tape {
///     Chart::of(tape).title("seed 7").save("seed-7.html")?;
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is written before `write` or `save`"]
pub struct Chart<'a> {
    tape: &'a Tape,
    title: String,
    facts: Vec<(String, String)>,
}

impl<'a> Chart<'a> {
    /// A chart of that tape.
    pub fn of(tape: &'a Tape) -> Self {
        Self { tape, title: "Stellate".into(), facts: Vec::new() }
    }

    /// What stands above it.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// Something that its reader should know of the run, such as the command that made it.
    pub fn fact(mut self, name: impl Into<String>, value: impl fmt::Display) -> Self {
        self.facts.push((name.into(), value.to_string()));
        self
    }

    /// Writes the page, about 25 bytes for each event.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut rest = PAGE;
        while let Some((before, after)) = rest.split_once("{{") {
            out.write_all(before.as_bytes())?;
            let (name, after) = after.split_once("}}").unwrap_or((after, ""));
            match name {
                "TITLE" => write!(out, "{}", json::Html(&self.title))?,
                "CSS" => out.write_all(CSS.as_bytes())?,
                "DATA" => self.write_data(out)?,
                _ => {
                    for script in SCRIPTS {
                        out.write_all(script.as_bytes())?;
                    }
                }
            }
            rest = after;
        }
        out.write_all(rest.as_bytes())
    }

    /// Writes the page to a file, in place of one that is there.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn save(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let mut out = BufWriter::new(File::create(path)?);
        self.write(&mut out)?;
        out.flush()
    }

    fn write_data(&self, out: &mut dyn Write) -> io::Result<()> {
        let columns = Columns::of(self.tape);
        write!(out, "{{\"count\":{},\"dropped\":{}", self.tape.events.len(), self.tape.dropped)?;
        let facts = self.facts.iter().flat_map(|(name, value)| [name.as_str(), value]);
        let facts: Vec<&str> = facts.collect();
        write!(out, ",\"facts\":[")?;
        for (place, fact) in facts.chunks(2).enumerate() {
            let comma = if place > 0 { "," } else { "" };
            write!(out, "{comma}[{},{}]", Text(fact[0]), Text(fact[1]))?;
        }
        write!(out, "]")?;
        columns.write(out)?;
        write!(out, "}}")
    }
}

impl fmt::Debug for Chart<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chart")
            .field("title", &self.title)
            .field("events", &self.tape.events.len())
            .finish_non_exhaustive()
    }
}
