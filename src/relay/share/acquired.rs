//! Records that a share group has locked for this instance become messages; of those that are none it is said at once what becomes of them.

use std::sync::Arc;

use super::{
    Message,
    messages::{Scratch, finish},
};
use crate::{
    kafka::fetched::{self, Batch, BatchError},
    mapping::{self, MissingSchema},
    ownership::Source,
    relay::{
        allowance,
        budget::Budget,
        chunk::{ChunkBuilder, SourceId},
        feed::LIMITS,
        hub::Hub,
        scribe::{self, Clock},
    },
    upstream::{AckKind, Acquired, AcquiredRange},
};

/// A batch that could not be read may be damaged on its way: it is given back so often, and then left out.
const READ_TWICE: i16 = 2;

/// What came of records.
#[derive(Default)]
pub(super) struct Made {
    /// With their offsets, and how often they were given out.
    pub(super) messages: Vec<(i64, i16, Message)>,
    /// What becomes of the others, from the first offset to the last.
    pub(super) settled: Vec<(i64, i64, AckKind)>,
    /// Those whose schema is to be looked for: nothing is said of them yet.
    pub(super) waiting: Vec<(AcquiredRange, MissingSchema)>,
}

/// Makes messages of what was acquired, at the cost of `held`; in several turns, if programs take long. `waited`: schemas were looked for, and what has
/// none by now is passed over.
pub(super) async fn make(
    hub: &Hub,
    held: &Arc<Budget>,
    acquired: &Acquired,
    (filter, waited): (&str, bool),
    scratch: &mut Scratch,
) -> Made {
    allowance::begin();
    let mut ranges = acquired.ranges.clone();
    ranges.sort_unstable_by_key(|range| range.first);
    let (Some(first), Some(last)) = (ranges.first().map(|range| range.first), ranges.iter().map(|range| range.last).max()) else {
        return Made::default();
    };
    let source = Source {
        topic: *acquired.topic_id.as_bytes(),
        partition: acquired.partition.cast_unsigned(),
    };
    let mut maker = Maker {
        hub,
        rules: hub.rules.reader(&acquired.topic),
        acquired,
        filter,
        waited,
        scratch,
        ranges: &ranges,
        builder: ChunkBuilder::new(SourceId::fresh(), source, held.clone()),
        messages: Vec::new(),
        seen: Vec::new(),
        made: Made::default(),
        damage: None,
    };
    let mut batches = fetched::batches(acquired.records.clone(), LIMITS).starting_at(first);
    while batches.next_base().is_some_and(|base| base <= last)
        && let Some(batch) = batches.next()
    {
        match batch {
            Ok(batch) => maker.batch(&batch).await,
            Err(error) => maker.damage = Some(error),
        }
    }
    maker.finish()
}

struct Maker<'a> {
    hub: &'a Hub,
    rules: mapping::Reader,
    acquired: &'a Acquired,
    filter: &'a str,
    waited: bool,
    scratch: &'a mut Scratch,
    /// In order.
    ranges: &'a [AcquiredRange],
    builder: ChunkBuilder,
    messages: Vec<(i64, Message)>,
    /// Offsets of records that were acquired and are there.
    seen: Vec<i64>,
    made: Made,
    damage: Option<BatchError>,
}

/// The range that an offset is in.
fn range_of(ranges: &[AcquiredRange], offset: i64) -> Option<&AcquiredRange> {
    let behind = ranges.partition_point(|range| range.first <= offset);
    ranges[..behind].last().filter(|range| offset <= range.last)
}

impl Maker<'_> {
    async fn batch(&mut self, batch: &Batch) {
        if batch.is_control {
            return;
        }
        let clock = Clock::now();
        for record in batch.records() {
            let record = match record {
                Ok(record) => record,
                Err(error) => {
                    self.damage = Some(error);
                    return;
                }
            };
            let (offset, Some(range)) = (record.offset, range_of(self.ranges, record.offset)) else {
                continue;
            };
            self.seen.push(record.offset);
            let with = (self.hub, &self.rules, self.acquired.partition);
            match self
                .scratch
                .write(with, &mut self.builder, &record, (self.filter, clock, self.waited))
            {
                Ok(true) => {}
                Ok(false) => self.made.settled.push((offset, offset, AckKind::Accept)),
                Err(missing) => {
                    let alone = AcquiredRange {
                        first: offset,
                        last: offset,
                        ..*range
                    };
                    self.made.waiting.push((alone, missing));
                }
            }
            if self.builder.is_full() {
                finish(&mut self.builder, &mut self.messages);
            }
            if allowance::is_used_up() {
                allowance::next_turn().await;
            }
        }
    }

    fn finish(mut self) -> Made {
        finish(&mut self.builder, &mut self.messages);
        let deliveries = |offset| range_of(self.ranges, offset).map_or(1, |range| range.deliveries);
        self.made.messages = self
            .messages
            .into_iter()
            .map(|(offset, message)| (offset, deliveries(offset), message))
            .collect();
        self.seen.sort_unstable();
        for range in self.ranges {
            let kind = match &self.damage {
                None => AckKind::Gap,
                Some(error) if range.deliveries < READ_TWICE && error.may_pass() => AckKind::Release,
                Some(_) => AckKind::Reject,
            };
            let mut next = range.first;
            let from = self.seen.partition_point(|offset| *offset < range.first);
            let within = self.seen[from..].iter().take_while(|offset| **offset <= range.last);
            for offset in within.copied().chain([range.last + 1]) {
                if next < offset {
                    self.made.settled.push((next, offset - 1, kind));
                }
                next = offset + 1;
            }
        }
        let (metrics, topic, partition) = (&self.hub.metrics, &self.acquired.topic, self.acquired.partition);
        let is_over = self.made.settled.iter().any(|(.., kind)| *kind == AckKind::Reject);
        match &self.damage {
            Some(error) if is_over => scribe::unreadable(metrics, topic, partition, error),
            Some(error) => scribe::read_again(metrics, topic, partition, error),
            None => {}
        }
        self.made
    }
}
