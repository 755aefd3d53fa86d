//! Policies as data, and what two of them promise together.
//!
//! A pair is one client and one server, or two peers. Everything else is a configuration error on
//! one side, and is refused in words rather than guessed into half a promise.

use crate::frame::{PolicyOffer, Stance};

/// How one side behaves towards a kind of peer. Use a preset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    name: &'static str,
    stance: Stance,
    lossy: bool,
    by_name: bool,
}

impl Policy {
    /// Dials until it was up once; the session ends with its link. In order, at most once.
    pub const fn lossy_client() -> Self {
        Self { name: "lossy_client", stance: Stance::Client, lossy: true, by_name: true }
    }

    /// Never dials, looks nobody up by name; the session ends with its link.
    pub const fn stateless_server() -> Self {
        Self { name: "stateless_server", stance: Stance::Server, lossy: true, by_name: false }
    }

    /// Dials always and replays. In order, exactly once while both instances live.
    pub const fn lossless_client() -> Self {
        Self { name: "lossless_client", stance: Stance::Client, lossy: false, by_name: true }
    }

    /// Never dials; keeps the session without a link for at most `standby_max`.
    pub const fn stateful_server() -> Self {
        Self { name: "stateful_server", stance: Stance::Server, lossy: false, by_name: true }
    }

    /// Either side dials when it has something to say; races resolve to one link (S5).
    pub const fn lossless_peer() -> Self {
        Self { name: "lossless_peer", stance: Stance::Peer, lossy: false, by_name: true }
    }

    /// The five presets.
    pub const PRESETS: [Self; 5] = [
        Self::lossy_client(),
        Self::stateless_server(),
        Self::lossless_client(),
        Self::stateful_server(),
        Self::lossless_peer(),
    ];

    /// The preset's name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Which part this side plays.
    pub const fn stance(&self) -> Stance {
        self.stance
    }

    /// Whether the session ends with its link.
    pub const fn is_lossy(&self) -> bool {
        self.lossy
    }

    /// Whether this side may dial.
    pub const fn dials(&self) -> bool {
        !matches!(self.stance, Stance::Server)
    }

    /// Whether a peer's earlier sessions are looked up by its name.
    pub const fn looks_up_names(&self) -> bool {
        self.by_name
    }

    /// Whether a fresh session follows by itself when the peer restarted.
    pub const fn goes_on(&self) -> bool {
        !self.lossy && self.dials()
    }

    /// What the other side is told.
    pub const fn offer(&self) -> PolicyOffer {
        PolicyOffer { lossy: self.lossy, stance: self.stance }
    }

    /// The promise that this side, dialled by `dialler`, makes with it.
    ///
    /// # Errors
    /// [`Mismatch`] unless one is a client and the other a server, or both are peers.
    pub const fn accept(&self, dialler: PolicyOffer) -> Result<Promise, Mismatch> {
        match (dialler.stance, self.stance) {
            (Stance::Client, Stance::Server) | (Stance::Peer, Stance::Peer) => {
                Ok(Promise { lossy: dialler.lossy || self.lossy })
            }
            _ => Err(Mismatch { dialler: dialler.stance, acceptor: self.stance }),
        }
    }
}

/// What a pair of policies promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Promise {
    /// At most once, ends with the link; otherwise exactly once while both instances live.
    pub lossy: bool,
}

/// Two policies that make no promise together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mismatch {
    /// The dialler's part.
    pub dialler: Stance,
    /// The acceptor's part.
    pub acceptor: Stance,
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "a {:?} dialled a {:?}: a pair is a client and a server, or two peers",
            self.dialler, self.acceptor
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each cell of the 5 × 5 table of PROTOCOL.md: rows dial, columns accept.
    #[test]
    fn five_by_five() {
        let (lossy, lossless, refused) = (Some(true), Some(false), None);
        let table = [
            // lossy_client, stateless_server, lossless_client, stateful_server, lossless_peer
            [refused, lossy, refused, lossy, refused],
            [refused, refused, refused, refused, refused],
            [refused, lossy, refused, lossless, refused],
            [refused, refused, refused, refused, refused],
            [refused, refused, refused, refused, lossless],
        ];
        for (dialler, row) in Policy::PRESETS.iter().zip(table) {
            for (acceptor, cell) in Policy::PRESETS.iter().zip(row) {
                let promise = acceptor.accept(dialler.offer()).ok().map(|promise| promise.lossy);
                assert_eq!(promise, cell, "{} dials {}", dialler.name(), acceptor.name());
            }
        }
    }
}
