//! What `stellate bench` measures Stellate against, in a program of its own, so that Stellate
//! neither links nor builds any of it. It takes a role as JSON and answers as the processes of
//! the bench do; `stellate-peers allocations` counts the allocations of our own side.
#![forbid(unsafe_code)]

mod allocations;
#[allow(dead_code, unreachable_pub)] // the bench's own file, of which peers need a part
#[path = "../../../src/cli/bench/role.rs"]
mod role;
mod zeromq;

use std::process::ExitCode;

use role::{Role, Word, end_with_stdin, say};

fn main() -> ExitCode {
    let Some(told) = std::env::args().nth(1) else {
        eprintln!("this program is run by `stellate bench --peer zmq`");
        return ExitCode::from(2);
    };
    let played = match told.as_str() {
        "allocations" => allocations::run(),
        told => play(told),
    };
    match played {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&Word::Error(error));
            ExitCode::FAILURE
        }
    }
}

fn play(told: &str) -> Result<(), String> {
    let role: Role = serde_json::from_str(told).map_err(|error| error.to_string())?;
    end_with_stdin();
    match role.peer.as_str() {
        "zmq" => zeromq::run(&role),
        peer => Err(format!("no peer {peer} here")),
    }
}
