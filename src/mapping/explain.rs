//! What the rules do with a message or a filter, told for people. The answers are those of `route` and `sources` themselves;
//! only the reasons of the rules that did not take part are found here.

use std::fmt;

use super::dead_letter::{DeadLetter, Failure, Stage};
use super::draft::{Draft, Inbound, PartitionChoice};
use super::filter::{Filter, Level};
use super::partition::partition_for_key;
use super::route::{NoRoute, Refusal, RefusalReason};
use super::rules::{Rule, RuleId, RuleSet};
use super::sample::Sample;
use super::sources::Source;
use super::spec::{OnError, Retain, Unmapped};
use super::transform::Made;
use crate::mqtt::Publish;
use crate::mqtt::properties::UserProperties;
use crate::mqtt::publish::SharedProperties;
use crate::mqtt::topic::{validate_name, validate_plain_filter};

/// The reason, as metrics name it.
const STATE_TOPIC: &str = "state_topic";

/// What one rule does with a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the ordinary rule of the message.
    Takes,
    /// It makes a copy.
    Copies,
    /// It matches, and no record can be made.
    Refuses(RefusalReason),
    /// It matches, and no record can be made: it lets the message be (`on_error: skip`).
    Skips(RefusalReason),
    /// It matches, and no record can be made: the message goes to its dead letter topic.
    Buries(RefusalReason),
    /// It matches, but this earlier rule is the ordinary one.
    Earlier(RuleId),
    /// It matches, and its program makes no record of the message.
    Drops,
    /// It matches, but this rule refuses the message for all.
    RefusedBy(RuleId),
    /// It matches, but its record would go to a topic of the proxy's own state.
    Denied,
    /// It takes no retained messages, and this is one.
    DeniesRetained,
    /// It only reads.
    OnlyReads,
    /// Its filter does not match, for this reason.
    Differs(String),
}

/// A record that a message makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainedRecord {
    /// By which rule.
    pub rule: RuleId,
    /// It is a dead letter.
    pub dead_letter: bool,
    /// The Kafka topic.
    pub kafka_topic: String,
    /// Where in it; `None` without a number of partitions.
    pub partition: Option<PartitionChoice>,
    /// Milliseconds since the epoch, if the rule makes it by a template.
    pub timestamp: Option<i64>,
    /// The key.
    pub key: Vec<u8>,
    /// The value; `None`: a tombstone.
    pub value: Option<Vec<u8>>,
    /// The headers, in order.
    pub headers: Vec<(String, Vec<u8>)>,
}

/// A record that cannot go where its rule sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// By which rule.
    pub rule: RuleId,
    /// To which Kafka topic.
    pub kafka_topic: String,
    /// Which has no such partition; otherwise it is one of the proxy's own state.
    pub partition: Option<RefusalReason>,
}

impl Denied {
    /// The reason, as metrics name it.
    pub fn as_str(&self) -> &'static str {
        self.partition.map_or(STATE_TOPIC, RefusalReason::as_str)
    }
}

/// What becomes of a message.
#[derive(Clone, Debug)]
pub struct ExplainedPublish {
    /// One for each rule that was asked about, in order.
    pub verdicts: Vec<(RuleId, Verdict)>,
    /// Its records, or why there is none.
    pub outcome: Result<Vec<ExplainedRecord>, NoRoute>,
    /// The first record that cannot go where its rule sends it, and is no dead letter: so the message is refused, or acknowledged if the rule
    /// skips what it cannot store.
    pub denied: Option<Denied>,
    /// The rule that takes no retained messages, if it is one: the connection ends, and no record is made.
    pub retain_denied: Option<RuleId>,
    /// What a program said that failed.
    pub trouble: Option<String>,
    /// What of the message a rule could not use, where its reason alone does not name it.
    pub details: Vec<(RuleId, String)>,
}

impl RuleSet {
    /// What the rules make of a PUBLISH.
    ///
    /// # Errors
    /// The topic is no topic name, or a user property is too long, in words.
    pub fn explain_publish(&self, sample: &Sample<'_>) -> Result<ExplainedPublish, String> {
        self.explained(sample, self.iter())
    }

    /// What the rules make of a PUBLISH, with the verdict of this one only: a thousand messages among ten thousand rules are soon explained.
    ///
    /// # Errors
    /// Those of `explain_publish`.
    pub fn explain_publish_of(&self, id: RuleId, sample: &Sample<'_>) -> Result<ExplainedPublish, String> {
        self.explained(sample, std::iter::once((id, self.rule(id))))
    }

    fn explained<'s>(&'s self, sample: &Sample<'_>, of: impl Iterator<Item = (RuleId, &'s Rule)>) -> Result<ExplainedPublish, String> {
        validate_name(sample.topic).map_err(|e| e.as_str().to_owned())?;
        let mut block = SharedProperties::new();
        if !sample.user.iter().all(|(name, value)| block.user(name, value)) {
            return Err("a user property holds more than 65,535 bytes, or U+0000".to_owned());
        }
        let properties = sample.packet.properties(UserProperties::from_block(block.as_bytes()))?;
        let publish = Publish {
            dup: false,
            qos: sample.packet.qos(),
            retain: sample.packet.retain,
            topic: sample.topic,
            packet_id: None,
            properties,
            payload: sample.payload,
        };
        let inbound = Inbound {
            publish: &publish,
            topic: sample.topic,
            client: sample.client,
            identity: sample.identity,
            now_ms: sample.now_ms,
        };
        let mut draft = Draft::new();
        draft.lenient = true;
        let routed = self.route(&inbound, &mut draft);
        let mut verdicts = self.verdicts(sample.topic, &draft, routed, of);
        if let Some(told) = self.retain_denied(sample, &draft, routed, &mut verdicts) {
            return Ok(told);
        }
        let mut denied = None;
        let record = |i| {
            let Some(no) = self.denied(&draft, i, &inbound, sample) else {
                return Some(self.explained_record(&draft, i, &inbound, sample.partitions));
            };
            let (id, on_error) = (no.rule, self.rule(no.rule).on_error);
            let is_letter = on_error == OnError::DeadLetter;
            if let Some((_, verdict)) = verdicts.iter_mut().find(|(own, _)| *own == id) {
                *verdict = match no.partition {
                    None => Verdict::Denied,
                    Some(reason) if is_letter => Verdict::Buries(reason),
                    Some(reason) if on_error == OnError::Skip => Verdict::Skips(reason),
                    Some(reason) => Verdict::Refuses(reason),
                };
            }
            let (stage, why) = (Stage::Produce, no.as_str());
            if is_letter {
                let letter = (id, Some(no.kafka_topic.as_str()), Failure { stage, why });
                return Some(self.explained_letter(letter, &inbound, sample.partitions));
            }
            denied.get_or_insert(no);
            None
        };
        let letter = |refusal: &Refusal| self.explained_letter((refusal.rule, None, Failure::from(*refusal)), &inbound, sample.partitions);
        let letters = draft.dead_letters().iter().map(letter);
        let outcome = routed.map(|()| (0..draft.len()).filter_map(record).chain(letters).collect());
        Ok(ExplainedPublish {
            verdicts,
            outcome,
            denied,
            retain_denied: None,
            trouble: draft.trouble().map(str::to_owned),
            details: refusals(&draft, routed)
                .filter_map(|refusal| self.refusal_detail(refusal, &inbound))
                .collect(),
        })
    }

    /// What becomes of a retained message that its rule does not take.
    fn retain_denied(
        &self,
        sample: &Sample<'_>,
        draft: &Draft,
        routed: Result<(), NoRoute>,
        verdicts: &mut Vec<(RuleId, Verdict)>,
    ) -> Option<ExplainedPublish> {
        let is_denied = sample.packet.retain && routed.is_ok() && draft.ordinary(self).is_some_and(|rule| rule.retain == Retain::Deny);
        let id = is_denied.then(|| draft.rule(0))?;
        for (own, verdict) in verdicts.iter_mut() {
            match verdict {
                Verdict::Takes if *own == id => *verdict = Verdict::DeniesRetained,
                Verdict::Copies => *verdict = Verdict::RefusedBy(id),
                _ => {}
            }
        }
        Some(ExplainedPublish {
            verdicts: std::mem::take(verdicts),
            outcome: Ok(vec![]),
            denied: None,
            retain_denied: Some(id),
            trouble: None,
            details: vec![],
        })
    }

    /// Whether a record that the rules make cannot go where it is sent.
    fn denied(&self, draft: &Draft, i: usize, inbound: &Inbound<'_>, sample: &Sample<'_>) -> Option<Denied> {
        let (rule, kafka_topic) = (draft.rule(i), draft.kafka_topic(i, self));
        let partition = if sample.state_topics.contains(&kafka_topic) {
            None
        } else {
            Some(draft.partition(i, self, inbound, sample.partitions?).err()?.reason)
        };
        let kafka_topic = kafka_topic.to_owned();
        Some(Denied {
            rule,
            kafka_topic,
            partition,
        })
    }

    fn explained_record(&self, draft: &Draft, i: usize, inbound: &Inbound<'_>, partitions: Option<u32>) -> ExplainedRecord {
        let fields = draft.fields(i, self, inbound);
        ExplainedRecord {
            rule: draft.rule(i),
            dead_letter: false,
            kafka_topic: draft.kafka_topic(i, self).to_owned(),
            partition: partitions.and_then(|count| draft.partition(i, self, inbound, count).ok()),
            timestamp: self.rule(draft.rule(i)).timestamp.as_ref().map(|_| fields.timestamp),
            key: fields.key.unwrap_or(b"").to_vec(),
            value: fields.value.map(<[u8]>::to_vec),
            headers: fields.headers.map(owned).collect(),
        }
    }

    /// The dead letter of a message by this rule, whose record was to go to this Kafka topic.
    fn explained_letter(
        &self,
        (rule, topic, failure): (RuleId, Option<&str>, Failure),
        inbound: &Inbound<'_>,
        partitions: Option<u32>,
    ) -> ExplainedRecord {
        let letter = DeadLetter::copy(self, rule, inbound, topic);
        let fields = letter.fields(failure);
        let key = fields.key.unwrap_or(b"");
        ExplainedRecord {
            rule,
            dead_letter: true,
            kafka_topic: self.rule(rule).dead_letter.clone().unwrap_or_default(),
            partition: partitions.map(|count| PartitionChoice::Index(partition_for_key(key, count))),
            timestamp: None,
            key: key.to_vec(),
            value: fields.value.map(<[u8]>::to_vec),
            headers: fields.headers.map(owned).collect(),
        }
    }

    fn verdicts<'s>(
        &'s self,
        topic: &str,
        draft: &Draft,
        routed: Result<(), NoRoute>,
        of: impl Iterator<Item = (RuleId, &'s Rule)>,
    ) -> Vec<(RuleId, Verdict)> {
        let refused = match routed {
            Err(NoRoute::Refused(refusal)) => Some(refusal),
            _ => None,
        };
        let refusals: Vec<Refusal> = refusals(draft, routed).collect();
        let takes =
            |id: u32| !self.rules[id as usize].also && self.rules[id as usize].filter().is_some_and(|own| own.captures(topic).is_some());
        let first = draft.found.iter().copied().find(|&id| takes(id)).map(RuleId);
        let verdict = |id: RuleId, rule: &Rule| {
            let filter = match rule.filter() {
                Some(filter) if rule.publishes() => filter,
                _ => return Verdict::OnlyReads,
            };
            if filter.captures(topic).is_none() {
                return Verdict::Differs(difference(filter, topic));
            }
            let before = first.filter(|&first| !rule.also && first != id);
            let refusal = refusals.iter().find(|refusal| refusal.rule == id);
            match (before, refusal, refused) {
                (Some(before), ..) => Verdict::Earlier(before),
                (None, Some(refusal), _) if draft.dead_letters().contains(refusal) => Verdict::Buries(refusal.reason),
                (None, Some(refusal), _) if draft.skipped().contains(refusal) => Verdict::Skips(refusal.reason),
                (None, Some(refusal), _) => Verdict::Refuses(refusal.reason),
                // A message that one rule refuses is stored by none.
                (None, None, Some(refused)) => Verdict::RefusedBy(refused.rule),
                (None, None, None) if draft.ran().iter().any(|ran| ran.rule == id && ran.made == Made::Nothing) => Verdict::Drops,
                (None, None, None) if rule.also => Verdict::Copies,
                (None, None, None) => Verdict::Takes,
            }
        };
        of.map(|(id, rule)| (id, verdict(id, rule))).collect()
    }

    /// What a subscriber of a filter (without `$share`) reads.
    ///
    /// # Errors
    /// It is no filter, or a shared one, in words.
    pub fn explain_filter(&self, filter: &str) -> Result<Result<Vec<Source>, Unmapped>, String> {
        validate_plain_filter(filter).map_err(|e| e.as_str().to_owned())?;
        if filter.starts_with("$share/") {
            return Err("a shared subscription reads what its filter reads: leave `$share/NAME/` out".to_owned());
        }
        Ok(self.sources(filter))
    }
}

impl fmt::Display for Verdict {
    /// Without the name of another rule, which only the rule set knows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Takes => f.write_str("takes it"),
            Verdict::Copies => f.write_str("makes a copy"),
            Verdict::Refuses(reason) => write!(f, "matches and refuses it: {}", reason.as_str()),
            Verdict::Skips(reason) => write!(f, "matches and skips it (acknowledged and counted): {}", reason.as_str()),
            Verdict::Buries(reason) => write!(f, "matches and makes a dead letter of it: {}", reason.as_str()),
            Verdict::Earlier(_) => f.write_str("matches, but comes after the rule that takes it"),
            Verdict::Drops => f.write_str("matches, and its program makes nothing of it"),
            Verdict::RefusedBy(_) => f.write_str("matches, but another rule refuses the message"),
            Verdict::Denied => write!(f, "matches and refuses it: {STATE_TOPIC}"),
            Verdict::DeniesRetained => f.write_str("matches, and denies retained messages"),
            Verdict::OnlyReads => f.write_str("only reads Kafka"),
            Verdict::Differs(why) => write!(f, "no: {why}"),
        }
    }
}

/// All of a message: of rules that let it be, that make dead letters, and of the one that refuses it for all.
fn refusals(draft: &Draft, routed: Result<(), NoRoute>) -> impl Iterator<Item = Refusal> {
    let refused = match routed {
        Err(NoRoute::Refused(refusal)) => Some(refusal),
        _ => None,
    };
    draft.skipped().iter().chain(draft.dead_letters()).copied().chain(refused)
}

fn owned((name, value): (&str, Option<&[u8]>)) -> (String, Vec<u8>) {
    (name.to_owned(), value.unwrap_or(b"").to_vec())
}

/// Why a filter does not match a topic.
fn difference(filter: &Filter, topic: &str) -> String {
    if topic.starts_with('$') && !matches!(filter.levels.first(), Some(Level::Literal(_))) {
        return "no wildcard takes a topic that begins with `$`".to_owned();
    }
    let mut found = topic.split('/');
    for (place, level) in filter.levels.iter().enumerate() {
        match (level, found.next()) {
            (Level::Rest(_), _) if filter.expression.is_some() => return "the expression does not match".to_owned(),
            (_, None) => return format!("it has {} levels or more, the topic {place}", filter.levels.len()),
            (Level::Literal(text), Some(found)) if text != found => {
                return format!("level {} is `{found}`, not `{text}`", place + 1);
            }
            _ => {}
        }
    }
    format!("it has {} levels, the topic more", filter.levels.len())
}
