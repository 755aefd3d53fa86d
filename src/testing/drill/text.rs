//! How names, spans and qualities stand in a case file.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use stellate_transport::sim::Quality;

/// As text: what `Display` writes and `FromStr` reads.
pub(crate) fn serialize<T: Display, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

pub(crate) fn deserialize<'de, T: FromStr, D: Deserializer<'de>>(from: D) -> Result<T, D::Error>
where
    T::Err: Display,
{
    let text = String::deserialize(from)?;
    text.parse().map_err(|error| D::Error::custom(format!("{text:?}: {error}")))
}

/// Several of them.
pub(crate) mod list {
    use super::*;

    pub(crate) fn serialize<T: Display, S: Serializer>(
        values: &[T],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(values.iter().map(ToString::to_string))
    }

    pub(crate) fn deserialize<'de, T: FromStr, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<T>, D::Error>
    where
        T::Err: Display,
    {
        let texts = Vec::<String>::deserialize(from)?;
        let parse = |text: &String| {
            text.parse().map_err(|error| D::Error::custom(format!("{text:?}: {error}")))
        };
        texts.iter().map(parse).collect()
    }
}

/// A span, in milliseconds.
pub(crate) mod ms {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(span: &Duration, to: S) -> Result<S::Ok, S::Error> {
        u64::try_from(span.as_millis()).unwrap_or(u64::MAX).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Quality", deny_unknown_fields)]
pub(crate) struct QualityText {
    latency: u32,
    jitter: u32,
    bandwidth: Option<u32>,
    cut_chance: u32,
}
