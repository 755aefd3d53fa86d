//! The RDMA part of `explain`: what devices there are, and what a link costs.

use serde_json::{Value, json};
use stellate::Limits;
use stellate_transport::rdma::RdmaOptions;
use stellate_transport::rdma::verbs::DeviceInfo;

use super::pairs::pairs;

/// Devices, thresholds and memory, with the options that are built in.
pub(super) fn section(limits: &Limits) -> Value {
    let options = RdmaOptions::default();
    let pool = options.pool;
    let user_held = usize::try_from(limits.user_held).unwrap_or(usize::MAX);
    let held = pool.held(user_held);
    let rings = pool.slots_max.saturating_sub(held) as u64;
    let mut section = json!({
        "built_in": cfg!(feature = "rdma"),
        "devices": [],
        "per_link": {
            "ring": options.ring,
            "sends": options.sends,
            "reads": options.reads,
            "slot_bytes": pool.slot,
            "inline_bytes_asked": options.inline_max,
            "rnr_timer": options.rnr_timer,
            "rnr_retry_count": options.rnr_retry_count,
            "retry_count": options.retry_count,
            "formula": "(ring + sends + 1) x slot",
            "registered_bytes": options.bytes_per_link(),
        },
        "per_device": {
            "slots_bytes_max": pool.slots_max,
            "held_bytes_max": held,
            "kept_bytes_max": pool.kept_max,
            "passing_bytes_max": pool.passing_max,
            "offers_bytes_max": pool.passing_max / 2,
            // Of blocks half full.
            "links_to_dead_peers_before_copies_wait": pool.passing_max / 4 / options.send_bytes.max(1),
            "arena_bytes": pool.arena,
            "cq_depth": options.cq_depth,
            "links_max_by_memory": rings / options.bytes_per_link().max(1),
        },
    });
    match devices() {
        Ok(devices) => section["devices"] = devices.iter().map(device).collect(),
        Err(why) => section["why_no_devices"] = why.into(),
    }
    section
}

#[cfg(feature = "rdma")]
fn devices() -> Result<Vec<DeviceInfo>, String> {
    use stellate_transport::rdma::{Rdma, sys::System};
    let rdma = Rdma::on(std::sync::Arc::new(System::new()));
    rdma.devices().map_err(|error| error.to_string())
}

#[cfg(not(feature = "rdma"))]
fn devices() -> Result<Vec<DeviceInfo>, String> {
    Err("built without the feature rdma; \
         `cargo run --release --features cli,rdma --bin stellate -- explain` looks for them"
        .to_owned())
}

fn device(device: &DeviceInfo) -> Value {
    json!({
        "name": device.name,
        "fabric": device.fabric.to_string(),
        "port": format!("{:?}", device.port),
        "queue_pairs_max": device.qp_max,
        "queue_depth_max": device.qp_depth_max,
        "cq_max": device.cq_max,
        "cq_depth_max": device.cq_depth_max,
        "segments_max": device.segments_max,
        "read_segments_max": device.read_segments_max,
        "reads_in_max": device.reads_in_max,
        "reads_out_max": device.reads_out_max,
        "greeting_bytes_max": device.greeting_max,
    })
}

/// The same for people.
pub(super) fn text(section: &Value) -> String {
    let mut text = String::from("RDMA devices\n");
    match section["why_no_devices"].as_str() {
        Some(why) => text.push_str(&format!("  none: {why}\n")),
        None => {
            for device in section["devices"].as_array().into_iter().flatten() {
                text.push_str(&format!("  {}\n", device["name"].as_str().unwrap_or_default()));
                pairs(&mut text, device);
            }
        }
    }
    text.push_str("  each link\n");
    pairs(&mut text, &section["per_link"]);
    text.push_str("  each device\n");
    pairs(&mut text, &section["per_device"]);
    text
}
