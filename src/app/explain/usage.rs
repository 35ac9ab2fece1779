//! A question that is not understood: what is missing in it, and one like it that would be.

use clap::error::ErrorKind;

use super::Question;

const OF_MESSAGE: &str = "for example: mqtt-kafka-proxy explain vehicles/42/telemetry/rpm --payload 1850";
const OF_RECORD: &str = "for example: mqtt-kafka-proxy explain --kafka vehicle-commands --key 42 --payload unlock";
const OF_FILTER: &str = "for example: mqtt-kafka-proxy explain --subscribe 'vehicles/42/#'";

/// Options that say something of a record.
const RECORDS: [&str; 6] = ["--key", "--key-base64", "--header", "--header-base64", "--partition", "--tombstone"];

const NO_SUBJECT: &str = "what is asked about is missing: the topic of a message, `--kafka TOPIC` for a record, or `--subscribe FILTER` for what a \
                          subscriber reads";
const TWO_SUBJECTS: &str = "one question is about one of three, with the options of that: the topic of a message, `--kafka TOPIC` for a record, or \
                            `--subscribe FILTER`";
const NO_RECORD: &str = "`--key`, `--header`, `--partition` and `--tombstone` say something of a record: `--kafka TOPIC` is missing, in the place of an \
                         MQTT topic";

/// What is said behind the words of the command line's parser.
pub(in crate::app) fn hint(kind: ErrorKind, arguments: &[String]) -> String {
    let has = |option: &str| {
        let is_it = |argument: &String| {
            argument
                .strip_prefix(option)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
        };
        arguments.iter().any(is_it)
    };
    let of_record = RECORDS.iter().any(|option| has(option));
    let example = match (has("--subscribe"), has("--kafka") || of_record) {
        (true, _) => OF_FILTER,
        (false, true) => OF_RECORD,
        (false, false) => OF_MESSAGE,
    };
    let missing = match kind {
        ErrorKind::MissingRequiredArgument if !of_record => Some(NO_SUBJECT),
        ErrorKind::MissingRequiredArgument | ErrorKind::ArgumentConflict if of_record && !has("--kafka") && !has("--subscribe") => {
            Some(NO_RECORD)
        }
        ErrorKind::ArgumentConflict => Some(TWO_SUBJECTS),
        _ => None,
    };
    missing.map_or_else(|| example.to_owned(), |missing| format!("{missing}\n{example}"))
}

/// What is said behind the words of the rules.
pub(super) fn of_question(question: &Question) -> String {
    match (&question.topic, &question.subscribe) {
        (Some(topic), _) if topic.contains(['+', '#']) => {
            format!(
                "a message has one topic, without wildcards; what a subscriber of a filter reads tells `--subscribe FILTER`\n{OF_MESSAGE}"
            )
        }
        (_, Some(_)) => OF_FILTER.to_owned(),
        _ => OF_MESSAGE.to_owned(),
    }
}
