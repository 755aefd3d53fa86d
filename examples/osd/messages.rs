//! All that goes over the wire, and what it is answered with.
//!
//! The typed part is small and says what is to be done; an object's bytes travel beside it as the
//! data segment, which no serializer touches.

use serde::{Deserialize, Serialize};
use stellate::prelude::*;

use super::map::ClusterMap;

/// Names one write of one client, in all its retries: a write that was stored is not stored again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct OpId {
    /// The instance of the client's messenger.
    pub(crate) client: u128,
    /// Counts its writes.
    pub(crate) number: u64,
    /// All its writes below this are answered, and will not be tried again: forget them.
    pub(crate) floor: u64,
}

/// The place of a message in the stream it was sent on: for the demonstration, which counts what
/// is lost, doubled and out of order behind the messenger's back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Place {
    /// The instance of the sender's messenger.
    pub(crate) sender: u128,
    /// One of its streams: a new one for each session.
    pub(crate) lane: u64,
    /// From 1, without a gap.
    pub(crate) nth: u64,
}

/// A write on its way to a store: from the client to the primary, or from there to a replica.
pub(crate) trait Write: Message<Reply = Outcome> + Clone + Unpin {
    /// Its place in its stream.
    fn place(&mut self) -> &mut Place;
    /// The checksum of its data.
    fn sum(&mut self) -> &mut u32;
}

/// Client to primary: store these bytes under that name, everywhere.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Put {
    pub(crate) object: String,
    pub(crate) op: OpId,
    /// crc32c of the data.
    pub(crate) sum: u32,
    /// The client's map.
    pub(crate) epoch: u64,
    pub(crate) place: Place,
}

impl Message for Put {
    const TYPE: MessageType = MessageType::new(0x0101);
    type Reply = Outcome;
}

/// Primary to replica: store these bytes, in the version that I gave them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Replicate {
    pub(crate) object: String,
    pub(crate) op: OpId,
    pub(crate) sum: u32,
    pub(crate) version: u64,
    pub(crate) place: Place,
}

impl Message for Replicate {
    const TYPE: MessageType = MessageType::new(0x0102);
    type Reply = Outcome;
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// It is on disk: here, and from a primary on every replica.
    Stored {
        /// The version of the object.
        version: u64,
        /// It was there before: a retry.
        repeated: bool,
    },
    /// Ask another: by my map of that epoch I am not the primary.
    NotPrimary { epoch: u64 },
    /// The bytes do not have the checksum that came with them.
    BadSum,
    /// Not now; try again.
    Busy { why: String },
    /// The disk does not take it; a retry will not help.
    Failed { why: String },
    /// What a newer version may say.
    #[serde(other)]
    Other,
}

/// Client to any OSD: the bytes that you have under that name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Get {
    pub(crate) object: String,
}

impl Message for Get {
    const TYPE: MessageType = MessageType::new(0x0103);
    type Reply = Got;
}

/// Answers a [`Get`]; the bytes travel beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Got {
    /// Here they are.
    Found { version: u64, sum: u32 },
    /// There is no such object here.
    Missing,
    /// What the disk gives does not have its checksum.
    Corrupt,
    /// The disk gives nothing.
    Failed { why: String },
    #[serde(other)]
    Other,
}

/// OSD to monitor: I am up, and listen there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Boot {
    pub(crate) osd: u64,
    pub(crate) address: String,
}

impl Message for Boot {
    const TYPE: MessageType = MessageType::new(0x0110);
    type Reply = ClusterMap;
}

/// To the monitor: the map, as soon as there is one newer than mine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct GetMap {
    pub(crate) newer_than: u64,
}

impl Message for GetMap {
    const TYPE: MessageType = MessageType::new(0x0111);
    type Reply = ClusterMap;
}

/// To an OSD's admin: how do you do?
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct GetStatus {}

impl Message for GetStatus {
    const TYPE: MessageType = MessageType::new(0x0120);
    type Reply = Status;
}

/// What an OSD has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Status {
    /// Messages that its streams skipped and never brought.
    pub(crate) gaps: u64,
    /// Messages that came twice.
    pub(crate) duplicated: u64,
    /// Messages that came after a later one.
    pub(crate) reordered: u64,
    /// Messages whose bytes did not have their checksum.
    pub(crate) bad_sums: u64,
    /// Messages that were checked for all that.
    pub(crate) checked: u64,
    /// Retried writes that had been stored before.
    pub(crate) repeated: u64,
    /// Peers that were held until the map came.
    pub(crate) held: u64,
    /// Restarts of its actors.
    pub(crate) restarts: u64,
    /// Sums over its sessions.
    pub(crate) resumes: u64,
    pub(crate) replayed: u64,
    pub(crate) deduplicated: u64,
    pub(crate) links_lost: u64,
}

/// To an OSD's admin: cut the next link on which you send something.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CutLink {
    /// How long to wait for something to be sent, in milliseconds.
    pub(crate) patience: u64,
}

impl Message for CutLink {
    const TYPE: MessageType = MessageType::new(0x0121);
    type Reply = Vec<Cut>;
}

/// A link that was cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cut {
    /// Whose link, and with whom.
    pub(crate) from: String,
    pub(crate) to: String,
    /// Messages that `from` had sent on it, or was about to, and that `to` had not acknowledged.
    pub(crate) unacked: u64,
}

/// To an OSD's admin: let the actor panic, now, or with the next write in hand.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PanicNow {
    pub(crate) now: bool,
}

impl Message for PanicNow {
    const TYPE: MessageType = MessageType::new(0x0122);
    type Reply = ();
}

impl Write for Put {
    fn place(&mut self) -> &mut Place {
        &mut self.place
    }

    fn sum(&mut self) -> &mut u32 {
        &mut self.sum
    }
}

impl Write for Replicate {
    fn place(&mut self) -> &mut Place {
        &mut self.place
    }

    fn sum(&mut self) -> &mut u32 {
        &mut self.sum
    }
}
