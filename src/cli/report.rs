//! What all commands share: how they end, and where their words go.

use std::fmt;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use serde_json::Value;
use tracing_subscriber::EnvFilter;

/// Why a command could not be run as asked, in words for people. Exit code 2.
#[derive(Debug)]
pub(crate) struct Trouble(String);

impl Trouble {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for Trouble {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// Whether what a command checks held.
pub(crate) type Ended = Result<bool, Trouble>;

/// 0: it held. 1: it did not. 2: it could not be run.
pub(crate) fn exit_code(ended: Ended) -> ExitCode {
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(trouble) => {
            eprintln!("stellate: {trouble}");
            ExitCode::from(2)
        }
    }
}

/// Prints the one document of `--json`. A reader that went away is no reason to panic.
pub(crate) fn print_json(document: &Value) {
    let mut stdout = std::io::stdout().lock();
    let _ = serde_json::to_writer_pretty(&mut stdout, document);
    let _ = writeln!(stdout);
}

/// Traces go to stderr, filtered by `STELLATE_LOG`; by `otherwise`, if that is not set.
pub(crate) fn log_to_stderr(otherwise: &str) {
    let filter =
        EnvFilter::try_from_env("STELLATE_LOG").unwrap_or_else(|_| EnvFilter::new(otherwise));
    // Fails only if a subscriber is set already, which then does the job.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
}
