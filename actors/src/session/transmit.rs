//! Gives the link what is due, as much as it has room for: one batch a turn.

use stellate_protocol::codec::{self, Outbound};
use stellate_protocol::session::{Next, Session};
use stellate_protocol::{Frame, Parcel, Time};
use stellate_transport::Link;

use super::SessionActor;
use crate::link::{Load, Transmit, frame_bytes};

/// Bytes of the buffer that the next batch is encoded into, at most; it grows if it must.
const BUFFER_MAX: usize = 128 * 1024;

/// How a link takes what is to be sent.
#[derive(Clone, Copy, Default)]
pub(super) struct Way {
    /// Bytes that it may have in flight.
    in_flight_max: u64,
    /// As [`Link::takes_bytes`].
    takes_bytes: bool,
}

impl Way {
    pub(super) fn of(link: &dyn Link) -> Self {
        let in_flight_max = link.limits().send_bytes as u64;
        Self { in_flight_max, takes_bytes: link.takes_bytes() }
    }
}

impl SessionActor {
    pub(super) fn transmit(&mut self, now: Time) {
        let in_use = self.in_use.borrow();
        let (Some(link), Some(core)) = (&*in_use, &mut self.core) else {
            return;
        };
        let room = self.way.in_flight_max.saturating_sub(self.in_flight);
        if room == 0 {
            return;
        }
        let hint = &mut self.batch_hint;
        let batch = match self.way.takes_bytes {
            true => encode(core, now, room, hint),
            false => collect(core, now, room, hint),
        };
        for transmit in batch.into_iter().flatten() {
            self.in_flight += transmit.bytes;
            link.do_send(transmit);
        }
    }
}

/// Frames as they are.
fn collect(
    core: &mut Session<Parcel>,
    now: Time,
    room: u64,
    hint: &mut usize,
) -> [Option<Transmit>; 2] {
    let mut frames = Vec::new();
    let mut bytes = 0;
    while bytes < room
        && let Some(frame) = core.poll_frame(now)
    {
        if frames.is_empty() {
            frames.reserve(*hint);
        }
        bytes += frame_bytes(&frame);
        frames.push(frame);
    }
    if !frames.is_empty() {
        *hint = frames.len();
    }
    [None, (!frames.is_empty()).then(|| Transmit { load: Load::Frames(frames), bytes })]
}

/// Frames as bytes, a message right from where the session keeps it.
fn encode(
    core: &mut Session<Parcel>,
    now: Time,
    room: u64,
    hint: &mut usize,
) -> [Option<Transmit>; 2] {
    let mut encoded = Outbound::new();
    // One that has no bytes goes to the link as it is, and the link says what is wrong with it.
    let mut odd: Option<Frame<Parcel>> = None;
    while (encoded.len() as u64) < room
        && odd.is_none()
        && core.poll_frame_with(now, |next| {
            // Most turns send nothing, and need no buffer.
            if encoded.is_empty() {
                encoded.reserve(*hint);
            }
            odd = put(next, &mut encoded).err();
        })
    {}
    let bytes = encoded.len() as u64;
    if bytes > 0 {
        *hint = encoded.copied().min(BUFFER_MAX);
    }
    let odd = odd.map(|frame| Transmit { load: Load::Frames(vec![frame]), bytes: 0 });
    [(bytes > 0).then(|| Transmit { load: Load::Bytes(encoded), bytes }), odd]
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
