//! Reconnection over real TCP: several addresses, a move under load, one-way reachability, and a
//! process that runs out of file descriptors. (When a session dials is tested in the pure crate.)

mod support;

use std::fs::File;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use stellate_actors::handle::SessionHandle;
use stellate_actors::supervise::What;
use stellate_protocol::event::{EndCause, Event};
use stellate_protocol::policy::Policy;
use stellate_protocol::session::Trouble;
use stellate_protocol::{Class, EntityName};
use stellate_transport::{Address, DialError};
use support::chaos::Chaos;
use support::children::{Process, part};
use support::{TestNode, number_of, parcel, quick, raw, send, until, within};
use tokio::net::TcpListener;

async fn start(number: u64) -> TestNode {
    TestNode::start(quick(EntityName::osd(number), number.into(), Policy::lossless_peer())).await
}

/// A port at which nobody listens, of an address that no other test binds.
async fn nobody() -> Address {
    let listener = TcpListener::bind("127.0.9.1:0").await.expect("binds");
    let at = listener.local_addr().expect("bound");
    format!("tcp://{at}").parse().expect("an address")
}

async fn talk(handle: &SessionHandle, to: &mut TestNode, number: u64) {
    send(handle, Class::Normal, parcel(&number.to_le_bytes(), "data")).await;
    assert_eq!(number_of(&to.next_parcel().await), number, "S1, S2");
}

#[actix_rt::test]
async fn s8_the_second_address_is_dialled_when_the_first_does_not_answer() {
    let black_hole = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let silent = format!("tcp://{}", black_hole.local_addr().expect("bound"));
    for bad in [nobody().await, silent.parse().expect("an address")] {
        let (a, mut b) = (start(1).await, start(2).await);
        let mut addresses = vec![bad];
        addresses.extend(b.node.local_addresses());
        let there = a.node.connect(EntityName::osd(2), addresses).expect("connects");
        talk(&there, &mut b, 0).await;
        let counters = there.shared().snapshot().counters;
        assert_eq!((counters.dials, counters.dials_failed + counters.dials_silent), (2, 1));
        for node in [a, b] {
            node.shutdown().await;
        }
    }
}

/// S8: the dialler is rebuilt while a dial is out that its session has called off and followed by
/// another: what became of the one says nothing of the other.
#[actix_rt::test]
async fn s8_a_dial_does_not_fail_for_one_that_was_called_off_before() {
    let black_hole = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let silent = format!("tcp://{}", black_hole.local_addr().expect("bound"));
    let (a, mut b) = (start(1).await, start(2).await);
    let silent = silent.parse().expect("an address");
    let there = a.node.connect(EntityName::osd(2), vec![silent]).expect("connects");
    let _out = within("the dial", black_hole.accept()).await.expect("accepts");
    // The order to panic is heard before the messages that wait for the dialler.
    there.readdress(b.node.local_addresses()).expect("taken");
    let mark = a.node.tree().panic("reconnect-0").expect("it is there");
    let restarted =
        a.node.tree().wait_since(mark, "reconnect-0", |what| matches!(what, What::Started));
    within("the dialler to be back", restarted).await.expect("it comes back");
    talk(&there, &mut b, 0).await;
    let counters = there.shared().snapshot().counters;
    assert_eq!((counters.dials, counters.dials_failed + counters.dials_silent), (2, 0));
    for node in [a, b] {
        node.shutdown().await;
    }
}

#[actix_rt::test]
async fn s2_a_session_moves_to_other_addresses_in_the_middle_of_its_load() {
    const COUNT: u64 = 5_000;
    const MOVES: u64 = 12;
    // With the limits of production: on a busy machine a hello may take its time under this load.
    let mut config = support::config(EntityName::osd(2), 2, Policy::lossless_peer());
    config.bind = vec!["tcp://127.0.0.1:0".parse().expect("an address"); 2];
    config.bind.push("tcp://[::1]:0".parse().expect("an address"));
    let mut first = support::config(EntityName::osd(1), 1, Policy::lossless_peer());
    // Each move says again what is on its way.
    (config.limits.outbox_messages, first.limits.outbox_messages) = (512, 512);
    let (mut a, mut b) = (TestNode::start(first).await, TestNode::start(config).await);
    let addresses = b.node.local_addresses();
    assert_eq!(addresses.len(), 3);
    let there = a.node.connect(EntityName::osd(2), vec![addresses[0].clone()]).expect("connects");
    let back = b.connected().await;
    let body = Bytes::from(vec![7; 30_000]);
    let sending = [&there, &back].map(|handle| {
        let (handle, body) = (handle.clone(), body.clone());
        actix_rt::spawn(async move {
            for number in 0..COUNT {
                let len = if number % 50 == 0 { 30_000 } else { number as usize % 200 };
                let message = parcel(&number.to_le_bytes(), body.slice(..len));
                send(&handle, Class::Normal, message).await;
            }
        })
    });
    let (mut at_a, mut moved) = (0, 0);
    let take_a = async {
        while at_a < COUNT {
            assert_eq!(number_of(&a.next_parcel().await), at_a, "S1, S2");
            at_a += 1;
        }
    };
    let take_b = async {
        for number in 0..COUNT {
            assert_eq!(number_of(&b.next_parcel().await), number, "S1, S2");
            if number > 0 && number % (COUNT / (MOVES + 1)) == 0 && moved < MOVES {
                moved += 1;
                // Now and then to nobody first: the next in the list is dialled.
                let mut to = vec![addresses[moved as usize % 3].clone()];
                if moved % 4 == 0 {
                    to.insert(0, nobody().await);
                }
                there.readdress(to).expect("taken");
            }
        }
    };
    futures::join!(take_a, take_b);
    for task in sending {
        within("all to be sent", task).await.expect("sent");
    }
    assert_eq!(moved, MOVES);
    let resumes = back.shared().snapshot().counters.resumes_received;
    assert!(resumes > 1, "{resumes} resumes for {MOVES} moves");
    assert_eq!((a.ends_now(), b.ends_now()), (Vec::new(), Vec::new()));
    for node in [a, b] {
        node.shutdown().await;
    }
}

/// Only one of the two can dial the other; whichever that is, and whoever is the greater name.
#[actix_rt::test]
async fn s5_one_way_reachability_is_enough_for_peers() {
    for able in [0, 1] {
        let mut nodes = [start(1).await, start(2).await];
        let sockets: [SocketAddr; 2] =
            std::array::from_fn(|node| raw::at(&nodes[node]).parse().expect("a socket address"));
        let chaos = Chaos::start(sockets).await;
        // The other's addresses lead nowhere; it tries all the same.
        let unable = 1 - able;
        let mut handles = Vec::new();
        for (from, to) in [(0, 1), (1, 0)] {
            let address = if from == able { chaos.front_of(to) } else { nobody().await };
            let name = nodes[to].node.me().name;
            handles.push(nodes[from].node.connect(name, vec![address]).expect("connects"));
        }
        for number in 0..5 {
            for from in [0, 1] {
                talk(&handles[from], &mut nodes[1 - from], number).await;
            }
            let lost = handles[able].shared().snapshot().counters.links_lost;
            chaos.set_away(true);
            let lost_more = || handles[able].shared().snapshot().counters.links_lost > lost;
            until("the link to go", lost_more).await;
            // Both have something to say while it is away.
            for handle in &handles {
                send(handle, Class::High, parcel(&number.to_le_bytes(), "meanwhile")).await;
            }
            chaos.set_away(false);
            for node in &mut nodes {
                assert_eq!(number_of(&node.next_parcel().await), number);
            }
        }
        let counters = handles[unable].shared().snapshot().counters;
        assert!(counters.dials_failed > 0, "it tried: {counters:?}");
        for node in &mut nodes {
            assert_eq!(node.ends_now(), Vec::<EndCause>::new());
        }
        for node in nodes {
            node.shutdown().await;
        }
    }
}

/// The one that cannot be dialled never comes, and the limit on that ends it.
#[actix_rt::test]
async fn s4_a_peer_that_is_never_reached_is_given_up_after_standby_max() {
    let mut config = quick(EntityName::osd(1), 1, Policy::lossless_peer());
    config.limits.standby_max = Duration::from_millis(300);
    let mut a = TestNode::start(config).await;
    let there = a.node.connect(EntityName::osd(2), vec![nobody().await]).expect("connects");
    send(&there, Class::Normal, parcel(b"12345678", "never sent")).await;
    let end = a.next_end().await;
    assert_eq!((end.cause, end.unacked.len()), (EndCause::Unreachable, 1));
    let counters = there.shared().snapshot().counters;
    assert!(counters.dials > 2 && counters.dials_silent == 0, "{counters:?}");
    a.shutdown().await;
}

const HOARD: &str = "s8_a_process_without_descriptors_goes_on_when_they_come_back";

/// Takes every descriptor that there is.
fn hoard() -> Vec<File> {
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

#[actix_rt::test]
async fn s8_a_process_without_descriptors_goes_on_when_they_come_back() {
    if let Some((words, mut control)) = part().await {
        let mut b = start(2).await;
        control.say(&format!("at {}", b.node.local_addresses()[0])).await;
        match words[0].as_str() {
            "accepts" => accept_without(&mut b, &mut control).await,
            _ => dial_without(&mut b, &mut control).await,
        }
        b.shutdown().await;
        return control.say("done").await;
    }
    for role in ["accepts", "dials"] {
        let mut a = start(1).await;
        let mut child = Process::start(HOARD, role, Some(64)).await;
        let at: Address = child.control.expect("at").await.parse().expect("an address");
        if role == "accepts" {
            child.control.expect("hoarded").await;
            let there = a.node.connect(EntityName::osd(2), vec![at]).expect("connects");
            for number in 0..3u64 {
                send(&there, Class::Normal, parcel(&number.to_le_bytes(), "data")).await;
            }
            // The kernel takes the link, and nobody answers.
            let silent = || there.shared().snapshot().trouble == Some(Trouble::HelloSilent);
            until("the hello to stay unanswered", silent).await;
            child.control.say("release").await;
            // It says that it is done when all have come.
        } else {
            child.control.say(&a.node.local_addresses()[0].to_string()).await;
            for number in 0..3u64 {
                assert_eq!(number_of(&a.next_parcel().await), number);
            }
        }
        child.control.expect("done").await;
        within("the child to go", child.gone()).await;
        a.shutdown().await;
    }
}

async fn accept_without(b: &mut TestNode, control: &mut support::children::Control) {
    let hoarded = hoard();
    assert!(hoarded.len() > 10);
    control.say("hoarded").await;
    control.expect("release").await;
    drop(hoarded);
    for number in 0..3 {
        assert_eq!(number_of(&b.next_parcel().await), number, "S2");
    }
}

async fn dial_without(b: &mut TestNode, control: &mut support::children::Control) {
    let to: Address = control.expect("").await.parse().expect("an address");
    let hoarded = hoard();
    let there = b.node.connect(EntityName::osd(1), vec![to]).expect("connects");
    for number in 0..3u64 {
        send(&there, Class::Normal, parcel(&number.to_le_bytes(), "data")).await;
    }
    let dials = || there.shared().snapshot().counters;
    until("some dials", || dials().dials_failed > 3).await;
    let waiting = there.shared().waiting().expect("something waits");
    let none = waiting.no_link.expect("no link");
    assert_eq!(none.dial, Some(DialError::OutOfDescriptors));
    drop(hoarded);
    let connected = |event: &Event<_>| matches!(event, Event::Connected { .. });
    b.event_where(connected).await;
    until("all to be received", || there.shared().outbox() == (0, 0)).await;
}
