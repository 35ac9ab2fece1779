//! Topics that clients make, and how they are set.

use std::{collections::HashMap, sync::Mutex};

use bytes::Bytes;
use kafka_protocol::{
    messages::{
        ApiKey, BrokerId, CreateTopicsRequest, CreateTopicsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
        create_topics_request::CreatableTopic,
        create_topics_response::CreatableTopicResult,
        describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult},
    },
    protocol::{Decodable, StrBytes},
};
use uuid::Uuid;

use super::{Fault, Partition, Topic, World, serve::encoded};

/// How topics are set.
#[derive(Default)]
pub struct Admin {
    /// By topic.
    pub settings: HashMap<String, HashMap<String, String>>,
    /// Replicas of topics; one, if not said.
    pub replicated: HashMap<String, usize>,
    /// Topics that were made by a client, in order.
    pub made: Vec<String>,
}

impl Admin {
    pub fn replicas(&self, topic: &str) -> Vec<BrokerId> {
        let count = self.replicated.get(topic).copied().unwrap_or(1);
        (1..=count as i32).map(BrokerId).collect()
    }

    pub fn set(&mut self, topic: &str, key: &str, value: &str) {
        self.settings
            .entry(topic.to_owned())
            .or_default()
            .insert(key.to_owned(), value.to_owned());
    }
}

pub fn answer(world: &Mutex<World>, api: ApiKey, version: i16, mut body: Bytes, fault: Option<&Fault>) -> Option<Bytes> {
    let code = match fault {
        Some(Fault::Code(code)) => *code,
        _ => 0,
    };
    let mut world = world.lock().unwrap();
    if api == ApiKey::CreateTopics {
        let request = CreateTopicsRequest::decode(&mut body, version).unwrap();
        let results = request.topics.iter().map(|topic| {
            let code = if code == 0 {
                make(&mut world, topic, request.validate_only)
            } else {
                code
            };
            CreatableTopicResult::default()
                .with_name(topic.name.clone())
                .with_error_code(code)
                .with_error_message((code != 0).then(|| StrBytes::from_static_str("as the test wants it.")))
        });
        return encoded(&CreateTopicsResponse::default().with_topics(results.collect()), version);
    }
    let request = DescribeConfigsRequest::decode(&mut body, version).unwrap();
    let results = request.resources.iter().map(|resource| {
        let told = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone())
            .with_error_code(code);
        let set = world.admin.settings.get(resource.resource_name.as_str());
        let configs = set.into_iter().flatten().filter(|_| code == 0).map(|(name, value)| {
            DescribeConfigsResourceResult::default()
                .with_name(StrBytes::from_string(name.clone()))
                .with_value(Some(StrBytes::from_string(value.clone())))
        });
        told.with_configs(configs.collect())
    });
    encoded(&DescribeConfigsResponse::default().with_results(results.collect()), version)
}

/// The code of the attempt.
fn make(world: &mut World, wanted: &CreatableTopic, validate_only: bool) -> i16 {
    let name = wanted.name.to_string();
    if world.topics.contains_key(&name) {
        return 36;
    }
    if usize::try_from(wanted.replication_factor).unwrap() > world.brokers.len() {
        return 38;
    }
    if validate_only {
        return 0;
    }
    world.next_uuid += 1;
    let partitions = (0..wanted.num_partitions).map(|_| Partition {
        leader: 1,
        ..Partition::default()
    });
    let id = Uuid::from_u128(world.next_uuid);
    world.topics.insert(
        name.clone(),
        Topic {
            id,
            partitions: partitions.collect(),
        },
    );
    world.admin.replicated.insert(name.clone(), wanted.replication_factor as usize);
    for config in &wanted.configs {
        world.admin.set(&name, &config.name, config.value.as_ref().unwrap());
    }
    world.admin.made.push(name);
    0
}
