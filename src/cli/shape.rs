//! What of a drawn case is not left to its seed: options that `sim` and `replay` share.

use stellate::testing::Fabric;
use stellate::testing::drill::{Draw, Mix, NODES_MAX};

/// What a draw leaves no choice about.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Shape {
    /// How many nodes; 2 to 7, as the seed has it, if nothing is said.
    #[arg(long, value_name = "N", value_parser = parse_nodes)]
    nodes: Option<usize>,

    /// The fabric; as the seed has it, if nothing is said. `nic-roce` and `nic-iwarp` are the RDMA
    /// driver over a NIC in virtual time; one seed in eight has one of them.
    #[arg(long, value_name = "P", value_parser = parse_profile)]
    profile: Option<Fabric>,

    /// What goes wrong: calm, lossy, partitions, crashes or everything.
    #[arg(long, value_name = "F", default_value = "everything", value_parser = parse_mix)]
    faults: Mix,
}

impl Shape {
    /// Draws cases of that shape.
    pub(crate) fn draw(&self) -> Draw {
        Draw { nodes: self.nodes, fabric: self.profile, mix: self.faults }
    }
}

fn parse_nodes(text: &str) -> Result<usize, String> {
    let nodes = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    if !(2..=NODES_MAX).contains(&nodes) {
        return Err(format!("2 to {NODES_MAX} nodes"));
    }
    Ok(nodes)
}

fn parse_profile(text: &str) -> Result<Fabric, String> {
    let names: Vec<&str> = Fabric::all().map(|fabric| fabric.name()).collect();
    Fabric::by_name(text).ok_or_else(|| format!("one of {}", names.join(", ")))
}

fn parse_mix(text: &str) -> Result<Mix, String> {
    let names: Vec<&str> = Mix::ALL.iter().map(|mix| mix.name()).collect();
    Mix::by_name(text).ok_or_else(|| format!("one of {}", names.join(", ")))
}
