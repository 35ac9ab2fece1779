//! Records become messages that can be handed out: those that the filter is for.

use std::sync::Arc;

use super::Message;
use crate::{
    kafka::fetched::RecordView,
    mapping::{self, LocateScratch, MissingSchema, Stored},
    mqtt::{publish::SharedProperties, topic},
    relay::{
        chunk::ChunkBuilder,
        hub::Hub,
        scribe::{self, Clock, Making},
    },
};

/// Memory that is used again, for all partitions of a shared subscription.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    locate: LocateScratch,
    properties: SharedProperties,
    payload: Vec<u8>,
}

impl Scratch {
    /// Writes a record of a partition as a message, if it is one for the filter. `waited`: its schema was looked for, and without it the record
    /// is none.
    ///
    /// # Errors
    /// It cannot be read before its schema was looked for.
    pub(super) fn write(
        &mut self,
        (hub, rules_of_topic, partition): (&Hub, &mapping::Reader, i32),
        builder: &mut ChunkBuilder,
        record: &RecordView<'_>,
        (filter, clock, waited): (&str, Clock, bool),
    ) -> Result<bool, MissingSchema> {
        let stored = Stored::from(record);
        let located = match hub.rules.locate(rules_of_topic, partition, &stored, &mut self.locate) {
            Ok(located) => located,
            Err(skip) => {
                if let Some(rule) = skip.rule {
                    hub.rule_counters[rule.0 as usize].skipped(skip.reason.as_str());
                }
                return Ok(false);
            }
        };
        if !topic::matches(filter, located.topic) {
            return Ok(false);
        }
        if let Some(missing) = hub.rules.missing_schema(located.rule, record.value).filter(|_| !waited) {
            return Err(missing);
        }
        let with = Making {
            rules: &hub.rules,
            counters: &hub.rule_counters,
            properties: &mut self.properties,
            payload: &mut self.payload,
        };
        Ok(scribe::push(builder, with, &located, &stored, record.offset, clock).is_some())
    }
}

/// The messages of the chunk that was being filled.
pub(super) fn finish(builder: &mut ChunkBuilder, messages: &mut Vec<(i64, Message)>) {
    if builder.is_empty() {
        return;
    }
    let chunk = Arc::new(builder.finish());
    let each = (0..chunk.messages.len()).map(|at| {
        let chunk = chunk.clone();
        (chunk.messages[at].offset, Message { chunk, at })
    });
    messages.extend(each);
}
