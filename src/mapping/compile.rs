//! From rules as written to rules as meant; every fault of every rule at once.

use rustc_hash::FxHashMap;

use super::checks::{check_header_name, check_kafka_topic, check_unused, check_words};
use super::fault::{Fault, Faults, Field, Wrong};
use super::filter::Filter;
use super::inverse::plan_inverse;
use super::jq::on_large_stack;
use super::prefixes::Prefixes;
use super::record_template::record_template;
use super::rules::{Rule, RuleSet, Shape, TopicSlot};
use super::shadow::Takers;
use super::spec::{Direction, OnError, PartitionSpec, Retain, RuleSpec, Timestamp, Unmapped};
use super::template::{Captured, Template};
use super::text::template;
use super::topic_captures;
use super::transform::conversion;
use super::trie::Trie;
use crate::mqtt::QoS;

/// Each has memory of its own, in each thread that runs it.
const MOST_EXPRESSIONS: usize = 1_000;

impl RuleSet {
    /// Compiles all rules, or tells all that is wrong with any of them.
    pub fn compile(specs: Vec<RuleSpec>, unmapped: Unmapped) -> Result<RuleSet, Vec<Fault>> {
        if specs.iter().all(|spec| spec.transform.is_none() && spec.transform_back.is_none()) {
            return Self::compile_here(specs, unmapped);
        }
        // Once for all programs of the file: otherwise each would need a thread of its own.
        let mut given = Some(specs);
        let compiled = on_large_stack(|| Self::compile_here(given.take().unwrap_or_default(), unmapped));
        // Without a thread each program tells that itself.
        compiled.unwrap_or_else(|_| Self::compile_here(given.take().unwrap_or_default(), unmapped))
    }

    fn compile_here(specs: Vec<RuleSpec>, unmapped: Unmapped) -> Result<RuleSet, Vec<Fault>> {
        let mut faults = Faults { rule: 0, list: Vec::new() };
        let mut names: FxHashMap<String, usize> = FxHashMap::default();
        let mut set = RuleSet {
            rules: Vec::new(),
            trie: Trie::new(),
            ask_identity: false,
            slots: Vec::new(),
            slot_of: FxHashMap::default(),
            by_slot: Vec::new(),
            templated: Vec::new(),
            unmapped,
            unmapped_topics: Trie::new(),
        };
        let (mut reached, mut takers, mut forms) = (Reached::new(), Takers::default(), Prefixes::default());
        let (mut expressions, mut places) = (0, Vec::new());
        for (i, spec) in specs.into_iter().enumerate() {
            faults.rule = i;
            expressions += usize::from(spec.mqtt_regex.is_some());
            if expressions == MOST_EXPRESSIONS + 1 {
                let message = format!("more than {MOST_EXPRESSIONS} rules with `mqtt_regex`");
                faults.add(Field::MqttRegex, None, message, "write filters where they are enough");
            }
            check_name(&spec.name, &mut names, i, &mut faults);
            let Some(rule) = compile_rule(spec, &mut faults) else { continue };
            if rule.publishes()
                && !rule.also
                && let Some(filter) = rule.filter()
            {
                reached.check(&set, filter, &mut faults);
            }
            takers.check(&set, &rule, &mut faults);
            takers.add(u32::try_from(set.rules.len()).expect("fewer than 2^32 rules"), &rule);
            set.add(rule, &mut forms);
            places.push(i);
        }
        set.keep_dead_letters_apart(&places, &mut faults);
        if faults.list.is_empty() { Ok(set) } else { Err(faults.list) }
    }

    fn add(&mut self, mut rule: Rule, forms: &mut Prefixes) {
        let id = u32::try_from(self.rules.len()).expect("fewer than 2^32 rules");
        // An earlier rule that reads the same Kafka topic would take this rule's records for its own.
        rule.topic_header |= match rule.topic.constant() {
            Some(topic) => self.is_read(topic, forms),
            None => !self.templated.is_empty() || self.by_slot.iter().any(|rules| !rules.is_empty()),
        };
        rule.slot = rule.topic.constant().map(str::to_owned).map(|topic| self.take_slot(topic));
        if rule.delivers() {
            match rule.slot {
                Some(slot) => self.by_slot[slot.0 as usize].push(id),
                None => {
                    self.templated.push(id);
                    forms.add(&rule.topic, rule.names_freely(), id);
                }
            }
        }
        if rule.publishes()
            && let Shape::Filter(filter, _) = &rule.shape
        {
            self.trie.insert(filter, id);
        }
        self.note_unmapped(&rule, id);
        self.ask_identity |= rule.asks_identity();
        self.rules.push(rule);
    }

    /// What a rule writes to a dead letter topic would lie among dead letters, which others would be taken for its messages. `places`: of the
    /// rules in the file.
    fn keep_dead_letters_apart(&self, places: &[usize], faults: &mut Faults) {
        let mut named: FxHashMap<&str, &Rule> = FxHashMap::default();
        let mut forms = Prefixes::default();
        for (rule, id) in self.rules.iter().zip(0..).filter(|(rule, _)| rule.publishes()) {
            let topics = rule.topics().iter().map(String::as_str).chain(rule.kafka_topic());
            topics.for_each(|topic| {
                named.entry(topic).or_insert(rule);
            });
            if rule.slot.is_none() {
                forms.add(&rule.topic, false, id);
            }
        }
        let mut known: FxHashMap<&str, Option<&Rule>> = FxHashMap::default();
        for (rule, place) in self.rules.iter().zip(places) {
            let Some(topic) = &rule.dead_letter else { continue };
            let writer = *known.entry(topic).or_insert_with(|| {
                let makes = |rule: &&Rule| rule.topic.read_back(topic, &mut Captured::default());
                let of_its_form = || forms.of(topic).map(|id| &self.rules[id as usize]).find(makes);
                named.get(topic.as_str()).copied().or_else(of_its_form)
            });
            if let Some(writer) = writer {
                faults.rule = *place;
                let message = format!("`{topic}` is written by rule `{}`, too", writer.name);
                let remedy = "give dead letters a topic that no rule writes to";
                faults.add(Field::DeadLetter, Some(0), message, remedy);
            }
        }
    }

    fn take_slot(&mut self, topic: String) -> TopicSlot {
        if let Some(slot) = self.slot(&topic) {
            return slot;
        }
        let slot = TopicSlot(u32::try_from(self.slots.len()).expect("fewer than 2^32 rules"));
        self.slots.push(topic.clone());
        self.by_slot.push(Vec::new());
        self.slot_of.insert(topic, slot);
        slot
    }
}

/// Which rules can be reached at all, of those that take messages.
struct Reached {
    /// Of the filters; a rule is named by its place in `rules`.
    filters: Trie,
    rules: Vec<u32>,
    /// The rule of an expression as it is written.
    expressions: FxHashMap<String, u32>,
}

impl Reached {
    fn new() -> Self {
        Reached {
            filters: Trie::new(),
            rules: Vec::new(),
            expressions: FxHashMap::default(),
        }
    }

    /// Tells a rule, the next of the set, whose topics all go to one before it. Of two expressions only equal ones are told.
    fn check(&mut self, set: &RuleSet, filter: &Filter, faults: &mut Faults) {
        let next = u32::try_from(set.rules.len()).expect("fewer than 2^32 rules");
        let mut first = self.filters.covering(filter).map(|place| self.rules[place as usize]);
        if let Some(expression) = &filter.expression {
            let equal = *self.expressions.entry(expression.written().to_owned()).or_insert(next);
            first = first.or(Some(equal)).filter(|first| *first != next);
        } else {
            self.filters
                .insert(filter, u32::try_from(self.rules.len()).expect("fewer than 2^32 rules"));
            self.rules.push(next);
        }
        if let Some(first) = first {
            let first = &set.rules[first as usize].name;
            faults.add(
                filter.field(),
                Some(0),
                format!("never reached: `{first}` before it takes every topic of this filter"),
                format!("place it before `{first}`, or make it `also: true` or `direction: subscribe`"),
            );
        }
    }
}

fn check_name(name: &str, names: &mut FxHashMap<String, usize>, i: usize, faults: &mut Faults) {
    if name.is_empty() {
        faults.add(
            Field::Name,
            None,
            "the rule has no name",
            "give it a name; it is a label of the metrics",
        );
    } else if let Some(first) = names.insert(name.to_owned(), i) {
        faults.add(
            Field::Name,
            Some(0),
            format!("the name `{name}` is taken by rule {}", first + 1),
            "give each rule a name of its own",
        );
    }
}

/// The template of a partition, if it is one.
pub(super) fn partition(spec: Option<&PartitionSpec>, filter: Option<&Filter>, faults: &mut Faults) -> Option<Template> {
    let Some(PartitionSpec::Template(written)) = spec else {
        return None;
    };
    let before = faults.list.len();
    let template = template(written, Field::KafkaPartition, filter, faults);
    if template.constant().is_some() && faults.list.len() == before && filter.is_some() {
        let remedy = "write hash, round-robin, sticky, a number from 0, or a template with a placeholder";
        faults.add(
            Field::KafkaPartition,
            Some(0),
            format!("`{written}` is no way to choose a partition"),
            remedy,
        );
    }
    Some(template)
}

/// The template of a timestamp, if it is one.
pub(super) fn timestamp(spec: Option<&Timestamp>, filter: Option<&Filter>, faults: &mut Faults) -> Option<Template> {
    let Some(Timestamp::Template(written)) = spec else { return None };
    let before = faults.list.len();
    let template = template(written, Field::KafkaTimestamp, filter, faults);
    if template.constant().is_some() && faults.list.len() == before && filter.is_some() {
        let remedy = "write `receipt`, or a template with a placeholder, for example \"{payload.time}\"";
        faults.add(Field::KafkaTimestamp, Some(0), format!("`{written}` is no timestamp"), remedy);
    }
    Some(template)
}

/// The MQTT side.
pub(super) fn shape(spec: &RuleSpec, captures: &Filter, faults: &mut Faults) -> Option<Shape> {
    let (field, filter) = match (&spec.mqtt_regex, spec.direction) {
        // Told with the keys of the other way.
        (Some(_), Direction::Subscribe) => return None,
        (None, Direction::Subscribe) => {
            let levels = record_template(&spec.mqtt, captures, faults)?;
            return Some(Shape::Record(levels, captures.clone()));
        }
        (Some(expression), _) => (Field::MqttRegex, Filter::expression(expression)),
        (None, _) => (Field::Mqtt, Filter::parse(&spec.mqtt)),
    };
    let told = |list: Vec<Wrong>| list.into_iter().for_each(|wrong| faults.wrong(field, wrong));
    Some(Shape::Filter(filter.map_err(told).ok()?, Vec::new()))
}

fn compile_rule(spec: RuleSpec, faults: &mut Faults) -> Option<Rule> {
    let before = faults.list.len();
    check_words(&spec, faults);
    let captures = match spec.direction {
        Direction::Subscribe => Filter::of_topic(&spec.kafka.topic, faults),
        _ => Filter::default(),
    };
    let compiled = conversion(&spec, &captures, faults);
    topic_captures::check_unused(&captures, &spec, faults);
    let shape = shape(&spec, &captures, faults);
    let filter = match &shape {
        Some(Shape::Filter(filter, _)) => Some(filter),
        _ => None,
    };
    // Without a filter only the syntax of the templates can be told; unknown names would be a second fault for one cause.
    let of_topic = filter.or(Some(&captures).filter(|_| spec.direction == Direction::Subscribe));
    let topic = template(&spec.kafka.topic, Field::KafkaTopic, of_topic, faults);
    let key = spec.kafka.key.as_ref().map(|key| template(key, Field::KafkaKey, filter, faults));
    let mut headers = Vec::new();
    for (i, (name, text)) in spec.kafka.headers.iter().enumerate() {
        check_header_name(name, i, &spec.kafka.headers, faults);
        headers.push((name.clone(), template(text, Field::HeaderValue(i), filter, faults)));
    }
    let partition = partition(spec.kafka.partition.as_ref(), filter, faults);
    let timestamp = timestamp(spec.kafka.timestamp.as_ref(), filter, faults);
    check_kafka_topic(&spec.kafka.topic, spec.direction == Direction::Subscribe, faults);
    if let Some(filter) = filter {
        let values = headers.iter().map(|(_, value)| value);
        let templates: Vec<&Template> = values.chain([&topic]).chain(&key).chain(&partition).chain(&timestamp).collect();
        check_unused(filter, &templates, &spec, faults);
    }
    if faults.list.len() > before {
        return None;
    }
    let default = if spec.loses_offsets() { Retain::Deny } else { Retain::Allow };
    let retain = spec.retain.unwrap_or(default);
    let mut rule = Rule {
        name: spec.name,
        direction: spec.direction,
        also: spec.also,
        qos: spec.qos.unwrap_or(QoS::ExactlyOnce),
        retain,
        acknowledge: spec.acknowledge.unwrap_or_default(),
        overflow: spec.overflow.unwrap_or_default(),
        on_error: spec.on_error.unwrap_or_default(),
        unmapped: spec.unmapped,
        dead_letter: spec.dead_letter.filter(|_| spec.on_error == Some(OnError::DeadLetter)),
        partition: spec.kafka.partition.unwrap_or_default(),
        partition_template: partition,
        timestamp,
        tombstones: spec.kafka.tombstones.unwrap_or_default(),
        client_header: spec.kafka.client_header.unwrap_or(true),
        acks: spec.kafka.acks.unwrap_or_default(),
        compression: spec.kafka.compression,
        offline_retention: spec.kafka.offline_retention,
        schema: spec.schema,
        topic,
        slot: None,
        key,
        headers,
        shape: shape?,
        conversion: compiled,
        has_inverse: true,
        topic_header: false,
    };
    plan_inverse(&mut rule);
    rule.has_inverse = !rule.topic_header;
    Some(rule)
}
