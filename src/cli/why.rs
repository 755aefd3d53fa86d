//! `stellate why`: asks the demonstrations that run on this machine what their messages wait for.
//!
//! ```text
//!   demo, demo-osd ── Inspected: a messenger of its own, whose address is in a file of its pid
//!   why ── reads the files, or takes an address ── lossy_client ──► WhyAsk ──► what each session waits for
//! ```
//!
//! The messenger that is asked shares nothing with those that are asked about: it answers while
//! their sessions stand still.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use stellate::prelude::*;
use stellate::waiting::Waiting;

use super::report::{Ended, Trouble, print_json};

/// Who is asked.
fn inspector() -> EntityName {
    EntityName::new(EntityKind::MGR, 0)
}

/// So long a demonstration may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// What `why` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The address that a demonstration told when it started. All that run on this machine, if
    /// nothing is said.
    #[arg(value_name = "ADDRESS")]
    address: Option<String>,
}

/// Asks for everything that waits.
#[derive(Debug, Serialize, Deserialize)]
struct WhyAsk;

impl Message for WhyAsk {
    const TYPE: MessageType = MessageType::new(0x0f01);
    type Reply = WhyTold;
}

/// What the sessions of one process wait for.
#[derive(Debug, Serialize, Deserialize)]
struct WhyTold {
    process: u32,
    /// One JSON object a session: whoever asks may be of another version.
    sessions: Vec<String>,
}

// --- the side that is asked ----------------------------------------------------------------

/// A messenger that tells what other messengers of this process wait for, and the file that names
/// it. Dropped, it is not found any more.
pub(crate) struct Inspected {
    messenger: Messenger,
    file: PathBuf,
}

struct Inspector {
    messengers: Vec<Messenger>,
}

impl Actor for Inspector {
    type Context = Context<Self>;
}

impl Handler<Incoming<WhyAsk>> for Inspector {
    type Result = ();

    fn handle(&mut self, ask: Incoming<WhyAsk>, _: &mut Self::Context) {
        let sessions = self.messengers.iter().flat_map(|messenger| {
            let told = |session: &Connection| told(messenger, session).to_string();
            messenger.sessions().iter().map(told).collect::<Vec<_>>()
        });
        ask.reply(WhyTold { process: std::process::id(), sessions: sessions.collect() });
    }
}

/// A session, as it is shown.
fn told(messenger: &Messenger, session: &Connection) -> Value {
    let seconds = |time: Duration| time.as_secs_f64();
    let waiting = session.why();
    let mut told = json!({
        "messenger": messenger.name().to_string(),
        "peer": session.name().to_string(),
        "state": format!("{:?}", session.state()),
        "waits": waiting.as_ref().map(ToString::to_string),
    });
    let Some(Waiting { oldest, outbox, no_link, queues, .. }) = &waiting else {
        return told;
    };
    told["outbox"] = json!({ "messages": outbox.0, "bytes": outbox.1 });
    told["oldest"] = json!(oldest.map(|oldest| json!({
        "class": format!("{:?}", oldest.class),
        "position": oldest.position,
        "reply": oldest.is_reply,
        "waits_for": format!("{:?}", oldest.waits_for),
        "since_s": seconds(oldest.since),
    })));
    told["no_link"] = json!(no_link.as_ref().map(|none| json!({
        "phase": format!("{:?}", none.phase),
        "since_s": seconds(none.since),
        "trouble": none.trouble.map(|trouble| trouble.to_string()),
        "dial": none.dial.as_ref().map(ToString::to_string),
    })));
    let queue = |queue: &stellate::waiting::Queue| {
        let since = seconds(queue.since);
        json!({ "actor": queue.actor, "messages": queue.messages, "since_s": since })
    };
    told["queues"] = queues.iter().map(queue).collect();
    if let Some(Waiting { held_there, held_here, undispatched, in_hand, open_calls, .. }) = waiting
    {
        told["held_there"] = json!(held_there);
        told["held_here"] = json!(held_here);
        told["undispatched"] = json!(undispatched);
        told["in_hand"] = json!(in_hand);
        told["open_calls"] = json!(open_calls);
    }
    told
}

impl Inspected {
    /// Lets `stellate why` ask about these messengers.
    ///
    /// # Errors
    /// What the messenger or the file system says.
    pub(crate) async fn start(messengers: Vec<Messenger>) -> Result<Self, Trouble> {
        let messenger = Messenger::builder(inspector())
            .bind("tcp://127.0.0.1:0")
            .policy(EntityKind::CLIENT, Policy::stateless_server())
            .arbiters(1)
            .build()
            .await?;
        let inspect = move || Inspector { messengers: messengers.clone() };
        messenger
            .supervise("inspector", inspect, Restart::default())
            .handle::<WhyAsk>()
            .placement(Placement::Inline)
            .start()?;
        messenger.ready();
        let place = place();
        std::fs::create_dir_all(&place)?;
        let file = place.join(std::process::id().to_string());
        let inspected = Self { messenger, file };
        // Whole or not at all: somebody may be reading.
        let draft = inspected.file.with_extension("draft");
        std::fs::write(&draft, inspected.address())?;
        std::fs::rename(&draft, &inspected.file)?;
        Ok(inspected)
    }

    /// Where it is asked.
    pub(crate) fn address(&self) -> String {
        self.messenger.local_addresses().first().map(ToString::to_string).unwrap_or_default()
    }

    /// Answers no more.
    pub(crate) async fn stop(self) {
        self.messenger.shutdown().await;
    }
}

impl Drop for Inspected {
    fn drop(&mut self) {
        // Nobody minds if it is gone.
        let _ = std::fs::remove_file(&self.file);
    }
}

/// Where processes that can be asked leave their addresses.
fn place() -> PathBuf {
    std::env::temp_dir().join("stellate-why")
}

// --- the side that asks --------------------------------------------------------------------

/// Runs `why`. It holds if somebody answered.
pub(crate) fn run(args: &Args, json: bool) -> Ended {
    let found = match &args.address {
        Some(address) => vec![(with_scheme(address), None)],
        None => addresses(&place())?,
    };
    let answers = actix_rt::System::new().block_on(async {
        let mut answers = Vec::new();
        for (address, file) in found {
            match ask(&address).await {
                Ok(answer) => answers.push((address, answer)),
                Err(error) if file.is_none() => return Err(error),
                Err(error) => forget(&address, file, &error),
            }
        }
        Ok(answers)
    })?;
    if answers.is_empty() {
        let place = place();
        return Err(Trouble::new(format!(
            "nothing that could be asked runs here: `stellate demo` leaves its address in {}",
            place.display()
        )));
    }
    tell(&answers, json);
    Ok(true)
}

/// People leave out what is always the same.
fn with_scheme(address: &str) -> String {
    if address.contains("://") { address.to_owned() } else { format!("tcp://{address}") }
}

/// Whoever was killed has left its file behind.
fn forget(address: &str, file: Option<PathBuf>, error: &Trouble) {
    tracing::warn!(address, %error, "does not answer");
    let Some(file) = file else { return };
    let pid = file.file_name().map(|name| Path::new("/proc").join(name));
    if Path::new("/proc/self").exists() && pid.is_some_and(|pid| !pid.exists()) {
        let _ = std::fs::remove_file(file);
    }
}

fn addresses(place: &Path) -> Result<Vec<(String, Option<PathBuf>)>, Trouble> {
    let entries = match std::fs::read_dir(place) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            return Err(Trouble::new(format!("cannot read {}: {error}", place.display())));
        }
    };
    let files = entries.flatten().map(|entry| entry.path());
    let mut files: Vec<_> = files.filter(|file| file.extension().is_none()).collect();
    files.sort();
    let read = files.into_iter().filter_map(|file| {
        let address = std::fs::read_to_string(&file).ok()?;
        Some((address.trim().to_owned(), Some(file)))
    });
    Ok(read.collect())
}

async fn ask(address: &str) -> Result<WhyTold, Trouble> {
    let messenger = Messenger::builder(EntityName::client(u64::from(std::process::id())))
        .policy(EntityKind::MGR, Policy::lossy_client())
        .arbiters(0)
        .build()
        .await?;
    messenger.ready();
    let there = messenger.connect(inspector(), address)?;
    let answer = there.request(WhyAsk).timeout(PATIENCE).await;
    there.abort();
    messenger.shutdown().await;
    let told = |error: &dyn std::fmt::Display| Trouble::new(format!("{address}: {error}"));
    answer.map(|reply| reply.body).map_err(|error| told(&error))
}

fn tell(answers: &[(String, WhyTold)], json: bool) {
    let parse = |session: &String| serde_json::from_str::<Value>(session).unwrap_or_default();
    let processes = answers.iter().map(|(address, told)| {
        let sessions: Vec<Value> = told.sessions.iter().map(parse).collect();
        json!({ "process": told.process, "address": address, "sessions": sessions })
    });
    let processes: Vec<Value> = processes.collect();
    if json {
        return print_json(&json!({ "processes": processes }));
    }
    let word = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    for process in &processes {
        println!("process {} at {}", process["process"], word(&process["address"]));
        for session in process["sessions"].as_array().into_iter().flatten() {
            let (from, to) = (word(&session["messenger"]), word(&session["peer"]));
            let waits = session["waits"].as_str().unwrap_or("nothing waits");
            println!("  {:<22} {:<9} {waits}", format!("{from} - {to}"), word(&session["state"]));
        }
    }
}
