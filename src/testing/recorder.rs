//! Writes down what happens to a messenger's sessions.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix::{Actor, Context, Handler};
use stellate_actors::supervise::Restart;
use tokio::sync::Notify;

use crate::event::SessionEvent;
use crate::host::{Placement, SuperviseError};
use crate::messenger::Messenger;

/// Most events that a recorder keeps; beyond it the oldest go.
pub const RECORDED_MAX: usize = 65_536;

/// The events of a messenger, in order. Cloning copies a handle.
#[derive(Clone, Default)]
pub struct Recorder {
    tape: Arc<Tape>,
}

#[derive(Default)]
struct Tape {
    events: Mutex<VecDeque<SessionEvent>>,
    more: Notify,
}

impl Recorder {
    /// Hosts an actor as `recorder` that registers for events.
    ///
    /// # Errors
    /// [`SuperviseError`] if a child has that name.
    pub fn start(messenger: &Messenger) -> Result<Self, SuperviseError> {
        let recorder = Self::default();
        let tape = recorder.tape.clone();
        messenger
            .supervise("recorder", move || Ear { tape: tape.clone() }, Restart::default())
            .events()
            .placement(Placement::Current)
            .start()?;
        Ok(recorder)
    }

    /// Takes the oldest event, or waits for one. Dropped early it takes none.
    pub async fn next(&self) -> SessionEvent {
        loop {
            let more = self.tape.more.notified();
            if let Some(event) = self.tape.lock().pop_front() {
                return event;
            }
            more.await;
        }
    }

    /// Takes all events so far.
    pub fn take(&self) -> Vec<SessionEvent> {
        self.tape.lock().drain(..).collect()
    }

    /// How many of the events that were not taken are so.
    pub fn count(&self, so: impl Fn(&SessionEvent) -> bool) -> usize {
        self.tape.lock().iter().filter(|event| so(event)).count()
    }
}

impl Tape {
    fn lock(&self) -> MutexGuard<'_, VecDeque<SessionEvent>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.tape.lock().iter()).finish()
    }
}

struct Ear {
    tape: Arc<Tape>,
}

impl Actor for Ear {
    type Context = Context<Self>;
}

impl Handler<SessionEvent> for Ear {
    type Result = ();

    fn handle(&mut self, event: SessionEvent, _: &mut Self::Context) {
        let mut events = self.tape.lock();
        if events.len() == RECORDED_MAX {
            events.pop_front();
        }
        events.push_back(event);
        drop(events);
        self.tape.more.notify_one();
    }
}
