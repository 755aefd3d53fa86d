//! The floor: plain tokio TCP, without any of what a messenger promises.
//!
//! A message is its length in four bytes, little endian, and the payload, whose first eight bytes
//! number it. One thread on each end (`current_thread`), no delay. What is small is gathered into
//! writes of 64 KiB where it streams, and written at once where somebody waits for the answer.
//! What is large is written from where it lies. Reads go into one buffer of at least 256 KiB that
//! is never given away. There is no checksum, no acknowledgement, no window of its own, no
//! reconnect, no type: it is the price list of the machine, not a competitor.

use std::cell::RefCell;
use std::rc::Rc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use stellate::prelude::Address;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::ours::{BODY, PAUSE, resident};
use super::role::{Check, FILL, Figures, Job, Latencies, Rate, Role, Side, Word, now, say};

/// Bytes gathered before they are written.
const WRITE: usize = 64 * 1024;
/// Half the buffer of one of many connections.
const SMALL: usize = 2 * 1024;
/// Bytes of the length before a message.
const PREFIX: usize = 4;
/// The number of the message that ends a stream; how many there were follows it.
const END: u64 = u64::MAX;

/// Plays the role.
pub(super) fn run(role: &Role) -> Result<(), String> {
    super::local_runtime()?.block_on(async {
        match role.side {
            Side::Server => serve(role).await,
            Side::Client => drive(role).await,
        }
    })
}

async fn serve(role: &Role) -> Result<(), String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(text)?;
    let address = listener.local_addr().map_err(text)?;
    say(&Word::Ready(format!("tcp://{address}")));
    let memory = resident();
    let streams = Rc::new(RefCell::new(Streams::new(role)));
    loop {
        let (stream, _) = listener.accept().await.map_err(text)?;
        let (role, streams) = (role.clone(), streams.clone());
        tokio::task::spawn_local(async move {
            let wire = Wire::new(stream, &role)?;
            let served = match role.job {
                Job::Stream => sink(wire, &role, &streams).await,
                Job::Urgent => swallow(wire).await,
                Job::Idle => idler(wire, &role, memory).await,
                _ => echo(wire).await,
            };
            // A client that has its figures hangs up in the middle of things; one that misses
            // answers says so itself.
            if let (Err(error), Job::Stream) = (&served, role.job) {
                say(&Word::Error(error.clone()));
            }
            served
        });
    }
}

/// What all streams to one server add up to.
struct Streams {
    rate: Rate,
    /// Streams that have not ended.
    left: usize,
    /// Taken when the first one ends: then the others are alone.
    figures: Option<Figures>,
}

impl Streams {
    fn new(role: &Role) -> Self {
        Self { rate: Rate::new(role.warm_up()), left: role.clients.max(1), figures: None }
    }

    fn end_one(&mut self, size: usize) -> Result<(), String> {
        let figures = match self.figures.take() {
            Some(figures) => figures,
            None => self.rate.figures(size)?,
        };
        self.left = self.left.saturating_sub(1);
        if self.left == 0 {
            say(&Word::Result(figures.clone()));
        }
        self.figures = Some(figures);
        Ok(())
    }
}

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

/// A connection with its read buffer.
pub(super) struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    begin: usize,
    end: usize,
}

impl Wire {
    fn new(stream: TcpStream, role: &Role) -> Result<Self, String> {
        stream.set_nodelay(true).map_err(text)?;
        let room = match role.job {
            Job::Idle | Job::Dials | Job::Crowd => (2 * SMALL).max(2 * (role.size + PREFIX)),
            Job::Urgent => 2 * BODY,
            _ => (4 * WRITE).max(2 * (role.size + PREFIX)),
        };
        let buffer = vec![0; room];
        Ok(Self { stream, buffer, begin: 0, end: 0 })
    }

    pub(super) async fn dial(role: &Role) -> Result<Self, String> {
        let to: Address = role.server()?.parse().map_err(text)?;
        let stream = TcpStream::connect(to.socket().map_err(text)?).await.map_err(text)?;
        Self::new(stream, role)
    }

    /// The next message, length and all, that is in the buffer already.
    fn buffered(&mut self) -> Result<Option<&[u8]>, String> {
        let have = &self.buffer[self.begin..self.end];
        let Some((prefix, rest)) = have.split_first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let len = u32::from_le_bytes(*prefix) as usize;
        if len + PREFIX > self.buffer.len() {
            return Err(format!("a message of {len} bytes"));
        }
        if rest.len() < len {
            return Ok(None);
        }
        let from = self.begin;
        self.begin += PREFIX + len;
        Ok(Some(&self.buffer[from..self.begin]))
    }

    /// Reads what is there, at least something; false at the end.
    async fn read(&mut self) -> Result<bool, String> {
        if self.begin == self.end {
            (self.begin, self.end) = (0, 0);
        } else if self.buffer.len() - self.end < self.buffer.len() / 4 {
            self.buffer.copy_within(self.begin..self.end, 0);
            (self.begin, self.end) = (0, self.end - self.begin);
        }
        let read = self.stream.read(&mut self.buffer[self.end..]).await.map_err(text)?;
        self.end += read;
        Ok(read > 0)
    }

    /// Writes a message, alone, and waits for the answer of the same length.
    async fn ask(&mut self, message: &[u8]) -> Result<(), String> {
        self.stream.write_all(message).await.map_err(text)?;
        loop {
            if let Some(answer) = self.buffered()? {
                let same = answer.len() == message.len() && answer[..12] == message[..12];
                return if same { Ok(()) } else { Err("another answer was due".into()) };
            }
            if !self.read().await? {
                return Err("the server hung up".into());
            }
        }
    }
}

/// A message with room for its number.
fn message(size: usize) -> Vec<u8> {
    let size = size.max(8);
    let mut message = vec![FILL; PREFIX + size];
    message[..PREFIX].copy_from_slice(&(size as u32).to_le_bytes());
    message
}

fn number(message: &mut [u8], seq: u64) {
    message[PREFIX..PREFIX + 8].copy_from_slice(&seq.to_le_bytes());
}

fn number_of(message: &[u8]) -> u64 {
    let digits = message.get(PREFIX..PREFIX + 8).and_then(|digits| digits.try_into().ok());
    digits.map_or(END, u64::from_le_bytes)
}

/// Sends everything back: all that came in one read, in one write.
async fn echo(mut wire: Wire) -> Result<(), String> {
    loop {
        let from = wire.begin;
        while wire.buffered()?.is_some() {}
        if wire.begin > from {
            wire.stream.write_all(&wire.buffer[from..wire.begin]).await.map_err(text)?;
        }
        if !wire.read().await? {
            return Ok(());
        }
    }
}

/// Drops large messages and sends small ones back.
async fn swallow(mut wire: Wire) -> Result<(), String> {
    loop {
        let mut answers = Vec::new();
        while let Some(message) = wire.buffered()? {
            if message.len() < WRITE {
                answers.extend_from_slice(message);
            }
        }
        wire.stream.write_all(&answers).await.map_err(text)?;
        if !wire.read().await? {
            return Ok(());
        }
    }
}

/// Sends everything back, and tells at the end what memory the connections took.
async fn idler(mut wire: Wire, role: &Role, before: f64) -> Result<(), String> {
    while wire.read().await? {
        while let Some(message) = wire.buffered()? {
            if number_of(message) == END {
                let each = (resident() - before) / role.count.max(1) as f64;
                say(&Word::Result(Figures::from([("bytes".into(), each)])));
            }
            let message = message.to_vec();
            wire.stream.write_all(&message).await.map_err(text)?;
        }
    }
    Ok(())
}

async fn sink(mut wire: Wire, role: &Role, streams: &RefCell<Streams>) -> Result<(), String> {
    let mut check = Check::new(role.size.max(8));
    loop {
        while let Some(message) = wire.buffered()? {
            let seq = number_of(message);
            if seq == END {
                check.end(message.get(PREFIX + 8..).map_or(0, number_of_end))?;
                streams.borrow_mut().end_one(role.size)?;
                return wire.stream.write_all(&[1]).await.map_err(text);
            }
            let last = (message.len() > PREFIX + 8).then(|| message[message.len() - 1]);
            check.message(seq, message.len() - PREFIX, last)?;
            streams.borrow_mut().rate.note();
        }
        if !wire.read().await? {
            return Err("the stream ended before its end".into());
        }
    }
}

fn number_of_end(rest: &[u8]) -> u64 {
    rest.first_chunk().map_or(0, |digits| u64::from_le_bytes(*digits))
}

async fn stream(role: &Role) -> Result<Figures, String> {
    let mut wire = Wire::dial(role).await?;
    let mut message = message(role.size);
    let mut out = Vec::with_capacity(2 * WRITE);
    let (begin, span) = (now(), role.warm_up() + role.span());
    let mut seq = 0;
    while seq % 64 != 0 || begin.elapsed() < span {
        number(&mut message, seq);
        seq += 1;
        if message.len() >= WRITE {
            wire.stream.write_all(&message).await.map_err(text)?;
            continue;
        }
        out.extend_from_slice(&message);
        if out.len() >= WRITE {
            wire.stream.write_all(&out).await.map_err(text)?;
            out.clear();
        }
    }
    out.extend_from_slice(&16_u32.to_le_bytes());
    out.extend_from_slice(&END.to_le_bytes());
    out.extend_from_slice(&seq.to_le_bytes());
    wire.stream.write_all(&out).await.map_err(text)?;
    wire.stream.read_u8().await.map_err(text)?;
    Ok(Figures::new())
}

async fn pingpong(role: &Role) -> Result<Figures, String> {
    let mut wire = Wire::dial(role).await?;
    let mut message = message(role.size);
    let mut times = Latencies::default();
    let (begin, mut seq) = (now(), 0);
    let mut before = begin;
    while before - begin < role.warm_up() + role.span() {
        number(&mut message, seq);
        wire.ask(&message).await?;
        let after = now();
        if after - begin >= role.warm_up() {
            times.note(after - before);
        }
        (before, seq) = (after, seq + 1);
    }
    times.figures()
}

/// Keeps `count` messages under way; all that were answered in one read are sent in one write.
async fn requests(role: &Role) -> Result<Figures, String> {
    let mut wire = Wire::dial(role).await?;
    let mut message = message(role.size);
    let mut rate = Rate::new(role.warm_up());
    let (begin, span) = (now(), role.warm_up() + role.span());
    let (mut sent, mut due) = (0, 0);
    let mut free = role.count;
    let mut out = Vec::new();
    while begin.elapsed() < span {
        out.clear();
        for _ in 0..std::mem::take(&mut free) {
            number(&mut message, sent);
            out.extend_from_slice(&message);
            sent += 1;
        }
        wire.stream.write_all(&out).await.map_err(text)?;
        if !wire.read().await? {
            return Err("the server hung up".into());
        }
        while let Some(answer) = wire.buffered()? {
            if number_of(answer) != due {
                return Err("another answer was due".into());
            }
            due += 1;
            free += 1;
            rate.note();
        }
    }
    rate.figures(role.size)
}

/// Small messages behind bodies of 4 MiB on one connection: they wait for what is before them.
async fn urgent(role: &Role) -> Result<Figures, String> {
    let Wire { stream, .. } = Wire::dial(role).await?;
    let (mut reader, writer) = stream.into_split();
    let writer = std::rc::Rc::new(tokio::sync::Mutex::new(writer));
    let bulk = writer.clone();
    let stuffing = tokio::task::spawn_local(async move {
        let body = message(BODY);
        while bulk.lock().await.write_all(&body).await.is_ok() {}
    });
    let mut ping = message(role.size);
    let mut pong = vec![0; ping.len()];
    let mut times = Latencies::default();
    let (begin, mut seq) = (now(), 0);
    while begin.elapsed() < role.warm_up() + role.span() {
        number(&mut ping, seq);
        let before = now();
        writer.lock().await.write_all(&ping).await.map_err(text)?;
        reader.read_exact(&mut pong).await.map_err(text)?;
        if number_of(&pong) != seq {
            return Err("another answer was due".into());
        }
        if begin.elapsed() >= role.warm_up() {
            times.note(before.elapsed());
        }
        seq += 1;
        tokio::time::sleep(PAUSE).await;
    }
    stuffing.abort();
    times.figures()
}

/// Connects all at once and asks each something.
async fn storm(role: &Role) -> Result<Vec<Wire>, String> {
    let one = |_| async {
        let mut wire = Wire::dial(role).await?;
        wire.ask(&message(role.size)).await?;
        Ok::<_, String>(wire)
    };
    let wires: Vec<_> = (0..role.count).map(one).collect::<FuturesUnordered<_>>().collect().await;
    wires.into_iter().collect()
}

async fn dials(role: &Role) -> Result<Figures, String> {
    let begin = now();
    let wires = storm(role).await?;
    let per_s = wires.len() as f64 / begin.elapsed().as_secs_f64();
    Ok(Figures::from([("per_s".into(), per_s)]))
}

async fn idle(role: &Role) -> Result<Figures, String> {
    let mut wires = storm(role).await?;
    let first = wires.first_mut().ok_or("no connection")?;
    let mut last = message(role.size);
    number(&mut last, END);
    first.ask(&last).await?;
    Ok(Figures::new())
}

async fn crowd(role: &Role) -> Result<Figures, String> {
    let wires = storm(role).await?;
    let mut rate = Rate::new(role.warm_up());
    let (begin, span) = (now(), role.warm_up() + role.span());
    let ping = message(role.size);
    let ping = &ping;
    let one = |mut wire: Wire| async move { wire.ask(ping).await.map(|()| wire) };
    let mut under_way: FuturesUnordered<_> = wires.into_iter().map(one).collect();
    while let Some(answered) = under_way.next().await {
        let wire = answered?;
        rate.note();
        if rate.count().is_multiple_of(64) && begin.elapsed() >= span {
            break;
        }
        under_way.push(one(wire));
    }
    rate.figures(role.size)
}

pub(super) fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
