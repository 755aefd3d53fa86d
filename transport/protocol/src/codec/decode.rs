//! From bytes to frames, however the bytes are cut.
//!
//! ```text
//!            ┌──────── header, small body there: Frame ────────┐
//!            ▼                                                 │
//!   Header ──┴─ body not there yet ──► Body ──── all there ────┤
//!            ├─ long body ───────────► Direct ── all there ────┤   direct(): read into its buffer
//!            └─ chunk ───────────────► Piece ─── all there ────┘   direct(): read into the pull's
//!   any ── CodecError ──► Failed                                   the same error for ever
//! ```

use std::ops::Deref;

use bytes::buf::Limit;
use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::class::Lane;
use crate::frame::{
    Ack, Call, Close, CloseReason, Frame, FrameKind, Grant, Heartbeat, Message, Outcome, Pull,
    TEXT_MAX, UndeliverableReason,
};
use crate::id::{RequestId, Seq};
use crate::parcel::Parcel;

use super::assemble::{Assembler, Piece};
use super::crc;
use super::error::CodecError;
use super::header::{HEADER_LEN, Header, check_greeting, flag};
use super::limits::{WireLimits, within};
use super::opening::{LANE_STATE_LEN, read_answer, read_hello, read_lane_state};
use super::record::Reader;

/// Fewest missing bytes for which [`Decoder::direct`] offers a buffer of their own.
///
/// Fewer are read together with the frames after them: one copy costs less than one system call.
pub const DIRECT_MIN: usize = 16 * 1024;

/// How far the buffer of a long body runs ahead of the bytes that arrived, at least.
const GROW_MIN: usize = 128 * 1024;

/// Which frame has to be the first of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// A Hello or Resume: this side accepted the link.
    Hello,
    /// An answer: this side dialled.
    Answer,
    /// No rule, and hellos may come at any time: for tools that look at recorded frames.
    Anything,
}

impl First {
    const fn allows(self, kind: FrameKind) -> bool {
        match self {
            Self::Hello => matches!(kind, FrameKind::Hello | FrameKind::Resume),
            Self::Answer => is_greeting(kind) && !Self::Hello.allows(kind),
            Self::Anything => true,
        }
    }
}

/// Whether the kind opens a link and carries the magic.
const fn is_greeting(kind: FrameKind) -> bool {
    matches!(
        kind,
        FrameKind::Hello
            | FrameKind::Resume
            | FrameKind::HelloAnswer
            | FrameKind::ResumeAnswer
            | FrameKind::Lost
    )
}

/// Bytes that a transport has read, from which messages are cut without a copy.
pub trait Input: Buf + Deref<Target = [u8]> {
    /// Takes the first `len` bytes out, which are there.
    fn take_front(&mut self, len: usize) -> Bytes;
}

impl Input for BytesMut {
    #[inline]
    fn take_front(&mut self, len: usize) -> Bytes {
        self.split_to(len).freeze()
    }
}

impl Input for Bytes {
    #[inline]
    fn take_front(&mut self, len: usize) -> Bytes {
        self.split_to(len)
    }
}

/// Turns the bytes of one direction of one link into frames.
///
/// The transport reads into a buffer of its own, in large reads, and calls
/// [`decode`](Self::decode) until it gives `None`. Then it reads again: into the buffer that
/// [`direct`](Self::direct) offers, or if there is none into its own.
#[derive(Debug)]
pub struct Decoder {
    limits: WireLimits,
    first: First,
    /// Whether the first frame came.
    opened: bool,
    state: State,
    assembler: Assembler,
}

#[derive(Debug)]
enum State {
    Header,
    Body(Header),
    Direct(Header, BytesMut),
    Piece(Piece),
    Failed(CodecError),
}

impl Decoder {
    /// A decoder for a new link.
    pub fn new(limits: WireLimits, first: First) -> Self {
        Self { limits, first, opened: false, state: State::Header, assembler: Assembler::default() }
    }

    /// Makes room for the data of an announced message, when its Pull is sent.
    ///
    /// This is the only memory that is allocated ahead of the bytes: `data_len` of them, by the
    /// caller's decision.
    ///
    /// # Errors
    /// [`CodecError::TooLong`] over `data_max`; [`CodecError::AlreadyExpected`] if it is pulled
    /// already. The decoder goes on in both cases.
    pub fn expect(&mut self, lane: Lane, seq: Seq, data_len: u32) -> Result<(), CodecError> {
        within("announced data", data_len, self.limits.data_max)?;
        self.assembler.expect(lane, seq, data_len)
    }

    /// Bytes allocated for data that was pulled and is not complete.
    pub fn reserved(&self) -> u64 {
        self.assembler.reserved()
    }

    /// Drops all pulls and all half frames, as after the loss of the link.
    ///
    /// What comes next has to be the first frame of a new link.
    pub fn forget_all(&mut self) {
        self.assembler.clear();
        self.state = State::Header;
        self.opened = false;
    }

    /// Whether no frame is half read: where a link may end without a torn frame, if the
    /// transport's input is empty as well.
    pub fn is_between_frames(&self) -> bool {
        matches!(self.state, State::Header)
    }

    /// Bytes that the input holds before the next frame comes out of it, where that is known: of a
    /// body that is not gathered in a buffer of its own.
    pub fn gathers(&self) -> usize {
        match &self.state {
            State::Body(header) => header.body_len(),
            _ => 0,
        }
    }

    /// Where the next bytes should be read to instead of the input, if the rest of a long body
    /// is missing. Valid right after [`decode`](Self::decode) gave `None`.
    ///
    /// A read may fill less than what is offered; call [`decode`](Self::decode) after it.
    pub fn direct(&mut self) -> Option<Limit<&mut BytesMut>> {
        let (buffer, missing) = match &mut self.state {
            State::Direct(header, buffer) => {
                let missing = header.body_len().saturating_sub(buffer.len());
                // Memory follows the bytes that arrived: it at most doubles.
                if buffer.len() == buffer.capacity() {
                    buffer.reserve(missing.min(buffer.len().max(GROW_MIN)));
                }
                (buffer, missing)
            }
            State::Piece(piece) => self.assembler.missing(piece),
            State::Header | State::Body(_) | State::Failed(_) => return None,
        };
        (missing >= DIRECT_MIN).then(|| buffer.limit(missing))
    }

    /// The next frame, or `None` if more bytes are needed.
    ///
    /// Fronts and data of messages are slices of `input`, not copies; they keep its memory alive.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes. The link is lost: every later call gives the same error.
    #[inline]
    pub fn decode<I: Input>(&mut self, input: &mut I) -> Result<Option<Frame<Parcel>>, CodecError> {
        let mut frame = None;
        self.step(input, |next| frame = Some(next))?;
        Ok(frame)
    }

    /// Appends frames to `frames` until more bytes are needed or there are `max` of them; whether
    /// it stopped for the latter.
    ///
    /// Does what [`decode`](Self::decode) does, again and again. A frame is large, and is put
    /// together in its final place here: reading back what was just written in other pieces is what
    /// a processor is slowest at.
    ///
    /// # Errors
    /// As [`decode`](Self::decode); the frames before it have been appended.
    pub fn decode_into<I: Input>(
        &mut self,
        input: &mut I,
        frames: &mut Vec<Frame<Parcel>>,
        max: usize,
    ) -> Result<bool, CodecError> {
        while frames.len() < max {
            if input.is_empty() && matches!(self.state, State::Header) {
                return Ok(false);
            }
            if !self.step(input, |frame| frames.push(frame))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The message that lies whole in two pieces, if it does and no frame is half read: its header,
    /// with its front or not, at the end of `input`, and all the rest in `rest`. Neither is copied.
    /// Otherwise nothing is taken, and the two are to be decoded one after the other.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn decode_apart<I: Input>(
        &mut self,
        input: &mut I,
        rest: &Bytes,
    ) -> Result<Option<Frame<Parcel>>, CodecError> {
        // Of what opens a link a second look at the header would be one too many.
        let message = input.first().and_then(|kind| FrameKind::from_wire(*kind));
        if !matches!(self.state, State::Header) || message != Some(FrameKind::Message) {
            return Ok(None);
        }
        let Some(header) = self.header(input).map_err(|error| self.fail(error))? else {
            return Ok(None);
        };
        let front = input.len() - HEADER_LEN;
        if front + rest.len() != header.body_len()
            || ![0, header.front_len as usize].contains(&front)
        {
            return Ok(None);
        }
        input.advance(HEADER_LEN);
        let frame = read_apart(&header, input, rest).map_err(|error| self.fail(error))?;
        Ok(Some(frame))
    }

    /// Gives `put` the next frame; whether there was one. The usual message is put together where
    /// `put` wants it.
    #[inline]
    fn step<I: Input>(
        &mut self,
        input: &mut I,
        put: impl FnOnce(Frame<Parcel>),
    ) -> Result<bool, CodecError> {
        let header = match self.whole(input) {
            Ok(Some(header)) if header.kind == FrameKind::Message => header,
            Ok(Some(header)) => {
                put(read_frame(&header, input).map_err(|error| self.fail(error))?);
                return Ok(true);
            }
            Ok(None) => {
                let frame = self.fill(input).map_err(|error| self.fail(error))?;
                return Ok(frame.map(put).is_some());
            }
            Err(error) => return Err(self.fail(error)),
        };
        let (lane, call) = check_message(&header, input).map_err(|error| self.fail(error))?;
        let seq = Seq(header.seq);
        let payload = read_parcel(&header, input);
        put(Frame::Message(Message { lane, seq, call, payload }));
        Ok(true)
    }

    /// Takes an error in: it is final.
    #[cold]
    fn fail(&mut self, error: CodecError) -> CodecError {
        self.state = State::Failed(error);
        error
    }

    /// The header of a frame whose whole body is at the front of `input`, or `None` if the state
    /// says what is missing.
    #[inline]
    fn whole<I: Input>(&mut self, input: &mut I) -> Result<Option<Header>, CodecError> {
        if !matches!(self.state, State::Header) {
            return Ok(self.resume(input));
        }
        let Some(header) = self.header(input)? else {
            return Ok(None);
        };
        input.advance(HEADER_LEN);
        if header.kind != FrameKind::Chunk && input.len() >= header.body_len() {
            return Ok(Some(header));
        }
        self.wait(header)?;
        Ok(None)
    }

    /// Decides where the body of a header is to be gathered.
    #[inline(never)]
    fn wait(&mut self, header: Header) -> Result<(), CodecError> {
        let body_len = header.body_len();
        self.state = if header.kind == FrameKind::Chunk {
            State::Piece(self.assembler.begin(header)?)
        } else if body_len <= DIRECT_MIN {
            State::Body(header)
        } else {
            State::Direct(header, BytesMut::with_capacity(body_len.min(GROW_MIN)))
        };
        Ok(())
    }

    /// The header that waits for its body, if that is there now.
    #[inline(never)]
    fn resume(&mut self, input: &[u8]) -> Option<Header> {
        match self.state {
            State::Body(header) if input.len() >= header.body_len() => {
                self.state = State::Header;
                Some(header)
            }
            _ => None,
        }
    }

    /// Goes on with a long body.
    fn fill<I: Input>(&mut self, input: &mut I) -> Result<Option<Frame<Parcel>>, CodecError> {
        match &mut self.state {
            State::Direct(header, buffer) => {
                let missing = header.body_len().saturating_sub(buffer.len());
                let copy = missing.min(input.len());
                buffer.extend_from_slice(&input[..copy]);
                input.advance(copy);
                if copy < missing {
                    return Ok(None);
                }
                let frame = read_frame(header, buffer)?;
                self.state = State::Header;
                Ok(Some(frame))
            }
            State::Piece(piece) => {
                let Some(chunk) = self.assembler.fill(piece, input)? else {
                    return Ok(None);
                };
                self.state = State::Header;
                Ok(Some(Frame::Chunk(chunk)))
            }
            State::Failed(error) => Err(*error),
            State::Header | State::Body(_) => Ok(None),
        }
    }

    /// Reads a header without taking it away, and refuses what its fields alone forbid.
    #[inline]
    fn header(&mut self, input: &[u8]) -> Result<Option<Header>, CodecError> {
        if !self.opened {
            self.check_first_byte(input)?;
        }
        let Some(bytes) = input.first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let header = Header::from_bytes(bytes);
        if !self.opened {
            self.check_first(bytes, header)?;
        }
        let header = header?;
        if is_greeting(header.kind) {
            if self.opened && self.first != First::Anything {
                return Err(CodecError::NotFirst { frame: header.kind });
            }
            check_greeting(bytes)?;
        }
        self.limits.check(&header)?;
        self.opened = true;
        Ok(Some(header))
    }

    /// A stranger shows by its first byte, and may never send enough for a header.
    fn check_first_byte(&self, input: &[u8]) -> Result<(), CodecError> {
        match input.first() {
            Some(byte)
                if self.first != First::Anything && FrameKind::from_wire(*byte).is_none() =>
            {
                Err(CodecError::NotStellate)
            }
            _ => Ok(()),
        }
    }

    /// Judges the first frame: who it is from comes before whether it is whole.
    fn check_first(
        &self,
        bytes: &[u8; HEADER_LEN],
        header: Result<Header, CodecError>,
    ) -> Result<(), CodecError> {
        match header {
            _ if self.first == First::Anything => Ok(()),
            Ok(header) if !self.first.allows(header.kind) => {
                Err(CodecError::UnexpectedFirst { frame: header.kind })
            }
            _ => check_greeting(bytes),
        }
    }
}

/// Reads a frame whose whole body is at the front of `input`, and takes it away.
fn read_frame<I: Input>(header: &Header, input: &mut I) -> Result<Frame<Parcel>, CodecError> {
    if matches!(header.kind, FrameKind::Message | FrameKind::Announce) {
        let (lane, call) = check_message(header, input)?;
        let message =
            Message { lane, seq: Seq(header.seq), call, payload: read_parcel(header, input) };
        return Ok(match header.kind {
            FrameKind::Message => Frame::Message(message),
            _ => Frame::Announce(message),
        });
    }
    check_body(header, input)?;
    let body_len = header.body_len();
    let frame = read_record(header, &input[..body_len]);
    input.advance(body_len);
    frame
}

/// Reads a message whose front is all of `input`, or else at the front of `rest`.
fn read_apart<I: Input>(
    header: &Header,
    input: &mut I,
    rest: &Bytes,
) -> Result<Frame<Parcel>, CodecError> {
    let Header { message_type, version, compat, front_len, .. } = *header;
    let (lane, call, payload) = if input.is_empty() {
        let (lane, call) = check_message(header, rest)?;
        let front = front_len as usize;
        (lane, call, Parcel::joined(message_type, version, compat, rest.clone(), front))
    } else {
        check_crc(header, crc::append(crc::crc(input), rest))?;
        let front = input.take_front(front_len as usize);
        let payload = Parcel::new(message_type, version, compat, front, rest.clone());
        (header.lane()?, read_call(header)?, payload)
    };
    Ok(Frame::Message(Message { lane, seq: Seq(header.seq), call, payload }))
}

#[inline]
fn check_body(header: &Header, input: &[u8]) -> Result<(), CodecError> {
    check_crc(header, crc::crc(&input[..header.body_len()]))
}

#[inline]
fn check_crc(header: &Header, crc: u32) -> Result<(), CodecError> {
    if crc != header.body_crc {
        return Err(CodecError::BodyChecksum { frame: header.kind });
    }
    Ok(())
}

/// Judges a message whose whole body is at the front of `input`.
#[inline]
fn check_message(header: &Header, input: &[u8]) -> Result<(Lane, Call), CodecError> {
    check_body(header, input)?;
    if header.kind == FrameKind::Announce && header.data_len == 0 {
        return Err(header.bad("data_len"));
    }
    Ok((header.lane()?, read_call(header)?))
}

/// Takes the bytes of a message.
#[inline]
fn read_parcel<I: Input>(header: &Header, input: &mut I) -> Parcel {
    let Header { message_type, version, compat, front_len, data_len, .. } = *header;
    let body = take(input, header.body_len());
    match header.kind {
        FrameKind::Announce => Parcel::announcing(message_type, version, compat, body, data_len),
        _ => Parcel::joined(message_type, version, compat, body, front_len as usize),
    }
}

/// The first `len` bytes, as a slice of the same memory.
#[inline]
fn take<I: Input>(input: &mut I, len: usize) -> Bytes {
    if len == 0 { Bytes::new() } else { input.take_front(len) }
}

#[inline]
fn read_call(header: &Header) -> Result<Call, CodecError> {
    let id = RequestId(header.id);
    Ok(match header.flags >> flag::CALL_SHIFT & flag::CALL_MASK {
        0 => Call::OneWay,
        1 => Call::Notify { id },
        2 => Call::Request { id, ttl_ms: (header.flags & flag::TTL != 0).then_some(header.aux) },
        3 => Call::Reply { id, outcome: read_outcome(header)? },
        4 => Call::Rejected {
            seq: Seq(header.id),
            reason: UndeliverableReason::from_wire(header.code)
                .ok_or_else(|| header.bad("reason"))?,
        },
        _ => return Err(header.bad("call")),
    })
}

fn read_outcome(header: &Header) -> Result<Outcome, CodecError> {
    Ok(match header.code {
        0 => Outcome::Reply,
        1 => Outcome::Handled,
        2 => Outcome::NoReply,
        3 => Outcome::HandlerPanicked,
        4 => Outcome::Expired,
        code => code
            .checked_sub(16)
            .and_then(UndeliverableReason::from_wire)
            .map(Outcome::Undeliverable)
            .ok_or_else(|| header.bad("outcome"))?,
    })
}

/// A frame that is no message.
fn read_record(header: &Header, front: &[u8]) -> Result<Frame<Parcel>, CodecError> {
    Ok(match header.kind {
        FrameKind::Hello | FrameKind::Resume => Frame::Hello(Box::new(read_hello(header, front)?)),
        FrameKind::HelloAnswer | FrameKind::ResumeAnswer | FrameKind::Lost => {
            Frame::Answer(Box::new(read_answer(header, front)?))
        }
        FrameKind::Pull => Frame::Pull(Pull { lane: header.lane()?, seq: Seq(header.seq) }),
        FrameKind::Ack => Frame::Ack(Box::new(read_ack(header, front)?)),
        FrameKind::Grant => Frame::Grant(Grant { slots: header.aux }),
        FrameKind::Heartbeat => {
            let asks = header.flags & flag::ASK != 0;
            let ask = if asks { header.aux.max(1) } else { 0 };
            Frame::Heartbeat(Heartbeat { ask, answer: u32::try_from(header.id).unwrap_or(0) })
        }
        FrameKind::Admitted => Frame::Admitted,
        FrameKind::Close => Frame::Close(Box::new(read_close(header, front)?)),
        // These have readers of their own and never come here.
        FrameKind::Message | FrameKind::Announce | FrameKind::Chunk => {
            return Err(header.bad("kind"));
        }
    })
}

fn read_ack(header: &Header, front: &[u8]) -> Result<Ack, CodecError> {
    let mut reader = Reader::new(header.kind, front);
    let mask = reader.u8("mask")?;
    let stride = reader.u8("stride")?;
    if stride < LANE_STATE_LEN {
        return Err(header.bad("stride"));
    }
    let mut ack = Ack::default();
    for (index, lane) in ack.lanes.iter_mut().enumerate() {
        if mask >> index & 1 == 1 {
            let entry = reader.take(stride.into(), "lane state")?;
            *lane = Some(read_lane_state(&mut Reader::new(header.kind, entry))?);
        }
    }
    Ok(ack)
}

fn read_close(header: &Header, front: &[u8]) -> Result<Close, CodecError> {
    let mut reader = Reader::new(header.kind, front);
    let mut delivered = [0; Lane::COUNT];
    for index in 0..reader.u8("lanes")? {
        let count = reader.u64("delivered")?;
        if let Some(lane) = delivered.get_mut(usize::from(index)) {
            *lane = count;
        }
    }
    Ok(Close {
        reason: CloseReason::from_wire(header.code).ok_or_else(|| header.bad("reason"))?,
        delivered,
        text: reader.text("text", TEXT_MAX)?,
    })
}
