//! What happens to sessions and actors, as the trace of a simulated network tells it (D1).

use stellate_protocol::Parcel;
use stellate_protocol::event::{End, Event};
use stellate_transport::sim::Scribe;
use stellate_transport::trace::{Over, SessionTag, What};

use crate::inbox::Notice;
use crate::supervise::{Entry, What as Mishap};

/// Writes a notice into the trace.
pub(crate) fn tell(scribe: &Scribe, notice: &Notice) {
    let (shared, what) = match notice {
        Notice::Event(shared, event) => match what(event) {
            Some(what) => (shared, what),
            None => return,
        },
        Notice::Reset { old, end, .. } => (old, What::Reset(over(end))),
        Notice::Undeliverable(arrived, reason, _) => {
            let what = What::Undeliverable { class: arrived.class(), reason: *reason };
            (arrived.session(), what)
        }
        Notice::Writable(_) | Notice::Admission(_) => return,
    };
    scribe.tell_of(&shared.target().to_string(), shared.tag(), what);
}

fn what(event: &Event<Parcel>) -> Option<What> {
    Some(match event {
        Event::Connected { held, .. } => What::Connected { held: *held },
        Event::Admitted => What::Admitted,
        Event::Resumed { held } => What::Resumed { held: *held },
        Event::NameConflict => What::NameConflict,
        Event::Undeliverable { class, reason, .. } => {
            What::Undeliverable { class: *class, reason: *reason }
        }
        Event::LocalStall { late } => {
            What::LocalStall { late: std::time::Duration::from_nanos(*late) }
        }
        Event::Ended(end) => What::Ended(over(end)),
    })
}

fn over(end: &End<Parcel>) -> Over {
    Over {
        cause: end.cause,
        unacked: end.counts.iter().map(|counts| counts.unacked).sum(),
        undelivered: end.counts.iter().map(|counts| counts.undelivered).sum(),
    }
}

/// Children of the messenger's own, by the beginnings of their paths.
const OWN: [&str; 6] = ["sessions", "links", "dispatch-", "reconnect-", "endpoint", "listener-"];

/// Writes what happened to an actor into the trace. That the messenger's own come and go as they
/// should is told by other events.
pub(crate) fn tell_entry(scribe: &Scribe, entry: &Entry) {
    let own = OWN.iter().any(|own| entry.path.starts_with(own));
    let what = match entry.what {
        Mishap::Started | Mishap::Stopped | Mishap::Removed | Mishap::Lost if own => return,
        Mishap::Started => "started",
        Mishap::Stopped => "stopped",
        Mishap::Removed => "removed",
        Mishap::Panicked { .. } => "panicked",
        Mishap::Killed => "killed",
        Mishap::Overdue => "overdue",
        Mishap::Lost => "lost",
        Mishap::Restarting { .. } => "restarting",
        Mishap::GaveUp { .. } => "gave-up",
        Mishap::Escalated { .. } => "escalated",
        Mishap::Paused => "paused",
        Mishap::Resumed => "resumed",
        Mishap::ShutDown => "shut-down",
    };
    let path = if entry.path.is_empty() { "root".into() } else { entry.path.clone() };
    scribe.tell(SessionTag::NONE, What::Actor { path, what });
}
