//! The inverse of a publish rule: where the way back finds each capture, planned once, and the MQTT topic made of them.

use super::deliver::Stored;
use super::filter::Filter;
use super::own_headers::Raw;
use super::reader::Reader;
use super::record_template::{header, utf8_key};
use super::rules::{Rule, Shape};
use super::skip::SkipReason;
use super::template::{Captured, MAX_CAPTURES, Template};

/// Where captures are read back from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recover {
    /// The whole MQTT topic is the key.
    WholeKey,
    /// The Kafka topic, by its template.
    Topic,
    /// The key, by its template.
    Key,
    /// The rule's header of this place.
    Header(usize),
}

/// Decides from where the way back takes each capture, and whether `mqtt.topic` must be written.
pub(super) fn plan_inverse(rule: &mut Rule) {
    let chooses_keys = rule.chooses_keys();
    let Shape::Filter(filter, recovers) = &mut rule.shape else { return };
    if chooses_keys {
        // Where its program left the key alone, it is that of any other rule; which that is only the header tells.
        rule.topic_header = true;
        return;
    }
    if rule.key.is_none() {
        recovers.push(Recover::WholeKey);
        return;
    }
    if filter.expression.is_some() {
        rule.topic_header = true;
        return;
    }
    let mut found = [false; MAX_CAPTURES];
    let places = [(Recover::Topic, Some(&rule.topic)), (Recover::Key, rule.key.as_ref())].into_iter();
    let headers = rule
        .headers
        .iter()
        .enumerate()
        .map(|(i, (_, value))| (Recover::Header(i), Some(value)));
    for (recover, template) in places.chain(headers) {
        let Some(template) = template.filter(|template| template.is_unambiguous(|i| filter.is_rest(i))) else {
            continue;
        };
        let new: Vec<u8> = (0..filter.captures.len() as u8)
            .filter(|&i| template.uses(i) && !found[usize::from(i)])
            .collect();
        if !new.is_empty() {
            recovers.push(recover);
            new.into_iter().for_each(|i| found[usize::from(i)] = true);
        }
    }
    rule.topic_header = filter.has_wildcards() || !found[..filter.captures.len()].iter().all(|found| *found);
}

/// Why the way back does not find a capture, of a rule whose inverse has been planned. `None`: it finds all that its templates have.
pub(super) fn lost_capture(rule: &Rule, filter: &Filter) -> Option<String> {
    let headers = rule.headers.iter().map(|(name, value)| (format!("kafka.headers.{name}"), value));
    let key = rule.key.as_ref().map(|key| ("kafka.key".to_owned(), key));
    let places: Vec<_> = std::iter::once(("kafka.topic".to_owned(), &rule.topic))
        .chain(key)
        .chain(headers)
        .collect();
    let (mut lost, mut read) = (None, [false; MAX_CAPTURES]);
    for (_, template) in places.iter().filter(|(_, template)| template.is_unambiguous(|i| filter.is_rest(i))) {
        (0..MAX_CAPTURES as u8).for_each(|i| read[usize::from(i)] |= template.uses(i));
    }
    for (i, (name, _)) in filter.captures.iter().enumerate().filter(|(i, _)| !read[*i]) {
        let used = places.iter().find(|(_, template)| template.uses(i as u8));
        let why = match used {
            Some((place, _)) => format!("`{place}` has `{{{name}}}` beside something that it cannot be told from"),
            None => format!("neither the Kafka topic nor the key nor a header has `{{{name}}}`"),
        };
        lost.get_or_insert(why);
    }
    lost
}

/// Appends the topic whose captures the record holds where the rule would have put them.
pub(super) fn by_inverse<'a, H>(
    rule: &Rule,
    filter: &Filter,
    recovers: &[Recover],
    reader: &Reader,
    record: &Stored<'a, H>,
    out: &mut String,
) -> Result<(), SkipReason>
where
    H: Iterator<Item = Raw<'a>> + Clone,
{
    // A rule that writes one key only has not written this record, if it has another.
    let constant = rule.key.as_ref().and_then(Template::constant);
    if constant.is_some_and(|constant| record.key.is_some_and(|key| key != constant.as_bytes())) {
        return Err(SkipReason::OtherForm);
    }
    if recovers.is_empty() && (filter.expression.is_some() || rule.chooses_keys()) {
        return Err(SkipReason::NoInverse);
    }
    let mut captured = Captured::default();
    for recover in recovers {
        let read = match recover {
            Recover::WholeKey => {
                let topic = utf8_key(record.key)?;
                out.push_str(topic);
                // The rule may write such topics to other Kafka topics.
                let captured = filter.captures(topic).ok_or(SkipReason::OtherForm)?;
                let here = reader.is_target(rule, |template, name| template.gives(&captured, b"", name));
                return here.then_some(()).ok_or(SkipReason::OtherForm);
            }
            Recover::Topic => rule.topic.read_back(&reader.topic, &mut captured),
            Recover::Key => {
                let key = rule.key.as_ref().expect("planned from the key");
                key.read_back(utf8_key(record.key)?, &mut captured)
            }
            Recover::Header(i) => {
                let (name, value) = &rule.headers[*i];
                value.read_back(header(record.headers.clone(), name)?, &mut captured)
            }
        };
        if !read {
            return Err(SkipReason::OtherForm);
        }
    }
    if filter.render(&captured, out) {
        Ok(())
    } else {
        Err(SkipReason::OtherForm)
    }
}
