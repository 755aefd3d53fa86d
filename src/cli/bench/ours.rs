//! Our side of a measurement: messengers with their defaults, typed messages, hosted actors.
//!
//! | place | the handler | the sender |
//! | --- | --- | --- |
//! | `Inline` | on the session's thread | on its session's thread: `arbiters(0)` |
//! | `OwnArbiter` | on a thread of its own | on another thread than its session |

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use stellate::prelude::*;

use super::raw::text;
use super::role::{
    Check, FILL, Figures, Job, Latencies, Place, Promise, Rate, Role, Side, Word, now, say,
};

/// The body size of the bulk that urgent requests overtake.
pub(super) const BODY: usize = 4 * 1024 * 1024;

/// One message of a stream.
#[derive(Serialize, Deserialize)]
struct Piece {
    from: u16,
    seq: u64,
}

impl Message for Piece {
    const TYPE: MessageType = MessageType::new(0x0b01);
    type Reply = ();
}

/// The end of a stream.
#[derive(Serialize, Deserialize)]
struct Finish {
    from: u16,
    sent: u64,
}

impl Message for Finish {
    const TYPE: MessageType = MessageType::new(0x0b02);
    type Reply = ();
}

/// Wants its data back.
#[derive(Serialize, Deserialize)]
struct Ping {
    seq: u64,
}

#[derive(Serialize, Deserialize)]
struct Pong {
    seq: u64,
}

impl Message for Ping {
    const TYPE: MessageType = MessageType::new(0x0b03);
    type Reply = Pong;
}

/// Swallowed unread, but for its length.
#[derive(Serialize, Deserialize)]
struct Bulk {}

impl Message for Bulk {
    const TYPE: MessageType = MessageType::new(0x0b04);
    type Reply = ();
}

/// Plays the role.
pub(super) fn run(role: &Role) -> Result<(), String> {
    let own = role.clone();
    let play = async move {
        match own.side {
            Side::Server => serve(&own).await,
            Side::Client => drive(&own).await,
        }
    };
    match role.place {
        Place::OwnArbiter => actix_rt::System::new().block_on(play),
        // Without threads of its own the messenger needs no actix system, and tokio's local
        // runtime wakes its tasks without the detour that a `LocalSet` takes. A task, as users have
        // them: waking the future that `block_on` itself runs costs a look at the sockets.
        Place::Inline | Place::InlineAsleep | Place::Plain => {
            let task = async { tokio::task::spawn_local(play).await };
            super::local_runtime()?.block_on(task).map_err(text)?
        }
    }
}

fn with_links(builder: MessengerBuilder, role: &Role) -> MessengerBuilder {
    if role.place == Place::InlineAsleep {
        builder.spin(std::time::Duration::ZERO)
    } else {
        builder
    }
}

// --- the server ------------------------------------------------------------------------------

async fn serve(role: &Role) -> Result<(), String> {
    let policy = match role.promise {
        Promise::Lossless => Policy::lossless_peer(),
        Promise::Lossy => Policy::stateless_server(),
    };
    let messenger = with_links(Messenger::builder(EntityName::osd(0)), role)
        .bind("tcp://127.0.0.1:0")
        .arbiters(if role.place == Place::OwnArbiter { 1 } else { 0 })
        .default_policy(policy)
        .build()
        .await
        .map_err(text)?;
    let place = match role.place {
        Place::OwnArbiter => Placement::OwnArbiter,
        Place::Inline | Place::InlineAsleep | Place::Plain => Placement::Inline,
    };
    let told = role.clone();
    messenger
        .supervise("sink", move || Sink::new(&told), Restart::Never)
        .handle::<Piece>()
        .handle::<Finish>()
        .handle::<Ping>()
        .handle::<Bulk>()
        .placement(place)
        .start()
        .map_err(text)?;
    messenger.ready();
    let addresses = messenger.local_addresses();
    let address = addresses.first().ok_or("it listens nowhere")?;
    say(&Word::Ready(address.to_string()));
    // Until its stdin ends.
    std::future::pending().await
}

/// Receives everything.
struct Sink {
    rate: Rate,
    checks: Vec<Check>,
    size: usize,
    idle: bool,
    /// Memory when it started.
    memory: f64,
    sessions: usize,
    finished: usize,
    figures: Option<Result<Figures, String>>,
}

impl Sink {
    fn new(role: &Role) -> Self {
        Self {
            rate: Rate::new(role.warm_up()),
            checks: (0..role.clients.max(1)).map(|_| Check::new(role.size)).collect(),
            size: role.size,
            idle: role.job == Job::Idle,
            memory: resident(),
            sessions: role.count,
            finished: 0,
            figures: None,
        }
    }

    /// What it found out, as soon as the first of the streams ends.
    fn conclude(&mut self, finish: &Finish) -> Result<Figures, String> {
        if self.idle {
            let each = (resident() - self.memory) / self.sessions.max(1) as f64;
            return Ok(Figures::from([("bytes".into(), each)]));
        }
        self.check(finish.from)?.end(finish.sent)?;
        self.rate.figures(self.size)
    }

    #[inline]
    fn check(&mut self, from: u16) -> Result<&mut Check, String> {
        self.checks.get_mut(from as usize).ok_or_else(|| format!("a stream {from}"))
    }
}

impl Actor for Sink {
    type Context = Context<Self>;
}

impl Handler<Incoming<Piece>> for Sink {
    type Result = ();

    fn handle(&mut self, piece: Incoming<Piece>, _: &mut Self::Context) {
        let (len, last) = (piece.data.len(), piece.data.last().copied());
        let checked = self.check(piece.from).and_then(|check| check.message(piece.seq, len, last));
        if let Err(error) = checked {
            say(&Word::Error(error));
        }
        self.rate.note();
    }
}

impl Handler<Incoming<Finish>> for Sink {
    type Result = ();

    fn handle(&mut self, finish: Incoming<Finish>, _: &mut Self::Context) {
        let figures = self.conclude(&finish);
        self.finished += 1;
        let first = self.figures.take().unwrap_or_else(|| figures.clone());
        if let (Err(error), _) | (_, Err(error)) = (&figures, &first) {
            say(&Word::Error(error.clone()));
        } else if self.finished == self.checks.len()
            && let Ok(first) = &first
        {
            say(&Word::Result(first.clone()));
        }
        self.figures = Some(first);
        finish.reply(());
    }
}

impl Handler<Incoming<Ping>> for Sink {
    type Result = ();

    fn handle(&mut self, ping: Incoming<Ping>, _: &mut Self::Context) {
        let (body, data, answer) = ping.into_parts();
        answer.reply(Pong { seq: body.seq }.with(data));
    }
}

impl Handler<Incoming<Bulk>> for Sink {
    type Result = ();

    fn handle(&mut self, bulk: Incoming<Bulk>, _: &mut Self::Context) {
        if bulk.data.len() != BODY {
            say(&Word::Error(format!("a body of {} bytes", bulk.data.len())));
        }
    }
}

/// Bytes of memory that this process really has.
pub(super) fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) * 1024.0
}

// --- the client ------------------------------------------------------------------------------

async fn drive(role: &Role) -> Result<(), String> {
    let figures = match role.job {
        Job::Pingpong => pingpong(role).await?,
        Job::Stream => stream(role).await?,
        Job::Requests => requests(role).await?,
        Job::Urgent => urgent(role).await?,
        Job::Idle => idle(role).await?,
        Job::Dials => dials(role).await?,
        Job::Crowd => crowd(role).await?,
    };
    say(&Word::Result(figures));
    Ok(())
}

async fn messenger(role: &Role, number: u64) -> Result<Messenger, String> {
    let policy = match role.promise {
        Promise::Lossless => Policy::lossless_peer(),
        Promise::Lossy => Policy::lossy_client(),
    };
    let builder = Messenger::builder(EntityName::client(number)).default_policy(policy);
    let builder = with_links(builder, role);
    let builder = match role.place {
        Place::OwnArbiter => builder,
        Place::Inline | Place::InlineAsleep | Place::Plain => builder.arbiters(0),
    };
    let messenger = builder.build().await.map_err(text)?;
    messenger.ready();
    Ok(messenger)
}

async fn connected(role: &Role) -> Result<Connection, String> {
    let messenger = messenger(role, 1 + role.index).await?;
    messenger.connect(EntityName::osd(0), role.server()?).map_err(text)
}

fn payload(size: usize) -> Bytes {
    vec![FILL; size].into()
}

/// One round trip, checked.
async fn ask(connection: &Connection, seq: u64, data: &Bytes, class: Class) -> Result<(), String> {
    let ping = Ping { seq }.with(data.clone()).class(class);
    let Reply { body, data: back } = connection.request(ping).await.map_err(text)?;
    if body.seq != seq || back.len() != data.len() || back.last() != data.last() {
        return Err(format!("another answer than that of {seq} was due"));
    }
    Ok(())
}

async fn pingpong(role: &Role) -> Result<Figures, String> {
    let connection = connected(role).await?;
    let data = payload(role.size);
    let mut times = Latencies::default();
    let (begin, mut seq) = (now(), 0);
    let mut before = begin;
    while before - begin < role.warm_up() + role.span() {
        ask(&connection, seq, &data, Class::Normal).await?;
        let after = now();
        if after - begin >= role.warm_up() {
            times.note(after - before);
        }
        (before, seq) = (after, seq + 1);
    }
    times.figures()
}

async fn stream(role: &Role) -> Result<Figures, String> {
    let connection = connected(role).await?;
    let data = payload(role.size);
    let from = u16::try_from(role.index).map_err(text)?;
    let (begin, span) = (now(), role.warm_up() + role.span());
    let mut seq = 0;
    while seq % 64 != 0 || begin.elapsed() < span {
        connection.send(Piece { from, seq }.with(data.clone())).await.map_err(text)?;
        seq += 1;
    }
    connection.request(Finish { from, sent: seq }).await.map_err(text)?;
    Ok(Figures::new())
}

async fn requests(role: &Role) -> Result<Figures, String> {
    let connection = connected(role).await?;
    let data = payload(role.size);
    let mut rate = Rate::new(role.warm_up());
    let (begin, span) = (now(), role.warm_up() + role.span());
    let (connection, data) = (&connection, &data);
    let one = |seq: u64| async move { ask(connection, seq, data, Class::Normal).await };
    let mut under_way: FuturesUnordered<_> = (0..role.count as u64).map(one).collect();
    let mut seq = role.count as u64;
    while let Some(answered) = under_way.next().await {
        answered?;
        rate.note();
        if !seq.is_multiple_of(64) || begin.elapsed() < span {
            under_way.push(one(seq));
            seq += 1;
        } else {
            break;
        }
    }
    rate.figures(role.size)
}

async fn urgent(role: &Role) -> Result<Figures, String> {
    let connection = connected(role).await?;
    let data = payload(role.size);
    let bulk = connection.clone();
    let stuffing = actix_rt::spawn(async move {
        let body = payload(BODY);
        while bulk.send(Bulk {}.with(body.clone()).class(Class::Bulk)).await.is_ok() {}
    });
    let mut times = Latencies::default();
    let (begin, mut seq) = (now(), 0);
    while begin.elapsed() < role.warm_up() + role.span() {
        let before = now();
        ask(&connection, seq, &data, Class::Control).await?;
        if begin.elapsed() >= role.warm_up() {
            times.note(before.elapsed());
        }
        seq += 1;
        tokio::time::sleep(PAUSE).await;
    }
    stuffing.abort();
    times.figures()
}

/// Between two urgent requests.
pub(super) const PAUSE: std::time::Duration = std::time::Duration::from_millis(1);

/// One messenger and session each, so that they are as many peers.
async fn peers(role: &Role) -> Result<Vec<Messenger>, String> {
    let mut messengers = Vec::new();
    for number in 0..role.count as u64 {
        messengers.push(messenger(role, 1 + number).await?);
    }
    Ok(messengers)
}

/// Connects all and asks each something; how long the whole took.
async fn storm(role: &Role, messengers: &[Messenger]) -> Result<Vec<Connection>, String> {
    let data = payload(role.size);
    let server = role.server()?;
    let one = |messenger: &Messenger| {
        let (connection, data) = (messenger.connect(EntityName::osd(0), server), data.clone());
        async move {
            let connection = connection.map_err(text)?;
            ask(&connection, 0, &data, Class::Normal).await?;
            Ok::<_, String>(connection)
        }
    };
    let all: FuturesUnordered<_> = messengers.iter().map(one).collect();
    let all: Vec<_> = all.collect().await;
    all.into_iter().collect()
}

async fn dials(role: &Role) -> Result<Figures, String> {
    let messengers = peers(role).await?;
    let begin = now();
    storm(role, &messengers).await?;
    let per_s = messengers.len() as f64 / begin.elapsed().as_secs_f64();
    Ok(Figures::from([("per_s".into(), per_s)]))
}

async fn idle(role: &Role) -> Result<Figures, String> {
    let messengers = peers(role).await?;
    let connections = storm(role, &messengers).await?;
    let first = connections.first().ok_or("no session")?;
    first.request(Finish { from: 0, sent: 0 }).await.map_err(text)?;
    Ok(Figures::new())
}

async fn crowd(role: &Role) -> Result<Figures, String> {
    let messengers = peers(role).await?;
    let connections = storm(role, &messengers).await?;
    let data = payload(role.size);
    let mut rate = Rate::new(role.warm_up());
    let (begin, span) = (now(), role.warm_up() + role.span());
    let (connections, data) = (&connections, &data);
    let one = |(at, seq): (usize, u64)| async move {
        ask(&connections[at], seq, data, Class::Normal).await.map(|()| (at, seq + 1))
    };
    let mut under_way: FuturesUnordered<_> =
        (0..connections.len()).map(|at| one((at, 1))).collect();
    while let Some(answered) = under_way.next().await {
        let next = answered?;
        rate.note();
        if rate.count().is_multiple_of(64) && begin.elapsed() >= span {
            break;
        }
        under_way.push(one(next));
    }
    rate.figures(role.size)
}
