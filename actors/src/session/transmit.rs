//! Gives the link what is due, as much as it has room for: one batch a turn.

use stellate_protocol::codec::{self, Outbound};
use stellate_protocol::session::{Next, Session};
use stellate_protocol::{Frame, Parcel, Time};

use super::Driver;
use crate::link::Line;

/// Bytes of the buffer that the next batch is encoded into, at most; it grows if it must.
const BUFFER_MAX: usize = 128 * 1024;

impl Driver {
    pub(super) fn transmit(&mut self, now: Time) {
        let (Some(line), Some(core)) = (&self.in_use, &mut self.core) else {
            return;
        };
        if self.in_bytes {
            encode(core, now, &mut self.batch_hint, line);
        } else {
            hand_over(core, now, line);
        }
    }
}

/// Frames as they are. Chunks that the link has no memory for keep nothing else waiting (S9).
fn hand_over(core: &mut Session<Parcel>, now: Time, line: &Line) {
    while line.room() > 0 {
        let Some(frame) = core.poll_frame_to(now, line.takes_chunks()) else { return };
        line.submit(frame);
    }
}

/// Frames as bytes, a message right from where the session keeps it.
fn encode(core: &mut Session<Parcel>, now: Time, hint: &mut usize, line: &Line) {
    let room = line.room();
    let mut encoded = Outbound::new();
    // One that has no bytes goes to the link as it is, and the link says what is wrong with it.
    let mut odd: Option<Frame<Parcel>> = None;
    while encoded.len() < room
        && odd.is_none()
        && core.poll_frame_with(now, |next| {
            // Most turns send nothing, and need no buffer.
            if encoded.is_empty() {
                encoded = line.spare_bytes();
                encoded.reserve(*hint);
            }
            odd = put(next, &mut encoded).err();
        })
    {}
    if !encoded.is_empty() {
        *hint = encoded.copied().min(BUFFER_MAX);
        line.submit_bytes(encoded);
    }
    if let Some(frame) = odd {
        line.submit(frame);
    }
}

#[inline]
fn put(next: Next<'_, Parcel>, out: &mut Outbound) -> Result<(), Frame<Parcel>> {
    match next {
        Next::Message { lane, seq, call, payload } => {
            let encoded = codec::encode_message(lane, seq, &call, payload, out);
            encoded.map_err(|_| Next::Message { lane, seq, call, payload }.into_frame())
        }
        Next::Frame(frame) => codec::encode(&frame, out).map_err(|_| frame),
    }
}
