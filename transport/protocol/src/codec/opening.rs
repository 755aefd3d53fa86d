//! The records of a hello and its answer, which restate everything about a side.

use bytes::{BufMut, Bytes, BytesMut};

use crate::class::Lane;
use crate::frame::{
    AUTH_MAX, Answer, FEATURE_DATA_MAX, FEATURES_MAX, Feature, FrameKind, Hello, LaneState,
    METADATA_MAX, Opening, PolicyOffer, RefuseReason, Stance, TEXT_MAX, Terms, Verdict,
};
use crate::id::{
    Attempt, EntityKind, EntityName, Identity, Incarnation, Instance, Role, Seq, SessionId,
};

use super::error::CodecError;
use super::header::{Header, flag};
use super::record::{Reader, put_option, put_short, put_sized, put_text};

/// Verdicts, in the code byte of an answer.
const ACCEPTED: u8 = 0;
const LOST: u8 = 1;
const NO_SESSION: u8 = 2;
const REFUSED: u8 = 3;

/// Writes the front of a hello.
pub(super) fn put_hello(out: &mut BytesMut, hello: &Hello) {
    put_sized(out, |out| put_identity(out, &hello.from));
    put_sized(out, |out| put_name(out, &hello.target));
    out.put_u128_le(hello.session.0);
    out.put_u64_le(hello.attempt.0);
    put_sized(out, |out| {
        out.put_u8(hello.policy.lossy.into());
        out.put_u8(hello.policy.stance as u8);
    });
    put_sized(out, |out| put_opening(out, &hello.opening));
}

/// Reads the front of a hello.
pub(super) fn read_hello(header: &Header, front: &[u8]) -> Result<Hello, CodecError> {
    let mut reader = Reader::new(header.kind, front);
    let from = read_identity(&mut reader.sized("identity")?)?;
    let target = read_name(&mut reader.sized("target")?)?;
    let session = SessionId(reader.u128("session")?);
    let attempt = Attempt(reader.u64("attempt")?);
    let policy = read_policy(&mut reader.sized("policy")?)?;
    let opening = read_opening(&mut reader.sized("opening")?)?;
    Ok(Hello {
        from,
        target,
        session,
        attempt,
        established: header.kind == FrameKind::Resume,
        insist: header.flags & flag::INSIST != 0,
        policy,
        opening,
    })
}

/// The code byte of a verdict.
pub(super) fn verdict_code(verdict: &Verdict) -> u8 {
    match verdict {
        Verdict::Accepted { .. } => ACCEPTED,
        Verdict::Lost => LOST,
        Verdict::NoSession => NO_SESSION,
        Verdict::Refused { .. } => REFUSED,
    }
}

/// Writes the front of an answer.
pub(super) fn put_answer(out: &mut BytesMut, answer: &Answer) {
    put_sized(out, |out| put_identity(out, &answer.from));
    out.put_u128_le(answer.session.0);
    out.put_u64_le(answer.attempt.0);
    out.put_u64_le(answer.latest.0);
    match &answer.verdict {
        Verdict::Accepted { lossy, opening } => {
            out.put_u8((*lossy).into());
            put_sized(out, |out| put_opening(out, opening));
        }
        Verdict::Lost | Verdict::NoSession => {}
        Verdict::Refused { reason, text } => {
            out.put_u8(*reason as u8);
            put_text(out, text, TEXT_MAX);
        }
    }
}

/// Reads the front of an answer.
pub(super) fn read_answer(header: &Header, front: &[u8]) -> Result<Answer, CodecError> {
    let mut reader = Reader::new(header.kind, front);
    let from = read_identity(&mut reader.sized("identity")?)?;
    let session = SessionId(reader.u128("session")?);
    let attempt = Attempt(reader.u64("attempt")?);
    let latest = Attempt(reader.u64("latest")?);
    let verdict = match header.code {
        ACCEPTED => Verdict::Accepted {
            lossy: reader.bool("lossy")?,
            opening: read_opening(&mut reader.sized("opening")?)?,
        },
        LOST => Verdict::Lost,
        NO_SESSION => Verdict::NoSession,
        REFUSED => Verdict::Refused {
            reason: RefuseReason::from_wire(reader.u8("reason")?)
                .ok_or_else(|| reader.bad("reason"))?,
            text: reader.text("text", TEXT_MAX)?,
        },
        _ => return Err(header.bad("verdict")),
    };
    if (header.kind == FrameKind::Lost) != (header.code == LOST) {
        return Err(header.bad("verdict"));
    }
    let resume = match header.kind {
        FrameKind::Lost => header.flags & flag::RESUME != 0,
        kind => kind == FrameKind::ResumeAnswer,
    };
    Ok(Answer { from, session, attempt, latest, resume, verdict })
}

/// Whether an opening of ours keeps the limits that its records need.
pub(super) fn check_opening(opening: &Opening) -> Result<(), &'static str> {
    if opening.metadata.len() > METADATA_MAX {
        return Err("metadata");
    }
    if opening.auth.len() > AUTH_MAX {
        return Err("auth");
    }
    let short = |feature: &Feature| feature.data.len() <= FEATURE_DATA_MAX;
    if opening.features.len() > FEATURES_MAX || !opening.features.iter().all(short) {
        return Err("features");
    }
    Ok(())
}

fn put_identity(out: &mut BytesMut, identity: &Identity) {
    put_sized(out, |out| put_name(out, &identity.name));
    put_option(out, identity.role, |out, role| {
        put_short(out, role.as_str());
    });
    out.put_u128_le(identity.instance.0);
    put_option(out, identity.incarnation, |out, incarnation| {
        out.put_u64_le(incarnation.0);
    });
}

fn read_identity(reader: &mut Reader<'_>) -> Result<Identity, CodecError> {
    let name = read_name(&mut reader.sized("name")?)?;
    let role = reader.option("role", |reader| {
        Role::new(reader.short("role")?).map_err(|_| reader.bad("role"))
    })?;
    let instance = Instance(reader.u128("instance")?);
    let incarnation =
        reader.option("incarnation", |reader| reader.u64("incarnation").map(Incarnation))?;
    Ok(Identity { name, role, instance, incarnation })
}

fn put_name(out: &mut BytesMut, name: &EntityName) {
    put_short(out, name.kind().as_str());
    put_option(out, name.number(), |out, number| out.put_u64_le(number));
}

fn read_name(reader: &mut Reader<'_>) -> Result<EntityName, CodecError> {
    let kind = EntityKind::new(reader.short("kind")?).map_err(|_| reader.bad("kind"))?;
    Ok(match reader.option("number", |reader| reader.u64("number"))? {
        Some(number) => EntityName::new(kind, number),
        None => EntityName::anonymous(kind),
    })
}

fn read_policy(reader: &mut Reader<'_>) -> Result<PolicyOffer, CodecError> {
    Ok(PolicyOffer {
        lossy: reader.bool("lossy")?,
        stance: match reader.u8("stance")? {
            0 => Stance::Client,
            1 => Stance::Server,
            2 => Stance::Peer,
            _ => return Err(reader.bad("stance")),
        },
    })
}

fn put_opening(out: &mut BytesMut, opening: &Opening) {
    put_sized(out, |out| put_terms(out, &opening.terms));
    out.put_u8(Lane::COUNT as u8);
    for lane in &opening.lanes {
        put_sized(out, |out| put_lane_state(out, lane));
    }
    out.put_u8(opening.held.into());
    out.put_u16_le(opening.features.len() as u16);
    for feature in &opening.features {
        put_sized(out, |out| {
            out.put_u16_le(feature.id);
            out.put_u8(feature.required.into());
            put_sized(out, |out| out.put_slice(&feature.data));
        });
    }
    put_sized(out, |out| out.put_slice(&opening.metadata));
    put_sized(out, |out| out.put_slice(&opening.auth));
}

fn read_opening(reader: &mut Reader<'_>) -> Result<Opening, CodecError> {
    let terms = read_terms(&mut reader.sized("terms")?)?;
    let mut lanes = [LaneState::default(); Lane::COUNT];
    // More lanes than we know are of a later version and not used with us; fewer stay at zero.
    for index in 0..reader.u8("lanes")? {
        let mut record = reader.sized("lanes")?;
        if let Some(lane) = lanes.get_mut(usize::from(index)) {
            *lane = read_lane_state(&mut record)?;
        }
    }
    let held = reader.bool("held")?;
    let features = read_features(reader)?;
    // Copies: what a hello offers lives long and would pin the large buffer it was read into.
    let metadata = Bytes::copy_from_slice(reader.blob("metadata", METADATA_MAX)?);
    let auth = Bytes::copy_from_slice(reader.blob("auth", AUTH_MAX)?);
    Ok(Opening { terms, lanes, held, features, metadata, auth })
}

fn read_features(reader: &mut Reader<'_>) -> Result<Vec<Feature>, CodecError> {
    let count = usize::from(reader.u16("features")?);
    if count > FEATURES_MAX {
        return Err(CodecError::TooLong {
            what: "features",
            len: count as u64,
            max: FEATURES_MAX as u64,
        });
    }
    let mut features = Vec::with_capacity(count);
    for _ in 0..count {
        let mut record = reader.sized("feature")?;
        features.push(Feature {
            id: record.u16("feature")?,
            required: record.bool("feature")?,
            data: Bytes::copy_from_slice(record.blob("feature data", FEATURE_DATA_MAX)?),
        });
    }
    Ok(features)
}

fn put_terms(out: &mut BytesMut, terms: &Terms) {
    out.put_u32_le(terms.front_max);
    out.put_u32_le(terms.data_max);
    out.put_u32_le(terms.slot_bytes);
    put_option(out, terms.slots, |out, slots| out.put_u32_le(slots));
    out.put_u32_le(terms.requests_max);
}

fn read_terms(reader: &mut Reader<'_>) -> Result<Terms, CodecError> {
    Ok(Terms {
        front_max: reader.u32("front_max")?,
        data_max: reader.u32("data_max")?,
        slot_bytes: reader.u32("slot_bytes")?,
        slots: reader.option("slots", |reader| reader.u32("slots"))?,
        requests_max: reader.u32("requests_max")?,
    })
}

/// Bytes of a lane state in this version.
pub(super) const LANE_STATE_LEN: u8 = 24;

pub(super) fn put_lane_state(out: &mut BytesMut, lane: &LaneState) {
    out.put_u64_le(lane.received.0);
    out.put_u64_le(lane.window.0);
    out.put_u64_le(lane.window_bytes);
}

pub(super) fn read_lane_state(reader: &mut Reader<'_>) -> Result<LaneState, CodecError> {
    Ok(LaneState {
        received: Seq(reader.u64("received")?),
        window: Seq(reader.u64("window")?),
        window_bytes: reader.u64("window_bytes")?,
    })
}
