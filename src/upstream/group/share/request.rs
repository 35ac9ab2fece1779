//! ShareFetch in the version that acquires no more than was asked for (KIP-1206) and renews locks (KIP-1222), which kafka-protocol does not
//! have yet.

use bytes::{BufMut, BytesMut};
use uuid::Uuid;

use crate::upstream::{
    connection::{Body, CallError},
    pieces::Pieces,
};

/// The version that is spoken. Apache Kafka has it from 4.2 on.
pub(super) const VERSION: i16 = 2;
/// Not one record more than `max_records` is acquired (`ShareAcquireMode`).
const RECORD_LIMIT: i8 = 1;

/// What becomes of records that were acquired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckKind {
    /// There is no record.
    Gap = 0,
    /// It is done.
    Accept = 1,
    /// Another gets it.
    Release = 2,
    /// Nobody gets it any more.
    Reject = 3,
    /// It is still worked on: its lock begins anew.
    Renew = 4,
}

/// The same for all offsets from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AckBatch {
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) kind: AckKind,
}

/// A partition of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) topic: Uuid,
    pub(super) partition: i32,
    pub(super) acks: Vec<AckBatch>,
}

/// One request. Pieces and what is forgotten are ordered by topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ShareFetch {
    pub(super) group: String,
    pub(super) member: String,
    /// 0 opens the session, -1 closes it.
    pub(super) epoch: i32,
    /// All 0: nothing is fetched.
    pub(super) max_wait: i32,
    pub(super) max_bytes: i32,
    pub(super) max_records: i32,
    pub(super) pieces: Vec<Piece>,
    pub(super) forgotten: Vec<(Uuid, i32)>,
}

impl Body for ShareFetch {
    fn put(&self, _: i16, into: &mut Pieces) -> Result<(), CallError> {
        self.encode(into.end());
        Ok(())
    }
}

impl ShareFetch {
    /// Whether records are asked for.
    pub(super) fn fetches(&self) -> bool {
        self.max_records > 0
    }

    fn encode(&self, out: &mut BytesMut) {
        text(out, &self.group);
        text(out, &self.member);
        out.put_i32(self.epoch);
        out.put_i32(self.max_wait);
        out.put_i32(i32::from(self.fetches()));
        out.put_i32(self.max_bytes);
        out.put_i32(self.max_records);
        // Records that are acknowledged one by one are not helped by larger batches.
        out.put_i32(self.max_records);
        out.put_i8(RECORD_LIMIT);
        // With it nothing may be fetched, and any kind of acknowledgement may come.
        out.put_u8(u8::from(!self.fetches() && self.epoch > 0));
        array(out, by_topic(&self.pieces, |piece| piece.topic), |out, pieces| {
            out.put_slice(pieces[0].topic.as_bytes());
            array(out, pieces.iter(), |out, piece| {
                out.put_i32(piece.partition);
                array(out, piece.acks.iter(), |out, batch| {
                    out.put_i64(batch.first);
                    out.put_i64(batch.last);
                    unsigned(out, 2);
                    out.put_i8(batch.kind as i8);
                    no_tags(out);
                });
                no_tags(out);
            });
            no_tags(out);
        });
        array(out, by_topic(&self.forgotten, |(topic, _)| *topic), |out, places| {
            out.put_slice(places[0].0.as_bytes());
            array(out, places.iter(), |out, (_, partition)| out.put_i32(*partition));
            no_tags(out);
        });
        no_tags(out);
    }
}

/// Stretches of the same topic.
fn by_topic<T>(all: &[T], topic: impl Fn(&T) -> Uuid) -> std::vec::IntoIter<&[T]> {
    let stretches: Vec<&[T]> = all.chunk_by(|a, b| topic(a) == topic(b)).collect();
    stretches.into_iter()
}

fn array<I: ExactSizeIterator>(out: &mut BytesMut, elements: I, put: impl Fn(&mut BytesMut, I::Item)) {
    unsigned(out, elements.len() as u64 + 1);
    elements.for_each(|element| put(out, element));
}

fn text(out: &mut BytesMut, text: &str) {
    unsigned(out, text.len() as u64 + 1);
    out.put_slice(text.as_bytes());
}

fn no_tags(out: &mut BytesMut) {
    out.put_u8(0);
}

fn unsigned(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

#[cfg(test)]
mod tests {
    use kafka_protocol::{
        messages::{
            GroupId, ShareFetchRequest,
            share_fetch_request::{AcknowledgementBatch, FetchPartition, FetchTopic, ForgottenTopic},
        },
        protocol::{Encodable, StrBytes},
    };

    use super::*;

    /// Version 1 has neither the mode nor the flag: two bytes behind the batch size.
    #[test]
    fn but_for_what_is_new_it_is_encoded_as_kafka_protocol_encodes_the_version_before() {
        let (a, b) = (Uuid::from_u128(5), Uuid::from_u128(6));
        let acks = vec![
            AckBatch {
                first: 3,
                last: 300,
                kind: AckKind::Accept,
            },
            AckBatch {
                first: 301,
                last: 301,
                kind: AckKind::Renew,
            },
        ];
        let piece = |topic, partition, acks: &[AckBatch]| Piece {
            topic,
            partition,
            acks: acks.to_vec(),
        };
        let ours = ShareFetch {
            group: "g".repeat(200),
            member: "member".to_owned(),
            epoch: 7,
            max_wait: 500,
            max_bytes: 1_000_000,
            max_records: 40,
            pieces: vec![piece(a, 0, &acks), piece(a, 1, &[]), piece(b, 0, &acks[..1])],
            forgotten: vec![(a, 4), (a, 5), (b, 1)],
        };
        let theirs = |piece: &Piece| {
            let batches = piece.acks.iter().map(|ack| {
                AcknowledgementBatch::default()
                    .with_first_offset(ack.first)
                    .with_last_offset(ack.last)
                    .with_acknowledge_types(vec![ack.kind as i8])
            });
            FetchPartition::default()
                .with_partition_index(piece.partition)
                .with_acknowledgement_batches(batches.collect())
        };
        let topic = |id, pieces: &[Piece]| {
            FetchTopic::default()
                .with_topic_id(id)
                .with_partitions(pieces.iter().map(theirs).collect())
        };
        let forgotten = |id, partitions: &[i32]| ForgottenTopic::default().with_topic_id(id).with_partitions(partitions.to_vec());
        let before = ShareFetchRequest::default()
            .with_group_id(Some(GroupId(StrBytes::from_string(ours.group.clone()))))
            .with_member_id(Some(StrBytes::from_string(ours.member.clone())))
            .with_share_session_epoch(7)
            .with_max_wait_ms(500)
            .with_min_bytes(1)
            .with_max_bytes(1_000_000)
            .with_max_records(40)
            .with_batch_size(40)
            .with_topics(vec![topic(a, &ours.pieces[..2]), topic(b, &ours.pieces[2..])])
            .with_forgotten_topics_data(vec![forgotten(a, &[4, 5]), forgotten(b, &[1])]);
        let (mut out, mut expected) = (BytesMut::new(), BytesMut::new());
        ours.encode(&mut out);
        before.encode(&mut expected, 1).unwrap();
        let new = 2 + 200 + 1 + 6 + 6 * 4;
        assert_eq!(out[new..new + 2], [1, 0], "the record limit, and no renewal beside a fetch");
        assert_eq!([&out[..new], &out[new + 2..]].concat(), expected);
        let alone = ShareFetch { max_records: 0, ..ours };
        let mut out = BytesMut::new();
        alone.encode(&mut out);
        assert_eq!(out[new..new + 2], [1, 1], "any kind, and nothing is fetched");
    }
}
