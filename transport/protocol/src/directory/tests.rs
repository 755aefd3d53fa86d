use super::*;
use crate::class::Lane;
use crate::frame::{LaneState, Opening, Terms};
use crate::id::EntityKind;

const OLD: SessionKey = SessionKey(1);
const NEW: SessionKey = SessionKey(2);

fn identity(name: EntityName, instance: u128) -> Identity {
    Identity { name, role: None, instance: Instance(instance), incarnation: None }
}

/// A lossless peer's first hello to `osd.1`.
pub(super) fn hello(name: EntityName, instance: u128, session: u128, attempt: u64) -> Hello {
    let terms = Terms { front_max: 1, data_max: 1, slot_bytes: 1, slots: None, requests_max: 1 };
    Hello {
        from: identity(name, instance),
        target: EntityName::osd(1),
        session: SessionId(session),
        attempt: Attempt(attempt),
        established: false,
        insist: false,
        policy: Policy::lossless_peer().offer(),
        opening: Opening {
            terms,
            lanes: [LaneState::default(); Lane::COUNT],
            held: false,
            features: Vec::new(),
            metadata: bytes::Bytes::new(),
            auth: bytes::Bytes::new(),
        },
    }
}

/// Where a hello goes at `osd.1`.
pub(super) fn route(directory: &Directory, hello: &Hello, policy: Policy) -> Route {
    directory.route(hello, &identity(EntityName::osd(1), 99), &policy)
}

const NEWBORN: Route = Route::Birth { notices: Vec::new() };

/// `connect` to one's own name finds the half that dialled, also once the other half is born.
#[test]
fn a_session_with_oneself_is_found_by_the_half_that_dialled() {
    let me = EntityName::osd(1);
    let (dialled, accepted) = (SessionKey(1), SessionKey(2));
    let mut directory = Directory::new();
    directory.dialled(dialled, me, SessionId(7), true);
    let entry = Entry { loops: false, ..directory.entries[&dialled].clone() };
    directory.insert(accepted, entry);
    assert_eq!(directory.lookup(me), Some(dialled));
    directory.ended(dialled);
    assert_eq!(directory.lookup(me), Some(accepted));
    assert_eq!(directory.len(), 1);
}

#[test]
fn a_name_finds_its_newest_session_and_nobody_is_found_without_one() {
    let name = EntityName::osd(2);
    let (old, new) = (SessionKey(1), SessionKey(2));
    let mut directory = Directory::new();
    assert!(directory.is_empty() && directory.lookup(name).is_none());
    directory.dialled(old, name, SessionId(7), false);
    directory.dialled(new, name, SessionId(8), false);
    assert!(!directory.is_empty() && directory.len() == 2);
    assert_eq!(directory.lookup(name), Some(new));
    assert_eq!((directory.namesakes(old), directory.namesakes(new)), (vec![new], vec![old]));
    directory.ended(new);
    assert_eq!((directory.lookup(name), directory.namesakes(old)), (Some(old), vec![]));
    directory.ended(old);
    assert!(directory.is_empty() && directory.lookup(name).is_none());
    assert!(directory.by_name.is_empty(), "S7: a name without a session is forgotten");
    let anonymous = EntityName::anonymous(EntityKind::CLIENT);
    directory.dialled(SessionKey(3), anonymous, SessionId(9), false);
    assert_eq!(directory.lookup(anonymous), None);
}

/// The dialling half of a session with oneself is not what its own hello looks for.
#[test]
fn a_session_with_oneself_is_born_beside_the_half_that_dialled() {
    let me = EntityName::osd(1);
    let mut directory = Directory::new();
    directory.dialled(OLD, me, SessionId(7), true);
    assert_eq!(route(&directory, &hello(me, 99, 7, 1), Policy::lossless_peer()), NEWBORN);
}

/// S5, S6: another role of the name is another peer, whether it says hello or was dialled.
#[test]
fn another_role_is_neither_found_nor_told() {
    let (name, peer) = (EntityName::osd(2), Policy::lossless_peer());
    let mut directory = Directory::new();
    directory.accepted(OLD, &hello(name, 7, 1, 1), &peer);
    let mut other = hello(name, 8, 2, 1);
    let notices = vec![(OLD, Notice::NewInstance { incarnation: None })];
    assert_eq!(route(&directory, &other, peer), Route::Birth { notices });
    other.from.role = Role::new("cluster").ok();
    assert_eq!(route(&directory, &other, peer), NEWBORN);
    // Whom we dial has no role yet: whoever answers to the name may be meant.
    directory.dialled(NEW, name, SessionId(3), false);
    assert_eq!(route(&directory, &other, peer), Route::Existing { key: NEW, notices: vec![] });
}

/// S6: a session that is over does not begin again, however new the dial that asks for it.
#[test]
fn a_session_that_is_over_is_not_born_again_unless_it_ends_with_its_link() {
    let name = EntityName::client(2);
    let clients = [Policy::lossless_client(), Policy::lossy_client()];
    for (client, again) in clients.into_iter().zip([Route::NoSession, NEWBORN]) {
        let server = Policy::stateful_server();
        let mut first = hello(name, 7, 1, 1);
        first.policy = client.offer();
        let mut directory = Directory::new();
        directory.accepted(OLD, &first, &server);
        directory.ended(OLD);
        assert_eq!(route(&directory, &first, server), Route::Stale);
        first.attempt = Attempt(2);
        assert_eq!(route(&directory, &first, server), again, "{}", client.name());
        first.established = true;
        assert_eq!(route(&directory, &first, server), Route::NoSession);
    }
}

/// S5: many share an anonymous name, so a hello from it is no answer to a dial of ours.
#[test]
fn an_anonymous_hello_does_not_race_with_a_dial() {
    for (name, races) in
        [(EntityName::osd(2), true), (EntityName::anonymous(EntityKind::OSD), false)]
    {
        let mut directory = Directory::new();
        directory.dialled(OLD, name, SessionId(1), false);
        let found = Route::Existing { key: OLD, notices: vec![] };
        let born = if races { found.clone() } else { NEWBORN };
        let mut hello = hello(name, 7, 2, 1);
        assert_eq!(route(&directory, &hello, Policy::lossless_peer()), born);
        hello.session = SessionId(1);
        assert_eq!(route(&directory, &hello, Policy::lossless_peer()), found, "the id says so");
    }
}
