//! Metadata requests, and what an answer may say as a whole.

use std::{sync::Arc, time::Duration};

use kafka_protocol::messages::{ApiKey, MetadataRequest, MetadataResponse, metadata_request::MetadataRequestTopic};

use super::{
    connection::{CallError, Connection},
    metadata::topic_name,
    turn::Worth,
};
use crate::kafka::error::ErrorCode;

/// Names in one request.
const MOST_NAMES: usize = 1_000;

/// Why a round failed.
pub(super) enum Failure {
    /// As an operator should read it.
    Why(String),
    /// The cluster wants us to begin again with the bootstrap servers (KIP-1102).
    Rebootstrap,
}

/// Asks for `names`, in several requests if there are very many, and has `learn` take in what the broker at this address tells.
pub(super) async fn inquire(
    connection: &Connection,
    names: &[Arc<str>],
    within: Duration,
    learn: impl Fn(&MetadataResponse, &str) -> Worth,
) -> Result<Worth, Failure> {
    // Without names: only the brokers.
    let mut chunks = names.chunks(MOST_NAMES);
    let mut chunk = chunks.next().unwrap_or_default();
    let mut worth = Worth::default();
    loop {
        let asked = ask(connection, chunk, within).await;
        let answer = asked.map_err(|e| Failure::Why(format!("{}: {e}", connection.address)))?;
        match ErrorCode::from(answer.error_code) {
            ErrorCode::REBOOTSTRAP_REQUIRED => return Err(Failure::Rebootstrap),
            code if !code.is_ok() => return Err(Failure::Why(format!("Metadata: {}", code.name()))),
            _ => worth = worth.with(learn(&answer, &connection.address)),
        }
        match chunks.next() {
            Some(next) => chunk = next,
            None => return Ok(worth),
        }
    }
}

async fn ask(connection: &Connection, names: &[Arc<str>], within: Duration) -> Result<MetadataResponse, CallError> {
    let version = connection
        .version(ApiKey::Metadata, 13)
        .ok_or(CallError::Unsendable("the broker shares no version of Metadata"))?;
    let topics = names
        .iter()
        .map(|name| MetadataRequestTopic::default().with_name(Some(topic_name(name))))
        .collect();
    let request = MetadataRequest::default()
        .with_topics(Some(topics))
        .with_allow_auto_topic_creation(false);
    connection.send(ApiKey::Metadata, version, &request, within)?.answer().await
}
