//! The body of a Produce request with its batches where they lie. kafka-protocol would copy them.

use bytes::{BufMut, Bytes, BytesMut};
use uuid::Uuid;

use super::{
    connection::{Body, CallError},
    pieces::Pieces,
};

/// The first version that names topics by id.
pub(super) const BY_ID: i16 = 13;
/// The first with compact lengths and tagged fields (KIP-482).
const FLEXIBLE: i16 = 9;

/// The body, without a transactional id, in versions 3 to 13.
pub(super) struct Batches<'a> {
    pub(super) acks: i16,
    pub(super) timeout_ms: i32,
    pub(super) topics: Vec<TopicBatches<'a>>,
}

/// Of one topic. The version says whether name or id is told.
pub(super) struct TopicBatches<'a> {
    pub(super) name: &'a str,
    pub(super) id: Uuid,
    /// By the index of the partition.
    pub(super) batches: Vec<(i32, &'a Bytes)>,
}

impl Body for Batches<'_> {
    fn put(&self, version: i16, into: &mut Pieces) -> Result<(), CallError> {
        let flexible = version >= FLEXIBLE;
        match flexible {
            true => into.end().put_u8(0),
            false => into.end().put_i16(-1),
        }
        into.end().put_i16(self.acks);
        into.end().put_i32(self.timeout_ms);
        put_length(into.end(), self.topics.len(), flexible)?;
        for topic in &self.topics {
            topic.put(version, into)?;
        }
        put_no_tags(into.end(), flexible);
        Ok(())
    }
}

impl TopicBatches<'_> {
    fn put(&self, version: i16, into: &mut Pieces) -> Result<(), CallError> {
        let flexible = version >= FLEXIBLE;
        if version >= BY_ID {
            into.end().put_slice(self.id.as_bytes());
        } else {
            match flexible {
                true => put_length(into.end(), self.name.len(), true)?,
                false => into.end().put_i16(i16::try_from(self.name.len()).map_err(|_| TOO_LONG)?),
            }
            into.end().put_slice(self.name.as_bytes());
        }
        put_length(into.end(), self.batches.len(), flexible)?;
        for (partition, batch) in &self.batches {
            into.end().put_i32(*partition);
            put_length(into.end(), batch.len(), flexible)?;
            into.lend(batch);
            put_no_tags(into.end(), flexible);
        }
        put_no_tags(into.end(), flexible);
        Ok(())
    }
}

const TOO_LONG: CallError = CallError::Unsendable("the request cannot be encoded");

/// The count of an array, or the length of records; of a text, if it is compact.
fn put_length(into: &mut BytesMut, length: usize, compact: bool) -> Result<(), CallError> {
    let length = i32::try_from(length).ok().filter(|length| *length < i32::MAX).ok_or(TOO_LONG)?;
    if !compact {
        into.put_i32(length);
        return Ok(());
    }
    let mut rest = length.cast_unsigned() + 1;
    while rest >= 0x80 {
        into.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    into.put_u8(rest as u8);
    Ok(())
}

fn put_no_tags(into: &mut BytesMut, flexible: bool) {
    if flexible {
        into.put_u8(0);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Buf;
    use kafka_protocol::{
        messages::{
            ProduceRequest,
            produce_request::{PartitionProduceData, TopicProduceData},
        },
        protocol::Encodable,
    };

    use super::*;
    use crate::upstream::metadata::topic_name;

    fn theirs(of: &Batches<'_>, version: i16) -> BytesMut {
        let topics = of.topics.iter().map(|topic| {
            let pieces = topic.batches.iter().map(|(index, batch)| {
                PartitionProduceData::default()
                    .with_index(*index)
                    .with_records(Some(Bytes::clone(batch)))
            });
            let named = match version < BY_ID {
                true => TopicProduceData::default().with_name(topic_name(topic.name)),
                false => TopicProduceData::default().with_topic_id(topic.id),
            };
            named.with_partition_data(pieces.collect())
        });
        let request = ProduceRequest::default().with_acks(of.acks).with_timeout_ms(of.timeout_ms);
        let mut bytes = BytesMut::new();
        request.with_topic_data(topics.collect()).encode(&mut bytes, version).unwrap();
        bytes
    }

    #[test]
    fn each_version_is_written_as_kafka_protocol_writes_it() {
        let batches: Vec<Bytes> = [0, 61, 126, 127, 128, 1023, 1024, 16_382, 16_383, 3_000_000]
            .map(|length| Bytes::from(vec![9; length]))
            .to_vec();
        let of = |name, id, from| TopicBatches {
            name,
            id: Uuid::from_u128(id),
            batches: (from..).zip(&batches[from as usize..]).collect(),
        };
        let long = "n".repeat(249);
        for version in 3..=13 {
            for topics in [vec![], vec![of("t", 1, 0)], vec![of("a", 2, 4), of(&long, u128::MAX, 7)]] {
                let ours = Batches {
                    acks: -1,
                    timeout_ms: 10_000,
                    topics,
                };
                let mut pieces = Pieces::default();
                ours.put(version, &mut pieces).unwrap();
                let length = pieces.len();
                assert!(pieces.ready().copy_to_bytes(length) == theirs(&ours, version), "version {version}");
            }
        }
    }
}
