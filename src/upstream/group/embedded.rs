//! The bytes that members send each other through the coordinator: subscriptions to the one that leads, assignments back.
//!
//! They are Kafka's consumer protocol (ConsumerProtocolSubscription, ConsumerProtocolAssignment), so that its tools can show them. The
//! coordinator passes on whatever members wrote, so here every length and count is held against the bytes that are there before
//! memory is reserved, and there is a bound to what is believed at all.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::{
    messages::{
        ConsumerProtocolAssignment, ConsumerProtocolSubscription, TopicName, consumer_protocol_assignment as assignment,
        consumer_protocol_subscription as subscription,
    },
    protocol::{Encodable, StrBytes},
};

use super::{assign::Candidate, event::TopicPartition, settings::MOST_USER_DATA};

/// The version of the subscription that we write: the first with the generation of what is owned (KIP-792).
const SUBSCRIPTION: i16 = 2;
/// The newest whose beginning we understand; newer ones only add at the end.
const NEWEST: i16 = 3;
/// The version of the assignment that we write.
const ASSIGNMENT: i16 = 0;
/// The first byte of an assignment's user data.
const USER_DATA: u8 = 2;
/// The most topics, and the most partitions, that one member may name.
const MOST_NAMED: usize = 100_000;
/// The longest name of a topic that Kafka takes.
const LONGEST_NAME: usize = 249;

/// What the one that leads has decided for a member.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Assignment {
    pub(super) partitions: BTreeSet<TopicPartition>,
    /// How many members there are.
    pub(super) size: u32,
    /// The user data of all members that say something, if this one has partitions. Nobody else is told: Kafka keeps all assignments of
    /// a group in one message, and with everybody's data in each it would grow with the square of the members.
    pub(super) members: Vec<Bytes>,
    /// Some partitions are nobody's in this generation: members must give them up first, and then ask for the next.
    pub(super) partial: bool,
    /// [`fingerprint`] of the partition counts that it rests on.
    pub(super) fingerprint: u64,
}

/// A member's subscription, as JoinGroup carries it.
pub(super) fn subscription(topics: &[Arc<str>], user_data: &Bytes, owned: &[TopicPartition], generation: i32) -> Bytes {
    let owned = by_topic(owned).into_iter().map(|(topic, partitions)| {
        subscription::TopicPartition::default()
            .with_topic(name(topic))
            .with_partitions(partitions)
    });
    let body = ConsumerProtocolSubscription::default()
        .with_topics(topics.iter().map(|topic| StrBytes::from_string(topic.to_string())).collect())
        .with_user_data(Some(user_data.clone()))
        .with_owned_partitions(owned.collect())
        .with_generation_id(generation);
    framed(SUBSCRIPTION, &body)
}

/// What SyncGroup carries to one member.
pub(super) fn assignment(of: &Assignment) -> Bytes {
    let partitions: Vec<TopicPartition> = of.partitions.iter().cloned().collect();
    let partitions = by_topic(&partitions).into_iter().map(|(topic, partitions)| {
        assignment::TopicPartition::default()
            .with_topic(name(topic))
            .with_partitions(partitions)
    });
    let mut user_data = BytesMut::new();
    user_data.put_u8(USER_DATA);
    user_data.put_u8(of.partial.into());
    user_data.put_u64(of.fingerprint);
    user_data.put_u32(of.size);
    user_data.put_u32(u32::try_from(of.members.len()).expect("a group has fewer members"));
    for member in &of.members {
        user_data.put_u8(u8::try_from(member.len()).expect("bounded by MOST_USER_DATA"));
        user_data.put_slice(member);
    }
    let body = ConsumerProtocolAssignment::default()
        .with_assigned_partitions(partitions.collect())
        .with_user_data(Some(user_data.freeze()));
    framed(ASSIGNMENT, &body)
}

fn framed(version: i16, body: &impl Encodable) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(version);
    body.encode(&mut out, version)
        .expect("names are shorter than 32 KiB: Kafka told them, or took them");
    out.freeze()
}

fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

/// Grouped as requests and both protocols want it.
pub(super) fn by_topic(partitions: &[TopicPartition]) -> BTreeMap<&str, Vec<i32>> {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for one in partitions {
        topics.entry(&one.topic).or_default().push(one.partition);
    }
    topics
}

/// Another member's subscription, and its user data. `None` if it cannot be understood: then it gets nothing.
pub(super) fn read_subscription(member: &str, mut from: Bytes) -> Option<(Candidate, Bytes)> {
    let version = from.try_get_i16().ok().filter(|version| *version >= 0)?.min(NEWEST);
    let topics = array(&mut from, text)?;
    let user_data = blob(&mut from)?;
    let (mut owned, mut generation) = (Vec::new(), -1);
    if version >= 1 {
        owned = partitions(&mut from)?;
    }
    if version >= 2 {
        generation = from.try_get_i32().ok()?;
    }
    let candidate = Candidate {
        member: member.to_owned(),
        topics: topics.into_iter().collect(),
        owned,
        generation,
    };
    (user_data.len() <= MOST_USER_DATA).then_some((candidate, user_data))
}

/// What we were given. Empty bytes are nothing: a coordinator gives them to who joined too late. `None` if it cannot be understood.
pub(super) fn read_assignment(mut from: Bytes) -> Option<Assignment> {
    if from.is_empty() {
        return Some(Assignment::default());
    }
    from.try_get_i16().ok().filter(|version| *version >= 0)?;
    let partitions = partitions(&mut from)?.into_iter().collect();
    let mut user_data = blob(&mut from)?;
    if user_data.try_get_u8().ok()? != USER_DATA {
        return None;
    }
    let partial = user_data.try_get_u8().ok()? != 0;
    let fingerprint = user_data.try_get_u64().ok()?;
    let size = user_data.try_get_u32().ok()?;
    let members = array(&mut user_data, |from| {
        let length = usize::from(from.try_get_u8().ok()?);
        take(from, length)
    })?;
    Some(Assignment {
        partitions,
        size,
        members,
        partial,
        fingerprint,
    })
}

fn partitions(from: &mut Bytes) -> Option<Vec<TopicPartition>> {
    let mut all = Vec::new();
    let topics = array(from, |from| {
        let topic = text(from)?;
        Some((topic, array(from, |from| from.try_get_i32().ok())?))
    })?;
    for (topic, partitions) in topics {
        for partition in partitions {
            let topic = Arc::clone(&topic);
            all.push(TopicPartition { topic, partition });
        }
        if all.len() > MOST_NAMED {
            return None;
        }
    }
    Some(all)
}

/// A count and so many elements. Memory follows what is there.
fn array<T>(from: &mut Bytes, element: impl Fn(&mut Bytes) -> Option<T>) -> Option<Vec<T>> {
    let count = usize::try_from(from.try_get_i32().ok()?.max(0)).ok()?;
    // An element has a byte or more.
    if count > MOST_NAMED || count > from.len() {
        return None;
    }
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(element(from)?);
    }
    Some(all)
}

fn text(from: &mut Bytes) -> Option<Arc<str>> {
    let length = usize::try_from(from.try_get_i16().ok()?).ok()?;
    let bytes = take(from, length).filter(|bytes| bytes.len() <= LONGEST_NAME)?;
    std::str::from_utf8(&bytes).ok().map(Arc::from)
}

/// Four bytes of length; null is empty.
fn blob(from: &mut Bytes) -> Option<Bytes> {
    let length = usize::try_from(from.try_get_i32().ok()?.max(0)).ok()?;
    take(from, length)
}

fn take(from: &mut Bytes, length: usize) -> Option<Bytes> {
    (length <= from.len()).then(|| from.split_to(length))
}

/// A number for partition counts: another one for others, as good as always. FNV-1a; the same in every build, since members compare.
pub(super) fn fingerprint(counts: &BTreeMap<Arc<str>, i32>) -> u64 {
    let bytes = counts
        .iter()
        .flat_map(|(topic, count)| topic.bytes().chain([0]).chain(count.to_be_bytes()));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
