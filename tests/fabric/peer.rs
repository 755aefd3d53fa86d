//! A messenger in another process, until it is killed.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use stellate::prelude::*;
use tokio::time::sleep;

use crate::side::{PATIENCE, Side, fabric, scheme};

pub struct Peer {
    child: Child,
    pub at: Address,
}

impl Peer {
    pub fn start() -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "peer::process", "--ignored", "--nocapture"]);
        let mut child = command.env("STELLATE_PEER", "1").stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let said = lines
            .map(Result::unwrap)
            .find_map(|line| line.split_once("listens ").map(|(_, at)| at.to_owned()));
        let at = said.expect("it says where it listens").parse().unwrap();
        Self { child, at }
    }

    /// It can say no goodbye; its kernel may.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Not a test: the process itself.
#[actix_rt::test]
#[ignore = "started by another test"]
async fn process() {
    if std::env::var_os("STELLATE_PEER").is_none() {
        return;
    }
    let fabric = fabric();
    let side = Side::new(2, &[&fabric]).await;
    println!("listens {}", side.address(scheme(&fabric)));
    sleep(PATIENCE * 2).await;
}
