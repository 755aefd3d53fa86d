//! What the simulated network and the fake NIC remember of links: who still has one open, and who
//! ended it first.

mod support;

use std::sync::Arc;

use stellate_transport::CloseHow;
use stellate_transport::rdma::RdmaOptions;
use stellate_transport::rdma::fake::Personality;
use stellate_transport::sim::{LinkEnd, LinkInfo, Origin, Profile, SimNet};
use support::two::{FAR, NEAR, Two};
use support::{Pair, Rig, message};
use tokio::time::Duration;

/// Both fabrics, as this test sees them.
struct World {
    rig: Rig,
    names: [String; 2],
}

impl World {
    fn all() -> impl Iterator<Item = Self> {
        let sim = |profile| {
            let net = SimNet::with_profile(3, profile);
            let rig = Rig {
                dials: Arc::new(net.transport("a")),
                listens: Arc::new(net.transport("b")),
                at: "sim://b".parse().expect("an address"),
                net: Some(net),
                fake: None,
            };
            Self { rig, names: ["a", "b"].map(Into::into) }
        };
        let nic = |personality| {
            let two = Two::new(3, personality, RdmaOptions::default());
            Self { rig: two.rig, names: [NEAR, FAR].map(|ip| ip.to_string()) }
        };
        let sims = [Profile::STREAM, Profile::VERBS, Profile::PSM].map(sim);
        sims.into_iter().chain([Personality::ROCE, Personality::IWARP].map(nic))
    }

    fn seen(&self) -> (Vec<LinkInfo>, Vec<LinkEnd>) {
        match (&self.rig.net, &self.rig.fake) {
            (Some(net), _) => (net.links(), net.ends()),
            (_, Some(fake)) => (fake.links(), fake.ends()),
            _ => (Vec::new(), Vec::new()),
        }
    }

    fn cut(&self) {
        match (&self.rig.net, &self.rig.fake) {
            (Some(net), _) => drop(net.cut_between("a", "b")),
            (_, Some(fake)) => drop(fake.cut_between(NEAR, FAR)),
            _ => {}
        }
    }
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime")
        .block_on(test);
}

/// For so long nothing comes that ends it.
async fn for_a_second(pair: &mut Pair) {
    let span = Duration::from_secs(1);
    assert!(tokio::time::timeout(span, pair.until(|_| false)).await.is_err());
}

/// How the one link ended.
fn only(world: &World) -> LinkEnd {
    let (_, ends) = world.seen();
    let [end] = <[LinkEnd; 1]>::try_from(ends).expect("it ended once");
    assert_eq!([&end.dialler, &end.acceptor], [&world.names[0], &world.names[1]]);
    end
}

#[test]
fn the_end_that_closes_first_is_the_one_that_closed() {
    for by in [Origin::Dialler, Origin::Acceptor] {
        for how in [CloseHow::Abort, CloseHow::Drain] {
            for world in World::all() {
                run(async {
                    let mut pair = Pair::up(&world.rig).await;
                    pair.near.send(message(1, b"there"));
                    pair.until(|pair| pair.far.frames.len() == 1).await;
                    let (links, ends) = world.seen();
                    assert_eq!((links.len(), ends), (1, vec![]));
                    assert_eq!(links[0].open, [true, true]);
                    let end = if by == Origin::Dialler { &mut pair.near } else { &mut pair.far };
                    end.link().close(how);
                    for_a_second(&mut pair).await;
                    let end = only(&world);
                    // With queue pairs, whoever is told that the other leaves may be the first to go.
                    let first = how == CloseHow::Abort || world.rig.net.is_some();
                    assert!(end.by == Some(by) || (!first && end.by.is_some()), "{end:?}");
                    assert_eq!(end.link, links[0].id);
                    assert_eq!(end.accepted, world.rig.net.is_some().then_some(true));
                    // Over a NIC grants are sent beside them.
                    let least = [2, 1].iter().zip(end.frames).all(|(sent, seen)| seen >= *sent);
                    assert!(least && (world.rig.fake.is_some() || end.frames == [2, 1]), "{end:?}");
                    let (links, _) = world.seen();
                    assert!(links.iter().all(|link| !link.open[by as usize]), "{links:?}");
                    drop(pair);
                    assert_eq!((world.seen().0, only(&world)), (vec![], end));
                });
            }
        }
    }
}

#[test]
fn what_is_cut_nobody_closed() {
    for world in World::all() {
        run(async {
            let mut pair = Pair::up(&world.rig).await;
            world.cut();
            for_a_second(&mut pair).await;
            drop(pair);
            assert_eq!(only(&world).by, None);
        });
    }
}

#[test]
fn who_is_not_told_of_a_cut_still_has_it_open() {
    for world in World::all() {
        let Some(net) = &world.rig.net else { continue };
        run(async {
            let mut pair = Pair::up(&world.rig).await;
            let told = pair.near.link().limits().close_notice;
            net.cut_between("a", "b");
            for_a_second(&mut pair).await;
            let open = !matches!(told, stellate_transport::limits::CloseNotice::Always);
            let still: Vec<_> = net.links().iter().map(|link| link.open).collect();
            assert!(still.iter().all(|ends| *ends == [open; 2]), "{still:?}");
            assert_eq!(still.len(), usize::from(open));
        });
    }
}
