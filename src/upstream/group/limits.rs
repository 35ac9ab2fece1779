//! What the coordinator's broker allows, for an operator who is told what it refuses.

use std::sync::atomic::Ordering::Relaxed;

use kafka_protocol::{
    messages::{ApiKey, DescribeConfigsRequest, DescribeConfigsResponse, describe_configs_request::DescribeConfigsResource},
    protocol::StrBytes,
};

use super::coordinator::{Coordinator, Fault, Identity, text};
use crate::{kafka::error::ErrorCode, upstream::cluster::Core};

/// The resource types of a topic and of a broker.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
/// Where the brokers keep groups.
const GROUPS: &str = "__consumer_offsets";
/// How large a message is there unless its operator changed that.
const USUAL_MESSAGE: usize = 1_048_588;
const LEAST: &str = "group.min.session.timeout.ms";
const MOST: &str = "group.max.session.timeout.ms";

/// "name=value" of both limits; only the names if the broker does not tell, for want of a permission or whatever else.
pub(super) async fn session_timeouts(at: &Coordinator, core: &Core, me: &Identity) -> String {
    let known = ask(at, core, me, (BROKER, &at.node().to_string()), &[LEAST, MOST])
        .await
        .unwrap_or_default();
    let spelled = [LEAST, MOST].map(|name| {
        let value = known.iter().find(|(of, _)| **of == *name);
        value.map_or_else(|| name.to_owned(), |(_, value)| format!("{name}={value}"))
    });
    spelled.join(" and ")
}

/// A refusal of the SyncGroup of one that leads so many members and has given them so many bytes, with the size of the group if that is
/// likely the matter: a broker that cannot write a group down because it is larger than a message may be says UNKNOWN_SERVER_ERROR.
pub(super) async fn sync_refused(
    at: &Coordinator,
    core: &Core,
    me: &Identity,
    (error, why): (ErrorCode, String),
    (members, given): (usize, usize),
) -> Fault {
    if error != ErrorCode::UNKNOWN_SERVER_ERROR || members == 0 {
        return Fault::Refused(error, why);
    }
    let bytes = given + at.subscribed.load(Relaxed);
    let limit = group_bytes(at, core, me).await;
    // The broker adds some hundred bytes for each member.
    if bytes < limit / 2 {
        return Fault::Refused(error, why);
    }
    let why = format!(
        "{why}: the data of its {members} members are {bytes} bytes, and the brokers keep a group in one message of {GROUPS} of at most \
         {limit} (max.message.bytes): there must be fewer members, or that must be raised"
    );
    Fault::Refused(ErrorCode::MESSAGE_TOO_LARGE, why)
}

/// How many bytes a group may have; what is usual if the broker does not tell.
async fn group_bytes(at: &Coordinator, core: &Core, me: &Identity) -> usize {
    let known = ask(at, core, me, (TOPIC, GROUPS), &["max.message.bytes"]).await;
    let told = known.and_then(|known| known.first()?.1.parse().ok());
    told.unwrap_or(USUAL_MESSAGE)
}

async fn ask(
    at: &Coordinator,
    core: &Core,
    me: &Identity,
    (kind, name): (i8, &str),
    keys: &[&'static str],
) -> Option<Vec<(StrBytes, StrBytes)>> {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configuration_keys(Some(keys.iter().map(|key| StrBytes::from_static_str(key)).collect()));
    let make = |_| DescribeConfigsRequest::default().with_resources(vec![resource]);
    let asked = at
        .call::<_, DescribeConfigsResponse>(core, me, ApiKey::DescribeConfigs, 4, make)
        .await;
    let configs = asked.ok()?.results.into_iter().flat_map(|result| result.configs);
    Some(configs.filter_map(|config| Some((config.name, config.value?))).collect())
}
