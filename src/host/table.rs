//! What an actor handles: by message type, one function each.

use std::cell::Cell;

use actix::dev::MessageResponse;
use actix::{Actor, Context, Handler};
use stellate_actors::inbox::Arrived;
use stellate_protocol::Parcel;
use stellate_protocol::frame::UndeliverableReason;

use super::pump::InHand;
use crate::admission::AdmissionRequest;
use crate::event::SessionEvent;
use crate::incoming::Incoming;
use crate::message::{Message, MessageType, Stamp, decode_front};

/// Decodes a message and calls the actor's handler with it; gives back what it cannot decode.
pub(crate) type Deliver<A> =
    fn(&mut A, InHand<'_>, Parcel, &mut <A as Actor>::Context) -> Result<(), Box<Unfit>>;

/// A message whose front is none of its type.
pub(crate) struct Unfit {
    pub(crate) arrived: Arrived,
    pub(crate) parcel: Parcel,
    pub(crate) reason: UndeliverableReason,
}

/// The functions of one actor, sorted by type.
pub(crate) struct Table<A: Actor> {
    rows: Vec<(u32, Deliver<A>)>,
    /// What its types are called in Rust, for traces.
    pub(crate) names: Vec<(u32, &'static str)>,
    /// Where the last lookup ended: messages come in runs.
    last: Cell<usize>,
    pub(crate) events: Option<fn(&mut A, SessionEvent, &mut A::Context)>,
    pub(crate) admission: Option<fn(&mut A, AdmissionRequest, &mut A::Context)>,
}

impl<A: Actor<Context = Context<A>>> Table<A> {
    pub(crate) const fn new() -> Self {
        Self {
            rows: Vec::new(),
            names: Vec::new(),
            last: Cell::new(0),
            events: None,
            admission: None,
        }
    }

    /// Enters `M`; false if it was there.
    pub(crate) fn enter<M: Message>(&mut self) -> bool
    where
        A: Handler<Incoming<M>>,
    {
        // Checks the type's numbers where it is first handled.
        let kind = const { Stamp::of::<M>() }.message_type.get();
        match self.rows.binary_search_by_key(&kind, |row| row.0) {
            Ok(_) => false,
            Err(place) => {
                self.rows.insert(place, (kind, deliver::<A, M>));
                self.names.push((kind, short_name(std::any::type_name::<M>())));
                true
            }
        }
    }

    pub(crate) fn enter_events(&mut self)
    where
        A: Handler<SessionEvent>,
    {
        self.events = Some(|actor, event, ctx| actor.handle(event, ctx).handle(ctx, None));
    }

    pub(crate) fn enter_admission(&mut self)
    where
        A: Handler<AdmissionRequest>,
    {
        self.admission = Some(|actor, ask, ctx| actor.handle(ask, ctx).handle(ctx, None));
    }

    /// The numbers of all types.
    pub(crate) fn types(&self) -> Vec<u32> {
        self.rows.iter().map(|row| row.0).collect()
    }

    /// The function for a type.
    pub(crate) fn get(&self, kind: u32) -> Option<Deliver<A>> {
        if let Some((known, deliver)) = self.rows.get(self.last.get())
            && *known == kind
        {
            return Some(*deliver);
        }
        let place = self.rows.binary_search_by_key(&kind, |row| row.0).ok()?;
        self.last.set(place);
        Some(self.rows[place].1)
    }
}

/// The last part of a type's path.
fn short_name(path: &'static str) -> &'static str {
    let plain = path.split_once('<').map_or(path, |(plain, _)| plain);
    plain.rsplit("::").next().unwrap_or(plain)
}

fn deliver<A, M>(
    actor: &mut A,
    in_hand: InHand<'_>,
    parcel: Parcel,
    ctx: &mut A::Context,
) -> Result<(), Box<Unfit>>
where
    A: Actor<Context = Context<A>> + Handler<Incoming<M>>,
    M: Message,
{
    let stamp = Stamp {
        message_type: MessageType::new(parcel.kind),
        version: parcel.version,
        compat: parcel.compat,
    };
    if stamp.check::<M>().is_err() {
        return unfit(in_hand, parcel, UndeliverableReason::TooNew);
    }
    match decode_front(parcel.front()) {
        Ok(message) => {
            let Some(arrived) = in_hand.take() else {
                return Ok(());
            };
            let incoming = Incoming::new(message, parcel.into_data(), arrived);
            actor.handle(incoming, ctx).handle(ctx, None);
            Ok(())
        }
        Err(error) => {
            tracing::warn!(message = %M::TYPE, %error, "a front does not decode");
            unfit(in_hand, parcel, UndeliverableReason::BadFront)
        }
    }
}

#[cold]
fn unfit(
    in_hand: InHand<'_>,
    parcel: Parcel,
    reason: UndeliverableReason,
) -> Result<(), Box<Unfit>> {
    let Some(arrived) = in_hand.take() else {
        return Ok(());
    };
    Err(Box::new(Unfit { arrived, parcel, reason }))
}
