//! One process of the mesh: some messengers, each sending to every other of all processes.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::fs::OpenOptions;
use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use stellate_actors::handle::SessionHandle;
use stellate_actors::inbox::{Item, Notice};
use stellate_actors::node::{ConnectError, Node};
use stellate_protocol::event::{Ask, Event};
use stellate_protocol::policy::Policy;
use stellate_protocol::{Class, EntityName};

use super::book::Book;
use super::{EACH, address};
use crate::support::children::Control;
use crate::support::{Draw, TestNode, config, within};

/// What the tasks of a process share.
struct Shared {
    mesh: u32,
    peers: u64,
    book: RefCell<Book>,
    stopped: Cell<bool>,
    /// (Messenger, peer's number) of all who were heard.
    heard: RefCell<BTreeSet<(u128, u64)>>,
}

/// `words`: mesh, processes, index, generation, the book's path.
pub(crate) async fn run(words: &[String], mut control: Control) {
    let number = |index: usize| words[index].parse::<u64>().expect("a number");
    let (mesh, processes, index, generation) = (number(0), number(1), number(2), number(3));
    let file = OpenOptions::new().create(true).append(true).open(&words[4]).expect("opens");
    let shared = Rc::new(Shared {
        mesh: mesh as u32,
        peers: processes * EACH,
        book: RefCell::new(Book::new(file)),
        stopped: Cell::new(false),
        heard: RefCell::default(),
    });
    let (mut nodes, mut senders, mut readers) = (Vec::new(), Vec::new(), Vec::new());
    for me in index * EACH..(index + 1) * EACH {
        let instance = u128::from(generation) << 32 | u128::from(me + 1);
        let node = TestNode::start_with(mesh_config(&shared, me, instance), 16).await;
        for peer in (0..shared.peers).filter(|peer| *peer != me) {
            let sending = send(shared.clone(), node.node.clone(), instance, peer);
            senders.push(actix_rt::spawn(sending));
        }
        readers.push(actix_rt::spawn(read(shared.clone(), node.inbox.clone(), instance)));
        readers.push(actix_rt::spawn(read(shared.clone(), node.events.clone(), instance)));
        nodes.push(node);
    }
    report(&shared, &mut control).await;
    for sender in senders {
        within("the senders to stop", sender).await.expect("sends");
    }
    // What was sent last may need a session first, which nobody lets in who shuts down.
    let sessions = || nodes.iter().flat_map(|node| node.node.sessions());
    let owes = |session: &SessionHandle| session.shared().outbox() != (0, 0);
    crate::support::until("all to be received", || !sessions().any(|each| owes(&each))).await;
    control.say("stopped").await;
    control.expect("close").await;
    futures::future::join_all(nodes.iter().map(|node| node.node.shutdown())).await;
    let book = &shared.book;
    crate::support::until("every session's end", || book.borrow().open().is_empty()).await;
    for reader in readers {
        // One that failed has said why on the way out.
        assert!(!reader.is_finished(), "a reader failed");
    }
    control.say("closed").await;
}

/// Says how far it is, until it is told to stop.
async fn report(shared: &Rc<Shared>, control: &mut Control) {
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    loop {
        tokio::select! {
            line = control.hear() => match line.as_deref() {
                Some("stop") => break,
                Some(_) => {}
                None => std::process::exit(1),
            },
            _ = tick.tick() => {
                let (taken, heard) = (shared.book.borrow().taken, shared.heard.borrow().len());
                control.say(&format!("progress {taken} {heard}")).await;
            }
        }
    }
    shared.stopped.set(true);
}

fn mesh_config(shared: &Shared, me: u64, instance: u128) -> stellate_actors::node::NodeConfig {
    let mut config = config(EntityName::osd(me), instance, Policy::lossless_peer());
    // Defaults else: a busy machine is slow, and redials that come too soon make it slower.
    config.limits.backoff_max = Duration::from_secs(1);
    config.limits.outbox_messages = 64;
    config.limits.window_messages = [16; Class::COUNT];
    config.bind = vec![address(shared.mesh, me)];
    config
}

/// Sends to one peer until told to stop, on whatever session there is to it; now and then it
/// aborts one.
async fn send(shared: Rc<Shared>, node: Node, instance: u128, peer: u64) {
    let mut draw = Draw((instance as u64) << 16 ^ peer);
    let pause = |draw: &mut Draw| tokio::time::sleep(Duration::from_millis(100 + draw.below(800)));
    while !shared.stopped.get() {
        pause(&mut draw).await;
        let to = vec![address(shared.mesh, peer)];
        let handle = match node.connect(EntityName::osd(peer), to) {
            Ok(handle) => handle,
            Err(ConnectError::StillClosing(_)) => continue,
            Err(error) => panic!("{error}"),
        };
        let place = (instance, handle.shared().key());
        for _ in 0..draw.below(12) {
            let class = Class::ALL[draw.below(4) as usize];
            let Ok(room) = handle.reserve_in(class, 40_000, false).await else { break };
            let parcel = shared.book.borrow_mut().next(place, class);
            if room.submit(class, parcel, Ask::Nothing).is_err() {
                break;
            }
            shared.book.borrow_mut().sent(place, class);
        }
        if draw.below(60) == 0 {
            handle.abort();
        }
    }
}

/// Reads an inbox to the end of the process.
async fn read(shared: Rc<Shared>, inbox: std::sync::Arc<stellate_actors::inbox::Inbox>, me: u128) {
    let mut items = VecDeque::new();
    // A check that fails here must not be taken for silence.
    let guard = Failing;
    loop {
        poll_fn(|cx| inbox.poll_take(cx, &mut items, 64)).await;
        note(&shared, &mut items, me);
        let _ = &guard;
        tokio::task::yield_now().await;
    }
}

fn note(shared: &Shared, items: &mut VecDeque<Item>, me: u128) {
    let mut book = shared.book.borrow_mut();
    for item in items.drain(..) {
        match item {
            Item::Message(mut arrived) => {
                let place = (me, arrived.session().key());
                if let Some(parcel) = arrived.open() {
                    book.take(place, arrived.class(), &parcel);
                    let peer = arrived.session().target().number();
                    shared.heard.borrow_mut().insert((me, peer.unwrap_or(u64::MAX)));
                }
            }
            Item::Notice(Notice::Event(session, event)) => {
                if let Event::Ended(end) = *event {
                    book.end((me, session.key()), &end);
                }
            }
            Item::Notice(Notice::Reset { old, end, .. }) => book.end((me, old.key()), &end),
            Item::Notice(_) => {}
        }
    }
    book.write();
}

/// Ends the process when a task of it panics.
struct Failing;

impl Drop for Failing {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::exit(101);
        }
    }
}
