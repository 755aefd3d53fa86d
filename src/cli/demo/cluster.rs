//! The cluster of a demonstration: a monitor here, and OSDs in this process or in their own.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use stellate::testing::{Deployment, Seat};
use stellate::{Address, EntityName, Messenger};
use tempfile::TempDir;

use super::Trouble;
use super::osd::client::{Client, GivenUp};
use super::osd::daemon::{MONITOR, blueprint};
use super::osd::sabotage::Sabotage;

/// Copies of each object, as far as there are OSDs.
pub(super) const REPLICAS: u32 = 3;

/// All OSDs must be in the map within this.
const START_MAX: Duration = Duration::from_secs(30);

/// The cluster. Dropping it kills the processes and removes the databases.
pub(super) struct Cluster {
    deployment: RefCell<Deployment>,
    monitor: Address,
    count: u64,
    // The last: it is removed when all that uses it is gone.
    _home: TempDir,
}

impl Cluster {
    pub(super) async fn start(
        count: u64,
        processes: bool,
        store: Option<&Path>,
        sabotage: Option<Sabotage>,
    ) -> Result<Self, Trouble> {
        let home = home(store)?;
        let mut deploy = blueprint(count, REPLICAS, sabotage).deploy(home.path());
        if processes {
            let program = std::env::current_exe()?;
            let command = move |seat: &Seat| {
                let mut command = seat.command(&program);
                command.arg("demo-osd");
                if let Some(sabotage) = sabotage {
                    command.args(["--sabotage", &sabotage.to_string()]);
                }
                command
            };
            deploy = deploy.processes((0..count).map(EntityName::osd), command);
        }
        let deployment = deploy.start().await?;
        let monitor = deployment.address_of(MONITOR);
        let monitor = monitor.ok_or_else(|| Trouble::new("the monitor listens nowhere"))?;
        Ok(Self { deployment: RefCell::new(deployment), monitor, count, _home: home })
    }

    /// Where the monitor listens.
    pub(super) fn monitor(&self) -> &Address {
        &self.monitor
    }

    /// All that run in this process.
    pub(super) fn messengers(&self) -> Vec<Messenger> {
        self.deployment.borrow().messengers()
    }

    /// That OSD, if it runs in this process.
    pub(super) fn osd(&self, osd: u64) -> Option<Messenger> {
        self.deployment.borrow().messenger(EntityName::osd(osd))
    }

    /// Until all OSDs are in the map.
    pub(super) async fn wait_for(&self, client: &Client) -> Result<(), Trouble> {
        let all = usize::try_from(self.count).unwrap_or(usize::MAX);
        tokio::select! {
            () = client.wait_for(all) => Ok(()),
            dead = self.died() => Err(Trouble::new(format!("{dead} did not start"))),
            () = tokio::time::sleep(START_MAX) => {
                Err(Trouble::new(format!("not all OSDs were up within {START_MAX:?}")))
            }
        }
    }

    /// Resolves when a process ends by itself.
    async fn died(&self) -> EntityName {
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if let Some((name, _)) = self.deployment.borrow_mut().died() {
                return name;
            }
        }
    }

    /// Kills the process of that OSD, without a last word from it, and starts it again on its
    /// database. For clusters of processes.
    #[allow(clippy::await_holding_refcell_ref)] // Nobody else looks while storing is under way.
    pub(super) async fn crash(&self, osd: u64) -> Result<(), GivenUp> {
        let restarted = self.deployment.borrow_mut().restart(EntityName::osd(osd)).await;
        restarted.map_err(|error| GivenUp(error.to_string()))
    }

    /// An OSD that was paused goes on.
    pub(super) fn wake(&self) {
        if let Some(osd) = self.osd(0)
            && osd.tree().is_paused("osd")
            && let Err(error) = osd.tree().resume("osd")
        {
            tracing::warn!(%error, "the actor of osd.0 stays paused");
        }
    }

    /// Drains and stops all.
    pub(super) async fn stop(self) {
        self.deployment.into_inner().stop().await;
    }
}

fn home(store: Option<&Path>) -> Result<TempDir, Trouble> {
    let builder = || tempfile::Builder::new().prefix("stellate-demo-").to_owned();
    let (made, place): (_, PathBuf) = match store {
        Some(store) => (builder().tempdir_in(store), store.into()),
        None => (builder().tempdir(), std::env::temp_dir()),
    };
    made.map_err(|error| {
        let place = place.display();
        Trouble::new(format!(
            "cannot make a directory for the databases in {place}: {error}; see --store"
        ))
    })
}
