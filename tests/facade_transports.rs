//! Transports as a user of the library sets them up: options of the built-in ones, and one that is
//! handed in, with the names of `stellate::transport` alone.
#![allow(clippy::unwrap_used)] // Helpers are outside of `#[test]` functions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures::FutureExt;
use futures::future::BoxFuture;
use stellate::prelude::*;
use stellate::transport::{
    ByteCut, DialError, Link, LinkLimits, ListenError, Listener, Tcp, TcpOptions, Transport,
};

const MIB: usize = 1024 * 1024;

#[derive(Serialize, Deserialize)]
struct Text(String);

impl Message for Text {
    const TYPE: MessageType = MessageType::new(0x0331);
    type Reply = String;
}

struct Reader;

impl Actor for Reader {
    type Context = Context<Self>;
}

impl Handler<Incoming<Text>> for Reader {
    type Result = ();

    fn handle(&mut self, text: Incoming<Text>, _: &mut Self::Context) {
        let (text, _, answer) = text.into_parts();
        answer.reply(text.0);
    }
}

async fn node(
    number: u64,
    builder: impl FnOnce(MessengerBuilder) -> MessengerBuilder,
) -> Messenger {
    let messenger = builder(Messenger::builder(EntityName::osd(number))).build().await.unwrap();
    messenger.supervise("reader", || Reader, Restart::default()).handle::<Text>().start().unwrap();
    messenger.ready();
    messenger
}

/// The options are used, and what a peer may send is the limits' all the same.
#[actix_rt::test]
async fn options_of_tcp_are_the_links_and_need_not_repeat_the_limits() {
    let limits = Limits { front_max: 3 * MIB as u32, ..Limits::default() };
    let cut = ByteCut::disarmed();
    let options = TcpOptions { cut: Some(cut.clone()), ..TcpOptions::default() };
    let two = node(2, |builder| builder.limits(limits).bind("tcp://127.0.0.1:0")).await;
    let one = node(1, |builder| builder.tcp(options).limits(limits)).await;
    let there = one.connect(EntityName::osd(2), two.local_addresses()).unwrap();
    // Longer than by default, there and back: refused, it would end the link each time.
    let text = "x".repeat(2 * MIB);
    assert!(there.request(Text(text.clone())).await.unwrap().body == text);
    assert_eq!(there.counters().links_lost, 0);
    cut.arm(1000);
    assert!(there.request(Text(text.clone())).await.unwrap().body == text);
    assert_eq!(there.counters().links_lost, 1, "its links are cut as the options say");
    one.shutdown().await;
    two.shutdown().await;
}

/// TCP by another name, with the dials counted.
struct Own {
    tcp: Tcp,
    dials: Arc<AtomicU32>,
}

fn over(scheme: &str, address: &Address) -> Address {
    let text = address.to_string();
    let (_, rest) = text.split_once("://").unwrap();
    format!("{scheme}://{rest}").parse().unwrap()
}

impl Transport for Own {
    fn scheme(&self) -> &'static str {
        "own"
    }

    fn limits(&self) -> &LinkLimits {
        self.tcp.limits()
    }

    fn dial(&self, to: &Address) -> BoxFuture<'static, Result<Box<dyn Link>, DialError>> {
        self.dials.fetch_add(1, Ordering::Relaxed);
        self.tcp.dial(&over("tcp", to)).boxed()
    }

    fn listen(&self, at: &Address) -> Result<Box<dyn Listener>, ListenError> {
        self.tcp.listen(&over("tcp", at))
    }
}

#[actix_rt::test]
async fn a_transport_of_ones_own_is_handed_in() {
    let dials = Arc::new(AtomicU32::new(0));
    let own = || Arc::new(Own { tcp: Tcp::new(), dials: dials.clone() });
    let two = node(2, |builder| builder.transport(own()).bind("own://127.0.0.1:0")).await;
    let one = node(1, |builder| builder.transport(own())).await;
    let at = over("own", &two.local_addresses()[0]);
    let there = one.connect(EntityName::osd(2), at).unwrap();
    assert_eq!(there.request(Text("here".into())).await.unwrap().body, "here");
    assert_eq!(dials.load(Ordering::Relaxed), 1);
    one.shutdown().await;
    two.shutdown().await;
}
