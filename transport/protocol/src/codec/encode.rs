//! From a frame to bytes: small things copied together, long ones by handle, one checksum pass.

use bytes::{BufMut, Bytes, BytesMut};

use crate::class::Lane;
use crate::frame::{
    Ack, Answer, Call, Chunk, Close, Frame, FrameKind, Hello, Message, Outcome, Payload, Pull,
    TEXT_MAX, Verdict,
};
use crate::id::Seq;
use crate::parcel::Parcel;

use super::crc;
use super::error::CodecError;
use super::header::{HEADER_LEN, Header, flag, greeting};
use super::opening::{
    LANE_STATE_LEN, check_opening, put_answer, put_hello, put_lane_state, verdict_code,
};
use super::outbound::Outbound;
use super::record::put_text;

/// Appends the bytes of `frame`.
///
/// Frames come out at the peer in the order in which they were encoded. Texts over
/// [`TEXT_MAX`] are cut.
///
/// # Errors
/// [`CodecError::Unencodable`] for a frame that the sender should not have built: data that is
/// not there, a piece outside of its data, an opening over its limits. Nothing is appended then.
#[inline]
pub fn encode(frame: &Frame<Parcel>, out: &mut Outbound) -> Result<(), CodecError> {
    match frame {
        Frame::Message(Message { lane, seq, call, payload }) => {
            encode_message(*lane, *seq, call, payload, out)
        }
        Frame::Announce(Message { lane, seq, call, payload }) => {
            encode_parcel(FrameKind::Announce, *lane, *seq, call, payload, out)
        }
        Frame::Chunk(chunk) => encode_chunk(chunk, out),
        Frame::Ack(ack) => encode_ack(ack, out),
        Frame::Pull(Pull { lane, seq }) => bare(out, header_in(FrameKind::Pull, *lane, seq.0)),
        Frame::Grant(grant) => {
            let mut header = Header::new(FrameKind::Grant);
            header.aux = grant.slots;
            bare(out, header)
        }
        Frame::Heartbeat(heartbeat) => {
            let mut header = Header::new(FrameKind::Heartbeat);
            header.flags = if heartbeat.ask > 0 { flag::ASK } else { 0 };
            header.aux = heartbeat.ask;
            header.id = u64::from(heartbeat.answer);
            bare(out, header)
        }
        Frame::Admitted => bare(out, Header::new(FrameKind::Admitted)),
        Frame::Hello(hello) => encode_hello(hello, frame.kind(), out),
        Frame::Answer(answer) => encode_answer(answer, frame.kind(), out),
        Frame::Close(close) => encode_close(close, out),
    }
}

/// Number, flags, code, id and ttl of a call.
struct CallFields {
    number: u8,
    code: u8,
    id: u64,
    ttl: Option<u32>,
}

fn call_fields(call: &Call) -> CallFields {
    let (number, code, id, ttl) = match *call {
        Call::OneWay => (0, 0, 0, None),
        Call::Notify { id } => (1, 0, id.0, None),
        Call::Request { id, ttl_ms } => (2, 0, id.0, ttl_ms),
        Call::Reply { id, outcome } => (3, outcome_code(outcome), id.0, None),
        Call::Rejected { seq, reason } => (4, reason as u8, seq.0, None),
    };
    CallFields { number, code, id, ttl }
}

fn outcome_code(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Reply => 0,
        Outcome::Handled => 1,
        Outcome::NoReply => 2,
        Outcome::HandlerPanicked => 3,
        Outcome::Expired => 4,
        Outcome::Undeliverable(reason) => 16 + reason as u8,
    }
}

fn header_in(kind: FrameKind, lane: Lane, seq: u64) -> Header {
    let mut header = Header::new(kind);
    header.lane = lane.index() as u8;
    header.seq = seq;
    header
}

/// Appends a [`Frame::Message`] of these parts: [`encode`] without a frame that would have to be
/// put together first.
///
/// # Errors
/// As [`encode`].
#[inline]
pub fn encode_message(
    lane: Lane,
    seq: Seq,
    call: &Call,
    parcel: &Parcel,
    out: &mut Outbound,
) -> Result<(), CodecError> {
    encode_parcel(FrameKind::Message, lane, seq, call, parcel, out)
}

#[inline]
fn encode_parcel(
    kind: FrameKind,
    lane: Lane,
    seq: Seq,
    call: &Call,
    parcel: &Parcel,
    out: &mut Outbound,
) -> Result<(), CodecError> {
    let bad = |field| CodecError::Unencodable { frame: kind, field };
    let eager = kind == FrameKind::Message;
    if eager && !parcel.is_whole() {
        return Err(bad("data"));
    }
    if !eager && parcel.data_len() == 0 {
        return Err(bad("data_len"));
    }
    let call = call_fields(call);
    let body = if eager { parcel.as_joined() } else { None };
    let body_crc = match body {
        Some(body) => crc::crc(body),
        None if eager => crc::append(crc::crc(parcel.front()), parcel.data()),
        None => crc::crc(parcel.front()),
    };
    let ttl_flag = if call.ttl.is_some() { flag::TTL } else { 0 };
    let header = Header {
        kind,
        flags: call.number << flag::CALL_SHIFT | ttl_flag,
        lane: lane.index() as u8,
        code: call.code,
        front_len: parcel.front_len(),
        data_len: parcel.data_len(),
        body_crc,
        seq: seq.0,
        id: call.id,
        message_type: parcel.kind,
        version: parcel.version,
        compat: parcel.compat,
        aux: call.ttl.unwrap_or(0),
    };
    out.put_slice(&header.to_bytes());
    match body {
        Some(body) => out.put_bytes(body),
        None => {
            out.put_bytes(&parcel.front_bytes());
            if eager {
                out.put_bytes(&parcel.data_bytes());
            }
        }
    }
    Ok(())
}

fn encode_chunk(chunk: &Chunk<Parcel>, out: &mut Outbound) -> Result<(), CodecError> {
    let piece = chunk_bytes(chunk)
        .ok_or(CodecError::Unencodable { frame: FrameKind::Chunk, field: "part" })?;
    let mut header = header_in(FrameKind::Chunk, chunk.lane, chunk.seq.0);
    header.aux = chunk.offset;
    header.data_len = chunk.len;
    header.body_crc = crc::crc(&piece);
    out.put_slice(&header.to_bytes());
    out.put_bytes(&piece);
    Ok(())
}

/// The bytes of the piece, if it has some and all are there.
fn chunk_bytes(chunk: &Chunk<Parcel>) -> Option<Bytes> {
    let data = chunk.part.as_ref()?.data_bytes();
    let from = chunk.offset as usize;
    let to = from.checked_add(chunk.len as usize)?;
    (from < to && to <= data.len()).then(|| data.slice(from..to))
}

/// A frame that is all header.
fn bare(out: &mut Outbound, header: Header) -> Result<(), CodecError> {
    out.put_slice(&header.to_bytes());
    Ok(())
}

/// A frame whose front is a record: the header is filled in when the front is there.
fn record(out: &mut Outbound, mut header: Header, write: impl FnOnce(&mut BytesMut)) {
    out.put_with(|out| {
        let at = out.len();
        out.put_bytes(0, HEADER_LEN);
        write(out);
        let front = &out[at + HEADER_LEN..];
        header.front_len = front.len() as u32;
        header.body_crc = crc::crc(front);
        out[at..at + HEADER_LEN].copy_from_slice(&header.to_bytes());
    });
}

fn encode_ack(ack: &Ack, out: &mut Outbound) -> Result<(), CodecError> {
    record(out, Header::new(FrameKind::Ack), |out| {
        let mask = ack
            .lanes
            .iter()
            .enumerate()
            .fold(0, |mask, (index, lane)| mask | u8::from(lane.is_some()) << index);
        out.put_u8(mask);
        out.put_u8(LANE_STATE_LEN);
        for lane in ack.lanes.iter().flatten() {
            put_lane_state(out, lane);
        }
    });
    Ok(())
}

fn encode_hello(hello: &Hello, kind: FrameKind, out: &mut Outbound) -> Result<(), CodecError> {
    check_opening(&hello.opening)
        .map_err(|field| CodecError::Unencodable { frame: kind, field })?;
    let mut header = Header::new(kind);
    header.seq = greeting();
    header.flags = if hello.insist { flag::INSIST } else { 0 };
    record(out, header, |out| put_hello(out, hello));
    Ok(())
}

fn encode_answer(answer: &Answer, kind: FrameKind, out: &mut Outbound) -> Result<(), CodecError> {
    if let Verdict::Accepted { opening, .. } = &answer.verdict {
        check_opening(opening).map_err(|field| CodecError::Unencodable { frame: kind, field })?;
    }
    let mut header = Header::new(kind);
    header.seq = greeting();
    header.code = verdict_code(&answer.verdict);
    header.flags = if answer.resume { flag::RESUME } else { 0 };
    record(out, header, |out| put_answer(out, answer));
    Ok(())
}

fn encode_close(close: &Close, out: &mut Outbound) -> Result<(), CodecError> {
    let mut header = Header::new(FrameKind::Close);
    header.code = close.reason as u8;
    record(out, header, |out| {
        out.put_u8(Lane::COUNT as u8);
        for delivered in close.delivered {
            out.put_u64_le(delivered);
        }
        put_text(out, &close.text, TEXT_MAX);
    });
    Ok(())
}
