//! The running hash over everything that happened (D1), and the recording of it, if anybody asked.

use stellate_protocol::FrameKind;

use crate::trace::{
    Call, Event, Names, NodeNo, Over, Passage, Recording, SessionTag, Sink, Tape, What, cause_word,
};

/// Hash, names and recording of one network.
pub(super) struct Trace {
    hash: Hash,
    events: u64,
    messages: u64,
    pub(super) names: Names,
    recording: Recording,
}

impl Trace {
    pub(super) fn new() -> Self {
        let recording = Recording::default();
        Self { hash: Hash::new(), events: 0, messages: 0, names: Names::default(), recording }
    }

    /// The number of a node, which is one of the network's from now on.
    pub(super) fn node(&mut self, name: &str) -> NodeNo {
        let (number, new) = self.names.enter(name);
        if new {
            self.hash.text(name);
        }
        number
    }

    /// Appends one event.
    pub(super) fn add(&mut self, event: Event) {
        self.events += 1;
        self.hash.event(&event);
        if let What::Frame(passage) = &event.what {
            let whole = matches!(passage.kind, FrameKind::Message | FrameKind::Announce);
            self.messages += u64::from(whole);
        }
        if self.recording.is_on() {
            self.recording.add(&self.names, event);
        }
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash.0
    }

    pub(super) fn events(&self) -> u64 {
        self.events
    }

    pub(super) fn messages(&self) -> u64 {
        self.messages
    }

    pub(super) fn keep(&mut self, max: usize) {
        self.recording.keep(max);
    }

    pub(super) fn stream(&mut self, sink: Sink) {
        self.recording.stream(sink);
    }

    pub(super) fn stop(&mut self) {
        self.recording = Recording::default();
    }

    /// Whether anybody keeps or reads events.
    pub(super) fn is_read(&self) -> bool {
        self.recording.is_on()
    }

    pub(super) fn tape(&self) -> Tape {
        self.recording.tape(&self.names)
    }
}

/// A hash over words: cheap, order counts, and the same on every platform and version.
struct Hash(u64);

impl Hash {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// Appends one word: the two halves of a product, folded.
    #[inline]
    fn word(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word ^ 0xa076_1d64_78bd_642f)
            * u128::from(0xe703_7ed1_a0b4_28db_u64);
        self.0 = (product as u64 ^ (product >> 64) as u64).rotate_left(23) ^ word;
    }

    fn text(&mut self, text: &str) {
        self.word(text.len() as u64);
        for bytes in text.as_bytes().chunks(8) {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            self.word(u64::from_le_bytes(word));
        }
    }

    /// Every field of the event but what is for people only.
    #[inline]
    fn event(&mut self, event: &Event) {
        let Event { tick, node, peer, link, session: SessionTag(session), what } = event;
        let peer = peer.map_or(NodeNo::NETWORK, |peer| peer);
        self.word(*tick);
        self.word(u64::from(node.0) << 32 | u64::from(peer.0));
        self.word(*link);
        self.word(u64::from(code(what)) << 32 | u64::from(*session));
        match what {
            What::Frame(passage) | What::Lost(passage) | What::Waiting(passage) => {
                self.passage(passage);
            }
            What::Call(Call::Message { actor, lane, seq, message_type }) => {
                self.text(actor);
                self.word((lane.index() as u64) << 32 | u64::from(*message_type));
                self.word(*seq);
            }
            What::Call(Call::Event { actor } | Call::Admission { actor }) => self.text(actor),
            other => self.rest(other),
        }
    }

    #[inline]
    fn passage(&mut self, passage: &Passage) {
        self.word(u64::from(passage.header_crc) << 32 | u64::from(passage.body_crc));
        self.word(passage.sent);
    }

    fn rest(&mut self, what: &What) {
        match what {
            What::Start { life } => self.word(*life),
            What::DialFailed(why) | What::Closed(why) => self.text(why),
            What::Stall { ticks } => self.word(*ticks),
            What::Slow { bytes_per_tick } => {
                self.word(bytes_per_tick.map_or(u64::MAX, u64::from));
            }
            What::Refuse(on) | What::Ignore(on) => self.word(u64::from(*on)),
            What::Connected { held } | What::Resumed { held } => self.word(u64::from(*held)),
            What::Reset(over) | What::Ended(over) => {
                let Over { cause, unacked, undelivered } = over;
                self.text(cause_word(*cause));
                self.word(*unacked);
                self.word(*undelivered);
            }
            What::Undeliverable { class, reason } => {
                self.word((class.index() as u64) << 8 | *reason as u64);
            }
            What::LocalStall { late } => self.word(late.as_nanos() as u64),
            What::Actor { path, what } => {
                self.text(path);
                self.text(what);
            }
            What::Broken { promise, text } => {
                self.text(promise);
                self.text(text);
            }
            What::Note(text) => self.text(text),
            _ => {}
        }
    }
}

/// A number for each kind of event.
fn code(what: &What) -> u32 {
    match what {
        What::Frame(passage) => passage.kind as u32,
        What::Lost(passage) => 0x20 + passage.kind as u32,
        What::Waiting(passage) => 0x40 + passage.kind as u32,
        What::Start { .. } => 0x60,
        What::Crash => 0x61,
        What::Dial => 0x62,
        What::Linked => 0x63,
        What::DialFailed(_) => 0x64,
        What::Accept => 0x65,
        What::Closed(_) => 0x66,
        What::Cut => 0x67,
        What::Partition => 0x68,
        What::Heal => 0x69,
        What::HealAll => 0x6a,
        What::Stall { .. } => 0x6b,
        What::Slow { .. } => 0x6c,
        What::Refuse(_) => 0x6d,
        What::Ignore(_) => 0x6e,
        What::Connected { .. } => 0x70,
        What::Admitted => 0x71,
        What::Resumed { .. } => 0x72,
        What::Reset(_) => 0x73,
        What::Ended(_) => 0x74,
        What::NameConflict => 0x75,
        What::Undeliverable { .. } => 0x76,
        What::LocalStall { .. } => 0x77,
        What::Call(Call::Message { .. }) => 0x78,
        What::Call(Call::Event { .. }) => 0x79,
        What::Call(Call::Admission { .. }) => 0x7a,
        What::Actor { .. } => 0x7b,
        What::Broken { .. } => 0x7c,
        What::Note(_) => 0x7d,
    }
}
