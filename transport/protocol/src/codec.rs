//! Frames as bytes: one header for all kinds, limits before memory, one checksum pass.
//!
//! ```text
//! Frame ──encode──► Outbound ──writev──► peer ──read──► BytesMut ──decode──► Frame
//!                   small: copied together             small: slices of what was read
//!                   large: Bytes by handle             large: read into their final buffer
//! ```
//!
//! A frame is a header of [`HEADER_LEN`] bytes, its front, its data. Everything is little-endian.
//!
//! | offset | size | field | meaning |
//! | ---: | ---: | --- | --- |
//! | 0 | 1 | kind | number of the [`FrameKind`](crate::FrameKind) |
//! | 1 | 1 | flags | see below; unknown bits are ignored |
//! | 2 | 1 | lane | [`Lane::index`](crate::Lane::index), 0 where no lane is meant |
//! | 3 | 1 | code | Message, Announce: outcome or reason; Answer: verdict; Close: reason |
//! | 4 | 4 | front_len | bytes of the front, which follows the header |
//! | 8 | 4 | data_len | bytes of the data after the front; Announce: bytes to be pulled, none follow |
//! | 12 | 4 | body_crc | crc32c of front and data |
//! | 16 | 8 | seq | place in the lane; Hello and Answer: `STELLA` and the wire version as u16 |
//! | 24 | 8 | id | Notify, Request, Reply: request id; Rejected: the rejected seq; Heartbeat: number of the question that it answers, or 0 |
//! | 32 | 4 | type | number of the message type |
//! | 36 | 2 | version | version of the type that encoded the front |
//! | 38 | 2 | compat | oldest version whose reader understands the front |
//! | 40 | 4 | aux | Request: milliseconds left; Chunk: offset; Grant: slots; Heartbeat: number of its question |
//! | 44 | 4 | header_crc | crc32c of the header with this field as 0 |
//!
//! A field without a meaning in a kind is sent as 0 and not looked at. Byte 0 and bytes 16 to 23
//! of the first frame stay where they are in every version to come, and are looked at before the
//! checksum, so that a stranger or a newer peer is told apart from a damaged frame.
//!
//! | flag | bit | in | meaning |
//! | --- | ---: | --- | --- |
//! | `RESUME` | 0x01 | Lost | the hello was a resume (elsewhere the kind says it) |
//! | `INSIST` | 0x02 | Hello, Resume | the dialler overrides a lost race (S5) |
//! | `ASK` | 0x04 | Heartbeat | please answer at once |
//! | `TTL` | 0x08 | Message, Announce | aux holds the milliseconds that a request has left |
//! | call | 0x70 | Message, Announce | 0 one-way, 1 notify, 2 request, 3 reply, 4 rejected |
//!
//! Code of a reply: 0 reply, 1 handled, 2 no reply, 3 handler panicked, 4 expired, 16 + reason
//! undeliverable. Code of an answer: 0 accepted, 1 lost, 2 no session, 3 refused.
//!
//! The fronts of frames that are not messages. `sized` is a u16 length and that many bytes; a
//! reader ignores what it does not know at the end of a sized record and at the end of a front,
//! so that later versions can append. `option` is a byte 0, or a byte 1 and the value. A name is
//! a u8 length and its text.
//!
//! | record | fields |
//! | --- | --- |
//! | Hello, Resume | sized identity, sized name (target), session u128, attempt u64, sized policy, sized opening |
//! | Answer, Lost | sized identity, session u128, attempt u64, latest u64, then by verdict: accepted: lossy u8, sized opening; refused: reason u8, text |
//! | identity | sized name, option role, instance u128, option incarnation u64 |
//! | name | kind, option number u64 |
//! | policy | lossy u8, stance u8 |
//! | opening | sized terms, lanes u8 and per lane a sized lane state, held u8, features u16 and per feature a sized feature, sized metadata, sized auth |
//! | terms | front_max u32, data_max u32, slot_bytes u32, option slots u32, requests_max u32 |
//! | lane state | received u64, window u64, window_bytes u64 |
//! | feature | id u16, required u8, sized data |
//! | Ack | mask of lanes u8, stride u8 (24 or more), per set bit a lane state in stride bytes |
//! | Close | lanes u8 and per lane delivered u64, text |
//! | text | sized UTF-8 |
//! | Pull, Grant, Heartbeat, Admitted | nothing |
//!
//! Invariants: no byte of a peer panics or allocates more than [`WireLimits`] allows; memory for
//! data follows the bytes that arrived, except in buffers that this side asked for with
//! [`Decoder::expect`]; frames come out whole and in order or decoding fails for good (F3).

mod assemble;
mod crc;
mod decode;
mod encode;
mod error;
mod header;
mod limits;
mod opening;
mod outbound;
mod record;

pub use crc::checksum;
pub use decode::{DIRECT_MIN, Decoder, First, Input};
pub use encode::{encode, encode_message};
pub use error::{ChunkFault, CodecError};
pub use header::{HEADER_LEN, MAGIC, WIRE_VERSION};
pub use limits::{CONTROL_MAX, HELLO_MAX, WireLimits};
pub use outbound::{COPY_MAX, Outbound};
