//! Links: two queues of frames, drained by hand.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, BytesMut};
use stellate_protocol::codec::{Decoder, First, Outbound, WireLimits, encode};
use stellate_protocol::directory::SessionKey;
use stellate_protocol::error::Blame;
use stellate_protocol::event::{Input, LinkFacts};
use stellate_protocol::frame::{Frame, FrameKind};
use stellate_protocol::*;

use super::{Conn, Reach, World};

/// What is on its way.
#[derive(Clone, Debug)]
pub enum Item {
    Frame(Frame<Parcel>),
    /// The other end closed.
    Fin,
}

/// One end of a link.
#[derive(Debug)]
pub struct End {
    pub node: usize,
    pub owner: Option<SessionKey>,
    pub closed: bool,
    /// What comes to this end.
    pub inbox: VecDeque<Item>,
    /// Nothing arrives here for now.
    pub stalled: bool,
    /// Frames sent to this end and not granted again (F6).
    pub spent: u32,
    pub slots: Option<u32>,
    /// What turns bytes that come to this end into frames, in worlds with a codec.
    pub decoder: Decoder,
}

#[derive(Debug)]
pub struct Wire {
    pub ends: [End; 2],
}

impl Wire {
    pub(super) fn end_of(&self, node: usize) -> usize {
        usize::from(self.ends[0].node != node)
    }
}

/// Frames for which a transport keeps receives apart.
fn takes_slot(kind: FrameKind) -> bool {
    !matches!(
        kind,
        FrameKind::Hello
            | FrameKind::HelloAnswer
            | FrameKind::Resume
            | FrameKind::ResumeAnswer
            | FrameKind::Lost
            | FrameKind::Close
    )
}

/// What of a frame has to fit a slot.
fn frame_len(frame: &Frame<Parcel>) -> u32 {
    match frame {
        Frame::Message(message) => message.payload.front_len() + message.payload.data_len(),
        Frame::Announce(message) => message.payload.front_len(),
        Frame::Chunk(chunk) => chunk.len,
        _ => 0,
    }
}

/// As bytes and back.
fn through_codec(decoder: &mut Decoder, frame: Frame<Parcel>) -> Frame<Parcel> {
    let mut bytes = Outbound::new();
    encode(&frame, &mut bytes).expect("a session writes no frame that has no bytes");
    let mut bytes = bytes.copy_to_bytes(bytes.remaining());
    let mut input = BytesMut::new();
    let mut decoded = None;
    loop {
        if let Some(frame) = decoder.decode(&mut input).expect("what we write we can read") {
            assert!(decoded.replace(frame).is_none(), "one frame, not two");
            continue;
        }
        if bytes.is_empty() {
            return decoded.expect("a whole frame");
        }
        match decoder.direct() {
            Some(mut direct) => {
                let len = direct.remaining_mut().min(bytes.len());
                direct.put_slice(&bytes.split_to(len));
            }
            None => input.extend_from_slice(&bytes.split_to(bytes.len().min(4096))),
        }
    }
}

impl World {
    pub(super) fn facts(&self, node: usize) -> LinkFacts {
        let node = &self.nodes[node];
        LinkFacts { slots: node.slots, slot_bytes: node.limits.slot_bytes, whole: node.whole }
    }

    /// The oldest dial gets its result.
    pub(super) fn dial_next(&mut self) {
        let Some(conn) = self.dials.pop_front() else {
            return;
        };
        let to = self.side(conn).target;
        let reach = self.reach.get(&(conn.0, to)).copied().unwrap_or(Reach::Open);
        let reach = if self.nodes[to].down { Reach::Refused } else { reach };
        match reach {
            Reach::Refused => {
                self.side_mut(conn).dialling = false;
                let jitter = self.jitter;
                self.feed(conn, Input::DialFailed { jitter });
            }
            Reach::BlackHole => {}
            Reach::Open | Reach::Deaf => {
                self.side_mut(conn).dialling = false;
                let link = self.wire(conn, to, reach == Reach::Deaf);
                let node = &mut self.nodes[conn.0];
                node.attempt = node.attempt.next();
                let attempt = node.attempt;
                let facts = self.facts(conn.0);
                self.feed(conn, Input::Dialled { link, attempt, facts });
            }
        }
    }

    fn wire(&mut self, conn: Conn, to: usize, deaf: bool) -> LinkId {
        self.next_link += 1;
        let end = |node, owner, stalled, slots, first| End {
            decoder: Decoder::new(WireLimits::default(), first),
            node,
            owner,
            closed: false,
            inbox: VecDeque::new(),
            stalled,
            spent: 0,
            slots,
        };
        let blocked = self.reach.get(&(to, conn.0)) == Some(&Reach::Deaf);
        let ends = [
            end(conn.0, Some(conn.1), blocked, self.nodes[conn.0].slots, First::Answer),
            end(to, None, deaf, self.nodes[to].slots, First::Hello),
        ];
        self.wires.insert(LinkId(self.next_link), Wire { ends });
        LinkId(self.next_link)
    }

    /// Puts a frame on a link.
    pub(super) fn transmit(&mut self, node: usize, link: LinkId, frame: Frame<Parcel>) {
        if self.nodes[node].whole {
            let (slot, len) = (self.nodes[node].limits.slot_bytes, frame_len(&frame));
            assert!(len <= slot, "F6: {:?} of {len} bytes, a slot has {slot}", frame.kind());
        }
        let Some(wire) = self.wires.get_mut(&link) else {
            return;
        };
        let mine = wire.end_of(node);
        if wire.ends[mine].closed {
            return;
        }
        if let Frame::Grant(grant) = &frame {
            let spent = &mut wire.ends[mine].spent;
            assert!(grant.slots <= *spent, "F6: granted {} of {spent} spent", grant.slots);
            *spent -= grant.slots;
        }
        let theirs = &mut wire.ends[1 - mine];
        if let (Some(slots), true) = (theirs.slots, takes_slot(frame.kind())) {
            theirs.spent += 1;
            assert!(theirs.spent <= slots, "F6: {:?} found no slot", frame.kind());
        }
        if !theirs.closed {
            theirs.inbox.push_back(Item::Frame(frame));
        }
    }

    /// Frames of a session that its peer has not taken from the link.
    pub(super) fn backlog(&self, node: usize, link: LinkId) -> usize {
        self.wires.get(&link).map_or(0, |wire| {
            let theirs = 1 - wire.end_of(node);
            wire.ends[theirs].inbox.len()
        })
    }

    /// A node closes its end of a link.
    pub(super) fn hang_up(&mut self, node: usize, link: LinkId, drain: bool) {
        let Some(wire) = self.wires.get_mut(&link) else {
            return;
        };
        let mine = wire.end_of(node);
        if std::mem::replace(&mut wire.ends[mine].closed, true) {
            return;
        }
        wire.ends[mine].inbox.clear();
        let theirs = &mut wire.ends[1 - mine];
        if theirs.closed {
            self.wires.remove(&link);
            return;
        }
        if !drain {
            theirs.inbox.clear();
        }
        theirs.inbox.push_back(Item::Fin);
    }

    pub(super) fn ready_wires(&self) -> impl Iterator<Item = (LinkId, usize)> + '_ {
        self.wires.iter().flat_map(|(link, wire)| {
            let ready = |end: &super::wire::End| {
                !end.closed && !end.stalled && !end.inbox.is_empty() && !self.nodes[end.node].down
            };
            (0..2).filter(move |end| ready(&wire.ends[*end])).map(|end| (*link, end))
        })
    }

    /// The next thing on a link reaches its end.
    pub(super) fn deliver(&mut self, link: LinkId, to: usize) {
        let Some(wire) = self.wires.get_mut(&link) else {
            return;
        };
        let end = &mut wire.ends[to];
        let (node, owner) = (end.node, end.owner);
        match end.inbox.pop_front() {
            None => {}
            Some(Item::Fin) => {
                self.wires.remove(&link);
                self.lost(node, owner, link, Blame::Transport);
            }
            Some(Item::Frame(frame)) => {
                self.frames += 1;
                if self.cut_before == Some(self.frames) {
                    return self.cut(link, Blame::Transport);
                }
                if self.corrupt == Some((node, frame.kind())) {
                    return self.spoil(link, to);
                }
                self.trace.push((node, frame.kind()));
                let frame = if self.codec { through_codec(&mut end.decoder, frame) } else { frame };
                match (owner, frame) {
                    (Some(key), frame) => self.feed((node, key), Input::Frame { link, frame }),
                    (None, Frame::Hello(hello)) => self.route(node, link, hello, 0),
                    (None, _) => self.hang_up(node, link, false),
                }
                self.refill(link, 1 - to);
            }
        }
    }

    /// The link has room again for the frames of that end.
    fn refill(&mut self, link: LinkId, end: usize) {
        let Some(wire) = self.wires.get(&link) else {
            return;
        };
        let end = &wire.ends[end];
        if let (Some(key), false) = (end.owner, end.closed) {
            self.follow((end.node, key));
            self.work();
        }
    }

    fn lost(&mut self, node: usize, owner: Option<SessionKey>, link: LinkId, blame: Blame) {
        let jitter = self.jitter;
        if let Some(key) = owner
            && !self.nodes[node].down
        {
            self.feed((node, key), Input::LinkLost { link, blame, jitter });
        }
    }

    /// A link breaks; what is on its way is lost.
    pub fn cut(&mut self, link: LinkId, blame: Blame) {
        let Some(wire) = self.wires.remove(&link) else {
            return;
        };
        for end in wire.ends {
            if !end.closed {
                self.lost(end.node, end.owner, link, blame);
            }
        }
    }

    /// The end that got a bad frame closes the link.
    fn spoil(&mut self, link: LinkId, at: usize) {
        let Some(wire) = self.wires.remove(&link) else {
            return;
        };
        for (end, blame) in [(at, Blame::PeerMisbehaved), (1 - at, Blame::Transport)] {
            let end = &wire.ends[end];
            if !end.closed {
                self.lost(end.node, end.owner, link, blame);
            }
        }
    }

    /// All links break.
    pub fn cut_all(&mut self) {
        let links: Vec<LinkId> = self.wires.keys().copied().collect();
        links.into_iter().for_each(|link| self.cut(link, Blame::Transport));
    }

    /// Nothing arrives at `node` on the links of today, or it does again.
    pub fn stall(&mut self, node: usize, stalled: bool) {
        let ends = self.wires.values_mut().flat_map(|wire| &mut wire.ends);
        ends.filter(|end| end.node == node).for_each(|end| end.stalled = stalled);
    }

    /// Delivers the next `count` things that come to `node`, whatever the link.
    pub fn deliver_to(&mut self, node: usize, count: usize) {
        for _ in 0..count {
            let next =
                self.ready_wires().find(|(link, end)| self.wires[link].ends[*end].node == node);
            let Some((link, end)) = next else { return };
            self.deliver(link, end);
        }
    }

    /// Only dials happen.
    pub fn run_dials(&mut self) {
        while !self.dials.is_empty() {
            self.dial_next();
        }
    }

    pub fn set_reach(&mut self, from: usize, to: usize, reach: Reach) {
        self.reach.insert((from, to), reach);
    }

    /// The node's process dies and a new one starts. `quiet`: its links stay up and silent.
    pub fn restart(&mut self, node: usize, quiet: bool) {
        let links: Vec<LinkId> = self.wires.keys().copied().collect();
        for link in links {
            let Some(wire) = self.wires.get_mut(&link) else {
                continue;
            };
            let Some(mine) = (0..2).find(|end| wire.ends[*end].node == node) else {
                continue;
            };
            if quiet {
                wire.ends[mine].stalled = true;
                wire.ends[mine].owner = None;
            } else {
                self.hang_up(node, link, true);
            }
        }
        self.dials.retain(|conn| conn.0 != node);
        self.todo.retain(|(conn, _)| conn.0 != node);
        let node = &mut self.nodes[node];
        node.sides.values_mut().for_each(|side| side.dead = true);
        node.directory = Default::default();
        node.attempt = Attempt(0);
        node.me.instance = Instance(node.me.instance.0 + 0x1_0000);
    }
}
