//! One turn over the devices: what completed goes to its links, what devices tell is done.

use std::sync::Arc;
use std::task::Context;

use super::nic::Queue;
use super::pairs::Phase;
use super::{Core, Endpoint, TURN};
use crate::fault::LinkFault;
use crate::rdma::verbs::{AsyncEvent, Completion, Operation, QpTag, WorkFault};

impl Core {
    /// Async events and completions of all devices; whether there were any.
    pub(super) fn turn(&mut self, endpoint: &Arc<Endpoint>, cx: &mut Context<'_>) -> bool {
        let mut completions = std::mem::take(&mut self.scratch);
        let mut received = std::mem::take(&mut self.received);
        let mut lost = Vec::new();
        for (name, nic) in &mut self.nics {
            let mut alive = true;
            for queue in &mut nic.queues {
                alive &= queue.collect(TURN, &mut received, &mut completions).is_ok();
            }
            if !alive {
                lost.push(name.clone());
            }
        }
        // What was sent comes first: why it failed is told before the flush of the receives.
        completions.append(&mut received);
        let mut worked = !completions.is_empty();
        if worked {
            self.route(endpoint, &mut completions);
        }
        (self.scratch, self.received) = (completions, received);
        let mut told = Vec::new();
        for (name, nic) in &self.nics {
            if nic.device.poll_async_readable(cx).is_ready() {
                told.push((name.clone(), nic.device.clone()));
            }
        }
        for (name, device) in told {
            for _ in 0..TURN {
                let alive = match device.next_async() {
                    Ok(None) => break,
                    Ok(Some(event)) => self.on_async(endpoint, &name, event),
                    Err(_) => false,
                };
                worked = true;
                if !alive {
                    lost.push(name);
                    break;
                }
            }
        }
        for name in lost {
            worked = true;
            self.lose_device(endpoint, &name);
        }
        worked
    }

    /// Sorts completions by link: one delivery and one wake-up for each.
    fn route(&mut self, endpoint: &Arc<Endpoint>, completions: &mut Vec<Completion>) {
        completions.sort_by_key(|completion| completion.tag);
        let mut rest = completions.drain(..).peekable();
        // Those of which more is to be done than to deliver.
        let mut touched = Vec::new();
        while let Some(first) = rest.next() {
            let tag = first.tag;
            let batch = std::iter::once(first)
                .chain(std::iter::from_fn(|| rest.next_if(|next| next.tag == tag)));
            let Some(pair) = self.pairs.get(&tag.0) else {
                batch.for_each(drop);
                continue;
            };
            match pair.phase {
                // What is flushed comes home by being dropped.
                Phase::Dying { .. } => {
                    batch.for_each(drop);
                    touched.push(tag);
                }
                Phase::Up | Phase::Accepting { .. } | Phase::Dialling(_) => {
                    let mut heard = false;
                    let waker = pair.inbox.put(|mail| {
                        mail.completions.extend(batch.inspect(|completion| {
                            heard |= completion.operation == Operation::Receive
                                && completion.result.is_ok();
                        }));
                    });
                    self.wakes.extend(waker);
                    if heard && matches!(pair.phase, Phase::Accepting { .. }) {
                        touched.push(tag);
                    }
                }
            }
        }
        drop(rest);
        for tag in touched {
            match self.pairs.get(&tag.0).map(|pair| (&pair.phase, pair.id)) {
                // Its first message came before the event that says it is up.
                Some((Phase::Accepting { .. }, id)) => {
                    endpoint.channel.communication_established(id);
                    self.promote(endpoint, tag);
                }
                Some((Phase::Dying { .. }, _)) => self.check_home(endpoint, tag),
                _ => {}
            }
        }
    }

    /// Whether a completion queue is ours: others have the device open, too.
    fn has_queue(&self, nic: &str, number: u64) -> bool {
        let mut queues = self.nics.get(nic).into_iter().flat_map(|nic| &nic.queues);
        queues.any(|Queue { cqs, .. }| [cqs.sent.number(), cqs.received.number()].contains(&number))
    }

    /// A device tells something by itself; false if it is lost.
    fn on_async(&mut self, endpoint: &Arc<Endpoint>, nic: &str, event: AsyncEvent) -> bool {
        let find = |core: &Self, number: u32| {
            let mut pairs = core.pairs.iter();
            pairs
                .find(|(_, pair)| pair.nic == nic && pair.pair.number() == number)
                .map(|(tag, _)| QpTag(*tag))
        };
        match event {
            AsyncEvent::QpFatal(number) => {
                if let Some(tag) = find(self, number)
                    && let Some(pair) = self.pairs.get(&tag.0)
                {
                    let fault = LinkFault::Work(WorkFault::LocalProtection);
                    pair.inbox.open().hint.get_or_insert(fault);
                    pair.pair.to_error();
                }
                true
            }
            AsyncEvent::CommunicationEstablished(number) => {
                if let Some(tag) = find(self, number) {
                    if let Some(pair) = self.pairs.get(&tag.0) {
                        endpoint.channel.communication_established(pair.id);
                    }
                    self.promote(endpoint, tag);
                }
                true
            }
            AsyncEvent::CqError(number) if !self.has_queue(nic, number) => true,
            AsyncEvent::CqError(_) | AsyncEvent::DeviceFatal => {
                tracing::warn!(
                    device = nic,
                    ?event,
                    "an RDMA device broke: all its links end, and its sessions dial again"
                );
                false
            }
            AsyncEvent::PortError(port) => {
                tracing::warn!(
                    device = nic,
                    port,
                    "a port of an RDMA device is down: its links wait a while for it, then end"
                );
                true
            }
            AsyncEvent::PortActive(port) => {
                tracing::info!(device = nic, port, "a port of an RDMA device is up");
                true
            }
            AsyncEvent::Other(_) => {
                tracing::debug!(device = nic, ?event, "a device event");
                true
            }
        }
    }

    /// A device is gone: its links end, its memory is ours alone. Listeners and other devices go
    /// on; a later dial opens it again if it is there.
    pub(super) fn lose_device(&mut self, endpoint: &Endpoint, name: &str) {
        let tags: Vec<u32> =
            self.pairs.iter().filter(|(_, pair)| pair.nic == name).map(|(tag, _)| *tag).collect();
        for tag in tags {
            self.lose(endpoint, QpTag(tag), LinkFault::DeviceGone);
        }
        if let Some(nic) = self.nics.remove(name) {
            tracing::warn!(device = name, "an RDMA device is out of use");
            nic.pool.retire();
        }
    }
}
