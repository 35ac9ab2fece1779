//! What a rule makes of a record's value on its way to devices, before it becomes a message: the format is read, `transform_back` runs, and what
//! comes out is written as devices read it.

use super::deliver::Stored;
use super::filter::Filter;
use super::jq::{Output, Trouble, Value};
use super::locate::Located;
use super::own_headers::Raw;
use super::route::RefusalReason;
use super::rules::{Rule, RuleId, RuleSet, Shape};
use super::skip::{Skip, SkipReason};
use super::template::Captured;
use super::transform::{Conversion, Made, Ran};

/// Memory for payloads, used again, and what was run for the last.
#[derive(Debug, Default)]
pub struct Restored {
    payload: Vec<u8>,
    /// Whether the payload is of this memory.
    made: bool,
    /// The run, to be counted; `None`: the rule makes nothing of values.
    pub ran: Option<Ran>,
    /// What it said, if it failed.
    pub trouble: Option<String>,
}

impl Restored {
    /// The payload that was made last; `None`: it is the record's value.
    pub fn payload(&self) -> Option<&[u8]> {
        self.made.then_some(&self.payload)
    }
}

/// Names of the variables of `transform_back`, captures aside.
pub(super) const VARIABLES: [&str; 4] = ["$topic", "$key", "$headers", "$now"];

impl RuleSet {
    /// Makes the payload of a record that somebody wants; `value` is what it holds, as JSON if that has a schema; `key` is its key, if it is known.
    ///
    /// # Errors
    /// The record is not for devices, or the rule's program failed.
    pub fn restore<'r, H>(
        &self,
        located: &Located<'_>,
        record: &Stored<'r, H>,
        value: Option<&[u8]>,
        key: Option<&[u8]>,
        now_ms: i64,
        restored: &mut Restored,
    ) -> Result<(), Skip>
    where
        H: Iterator<Item = Raw<'r>> + Clone,
    {
        (restored.made, restored.ran) = (false, None);
        restored.trouble = None;
        let rule = self.rule(located.rule);
        let conversion = rule.conversion.as_deref().filter(|conversion| conversion.restores());
        let (Some(conversion), Some(value)) = (conversion, value.filter(|value| !value.is_empty())) else {
            return Ok(());
        };
        restored.payload.clear();
        let captured = conversion.back.as_ref().and_then(|_| rule.captured(located));
        let variable = |name: &str| match name {
            "$topic" => Value::text(located.topic),
            "$key" => key.map_or(Value::Null, lossy),
            "$headers" => Value::object(
                record
                    .headers
                    .clone()
                    .map(|(name, value)| (text(name).into(), value.map_or(Value::Null, lossy)))
                    .collect(),
            ),
            "$now" => Value::int(now_ms.into()),
            capture => {
                let name = capture.trim_start_matches('$');
                let held = captured
                    .as_ref()
                    .and_then(|(filter, captured)| captured[usize::from(filter.capture(name)?)]);
                held.map_or(Value::Null, Value::text)
            }
        };
        let (outcome, steps) = conversion.back(value, variable, &mut restored.payload);
        let made = match &outcome {
            Ok(outputs) => {
                if *outputs == 0 {
                    Made::Nothing
                } else {
                    Made::Records(*outputs)
                }
            }
            Err(trouble) => Made::Refused(trouble.into()),
        };
        restored.ran = Some(Ran {
            rule: located.rule,
            steps,
            made,
        });
        let skip = |reason| skipped(located.rule, reason);
        match outcome {
            Ok(0) => Err(skip(SkipReason::NotSelected)),
            Ok(_) => {
                restored.made = true;
                Ok(())
            }
            Err(trouble) => {
                let reason = RefusalReason::from(&trouble);
                restored.trouble = trouble.words();
                Err(skip(SkipReason::Refused(reason)))
            }
        }
    }
}

impl Rule {
    /// What the captures hold of a record that the rule has taken: those of its MQTT topic or, of a rule that only reads, of its Kafka topic.
    fn captured<'a>(&'a self, located: &Located<'a>) -> Option<(&'a Filter, Captured<'a>)> {
        match &self.shape {
            Shape::Filter(filter, _) => Some((filter, filter.captures(located.topic)?)),
            Shape::Record(_, of_topic) => {
                let mut captured = Captured::default();
                let is_of_its_form = self.topic.read_back(located.kafka_topic, &mut captured);
                is_of_its_form.then_some((of_topic, captured))
            }
        }
    }
}

fn skipped(rule: RuleId, reason: SkipReason) -> Skip {
    Skip { rule: Some(rule), reason }
}

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

fn lossy(bytes: &[u8]) -> Value {
    Value::text(&text(bytes))
}

impl Conversion {
    /// Whether anything is made of values on their way to devices.
    fn restores(&self) -> bool {
        self.back.is_some() || self.payload != self.value
    }

    /// Appends the payload of a value; gives how many outputs there were: none or one.
    fn back(&self, value: &[u8], variable: impl Fn(&str) -> Value, out: &mut Vec<u8>) -> (Result<usize, Trouble>, u64) {
        let read = || self.value.decode(value);
        let mut outputs = 0;
        let mut take = |output: Output| {
            outputs += 1;
            if outputs > 1 {
                return Err(Trouble::Unwritable(
                    "a record becomes one message or none: the program has more outputs".to_owned(),
                ));
            }
            if output.with.is_some() {
                return Err(Trouble::Unwritable(
                    "a message has the topic that its rule gives it: `record` is for the way to Kafka".to_owned(),
                ));
            }
            self.payload.encode(&output.value, out)
        };
        let (outcome, steps) = match &self.back {
            Some(program) => program.run(value.len(), read, variable, take),
            None => (read().and_then(|value| take(Output { value, with: None })), 0),
        };
        (outcome.map(|()| outputs), steps)
    }
}
