//! What a simulated crash takes with it, and what it does not.
#![allow(clippy::unwrap_used)] // Helpers are outside of `#[test]` functions.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::AsyncContext;
use stellate::prelude::*;
use stellate::testing::{BootError, Cluster, DiskFile, NodeHandle};

const ONE: EntityName = EntityName::osd(1);

/// Who was dropped.
type Gone = Arc<Mutex<BTreeSet<&'static str>>>;

/// A letter twice a second, and another as its last word.
struct Ticks {
    file: DiskFile,
    who: &'static str,
    gone: Gone,
}

impl Ticks {
    fn write(&self, letter: &[u8]) {
        self.file.append(letter).unwrap();
        self.file.sync();
    }
}

impl Drop for Ticks {
    fn drop(&mut self) {
        self.write(b"!");
        self.gone.lock().unwrap().insert(self.who);
    }
}

fn ticks(node: &NodeHandle, gone: &Gone, who: &'static str) -> impl Future<Output = ()> + use<> {
    let ticks = Ticks { file: node.disk().file(who), who, gone: gone.clone() };
    async move {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            ticks.write(b".");
        }
    }
}

struct Ticker(NodeHandle, Gone);

impl Actor for Ticker {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let Self(node, gone) = self;
        ctx.spawn(actix::fut::wrap_future(ticks(node, gone, "on its context")));
        actix_rt::spawn(ticks(node, gone, "locally, by an actor"));
        tokio::spawn(ticks(node, gone, "anywhere, by an actor"));
    }
}

async fn boot(node: NodeHandle, gone: Gone) -> Result<(), BootError> {
    let messenger = node.messenger().build().await?;
    if node.life() == 0 {
        tokio::task::spawn_local(ticks(&node, &gone, "locally"));
        actix_rt::spawn(ticks(&node, &gone, "by actix"));
        tokio::spawn(ticks(&node, &gone, "anywhere"));
        messenger
            .supervise("ticker", move || Ticker(node.clone(), gone.clone()), Restart::default())
            .start()?;
    }
    messenger.ready();
    Ok(())
}

/// Tasks of a node die with it. What `tokio::spawn` was given is none of a node's, and goes on, but a
/// life that is over changes nothing on the disk of the next; nor does a destructor on the way.
#[test]
fn a_crash_drops_what_is_local_and_what_is_not_cannot_touch_the_disk() {
    let gone = Gone::default();
    let own = gone.clone();
    let cluster = Cluster::new(1).node(ONE, move |node| boot(node, own.clone()));
    let outcome = cluster.run(async |running| {
        assert!(
            running.spawn_on(ONE, ticks(&running.node(ONE).unwrap(), &gone, "on it")).is_some()
        );
        running.sleep(Duration::from_millis(1_100)).await;
        let disk = running.disk(ONE).unwrap();
        let read = || disk.files().iter().map(|name| disk.file(name).read_at(0, 99)).collect();
        let before: Vec<Vec<u8>> = read();
        assert_eq!(before, vec![b"..".to_vec(); 7]);
        running.crash(ONE);
        let all = ["by actix", "locally", "locally, by an actor", "on it", "on its context"];
        assert_eq!(*gone.lock().unwrap(), all.into());
        running.sleep(Duration::from_secs(2)).await;
        running.start(ONE).await;
        running.sleep(Duration::from_secs(2)).await;
        assert_eq!(read(), before);
        assert_eq!(gone.lock().unwrap().len(), all.len(), "the others go on");
    });
    outcome.assert_held();
    assert_eq!(gone.lock().unwrap().len(), 7, "until the run is over");
}
