//! What is said of a refusal to people. Alone in its file: it listens to the logs of the whole process.
#![allow(clippy::unwrap_used)] // Helpers are outside of `#[test]` functions.

mod facade_support;

use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};

use facade_support::*;
use stellate::prelude::*;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Keeps what is logged at `info` and above, a line each.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, "{field}={value:?} ").unwrap();
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[actix_rt::test]
async fn the_reason_of_a_refusal_is_told_at_both_ends() {
    let log = Log::default();
    tracing::subscriber::set_global_default(log.clone()).unwrap();
    let mut one = Side::new(osd(1)).await;
    let mut two = Side::with(osd(2), |desk| desk.events().admission()).await;
    let there = one.messenger.connect(EntityName::osd(2), two.addresses()).unwrap();
    two.admission().await.refuse("your map is of epoch 3\n");
    assert_eq!(one.end().await.1, EndCause::AdmissionRefused);
    assert_eq!(two.end().await.1, EndCause::AdmissionRefused);
    let lines = log.0.lock().unwrap().clone();
    // The text is a peer's: its control characters do nothing to a log.
    for (peer, what) in [("osd.1", "admission refused"), ("osd.2", "the peer closes")] {
        let told = |line: &&String| {
            line.contains(r#"reason="your map is of epoch 3\n""#)
                && line.contains(&format!("peer={peer} "))
                && line.contains(what)
        };
        assert_eq!(lines.iter().filter(told).count(), 1, "{what}: {lines:#?}");
    }
    drop(there);
}
