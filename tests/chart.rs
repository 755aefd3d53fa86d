//! The chart of a run: one file that needs nothing else, whatever the trace says. That it is drawn,
//! filtered and clicked as it should be is looked at in a real browser, by `.ci/chart`.
#![allow(clippy::unwrap_used)] // Helpers are outside of `#[test]` functions.

use std::path::PathBuf;
use std::time::Duration;

use stellate::prelude::*;
use stellate::testing::trace::{SessionTag, Tape, What};
use stellate::testing::{
    Action, BootError, Breach, Chart, Cluster, NodeHandle, Outcome, Running, Script,
};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Write(u64);

impl Message for Write {
    const TYPE: MessageType = MessageType::new(0x0301);
    type Reply = u64;
}

struct Store;

impl Actor for Store {
    type Context = Context<Self>;
}

impl Handler<Incoming<Write>> for Store {
    type Result = ();

    fn handle(&mut self, write: Incoming<Write>, _: &mut Self::Context) {
        let n = write.0;
        write.reply(n);
    }
}

async fn boot(node: NodeHandle) -> Result<(), BootError> {
    let limits = Limits { backoff_max: Duration::from_millis(200), ..Limits::default() };
    let messenger = node.messenger().limits(limits).build().await?;
    messenger.supervise("store", || Store, Restart::default()).handle::<Write>().start()?;
    messenger.ready();
    Ok(())
}

fn name(number: u64) -> EntityName {
    EntityName::osd(number)
}

/// Every node writes to the next ones, of all classes, over and over.
async fn talk(cluster: Running, nodes: u64, rounds: u64, pause: Duration) {
    for round in 0..rounds {
        for from in 1..=nodes {
            let (Some(node), Some(messenger)) =
                (cluster.node(name(from)), cluster.messenger(name(from)))
            else {
                continue;
            };
            let to = name(from % nodes + 1);
            let Ok(peer) = messenger.connect(to, node.address_of(to)) else { continue };
            let class = Class::ALL[(round % 4) as usize];
            let data = vec![0; if round % 16 == 3 { 100_000 } else { 200 }];
            cluster.spawn_on(name(from), async move {
                // A peer that crashed meanwhile: that is what the chart shows.
                let _ = peer.request(Write(round).with(data).class(class)).await;
            });
        }
        cluster.sleep(pause).await;
    }
}

fn storm(nodes: u64, rounds: u64, record: usize, pause: Duration) -> Outcome {
    let ms = Duration::from_millis;
    let script = Script::new()
        .at(ms(60), Action::Cut { a: name(1), b: name(2) })
        .at(ms(90), Action::CutAfterBytes { from: name(3), to: name(1), bytes: 700 })
        .at(ms(120), Action::OneWay { from: name(2), to: name(3), lasts: ms(70) })
        .at(ms(150), Action::Stall { from: name(3), to: name(1), lasts: ms(30) })
        .at(ms(260), Action::Crash { node: name(2), down: ms(80) })
        .at(ms(420), Action::Panic { node: name(3), actor: "store".into() });
    let cluster = (1..=nodes).fold(Cluster::new(11), |cluster, n| cluster.node(name(n), boot));
    cluster.script(script).record(record).run(async move |cluster: Running| {
        talk(cluster.clone(), nodes, rounds, pause).await;
        let evil = "<img src=x onerror=alert(1)> </script> {{JS}} \u{2028} &amp;";
        let scribe = cluster.net().scribe("osd.1");
        scribe.tell(SessionTag::NONE, What::Note(evil.into()));
        cluster.fail(Breach::new("S2", "write 17 of osd.1 was lost"));
    })
}

fn page(tape: &Tape, title: &str) -> String {
    let mut page = Vec::new();
    Chart::of(tape).title(title).fact("seed", 11).write(&mut page).unwrap();
    String::from_utf8(page).unwrap()
}

fn save(name: &str, text: &str) {
    let place = std::env::var_os("STELLATE_CHARTS");
    let place = place.map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    std::fs::write(place.join(name), text).unwrap();
}

#[test]
fn a_chart_is_one_file_and_says_nothing_that_is_markup() {
    let tape = storm(3, 40, 100_000, Duration::from_millis(12)).tape.unwrap();
    let text = page(&tape, "a <b>title</b> {{DATA}} &");
    assert!(text.contains("<title>a &lt;b&gt;title&lt;/b&gt; {{DATA}} &amp;</title>"));
    assert!(!text.contains("<img"), "what a trace says is escaped");
    assert_eq!(text.matches("</script>").count(), 2, "the data and the scripts");
    for outside in ["http:", "https:", "src=\"", "href=\"", "@import", "url("] {
        assert!(!text.contains(outside), "{outside} would load something");
    }
    assert!(text.contains("default-src 'none'"));
    assert!(tape.events.iter().any(|event| matches!(event.what, What::Lost(_))));
    save("storm.html", &page(&tape, "storm: 3 nodes, seed 11"));
}

#[test]
fn a_tape_without_events_is_a_page_too() {
    let text = page(&Tape::default(), "nothing");
    assert!(text.contains("\"count\":0"));
    save("empty.html", &text);
}

/// For `.ci/chart`: as many events as a tape can hold, over 50 nodes.
#[test]
#[ignore = "a million events take their time"]
fn a_chart_of_a_million_events_is_of_a_size_to_open() {
    let max = stellate::testing::trace::TAPE_EVENTS_MAX;
    let tape = storm(50, 6_000, max, Duration::from_millis(4)).tape.unwrap();
    assert!(tape.events.len() >= 1_000_000, "{}", tape.events.len());
    let text = page(&tape, "a million events, 50 nodes");
    assert!(text.len() < 64 << 20, "{} MiB", text.len() >> 20);
    save("million.html", &text);
}
