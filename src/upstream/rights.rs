//! What Kafka lets our principal do, asked of it before anything is written or read: with topics by the metadata (KIP-430), with a group by a
//! sign of life of a member that nobody is.

use std::{collections::HashMap, time::Duration};

use kafka_protocol::{
    messages::{
        ApiKey, GroupId, HeartbeatRequest, HeartbeatResponse, MetadataRequest, MetadataResponse, metadata_request::MetadataRequestTopic,
    },
    protocol::{Encodable, HeaderVersion, StrBytes},
};
use tokio::time::sleep;

use super::{
    answers::Answer,
    backoff,
    bootstrap::{Among, any_connection},
    cluster::{Cluster, Core},
    metadata::topic_name,
};
use crate::kafka::error::ErrorCode;

/// Names in one request.
const MOST_NAMES: usize = 1_000;
/// Attempts after which no broker tells.
const MOST_ATTEMPTS: u32 = 4;
/// What a broker says that was not asked for rights, or knows of none to tell.
const NOT_TOLD: i32 = i32::MIN;

/// What one may do with a topic, by Kafka's codes of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Operation {
    /// Fetch records.
    Read = 3,
    /// Produce records.
    Write = 4,
}

impl Operation {
    /// As Kafka's tools call it.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Read => "READ",
            Operation::Write => "WRITE",
        }
    }
}

/// What a principal may do with a topic. Where Kafka has no authorizer, all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights(i32);

impl Rights {
    /// Whether Kafka would let us; true of what it does not tell.
    pub fn may(self, operation: Operation) -> bool {
        self.0 == NOT_TOLD || self.0 & (1 << operation as u8) != 0
    }
}

impl Cluster {
    /// What our principal may do with each of these topics; those that are not there, or that it may not even DESCRIBE, are left out.
    ///
    /// # Errors
    /// Why no broker tells, after a few attempts.
    pub async fn rights(&self, topics: &[&str]) -> Result<HashMap<String, Rights>, String> {
        let mut told = HashMap::new();
        for names in topics.chunks(MOST_NAMES) {
            let topics = names
                .iter()
                .map(|name| MetadataRequestTopic::default().with_name(Some(topic_name(name))));
            let request = MetadataRequest::default()
                .with_topics(Some(topics.collect()))
                .with_allow_auto_topic_creation(false)
                .with_include_topic_authorized_operations(true);
            let answer: MetadataResponse = ask(self.core(), ApiKey::Metadata, 13, &request).await?;
            let known = answer.topics.into_iter().filter(|topic| ErrorCode::from(topic.error_code).is_ok());
            told.extend(known.filter_map(|topic| Some((topic.name?.to_string(), Rights(topic.topic_authorized_operations)))));
        }
        Ok(told)
    }

    /// Whether our principal may be a member of a consumer group (READ). Brokers look at that before anything else, so a member that nobody is
    /// changes nothing.
    ///
    /// # Errors
    /// Why no broker tells, after a few attempts.
    pub async fn may_join(&self, group: &str) -> Result<bool, String> {
        let request = HeartbeatRequest::default()
            .with_group_id(GroupId(StrBytes::from_string(group.to_owned())))
            .with_generation_id(0)
            .with_member_id(StrBytes::from_static_str("nobody"));
        let answer: HeartbeatResponse = ask(self.core(), ApiKey::Heartbeat, 4, &request).await?;
        Ok(ErrorCode::from(answer.error_code) != ErrorCode::GROUP_AUTHORIZATION_FAILED)
    }
}

/// Asks any broker, another after each failure.
async fn ask<Q, R>(core: &Core, api: ApiKey, newest: i16, request: &Q) -> Result<R, String>
where
    Q: Encodable + HeaderVersion,
    R: Answer,
{
    let mut failures = 0;
    loop {
        match ask_once(core, api, newest, request, failures as usize).await {
            Ok(answer) => return Ok(answer),
            Err(why) if failures + 1 >= MOST_ATTEMPTS => return Err(why),
            Err(_) => failures += 1,
        }
        sleep(backoff::wait(failures, Duration::from_millis(50), Duration::from_secs(1))).await;
    }
}

async fn ask_once<Q, R>(core: &Core, api: ApiKey, newest: i16, request: &Q, turn: usize) -> Result<R, String>
where
    Q: Encodable + HeaderVersion,
    R: Answer,
{
    let broker = any_connection(core, Among::All(turn)).await?;
    let version = broker.version(api, newest);
    let version = version.ok_or_else(|| format!("{}: the broker shares no version of {api:?}", broker.address))?;
    let why = |e| format!("{}: {e}", broker.address);
    let mut call = broker.send(api, version, request, core.settings.request_timeout).map_err(why)?;
    call.answer().await.map_err(why)
}
