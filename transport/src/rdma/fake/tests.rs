//! What the fake NIC owes its users that only shows from within.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::pair::{Cqs, Pair, PairState, Posting};
use super::world::Shared;
use super::{FakeNet, Personality};
use crate::rdma::memory::{Arena, Buf, Home, RegionId};
use crate::rdma::verbs::{Granted, Operation, QpTag, Remote, WorkFault, WorkId};

/// A pool that looks whether the NIC calls it from within: the pool calls the NIC with its own lock
/// held, so with several threads both would wait for each other.
#[derive(Debug)]
struct Watchful {
    nic: Weak<Shared>,
    home: AtomicUsize,
    within: AtomicUsize,
}

impl Home for Watchful {
    fn take_back(&self, _: bytes::BytesMut) {
        let within = self.nic.upgrade().is_some_and(|nic| nic.is_locked());
        self.home.fetch_add(1, Ordering::Relaxed);
        self.within.fetch_add(usize::from(within), Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn memory_of_work_that_fails_comes_home_outside_of_the_nic() {
    let fake = FakeNet::new(1);
    let ips = [1, 2].map(|n| IpAddr::V4(Ipv4Addr::new(10, 0, 0, n)));
    for ip in ips {
        fake.host(ip, Personality::ROCE);
    }
    let pool = Arc::new(Watchful {
        nic: Arc::downgrade(&fake.shared),
        home: AtomicUsize::new(0),
        within: AtomicUsize::new(0),
    });
    let (_arena, mut memory) = Arena::allocate(1000);
    let mut buf = || Buf::new(memory.split_to(100), RegionId(1), Some(pool.clone()));
    let granted = Granted { send_depth: 8, recv_depth: 8, segments: 1, inline_max: 0 };
    fake.shared.change(|world| {
        world.start();
        for (number, host) in [(1, 0), (2, 1)] {
            let mut pair = Pair::new(host, 0, QpTag(number), Cqs { sent: 0, received: 0 }, granted);
            (pair.state, pair.peer) = (PairState::Up, Some(3 - number));
            pair.dialled = number == 1;
            world.pairs.insert(number, pair);
        }
        (0..2).for_each(|work| world.post_receive(2, WorkId(work), buf()));
    });
    for (work, signalled) in [(0, false), (1, false), (2, true)] {
        let (operation, remote) = (Operation::Send, Remote { addr: 0, rkey: 0 });
        let (work, head, pieces) = (WorkId(work), buf(), Vec::new());
        let posting = Posting { work, operation, signalled, head, head_len: 100, pieces, remote };
        if signalled {
            fake.fail_next(ips[0], WorkFault::RemoteOperation);
        }
        fake.shared.change(|world| world.post(1, posting));
        tokio::time::sleep(Duration::from_millis(20)).await;
        // Nothing is acknowledged, as the agenda is not run.
        fake.shared.change(|world| world.deliver(1));
    }
    let count = |count: &AtomicUsize| count.load(Ordering::Relaxed);
    assert_eq!((count(&pool.home), count(&pool.within)), (5, 0));
}
