//! A blueprint in real time, over TCP: its nodes in this process, in their own, or both.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use stellate_protocol::EntityName;
use stellate_transport::Address;

use super::Blueprint;
use super::process::Process;
use super::seat::Seat;
use super::site::{Roster, Site};
use crate::messenger::Messenger;
use crate::testing::cluster::{BootError, Breach, Checker, Desk};

/// A process must be up within this.
pub const START_MAX: Duration = Duration::from_secs(30);
/// A process must end within this when it is told to; then it is killed.
pub const STOP_MAX: Duration = Duration::from_secs(5);

pub(super) type MakeCommand = dyn Fn(&Seat) -> Command;

/// How to run a blueprint in real time.
#[must_use = "nothing runs before `start`"]
pub struct Deploy {
    blueprint: Blueprint,
    home: PathBuf,
    apart: Vec<EntityName>,
    make: Option<Box<MakeCommand>>,
    checkers: Vec<Box<dyn Checker>>,
}

impl Deploy {
    pub(super) fn new(blueprint: Blueprint, home: PathBuf) -> Self {
        Self { blueprint, home, apart: Vec::new(), make: None, checkers: Vec::new() }
    }

    /// Runs these nodes as processes of their own, which `command` makes: mostly
    /// `|seat| seat.command(std::env::current_exe()…)`, and this program's `main` asks
    /// [`Seat::from_env`] and hands it to [`Blueprint::sit`].
    pub fn processes(
        mut self,
        nodes: impl IntoIterator<Item = EntityName>,
        command: impl Fn(&Seat) -> Command + 'static,
    ) -> Self {
        self.apart = nodes.into_iter().collect();
        self.make = Some(Box::new(command));
        self
    }

    /// Somebody who judges the run by what the nodes in this process note, as in a simulation.
    pub fn checker(mut self, checker: impl Checker + 'static) -> Self {
        self.checkers.push(Box::new(checker));
        self
    }

    /// Starts all nodes, one after the other; each finds those before it. If one does not start,
    /// those that have are ended.
    ///
    /// # Errors
    /// [`DeployError`]: the first thing that went wrong.
    pub async fn start(mut self) -> Result<Deployment, DeployError> {
        let names = self.blueprint.names();
        let desk = Arc::new(Desk::new(std::mem::take(&mut self.checkers), None));
        let (roster, nodes) = (Roster::default(), BTreeMap::new());
        let mut deployment = Deployment { plan: self, roster, desk, nodes };
        for name in names {
            if let Err(error) = deployment.start_node(name, 0).await {
                deployment.stop().await;
                return Err(error);
            }
        }
        Ok(deployment)
    }
}

/// A node that runs, or has been killed.
struct Running {
    life: u64,
    here: Option<Site>,
    apart: Option<Process>,
}

/// A blueprint that runs in real time. Dropping it kills its processes; nodes in this process end
/// with their messengers.
pub struct Deployment {
    plan: Deploy,
    roster: Roster,
    desk: Arc<Desk>,
    nodes: BTreeMap<EntityName, Running>,
}

impl Deployment {
    async fn start_node(&mut self, name: EntityName, life: u64) -> Result<(), DeployError> {
        let seat = self.seat(name, life)?;
        if let Some(make) = &self.plan.make
            && self.plan.apart.contains(&name)
        {
            let (process, address) = Process::start(&seat, &**make, START_MAX).await?;
            self.roster.enter(name, address);
            self.nodes.insert(name, Running { life, here: None, apart: Some(process) });
            return Ok(());
        }
        let boot = self.plan.blueprint.boot_of(name).ok_or(DeployError::Unknown(name))?;
        let site = Site::beside(seat, self.roster.clone(), Some(self.desk.clone()));
        // Entered first: a boot that fails half-way leaves messengers that are to be stopped.
        let here = Some(site.clone());
        self.nodes.insert(name, Running { life, here, apart: None });
        boot(site).await.map_err(|error| DeployError::Boot(name, error))
    }

    fn seat(&self, name: EntityName, life: u64) -> Result<Seat, DeployError> {
        let home = self.plan.home.join(name.to_string());
        std::fs::create_dir_all(&home).map_err(|error| DeployError::Home(home.clone(), error))?;
        let mut peers = self.roster.all();
        // Where it listened before, others still look for it.
        let bind = peers.remove(&name).map_or_else(any_port, Ok)?;
        Ok(Seat { name, life, home, bind, peers })
    }

    /// Where a node listens; `None` if it never came up.
    pub fn address_of(&self, name: EntityName) -> Option<Address> {
        self.roster.get(name)
    }

    /// The site of a node that runs in this process.
    pub fn site(&self, name: EntityName) -> Option<&Site> {
        self.nodes.get(&name)?.here.as_ref()
    }

    /// The first messenger of a node that runs in this process.
    pub fn messenger(&self, name: EntityName) -> Option<Messenger> {
        self.site(name)?.messengers().into_iter().next()
    }

    /// All messengers in this process, by node.
    pub fn messengers(&self) -> Vec<Messenger> {
        let here = self.nodes.values().filter_map(|node| node.here.as_ref());
        here.flat_map(Site::messengers).collect()
    }

    /// A process that has ended without being told to, if there is one.
    pub fn died(&mut self) -> Option<(EntityName, ExitStatus)> {
        self.nodes.iter_mut().find_map(|(name, node)| Some((*name, node.apart.as_mut()?.ended()?)))
    }

    /// Kills the process of a node, without a last word from it. False if it has none: a node in
    /// this process cannot be killed alone.
    pub fn kill(&mut self, name: EntityName) -> bool {
        let process = self.nodes.get_mut(&name).and_then(|node| node.apart.take());
        process.map(Process::kill).is_some()
    }

    /// Kills the process of a node and starts another for it, on its directory, at its address.
    ///
    /// # Errors
    /// [`DeployError`], also if the node has no process.
    pub async fn restart(&mut self, name: EntityName) -> Result<(), DeployError> {
        if !self.kill(name) {
            return Err(DeployError::Unknown(name));
        }
        let life = self.nodes.get(&name).map_or(0, |node| node.life) + 1;
        self.start_node(name, life).await
    }

    /// What its checkers found, once they have had the last word: nothing that waits is waited for.
    pub fn finish(&self) -> Option<Breach> {
        if self.desk.breach().is_none() {
            self.desk.finish();
        }
        self.desk.breach()
    }

    /// Ends all nodes in order, the last started first.
    pub async fn stop(mut self) {
        let mut names = self.plan.blueprint.names();
        names.reverse();
        for name in names {
            let Some(Running { here, apart, .. }) = self.nodes.remove(&name) else { continue };
            if let Some(site) = here {
                site.stop().await;
            }
            if let Some(process) = apart {
                process.stop(STOP_MAX).await;
            }
        }
    }

    /// The directory of all nodes' directories.
    pub fn home(&self) -> &Path {
        &self.plan.home
    }
}

fn any_port() -> Result<Address, DeployError> {
    Address::new("tcp", "127.0.0.1:0").map_err(|error| {
        let what = io::Error::other(error.to_string());
        DeployError::Home(PathBuf::new(), what)
    })
}

impl fmt::Debug for Deployment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deployment")
            .field("addresses", &self.roster.all())
            .field("processes", &self.plan.apart)
            .finish_non_exhaustive()
    }
}

/// Why a blueprint does not run.
#[derive(Debug)]
#[non_exhaustive]
pub enum DeployError {
    /// The blueprint has no such node, or the node no process.
    Unknown(EntityName),
    /// A node's directory could not be made.
    Home(PathBuf, io::Error),
    /// A boot failed.
    Boot(EntityName, BootError),
    /// A process could not be started.
    Spawn(EntityName, io::Error),
    /// A process ended before its node was up.
    Died(EntityName, ExitStatus),
    /// A process was not up within [`START_MAX`].
    Late(EntityName),
}

impl fmt::Display for DeployError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => write!(f, "there is no such node or process: {name}"),
            Self::Home(path, error) => write!(f, "cannot make {}: {error}", path.display()),
            Self::Boot(name, error) => write!(f, "{name} does not boot: {error}"),
            Self::Spawn(name, error) => write!(f, "no process for {name}: {error}"),
            Self::Died(name, status) => write!(f, "{name} did not start: {status}"),
            Self::Late(name) => write!(f, "{name} was not up within {START_MAX:?}"),
        }
    }
}

impl std::error::Error for DeployError {}
