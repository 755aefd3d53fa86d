//! An event as a line of fixed columns.

use std::fmt;

use super::event::{Call, Event, Over, Passage, What, cause_word};
use super::names::Names;

/// What stands above the columns.
pub const HEADING: &str = "#  seconds node            peer           link  session what      \
                           class    seq type        bytes more";

/// An event as a line. A column is separated from the next by spaces, holds no space itself, and
/// is `-` where there is nothing to say; only the last one is free text.
///
/// | from | to | column | |
/// | --- | --- | --- | --- |
/// | 1 | 10 | seconds | virtual time, to the millisecond |
/// | 12 | 23 | node | where; of a frame, its sender |
/// | 25 | 26 | way | `->` a frame that arrived, `-x` one that was lost, `..` one on its way |
/// | 28 | 39 | peer | the other node |
/// | 41 | 46 | link | the network's number of the link |
/// | 48 | 55 | session | the first digits of the session's id |
/// | 57 | 65 | what | the frame's kind, or the event |
/// | 67 | 69 | class | `con`, `hig`, `nor`, `bul`, with a `/` before that of replies |
/// | 72 | 77 | seq | place in the class |
/// | 79 | 88 | type | the message type by name, else by number |
/// | 90 | 95 | bytes | front and data |
/// | 97 | | more | whatever else there is, as `name=value` |
///
/// A name that is too long for its column moves what is behind it.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a>(pub &'a Names, pub &'a Event);

/// A name without what would break a column.
struct Word<'a>(&'a str);

impl fmt::Display for Word<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.pad("-");
        }
        let breaks = |c: char| c.is_whitespace() || c.is_control();
        if self.0.contains(breaks) {
            return f.pad(&self.0.replace(breaks, "_"));
        }
        f.pad(self.0)
    }
}

/// Free text on one line.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.contains(char::is_control) {
            true => f.write_str(&self.0.replace(char::is_control, " ")),
            false => f.write_str(self.0),
        }
    }
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(names, event) = self;
        let way = match event.what {
            What::Frame(_) => "->",
            What::Lost(_) => "-x",
            What::Waiting(_) => "..",
            _ => "  ",
        };
        let node = Word(names.node(event.node));
        let peer = Word(event.peer.map_or("", |peer| names.node(peer)));
        let (seconds, millis) = (event.tick / 1000, event.tick % 1000);
        let what = event.what.word();
        write!(f, "{seconds:>6}.{millis:03} {node:<12} {way} {peer:<12} ")?;
        match event.link {
            0 => write!(f, "{:>6} ", "-")?,
            link => write!(f, "{link:>6} ")?,
        }
        write!(f, "{:>8} {what:<9} ", event.session)?;
        subject(f, names, &event.what)?;
        if let Some(passage) = event.what.passage() {
            call(f, passage)?;
        }
        let more = More(event).to_string();
        if more.is_empty() { Ok(()) } else { write!(f, " {more}") }
    }
}

/// Class, seq, type, bytes.
fn subject(f: &mut fmt::Formatter<'_>, names: &Names, what: &What) -> fmt::Result {
    let (lane, seq, number, bytes) = match what {
        What::Frame(p) | What::Lost(p) | What::Waiting(p) => {
            (p.lane, p.seq, p.message_type, Some(u64::from(p.front) + u64::from(p.data)))
        }
        What::Call(Call::Message { lane, seq, message_type, .. }) => {
            (Some(*lane), *seq, *message_type, None)
        }
        _ => return write!(f, "{:<4} {:>6} {:<10} {:>6}", "-", "-", "-", "-"),
    };
    let class = lane.map_or_else(
        || "-".to_owned(),
        |lane| {
            let class = lane.class().to_string();
            format!("{}{}", if lane.is_replies() { "/" } else { "" }, &class[..3])
        },
    );
    let seq = if seq == 0 { "-".to_owned() } else { seq.to_string() };
    let kind = match (number, names.message_type(number)) {
        (0, _) => "-".to_owned(),
        (_, Some(name)) => Word(name).to_string(),
        (number, None) => format!("{number:#06x}"),
    };
    let bytes = bytes.map_or_else(|| "-".to_owned(), |bytes| bytes.to_string());
    write!(f, "{class:<4} {seq:>6} {kind:<10} {bytes:>6}")
}

/// What an event says beyond its columns, as `name=value` and words; nothing for most of them. The
/// call that a message is part of is not in it: see [`Passage::call`].
#[derive(Clone, Copy, Debug)]
pub struct More<'a>(pub &'a Event);

impl fmt::Display for More<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.what {
            What::Frame(p) | What::Lost(p) | What::Waiting(p) => match &p.detail {
                Some(detail) => write!(f, "{}", Text(detail)),
                None => Ok(()),
            },
            What::Start { life } => write!(f, "life={life}"),
            What::DialFailed(why) | What::Closed(why) => write!(f, "why={why}"),
            What::Stall { ticks } => write!(f, "ticks={ticks}"),
            What::Slow { bytes_per_tick: Some(bytes) } => write!(f, "bytes_per_tick={bytes}"),
            What::Slow { bytes_per_tick: None } => f.write_str("off"),
            What::Refuse(on) | What::Ignore(on) => f.write_str(if *on { "on" } else { "off" }),
            What::Connected { held: true } | What::Resumed { held: true } => f.write_str("held"),
            What::Reset(over) | What::Ended(over) => {
                let Over { cause, unacked, undelivered } = over;
                let cause = cause_word(*cause);
                write!(f, "cause={cause} unacked={unacked} undelivered={undelivered}")
            }
            What::Undeliverable { class, reason } => write!(f, "class={class} reason={reason:?}"),
            What::LocalStall { late } => write!(f, "by={late:?}"),
            What::Call(
                Call::Message { actor, .. } | Call::Event { actor } | Call::Admission { actor },
            ) => write!(f, "actor={}", Word(actor)),
            What::Actor { path, what } => write!(f, "{what} actor={}", Word(path)),
            What::Broken { promise, text } => write!(f, "{}: {}", Word(promise), Text(text)),
            What::Note(text) => write!(f, "{}", Text(text)),
            _ => Ok(()),
        }
    }
}

/// When a frame was sent, and the call that it is part of.
fn call(f: &mut fmt::Formatter<'_>, passage: &Passage) -> fmt::Result {
    use stellate_protocol::frame::Call;
    write!(f, " sent={}.{:03}", passage.sent / 1000, passage.sent % 1000)?;
    match passage.call {
        None | Some(Call::OneWay) => Ok(()),
        Some(Call::Notify { id }) => write!(f, " notify={id}"),
        Some(Call::Request { id, ttl_ms: None }) => write!(f, " request={id}"),
        Some(Call::Request { id, ttl_ms: Some(ttl) }) => write!(f, " request={id} ttl={ttl}ms"),
        Some(Call::Reply { id, outcome }) => write!(f, " to={id} outcome={outcome:?}"),
        Some(Call::Rejected { seq, reason }) => write!(f, " rejects={seq} reason={reason:?}"),
    }
}
