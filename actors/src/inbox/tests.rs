use std::task::Waker;

use stellate_protocol::event::Event;
use stellate_protocol::limits::Limits;
use stellate_protocol::{EntityName, Parcel};

use super::*;

fn session(key: u64) -> Arc<SessionShared> {
    let (key, peer) = (SessionKey(key), EntityName::osd(1));
    Arc::new(SessionShared::new(key, peer, Limits::default(), Default::default()))
}

/// Whose they are, and what they say.
fn read(inbox: &Inbox) -> Vec<(u64, Event<Parcel>)> {
    let mut batch = Batch::default();
    let _ = inbox.poll_batch(&mut Context::from_waker(Waker::noop()), &mut batch, 64);
    let told = |notice| match notice {
        Notice::Event(session, event) => (session.key().0, *event),
        notice => panic!("{notice:?}"),
    };
    batch.notices.into_iter().map(told).collect()
}

/// S7: a link that flaps does not grow the queue; and what is read last is what is true last.
#[test]
fn s7_what_is_said_again_is_read_once_and_where_it_was_said_last() {
    let (a, b) = (session(1), session(2));
    let inbox = Inbox::new(1);
    let tell = |session: &Arc<SessionShared>, event| {
        inbox.push_notice(Notice::Event(session.clone(), Box::new(event)));
    };
    let held = Event::Resumed { held: true };
    // Admitted, and then held again.
    for event in [held.clone(), Event::Admitted, held.clone()] {
        tell(&a, event);
    }
    assert_eq!(read(&inbox), [(1, Event::Admitted), (1, held.clone())]);
    tell(&b, held.clone());
    for late in 1..=9 {
        for event in [held.clone(), Event::LocalStall { late }, Event::Admitted] {
            tell(&a, event);
        }
    }
    let stall = Event::LocalStall { late: 9 };
    assert_eq!(read(&inbox), [(2, held.clone()), (1, held), (1, stall), (1, Event::Admitted)]);
}
