//! Two hosts whose RDMA links run on a fake NIC.

use std::net::IpAddr;
use std::sync::Arc;

use stellate_protocol::{Frame, Seq};
use stellate_transport::rdma::fake::{FakeNet, Personality};
use stellate_transport::rdma::{Rdma, RdmaOptions};

use super::{End, Pair, Rig, announce, chunks, lane, pull};

pub(crate) const NEAR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
pub(crate) const FAR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

/// Two hosts.
pub(crate) struct Two {
    pub(crate) fake: FakeNet,
    pub(crate) near: Rdma,
    pub(crate) far: Rdma,
    pub(crate) rig: Rig,
}

impl Two {
    pub(crate) fn new(seed: u64, personality: Personality, options: RdmaOptions) -> Self {
        Self::apart(seed, personality, [options.clone(), options])
    }

    /// With options of its own for each, the near one first.
    pub(crate) fn apart(seed: u64, personality: Personality, options: [RdmaOptions; 2]) -> Self {
        let fake = FakeNet::new(seed);
        let [here, there] = options;
        let near = Rdma::with(fake.host(NEAR, personality), here);
        let far = Rdma::with(fake.host(FAR, personality), there);
        let rig = Rig {
            dials: Arc::new(near.clone()),
            listens: Arc::new(far.clone()),
            at: "rdma://10.0.0.2:0".parse().expect("an address"),
            net: None,
            fake: Some(fake.clone()),
        };
        Self { fake, near, far, rig }
    }

    pub(crate) async fn pair(&self) -> Pair {
        Pair::up(&self.rig).await
    }

    /// Nothing of any link is left on either side, besides so many listeners.
    pub(crate) async fn nothing_left(&self, listeners: usize) {
        // Teardown takes a round trip, or its deadline.
        tokio::time::sleep(std::time::Duration::from_secs(30)).await;
        for (name, rdma, listeners) in [("near", &self.near, 0), ("far", &self.far, listeners)] {
            let used = rdma.in_use();
            assert_eq!((used.queue_pairs, used.identifiers), (0, listeners), "{name}");
            assert_eq!(used.cq_places, 0, "{name}");
            for pool in used.pools.values() {
                let out = (pool.funded, pool.slots, pool.held, pool.kept, pool.passing);
                assert_eq!(out, (0, 0, 0, 0, 0), "{name}");
            }
        }
        for (host, listeners) in [(NEAR, 0), (FAR, listeners)] {
            let counts = self.fake.counts(host);
            assert_eq!((counts.queue_pairs, counts.identifiers), (0, listeners));
            assert_eq!(counts.exports, 0);
        }
        assert_eq!(self.fake.violations(), []);
    }
}

pub(crate) fn two() -> Two {
    Two::new(7, Personality::ROCE, RdmaOptions::default())
}

/// Longer than anything takes that is not stuck.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// It comes, in virtual time.
pub(crate) async fn in_time<T>(comes: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, comes).await.expect("nothing waits for ever")
}

/// Drives one end alone.
pub(crate) async fn until_one(end: &mut End, mut done: impl FnMut(&End) -> bool) {
    std::future::poll_fn(|cx| {
        end.drive(cx);
        if done(end) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

/// The near end says that data is to come, and the far end asks for it.
pub(crate) async fn ask(pair: &mut Pair, data: &bytes::Bytes, seq: u64) {
    pair.near.send(announce(seq, data.len() as u32));
    pair.until(|pair| pair.far.frames.len() == 1).await;
    pair.far.frames.clear();
    pair.far.link().expect(lane(), Seq(seq), data.len() as u32);
    pair.far.send(pull(seq));
    pair.until(|pair| pair.near.frames.len() == 1).await;
    pair.near.frames.clear();
}

/// A message whose data is pulled, from near to far, all the way.
pub(crate) async fn pull_through(pair: &mut Pair, data: &bytes::Bytes, seq: u64) -> bytes::Bytes {
    ask(pair, data, seq).await;
    for frame in chunks_of(seq, data, 128 * 1024) {
        pair.near.send(frame);
    }
    pair.until(|pair| is_whole(&pair.far)).await;
    whole(&mut pair.far)
}

/// Whether the last that came has all the data of its message.
pub(crate) fn is_whole(end: &End) -> bool {
    let whole = |frame: &Frame<_>| matches!(frame, Frame::Chunk(chunk) if chunk.part.is_some());
    end.frames.last().is_some_and(whole)
}

/// That data.
pub(crate) fn whole(end: &mut End) -> bytes::Bytes {
    let last = end.frames.pop();
    end.frames.clear();
    match last {
        Some(Frame::Chunk(chunk)) => chunk.part.expect("the last has the data").into_data(),
        other => panic!("not a chunk: {other:?}"),
    }
}

/// Chunks of data that is not copied.
pub(crate) fn chunks_of(
    seq: u64,
    data: &bytes::Bytes,
    piece: usize,
) -> Vec<Frame<stellate_protocol::Parcel>> {
    let mut frames = chunks(seq, data, piece);
    let front = bytes::Bytes::from_static(b"front");
    let part = stellate_protocol::Parcel::new(7, 1, 1, front, data.clone());
    for frame in &mut frames {
        if let Frame::Chunk(chunk) = frame {
            chunk.part = Some(part.clone());
        }
    }
    frames
}
