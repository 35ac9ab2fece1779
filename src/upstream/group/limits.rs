//! What the coordinator's broker allows, for whoever must choose another session timeout.

use kafka_protocol::{
    messages::{ApiKey, DescribeConfigsRequest, DescribeConfigsResponse, describe_configs_request::DescribeConfigsResource},
    protocol::StrBytes,
};

use super::coordinator::{Coordinator, Identity, text};
use crate::upstream::cluster::Core;

/// The resource type of a broker.
const BROKER: i8 = 4;
const LEAST: &str = "group.min.session.timeout.ms";
const MOST: &str = "group.max.session.timeout.ms";

/// "name=value" of both limits; only the names if the broker does not tell, for want of a permission or whatever else.
pub(super) async fn session_timeouts(at: &Coordinator, core: &Core, me: &Identity) -> String {
    let known = ask(at, core, me).await.unwrap_or_default();
    let spelled = [LEAST, MOST].map(|name| {
        let value = known.iter().find(|(of, _)| **of == *name);
        value.map_or_else(|| name.to_owned(), |(_, value)| format!("{name}={value}"))
    });
    spelled.join(" and ")
}

async fn ask(at: &Coordinator, core: &Core, me: &Identity) -> Option<Vec<(StrBytes, StrBytes)>> {
    let broker = DescribeConfigsResource::default()
        .with_resource_type(BROKER)
        .with_resource_name(text(&at.node().to_string()))
        .with_configuration_keys(Some([LEAST, MOST].map(StrBytes::from_static_str).to_vec()));
    let make = |_| DescribeConfigsRequest::default().with_resources(vec![broker]);
    let asked = at
        .call::<_, DescribeConfigsResponse>(core, me, ApiKey::DescribeConfigs, 4, make)
        .await;
    let configs = asked.ok()?.results.into_iter().flat_map(|result| result.configs);
    Some(configs.filter_map(|config| Some((config.name, config.value?))).collect())
}
