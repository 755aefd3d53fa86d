//! libzmq: REQ/REP for round trips, DEALER/ROUTER for requests under way, PUSH/PULL for streams.
//!
//! Its own IO thread on each end, as it comes; high-water marks of 8,192 messages, as many as our
//! outbox takes. A payload's first eight bytes number it; the receiver looks at each message.

use zmq::{Context, Socket, SocketType};

use crate::role::{Check, FILL, Figures, Job, Latencies, Rate, Role, Side, Word, now, say};

/// Messages queued on one side.
const QUEUED: i32 = 8192;
/// The number of the message that ends a stream; how many there were follows it.
const END: u64 = u64::MAX;

/// Plays the role.
pub(crate) fn run(role: &Role) -> Result<(), String> {
    let context = Context::new();
    match (role.side, role.job) {
        (Side::Server, Job::Stream) => sink(&listen(&context, SocketType::PULL)?, role),
        (Side::Server, Job::Pingpong) => echo(&listen(&context, SocketType::REP)?),
        (Side::Server, Job::Requests) => route(&listen(&context, SocketType::ROUTER)?),
        (Side::Client, Job::Stream) => stream(&dial(&context, SocketType::PUSH, role)?, role),
        (Side::Client, Job::Pingpong) => pingpong(&dial(&context, SocketType::REQ, role)?, role),
        (Side::Client, Job::Requests) => requests(&dial(&context, SocketType::DEALER, role)?, role),
        (_, job) => Err(format!("zmq does not know {job:?}")),
    }
}

fn socket(context: &Context, kind: SocketType) -> Result<Socket, String> {
    let socket = context.socket(kind).map_err(text)?;
    socket.set_sndhwm(QUEUED).map_err(text)?;
    socket.set_rcvhwm(QUEUED).map_err(text)?;
    Ok(socket)
}

fn listen(context: &Context, kind: SocketType) -> Result<Socket, String> {
    let socket = socket(context, kind)?;
    socket.bind("tcp://127.0.0.1:*").map_err(text)?;
    let bound = socket.get_last_endpoint().map_err(text)?;
    say(&Word::Ready(bound.map_err(|_| "an address that is no text")?));
    Ok(socket)
}

fn dial(context: &Context, kind: SocketType, role: &Role) -> Result<Socket, String> {
    let socket = socket(context, kind)?;
    socket.connect(role.server()?).map_err(text)?;
    Ok(socket)
}

fn payload(size: usize) -> Vec<u8> {
    vec![FILL; size.max(8)]
}

fn number(payload: &mut [u8], seq: u64) {
    payload[..8].copy_from_slice(&seq.to_le_bytes());
}

fn number_of(payload: &[u8]) -> u64 {
    payload.first_chunk().map_or(0, |digits| u64::from_le_bytes(*digits))
}

/// Counts and checks; the clients take turns here, so each has its own count.
fn sink(socket: &Socket, role: &Role) -> Result<(), String> {
    let mut rate = Rate::new(role.warm_up());
    let mut checks: Vec<_> =
        (0..role.clients.max(1)).map(|_| Check::new(role.size.max(8))).collect();
    let (mut message, mut finished, mut figures) = (zmq::Message::new(), 0, None);
    while finished < checks.len() {
        socket.recv(&mut message, 0).map_err(text)?;
        let (seq, from) = (number_of(&message), number_of(&message) >> 48);
        if seq == END {
            let from = message.get(16).copied().unwrap_or(0);
            let check = checks.get(from as usize).ok_or("an unknown stream")?;
            check.end(message.get(8..).map_or(0, number_of))?;
            figures.get_or_insert(rate.figures(role.size)?);
            finished += 1;
            continue;
        }
        let check = checks.get_mut(from as usize).ok_or("an unknown stream")?;
        let last = (message.len() > 8).then(|| message[message.len() - 1]);
        check.message(seq & 0xffff_ffff_ffff, message.len(), last)?;
        rate.note();
    }
    say(&Word::Result(figures.ok_or("no stream")?));
    Ok(())
}

fn stream(socket: &Socket, role: &Role) -> Result<(), String> {
    let mut payload = payload(role.size);
    let (begin, span) = (now(), role.warm_up() + role.span());
    let (mut seq, from) = (0, role.index << 48);
    while seq % 64 != 0 || begin.elapsed() < span {
        number(&mut payload, from | seq);
        socket.send(&payload[..], 0).map_err(text)?;
        seq += 1;
    }
    let mut end = END.to_le_bytes().to_vec();
    end.extend_from_slice(&seq.to_le_bytes());
    end.push(role.index as u8);
    // What is queued still goes: the context waits for it when it is dropped.
    socket.send(end, 0).map_err(text)?;
    say(&Word::Result(Figures::new()));
    Ok(())
}

fn echo(socket: &Socket) -> Result<(), String> {
    let mut message = zmq::Message::new();
    loop {
        socket.recv(&mut message, 0).map_err(text)?;
        socket.send(std::mem::replace(&mut message, zmq::Message::new()), 0).map_err(text)?;
    }
}

fn route(socket: &Socket) -> Result<(), String> {
    let (mut who, mut what) = (zmq::Message::new(), zmq::Message::new());
    loop {
        socket.recv(&mut who, 0).map_err(text)?;
        socket.recv(&mut what, 0).map_err(text)?;
        socket
            .send(std::mem::replace(&mut who, zmq::Message::new()), zmq::SNDMORE)
            .map_err(text)?;
        socket.send(std::mem::replace(&mut what, zmq::Message::new()), 0).map_err(text)?;
    }
}

fn pingpong(socket: &Socket, role: &Role) -> Result<(), String> {
    let mut payload = payload(role.size);
    let mut message = zmq::Message::new();
    let mut times = Latencies::default();
    let (begin, mut seq) = (now(), 0);
    let mut before = begin;
    while before - begin < role.warm_up() + role.span() {
        number(&mut payload, seq);
        socket.send(&payload[..], 0).map_err(text)?;
        socket.recv(&mut message, 0).map_err(text)?;
        if number_of(&message) != seq || message.len() != payload.len() {
            return Err(format!("another answer than that of {seq} was due"));
        }
        let after = now();
        if after - begin >= role.warm_up() {
            times.note(after - before);
        }
        (before, seq) = (after, seq + 1);
    }
    say(&Word::Result(times.figures()?));
    Ok(())
}

fn requests(socket: &Socket, role: &Role) -> Result<(), String> {
    let mut payload = payload(role.size);
    let mut message = zmq::Message::new();
    let mut rate = Rate::new(role.warm_up());
    let (begin, span) = (now(), role.warm_up() + role.span());
    let (mut sent, mut due) = (0_u64, 0_u64);
    while due % 64 != 0 || begin.elapsed() < span {
        while sent - due < role.count as u64 {
            number(&mut payload, sent);
            socket.send(&payload[..], 0).map_err(text)?;
            sent += 1;
        }
        socket.recv(&mut message, 0).map_err(text)?;
        if number_of(&message) != due {
            return Err(format!("another answer than that of {due} was due"));
        }
        due += 1;
        rate.note();
    }
    say(&Word::Result(rate.figures(role.size)?));
    Ok(())
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
