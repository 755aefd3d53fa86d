//! The cluster of a demonstration: a monitor here, and OSDs in this process or in their own.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use stellate::Messenger;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::Trouble;
use super::osd::client::{Client, GivenUp};
use super::osd::daemon::{self, Config, Daemon};
use super::osd::sabotage::Sabotage;

/// Copies of each object, as far as there are OSDs.
const REPLICAS: u32 = 3;

/// All OSDs must be in the map within this.
const START_MAX: Duration = Duration::from_secs(30);

/// An OSD process must stop within this when it is told to.
const STOP_MAX: Duration = Duration::from_secs(5);

enum Osds {
    Here(Vec<Daemon>),
    Processes(RefCell<Vec<Child>>),
}

/// The cluster. Dropping it kills the processes and removes the databases.
pub(super) struct Cluster {
    osds: Osds,
    monitor: Messenger,
    address: String,
    sabotage: Option<Sabotage>,
    count: u64,
    // The last: it is removed when all that uses it is gone.
    home: TempDir,
}

impl Cluster {
    pub(super) async fn start(
        count: u64,
        processes: bool,
        store: Option<&Path>,
        sabotage: Option<Sabotage>,
    ) -> Result<Self, Trouble> {
        let home = home(store)?;
        let monitor = daemon::start_monitor(REPLICAS).await.map_err(told)?;
        let address =
            monitor.local_addresses().first().map(ToString::to_string).unwrap_or_default();
        let osds =
            if processes { Osds::Processes(RefCell::default()) } else { Osds::Here(Vec::new()) };
        let mut cluster = Self { osds, monitor, address, sabotage, count, home };
        for osd in 0..count {
            let config = cluster.config(osd);
            match &mut cluster.osds {
                Osds::Here(daemons) => daemons.push(Daemon::start(config).await.map_err(told)?),
                Osds::Processes(children) => children.get_mut().push(spawn(&config)?),
            }
        }
        Ok(cluster)
    }

    /// Where the monitor listens.
    pub(super) fn monitor(&self) -> &str {
        &self.address
    }

    /// All that run in this process.
    pub(super) fn messengers(&self) -> Vec<Messenger> {
        let mut messengers = vec![self.monitor.clone()];
        if let Osds::Here(daemons) = &self.osds {
            messengers.extend(daemons.iter().map(|daemon| daemon.messenger.clone()));
        }
        messengers
    }

    /// That OSD, if it runs in this process.
    pub(super) fn osd(&self, osd: usize) -> Option<&Messenger> {
        match &self.osds {
            Osds::Here(daemons) => daemons.get(osd).map(|daemon| &daemon.messenger),
            Osds::Processes(_) => None,
        }
    }

    fn config(&self, osd: u64) -> Config {
        Config {
            osd,
            monitor: self.address.clone(),
            store: self.home.path().join(format!("osd-{osd}.redb")),
            sabotage: self.sabotage,
        }
    }

    /// Until all OSDs are in the map.
    pub(super) async fn wait_for(&self, client: &Client) -> Result<(), Trouble> {
        let all = usize::try_from(self.count).unwrap_or(usize::MAX);
        tokio::select! {
            () = client.wait_for(all) => Ok(()),
            dead = self.died() => Err(Trouble::new(format!("osd.{dead} did not start"))),
            () = tokio::time::sleep(START_MAX) => {
                Err(Trouble::new(format!("not all OSDs were up within {START_MAX:?}")))
            }
        }
    }

    /// Resolves when a process ends by itself.
    async fn died(&self) -> usize {
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if let Osds::Processes(children) = &self.osds {
                let mut children = children.borrow_mut();
                let ended = |child: &mut Child| !matches!(child.try_wait(), Ok(None));
                if let Some(osd) = children.iter_mut().position(ended) {
                    return osd;
                }
            }
        }
    }

    /// Kills the process of that OSD, without a last word from it, and starts it again on its
    /// database. For clusters of processes.
    pub(super) async fn crash(&self, osd: u64) -> Result<(), GivenUp> {
        let Osds::Processes(children) = &self.osds else {
            return Ok(());
        };
        let index = usize::try_from(osd).unwrap_or(usize::MAX);
        let failed = |error: &dyn std::fmt::Display| GivenUp(format!("osd.{osd}: {error}"));
        // Taken out while it dies: nobody else needs it.
        let mut child = children.borrow_mut().remove(index);
        child.kill().await.map_err(|error| failed(&error))?;
        let child = spawn(&self.config(osd)).map_err(|error| failed(&error))?;
        children.borrow_mut().insert(index, child);
        Ok(())
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
        match self.osds {
            Osds::Here(daemons) => {
                futures::future::join_all(daemons.into_iter().map(Daemon::stop)).await;
            }
            Osds::Processes(children) => {
                let stops = children.into_inner().into_iter().map(stop);
                futures::future::join_all(stops).await;
            }
        }
        self.monitor.shutdown().await;
    }
}

fn told(error: Box<dyn std::error::Error>) -> Trouble {
    Trouble::new(error.to_string())
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

/// This program again, as one OSD. It ends when we drop its stdin, or end.
fn spawn(config: &Config) -> Result<Child, Trouble> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["demo-osd", "--osd", &config.osd.to_string(), "--monitor", &config.monitor]);
    command.arg("--store").arg(&config.store);
    if let Some(sabotage) = config.sabotage {
        command.args(["--sabotage", &sabotage.to_string()]);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true);
    Ok(command.spawn()?)
}

async fn stop(mut child: Child) {
    drop(child.stdin.take());
    if tokio::time::timeout(STOP_MAX, child.wait()).await.is_err() {
        // It is dropped after this, which kills it.
        tracing::warn!("an OSD did not stop in time");
    }
}
