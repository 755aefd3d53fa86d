//! The trace of a run in virtual time: what is in it, its text, its bound, and what the hash covers.
#![allow(clippy::unwrap_used)] // Helpers are outside of `#[test]` functions.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use stellate::prelude::*;
use stellate::testing::trace::FrameKind;
use stellate::testing::trace::{Call, Line, Over, Passage, SessionTag, Tape, What};
use stellate::testing::{World, virtual_time};
use stellate_protocol::{Lane, RequestId, frame};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Ping(u64);

impl Message for Ping {
    const TYPE: MessageType = MessageType::new(0x0301);
    type Reply = u64;
}

struct Pong;

impl Actor for Pong {
    type Context = Context<Self>;
}

impl Handler<Incoming<Ping>> for Pong {
    type Result = ();

    fn handle(&mut self, ping: Incoming<Ping>, _: &mut Self::Context) {
        let n = ping.0;
        ping.reply(n);
    }
}

async fn node(world: &World, number: u64) -> Messenger {
    let messenger = world.messenger(EntityName::osd(number)).build().await.unwrap();
    messenger.supervise("pong", || Pong, Restart::default()).handle::<Ping>().start().unwrap();
    messenger.ready();
    messenger
}

/// A ping, a cut with the next one on its way, a partition and a crash.
async fn short_story(world: &World) {
    let one = node(world, 1).await;
    let two = node(world, 2).await;
    let there = one.connect(EntityName::osd(2), "sim://osd.2").unwrap();
    assert_eq!(there.request(Ping(1).with(vec![7; 100])).await.unwrap().body, 1);
    let (receipt, net) = (there.try_send(Ping(2)).unwrap(), world.net());
    while net.tape().events.iter().all(|event| !matches!(event.what, What::Waiting(_))) {
        tokio::task::yield_now().await;
    }
    net.cut_between("osd.1", "osd.2");
    receipt.received().await.unwrap();
    net.partition_one_way("osd.1", "osd.2");
    world.sleep(Duration::from_millis(5)).await;
    net.heal_all();
    world.crash(&two).await;
    world.until("the end of the link", || !there.is_up()).await;
}

fn record(seed: u64) -> (Tape, u64) {
    virtual_time(seed, async |world| {
        world.net().record(10_000);
        short_story(&world).await;
        (world.net().tape(), world.net().trace_hash())
    })
}

fn words(tape: &Tape, node: &str) -> Vec<&'static str> {
    let here = tape.names.find(node);
    tape.events.iter().filter(|e| Some(e.node) == here).map(|e| e.what.word()).collect()
}

fn passage(kind: FrameKind, lane: Option<Lane>, call: Option<frame::Call>) -> Passage {
    let message_type = if call.is_some() { 0x0301 } else { 0x0999 };
    let (seq, front, data) = (17, 12, 4096);
    let (header_crc, body_crc, sent, detail) = (1, 2, 3, Some("attempt=2 more".into()));
    Passage { kind, lane, seq, message_type, front, data, header_crc, body_crc, sent, call, detail }
}

/// One event of each sort.
fn every_event() -> Vec<What> {
    let over = Over { cause: EndCause::PeerRestarted, unacked: 3, undelivered: 4 };
    let (lane, actor) = (Lane::messages(Class::High), std::sync::Arc::<str>::from("store"));
    let request = frame::Call::Request { id: RequestId(9), ttl_ms: Some(250) };
    let reply = frame::Call::Reply { id: RequestId(9), outcome: frame::Outcome::Handled };
    let reason = frame::UndeliverableReason::UnknownType;
    let replies = Lane::replies(Class::Bulk);
    vec![
        What::Start { life: 2 },
        What::Crash,
        What::Dial,
        What::Linked,
        What::DialFailed("refused"),
        What::Accept,
        What::Closed("reset"),
        What::Frame(passage(FrameKind::Resume, None, None)),
        What::Frame(passage(FrameKind::Message, Some(lane), Some(request))),
        What::Lost(passage(FrameKind::Message, Some(replies), Some(reply))),
        What::Waiting(passage(FrameKind::Chunk, Some(lane), None)),
        What::Cut,
        What::Partition,
        What::Heal,
        What::HealAll,
        What::Stall { ticks: 30 },
        What::Slow { bytes_per_tick: Some(20) },
        What::Slow { bytes_per_tick: None },
        What::Refuse(true),
        What::Ignore(false),
        What::Connected { held: true },
        What::Admitted,
        What::Resumed { held: false },
        What::Reset(over),
        What::Ended(over),
        What::NameConflict,
        What::Undeliverable { class: Class::Control, reason },
        What::LocalStall { late: Duration::from_millis(7_500) },
        What::Call(Call::Message { actor: actor.clone(), lane, seq: 5, message_type: 0x0301 }),
        What::Call(Call::Event { actor: actor.clone() }),
        What::Call(Call::Admission { actor: actor.clone() }),
        What::Actor { path: actor, what: "panicked" },
        What::Broken { promise: "S2".into(), text: "a write was lost".into() },
        What::Note("anything".into()),
    ]
}

/// The columns are promised: every sort of event, as it stands in the golden file. `UPDATE=1`
/// writes that anew: read the difference.
#[test]
fn lines_are_as_in_the_golden_file() {
    let text = virtual_time(1, async |world| {
        world.net().record(1_000);
        let _peer = world.net().scribe("osd.12");
        let scribe = world.net().scribe("client.4123");
        scribe.name_type(0x0301, "Ping");
        for what in every_event() {
            world.sleep(Duration::from_millis(1)).await;
            scribe.tell_of("osd.12", SessionTag(0x00c0_ffee), what);
        }
        world.net().tape().to_string()
    });
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/trace/lines.txt");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap();
    for (ours, golden) in text.lines().zip(golden.lines()) {
        assert_eq!(ours, golden);
    }
    assert_eq!(text, golden);
}

#[test]
fn a_tape_tells_the_whole_story() {
    let (tape, _) = record(1);
    let one = words(&tape, "osd.1");
    for word in
        ["start", "dial", "linked", "hello", "message", "cut", "connected", "resumed", "partition"]
    {
        assert!(one.contains(&word), "{word} is not in {one:?}");
    }
    let two = words(&tape, "osd.2");
    for word in ["start", "accept", "answer", "reply", "call", "crash"] {
        assert!(two.contains(&word), "{word} is not in {two:?}");
    }
    assert!(one.contains(&"resume") || two.contains(&"resume"), "either side may dial again");
    assert!(tape.events.iter().any(|event| matches!(event.what, What::Lost(_))));
    let called = tape.events.iter().find_map(|event| match &event.what {
        What::Call(Call::Message { actor, message_type, .. }) => Some((actor, *message_type)),
        _ => None,
    });
    assert_eq!(called.map(|(actor, kind)| (&**actor, kind)), Some(("pong", 0x0301)));
    assert_eq!(tape.names.message_type(0x0301), Some("Ping"));
    let messages = tape.events.iter().filter(|event| event.what.word() == "message");
    assert!(messages.clone().all(|event| event.session != SessionTag::NONE));
    let first = messages.clone().next().unwrap();
    let passage = first.what.passage().unwrap();
    assert_eq!((passage.seq, passage.message_type, passage.data), (1, 0x0301, 100));
    assert!(passage.sent < first.tick);
    assert!(tape.events.iter().is_sorted_by_key(|event| event.tick));
}

/// D1: handing events to a sink changes nothing.
#[test]
fn d1_a_sink_changes_nothing() {
    let silent = virtual_time(1, async |world| {
        let (lines, net) = (Arc::new(Mutex::new(0)), world.net());
        let count = lines.clone();
        net.stream(Box::new(move |names, event| {
            *count.lock().unwrap() += u64::from(!Line(names, event).to_string().is_empty());
        }));
        // The story looks at the tape to find its moment.
        net.record(10_000);
        short_story(&world).await;
        assert_eq!(*lines.lock().unwrap(), net.trace_events());
        net.trace_hash()
    });
    assert_eq!(record(1).1, silent);
}

async fn calls(world: World, told: Option<What>) -> (u64, u64) {
    let one = node(&world, 1).await;
    let _two = node(&world, 2).await;
    let there = one.connect(EntityName::osd(2), "sim://osd.2").unwrap();
    there.request(Ping(1)).await.unwrap();
    if let Some(what) = told {
        world.net().scribe("osd.2").tell(SessionTag::NONE, what);
    }
    (world.net().trace_hash(), world.net().trace_events())
}

/// D1: a call into user code, an event of a node, is as much a part of the run as a frame.
#[test]
fn d1_the_hash_covers_what_happens_on_nodes() {
    let run = |told: Option<What>| virtual_time(1, async move |world| calls(world, told).await);
    let call = |actor: &str, seq, class| {
        let (actor, lane) = (actor.into(), Lane::messages(class));
        Some(What::Call(Call::Message { actor, lane, seq, message_type: 0x0301 }))
    };
    let plain = run(None);
    assert_eq!(plain, run(None));
    let told = [
        Some(What::Note("one word more".into())),
        Some(What::Note("one word less".into())),
        call("pong", 2, Class::Normal),
        call("pong", 3, Class::Normal),
        call("pong", 2, Class::High),
        call("ping", 2, Class::Normal),
        Some(What::Call(Call::Event { actor: "pong".into() })),
        Some(What::Call(Call::Admission { actor: "pong".into() })),
        Some(What::Actor { path: "pong".into(), what: "panicked" }),
    ];
    let mut hashes = std::collections::BTreeSet::from([plain.0]);
    for told in told {
        let shown = format!("{told:?}");
        let (hash, events) = run(told);
        assert_eq!(events, plain.1 + 1);
        assert!(hashes.insert(hash), "{shown} is as another");
    }
}

/// S7: the newest events stay, and it is known how many went.
#[test]
fn s7_a_tape_is_bounded() {
    virtual_time(1, async |world| {
        world.net().record(20);
        let one = node(&world, 1).await;
        let _two = node(&world, 2).await;
        let there = one.connect(EntityName::osd(2), "sim://osd.2").unwrap();
        for n in 0..50 {
            there.request(Ping(n)).await.unwrap();
        }
        let tape = world.net().tape();
        let waiting = tape.events.iter().filter(|e| matches!(e.what, What::Waiting(_))).count();
        assert_eq!(tape.events.len() - waiting, 20);
        assert_eq!(tape.dropped + 20, world.net().trace_events());
        assert!(tape.to_string().contains("older events are not kept"));
        world.net().record(0);
        there.request(Ping(50)).await.unwrap();
        assert_eq!(
            world.net().tape().events.iter().filter(|e| e.what.passage().is_none()).count(),
            0
        );
    });
}

/// A name from outside breaks no line.
#[test]
fn what_a_test_writes_stays_on_its_line() {
    let text = virtual_time(1, async |world| {
        world.net().record(10);
        let scribe = world.net().scribe("a b\n");
        scribe.tell(SessionTag(0x00ab_cdef), What::Note("two\nlines".into()));
        world.net().tape().to_string()
    });
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.contains("a_b_") && text.contains("two lines") && text.contains("00abcdef"));
}
