//! `stellate explain`: what is built in, and what its limits add up to.

#[path = "explain/pairs.rs"]
mod pairs;
#[path = "explain/rdma.rs"]
mod rdma;

use serde_json::{Value, json};
use stellate::{Class, Limits};
use stellate_protocol::Lane;
use stellate_protocol::limits::WINDOW_COST_DATA_MAX;
use stellate_transport::rdma::RdmaOptions;
use stellate_transport::{LinkLimits, Local, SimNet, Tcp, Transport};

use self::pairs::pairs;
use super::report::{Ended, print_json};

/// What `explain` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// A transport, and what it is for.
struct Known {
    scheme: &'static str,
    purpose: &'static str,
    limits: LinkLimits,
}

fn known() -> Vec<Known> {
    let tcp = Tcp::new();
    let local = Local::new();
    let sim = SimNet::new(0);
    let sim = sim.transport("explain");
    vec![
        Known { scheme: tcp.scheme(), purpose: "production", limits: *tcp.limits() },
        Known {
            scheme: local.scheme(),
            purpose: "a messenger that connects to its own name",
            limits: *local.limits(),
        },
        #[cfg(feature = "rdma")]
        Known {
            scheme: "rdma",
            purpose: "production, over verbs queue pairs: InfiniBand, RoCE, iWARP",
            limits: RdmaOptions::default().limits(),
        },
        #[cfg(feature = "rsockets")]
        Known {
            scheme: "rsocket",
            purpose: "TCP's framing over RDMA devices",
            limits: LinkLimits::STREAM,
        },
        Known {
            scheme: sim.scheme(),
            purpose: "clusters in virtual time, for tests",
            limits: *sim.limits(),
        },
    ]
}

/// What is not built in, and the feature that gives it.
fn missing() -> Vec<Value> {
    let features = [
        ("rdma", "rdma", cfg!(feature = "rdma")),
        ("rsocket", "rsockets", cfg!(feature = "rsockets")),
    ];
    let missing = features.into_iter().filter(|(.., built_in)| !built_in);
    missing.map(|(scheme, feature, _)| json!({ "scheme": scheme, "feature": feature })).collect()
}

fn document() -> Value {
    let limits = Limits::default();
    let transports: Vec<Value> = known().iter().map(|known| transport(known, &limits)).collect();
    json!({
        "transports": transports,
        "not_built_in": missing(),
        "memory": memory(&limits),
        "limits": all(&limits),
        "rdma": rdma::section(&limits),
    })
}

/// Runs `explain`.
pub(crate) fn run(_: &Args, as_json: bool) -> Ended {
    let document = document();
    if as_json {
        print_json(&document);
    } else {
        print!("{}", text(&document));
    }
    Ok(true)
}

/// The limits record of a transport, and which size goes which way over it.
fn transport(known: &Known, limits: &Limits) -> Value {
    let link = &known.limits;
    let eager = limits.slot_bytes.min(link.slot_bytes);
    json!({
        "scheme": known.scheme,
        "purpose": known.purpose,
        "limits": {
            "boundary": format!("{:?}", link.boundary),
            "slot_bytes": link.slot_bytes,
            "chunk_bytes": link.chunk_bytes,
            "recv_slots": link.recv_slots,
            "send_bytes": link.send_bytes,
            "gather_max": link.gather_max,
            "pull_sink_max": link.pull_sink_max,
            "underflow": format!("{:?}", link.underflow),
            "first_speaker": format!("{:?}", link.first_speaker),
            "greeting_max": link.greeting_max,
            "close_notice": format!("{:?}", link.close_notice),
            "ordered": link.ordered,
            "readiness": format!("{:?}", link.readiness),
        },
        "thresholds": {
            "eager_bytes_max": eager,
            "pulled_in_chunks_of": limits.chunk_bytes.min(link.chunk_bytes),
            "data_bytes_max": limits.data_max,
            "front_bytes_max": limits.front_max,
        },
        "sizes": [
            { "upto": eager, "way": "eager: in one frame with its front" },
            { "upto": limits.data_max, "way": "announced, then pulled in chunks: never ahead of its memory" },
            { "upto": null, "way": "refused as TooLarge by send" },
        ],
    })
}

/// The formula with its numbers; what it adds up to is the library's own answer.
fn memory(limits: &Limits) -> Value {
    let message = u64::from(limits.front_max) + u64::from(limits.data_max);
    let eager = u64::from(limits.front_max) + u64::from(WINDOW_COST_DATA_MAX);
    let window = Class::COUNT as u64 * (limits.window_bytes + eager);
    let pulled = Lane::COUNT as u64 * (limits.pull_bytes + u64::from(limits.data_max));
    let pool = RdmaOptions::default().pool;
    json!({
        "formula": [
            "session = out + window + pulled + asked + replies",
            "out     = outbox_bytes x 17/16 + one message (front_max + data_max)",
            "window  = classes x (window_bytes + one eager message (front_max + window_cost_data_max))",
            "pulled  = lanes x (pull_bytes + one body (data_max))",
            "asked   = classes x requests_bytes",
            "replies = replies_bytes + one reply for each handler that is open (here one)",
            "messenger = user_held for each transport + sessions x session + registered",
            "registered = RDMA devices x (slots_max + kept_max + passing_max); user_held is in slots_max",
        ],
        "classes": Class::COUNT,
        "lanes": Lane::COUNT,
        "out": limits.outbox_bytes + limits.outbox_bytes / 16 + message,
        "window": window,
        "pulled": pulled,
        "asked": Class::COUNT as u64 * limits.requests_bytes,
        "replies": limits.replies_bytes + message,
        "session_bytes_max": limits.session_bytes_max(),
        "sessions_max": limits.sessions_max,
        "user_held": limits.user_held,
        "registered_per_device": pool.slots_max + pool.kept_max + pool.passing_max,
    })
}

/// Every limit that can be set, by its name.
fn all(limits: &Limits) -> Value {
    let seconds = |time: std::time::Duration| time.as_secs_f64();
    json!({
        "heartbeat_every_s": seconds(limits.heartbeat_every),
        "heartbeat_deadline_s": seconds(limits.heartbeat_deadline),
        "hello_timeout_s": seconds(limits.hello_timeout),
        "backoff_min_s": seconds(limits.backoff_min),
        "backoff_max_s": seconds(limits.backoff_max),
        "race_wait_s": seconds(limits.race_wait),
        "probe_s": seconds(limits.probe),
        "standby_max_s": seconds(limits.standby_max),
        "hold_max_s": seconds(limits.hold_max),
        "drain_max_s": seconds(limits.drain_max),
        "ack_delay_s": seconds(limits.ack_delay),
        "outbox_messages": limits.outbox_messages,
        "outbox_bytes": limits.outbox_bytes,
        "window_messages": limits.window_messages,
        "window_bytes": limits.window_bytes,
        "pull_bytes": limits.pull_bytes,
        "replies_bytes": limits.replies_bytes,
        "requests_max": limits.requests_max,
        "requests_bytes": limits.requests_bytes,
        "front_max": limits.front_max,
        "data_max": limits.data_max,
        "slot_bytes": limits.slot_bytes,
        "chunk_bytes": limits.chunk_bytes,
        "inbox_messages": limits.inbox_messages,
        "inbox_drain": limits.inbox_drain,
        "handshakes_max": limits.handshakes_max,
        "sessions_max": limits.sessions_max,
        "user_held": limits.user_held,
        "events_max": limits.events_max,
        "events_bytes": limits.events_bytes,
    })
}

/// The same for people.
fn text(document: &Value) -> String {
    let mut text = String::new();
    let empty = Vec::new();
    for transport in document["transports"].as_array().unwrap_or(&empty) {
        let scheme = transport["scheme"].as_str().unwrap_or_default();
        let purpose = transport["purpose"].as_str().unwrap_or_default();
        text.push_str(&format!("{scheme}://  {purpose}\n"));
        pairs(&mut text, &transport["limits"]);
        let mut from = String::from("0 B");
        for size in transport["sizes"].as_array().unwrap_or(&empty) {
            let way = size["way"].as_str().unwrap_or_default();
            match size["upto"].as_u64() {
                Some(upto) => {
                    text.push_str(&format!("  {from} to {}: {way}\n", bytes(upto)));
                    from = bytes(upto);
                }
                None => text.push_str(&format!("  above {from}: {way}\n")),
            }
        }
        text.push('\n');
    }
    for missing in document["not_built_in"].as_array().unwrap_or(&empty) {
        let scheme = missing["scheme"].as_str().unwrap_or_default();
        let feature = missing["feature"].as_str().unwrap_or_default();
        text.push_str(&format!("{scheme}://  not built in: it is with the feature {feature}\n\n"));
    }
    let memory = &document["memory"];
    text.push_str("memory of one session, at most\n");
    for line in memory["formula"].as_array().unwrap_or(&empty) {
        text.push_str(&format!("  {}\n", line.as_str().unwrap_or_default()));
    }
    for name in [
        "out",
        "window",
        "pulled",
        "asked",
        "replies",
        "session_bytes_max",
        "registered_per_device",
    ] {
        let value = memory[name].as_u64().unwrap_or_default();
        text.push_str(&format!("  {name:<22} {:>12}\n", bytes(value)));
    }
    text.push('\n');
    text.push_str(&rdma::text(&document["rdma"]));
    text.push_str("\nlimits, all of which can be set\n");
    pairs(&mut text, &document["limits"]);
    text
}

fn bytes(bytes: u64) -> String {
    const KIB: u64 = 1024;
    const MIB: u64 = KIB * 1024;
    match bytes {
        0..KIB => format!("{bytes} B"),
        KIB..MIB => format!("{} KiB", bytes.div_ceil(KIB)),
        _ => format!("{} MiB", bytes.div_ceil(MIB)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_add_up_to_what_the_library_says() {
        let memory = memory(&Limits::default());
        let parts: u64 = ["out", "window", "pulled", "asked", "replies"]
            .iter()
            .map(|part| memory[*part].as_u64().unwrap())
            .sum();
        assert_eq!(memory["session_bytes_max"].as_u64(), Some(parts));
    }

    #[test]
    fn the_text_names_every_transport_and_the_feature_of_what_is_not_built_in() {
        let text = text(&document());
        for scheme in ["tcp://", "local://", "sim://"] {
            assert!(text.contains(scheme), "{text}");
        }
        for (scheme, feature, built_in) in [
            ("rdma://", "rdma", cfg!(feature = "rdma")),
            ("rsocket://", "rsockets", cfg!(feature = "rsockets")),
        ] {
            let missing = format!("{scheme}  not built in: it is with the feature {feature}\n");
            assert!(text.contains(scheme), "{text}");
            assert_eq!(text.contains(&missing), !built_in, "{text}");
        }
        assert!(text.contains("registered_per_device"), "S7: {text}");
        assert!(text.contains("session_bytes_max"));
        let per_link = RdmaOptions::default().bytes_per_link().to_string();
        assert!(text.contains(&per_link) && text.contains("RDMA devices"), "{text}");
    }
}
