//! What a process is told that runs one node: through the environment, in one variable.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use stellate_protocol::EntityName;
use stellate_transport::Address;

/// The variable that says which node a process is.
pub const SEAT_VARIABLE: &str = "STELLATE_SEAT";

/// Where a process says where its node listens, within the node's directory.
const ADDRESS_FILE: &str = "address";

/// One node of a blueprint as a process of its own has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The node's name.
    pub name: EntityName,
    /// 0 at first, and one more each time it is started again.
    pub life: u64,
    /// Its own directory, which is there.
    pub home: PathBuf,
    /// Where it listens; port 0 in its first life, and the one it had in the later ones.
    pub bind: Address,
    /// Where the nodes that started before it listen.
    pub peers: BTreeMap<EntityName, Address>,
}

impl Seat {
    /// The seat that this process was started for, if it was: ask before all else in `main`.
    ///
    /// # Errors
    /// [`SeatError`] if the variable is there and says nothing that makes sense.
    pub fn from_env() -> Result<Option<Self>, SeatError> {
        match std::env::var(SEAT_VARIABLE) {
            Ok(text) => Self::parse(&text).ok_or(SeatError(text)).map(Some),
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(std::env::VarError::NotUnicode(text)) => {
                Err(SeatError(text.to_string_lossy().into_owned()))
            }
        }
    }

    /// A command that starts a process for it: `program` asks [`from_env`](Self::from_env). Its
    /// stdin stays open as long as the process that starts it lives.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.env(SEAT_VARIABLE, self.to_string()).stdin(Stdio::piped()).stdout(Stdio::null());
        command
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let name = lines.next()?.parse().ok()?;
        let life = lines.next()?.parse().ok()?;
        let home = PathBuf::from(lines.next()?);
        let bind = lines.next()?.parse().ok()?;
        let peer = |line: &str| {
            let (name, address) = line.split_once(' ')?;
            Some((name.parse().ok()?, address.parse().ok()?))
        };
        let peers = lines.map(peer).collect::<Option<_>>()?;
        Some(Self { name, life, home, bind, peers })
    }

    /// Resolves when whoever started this process is gone, or has dropped its handle: then the node
    /// is to end.
    ///
    /// # Errors
    /// The system gives no thread.
    pub async fn until_left(&self) -> io::Result<()> {
        let (gone, until_gone) = futures::channel::oneshot::channel::<()>();
        let wait = move || {
            // Whatever comes says nothing but that the other side lives; an error is an end too.
            let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
            drop(gone);
        };
        // It blocks for the life of the process, and takes part in nothing that could be simulated.
        let thread = std::thread::Builder::new().name("stellate-seat".into());
        #[allow(clippy::disallowed_methods, reason = "only of a process of its own, in real time")]
        thread.spawn(wait)?;
        // It never sends: its end is the word.
        let _ = until_gone.await;
        Ok(())
    }

    /// Writes down where the node listens, whole or not at all.
    pub(super) fn report(&self, address: &Address) -> io::Result<()> {
        let (place, draft) = (self.home.join(ADDRESS_FILE), self.home.join("address.new"));
        fs::write(&draft, format!("{} {address}", self.life))?;
        fs::rename(draft, place)
    }

    /// What the node of this life has written down.
    pub(super) fn reported(&self) -> Option<Address> {
        let text = fs::read_to_string(self.home.join(ADDRESS_FILE)).ok()?;
        let (life, address) = text.split_once(' ')?;
        if life.parse() == Ok(self.life) { address.parse().ok() } else { None }
    }
}

impl fmt::Display for Seat {
    /// As the variable has it: a line for each field, then one for each peer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, life, home, bind, peers } = self;
        write!(f, "{name}\n{life}\n{}\n{bind}", home.display())?;
        peers.iter().try_for_each(|(name, address)| write!(f, "\n{name} {address}"))
    }
}

/// The variable says nothing that makes sense. Whoever set it is to blame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeatError(String);

impl fmt::Display for SeatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SEAT_VARIABLE} is no seat: {:?}", self.0)
    }
}

impl std::error::Error for SeatError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn seat() -> Seat {
        let address = |text: &str| text.parse::<Address>().unwrap();
        Seat {
            name: EntityName::osd(3),
            life: 2,
            home: "/var/lib/a cluster/osd.3".into(),
            bind: address("tcp://127.0.0.1:0"),
            peers: [(EntityName::mon(0), address("tcp://127.0.0.1:6789"))].into(),
        }
    }

    #[test]
    fn a_seat_is_read_as_it_was_written() {
        assert_eq!(Seat::parse(&seat().to_string()), Some(seat()));
        let alone = Seat { peers: BTreeMap::new(), ..seat() };
        assert_eq!(Seat::parse(&alone.to_string()), Some(alone));
        for wrong in ["", "osd.3", "osd.3\nx\n/\ntcp://a:1", "osd.3\n0\n/\nno address"] {
            assert_eq!(Seat::parse(wrong), None, "{wrong:?}");
        }
    }
}
