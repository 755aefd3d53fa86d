//! Room in an outbox that is taken before the message is there.

use stellate_actors::shared::Room;
use stellate_protocol::event::Ask;

use crate::encode::pack;
use crate::message::{Message, Outgoing};
use crate::receipt::Sent;
use crate::send_error::TrySendError;

/// What a permit reserves for the front beside the data that it was asked for.
pub(crate) const FRONT_ROOM: u64 = 1024;

/// Room for one message, from [`Connection::reserve`](crate::Connection::reserve). Dropping it
/// unused gives the room back.
#[derive(Debug)]
#[must_use = "a permit dropped unused gives its room back"]
pub struct Permit {
    pub(crate) room: Room,
}

impl Permit {
    /// Sends now, synchronously. Its place in the order is that of this call.
    ///
    /// # Errors
    /// [`TrySendError`] with the message. [`Full`](TrySendError::Full) only for a message that is
    /// longer than was reserved, front included.
    pub fn send<M: Message>(
        self,
        message: impl Into<Outgoing<M>>,
    ) -> Result<Sent, TrySendError<M>> {
        let Outgoing { body, data, class } = message.into();
        let parcel = match pack(&body, data.clone()) {
            Ok(parcel) => parcel,
            Err(error) => {
                return Err(TrySendError::Front { error, message: Outgoing { body, data, class } });
            }
        };
        match self.room.submit(class, parcel, Ask::Nothing) {
            Ok(position) => Ok(Sent { class, position }),
            Err(refusal) => Err(TrySendError::new(class, body, refusal)),
        }
    }
}
