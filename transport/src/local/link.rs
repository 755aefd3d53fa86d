//! One end of a local link.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use stellate_protocol::codec::{CodecError, Decoder, First, Outbound, encode};
use stellate_protocol::frame::Chunk;
use stellate_protocol::{Frame, Lane, Parcel, Seq};

use super::LocalOptions;
use super::pipe::{Item, Left, Pipes, lock};
use crate::address::Address;
use crate::fault::LinkFault;
use crate::limits::LinkLimits;
use crate::link::{
    BYTES_PER_POLL, Batch, CloseHow, FRAMES_PER_POLL, Full, Link, LinkClosed, Parked, Token,
};
use crate::tokens::Tokens;
use crate::wire::frame_cost;

pub(super) struct LocalLink {
    pipes: Pipes,
    /// It writes into the pipe with its index and reads from the other.
    index: usize,
    peer: Address,
    limits: LinkLimits,
    codec: Option<Decoder>,
    input: BytesMut,
    queue: VecDeque<(Item, usize)>,
    queued: usize,
    tokens: Tokens,
    starved: bool,
    draining: bool,
    ended: Option<LinkFault>,
    reported: bool,
}

impl LocalLink {
    pub(super) fn new(
        pipes: Pipes,
        index: usize,
        peer: Address,
        limits: LinkLimits,
        options: &LocalOptions,
        first: First,
    ) -> Self {
        Self {
            pipes,
            index,
            peer,
            limits,
            codec: options.codec.then(|| Decoder::new(options.wire, first)),
            input: BytesMut::new(),
            queue: VecDeque::new(),
            queued: 0,
            tokens: Tokens::default(),
            starved: false,
            draining: false,
            ended: None,
            reported: false,
        }
    }

    fn pack(&self, frame: Frame<Parcel>) -> Result<Item, CodecError> {
        if self.codec.is_none() {
            return Ok(Item::Frame(frame));
        }
        let mut bytes = Outbound::new();
        encode(&frame, &mut bytes)?;
        Ok(Item::Bytes(bytes.copy_to_bytes(bytes.len())))
    }

    /// Moves what was submitted into the pipe, as far as it has room.
    fn flush(&mut self, cx: &mut Context<'_>, out: &mut Batch) {
        if self.queue.is_empty() && !self.draining {
            return;
        }
        let mut pipe = lock(&self.pipes[self.index]);
        let mut moved = 0;
        while pipe.bytes < self.limits.send_bytes
            && let Some((item, cost)) = self.queue.pop_front()
        {
            pipe.bytes += cost;
            self.queued -= cost;
            pipe.items.push_back((item, cost));
            moved += 1;
        }
        let mut reader = None;
        if moved > 0 {
            reader = pipe.reader.take();
        }
        if self.queue.is_empty() {
            pipe.writer = None;
            if self.draining {
                reader = pipe.leave(Left::Orderly).or(reader);
                self.ended = Some(LinkFault::ClosedHere);
            }
        } else {
            pipe.writer = Some(cx.waker().clone());
        }
        drop(pipe);
        if let Some(reader) = reader {
            reader.wake();
        }
        self.tokens.sent(moved, out);
        if self.starved && self.queued <= self.limits.send_bytes / 2 {
            self.starved = false;
            out.room = true;
        }
    }

    /// Takes frames out of the other pipe; whether there may be more.
    fn fill(&mut self, cx: &mut Context<'_>, out: &mut Batch) -> Result<bool, LinkFault> {
        let pipes = self.pipes.clone();
        let mut pipe = lock(&pipes[1 - self.index]);
        let (mut frames, mut bytes) = (0, 0);
        while frames < FRAMES_PER_POLL
            && bytes < BYTES_PER_POLL
            && let Some((item, cost)) = pipe.items.pop_front()
        {
            pipe.bytes -= cost;
            bytes += cost;
            frames += 1;
            self.unpack(item, out)?;
        }
        let writer = (frames > 0).then(|| pipe.writer.take()).flatten();
        let again = !pipe.items.is_empty();
        let left = pipe.left;
        if !again && left.is_none() {
            pipe.reader = Some(cx.waker().clone());
        }
        drop(pipe);
        if let Some(writer) = writer {
            writer.wake();
        }
        match left {
            Some(_) if again => Ok(true),
            Some(Left::Orderly) => Err(LinkFault::ClosedByPeer),
            Some(Left::Cut) => Err(LinkFault::Reset),
            None => Ok(again),
        }
    }

    fn unpack(&mut self, item: Item, out: &mut Batch) -> Result<(), LinkFault> {
        match item {
            Item::Frame(Frame::Chunk(chunk)) => out.frames.push(Frame::Chunk(gather(chunk))),
            Item::Frame(frame) => out.frames.push(frame),
            Item::Bytes(bytes) => {
                let Some(decoder) = &mut self.codec else {
                    return Ok(());
                };
                self.input.extend_from_slice(&bytes);
                while let Some(frame) =
                    decoder.decode(&mut self.input).map_err(LinkFault::Malformed)?
                {
                    out.frames.push(frame);
                }
            }
        }
        Ok(())
    }

    fn leave(&self, how: Left) {
        let mut wakers = [None, None];
        wakers[0] = lock(&self.pipes[self.index]).leave(how);
        // Nobody reads the other pipe any more: its writer must not wait for room.
        let mut pipe = lock(&self.pipes[1 - self.index]);
        pipe.items.clear();
        pipe.bytes = 0;
        wakers[1] = pipe.writer.take();
        drop(pipe);
        for waker in wakers.into_iter().flatten() {
            waker.wake();
        }
    }

    fn end(&mut self, cause: LinkFault, out: &mut Batch) {
        let drained = self.queue.is_empty() && cause == LinkFault::ClosedHere && self.draining;
        self.leave(if drained { Left::Orderly } else { Left::Cut });
        self.queue.clear();
        self.queued = 0;
        self.tokens.fail_open(out);
        self.reported = true;
        out.closed = Some(LinkClosed { cause });
    }
}

/// What a receiving transport makes of a piece: the data comes whole, with the last one.
fn gather(mut chunk: Chunk<Parcel>) -> Chunk<Parcel> {
    let end = chunk.offset.saturating_add(chunk.len) as usize;
    let part = chunk.part.filter(|part| part.data().len() <= end);
    chunk.part = part.map(|part| Parcel::of_data(part.into_data()));
    chunk
}

impl Link for LocalLink {
    fn limits(&self) -> &LinkLimits {
        &self.limits
    }

    fn peer(&self) -> Address {
        self.peer.clone()
    }

    fn submit(&mut self, frame: Frame<Parcel>) -> Result<Token, Full> {
        let closed = self.reported || self.draining || self.ended.is_some();
        if closed || self.room() == 0 {
            self.starved |= !closed;
            return Err(Full::new(frame, closed));
        }
        let cost = frame_cost(&frame);
        match self.pack(frame) {
            Ok(item) => {
                self.queued += cost;
                self.queue.push_back((item, cost));
            }
            Err(error) => self.ended = Some(LinkFault::Malformed(error)),
        }
        self.starved |= self.room() == 0;
        Ok(self.tokens.issue())
    }

    fn expect(&mut self, lane: Lane, seq: Seq, data_len: u32) {
        if let Some(decoder) = &mut self.codec {
            match decoder.expect(lane, seq, data_len) {
                Ok(()) | Err(CodecError::AlreadyExpected { .. }) => {}
                Err(error) => self.ended = Some(LinkFault::Malformed(error)),
            }
        }
    }

    fn room(&self) -> usize {
        if self.reported || self.draining || self.ended.is_some() {
            return 0;
        }
        self.limits.send_bytes.saturating_sub(self.queued)
    }

    fn poll(&mut self, cx: &mut Context<'_>, out: &mut Batch) -> Poll<()> {
        if self.reported {
            return Poll::Pending;
        }
        let before = (out.frames.len(), out.done, out.room);
        let step = match self.ended.take() {
            Some(cause) => Err(cause),
            None => {
                self.flush(cx, out);
                match self.ended.take() {
                    Some(cause) => Err(cause),
                    None => self.fill(cx, out),
                }
            }
        };
        let again = match step {
            Ok(again) => again,
            Err(cause) => {
                self.end(cause, out);
                true
            }
        };
        if again || before != (out.frames.len(), out.done, out.room) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    fn close(&mut self, how: CloseHow) {
        if self.reported {
            return;
        }
        match how {
            CloseHow::Drain => self.draining = true,
            CloseHow::Abort => {
                self.draining = false;
                self.ended = Some(LinkFault::ClosedHere);
            }
        }
    }

    fn detach(self: Box<Self>) -> Result<Box<dyn Parked>, LinkFault> {
        if self.reported {
            return Err(LinkFault::ClosedHere);
        }
        Ok(Box::new(LocalParked(self)))
    }
}

impl Drop for LocalLink {
    fn drop(&mut self) {
        if !self.reported {
            self.leave(Left::Cut);
        }
    }
}

/// A local link belongs to no reactor.
struct LocalParked(Box<LocalLink>);

impl Parked for LocalParked {
    fn attach(self: Box<Self>) -> Result<Box<dyn Link>, LinkFault> {
        Ok(self.0)
    }
}
