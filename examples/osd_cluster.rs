//! Three OSDs, a monitor and a client in one process over TCP: objects are stored while a link is
//! cut and an actor panics, and read back from every replica.
//!
//! `cargo run --example osd_cluster`

mod osd;

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use osd::client::Client;
use osd::daemon::{self, MONITOR};
use osd::messages::Got;
use osd::placement;
use stellate::prelude::Bytes;

const OBJECTS: usize = 200;

#[actix::main(actix_rt)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let home = tempfile::tempdir()?;
    let cluster = daemon::blueprint(3, 3, None).deploy(home.path()).start().await?;
    let monitor = cluster.address_of(MONITOR).ok_or("the monitor listens nowhere")?;
    let client = Client::start(&monitor).await?;
    client.wait_for(3).await;
    println!("map epoch {}: {:?}", client.map().epoch, client.map().osds);

    let writes = stream::iter(0..OBJECTS)
        .map(|n| client.put(format!("object-{n}"), Bytes::from(vec![n as u8; n * 100])))
        .buffer_unordered(16)
        .try_for_each(|()| async { Ok(()) });
    let trouble = async {
        client.panic_at(1, false).await?;
        client.cut_at(0, Duration::from_secs(1)).await
    };
    let (written, cuts) = futures::join!(writes, trouble);
    written?;
    for cut in cuts? {
        println!("cut {} - {} with {} messages unacknowledged", cut.from, cut.to, cut.unacked);
    }

    let mut copies = 0;
    for n in 0..OBJECTS {
        let (name, data) = (format!("object-{n}"), vec![n as u8; n * 100]);
        for osd in placement::replicas(&client.map(), &name) {
            let (got, bytes) = client.get(osd, &name).await?;
            assert!(
                matches!(got, Got::Found { .. }) && bytes == data,
                "{name} on osd.{osd}: {got:?}"
            );
            copies += 1;
        }
    }
    println!("{OBJECTS} objects stored, {copies} copies read back and compared");

    client.stop().await;
    cluster.stop().await;
    Ok(())
}
