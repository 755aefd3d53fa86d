//! The cluster map: which OSDs there are, where they listen, and how many copies there shall be.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A version of the cluster, handed out by the monitor. A higher epoch replaces a lower one whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClusterMap {
    /// Counts the changes.
    pub(crate) epoch: u64,
    /// Copies of each object, as far as there are OSDs.
    pub(crate) replicas: u32,
    /// The OSDs by number, with their addresses.
    pub(crate) osds: BTreeMap<u64, String>,
}

impl ClusterMap {
    /// Enters an OSD, or its new address; true if that changed the map.
    pub(crate) fn enter(&mut self, osd: u64, address: &str) -> bool {
        let old = self.osds.insert(osd, address.to_owned());
        let changed = old.as_deref() != Some(address);
        self.epoch += u64::from(changed);
        changed
    }

    /// What a messenger offers to its peers' admission: the epoch.
    pub(crate) fn metadata(&self) -> Vec<u8> {
        self.epoch.to_le_bytes().to_vec()
    }

    /// The epoch that a peer offered; a peer that offers none knows no map.
    pub(crate) fn epoch_of(metadata: &[u8]) -> u64 {
        metadata.try_into().map_or(0, u64::from_le_bytes)
    }
}
