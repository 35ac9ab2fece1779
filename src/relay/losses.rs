//! Messages that are lost without anybody's being told: of QoS 0, and of rules that acknowledge on receipt. Kafka refuses them, or does not
//! answer in time, when nobody waits for them any more. They are counted by their rule, and the log says it once for each rule and reason.
//!
//! A record costs nothing for that as long as Kafka takes it: batches know their rules, and only of those that are lost is anything told.

use std::sync::Arc;

use super::{answers, said::Said};
use crate::{
    mapping::{RuleId, RuleSet},
    metrics::RuleCounters,
    upstream::{Outcome, Receipts},
};

/// Counts them.
pub struct Losses {
    rules: Arc<RuleSet>,
    counters: Arc<[RuleCounters]>,
    said: Said,
}

impl Losses {
    /// Who counts, and what goes with records that no connection hears of.
    pub fn start(rules: Arc<RuleSet>, counters: Arc<[RuleCounters]>) -> (Arc<Self>, Arc<Receipts>) {
        let said = Said::default();
        let own = Arc::new(Self { rules, counters, said });
        let counting = own.clone();
        let receipts = Receipts::of_losses(move |waiter, records, outcome| {
            if let Some(rule) = answers::rule_of_unasked(waiter) {
                counting.tell(rule, records, outcome);
            }
        });
        (own, receipts)
    }

    /// What became of records of one rule.
    pub fn tell(&self, id: RuleId, records: u32, outcome: Outcome) {
        let why = match outcome {
            Outcome::Stored { .. } => return,
            Outcome::Refused(code) => code.name(),
            Outcome::Unknown | Outcome::Expired { .. } => "kafka_unavailable",
        };
        self.counters[id.0 as usize].lost(why, records);
        let rule = self.rules.rule(id);
        // Of a rule that fills it in, the broker's sender has said it.
        let (name, topic) = (&*rule.name, rule.kafka_topic().unwrap_or(""));
        if self.said.first(&format!("{name}: {why}")) {
            tracing::error!(
                rule = name,
                topic,
                error = why,
                "Kafka does not have messages of this rule that no device waits for, of QoS 0 or acknowledged on receipt: they are lost (said once)"
            );
        }
    }
}
