//! The codec as links use it: frames in, bytes and completed frames out.

use std::collections::VecDeque;

use stellate_protocol::codec::{CodecError, HEADER_LEN, Outbound, encode};
use stellate_protocol::{Frame, Parcel};

/// Longest buffer that is used again, bytes: what a link may keep for its next batch.
const SPARE_MAX: usize = 128 * 1024;

/// Bytes that a frame counts for where it is not encoded: what it weighs on the wire, roughly.
pub(crate) fn frame_cost(frame: &Frame<Parcel>) -> usize {
    let body = match frame {
        Frame::Message(message) => message.payload.front().len() + message.payload.data().len(),
        Frame::Announce(message) => message.payload.front().len(),
        Frame::Chunk(chunk) => chunk.len as usize,
        Frame::Hello(_) | Frame::Answer(_) | Frame::Close(_) => 512,
        Frame::Ack(_) => 64,
        Frame::Pull(_) | Frame::Grant(_) | Frame::Heartbeat(_) | Frame::Admitted => 0,
    };
    HEADER_LEN + body
}

/// Encoded frames that wait to be written, and where each ends.
#[derive(Debug, Default)]
pub(crate) struct FrameWriter {
    queue: Outbound,
    /// Ends of the queued frames, as positions in the stream.
    ends: VecDeque<u64>,
    queued: u64,
    written: u64,
}

impl FrameWriter {
    /// Encodes behind what is queued. A frame that has no bytes queues nothing.
    pub(crate) fn push(&mut self, frame: &Frame<Parcel>) -> Result<(), CodecError> {
        let before = self.queue.len();
        encode(frame, &mut self.queue)?;
        self.queued += (self.queue.len() - before) as u64;
        self.ends.push_back(self.queued);
        Ok(())
    }

    /// Queues frames that are encoded already, as one.
    pub(crate) fn push_bytes(&mut self, frames: Outbound) {
        self.queued += frames.len() as u64;
        self.queue.append(frames);
        self.ends.push_back(self.queued);
    }

    /// The memory of what was written, to be filled anew; none while something waits.
    pub(crate) fn take_spare(&mut self) -> Outbound {
        if !self.is_empty() {
            return Outbound::new();
        }
        let mut spare = std::mem::take(&mut self.queue);
        spare.shrink_to(SPARE_MAX);
        spare
    }

    /// The bytes.
    pub(crate) fn queue(&self) -> &Outbound {
        &self.queue
    }

    /// Bytes that wait.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether none wait.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Takes away what was written; how many frames that completed.
    pub(crate) fn advance(&mut self, n: usize) -> u64 {
        self.queue.advance(n);
        self.written += n as u64;
        let mut completed = 0;
        while self.ends.front().is_some_and(|end| *end <= self.written) {
            self.ends.pop_front();
            completed += 1;
        }
        completed
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}
