//! A few requests that no console tool of this Kafka can make: transactions, quotas, what a broker remembers of producers. Plain
//! frames over a blocking socket, written by kafka-protocol; shares no line with `src/upstream`.

use std::io::{Read, Write};
use std::net::TcpStream;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, AlterClientQuotasRequest, AlterClientQuotasResponse, ApiKey,
    DeleteTopicsRequest, DeleteTopicsResponse, DescribeProducersRequest, DescribeProducersResponse, EndTxnRequest, EndTxnResponse,
    FindCoordinatorRequest, FindCoordinatorResponse, InitProducerIdRequest, InitProducerIdResponse, ListGroupsRequest, ListGroupsResponse,
    ProduceRequest, ProduceResponse, RequestHeader, ResponseHeader, TopicName, TransactionalId,
    add_partitions_to_txn_request::AddPartitionsToTxnTopic, alter_client_quotas_request as quotas, delete_topics_request::DeleteTopicState,
    describe_producers_request::TopicRequest, produce_request as produce,
};
use kafka_protocol::messages::{MetadataRequest, MetadataResponse, metadata_request::MetadataRequestTopic};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes, encode_request_header_into_buffer};

#[path = "../tests/fake_broker/records.rs"]
#[allow(dead_code)] // Other tests use the rest.
mod records;

use crate::stage::eventually;
use records::{Batch, record};

/// One request to one broker, and its answer.
fn ask<Q: Encodable + HeaderVersion, A: Decodable + HeaderVersion>(broker: &str, api: ApiKey, version: i16, request: &Q) -> A {
    let mut out = BytesMut::new();
    out.put_u32(0);
    let header = RequestHeader::default()
        .with_request_api_key(api as i16)
        .with_request_api_version(version)
        .with_client_id(Some(StrBytes::from_static_str("test")));
    encode_request_header_into_buffer(&mut out, &header).unwrap();
    request.encode(&mut out, version).unwrap();
    let length = (out.len() - 4) as u32;
    out[..4].copy_from_slice(&length.to_be_bytes());
    let mut stream = TcpStream::connect(broker).unwrap();
    stream.write_all(&out).unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut frame).unwrap();
    let mut frame = Bytes::from(frame);
    ResponseHeader::decode(&mut frame, A::header_version(version)).unwrap();
    let answer = A::decode(&mut frame, version).unwrap();
    assert!(!frame.has_remaining());
    answer
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// Deletes a topic.
pub fn delete_topic(broker: &str, topic: &str) {
    let state = DeleteTopicState::default().with_name(Some(TopicName(text(topic))));
    let request = DeleteTopicsRequest::default().with_topics(vec![state]).with_timeout_ms(30_000);
    let answer: DeleteTopicsResponse = ask(broker, ApiKey::DeleteTopics, 6, &request);
    assert_eq!(answer.responses[0].error_code, 0);
}

/// Writes `values` with `key` to partition 0 in a transaction of its own, and commits or aborts it. Of a Kafka of one node.
pub fn transaction(broker: &str, topic: &str, key: &str, values: &[&str], commit: bool) {
    let name = TransactionalId(text(&format!("{topic}-{}", values.join("-"))));
    let find = FindCoordinatorRequest::default()
        .with_key_type(1)
        .with_coordinator_keys(vec![name.0.clone()]);
    eventually("a transaction coordinator", || {
        let answer: FindCoordinatorResponse = ask(broker, ApiKey::FindCoordinator, 4, &find);
        (answer.coordinators[0].error_code == 0).then_some(())
    });
    let begin = InitProducerIdRequest::default()
        .with_transactional_id(Some(name.clone()))
        .with_transaction_timeout_ms(10_000);
    let producer = eventually("a producer id", || {
        let answer: InitProducerIdResponse = ask(broker, ApiKey::InitProducerId, 2, &begin);
        (answer.error_code == 0).then_some(answer)
    });
    assert_eq!(producer.producer_epoch, 0, "the batch says so");
    let partition = AddPartitionsToTxnTopic::default()
        .with_name(TopicName(text(topic)))
        .with_partitions(vec![0]);
    let add = AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(name.clone())
        .with_v3_and_below_producer_id(producer.producer_id)
        .with_v3_and_below_topics(vec![partition]);
    eventually("the partition in the transaction", || {
        let answer: AddPartitionsToTxnResponse = ask(broker, ApiKey::AddPartitionsToTxn, 3, &add);
        let code = answer.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code;
        (code == 0).then_some(())
    });
    let records: Vec<_> = values.iter().map(|value| record(key, value)).collect();
    let batch = Batch::of(&records).transaction(*producer.producer_id, 0).bytes();
    let data = produce::PartitionProduceData::default().with_records(Some(batch.into()));
    let data = produce::TopicProduceData::default()
        .with_name(TopicName(text(topic)))
        .with_partition_data(vec![data]);
    let write = ProduceRequest::default()
        .with_transactional_id(Some(name.clone()))
        .with_acks(-1)
        .with_timeout_ms(10_000)
        .with_topic_data(vec![data]);
    let written: ProduceResponse = ask(broker, ApiKey::Produce, 9, &write);
    assert_eq!(written.responses[0].partition_responses[0].error_code, 0);
    let end = EndTxnRequest::default()
        .with_transactional_id(name)
        .with_producer_id(producer.producer_id)
        .with_producer_epoch(0)
        .with_committed(commit);
    let ended: EndTxnResponse = ask(broker, ApiKey::EndTxn, 3, &end);
    assert_eq!(ended.error_code, 0);
}

/// Whether a broker answers, and knows a leader of each partition of a topic.
pub fn is_led(broker: &str, topic: &str) -> bool {
    if TcpStream::connect(broker).is_err() {
        return false;
    }
    let topic = MetadataRequestTopic::default().with_name(Some(TopicName(text(topic))));
    let request = MetadataRequest::default().with_topics(Some(vec![topic]));
    let answer: MetadataResponse = ask(broker, ApiKey::Metadata, 9, &request);
    let topic = &answer.topics[0];
    topic.error_code == 0 && topic.partitions.iter().all(|partition| partition.error_code == 0)
}

/// The groups that a broker coordinates.
pub fn coordinated_groups(broker: &str) -> Vec<String> {
    let answer: ListGroupsResponse = ask(broker, ApiKey::ListGroups, 4, &ListGroupsRequest::default());
    assert_eq!(answer.error_code, 0);
    answer.groups.iter().map(|group| group.group_id.to_string()).collect()
}

/// Lets a client id produce so many bytes a second at each broker.
pub fn producer_quota(broker: &str, client_id: &str, bytes_per_second: f64) {
    let entity = quotas::EntityData::default()
        .with_entity_type(StrBytes::from_static_str("client-id"))
        .with_entity_name(Some(text(client_id)));
    let value = quotas::OpData::default()
        .with_key(StrBytes::from_static_str("producer_byte_rate"))
        .with_value(bytes_per_second);
    let entry = quotas::EntryData::default().with_entity(vec![entity]).with_ops(vec![value]);
    let request = AlterClientQuotasRequest::default().with_entries(vec![entry]);
    let answer: AlterClientQuotasResponse = ask(broker, ApiKey::AlterClientQuotas, 1, &request);
    assert_eq!(answer.entries[0].error_code, 0);
}

/// How many producers a broker remembers in partition 0 of a topic.
pub fn producers(broker: &str, topic: &str) -> usize {
    let topic = TopicRequest::default()
        .with_name(TopicName(text(topic)))
        .with_partition_indexes(vec![0]);
    let request = DescribeProducersRequest::default().with_topics(vec![topic]);
    let answer: DescribeProducersResponse = ask(broker, ApiKey::DescribeProducers, 0, &request);
    let partition = &answer.topics[0].partitions[0];
    assert_eq!(partition.error_code, 0);
    partition.active_producers.len()
}
