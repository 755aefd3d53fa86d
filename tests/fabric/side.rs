//! One end of a session over a real fabric, and what breaks the fabric under it.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use stellate::prelude::*;
use stellate::testing::Transport;
use tokio::time::{sleep, timeout};

/// Sizes of data in turn: inline, eager, pulled.
const SIZES: [usize; 4] = [16, 3000, 20_000, 150_000];

/// Emulation is ten to thirty times slower, and the machine below it is busy.
pub const PATIENCE: Duration = Duration::from_secs(100);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Note(pub u64);

impl Message for Note {
    const TYPE: MessageType = MessageType::new(0x0320);
    type Reply = ();
}

/// Reads notes in order, each once and whole.
struct Reader(Arc<AtomicU64>);

impl Actor for Reader {
    type Context = Context<Self>;
}

impl Handler<Incoming<Note>> for Reader {
    type Result = ();

    fn handle(&mut self, note: Incoming<Note>, _: &mut Self::Context) {
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        assert_eq!(note.0, before, "S1, S2: in order, once");
        assert_eq!(note.data, data(note.0), "whole");
    }
}

pub fn data(n: u64) -> Vec<u8> {
    let size = SIZES[n as usize % SIZES.len()];
    (0..size).map(|at| (at as u64 * 7 + n) as u8).collect()
}

pub fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} says on what to run: see the module"))
}

pub fn limits() -> Limits {
    Limits {
        heartbeat_every: Duration::from_secs(1),
        heartbeat_deadline: Duration::from_secs(5),
        hello_timeout: Duration::from_secs(5),
        backoff_min: Duration::from_millis(20),
        backoff_max: Duration::from_millis(500),
        outbox_messages: 64,
        ..Limits::default()
    }
}

pub struct Side {
    pub messenger: Messenger,
    read: Arc<AtomicU64>,
}

impl Side {
    pub async fn new(number: u64, bind: &[&str]) -> Self {
        Self::over(number, bind, None).await
    }

    /// With a transport in place of the built-in one of its scheme.
    pub async fn over(number: u64, bind: &[&str], transport: Option<Arc<dyn Transport>>) -> Self {
        let mut builder = Messenger::builder(EntityName::osd(number)).limits(limits()).arbiters(0);
        builder = builder.policy(EntityKind::OSD, Policy::lossless_peer());
        if let Some(transport) = transport {
            builder = builder.transport(transport);
        }
        let messenger = builder.bind(bind.to_vec()).build().await.unwrap();
        let read = Arc::new(AtomicU64::new(0));
        let count = read.clone();
        messenger
            .supervise("reader", move || Reader(count.clone()), Restart::default())
            .handle::<Note>()
            .start()
            .unwrap();
        messenger.ready();
        Self { messenger, read }
    }

    pub fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    pub async fn has_begun(&self, notes: u64) {
        until("some notes", || self.read() >= notes).await;
    }

    /// Says what `there`, which sends them, waits for if they never come.
    pub async fn has_read(&self, notes: u64, there: &Connection) {
        let reading = async {
            while self.read() != notes {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let stuck = timeout(PATIENCE, reading).await.is_err();
        let read = self.read();
        assert!(!stuck, "{read} of {notes} read: {:?}, {:?}", there.why(), there.counters());
    }

    pub fn address(&self, scheme: &str) -> Address {
        let all = self.messenger.local_addresses();
        all.into_iter().find(|address| address.scheme() == scheme).unwrap()
    }
}

pub async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let waiting = async {
        while !so() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never came: {what}"));
}

pub async fn send(there: &Connection, notes: std::ops::Range<u64>) {
    for n in notes {
        timeout(PATIENCE, there.send(Note(n).with(data(n)))).await.expect("room").unwrap();
    }
}

/// Where to listen.
pub fn fabric() -> String {
    setting("STELLATE_FABRIC")
}

pub fn scheme(address: &str) -> &str {
    address.split(':').next().unwrap()
}

/// Pulls the cable, or plugs it: `down` and `up`.
pub fn cable(verb: &str) {
    let script = format!(". {}; {verb} {}", setting("STELLATE_HOSTS"), setting("STELLATE_CABLE"));
    assert!(Command::new("bash").args(["-c", &script]).status().unwrap().success(), "{script}");
}
