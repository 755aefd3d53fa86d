//! What the facade's tests share: messages, an actor that writes down what it sees, and pairs of
//! messengers over TCP.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)] // Each test file uses its own part.

use std::future::IntoFuture;
use std::time::Duration;

use actix::AtomicResponse;
use futures::channel::oneshot;
use stellate::Unacked;
use stellate::message::Stamp;
use stellate::prelude::*;
use tokio::sync::mpsc;

/// Goes one way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    pub n: u64,
}

impl Message for Note {
    const TYPE: MessageType = MessageType::new(0x0110);
    type Reply = ();
}

/// Wants an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    pub n: u64,
    pub how: How,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum How {
    Reply,
    Silent,
    Panic,
    Defer,
    Wait,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub n: u64,
}

impl Message for Ask {
    const TYPE: MessageType = MessageType::new(0x0111);
    type Reply = Answer;
}

/// Answered by a future.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slow {
    pub n: u64,
}

impl Message for Slow {
    const TYPE: MessageType = MessageType::new(0x0112);
    type Reply = Answer;
}

/// Nobody handles it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stranger {
    pub n: u64,
}

impl Message for Stranger {
    const TYPE: MessageType = MessageType::new(0x01ff);
    type Reply = Answer;
}

/// Claims to be a [`Note`] of a later version, or one with another front.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FutureNote {
    pub n: u64,
}

impl Message for FutureNote {
    const TYPE: MessageType = Note::TYPE;
    const VERSION: u16 = 9;
    const COMPAT: u16 = 9;
    type Reply = ();
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FalseNote {
    pub text: String,
}

impl Message for FalseNote {
    const TYPE: MessageType = Note::TYPE;
    type Reply = ();
}

/// What an actor saw.
#[derive(Debug)]
pub enum Seen {
    Started(std::thread::ThreadId),
    Note(u64, Bytes, Class),
    Ask(u64),
    Event(SessionEvent),
    Admission(AdmissionRequest),
}

pub type Log = mpsc::Sender<Seen>;

/// Writes down what it sees.
pub struct Desk {
    log: Log,
    waits: Option<oneshot::Receiver<()>>,
    deferred: Vec<Deferred<Ask>>,
}

impl Desk {
    pub fn new(log: Log) -> Self {
        Self { log, waits: None, deferred: Vec::new() }
    }

    /// The first `Wait` it is asked for ends when the gate says so.
    pub fn gated(log: Log, gate: oneshot::Receiver<()>) -> Self {
        Self { log, waits: Some(gate), deferred: Vec::new() }
    }

    fn see(&self, seen: Seen) {
        // The test may be over.
        let _ = self.log.try_send(seen);
    }
}

impl Actor for Desk {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        self.see(Seen::Started(std::thread::current().id()));
    }
}

impl Handler<Incoming<Note>> for Desk {
    type Result = ();

    fn handle(&mut self, note: Incoming<Note>, _: &mut Self::Context) {
        assert_ne!(note.n, PANIC, "asked for");
        self.see(Seen::Note(note.n, note.data.clone(), note.class()));
    }
}

/// The note that makes its handler panic.
pub const PANIC: u64 = 0xdead;

impl Handler<Incoming<Ask>> for Desk {
    type Result = ();

    fn handle(&mut self, ask: Incoming<Ask>, ctx: &mut Self::Context) {
        self.see(Seen::Ask(ask.n));
        match ask.how {
            How::Reply => {
                let (n, data) = (ask.n, ask.data.clone());
                assert!(ask.reply(Answer { n }.with(data)) || n == 0);
            }
            How::Silent => {}
            How::Panic => panic!("asked for"),
            How::Defer => {
                self.deferred.push(ask.defer());
                if self.deferred.len() == 2 {
                    // The later one first.
                    for deferred in self.deferred.drain(..).rev() {
                        std::thread::scope(|scope| {
                            scope.spawn(move || deferred.reply(Answer { n: 99 }));
                        });
                    }
                }
            }
            How::Wait => {
                if let Some(gate) = self.waits.take() {
                    let gate = async move { gate.await.unwrap_or(()) };
                    ctx.wait(gate.into_actor(self));
                }
                let n = ask.n;
                ask.reply(Answer { n });
            }
        }
    }
}

impl Handler<Incoming<Slow>> for Desk {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, slow: Incoming<Slow>, _: &mut Self::Context) -> Self::Result {
        let later = async move {
            tokio::task::yield_now().await;
            let n = slow.n;
            slow.reply(Answer { n });
        };
        AtomicResponse::new(Box::pin(later.into_actor(self)))
    }
}

impl Handler<SessionEvent> for Desk {
    type Result = ();

    fn handle(&mut self, event: SessionEvent, _: &mut Self::Context) {
        self.see(Seen::Event(event));
    }
}

impl Handler<AdmissionRequest> for Desk {
    type Result = ();

    fn handle(&mut self, request: AdmissionRequest, _: &mut Self::Context) {
        self.see(Seen::Admission(request));
    }
}

/// A messenger and the log of the desk it hosts.
pub struct Side {
    pub messenger: Messenger,
    pub log: mpsc::Receiver<Seen>,
}

impl Side {
    pub async fn new(builder: MessengerBuilder) -> Self {
        Self::with(builder, |desk| desk.events()).await
    }

    pub async fn with(
        builder: MessengerBuilder,
        more: impl FnOnce(stellate::Hosting<Desk>) -> stellate::Hosting<Desk>,
    ) -> Self {
        let messenger = builder.build().await.unwrap();
        let (sender, log) = mpsc::channel(100_000);
        let desk =
            messenger.supervise("desk", move || Desk::new(sender.clone()), Restart::default());
        more(desk.handle::<Note>().handle::<Ask>().handle::<Slow>()).start().unwrap();
        messenger.ready();
        Self { messenger, log }
    }

    /// The next that `wanted` takes; everything before it is passed over.
    pub async fn next<T>(&mut self, mut wanted: impl FnMut(Seen) -> Option<T>) -> T {
        loop {
            let seen = within(self.log.recv()).await.expect("the desk lives");
            if let Some(found) = wanted(seen) {
                return found;
            }
        }
    }

    /// The next event that `wanted` takes.
    pub async fn event<T>(&mut self, mut wanted: impl FnMut(SessionEvent) -> Option<T>) -> T {
        self.next(|seen| match seen {
            Seen::Event(event) => wanted(event),
            _ => None,
        })
        .await
    }

    pub async fn note(&mut self) -> u64 {
        self.next(|seen| match seen {
            Seen::Note(n, ..) => Some(n),
            _ => None,
        })
        .await
    }

    pub async fn admission(&mut self) -> AdmissionRequest {
        self.next(|seen| match seen {
            Seen::Admission(request) => Some(request),
            _ => None,
        })
        .await
    }

    pub async fn end(&mut self) -> (Connection, EndCause, Unacked) {
        self.event(|event| match event {
            SessionEvent::Ended { connection, cause, unacked, .. } => {
                Some((connection, cause, unacked))
            }
            _ => None,
        })
        .await
    }

    pub fn addresses(&self) -> Vec<Address> {
        self.messenger.local_addresses()
    }

    /// All that was seen and not taken yet.
    pub fn rest(&mut self) -> Vec<Seen> {
        std::iter::from_fn(|| self.log.try_recv().ok()).collect()
    }
}

pub fn osd(number: u64) -> MessengerBuilder {
    Messenger::builder(EntityName::osd(number)).bind("tcp://127.0.0.1:0").arbiters(1)
}

/// osd.1 and osd.2, lossless peers, and osd.1's connection to osd.2.
pub async fn pair() -> (Side, Side, Connection) {
    let (one, two) = (Side::new(osd(1)).await, Side::new(osd(2)).await);
    let connection = one.messenger.connect(EntityName::osd(2), two.addresses()).unwrap();
    (one, two, connection)
}

/// Long enough for any machine; reached only by what would never come.
pub async fn within<F: IntoFuture>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("it never came")
}

/// Checks a type's numbers at compile time.
pub const STAMP: Stamp = Stamp::of::<Note>();
