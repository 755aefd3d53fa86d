//! A lane: all that one node sends to one peer, one op after the other, so that the order in which
//! a session takes messages is known.

use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, IntoFuture, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use stellate_protocol::{Class, EntityName};

use super::actor::{Ask, SECOND, Tag, Tell, data_of};
use super::case::{Case, Does, HangUp, Mail, Op};
use super::told::{Answer, Place, Told, Way};
use crate::connection::Connection;
use crate::message::{Body, Message, Outgoing};
use crate::messenger::{ConnectError, Messenger};
use crate::send_error::{SendError, TrySendError};
use crate::testing::NodeHandle;

/// Between two tries of what has to wait.
const PAUSE: Duration = Duration::from_millis(5);

/// Starts a lane to each peer that the node sends to.
pub(super) fn start_all(node: &NodeHandle, messenger: &Messenger, case: &Case) {
    let from = node.name();
    let peers: BTreeSet<EntityName> =
        case.ops.iter().filter(|op| op.from == from).map(|op| op.to).collect();
    let now = node.elapsed();
    for to in peers {
        // What was to be done while the node was down is not done.
        let mine = |op: &&Op| op.from == from && op.to == to && op.at >= now;
        let ops: Vec<Op> = case.ops.iter().filter(mine).cloned().collect();
        let lane = Lane {
            node: node.clone(),
            messenger: messenger.clone(),
            to,
            until: case.ends_at(),
            numbers: BTreeMap::new(),
        };
        node.note(Told::Lane(true));
        actix_rt::spawn(lane.run(ops));
    }
}

struct Lane {
    node: NodeHandle,
    messenger: Messenger,
    to: EntityName,
    /// Nothing is sent after this.
    until: Duration,
    /// The last number that a session took, by class.
    numbers: BTreeMap<(u64, Class), u64>,
}

/// Why a lane goes on with the next op.
enum Stopped {
    SessionOver,
    TimeOver,
}

impl Lane {
    async fn run(mut self, ops: Vec<Op>) {
        for op in ops {
            let wait = op.at.saturating_sub(self.node.elapsed());
            tokio::time::sleep(wait).await;
            if let Err(Stopped::TimeOver) = self.op(&op.does).await {
                break;
            }
        }
        self.node.note(Told::Lane(false));
    }

    fn left(&self) -> Duration {
        self.until.saturating_sub(self.node.elapsed())
    }

    /// `what`, unless time is over first.
    async fn in_time<T>(&self, what: impl Future<Output = T>) -> Result<T, Stopped> {
        tokio::time::timeout(self.left(), what).await.map_err(|_| Stopped::TimeOver)
    }

    async fn op(&mut self, does: &Does) -> Result<(), Stopped> {
        let connection = match does {
            Does::Stray { by, .. } => self.connect(*by).await?,
            _ => self.connect(self.to).await?,
        };
        match does {
            Does::Send(mail) => self.send(&connection, mail).await,
            Does::Try(mail) => self.attempt(&connection, mail).await,
            Does::Ask { mail, timeout_ms } => self.ask(&connection, mail, *timeout_ms).await,
            Does::Close => {
                self.node.note(Told::Closed(connection.key().0));
                drop(connection.close());
                Ok(())
            }
            Does::Abort => {
                self.node.note(Told::Closed(connection.key().0));
                connection.abort();
                Ok(())
            }
            Does::Readdress => {
                // Refused to a session that ends: nothing to be done then.
                let _ = connection.readdress(self.node.address_on(self.to, SECOND));
                Ok(())
            }
            Does::Stray { by, ms } => self.stray(&connection, *by, *ms).await,
        }
    }

    /// Goes on at the address of somebody else, and comes back after a while.
    async fn stray(
        &mut self,
        connection: &Connection,
        by: EntityName,
        ms: u32,
    ) -> Result<(), Stopped> {
        // As above. A session that is new began there.
        let _ = connection.readdress(self.node.address_of(by));
        let (connection_too, home) = (connection.clone(), self.node.address_of(self.to));
        actix_rt::spawn(async move {
            tokio::time::sleep(Duration::from_millis(u64::from(ms))).await;
            let _ = connection_too.readdress(home);
        });
        let mail = Mail { count: 1, class: Class::Normal.index() as u8, ..Mail::default() };
        self.send(connection, &mail).await
    }

    /// The session of now, or a new one that dials the address of `at`.
    async fn connect(&self, at: EntityName) -> Result<Connection, Stopped> {
        loop {
            let address = self.node.address_of(at);
            match self.messenger.connect(self.to, address) {
                Ok(connection) => return Ok(connection),
                Err(ConnectError::StillClosing(_)) => {}
                // The tree has given up: the node does nothing any more.
                Err(_) => return Err(Stopped::TimeOver),
            }
            if self.left().is_zero() {
                return Err(Stopped::TimeOver);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn next(&self, connection: &Connection, class: Class) -> Place {
        let key = connection.key().0;
        let n = self.numbers.get(&(key, class)).copied().unwrap_or(0) + 1;
        Place { key, class, n }
    }

    /// The session has taken a message at that place.
    fn took(&mut self, connection: &Connection, place: Place, way: Way) {
        self.numbers.insert((place.key, place.class), place.n);
        self.node.note(Told::Took { to: self.to, place, way });
        let (queued, max) = (connection.outbox().0, self.messenger.limits().outbox_messages);
        // A sixteenth more is `Control`'s.
        if queued > u64::from(max) + u64::from(max / 16) + 1 {
            let text = format!("{queued} messages in an outbox of {max}");
            self.node.note(Told::Wrong { invariant: "S7", text });
        }
    }

    fn tag(&self, place: Place, mail: &Mail, last: bool) -> Tag {
        Tag {
            life: self.node.life(),
            key: place.key,
            n: place.n,
            hold_ms: mail.hold_ms,
            panics: mail.panics && last,
            blocks: mail.blocks,
            hangs_up: if last { mail.hangs_up } else { HangUp::Not },
        }
    }

    fn wrong(&self, what: impl std::fmt::Display) -> Stopped {
        let text = format!("to {}: {what}", self.to);
        self.node.note(Told::Wrong { invariant: "S7", text });
        Stopped::SessionOver
    }

    async fn send(&mut self, connection: &Connection, mail: &Mail) -> Result<(), Stopped> {
        for nth in 1..=mail.count {
            let place = self.next(connection, mail.class());
            let tell = Tell(self.tag(place, mail, nth == mail.count));
            let sending = connection.send(outgoing(tell, place, mail.len));
            match self.in_time(sending).await? {
                Ok(_) => self.took(connection, place, Way::Plain),
                Err(SendError::SessionEnded { .. }) => return Err(Stopped::SessionOver),
                Err(error) => return Err(self.wrong(error)),
            }
        }
        Ok(())
    }

    async fn attempt(&mut self, connection: &Connection, mail: &Mail) -> Result<(), Stopped> {
        for nth in 1..=mail.count {
            let place = self.next(connection, mail.class());
            let tell = Tell(self.tag(place, mail, nth == mail.count));
            let receipt = loop {
                match connection.try_send(outgoing(tell.clone(), place, mail.len)) {
                    Ok(receipt) => break receipt,
                    Err(TrySendError::Full(_)) if self.left().is_zero() => {
                        return Err(Stopped::TimeOver);
                    }
                    Err(TrySendError::Full(_)) => tokio::time::sleep(PAUSE).await,
                    Err(TrySendError::SessionEnded { .. }) => return Err(Stopped::SessionOver),
                    Err(error) => return Err(self.wrong(error)),
                }
            };
            self.took(connection, place, Way::Receipt);
            let node = self.node.clone();
            actix_rt::spawn(async move {
                if receipt.received().await.is_ok() {
                    node.note(Told::Received(place));
                }
                let handled = receipt.handled().await;
                let answer = handled.map_or_else(Answer::from, |()| Answer::Got(place.n));
                node.note(Told::Answered(place, answer));
            });
        }
        Ok(())
    }

    async fn ask(
        &mut self,
        connection: &Connection,
        mail: &Mail,
        timeout_ms: u32,
    ) -> Result<(), Stopped> {
        for nth in 1..=mail.count {
            // With room there, the request takes its place at its first poll.
            let permit = self.in_time(connection.reserve(mail.len as usize)).await?;
            if permit.is_err() {
                return Err(Stopped::SessionOver);
            }
            drop(permit);
            let place = self.next(connection, mail.class());
            let ask = Ask(self.tag(place, mail, nth == mail.count));
            let mut request = connection.request(outgoing(ask, place, mail.len));
            if timeout_ms > 0 {
                request = request.timeout(Duration::from_millis(u64::from(timeout_ms)));
            }
            self.took(connection, place, Way::Ask { timed: timeout_ms > 0 });
            let mut asking = Box::pin(request.into_future());
            let first = poll_fn(|cx| Poll::Ready(Pin::new(&mut asking).poll(cx))).await;
            let node = self.node.clone();
            let rest = async move {
                let answer = match first {
                    Poll::Ready(answer) => answer,
                    Poll::Pending => asking.await,
                };
                let answer = answer.map_or_else(Answer::from, |reply| Answer::Got(reply.body));
                node.note(Told::Answered(place, answer));
            };
            actix_rt::spawn(rest);
        }
        Ok(())
    }
}

fn outgoing<M: Message + Body>(message: M, place: Place, len: u32) -> Outgoing<M> {
    let data = data_of(place.key, place.class, place.n, len);
    Outgoing::from(message).with(data).class(place.class)
}
