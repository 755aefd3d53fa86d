//! Queue pairs: what is posted, what arrives, what completes, and what a fault does.
//!
//! ```text
//!   send queue: posted ── travels ── arrives at the peer ── acknowledged ─► completes, in order
//!                                      ├─ no receive: tried again, then an error; on iWARP at once
//!                                      ├─ nobody there: tried again, then an error
//!                                      └─ READ of what is not exported: an error
//!   any error: the pair is in error, and all that is posted is flushed
//! ```

use std::collections::VecDeque;
use std::net::IpAddr;

use super::Violation;
use super::world::{Event, World};
use crate::rdma::memory::{Buf, Piece};
use crate::rdma::verbs::{
    AsyncEvent, Completion, Fabric, Granted, Operation, Posted, QpTag, Remote, WorkFault, WorkId,
};

/// Ticks between two tries.
const RETRY_TICKS: u64 = 20;
/// Ticks after which a sender gives a silent peer up.
const GIVE_UP_TICKS: u64 = 4_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PairState {
    /// Made; receives may be posted.
    Init,
    /// Connected.
    Up,
    /// Everything is flushed.
    Error,
    /// Its device is gone: nothing completes.
    Lost,
}

/// Its completion queues.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cqs {
    pub(super) sent: u64,
    pub(super) received: u64,
}

#[derive(Debug)]
pub(super) struct Pair {
    pub(super) host: usize,
    /// Whose protection domain it is in.
    pub(super) device: u64,
    pub(super) tag: QpTag,
    pub(super) cqs: Cqs,
    pub(super) granted: Granted,
    pub(super) state: PairState,
    /// The pair it is connected to.
    pub(super) peer: Option<u32>,
    /// The host of that.
    pub(super) there: usize,
    /// Whether this end may speak before it has heard.
    pub(super) dialled: bool,
    /// SENDs that have arrived here.
    pub(super) heard: u64,
    /// How its connection ended is recorded.
    pub(super) over: bool,
    /// READs that may be outstanding.
    pub(super) reads_max: u8,
    pub(super) rnr_tries: u8,
    pub(super) receives: VecDeque<(WorkId, Buf)>,
    pub(super) sends: VecDeque<Work>,
    /// What no completion of its own will tell of: unsignalled SENDs that were acknowledged, except on
    /// iWARP, whose binding asks for the completion and keeps it to itself; what is posted on a send
    /// queue of iWARP after an error.
    pub(super) silent: Vec<Buf>,
    last_arrival: u64,
    /// Since when the first in the queue does not get through.
    stuck_since: Option<u64>,
}

/// Posted on a send queue.
#[derive(Debug)]
pub(super) struct Work {
    serial: u64,
    work: WorkId,
    operation: Operation,
    signalled: bool,
    arrives: u64,
    state: WorkState,
    head: Option<Buf>,
    head_len: usize,
    pieces: Vec<Piece>,
    remote: Remote,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WorkState {
    Travelling,
    Arrived,
    Acknowledged,
}

/// What is to be posted.
pub(super) struct Posting {
    pub(super) work: WorkId,
    pub(super) operation: Operation,
    pub(super) signalled: bool,
    pub(super) head: Buf,
    pub(super) head_len: usize,
    pub(super) pieces: Vec<Piece>,
    pub(super) remote: Remote,
}

impl Pair {
    pub(super) fn new(host: usize, device: u64, tag: QpTag, cqs: Cqs, granted: Granted) -> Self {
        Self {
            host,
            device,
            tag,
            cqs,
            granted,
            state: PairState::Init,
            peer: None,
            there: host,
            dialled: false,
            heard: 0,
            over: false,
            reads_max: 0,
            rnr_tries: 0,
            receives: VecDeque::new(),
            sends: VecDeque::new(),
            silent: Vec::new(),
            last_arrival: 0,
            stuck_since: None,
        }
    }

    /// Whether something is posted in such a buffer.
    pub(super) fn has_posted(&self, such: impl Fn(&Buf) -> bool) -> bool {
        let mut heads = self.sends.iter().filter_map(|work| work.head.as_ref());
        heads.any(&such)
            || self.silent.iter().any(&such)
            || self.receives.iter().any(|(_, buf)| such(buf))
    }

    /// Places of the send queue that are taken.
    pub(super) fn places(&self) -> u32 {
        (self.sends.len() + self.silent.len()) as u32
    }

    pub(super) fn posted(&self) -> Posted {
        Posted { receives: self.receives.len() as u32, sends: self.places() }
    }
}

impl World {
    /// Posts on a send queue that has room.
    pub(super) fn post(&mut self, number: u32, posting: Posting) {
        let now = self.now();
        let serial = self.serial();
        let travel = self.travel();
        let Some(pair) = self.pairs.get_mut(&number) else {
            return;
        };
        if pair.state == PairState::Error {
            let (tag, cqs) = (pair.tag, pair.cqs);
            let Posting { work, operation, head, pieces, .. } = posting;
            self.homeward.push(Box::new(pieces));
            if self.hosts[pair.host].personality.fabric == Fabric::IWarp {
                // Soft iWARP says nothing of it before the pair is destroyed.
                return pair.silent.push(head);
            }
            return self.complete(cqs, number, tag, work, operation, Err(WorkFault::Flushed), head);
        }
        pair.last_arrival = pair.last_arrival.max(now + travel);
        let arrives = pair.last_arrival;
        let Posting { work, operation, signalled, head, head_len, pieces, remote } = posting;
        pair.sends.push_back(Work {
            serial,
            work,
            operation,
            signalled,
            arrives,
            state: WorkState::Travelling,
            head: Some(head),
            head_len,
            pieces,
            remote,
        });
        let reads = pair.sends.iter().filter(|work| work.operation == Operation::Read).count();
        let first = !pair.dialled && pair.heard == 0;
        let too_many = reads > usize::from(pair.reads_max);
        if first && pair.state == PairState::Up {
            self.violation(Violation::SpokeFirst);
        }
        if operation == Operation::Read && too_many {
            self.violation(Violation::TooManyReads);
        }
        self.at(arrives, Event::Deliver { pair: number });
    }

    /// Posts on a receive queue that has room.
    pub(super) fn post_receive(&mut self, number: u32, work: WorkId, buf: Buf) {
        let Some(pair) = self.pairs.get_mut(&number) else {
            return;
        };
        if pair.state == PairState::Error {
            let (tag, cqs) = (pair.tag, pair.cqs);
            let flushed = Err(WorkFault::Flushed);
            return self.complete(cqs, number, tag, work, Operation::Receive, flushed, buf);
        }
        pair.receives.push_back((work, buf));
    }

    /// Brings what is due to the peer.
    pub(super) fn deliver(&mut self, number: u32) {
        let now = self.now();
        loop {
            let Some(pair) = self.pairs.get(&number) else {
                return;
            };
            if pair.state != PairState::Up {
                return;
            }
            let (host, stuck_since) = (pair.host, pair.stuck_since);
            let travelling = |work: &&Work| work.state == WorkState::Travelling;
            let Some(work) = pair.sends.iter().find(travelling) else {
                return;
            };
            if work.arrives > now {
                // An event of its own comes for it.
                return;
            }
            let (serial, operation) = (work.serial, work.operation);
            let peer = pair.peer.and_then(|peer| Some((peer, self.pairs.get(&peer)?)));
            let reachable = peer.is_some_and(|(_, peer)| {
                peer.state == PairState::Up && !self.is_blocked(host, peer.host)
            });
            let there = peer.as_ref().map(|(_, peer)| peer.host);
            if let Some(until) = there.and_then(|there| self.stalled_until(host, there)) {
                return self.at(until, Event::Deliver { pair: number });
            }
            let peer = peer.map(|(number, _)| number);
            if reachable && let Some(fault) = self.next_failure(host) {
                return self.fail(number, serial, fault);
            }
            let outcome = match peer {
                Some(peer) if reachable && operation == Operation::Read => {
                    self.read(number, serial, peer)
                }
                Some(peer) if reachable => self.receive(number, serial, peer),
                _ => Arrival::Later(WorkFault::RetryExceeded, GIVE_UP_TICKS),
            };
            match outcome {
                Arrival::Done => {
                    let travel = self.travel();
                    if let Some(pair) = self.pairs.get_mut(&number) {
                        pair.stuck_since = None;
                    }
                    self.at(now + travel, Event::Acknowledge { pair: number, serial });
                }
                Arrival::Later(fault, patience) => {
                    let since = stuck_since.unwrap_or(now);
                    if now - since >= patience {
                        return self.fail(number, serial, fault);
                    }
                    if let Some(pair) = self.pairs.get_mut(&number) {
                        pair.stuck_since = Some(since);
                    }
                    let wait = RETRY_TICKS.min(patience.max(1));
                    return self.at(now + wait, Event::Deliver { pair: number });
                }
                Arrival::Failed(fault) => return self.fail(number, serial, fault),
            }
        }
    }

    /// A SEND arrives.
    fn receive(&mut self, number: u32, serial: u64, peer: u32) -> Arrival {
        let Some(sender) = self.pairs.get_mut(&number) else {
            return Arrival::Failed(WorkFault::Flushed);
        };
        let tries = u64::from(sender.rnr_tries);
        let Some(work) = sender.sends.iter_mut().find(|work| work.serial == serial) else {
            return Arrival::Failed(WorkFault::Flushed);
        };
        let mut bytes = Vec::with_capacity(work.head_len);
        if let Some(head) = &work.head {
            bytes.extend_from_slice(&head[..work.head_len.min(head.len())]);
        }
        work.pieces.iter().for_each(|piece| bytes.extend_from_slice(&piece.bytes));
        let Some(receiver) = self.pairs.get_mut(&peer) else {
            return Arrival::Later(WorkFault::RetryExceeded, GIVE_UP_TICKS);
        };
        let there = receiver.host;
        let fabric = self.hosts[there].personality.fabric;
        let ready = self.is_ready(there);
        let receive = self.pairs.get_mut(&peer).filter(|_| ready);
        let Some((work, mut buf)) = receive.and_then(|pair| pair.receives.pop_front()) else {
            if ready {
                self.violation(Violation::NoReceive);
            }
            if fabric == Fabric::IWarp {
                self.break_pair(peer);
                return Arrival::Failed(WorkFault::RemoteOperation);
            }
            return Arrival::Later(WorkFault::ReceiverNotReady, tries);
        };
        let Some(receiver) = self.pairs.get_mut(&peer) else {
            return Arrival::Later(WorkFault::RetryExceeded, GIVE_UP_TICKS);
        };
        let (tag, cqs) = (receiver.tag, receiver.cqs);
        receiver.heard += 1;
        if bytes.len() > buf.len() {
            let result = Err(WorkFault::LocalLength);
            self.complete(cqs, peer, tag, work, Operation::Receive, result, buf);
            self.flush_pair(peer);
            return Arrival::Failed(WorkFault::RemoteInvalid);
        }
        buf[..bytes.len()].copy_from_slice(&bytes);
        let now = self.now();
        let crc = stellate_protocol::codec::checksum(&bytes);
        self.record(&[now, u64::from(number), bytes.len() as u64, u64::from(crc)]);
        let result = Ok(bytes.len() as u32);
        self.complete(cqs, peer, tag, work, Operation::Receive, result, buf);
        self.arrived(number, serial);
        if let Some(here) = self.pairs.get(&number).map(|sender| sender.host) {
            self.count_arrival(here, there, bytes.len() as u64);
        }
        Arrival::Done
    }

    /// A READ arrives.
    fn read(&mut self, number: u32, serial: u64, peer: u32) -> Arrival {
        let Some(host) = self.pairs.get(&peer).map(|peer| peer.host) else {
            return Arrival::Later(WorkFault::RetryExceeded, GIVE_UP_TICKS);
        };
        let Some(pair) = self.pairs.get_mut(&number) else {
            return Arrival::Failed(WorkFault::Flushed);
        };
        let Some(work) = pair.sends.iter_mut().find(|work| work.serial == serial) else {
            return Arrival::Failed(WorkFault::Flushed);
        };
        let (remote, sink) = (work.remote, work.head.as_mut());
        let Some(sink) = sink else {
            return Arrival::Failed(WorkFault::LocalProtection);
        };
        let exported = self.exports.range(..=(host, remote.addr)).next_back();
        let bytes =
            exported.filter(|((at, _), _)| *at == host).and_then(|((_, at), (_, bytes))| {
                let begin = (remote.addr - at) as usize;
                bytes.get(begin..begin.checked_add(sink.len())?)
            });
        let Some(bytes) = bytes.filter(|_| remote.rkey == rkey(host)) else {
            self.violation(Violation::NotExported);
            self.break_pair(peer);
            return Arrival::Failed(WorkFault::RemoteAccess);
        };
        sink.copy_from_slice(bytes);
        let words = [u64::from(number), bytes.len() as u64, 2];
        let now = self.now();
        self.record(&[now, words[0], words[1], words[2]]);
        self.arrived(number, serial);
        Arrival::Done
    }

    fn arrived(&mut self, number: u32, serial: u64) {
        if let Some(pair) = self.pairs.get_mut(&number)
            && let Some(work) = pair.sends.iter_mut().find(|work| work.serial == serial)
        {
            work.state = WorkState::Arrived;
        }
    }

    /// The peer's NIC has it: completes in order.
    pub(super) fn acknowledge(&mut self, number: u32, serial: u64) {
        let Some(pair) = self.pairs.get_mut(&number) else {
            return;
        };
        if let Some(work) = pair.sends.iter_mut().find(|work| work.serial == serial) {
            work.state = WorkState::Acknowledged;
        }
        while let Some(pair) = self.pairs.get_mut(&number)
            && pair.state == PairState::Up
            && pair.sends.front().is_some_and(|work| work.state == WorkState::Acknowledged)
            && let Some(work) = pair.sends.pop_front()
        {
            let (tag, cqs) = (pair.tag, pair.cqs);
            let len = work.head.as_ref().map_or(0, |head| head.len() as u32);
            self.homeward.push(Box::new(work.pieces));
            let Some(head) = work.head else { continue };
            if work.signalled {
                self.complete(cqs, number, tag, work.work, work.operation, Ok(len), head);
            } else {
                self.say_nothing(number, head);
            }
        }
    }

    /// An unsignalled SEND of a pair is over.
    fn say_nothing(&mut self, number: u32, head: Buf) {
        let Some(pair) = self.pairs.get_mut(&number) else {
            return;
        };
        match self.hosts[pair.host].personality.fabric {
            Fabric::IWarp => self.homeward.push(Box::new(head)),
            _ => pair.silent.push(head),
        }
    }

    /// Another SEND is being posted on a pair; whether that breaks it, after all before it arrived.
    pub(super) fn is_broken_by_post(&mut self, number: u32) -> bool {
        let Some(pair) = self.pairs.get(&number) else {
            return false;
        };
        let left = &mut self.hosts[pair.host].break_at_post;
        let now = *left == 1;
        *left = left.saturating_sub(1);
        if now {
            let serials: Vec<u64> = pair.sends.iter().map(|work| work.serial).collect();
            for serial in serials {
                self.acknowledge(number, serial);
            }
            self.flush_pair(number);
        }
        now
    }

    /// Work of a pair fails, and the pair with it.
    fn fail(&mut self, number: u32, serial: u64, fault: WorkFault) {
        let Some(pair) = self.pairs.get_mut(&number) else {
            return;
        };
        let at = pair.sends.iter().position(|work| work.serial == serial);
        let (tag, cqs) = (pair.tag, pair.cqs);
        // What is in front of it was acknowledged by what failed.
        if let Some(at) = at {
            let before: Vec<Work> = pair.sends.drain(..at).collect();
            let failed = pair.sends.pop_front();
            for Work { work, operation, signalled, head, pieces, .. } in before {
                let len = head.as_ref().map_or(0, |head| head.len() as u32);
                self.homeward.push(Box::new(pieces));
                match head {
                    Some(head) if signalled => {
                        self.complete(cqs, number, tag, work, operation, Ok(len), head);
                    }
                    head => self.homeward.push(Box::new(head)),
                }
            }
            if let Some(Work { work, operation, head: Some(head), pieces, .. }) = failed {
                self.homeward.push(Box::new(pieces));
                self.complete(cqs, number, tag, work, operation, Err(fault), head);
            }
        }
        self.flush_pair(number);
    }

    /// A fault of the NIC itself.
    pub(super) fn break_pair(&mut self, number: u32) {
        if let Some(pair) = self.pairs.get(&number) {
            let host = pair.host;
            self.tell_of_device(host, AsyncEvent::QpFatal(number));
        }
        self.flush_pair(number);
    }

    pub(super) fn break_pairs(&mut self, ip: IpAddr) {
        let Some(host) = self.index_of(ip) else {
            return;
        };
        let of_host = self.pairs.iter().filter(|(_, pair)| pair.host == host);
        let numbers: Vec<u32> = of_host.map(|(number, _)| *number).collect();
        for number in numbers {
            self.break_pair(number);
        }
    }

    /// Flushes everything that is posted.
    pub(super) fn flush_pair(&mut self, number: u32) {
        let Some(pair) = self.pairs.get_mut(&number) else {
            return;
        };
        if matches!(pair.state, PairState::Error | PairState::Lost) {
            return;
        }
        self.over(number, false);
        let Some(pair) = self.pairs.get_mut(&number) else {
            return;
        };
        pair.state = PairState::Error;
        let (tag, cqs) = (pair.tag, pair.cqs);
        let sends = std::mem::take(&mut pair.sends);
        let receives = std::mem::take(&mut pair.receives);
        let flushed = Err(WorkFault::Flushed);
        for Work { work, operation, head, state, signalled, pieces, .. } in sends {
            self.homeward.push(Box::new(pieces));
            let Some(head) = head else { continue };
            // A SEND that was acknowledged, unsignalled, is over without a word.
            match state {
                WorkState::Acknowledged if !signalled => self.say_nothing(number, head),
                _ => self.complete(cqs, number, tag, work, operation, flushed, head),
            }
        }
        for (work, buf) in receives {
            self.complete(cqs, number, tag, work, Operation::Receive, flushed, buf);
        }
    }

    #[allow(clippy::too_many_arguments)] // The fields of a completion.
    fn complete(
        &mut self,
        cqs: Cqs,
        number: u32,
        tag: QpTag,
        work: WorkId,
        operation: Operation,
        result: Result<u32, WorkFault>,
        buf: Buf,
    ) {
        let buf = match operation {
            Operation::Receive | Operation::Read => Some(buf),
            Operation::Send => {
                self.homeward.push(Box::new(buf));
                None
            }
        };
        let cq = match operation {
            Operation::Receive => cqs.received,
            Operation::Send | Operation::Read => cqs.sent,
        };
        if operation != Operation::Receive
            && let Some(pair) = self.pairs.get_mut(&number)
        {
            self.homeward.push(Box::new(std::mem::take(&mut pair.silent)));
        }
        self.push_completion(cq, number, Completion { tag, work, operation, result, buf });
    }

    /// Destroys a pair; how much was posted on it.
    pub(super) fn destroy_pair(&mut self, number: u32) -> usize {
        self.over(number, true);
        let Some(pair) = self.pairs.remove(&number) else {
            return 0;
        };
        let posted = pair.sends.len() + pair.receives.len() + pair.silent.len();
        self.homeward.push(Box::new((pair.sends, pair.receives, pair.silent)));
        self.forget_completions(pair.cqs.sent, number);
        self.forget_completions(pair.cqs.received, number);
        for id in self.ids.values_mut() {
            if id.pair == Some(number) {
                id.pair = None;
            }
        }
        posted
    }
}

/// The key of a host's memory.
pub(super) fn rkey(host: usize) -> u32 {
    0xab00 + host as u32
}

/// What becomes of work that arrives.
enum Arrival {
    Done,
    /// Tried again for so many ticks, then this.
    Later(WorkFault, u64),
    Failed(WorkFault),
}
