//! What the trace says of a frame, taken from the frame and its bytes.

use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;
use stellate_protocol::codec::HEADER_LEN;
use stellate_protocol::frame::{Ack, Answer, Close, Hello, LaneState, Message, Opening, Verdict};
use stellate_protocol::{Frame, Lane, Parcel, Payload, Seq};

use super::net::Net;
use super::run::Run;
use crate::trace::{Event, Passage, Tape, What};

/// Where the checksums of body and header stand in a header.
const BODY_CRC_AT: usize = 12;
const HEADER_CRC_AT: usize = 44;

/// The passage of a frame that is not sent yet. `read`: somebody reads the details.
pub(super) fn of(frame: &Frame<Parcel>, bytes: &Run, read: bool) -> Passage {
    let body = bytes.len().saturating_sub(HEADER_LEN) as u32;
    let mut passage = Passage {
        kind: frame.kind(),
        lane: frame.lane(),
        seq: 0,
        message_type: 0,
        front: body,
        data: 0,
        header_crc: field(&bytes.head, HEADER_CRC_AT),
        body_crc: field(&bytes.head, BODY_CRC_AT),
        sent: 0,
        call: None,
        detail: None,
    };
    match frame {
        Frame::Message(message) | Frame::Announce(message) => {
            let Message { seq, call, payload, .. } = message;
            passage.seq = seq.0;
            passage.message_type = payload.kind;
            (passage.front, passage.data) = (payload.front_len(), payload.data_len());
            passage.call = Some(*call);
        }
        Frame::Pull(pull) => passage.seq = pull.seq.0,
        Frame::Chunk(chunk) => {
            passage.seq = chunk.seq.0;
            (passage.front, passage.data) = (0, chunk.len);
        }
        Frame::Ack(ack) => {
            let first = lanes(&ack.lanes).next();
            passage.lane = first.map(|(lane, _)| lane);
            passage.seq = first.map_or(0, |(_, state)| state.received.0);
        }
        _ => {}
    }
    passage.detail = if read { detail(frame) } else { None };
    passage
}

fn field(bytes: &Bytes, at: usize) -> u32 {
    let field = bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    field.map_or(0, u32::from_le_bytes)
}

fn lanes(states: &[Option<LaneState>]) -> impl Iterator<Item = (Lane, LaneState)> + '_ {
    Lane::all().filter_map(|lane| Some((lane, states[lane.index()]?)))
}

/// What the columns have no place for.
fn detail(frame: &Frame<Parcel>) -> Option<Arc<str>> {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = match frame {
        Frame::Hello(hello) => write_hello(&mut text, hello),
        Frame::Answer(answer) => write_answer(&mut text, answer),
        Frame::Chunk(chunk) => write!(text, "offset={}", chunk.offset),
        Frame::Ack(ack) => write_ack(&mut text, ack),
        Frame::Grant(grant) => write!(text, "slots={}", grant.slots),
        Frame::Heartbeat(beat) if beat.ask > 0 => write!(text, "asks {}", beat.ask),
        Frame::Close(close) => write_close(&mut text, close),
        _ => return None,
    };
    (!text.is_empty()).then(|| text.into())
}

fn write_hello(text: &mut String, hello: &Hello) -> std::fmt::Result {
    let Hello { from, target, session, attempt, insist, opening, .. } = hello;
    write!(text, "from={} instance={}", from.name, from.instance)?;
    if let Some(incarnation) = from.incarnation {
        write!(text, " incarnation={incarnation}")?;
    }
    write!(text, " to={target} session={session} attempt={attempt}")?;
    if *insist {
        write!(text, " insists")?;
    }
    write_opening(text, opening)
}

fn write_answer(text: &mut String, answer: &Answer) -> std::fmt::Result {
    let Answer { from, attempt, verdict, .. } = answer;
    write!(text, "from={} instance={} attempt={attempt}", from.name, from.instance)?;
    match verdict {
        Verdict::Accepted { lossy, opening } => {
            write!(text, " accepted{}", if *lossy { " lossy" } else { "" })?;
            write_opening(text, opening)
        }
        Verdict::Lost => write!(text, " lost the race"),
        Verdict::NoSession => write!(text, " no such session"),
        Verdict::Refused { reason, text: why } => write!(text, " refused={reason:?} {why}"),
    }
}

fn write_opening(text: &mut String, opening: &Opening) -> std::fmt::Result {
    if opening.held {
        write!(text, " held")?;
    }
    let known = Lane::all().map(|lane| (lane, opening.lanes[lane.index()]));
    for (lane, state) in known.filter(|(_, state)| state.received > Seq(0)) {
        write!(text, " {lane}:received={}", state.received)?;
    }
    Ok(())
}

fn write_ack(text: &mut String, ack: &Ack) -> std::fmt::Result {
    let mut space = "";
    for (lane, state) in lanes(&ack.lanes) {
        write!(text, "{space}{lane}:received={}", state.received)?;
        if !lane.is_replies() {
            write!(text, ",window={}", state.window)?;
        }
        space = " ";
    }
    Ok(())
}

fn write_close(text: &mut String, close: &Close) -> std::fmt::Result {
    write!(text, "reason={:?}", close.reason)?;
    for lane in Lane::all().filter(|lane| close.delivered[lane.index()] > 0) {
        write!(text, " {lane}:delivered={}", close.delivered[lane.index()])?;
    }
    if !close.text.is_empty() {
        write!(text, " {}", close.text)?;
    }
    Ok(())
}

impl Net {
    /// What was recorded, and after it what is on its way.
    pub(super) fn tape(&self) -> Tape {
        let mut tape = self.trace.tape();
        let tick = self.now();
        for (link, wire) in self.wires.iter() {
            for end in 0..2 {
                let (node, peer) = (wire.places[end], Some(wire.places[1 - end]));
                let session = wire.session;
                tape.events.extend(wire.flows[end].passages().map(|passage| {
                    let what = What::Waiting(passage.clone());
                    Event { tick, node, peer, link, session, what }
                }));
            }
        }
        tape
    }
}
