//! What is asked of Kafka about a state topic: Metadata, CreateTopics, DescribeConfigs.

use std::{collections::HashMap, fmt::Display};

use kafka_protocol::{
    messages::{
        ApiKey, CreateTopicsRequest, CreateTopicsResponse, DescribeConfigsRequest, DescribeConfigsResponse, MetadataRequest,
        MetadataResponse,
        create_topics_request::{CreatableTopic, CreatableTopicConfig},
        describe_configs_request::DescribeConfigsResource,
        metadata_request::MetadataRequestTopic,
    },
    protocol::{Encodable, HeaderVersion, StrBytes},
};

use super::{
    Verdict,
    verdict::{self, Found},
};
use crate::{
    kafka::error::{ErrorCode, Retry},
    upstream::{answers::Answer, cluster::Core, connection::Connection, metadata::topic_name, settings::StateTopic},
};

/// The resource type of a topic.
const TOPIC: i8 = 2;

/// What may be done about a missing topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Make it, if its settings allow that.
    Make,
    /// Ask whether Kafka would.
    Ask,
}

/// Why there is no answer.
enum Failure {
    /// It may pass.
    Passing(String),
    /// Kafka says no, and why.
    Refused(ErrorCode, String),
}

/// Looks at a topic; makes it if it is missing. A topic that was just made is looked at the next time: an error that passes.
pub(super) async fn look_at(core: &Core, at: &Connection, topic: &StateTopic, mode: Mode) -> Result<Verdict, String> {
    let name = &topic.name;
    let (partitions, replicas) = match layout(core, at, name).await {
        Ok(Some(there)) => there,
        Ok(None) if !topic.create => return Ok(wrong(verdict::missing(topic))),
        Ok(None) => {
            return match (create(core, at, topic, mode).await, mode) {
                (Ok(()), Mode::Ask) => Ok(Verdict::Creatable),
                (Ok(()), Mode::Make) => Err(format!("{name} is being made")),
                (Err(failure), _) => unless_passing(failure, |code, why| verdict::not_created(topic, code, why)),
            };
        }
        Err(failure) => return unless_passing(failure, |code, _| verdict::not_described(topic, "DESCRIBE", code)),
    };
    let settings = match settings(core, at, name).await {
        Ok(settings) => settings,
        Err(failure) => return unless_passing(failure, |code, _| verdict::not_described(topic, "DESCRIBE_CONFIGS", code)),
    };
    let faults = verdict::faults(
        topic,
        &Found {
            partitions,
            replicas,
            settings,
        },
    );
    Ok(match faults.is_empty() {
        true => Verdict::Right { partitions, replicas },
        false => Verdict::Wrong(faults),
    })
}

fn wrong(fault: String) -> Verdict {
    Verdict::Wrong(vec![fault])
}

fn unless_passing(failure: Failure, tell: impl FnOnce(ErrorCode, &str) -> String) -> Result<Verdict, String> {
    match failure {
        Failure::Passing(why) => Err(why),
        Failure::Refused(code, why) => Ok(wrong(tell(code, &why))),
    }
}

/// Partitions, and replicas of the one that has the fewest. `None`: there is no such topic.
async fn layout(core: &Core, at: &Connection, name: &str) -> Result<Option<(usize, usize)>, Failure> {
    let topic = MetadataRequestTopic::default().with_name(Some(topic_name(name)));
    let request = MetadataRequest::default()
        .with_topics(Some(vec![topic]))
        .with_allow_auto_topic_creation(false);
    let answer: MetadataResponse = ask(core, at, ApiKey::Metadata, 13, &request).await?;
    let told = answer.topics.into_iter().next().ok_or_else(|| incomplete("Metadata"))?;
    match ErrorCode::from(told.error_code) {
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => Ok(None),
        code => {
            judge(core, code, "Metadata", None)?;
            let replicas = told.partitions.iter().map(|p| p.replica_nodes.len()).min().unwrap_or(0);
            Ok(Some((told.partitions.len(), replicas)))
        }
    }
}

/// Another instance may make it at the same moment: that it exists is as good.
async fn create(core: &Core, at: &Connection, topic: &StateTopic, mode: Mode) -> Result<(), Failure> {
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let settings = verdict::settings_of(topic).into_iter().map(|(name, value)| {
        CreatableTopicConfig::default()
            .with_name(StrBytes::from_static_str(name))
            .with_value(Some(text(&value)))
    });
    let wanted = CreatableTopic::default()
        .with_name(topic_name(&topic.name))
        .with_num_partitions(topic.partitions)
        .with_replication_factor(topic.replication)
        .with_configs(settings.collect());
    let timeout = i32::try_from(core.settings.request_timeout.as_millis()).unwrap_or(i32::MAX);
    let request = CreateTopicsRequest::default()
        .with_topics(vec![wanted])
        // The broker waits so long for the new leaders; the answer must come before we give the connection up.
        .with_timeout_ms(timeout / 2)
        .with_validate_only(mode == Mode::Ask);
    let answer: CreateTopicsResponse = ask(core, at, ApiKey::CreateTopics, 7, &request).await?;
    let told = answer.topics.into_iter().next().ok_or_else(|| incomplete("CreateTopics"))?;
    match ErrorCode::from(told.error_code) {
        ErrorCode::TOPIC_ALREADY_EXISTS => Ok(()),
        code => judge(core, code, "CreateTopics", told.error_message.as_deref()),
    }?;
    if mode == Mode::Make {
        tracing::info!(
            topic = topic.name,
            partitions = topic.partitions,
            replication = topic.replication,
            "made a state topic"
        );
    }
    Ok(())
}

/// The `cleanup.policy` of a topic, or why Kafka does not tell it to us. An error is one that may pass.
pub(super) async fn policy(core: &Core, at: &Connection, name: &str) -> Result<Result<String, ErrorCode>, String> {
    match settings(core, at, name).await {
        Ok(mut settings) => Ok(Ok(settings.remove(verdict::POLICY).unwrap_or_default())),
        Err(Failure::Refused(code, _)) => Ok(Err(code)),
        Err(Failure::Passing(why)) => Err(why),
    }
}

/// What the topic is set to, the broker's defaults included.
async fn settings(core: &Core, at: &Connection, name: &str) -> Result<HashMap<String, String>, Failure> {
    let keys = verdict::CHECKED.map(StrBytes::from_static_str).to_vec();
    let resource = DescribeConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(StrBytes::from_string(name.to_owned()))
        .with_configuration_keys(Some(keys));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let answer: DescribeConfigsResponse = ask(core, at, ApiKey::DescribeConfigs, 4, &request).await?;
    let told = answer.results.into_iter().next().ok_or_else(|| incomplete("DescribeConfigs"))?;
    judge(
        core,
        ErrorCode::from(told.error_code),
        "DescribeConfigs",
        told.error_message.as_deref(),
    )?;
    let values = told
        .configs
        .into_iter()
        .filter_map(|c| Some((c.name.to_string(), c.value?.to_string())));
    Ok(values.collect())
}

async fn ask<Q, R>(core: &Core, at: &Connection, api: ApiKey, newest: i16, request: &Q) -> Result<R, Failure>
where
    Q: Encodable + HeaderVersion,
    R: Answer,
{
    let passing = |why: &dyn Display| Failure::Passing(format!("{}: {why}", at.address));
    let version = at
        .version(api, newest)
        .ok_or_else(|| passing(&format_args!("the broker shares no version of {api:?}")))?;
    let mut call = at
        .send(api, version, request, core.settings.request_timeout)
        .map_err(|e| passing(&e))?;
    call.answer().await.map_err(|e| passing(&e))
}

fn incomplete(api: &str) -> Failure {
    Failure::Passing(format!("{api}: an answer without the topic"))
}

fn judge(core: &Core, code: ErrorCode, api: &str, message: Option<&str>) -> Result<(), Failure> {
    if code.is_ok() {
        return Ok(());
    }
    core.counters.error(code.name());
    let message = message.unwrap_or_default().to_owned();
    Err(match code.retry() {
        Retry::Never | Retry::AfterJoin | Retry::Fatal => Failure::Refused(code, message),
        _ => Failure::Passing(format!("{api}: {} {message}", code.name())),
    })
}
