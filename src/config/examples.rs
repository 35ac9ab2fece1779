//! `examples` of rules: messages and records, and what the rules must make of them. They are tried (`trial`) whenever the file is loaded.

mod trial;

use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::tree::{Kind, Node, Place};
use super::walk::{Keys, Section, Walk};

const EXAMPLE: Keys = Keys {
    known: &[
        "topic",
        "payload",
        "payload_base64",
        "client",
        "identity",
        "user",
        "partitions",
        "record",
        "becomes",
    ],
    later: &[],
};
const RECORD: Keys = Keys {
    known: &["topic", "partition", "key", "headers", "value", "value_base64", "tombstone"],
    later: &[],
};
const STORED: Keys = Keys {
    known: &[
        "topic",
        "partition",
        "key",
        "timestamp",
        "headers",
        "value",
        "value_base64",
        "tombstone",
    ],
    later: &[],
};
const DELIVERED: Keys = Keys {
    known: &["topic", "qos", "payload", "payload_base64", "user"],
    later: &[],
};

/// All of a file together; each is asked of all rules.
const MOST_EXAMPLES: usize = 1_000;

type Pairs = Vec<(String, String)>;

/// An example as it is written.
pub(super) struct Example {
    place: Place,
    given: Given,
    becomes: Becomes,
}

/// What must come out.
enum Becomes {
    /// Nothing, and that is no failure.
    Nothing,
    /// The rule refuses the message.
    Refused,
    /// One record, or the message, has this.
    One(Vec<Expected>),
    /// So many records, and each has this.
    All(Vec<Vec<Expected>>),
}

impl Becomes {
    fn expected(&self) -> impl Iterator<Item = &Expected> {
        let lists = match self {
            Becomes::Nothing | Becomes::Refused => &[],
            Becomes::One(list) => std::slice::from_ref(list),
            Becomes::All(lists) => lists.as_slice(),
        };
        lists.iter().flatten()
    }
}

enum Given {
    Message {
        topic: String,
        payload: Vec<u8>,
        client: String,
        identity: Option<String>,
        user: Pairs,
        partitions: Option<u32>,
    },
    Record {
        /// The rule's, if it is not written.
        topic: Option<String>,
        partition: i32,
        key: Option<String>,
        headers: Pairs,
        value: Option<Vec<u8>>,
    },
}

/// One thing that must come out. `pair` is a name in a table.
struct Expected {
    place: Place,
    field: &'static str,
    pair: Option<String>,
    text: String,
}

impl Walk<'_> {
    /// The examples of a rule; `before` is how many the file had so far.
    pub(super) fn examples(&mut self, node: &Node, before: usize) -> Vec<Example> {
        let list = self.list(node, "rules[].examples");
        if let Some(extra) = list.get(MOST_EXAMPLES.saturating_sub(before)) {
            let message = format!("more than {MOST_EXAMPLES} examples");
            self.fault(extra.place, message, "keep one or two for each rule");
            return vec![];
        }
        list.iter().filter_map(|node| self.example(node)).collect()
    }

    fn example(&mut self, node: &Node) -> Option<Example> {
        let section = self.section(node, "rules[].examples[]", &EXAMPLE)?;
        let record = self.optional(&section, "record");
        let becomes = self.required_becomes(&section, record.is_some());
        let given = match record {
            Some(record) => self.record(&section, record),
            None => self.message(&section),
        };
        let becomes = match record {
            Some(_) => self.becomes(becomes?, &DELIVERED, "user")?,
            None => self.all_becomes(becomes?)?,
        };
        let (given, place) = (given?, node.place);
        if let (Given::Message { partitions: None, .. }, Some(expected)) = (&given, becomes.expected().find(|e| e.field == "partition")) {
            let remedy = "write `partitions` beside `topic`: how many the Kafka topic has";
            self.fault(expected.place, "the partition cannot be told", remedy);
            return None;
        }
        Some(Example { place, given, becomes })
    }

    /// `becomes`, which must be there.
    fn required_becomes<'t>(&mut self, section: &Section<'t>, of_record: bool) -> Option<&'t Node> {
        if section.get("becomes").is_none() && !section.means("becomes") {
            let remedy = match of_record {
                true => "add `becomes: {topic: vehicles/42/commands}` with what the message has, or `becomes: nothing`",
                false => "add `becomes: {key: \"42\"}` with what the record has, `becomes: nothing` or `becomes: refused`",
            };
            self.fault(section.place, "`rules[].examples[]` has no `becomes`", remedy);
        }
        self.optional(section, "becomes")
    }

    fn message(&mut self, section: &Section<'_>) -> Option<Given> {
        let topic = self.required(section, "topic", "vehicles/42/telemetry");
        let topic = topic.and_then(|n| self.text(n, "rules[].examples[].topic"));
        let partitions = self.optional(section, "partitions");
        let partitions = partitions.map(|n| self.number(n, "rules[].examples[].partitions", 1..=i32::MAX as u64));
        let payload = self.bytes(section, ["payload", "payload_base64"]);
        let [client, identity] = ["client", "identity"].map(|key| self.words(section, key));
        let user = self.table(section, "user");
        Some(Given::Message {
            topic: topic?,
            payload: payload?,
            client: client?.unwrap_or_else(|| "client".to_owned()),
            identity: identity?,
            user: user?,
            partitions: partitions.map_or(Some(None), |n| Some(Some(n? as u32)))?,
        })
    }

    fn record(&mut self, example: &Section<'_>, node: &Node) -> Option<Given> {
        for key in ["topic", "payload", "payload_base64", "client", "identity", "user", "partitions"] {
            if let Some(stray) = example.get(key) {
                let message = format!("`{key}` is a message's, and this example is of a record");
                self.fault(
                    stray.place,
                    message,
                    "write what the record has under `record`, and what it becomes under `becomes`",
                );
            }
        }
        let section = self.section(node, "rules[].examples[].record", &RECORD)?;
        let partition = self.optional(&section, "partition").map_or(Some(0), |n| {
            self.number(n, "rules[].examples[].record.partition", 0..=i32::MAX as u64)
        });
        let tombstone = self.optional(&section, "tombstone");
        let tombstone = tombstone.map_or(Some(false), |n| self.flag(n, "rules[].examples[].record.tombstone"));
        let value = self.bytes(&section, ["value", "value_base64"]);
        let [topic, key] = ["topic", "key"].map(|key| self.words(&section, key));
        let headers = self.table(&section, "headers");
        let value = value?;
        Some(Given::Record {
            topic: topic?,
            partition: partition? as i32,
            key: key?,
            headers: headers?,
            value: if tombstone? { None } else { Some(value) },
        })
    }

    /// What must become of a message: its one record, or several in a list.
    fn all_becomes(&mut self, node: &Node) -> Option<Becomes> {
        if !matches!(node.kind, Kind::List(_)) {
            return self.becomes(node, &STORED, "headers");
        }
        let list = self.list(node, "rules[].examples[].becomes");
        let records: Vec<_> = list.iter().map(|node| self.expected(node, &STORED, "headers")).collect();
        let records: Option<Vec<_>> = records.into_iter().collect();
        records.filter(|records| !records.is_empty()).map(Becomes::All)
    }

    fn becomes(&mut self, node: &Node, keys: &Keys, table: &'static str) -> Option<Becomes> {
        const NAME: &str = "rules[].examples[].becomes";
        // Nobody is refused on the way back.
        let of_record = table == "user";
        match &node.kind {
            Kind::Table(_) => self.expected(node, keys, table).map(Becomes::One),
            Kind::List(_) => {
                let remedy = "write `{topic: …}` with what the message has, or `nothing`";
                self.fault(node.place, format!("`{NAME}` is a list, and a record becomes one message"), remedy);
                None
            }
            Kind::Scalar { .. } => self.parsed(node, NAME, |text| match text {
                "nothing" => Ok(Becomes::Nothing),
                "refused" if !of_record => Ok(Becomes::Refused),
                _ if of_record => Err(unknown_word("write `nothing`, or `{topic: …}` with what the message has")),
                _ => Err(unknown_word(
                    "write `nothing`, `refused`, or `{key: …}` with what the record has; a list of such tables for several records",
                )),
            }),
        }
    }

    /// What one record or message must have.
    fn expected(&mut self, node: &Node, keys: &Keys, table: &'static str) -> Option<Vec<Expected>> {
        if matches!(&node.kind, Kind::Table(entries) if entries.is_empty()) {
            let remedy = format!("write what must come out, of {}; or `nothing`", keys.known.join(", "));
            self.fault(node.place, "`rules[].examples[].becomes` says nothing", remedy);
            return None;
        }
        let section = self.section(node, "rules[].examples[].becomes", keys)?;
        let (mut expected, mut readable) = (Vec::new(), true);
        for field in keys.known.iter().copied().filter(|field| *field != table) {
            if let Some(node) = self.optional(&section, field) {
                let (place, pair) = (node.place, None);
                match self.text(node, &section.path(field)) {
                    Some(text) => expected.push(Expected { place, field, pair, text }),
                    None => readable = false,
                }
            }
        }
        if let Some(node) = self.optional(&section, table) {
            let values = self.pairs(node, &section.path(table))?;
            let Kind::Table(entries) = &node.kind else { return None };
            expected.extend(values.into_iter().zip(entries).map(|((name, text), (key, _))| Expected {
                place: key.place,
                field: table,
                pair: Some(name),
                text,
            }));
        }
        // Without any it has a key that is unknown, or has no value: that is told.
        (readable && !expected.is_empty()).then_some(expected)
    }

    /// A text, or bytes in base64. `None`: they cannot be read.
    fn bytes(&mut self, section: &Section<'_>, [plain, encoded]: [&str; 2]) -> Option<Vec<u8>> {
        let Some(node) = self.optional(section, encoded) else {
            return Some(self.words(section, plain)?.unwrap_or_default().into_bytes());
        };
        if section.get(plain).is_some() {
            let remedy = format!("leave one of them out: `{encoded}` is `{plain}` in base64");
            self.fault(node.place, format!("`{plain}` and `{encoded}`"), remedy);
            return None;
        }
        let text = self.text(node, &section.path(encoded))?;
        let bytes = BASE64_STANDARD.decode(&text).ok();
        if bytes.is_none() {
            let remedy = "write the bytes in base64, with its padding: \"AP8=\"";
            self.fault(node.place, format!("`{encoded}` is no base64"), remedy);
        }
        bytes
    }

    /// A text that may be left out. `None`: it is there and cannot be read.
    #[expect(clippy::option_option, reason = "absent and unreadable are told apart")]
    fn words(&mut self, section: &Section<'_>, key: &str) -> Option<Option<String>> {
        match self.optional(section, key) {
            Some(node) => self.text(node, &section.path(key)).map(Some),
            None => Some(None),
        }
    }

    fn table(&mut self, section: &Section<'_>, key: &str) -> Option<Pairs> {
        match self.optional(section, key) {
            Some(node) => self.pairs(node, &section.path(key)),
            None => Some(vec![]),
        }
    }
}

fn unknown_word(remedy: &str) -> (String, String) {
    ("is not a choice".to_owned(), remedy.to_owned())
}
