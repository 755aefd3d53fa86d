//! A node in a process of its own: started, watched, killed.

use std::process::{Child, ExitStatus};
use std::time::Duration;

use stellate_transport::Address;
use tokio::time::Instant;

use super::deployment::{DeployError, MakeCommand};
use super::seat::Seat;

/// Between two looks at a process.
const LOOK: Duration = Duration::from_millis(5);

/// A running process. Dropping it kills it.
pub(super) struct Process {
    child: Child,
}

impl Process {
    /// Starts it, and waits until its node is up.
    pub(super) async fn start(
        seat: &Seat,
        make: &MakeCommand,
        within: Duration,
    ) -> Result<(Self, Address), DeployError> {
        let name = seat.name;
        let spawned = make(seat).spawn().map_err(|error| DeployError::Spawn(name, error))?;
        let (mut process, deadline) = (Self { child: spawned }, Instant::now() + within);
        loop {
            if let Some(address) = seat.reported() {
                return Ok((process, address));
            }
            if let Some(status) = process.ended() {
                return Err(DeployError::Died(name, status));
            }
            if Instant::now() > deadline {
                return Err(DeployError::Late(name));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Kills it, without a last word from it.
    pub(super) fn kill(mut self) {
        self.end();
    }

    /// Lets it end in order, at most so long.
    pub(super) async fn stop(mut self, within: Duration) {
        drop(self.child.stdin.take());
        let deadline = Instant::now() + within;
        while self.ended().is_none() && Instant::now() < deadline {
            tokio::time::sleep(LOOK).await;
        }
    }

    fn end(&mut self) {
        // One that is dead already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}
