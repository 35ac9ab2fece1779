//! What is counted of lookup tables that are Kafka topics.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfTopic {
    topic: Arc<str>,
}

/// The counters of one table.
#[derive(Clone, Debug, Default)]
pub struct TableCounters {
    /// Rows that programs see.
    pub rows: Gauge,
    /// Memory of those, as it counts against the bound.
    pub bytes: Gauge,
    /// 1: the topic was read to its end, and no row was left out.
    pub complete: Gauge,
    /// When records changed rows last, in seconds since the epoch.
    pub updated: Gauge,
    /// Records without a key, or that are not as the table is told.
    pub skipped: Counter,
    /// Records whose rows found no room.
    pub left_out: Counter,
}

/// Those of all tables.
#[derive(Debug, Default)]
pub(super) struct TableFamilies {
    rows: Family<OfTopic, Gauge>,
    bytes: Family<OfTopic, Gauge>,
    complete: Family<OfTopic, Gauge>,
    updated: Family<OfTopic, Gauge>,
    skipped: Family<OfTopic, Counter>,
    left_out: Family<OfTopic, Counter>,
}

impl TableFamilies {
    pub(super) fn register(own: &mut Registry) -> Self {
        let new = Self::default();
        own.register("lookup_table_rows", "Rows of a Kafka topic as a lookup table", new.rows.clone());
        let help = "Memory of those rows, as it counts against `memory`";
        own.register_with_unit("lookup_table", help, Unit::Bytes, new.bytes.clone());
        let help = "1 if the topic of a lookup table was read to its end and no row was left out, else 0";
        own.register("lookup_table_complete", help, new.complete.clone());
        let help = "When records changed rows of a lookup table last, since the epoch";
        own.register_with_unit("lookup_table_updated_timestamp", help, Unit::Seconds, new.updated.clone());
        let help = "Records of lookup tables without a key, or that are not of the table's format";
        own.register("lookup_table_skipped_records", help, new.skipped.clone());
        let help = "Records of lookup tables whose rows found no room in `memory`";
        own.register("lookup_table_left_out_records", help, new.left_out.clone());
        new
    }

    pub(super) fn table(&self, topic: &str) -> TableCounters {
        let label = OfTopic { topic: topic.into() };
        TableCounters {
            rows: self.rows.get_or_create(&label).clone(),
            bytes: self.bytes.get_or_create(&label).clone(),
            complete: self.complete.get_or_create(&label).clone(),
            updated: self.updated.get_or_create(&label).clone(),
            skipped: self.skipped.get_or_create(&label).clone(),
            left_out: self.left_out.get_or_create(&label).clone(),
        }
    }
}
