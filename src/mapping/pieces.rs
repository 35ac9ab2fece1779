//! A rule of which something cannot be read: what its other strings have wrong all the same, whatever the missing one would say. So one run
//! tells it all, and nothing that is no fault.

use super::checks::{check_dead_letter, check_header_name, check_kafka_topic, check_words};
use super::compile::{partition, shape, timestamp};
use super::fault::{Fault, Faults, Field};
use super::filter::Filter;
use super::rules::Shape;
use super::spec::{Direction, RuleSpec};
use super::template::lex;
use super::text::template;
use super::topic_captures::known_to_programs;
use super::transform::check_programs;

/// What of a rule is as it is written; the rest of its [`RuleSpec`] stands for what could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// `direction`
    pub direction: bool,
    /// `also`
    pub also: bool,
    /// `mqtt` or `mqtt_regex`
    pub mqtt: bool,
    /// `kafka.topic`
    pub topic: bool,
    /// `lookup`
    pub tables: bool,
}

impl Known {
    /// Nothing that decides what the rest means is missing.
    pub const ALL: Known = Known {
        direction: true,
        also: true,
        mqtt: true,
        topic: true,
        tables: true,
    };
}

impl RuleSpec {
    /// The faults of a rule that cannot be compiled, as its rule 0.
    pub fn faults_in_pieces(&self, known: Known) -> Vec<Fault> {
        let mut faults = Faults { rule: 0, list: Vec::new() };
        if known.direction && known.also {
            check_words(self, &mut faults);
        } else {
            check_dead_letter(self, &mut faults);
        }
        let reads_only = known.direction && self.direction == Direction::Subscribe;
        let captures = match reads_only && known.topic {
            true => Filter::of_topic(&self.kafka.topic, &mut faults),
            false => Filter::default(),
        };
        let shape = self.known_shape(known, &captures, &mut faults);
        let filter = match &shape {
            Some(Shape::Filter(filter, _)) => Some(filter),
            _ => None,
        };
        if known.topic {
            template(
                &self.kafka.topic,
                Field::KafkaTopic,
                filter.or(reads_only.then_some(&captures)),
                &mut faults,
            );
            check_kafka_topic(&self.kafka.topic, reads_only || !known.direction, &mut faults);
        }
        if let Some(key) = &self.kafka.key {
            template(key, Field::KafkaKey, filter, &mut faults);
        }
        for (i, (name, text)) in self.kafka.headers.iter().enumerate() {
            check_header_name(name, i, &self.kafka.headers, &mut faults);
            template(text, Field::HeaderValue(i), filter, &mut faults);
        }
        partition(self.kafka.partition.as_ref(), filter, &mut faults);
        timestamp(self.kafka.timestamp.as_ref(), filter, &mut faults);
        let looks_up = [&self.transform, &self.transform_back]
            .into_iter()
            .flatten()
            .any(|program| program.contains("lookup"));
        if known.direction && (known.tables || !looks_up) {
            let of_topic = known_to_programs(self, &captures).filter(|_| known.topic);
            check_programs(self, filter.or(of_topic), &mut faults);
        }
        faults.list
    }

    /// The MQTT side, if it is known what it is.
    fn known_shape(&self, known: Known, captures: &Filter, faults: &mut Faults) -> Option<Shape> {
        let reads_only = self.direction == Direction::Subscribe;
        if !known.mqtt {
            return None;
        }
        if self.mqtt_regex.is_some() || (known.direction && (known.topic || !reads_only)) {
            return shape(self, captures, faults);
        }
        if let Err(wrong) = lex(&self.mqtt) {
            faults.wrong(Field::Mqtt, wrong);
        }
        None
    }
}
