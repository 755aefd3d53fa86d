//! The names that events stand for by number.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Most names of message types that are remembered.
pub const NAMES_MAX: usize = 4096;

/// A node, by its place in [`Names`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeNo(pub u32);

impl NodeNo {
    /// No node: the network as a whole.
    pub const NETWORK: Self = Self(u32::MAX);
}

/// Nodes in the order in which they came up, and message types by number.
#[derive(Clone, Debug, Default)]
pub struct Names {
    nodes: Vec<Arc<str>>,
    by_name: BTreeMap<Arc<str>, NodeNo>,
    types: BTreeMap<u32, Arc<str>>,
}

impl Names {
    /// The name of a node; `*` of the network.
    pub fn node(&self, number: NodeNo) -> &str {
        let index = usize::try_from(number.0).unwrap_or(usize::MAX);
        self.nodes.get(index).map_or("*", |name| name)
    }

    /// All nodes, by number.
    pub fn nodes(&self) -> &[Arc<str>] {
        &self.nodes
    }

    /// The number of a node, if it ever came up.
    pub fn find(&self, node: &str) -> Option<NodeNo> {
        self.by_name.get(node).copied()
    }

    /// What a message type is called, if an actor handles it.
    pub fn message_type(&self, number: u32) -> Option<&str> {
        self.types.get(&number).map(|name| &**name)
    }

    /// The number of a node, and whether it is new.
    pub(crate) fn enter(&mut self, node: &str) -> (NodeNo, bool) {
        if let Some(known) = self.find(node) {
            return (known, false);
        }
        let (number, name) = (NodeNo(self.nodes.len() as u32), Arc::<str>::from(node));
        self.nodes.push(name.clone());
        self.by_name.insert(name, number);
        (number, true)
    }

    pub(crate) fn enter_type(&mut self, number: u32, name: &str) {
        if self.types.len() < NAMES_MAX {
            self.types.entry(number).or_insert_with(|| name.into());
        }
    }
}
