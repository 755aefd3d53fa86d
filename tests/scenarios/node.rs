//! One side of a conversation: a messenger, the actor that hears, and the one who speaks.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use stellate::prelude::*;
use stellate::testing::Faults;

use crate::case::{Case, Which};
use crate::stage::{Pace, Stage};
use crate::tally::{Handled, Life, Tally};

/// Goes one way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Note {
    /// The number of the sender's session.
    pub life: u32,
    pub n: u32,
}

impl Message for Note {
    const TYPE: MessageType = MessageType::new(0x0401);
    type Reply = ();
}

/// Wants its number back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ask {
    pub life: u32,
    pub n: u32,
}

impl Message for Ask {
    const TYPE: MessageType = MessageType::new(0x0402);
    type Reply = u32;
}

/// Messages of one leg: small, large, small, and a request.
pub const LEG: u32 = 4;

/// The data of a message: every second one is too large for a slot, and is pulled.
fn data(n: u32) -> Bytes {
    static PATTERN: OnceLock<Bytes> = OnceLock::new();
    let pattern = PATTERN
        .get_or_init(|| (0..40_000u32).map(|at| (at * at) as u8 ^ (at >> 8) as u8).collect());
    let (from, len) = (n as usize % 1000, if n % LEG == 1 { 20_000 } else { 100 });
    pattern.slice(from..from + len)
}

/// What a side's actor and its speakers share.
pub struct Book {
    pub tally: Tally,
    /// Speakers that have not settled.
    pub talking: usize,
    /// Goes on with a new session when one ended.
    pub goes_on: bool,
    /// Speaks up on every new session that the peer made.
    pub answers: bool,
}

pub type Shared = Arc<Mutex<Book>>;

pub struct Node {
    pub messenger: Messenger,
    pub faults: Faults,
    pub book: Shared,
    peer: EntityName,
}

impl Node {
    pub async fn new(stage: &Stage, case: &Case, which: Which) -> Self {
        let name = |which| EntityName::osd(case.order.number(which));
        let policy = match which {
            Which::A => case.pair.a,
            Which::B => case.pair.b,
        };
        let faults = Faults::new();
        let builder = stage.builder(name(which), &faults, case).policy(EntityKind::OSD, policy);
        let messenger = builder.build().await.unwrap();
        let answers = which == Which::B && !case.pair.both;
        let book = Book { tally: Tally::default(), talking: 0, goes_on: false, answers };
        let book = Arc::new(Mutex::new(book));
        let (shared, pace) = (book.clone(), stage.pace());
        let make = move || Desk { book: shared.clone(), pace };
        let desk = messenger
            .supervise("desk", make, Restart::default())
            .handle::<Note>()
            .handle::<Ask>()
            .events()
            .placement(Placement::Current);
        let desk = if case.admission { desk.admission() } else { desk };
        desk.start().unwrap();
        messenger.ready();
        Self { messenger, faults, book, peer: name(which.other()) }
    }

    /// Connects, and speaks.
    pub fn begin(&self, to: &Self) {
        let peer = self.messenger.connect(self.peer, to.messenger.local_addresses()).unwrap();
        speak(&self.book, &peer);
    }

    /// The session of the day.
    pub fn connection(&self) -> Option<Connection> {
        self.book().tally.lives.last().map(|life| life.connection.clone())
    }

    /// Says a leg more.
    pub fn speak(&self) {
        if let Some(connection) = self.connection() {
            speak(&self.book, &connection);
        }
    }

    pub fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap()
    }
}

/// Sends a leg on `connection`, and is talking until all of it is settled: received and answered,
/// or the session has ended.
fn speak(book: &Shared, connection: &Connection) {
    let mut open = book.lock().unwrap();
    let life = open.tally.life_of(connection);
    open.talking += 1;
    drop(open);
    actix::spawn(leg(book.clone(), connection.clone(), life));
}

async fn leg(book: Shared, connection: Connection, life: usize) {
    let with = |change: &dyn Fn(&mut Life)| change(&mut book.lock().unwrap().tally.lives[life]);
    let from = book.lock().unwrap().tally.lives[life].accepted.len() as u32;
    let mut asked = Vec::new();
    for n in from..from + LEG {
        let tag = life as u32;
        if n % LEG == LEG - 1 {
            let ended = connection.state() == Phase::Ended;
            let ask = connection.request(Ask { life: tag, n }.with(data(n)));
            let mut ask = Box::pin(ask.into_future());
            // Takes its place now.
            let at_once = futures::poll!(&mut ask);
            if !ended {
                with(&|life| life.accepted.push(n));
            }
            asked.push((n, ask, at_once));
        } else if connection.send(Note { life: tag, n }.with(data(n))).await.is_ok() {
            with(&|life| life.accepted.push(n));
        }
    }
    for (n, ask, at_once) in asked {
        let answer = match at_once {
            std::task::Poll::Ready(answer) => answer,
            std::task::Poll::Pending => ask.await,
        };
        let answer = answer.map(|reply| reply.body);
        book.lock().unwrap().tally.lives[life].answers.push((n, answer));
    }
    book.lock().unwrap().talking -= 1;
}

struct Desk {
    book: Shared,
    pace: Pace,
}

impl Desk {
    fn handled(&self, connection: Connection, life: u32, n: u32, found: &Bytes) {
        let mut book = self.book.lock().unwrap();
        book.tally.handled.push(Handled { session: connection.key().0, life, n });
        if *found != data(n) {
            book.tally.damaged += 1;
        }
    }

    fn ended(&self, connection: &Connection, cause: EndCause, counts: Counts, mut back: Unacked) {
        let mut book = self.book.lock().unwrap();
        let at = book.tally.life_of(connection);
        let life = &mut book.tally.lives[at];
        life.ends.push((cause, counts));
        for message in back.drain() {
            if message.is_reply() {
                continue;
            }
            let sent = message.was_sent();
            let n = match message.downcast::<Note>() {
                Ok(note) => note.body.n,
                Err(other) => other.message.downcast::<Ask>().unwrap().body.n,
            };
            life.taken_back.push((n, sent));
        }
    }
}

impl Actor for Desk {
    type Context = Context<Self>;
}

impl Handler<Incoming<Note>> for Desk {
    type Result = ();

    fn handle(&mut self, note: Incoming<Note>, _: &mut Self::Context) {
        self.handled(note.connection(), note.life, note.n, &note.data);
    }
}

impl Handler<Incoming<Ask>> for Desk {
    type Result = ();

    fn handle(&mut self, ask: Incoming<Ask>, _: &mut Self::Context) {
        self.handled(ask.connection(), ask.life, ask.n, &ask.data);
        let n = ask.n;
        ask.reply(n);
    }
}

impl Handler<SessionEvent> for Desk {
    type Result = ();

    fn handle(&mut self, event: SessionEvent, _: &mut Self::Context) {
        match event {
            SessionEvent::Connected { connection, .. } => {
                let mut book = self.book.lock().unwrap();
                book.tally.connected += 1;
                let answers = book.answers;
                book.tally.life_of(&connection);
                drop(book);
                if answers {
                    speak(&self.book, &connection);
                }
            }
            SessionEvent::Ended { connection, cause, counts, unacked } => {
                self.ended(&connection, cause, counts, unacked);
            }
            SessionEvent::Reset { old, new, cause, counts, unacked } => {
                self.ended(&old, cause, counts, unacked);
                let mut book = self.book.lock().unwrap();
                book.tally.resets += 1;
                book.tally.life_of(&new);
            }
            SessionEvent::Admitted { .. } => self.book.lock().unwrap().tally.admitted += 1,
            SessionEvent::Resumed { .. } => self.book.lock().unwrap().tally.resumed += 1,
            SessionEvent::NameConflict { .. } => self.book.lock().unwrap().tally.conflicts += 1,
            SessionEvent::Undeliverable { .. } => {
                self.book.lock().unwrap().tally.undeliverable += 1;
            }
            // Our sends wait, and over TCP the machine may be busy.
            _ => {}
        }
    }
}

impl Handler<AdmissionRequest> for Desk {
    type Result = ();

    fn handle(&mut self, request: AdmissionRequest, _: &mut Self::Context) {
        let ticket = request.hold();
        let after: Duration = self.pace.admit_after;
        actix::spawn(async move {
            tokio::time::sleep(after).await;
            ticket.accept();
        });
    }
}
