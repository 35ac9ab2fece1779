//! Which requests a broker understands and in which versions, and what we cannot do without.

use kafka_protocol::{messages::ApiKey, protocol::VersionRange};

use super::layouts::layout;

/// What we cannot do without: API, its least version, and the release of Apache Kafka that brought it.
const NEEDED: &[(ApiKey, i16, &str)] = &[
    // Record batches with producer ids (KIP-98).
    (ApiKey::Produce, 3, "0.11"),
    // The same, with the aborted transactions.
    (ApiKey::Fetch, 4, "0.11"),
    // The isolation level.
    (ApiKey::ListOffsets, 2, "0.11"),
    // Without creating the topics that are asked for (KIP-4).
    (ApiKey::Metadata, 4, "0.11"),
    (ApiKey::InitProducerId, 0, "0.11"),
];

/// The versions that a broker offers, by API key.
#[derive(Debug, Default)]
pub(super) struct Versions(pub(super) Vec<(i16, VersionRange)>);

impl Versions {
    fn offered(&self, api: ApiKey) -> Option<VersionRange> {
        self.0.iter().find(|(key, _)| *key == api as i16).map(|(_, range)| *range)
    }

    /// Whether the broker offers this version of an API that we encode ourselves.
    pub(super) fn offers(&self, api: ApiKey, version: i16) -> bool {
        self.offered(api).is_some_and(|range| (range.min..=range.max).contains(&version))
    }

    /// The newest version of `api` that the broker, kafka-protocol, our layouts and the caller (`most`) know.
    pub(super) fn newest(&self, api: ApiKey, most: i16) -> Option<i16> {
        let both = ours(api, most)?.intersect(&self.offered(api)?);
        (!both.is_empty()).then_some(both.max)
    }

    /// What an operator must know if we cannot work with this broker: which versions are missing, and who has them.
    pub(super) fn lacking(&self) -> Option<String> {
        let (mut old, mut new, mut release) = (Vec::new(), Vec::new(), "");
        for (api, least, since) in NEEDED {
            match (self.offered(*api), ours(*api, i16::MAX)) {
                (Some(range), Some(ours)) if range.min > ours.max => {
                    new.push(format!("{api:?} {} is the newest we know, it begins with {}", ours.max, range.min));
                }
                (Some(range), _) if range.max >= *least => continue,
                (Some(range), _) => old.push(format!("{api:?} {least} is needed, it has up to {}", range.max)),
                (None, _) => old.push(format!("{api:?} {least} is needed, it has none")),
            }
            release = since;
        }
        if !old.is_empty() {
            let old = old.join("; ");
            return Some(format!("the broker is too old: {old} (Apache Kafka {release} or newer has it)"));
        }
        (!new.is_empty()).then(|| format!("the broker is too new for this release of the proxy: {}", new.join("; ")))
    }
}

fn ours(api: ApiKey, most: i16) -> Option<VersionRange> {
    let mut ours = api.valid_versions();
    ours.max = ours.max.min(most).min(layout(api)?.newest);
    Some(ours)
}
