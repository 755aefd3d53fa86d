//! What a public signature or field names, a user can name with this crate alone.

use std::time::Duration;

use stellate::prelude::*;
use stellate::testing::{Mark, NodePhase, WaitError};
use stellate::{
    Backoff, Cause, Intensity, Mismatch, NameError, PolicyOffer, Promise, Stance, StopOrder,
    Strategy, Supervisor, Tree, TreeError,
};

/// As a user would keep them, each written out.
#[derive(Default)]
struct Kept {
    group: Option<Result<Tree, TreeError>>,
    waits: Option<Result<Mark, WaitError>>,
    phase: Option<NodePhase>,
    name: Option<Result<EntityName, NameError>>,
    gave_up: Option<Cause>,
    stance: Option<(Stance, PolicyOffer)>,
    promise: Option<Result<Promise, Mismatch>>,
}

#[test]
fn what_signatures_and_fields_name_can_be_named() {
    let most = Duration::from_secs(1);
    let backoff = Backoff { min: Duration::from_millis(5), max: most, reset_after: most };
    let intensity = Intensity { max: 3, within: most };
    let (strategy, stop_order) = (Strategy::OneForOne, StopOrder::OneByOne);
    let spec = Supervisor { strategy, intensity, backoff, seed: 0, stop_order };
    let short = Supervisor::one_for_one().intensity(3, most).backoff(backoff);
    assert_eq!(spec, short);

    let peer = Policy::lossless_peer();
    let kept = Kept {
        group: Some(Err(TreeError::BadName)),
        name: Some("osd".parse()),
        stance: Some((peer.stance(), peer.offer())),
        promise: Some(peer.accept(peer.offer())),
        ..Kept::default()
    };
    assert!(matches!(kept.group, Some(Err(TreeError::BadName))));
    assert_eq!(kept.name, Some(Err(NameError::NoNumber)));
    assert!(kept.stance.is_some() && kept.promise.is_some_and(|promise| promise.is_ok()));
    assert!(kept.waits.is_none() && kept.phase.is_none() && kept.gave_up.is_none());
}
