//! Does what the protocol wants done: dials, links, deliveries, answers to calls.

use stellate_protocol::event::{Decision, Output};
use stellate_protocol::frame::Hello;
use stellate_protocol::{Frame, LinkId, Parcel, Time};
use stellate_transport::{CloseHow, LinkFault};

use super::{Driver, Held};
use crate::endpoint::Greeted;
use crate::inbox::{AdmissionAsk, Arrived, Notice};
use crate::link::{LinkActor, Role};
use crate::reconnect::{CancelFor, DialFor};
use crate::shared::lock;

impl Driver {
    pub(super) fn carry_out(&mut self, now: Time, output: Output<Parcel>) {
        match output {
            Output::Deliver(delivery) => {
                self.lanes.insert(delivery.message.lane);
                self.received.push(Arrived::new(self.shared.clone(), delivery, now.0));
            }
            Output::Room { messages, bytes } => self.shared.free(messages, bytes, 0),
            Output::Received { lane, position, messages } => {
                self.shared.note_received(lane.class(), position, messages);
            }
            Output::Returned { lane, position, why } => {
                self.shared.note_returned(lane.class(), position, why);
            }
            Output::Outcome { id, result } => {
                self.shared.resolve_call(id, result);
            }
            Output::Expect { lane, seq, data_len } => {
                if let Some(line) = &self.in_use {
                    line.expect(lane, seq, data_len);
                }
            }
            Output::Dial => self.dial(),
            Output::CancelDial => {
                if let Some(reconnect) = &self.reconnect {
                    reconnect.do_send(CancelFor(self.shared.key));
                }
            }
            Output::Send { link, frame } => self.send_on(link, frame),
            Output::Adopt(link) => self.adopt(now, link),
            Output::CloseLink { link, drain } => {
                self.close_link(link, if drain { CloseHow::Drain } else { CloseHow::Abort });
            }
            Output::Farewell { link, mut close } => {
                close.delivered = self.shared.seal();
                self.send_on(link, Frame::Close(close));
                self.close_link(link, CloseHow::Drain);
            }
            Output::AskAdmission { question, peer, metadata, resumed } => {
                let session = self.shared.clone();
                let ask = Box::new(AdmissionAsk { session, question, peer, metadata, resumed });
                match self.node.router().routes().admission() {
                    Some(inbox) => inbox.push_notice(Notice::Admission(ask)),
                    None => ask.answer(Decision::Refuse("the admission actor is gone".into())),
                }
            }
            Output::Terms(terms) => self.shared.set_terms(terms),
            Output::Bound { peer, id, latest } => {
                self.shared.set_tag(id.into());
                let mut registry = lock(&self.node.inner().registry);
                registry.directory.bound(self.shared.key, &peer, id, latest);
            }
            Output::Bounce { link, hello } => self.bounce(link, hello),
            Output::Event(event) => self.tell(event),
        }
    }

    pub(super) fn dial(&mut self) {
        let addresses = lock(&self.shared.addresses).clone();
        // Nobody reads of sessions that begin: this one has to wait, as if nobody were there.
        let new = self.core.as_ref().is_none_or(|core| core.peer().is_none());
        let address = match addresses.len() {
            0 => None,
            _ if new && self.node.events_are_full() => None,
            len => addresses.get(self.address % len).cloned(),
        };
        self.address = self.address.wrapping_add(1);
        self.dials += 1;
        if let Some(reconnect) = &self.reconnect {
            let (key, turn, session) = (self.shared.key, self.dials, self.own.clone());
            reconnect.do_send(DialFor { key, turn, session, address });
        }
    }

    pub(super) fn send_on(&mut self, id: LinkId, frame: Frame<Parcel>) {
        match self.links.get_mut(&id) {
            Some(Held::Stray(link)) => {
                let submitted = link.submit(frame);
                if let Err(full) = submitted {
                    tracing::debug!(link = id.0, closed = full.closed, "an answer is not sent");
                }
            }
            Some(Held::Actor(link)) => link.line.say(frame),
            None => {}
        }
    }

    pub(super) fn adopt(&mut self, now: Time, id: LinkId) {
        let link = match self.links.remove(&id) {
            Some(Held::Stray(link)) => {
                match LinkActor::start(&self.node, id, link, Role::Bound(self.own.clone())) {
                    Ok(link) => link,
                    Err(_) => return self.lose(now, id, NO_RUNTIME),
                }
            }
            Some(Held::Actor(link)) => link,
            None => return,
        };
        self.in_bytes = link.line.takes_bytes();
        self.address = 0;
        self.in_use = Some(link.line.clone());
        self.links.insert(id, Held::Actor(link));
    }

    pub(super) fn close_link(&mut self, id: LinkId, how: CloseHow) {
        match self.links.remove(&id) {
            Some(Held::Stray(mut link)) => {
                link.close(how);
                // A link that finds no place is dropped, which closes it.
                let _ = LinkActor::start(&self.node, id, link, Role::Draining);
            }
            Some(Held::Actor(link)) => link.hang(how),
            None => {}
        }
    }

    pub(super) fn bounce(&mut self, id: LinkId, hello: Box<Hello>) {
        let endpoint = lock(&self.node.inner().endpoint).clone();
        if let (Some(Held::Stray(link)), Some(endpoint)) = (self.links.remove(&id), endpoint) {
            endpoint.do_send(Greeted { id, link, hello });
        }
    }
}

const NO_RUNTIME: LinkFault = LinkFault::NoRuntime;
