//! Where a share group begins, and what is set for it.
//!
//! A share partition that was never read begins where the group's `share.auto.offset.reset` says, at the moment when its leader is asked for
//! records first. Were that left to itself, what is stored between SUBACK and that moment would be lost. So before a member joins, the group
//! gets its start offsets, of all partitions that have none; and what appears later is younger than the group, and is read whole.

use std::{collections::HashMap, sync::Arc, time::Duration};

use kafka_protocol::{
    messages::{
        AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsResponse, ApiKey, DescribeConfigsRequest, DescribeConfigsResponse,
        DescribeShareGroupOffsetsRequest, DescribeShareGroupOffsetsResponse, IncrementalAlterConfigsRequest,
        IncrementalAlterConfigsResponse,
        alter_share_group_offsets_request::{AlterShareGroupOffsetsRequestPartition, AlterShareGroupOffsetsRequestTopic},
        describe_configs_request::DescribeConfigsResource,
        describe_share_group_offsets_request::{DescribeShareGroupOffsetsRequestGroup, DescribeShareGroupOffsetsRequestTopic},
        incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig},
    },
    protocol::StrBytes,
};

use crate::{
    kafka::error::{ErrorCode, Retry},
    upstream::{
        Isolation, backoff,
        cluster::Core,
        group::{
            coordinator::{Coordinator, Fault, Identity, accepted},
            finding::{find, unless_succeeded},
            settings::GroupSettings,
        },
        metadata::topic_name,
    },
};

/// A group as a resource that has settings.
const GROUP: i8 = 32;
const SET: i8 = 0;
const RESET: &str = "share.auto.offset.reset";
const ISOLATION: &str = "share.isolation.level";
const LOCK: &str = "share.record.lock.duration.ms";
const DELIVERIES: &str = "share.delivery.count.limit";
/// The offset of a share partition that has none yet.
const UNSET: i64 = -1;
/// Attempts at what may pass.
const ATTEMPTS: u32 = 6;
const UNAVAILABLE: &str = "kafka_unavailable";

/// Where the partitions of a topic begin for a new group, by index.
#[derive(Clone, Debug)]
pub struct ShareStart {
    /// The topic's name.
    pub topic: Arc<str>,
    /// An offset for each partition.
    pub offsets: Vec<i64>,
}

/// What is set for a group. `None`: the broker does not tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// For how long a record is locked, unless its lock is renewed.
    pub lock: Option<Duration>,
    /// A record that was given out so often and comes back is given to nobody any more.
    pub deliveries: Option<u32>,
    /// New partitions are read from their beginning, as the group was told: `false` if it could not be.
    pub reads_all: bool,
}

struct Start<'a> {
    core: &'a Core,
    me: Identity,
    at: Coordinator,
}

/// Sets where the group begins, and reads its terms.
///
/// # Errors
/// Why not, in one word: a label.
pub(super) async fn prepare(core: &Core, group: &str, starts: &[ShareStart]) -> Result<Terms, &'static str> {
    let mut failures = 0;
    loop {
        let why = match attempt(core, group, starts).await {
            Ok(terms) => return Ok(terms),
            Err(Fault::Refused(error, why)) if matches!(error.retry(), Retry::Never | Retry::Fatal) => {
                tracing::error!(group, why, "where a share group begins cannot be set");
                return Err("group_refused");
            }
            Err(Fault::Refused(_, why)) => why,
            Err(Fault::Call(error)) => error.to_string(),
        };
        failures += 1;
        if failures == ATTEMPTS {
            tracing::warn!(group, why, "where a share group begins cannot be set");
            return Err(UNAVAILABLE);
        }
        tokio::time::sleep(backoff::wait(failures, Duration::from_millis(50), Duration::from_secs(1))).await;
    }
}

async fn attempt(core: &Core, group: &str, starts: &[ShareStart]) -> Result<Terms, Fault> {
    let settings = GroupSettings {
        group: group.to_owned(),
        ..GroupSettings::default()
    };
    let me = Identity::new(Arc::new(settings));
    let at = find(core, &me).await?;
    let start = Start { core, me, at };
    // A coordinator that is paused owes its answers for long: its heir is looked for meanwhile.
    unless_succeeded(core, &start.me, &start.at, start.run(starts)).await
}

impl Start<'_> {
    async fn run(&self, starts: &[ShareStart]) -> Result<Terms, Fault> {
        let configured = match self.configure().await {
            Err(Fault::Call(error)) => return Err(Fault::Call(error)),
            told => told.is_ok(),
        };
        let terms = self.terms().await;
        self.begin(starts).await?;
        Ok(self.regarded(&terms, configured))
    }

    fn isolation(&self) -> &'static str {
        match self.core.settings.consumer.isolation {
            Isolation::ReadCommitted => "read_committed",
            Isolation::ReadUncommitted => "read_uncommitted",
        }
    }

    /// What appears later is read from its beginning; aborted transactions as everywhere.
    async fn configure(&self) -> Result<(), Fault> {
        let set = |(name, value)| {
            AlterableConfig::default()
                .with_name(StrBytes::from_static_str(name))
                .with_config_operation(SET)
                .with_value(Some(StrBytes::from_static_str(value)))
        };
        let resource = AlterConfigsResource::default()
            .with_resource_type(GROUP)
            .with_resource_name(self.me.group().0)
            .with_configs([(RESET, "earliest"), (ISOLATION, self.isolation())].map(set).to_vec());
        let make = |_| IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        let api = ApiKey::IncrementalAlterConfigs;
        let answer: IncrementalAlterConfigsResponse = self.at.call(self.core, &self.me, api, 1, make).await?;
        let code = answer.responses.first().map_or(0, |told| told.error_code);
        accepted(&self.me, "IncrementalAlterConfigs", code)
    }

    async fn terms(&self) -> HashMap<String, String> {
        let keys = [RESET, ISOLATION, LOCK, DELIVERIES].map(StrBytes::from_static_str);
        let resource = DescribeConfigsResource::default()
            .with_resource_type(GROUP)
            .with_resource_name(self.me.group().0)
            .with_configuration_keys(Some(keys.to_vec()));
        let make = |_| DescribeConfigsRequest::default().with_resources(vec![resource]);
        let asked = self
            .at
            .call::<_, DescribeConfigsResponse>(self.core, &self.me, ApiKey::DescribeConfigs, 4, make);
        let results = asked.await.map(|answer| answer.results).unwrap_or_default();
        let configs = results.into_iter().flat_map(|result| result.configs);
        configs
            .filter_map(|config| Some((config.name.to_string(), config.value?.to_string())))
            .collect()
    }

    /// Says what an operator should know.
    fn regarded(&self, told: &HashMap<String, String>, configured: bool) -> Terms {
        let group = &*self.me.settings.group;
        let is = |name: &str, value: &str| told.get(name).is_some_and(|is| is == value);
        let reads_all = configured || is(RESET, "earliest");
        if !reads_all {
            tracing::warn!(
                group,
                "the proxy's principal may not set share.auto.offset.reset to earliest (ALTER_CONFIGS on the group): what is written to a new \
                 topic or partition before it is read first is lost to the shared subscription"
            );
        }
        if !configured && !is(ISOLATION, self.isolation()) {
            let wanted = self.isolation();
            tracing::warn!(
                group,
                wanted,
                "share.isolation.level of the group is not what kafka.consumer.isolation says"
            );
        }
        let number = |name: &str| told.get(name).and_then(|value| value.parse::<u64>().ok());
        Terms {
            lock: number(LOCK).map(Duration::from_millis),
            deliveries: number(DELIVERIES).and_then(|limit| u32::try_from(limit).ok()),
            reads_all,
        }
    }

    async fn begin(&self, starts: &[ShareStart]) -> Result<(), Fault> {
        let unset = self.unset(starts).await?;
        if unset.is_empty() {
            return Ok(());
        }
        let topics = unset.into_iter().map(|(topic, partitions)| {
            let partitions = partitions.into_iter().map(|(partition, offset)| {
                AlterShareGroupOffsetsRequestPartition::default()
                    .with_partition_index(partition)
                    .with_start_offset(offset)
            });
            AlterShareGroupOffsetsRequestTopic::default()
                .with_topic_name(topic_name(topic))
                .with_partitions(partitions.collect())
        });
        let topics = topics.collect();
        let make = |_| {
            AlterShareGroupOffsetsRequest::default()
                .with_group_id(self.me.group())
                .with_topics(topics)
        };
        let api = ApiKey::AlterShareGroupOffsets;
        let answer: AlterShareGroupOffsetsResponse = self.at.call(self.core, &self.me, api, 0, make).await?;
        let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
        let codes = std::iter::once(answer.error_code).chain(partitions.map(|partition| partition.error_code));
        for code in codes {
            // Another member was faster: it had the start set before it joined.
            if ErrorCode::from(code) != ErrorCode::NON_EMPTY_GROUP {
                accepted(&self.me, "AlterShareGroupOffsets", code)?;
            }
        }
        Ok(())
    }

    /// The partitions of which the group has no offset, with where they are to begin.
    async fn unset<'s>(&self, starts: &'s [ShareStart]) -> Result<Vec<(&'s str, Vec<(i32, i64)>)>, Fault> {
        let topics = starts.iter().map(|start| {
            DescribeShareGroupOffsetsRequestTopic::default()
                .with_topic_name(topic_name(&start.topic))
                .with_partitions((0..start.offsets.len() as i32).collect())
        });
        let group = DescribeShareGroupOffsetsRequestGroup::default()
            .with_group_id(self.me.group())
            .with_topics(Some(topics.collect()));
        let make = |_| DescribeShareGroupOffsetsRequest::default().with_groups(vec![group]);
        let api = ApiKey::DescribeShareGroupOffsets;
        let answer: DescribeShareGroupOffsetsResponse = self.at.call(self.core, &self.me, api, 0, make).await?;
        let mut set: HashMap<(String, i32), i64> = HashMap::new();
        for group in answer.groups {
            if ErrorCode::from(group.error_code) != ErrorCode::GROUP_ID_NOT_FOUND {
                accepted(&self.me, "DescribeShareGroupOffsets", group.error_code)?;
            }
            for topic in group.topics {
                for partition in topic.partitions {
                    accepted(&self.me, "DescribeShareGroupOffsets", partition.error_code)?;
                    set.insert((topic.topic_name.to_string(), partition.partition_index), partition.start_offset);
                }
            }
        }
        let unset = |start: &'s ShareStart| {
            let each = (0..).zip(&start.offsets).filter(|(index, _)| {
                let known = set.get(&(start.topic.to_string(), *index));
                known.is_none_or(|offset| *offset == UNSET)
            });
            (&*start.topic, each.map(|(index, offset)| (index, *offset)).collect::<Vec<_>>())
        };
        Ok(starts.iter().map(unset).filter(|(_, partitions)| !partitions.is_empty()).collect())
    }
}
