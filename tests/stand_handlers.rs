//! What the messenger must stand from its users' handlers: panics under load, threads that block,
//! ends from within.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use stellate::prelude::*;

/// More than any wait of these tests takes on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(60);

async fn within<F: IntoFuture>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future.into_future()).await {
        Ok(output) => output,
        Err(_) => panic!("waited too long for {what}"),
    }
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let waiting = async {
        while !done() {
            // Polls a state that has no event; the span only keeps the processor free.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    within(what, waiting).await;
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Job {
    number: u64,
    how: How,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum How {
    Count,
    Panic,
    Block(u64),
    Close,
    Abort,
    Shutdown,
}

impl Message for Job {
    const TYPE: MessageType = MessageType::new(0x0201);
    type Reply = u64;
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Ping(u64);

impl Message for Ping {
    const TYPE: MessageType = MessageType::new(0x0202);
    type Reply = u64;
}

/// What outlives the actors.
#[derive(Default)]
struct Book {
    /// The numbers of the jobs that were handled, by session, in order.
    done: Mutex<BTreeMap<u64, Vec<u64>>>,
    events: Mutex<Vec<SessionEvent>>,
    handled: AtomicU64,
    built: AtomicU64,
}

impl Book {
    fn of(&self, session: u64) -> Vec<u64> {
        self.done.lock().unwrap().get(&session).cloned().unwrap_or_default()
    }

    fn count(&self, wanted: impl Fn(&SessionEvent) -> bool) -> usize {
        self.events.lock().unwrap().iter().filter(|event| wanted(event)).count()
    }
}

struct Worker {
    book: Arc<Book>,
    messenger: Messenger,
}

impl Actor for Worker {
    type Context = Context<Self>;
}

impl Handler<Incoming<Job>> for Worker {
    type Result = ();

    fn handle(&mut self, job: Incoming<Job>, _: &mut Self::Context) {
        let (number, how) = (job.number, job.how);
        let session = job.connection().key().0;
        self.book.done.lock().unwrap().entry(session).or_default().push(number);
        self.book.handled.fetch_add(1, Ordering::SeqCst);
        match how {
            How::Count => {}
            How::Panic => panic!("job {number} panics"),
            How::Block(millis) => std::thread::sleep(Duration::from_millis(millis)),
            How::Close => drop(job.connection().close()),
            How::Abort => job.connection().abort(),
            How::Shutdown => {
                let messenger = self.messenger.clone();
                actix_rt::spawn(async move { messenger.shutdown().await });
            }
        }
        job.reply(number);
    }
}

struct Pong;

impl Actor for Pong {
    type Context = Context<Self>;
}

impl Handler<Incoming<Ping>> for Pong {
    type Result = ();

    fn handle(&mut self, ping: Incoming<Ping>, _: &mut Self::Context) {
        let number = ping.0;
        ping.reply(number);
    }
}

struct Ear(Arc<Book>);

impl Actor for Ear {
    type Context = Context<Self>;
}

impl Handler<SessionEvent> for Ear {
    type Result = ();

    fn handle(&mut self, event: SessionEvent, _: &mut Self::Context) {
        self.0.events.lock().unwrap().push(event);
    }
}

fn limits() -> Limits {
    Limits {
        heartbeat_every: Duration::from_millis(150),
        heartbeat_deadline: Duration::from_secs(1),
        backoff_min: Duration::from_millis(5),
        backoff_max: Duration::from_millis(50),
        drain_max: Duration::from_secs(2),
        ..Limits::default()
    }
}

async fn messenger(number: u64) -> (Messenger, Arc<Book>) {
    messenger_with(number, limits()).await
}

async fn messenger_with(number: u64, limits: Limits) -> (Messenger, Arc<Book>) {
    let messenger = Messenger::builder(EntityName::osd(number))
        .bind("tcp://127.0.0.1:0")
        .limits(limits)
        .arbiters(1)
        .build()
        .await
        .unwrap();
    let book = Arc::new(Book::default());
    let ear = book.clone();
    messenger
        .supervise("ear", move || Ear(ear.clone()), Restart::default())
        .events()
        .start()
        .unwrap();
    (messenger, book)
}

/// Restarts at once and for ever: the tests panic on purpose.
fn host(messenger: &Messenger, book: &Arc<Book>, placement: Placement) {
    let (book, node) = (book.clone(), messenger.clone());
    let make = move || {
        book.built.fetch_add(1, Ordering::SeqCst);
        Worker { book: book.clone(), messenger: node.clone() }
    };
    messenger
        .supervise("worker", make, Restart::default())
        .handle::<Job>()
        .placement(placement)
        .start()
        .unwrap();
    messenger
        .supervise("pong", || Pong, Restart::default())
        .handle::<Ping>()
        .placement(Placement::Inline)
        .start()
        .unwrap();
}

fn job(number: u64, how: How) -> Job {
    Job { number, how }
}

/// V1, S2: of thousands of messages a panic costs the one in hand; the successor goes on after it.
#[actix_rt::test]
async fn v1_s2_panics_under_load_cost_the_message_in_hand() {
    let (a, _) = messenger(1).await;
    let (b, book) = messenger(2).await;
    host(&b, &book, Placement::OwnArbiter);
    a.ready();
    b.ready();
    let connection = a.connect(EntityName::osd(2), b.local_addresses()).unwrap();
    const COUNT: u64 = 3_000;
    let mut open = FuturesUnordered::new();
    for number in 0..COUNT {
        let how = match number {
            700 | 701 | 2_000 => How::Panic,
            _ => How::Count,
        };
        if number == 1_500 {
            // A kill takes no message at all.
            b.tree().kill("worker").unwrap();
        }
        let request = connection.request(job(number, how)).into_future();
        open.push(async move { (number, how, request.await) });
        if open.len() >= 200 {
            check(within("a reply", open.next()).await.unwrap());
        }
    }
    while let Some(outcome) = within("a reply", open.next()).await {
        check(outcome);
    }
    let session = b.sessions()[0].key().0;
    let all: Vec<u64> = (0..COUNT).collect();
    assert_eq!(book.of(session), all, "S1, S2: each once, in order");
    assert!(book.built.load(Ordering::SeqCst) >= 5, "three panics and a kill");
    a.shutdown().await;
    b.shutdown().await;
}

fn check((number, how, outcome): (u64, How, Result<Reply<u64>, RequestError>)) {
    match outcome {
        Ok(reply) => {
            assert_eq!((reply.body, how), (number, How::Count));
        }
        Err(error) => {
            assert_eq!(how, How::Panic, "{number}: {error}");
            assert!(matches!(error, RequestError::HandlerPanicked), "{error}");
        }
    }
}

/// Three deadlines.
const BLOCKED: Duration = Duration::from_secs(3);

/// S9: a handler that blocks a thread of its own stalls nobody: 10 ms a message, and once for
/// three deadlines.
#[actix_rt::test]
async fn s9_a_handler_that_blocks_its_own_thread_loses_no_link() {
    let (a, heard) = messenger(1).await;
    let (b, book) = messenger(2).await;
    host(&b, &book, Placement::OwnArbiter);
    a.ready();
    b.ready();
    let connection = a.connect(EntityName::osd(2), b.local_addresses()).unwrap();
    let sending = actix_rt::spawn({
        let connection = connection.clone();
        async move {
            for number in 0..50 {
                let millis = if number == 20 { BLOCKED.as_millis() as u64 } else { 10 };
                let message = job(number, How::Block(millis));
                within("room", connection.send(message)).await.unwrap();
            }
        }
    });
    let (mut pings, mut slowest) = (0, Duration::ZERO);
    until("the first to be handled", || book.handled.load(Ordering::SeqCst) > 0).await;
    while book.handled.load(Ordering::SeqCst) < 50 {
        let asked = tokio::time::Instant::now();
        let reply = within("a pong", connection.request(Ping(pings).class(Class::Control))).await;
        assert_eq!(reply.unwrap().body, pings);
        slowest = slowest.max(asked.elapsed());
        pings += 1;
    }
    within("all to be sent", sending).await.unwrap();
    assert!(slowest < BLOCKED * 2 / 3, "a ping waited {slowest:?} for the blocked thread");
    for side in [&connection, &b.sessions()[0]] {
        assert_eq!(side.counters().links_lost, 0);
    }
    for book in [&heard, &book] {
        let harmless = |event: &SessionEvent| {
            // The machine itself may be late.
            matches!(event, SessionEvent::Connected { .. } | SessionEvent::LocalStall { .. })
        };
        let bad = |event: &SessionEvent| !harmless(event);
        assert_eq!(book.count(bad), 0, "{:?}", book.events.lock().unwrap());
    }
    a.shutdown().await;
    b.shutdown().await;
}

/// S9: a handler that blocks the messenger's own thread is our fault, and we say so. The peer sees
/// silence; nothing is lost.
#[actix_rt::test]
async fn s9_a_handler_that_blocks_the_messengers_thread_is_a_local_stall() {
    let (a, _) = messenger(1).await;
    let (b, book) = messenger(2).await;
    host(&b, &book, Placement::Inline);
    a.ready();
    b.ready();
    let connection = a.connect(EntityName::osd(2), b.local_addresses()).unwrap();
    for number in 0..20 {
        let millis = if number == 10 { 3_000 } else { 1 };
        connection.send(job(number, How::Block(millis))).await.unwrap();
    }
    until("all to be handled", || book.handled.load(Ordering::SeqCst) == 20).await;
    let stalled = |event: &SessionEvent| matches!(event, SessionEvent::LocalStall { .. });
    until("the stall to be told", || book.count(stalled) > 0).await;
    let all: Vec<u64> = (0..20).collect();
    assert_eq!(book.of(b.sessions()[0].key().0), all, "S1, S2");
    let ended = |event: &SessionEvent| matches!(event, SessionEvent::Ended { .. });
    assert_eq!(book.count(ended), 0);
    a.shutdown().await;
    b.shutdown().await;
}

/// S9: a little longer than the deadline. The session has its turn before the reactor, right behind
/// the handler that held it up: what the peer sent meanwhile lies in the socket, and is no silence.
#[actix_rt::test]
async fn s9_what_waits_in_the_socket_is_read_before_silence_is_believed() {
    let patient = Limits { heartbeat_deadline: Duration::from_secs(20), ..limits() };
    let (a, _) = messenger_with(1, patient).await;
    let (b, book) = messenger(2).await;
    host(&b, &book, Placement::Inline);
    a.ready();
    b.ready();
    let connection = a.connect(EntityName::osd(2), b.local_addresses()).unwrap();
    let held_up = limits().heartbeat_deadline * 11 / 10;
    for number in 0..4 {
        let block = job(number, How::Block(held_up.as_millis() as u64));
        let mut answer = std::pin::pin!(connection.request(block).into_future());
        // It is not silent for a moment.
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        let reply = loop {
            tokio::select! {
                reply = &mut answer => break reply,
                _ = pace.tick() => connection.send(job(100, How::Count)).await.unwrap(),
            };
        };
        assert_eq!(reply.unwrap().body, number);
    }
    for side in [&connection, &b.sessions()[0]] {
        assert_eq!(side.counters().links_lost, 0);
    }
    a.shutdown().await;
    b.shutdown().await;
}

/// Ends from within a handler, wherever it runs, under load.
#[actix_rt::test]
async fn s4_ends_from_within_a_handler_are_one_end() {
    for placement in [Placement::OwnArbiter, Placement::Inline] {
        for how in [How::Close, How::Abort, How::Shutdown] {
            let (a, heard) = messenger(1).await;
            let (b, book) = messenger(2).await;
            host(&b, &book, placement);
            a.ready();
            b.ready();
            let connection = a.connect(EntityName::osd(2), b.local_addresses()).unwrap();
            let mut sent = 0;
            while sent < 5_000 {
                let how = if sent == 500 { how } else { How::Count };
                if connection.send(job(sent, how)).await.is_err() {
                    break;
                }
                sent += 1;
            }
            within("the end", connection.ended()).await;
            let ended = |event: &SessionEvent| {
                matches!(event, SessionEvent::Ended { .. } | SessionEvent::Reset { .. })
            };
            until("the end to be told here", || heard.count(ended) == 1).await;
            until("the end to be told there", || book.count(ended) == 1).await;
            let session = book.done.lock().unwrap().keys().copied().next().unwrap();
            let done = book.of(session);
            let all: Vec<u64> = (0..done.len() as u64).collect();
            assert_eq!(done, all, "S1");
            within("the shutdown", a.shutdown()).await;
            within("the shutdown", b.shutdown()).await;
        }
    }
}
