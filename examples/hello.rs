//! Two messengers in one process: one greets, the other answers.
//!
//! `cargo run --example hello`

use stellate::prelude::*;

#[derive(Serialize, Deserialize)]
struct Hello {
    name: String,
}

impl Message for Hello {
    const TYPE: MessageType = MessageType::new(0x0100);
    type Reply = String;
}

struct Greeter;

impl Actor for Greeter {
    type Context = Context<Self>;
}

impl Handler<Incoming<Hello>> for Greeter {
    type Result = ();

    fn handle(&mut self, hello: Incoming<Hello>, _: &mut Self::Context) {
        let answer = format!("Hello, {}! You sent {} bytes.", hello.name, hello.data.len());
        hello.reply(answer);
    }
}

#[actix::main(actix_rt)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let one = Messenger::builder(EntityName::osd(1)).bind("tcp://127.0.0.1:0").build().await?;
    one.supervise("greeter", || Greeter, Restart::default()).handle::<Hello>().start()?;
    one.ready();

    let two = Messenger::builder(EntityName::osd(2)).build().await?;
    two.ready();
    let osd = two.connect(EntityName::osd(1), one.local_addresses())?;
    let Reply { body, .. } =
        osd.request(Hello { name: "squid".into() }.with(vec![0; 1000])).await?;
    println!("{body}");

    two.shutdown().await;
    one.shutdown().await;
    Ok(())
}
