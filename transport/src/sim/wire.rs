//! A simulated link: two directions, two ends.

use std::sync::Arc;
use std::task::Waker;

use super::Origin;
use super::flow::Flow;
use super::profile::Profile;
use crate::fault::LinkFault;
use crate::limits::CloseNotice;
use crate::trace::{NodeNo, SessionTag};

/// A link as a test sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// Names it in the network's methods.
    pub id: u64,
    /// The node that dialled.
    pub dialler: String,
    /// The node that accepted.
    pub acceptor: String,
    /// Frames that arrived from the dialler and from the acceptor.
    pub frames: [u64; 2],
    /// Bytes that arrived from the dialler and from the acceptor.
    pub bytes: [u64; 2],
    /// Whether the dialler and the acceptor still have it: it did not close it, nor was told that it
    /// is over. A link that is cut is open at an end that nobody tells.
    pub open: [bool; 2],
}

/// How a link ended: what came first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkEnd {
    /// The link's number.
    pub link: u64,
    /// The node that dialled.
    pub dialler: String,
    /// The node that accepted.
    pub acceptor: String,
    /// That of its last hello; [`SessionTag::NONE`] where the network cannot read one.
    pub session: SessionTag,
    /// When.
    pub tick: u64,
    /// Who closed it, for whatever reason of its own; none if the network cut it or a node crashed.
    pub by: Option<Origin>,
    /// Frames that had arrived from the dialler and from the acceptor.
    pub frames: [u64; 2],
    /// Whether the acceptor has let the dialler in, by its answer; none where the network cannot read
    /// that.
    pub accepted: Option<bool>,
}

impl LinkEnd {
    /// Whether it was a link between the two.
    pub fn is_between(&self, a: &str, b: &str) -> bool {
        let ends = (&*self.dialler, &*self.acceptor);
        ends == (a, b) || ends == (b, a)
    }
}

/// A law of the fabric that a user of a link broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// When.
    pub tick: u64,
    /// On which link.
    pub link: u64,
    /// The node that broke it.
    pub node: String,
    /// Which: underflow, overposting, speaking first, an over-long frame.
    pub fault: LinkFault,
}

/// One end.
#[derive(Debug, Default)]
pub(super) struct WireEnd {
    pub(super) waker: Option<Waker>,
    /// The link object is dropped or has reported its end.
    pub(super) gone: bool,
    /// Its user has closed it; what was submitted before is still on its way.
    pub(super) leaving: bool,
    /// Has received something.
    pub(super) heard: bool,
    /// An event that ends it for want of answers is on the agenda.
    pub(super) giving_up: bool,
}

/// A link. Direction `e` goes from end `e`; the dialler is end 0.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) nodes: [Arc<str>; 2],
    /// The same, as the trace numbers them.
    pub(super) places: [NodeNo; 2],
    /// That of its last hello.
    pub(super) session: SessionTag,
    pub(super) profile: Profile,
    pub(super) flows: [Flow; 2],
    pub(super) ends: [WireEnd; 2],
    /// The acceptor has let the dialler in.
    pub(super) accepted: bool,
    /// Cut, and nothing gets through any more.
    pub(super) dead: bool,
    /// How it ended is recorded.
    pub(super) over: bool,
}

impl Wire {
    pub(super) fn new(nodes: [Arc<str>; 2], places: [NodeNo; 2], profile: Profile) -> Self {
        Self {
            nodes,
            places,
            session: SessionTag::NONE,
            profile,
            flows: [Flow::new(&profile.limits), Flow::new(&profile.limits)],
            ends: Default::default(),
            accepted: false,
            dead: false,
            over: false,
        }
    }

    /// Whether end `end` may hand more over. A dead wire takes everything into the void, unless
    /// its end has been told.
    pub(super) fn takes(&self, end: usize) -> bool {
        let told = self.dead && self.profile.limits.close_notice == CloseNotice::Always;
        self.flows[end].has_window() && !told
    }

    pub(super) fn is_between(&self, a: &str, b: &str) -> bool {
        let [dialler, acceptor] = &self.nodes;
        (&**dialler, &**acceptor) == (a, b) || (&**dialler, &**acceptor) == (b, a)
    }

    pub(super) fn touches(&self, node: &str) -> bool {
        self.nodes.iter().any(|name| &**name == node)
    }

    pub(super) fn info(&self, id: u64) -> LinkInfo {
        let [there, back] = &self.flows;
        LinkInfo {
            id,
            dialler: self.nodes[0].to_string(),
            acceptor: self.nodes[1].to_string(),
            frames: [there.frames_arrived, back.frames_arrived],
            bytes: [there.bytes_arrived, back.bytes_arrived],
            open: [0, 1].map(|end| !self.ends[end].gone && !self.ends[end].leaving),
        }
    }

    /// Its end, now.
    pub(super) fn ended(&self, link: u64, tick: u64, by: Option<Origin>) -> LinkEnd {
        let LinkInfo { dialler, acceptor, frames, .. } = self.info(link);
        let (session, accepted) = (self.session, Some(self.accepted));
        LinkEnd { link, dialler, acceptor, session, tick, by, frames, accepted }
    }
}
