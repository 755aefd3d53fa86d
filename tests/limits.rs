//! Every limit at its ends: a messenger refuses it by name, or its sessions work.
#![allow(clippy::unwrap_used)] // Helpers are outside of `#[test]` functions.

use std::time::Duration;

use stellate::prelude::*;
use stellate::testing::{World, virtual_time};

#[derive(Debug, Serialize, Deserialize)]
struct Ping;

impl Message for Ping {
    const TYPE: MessageType = MessageType::new(0x0301);
    type Reply = ();
}

struct Pong;

impl Actor for Pong {
    type Context = Context<Self>;
}

impl Handler<Incoming<Ping>> for Pong {
    type Result = ();

    fn handle(&mut self, ping: Incoming<Ping>, _: &mut Self::Context) {
        let data = ping.data.clone();
        ping.reply(().with(data));
    }
}

type Set = fn(&mut Limits, bool);

/// Each field, and how it is set to the most or the least that it can say.
macro_rules! fields {
    ($($time:ident)+; $($count:ident: $number:ty),+) => {
        &[
            $((stringify!($time), |limits, most| {
                limits.$time = if most { Duration::MAX } else { Duration::ZERO };
            }),)+
            $((stringify!($count), |limits, most| {
                limits.$count = if most { <$number>::MAX } else { 0 };
            }),)+
            ("window_messages", |limits, most| {
                limits.window_messages = [if most { u32::MAX } else { 0 }; 4];
            }),
        ]
    };
}

const FIELDS: &[(&str, Set)] = fields![
    heartbeat_every heartbeat_deadline hello_timeout backoff_min backoff_max race_wait probe
    standby_max hold_max drain_max ack_delay;
    outbox_messages: u32, outbox_bytes: u64, window_bytes: u64, pull_bytes: u64,
    replies_bytes: u64, requests_max: u32, requests_bytes: u64, front_max: u32, data_max: u32,
    slot_bytes: u32, chunk_bytes: u32, inbox_messages: u32, inbox_drain: u32,
    handshakes_max: u32, sessions_max: u32, user_held: u64, events_max: u32, events_bytes: u64
];

/// What is refused, and all else works.
const REFUSED: &[(&str, bool)] = &[
    ("heartbeat_every", false),
    ("heartbeat_every", true),
    ("heartbeat_deadline", false),
    ("hello_timeout", false),
    ("standby_max", false),
    ("outbox_messages", false),
    ("outbox_bytes", false),
    ("window_messages", false),
    ("window_bytes", false),
    ("replies_bytes", false),
    ("requests_max", false),
    ("front_max", false),
    ("handshakes_max", false),
    ("sessions_max", false),
    ("events_max", false),
    ("events_bytes", false),
];

/// A session between two with these limits carries every class, long data and notifies; it comes
/// back over a cut link, and two close in order.
async fn works(world: &World, limits: Limits) -> Result<(), String> {
    let (one, two) = (EntityName::osd(1), EntityName::osd(2));
    let [one, two] = [world.messenger(one).limits(limits), world.messenger(two).limits(limits)];
    let one = one.build().await.map_err(|error| error.to_string())?;
    let two = two.build().await.map_err(|error| error.to_string())?;
    two.supervise("pong", || Pong, Restart::default()).handle::<Ping>().start().unwrap();
    one.ready();
    two.ready();
    let peer = one.connect(two.name(), "sim://osd.2").map_err(|error| error.to_string())?;
    let wait = Duration::from_secs(60);
    for _ in 0..2 {
        for class in Class::ALL {
            let ping = Ping.class(class);
            peer.request(ping)
                .timeout(wait)
                .await
                .map_err(|error| format!("{class:?}: {error}"))?;
        }
        if limits.data_max > 0 {
            let ping = Ping.with(vec![7; 80_000]);
            let reply = peer.request(ping).timeout(wait).await;
            assert_eq!(reply.map_err(|error| format!("data: {error}"))?.data.len(), 80_000);
        }
        let receipt = peer.try_send(Ping).map_err(|error| error.to_string())?;
        let handled = tokio::time::timeout(wait, receipt.handled()).await;
        handled.map_err(|_| "not handled")?.map_err(|error| error.to_string())?;
        world.net().cut_between("osd.1", "osd.2");
    }
    let down = async {
        one.shutdown().await;
        two.shutdown().await;
    };
    tokio::time::timeout(wait, down).await.map_err(|_| "does not close".to_owned())
}

#[test]
fn every_limit_at_its_ends_is_refused_by_name_or_works() {
    let mut wrong = Vec::new();
    for (field, set) in FIELDS {
        for most in [false, true] {
            let mut limits = Limits::default();
            set(&mut limits, most);
            let end = if most { "most" } else { "least" };
            let came = virtual_time(1, async |world: World| works(&world, limits).await);
            let refused = REFUSED.contains(&(*field, most));
            match came {
                Ok(()) if refused => wrong.push(format!("{field} at its {end}: not refused")),
                Err(error) if !refused => wrong.push(format!("{field} at its {end}: {error}")),
                Err(error) if !error.contains(field) => {
                    wrong.push(format!("{field} at its {end} is refused by another name: {error}"));
                }
                _ => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn all_limits_at_their_most_work_together() {
    let mut limits = Limits::default();
    for (_, set) in FIELDS {
        set(&mut limits, true);
    }
    limits.heartbeat_every = Duration::from_secs(5);
    // Acks that never go would be waited for as long.
    limits.drain_max = Duration::from_secs(10);
    assert_eq!(limits.session_bytes_max(), u64::MAX);
    assert_eq!(limits.backoff(1, u16::MAX), Duration::MAX);
    let came = virtual_time(1, async |world: World| works(&world, limits).await);
    assert_eq!(came, Ok(()));
}
