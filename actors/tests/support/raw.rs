//! A peer that is no node: a socket and the codec, to say right things and wrong ones.

use bytes::{Bytes, BytesMut};
use stellate_protocol::codec::{Decoder, First, Outbound, WireLimits, encode};
use stellate_protocol::frame::{
    Answer, Call, Hello, LaneState, Message, Opening, PolicyOffer, Terms, Verdict,
};
use stellate_protocol::policy::Policy;
use stellate_protocol::{
    Attempt, Class, EntityName, Frame, Identity, Instance, Lane, Parcel, Seq, SessionId,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{TestNode, within};

pub(crate) struct Raw {
    stream: TcpStream,
    decoder: Decoder,
    input: BytesMut,
}

/// The socket address of a node's first listener.
pub(crate) fn at(node: &TestNode) -> String {
    let address = node.node.local_addresses()[0].to_string();
    address.trim_start_matches("tcp://").to_owned()
}

impl Raw {
    pub(crate) async fn dial(to: &str) -> Self {
        let stream = within("a connect", TcpStream::connect(to)).await;
        Self::over(stream.expect("connects"), First::Answer)
    }

    pub(crate) async fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = within("a dial", listener.accept()).await.expect("accepts");
        Self::over(stream, First::Hello)
    }

    fn over(stream: TcpStream, first: First) -> Self {
        Self { stream, decoder: Decoder::new(WireLimits::default(), first), input: BytesMut::new() }
    }

    pub(crate) async fn say(&mut self, bytes: &[u8]) {
        // A peer that has had enough may have gone: what matters is what it does.
        let _ = self.stream.write_all(bytes).await;
    }

    pub(crate) async fn send(&mut self, frame: &Frame<Parcel>) {
        self.say(&wire(frame)).await;
    }

    /// The next frame; `None` when the other side has closed.
    pub(crate) async fn receive(&mut self) -> Option<Frame<Parcel>> {
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.input).expect("frames") {
                return Some(frame);
            }
            let read = within("a frame", self.stream.read_buf(&mut self.input)).await;
            if !matches!(read, Ok(1..)) {
                return None;
            }
        }
    }

    /// Reads until the other side closes.
    pub(crate) async fn closed(&mut self) {
        while self.receive().await.is_some() {}
    }

    /// As [`closed`](Self::closed), whatever the other side says.
    pub(crate) async fn dropped(&mut self) {
        let mut waste = [0; 4096];
        while let Ok(1..) = within("a close", self.stream.read(&mut waste)).await {}
    }

    pub(crate) async fn answer(&mut self) -> Answer {
        match self.receive().await {
            Some(Frame::Answer(answer)) => *answer,
            other => panic!("an answer, not {other:?}"),
        }
    }

    /// Greets as `hello` and expects to be let in.
    pub(crate) async fn greet(to: &str, hello: Hello) -> Self {
        let mut raw = Self::dial(to).await;
        raw.send(&Frame::Hello(Box::new(hello))).await;
        let answer = raw.answer().await;
        assert!(matches!(answer.verdict, Verdict::Accepted { .. }), "{answer:?}");
        raw
    }
}

/// The bytes of a frame.
pub(crate) fn wire(frame: &Frame<Parcel>) -> Vec<u8> {
    let mut out = Outbound::new();
    encode(frame, &mut out).expect("encodes");
    let mut slices = [std::io::IoSlice::new(&[]); 16];
    let filled = out.io_slices(&mut slices);
    slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect()
}

pub(crate) fn who(name: EntityName, instance: u128) -> Identity {
    Identity { name, role: None, instance: Instance(instance), incarnation: None }
}

pub(crate) fn hello(from: Identity, target: EntityName, session: u128, attempt: u64) -> Hello {
    Hello {
        from,
        target,
        session: SessionId(session),
        attempt: Attempt(attempt),
        established: false,
        insist: false,
        policy: Policy::lossless_peer().offer(),
        opening: opening(),
    }
}

pub(crate) fn offering(mut hello: Hello, policy: PolicyOffer) -> Hello {
    hello.policy = policy;
    hello
}

pub(crate) fn opening() -> Opening {
    let lane = LaneState { received: Seq(0), window: Seq(1024), window_bytes: 4 << 20 };
    Opening {
        terms: Terms {
            front_max: 64 * 1024,
            data_max: 1 << 20,
            slot_bytes: 8192,
            slots: None,
            requests_max: 64,
        },
        lanes: [lane; Lane::COUNT],
        held: false,
        features: Vec::new(),
        metadata: Bytes::new(),
        auth: Bytes::new(),
    }
}

pub(crate) fn accepting(from: Identity, hello: &Hello) -> Frame<Parcel> {
    Frame::Answer(Box::new(Answer {
        from,
        session: hello.session,
        attempt: hello.attempt,
        latest: Attempt(0),
        resume: hello.established,
        verdict: Verdict::Accepted { lossy: false, opening: opening() },
    }))
}

pub(crate) fn message(class: Class, seq: u64, payload: Parcel) -> Frame<Parcel> {
    Frame::Message(Message {
        lane: Lane::messages(class),
        seq: Seq(seq),
        call: Call::OneWay,
        payload,
    })
}
