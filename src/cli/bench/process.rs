//! Two processes for every side of every comparison: a server, and one client or more.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::role::{Figures, Role, Side, Word};
use crate::cli::report::Trouble;

/// What a process may take beyond what it was told to measure.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which program plays a peer.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    /// What stands before the role.
    pub(crate) words: &'static [&'static str],
}

/// A process that plays a role; dropped, it is killed.
struct Player {
    /// Kept for its `kill_on_drop`, and for its stdin.
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    patience: Duration,
    what: String,
}

impl Player {
    fn start(program: &Program, role: &Role) -> Result<Self, Trouble> {
        let told = serde_json::to_string(role)?;
        let mut command = Command::new(&program.path);
        command.args(program.words).arg(told);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| {
            Trouble::new(format!("cannot start {}: {error}", program.path.display()))
        })?;
        let stdout = child.stdout.take().ok_or_else(|| Trouble::new("a process without stdout"))?;
        let what = format!("{} {:?} {:?} of {} B", role.peer, role.job, role.side, role.size);
        let patience = PATIENCE + 2 * role.span();
        Ok(Self { child, lines: BufReader::new(stdout).lines(), patience, what })
    }

    async fn word(&mut self) -> Result<Word, Trouble> {
        let line = tokio::time::timeout(self.patience, self.lines.next_line()).await;
        let Ok(line) = line else {
            return Err(Trouble::new(format!("{}: silent for {:?}", self.what, self.patience)));
        };
        match line? {
            Some(line) => Ok(serde_json::from_str(&line)?),
            None => Err(Trouble::new(format!("{}: ended without a word", self.what))),
        }
    }

    async fn ready(&mut self) -> Result<String, Trouble> {
        match self.word().await? {
            Word::Ready(address) => Ok(address),
            word => Err(self.unexpected(word)),
        }
    }

    async fn result(&mut self) -> Result<Figures, Trouble> {
        match self.word().await? {
            Word::Result(figures) => Ok(figures),
            word => Err(self.unexpected(word)),
        }
    }

    fn unexpected(&self, word: Word) -> Trouble {
        match word {
            Word::Error(error) => Trouble::new(format!("{}: {error}", self.what)),
            word => Trouble::new(format!("{}: unexpected {word:?}", self.what)),
        }
    }

    async fn end(mut self) {
        // Gone already is as good.
        let _ = self.child.kill().await;
    }
}

/// Plays one measurement; what all its processes found out.
pub(crate) async fn play(
    program: &Program,
    role: &Role,
    server_tells: bool,
) -> Result<Figures, Trouble> {
    let mut server = Player::start(program, &Role { side: Side::Server, ..role.clone() })?;
    let to = Some(server.ready().await?);
    let mut clients = Vec::new();
    for index in 0..role.clients as u64 {
        let role = Role { side: Side::Client, to: to.clone(), index, ..role.clone() };
        clients.push(Player::start(program, &role)?);
    }
    let mut figures = Figures::new();
    for client in &mut clients {
        tokio::select! {
            found = client.result() => figures.extend(found?),
            // A check that fails there would leave the client waiting.
            word = server.word(), if !server_tells => return Err(server.unexpected(word?)),
        }
    }
    if server_tells {
        figures.extend(server.result().await?);
    }
    for player in clients {
        player.end().await;
    }
    server.end().await;
    Ok(figures)
}
