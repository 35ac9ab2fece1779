//! Request and response (§4.10), and all that MQTT 5 says of a message beside its topic: between devices, and between a device and a
//! program that knows Kafka only.

use std::process::Command;

use crate::deliver::Subscriber;
use crate::shared_kafka;
use crate::stage::{Proxy, eventually, root};

/// Questions and answers of `NAME`, both ways.
const RULES: &str = "  - {name: NAME-asks, mqtt: \"NAME/{device}/ask\", kafka: {topic: NAME-asks, key: \"{device}\"}}
  - {name: NAME-answers, mqtt: \"NAME/{device}/answer\", kafka: {topic: NAME-answers, key: \"{device}\"}}";

/// Topic, payload, response topic, correlation data in hex, content type, payload format, expiry, user properties.
type Said = [String; 8];

struct Paho(Subscriber);

impl Paho {
    fn start(proxy: &Proxy, arguments: &[&str]) -> Self {
        let mut command = Command::new(root().join(".run/python/bin/python"));
        command.arg(root().join("integration/paho_conversation.py"));
        command.args(["127.0.0.1", &proxy.mqtt.port().to_string()]).args(arguments);
        Self(Subscriber::start(&mut command, "subscribed"))
    }

    fn message(&self) -> Said {
        let line = self.0.message();
        let words: Vec<_> = line.split('|').map(str::to_owned).collect();
        words.try_into().unwrap_or_else(|words| panic!("{words:?}"))
    }
}

/// The seconds that a message has left, out of 600 when it was sent.
fn is_left_of_600(expiry: &str) -> bool {
    expiry.parse().is_ok_and(|seconds| (540..=600).contains(&seconds))
}

#[test]
fn a_question_and_its_answer_go_from_device_to_device_with_all_that_is_said_of_them() {
    let kafka = shared_kafka();
    kafka.topic("devices-asks", 2);
    kafka.topic("devices-answers", 2);
    let proxy = Proxy::start(&kafka.bootstrap, &RULES.replace("NAME", "devices"), "");
    let answerer = Paho::start(&proxy, &["answerer", "devices/+/ask"]);
    let asker = Paho::start(&proxy, &["asker", "devices/7/answer", "devices/9/ask"]);
    let question = answerer.message();
    assert!(is_left_of_600(&question[6]), "{question:?}");
    let words = ["devices/9/ask", "how warm?", "devices/7/answer", "00ff7c37", "text/question", "1"];
    assert_eq!(
        (&question[..6], &*question[7]),
        (&words.map(String::from)[..], "unit=°C,unit=K,Ünit=")
    );
    let answer = ["devices/7/answer", "re: how warm?", "-", "00ff7c37", "-", "-", "-", "from=answerer"];
    assert_eq!(asker.message(), answer.map(String::from));
}

#[test]
fn a_device_asks_and_a_program_that_knows_kafka_only_answers() {
    let kafka = shared_kafka();
    kafka.topic("program-asks", 2);
    kafka.topic("program-answers", 2);
    let proxy = Proxy::start(&kafka.bootstrap, &RULES.replace("NAME", "program"), "");
    let asker = Paho::start(&proxy, &["asker", "program/7/answer", "program/9/ask"]);
    let record = eventually("the question is in Kafka", || kafka.consume("program-asks", "%k %s %h").pop());
    assert!(record.starts_with("9 how warm? "), "{record}");
    for header in [
        "mqtt.response-topic=program/7/answer",
        "mqtt.content-type=text/question",
        "mqtt.payload-format=1",
        "mqtt.expiry=600",
        "unit=°C,unit=K,Ünit=",
    ] {
        assert!(record.contains(header), "{header} in {record}");
    }
    kafka.produce(
        "program-answers",
        "7",
        &[
            "mqtt.correlation-data=7",
            "mqtt.content-type=text/answer",
            "mqtt.payload-format=1",
            "mqtt.expiry=600",
            "from=program",
        ],
        "21",
    );
    let answer = asker.message();
    assert!(is_left_of_600(&answer[6]), "{answer:?}");
    let words = ["program/7/answer", "21", "-", "37", "text/answer", "1"];
    assert_eq!((&answer[..6], &*answer[7]), (&words.map(String::from)[..], "from=program"));
}

#[test]
fn a_program_that_knows_kafka_only_asks_and_a_device_answers() {
    let kafka = shared_kafka();
    kafka.topic("device-asks", 2);
    kafka.topic("device-answers", 2);
    let proxy = Proxy::start(&kafka.bootstrap, &RULES.replace("NAME", "device"), "");
    let answerer = Paho::start(&proxy, &["answerer", "device/9/ask"]);
    let headers = ["mqtt.response-topic=device/program/answer", "mqtt.correlation-data=seven", "unit=K"];
    kafka.produce("device-asks", "9", &headers, "how warm?");
    let question = [
        "device/9/ask",
        "how warm?",
        "device/program/answer",
        "736576656e",
        "-",
        "-",
        "-",
        "unit=K",
    ];
    assert_eq!(answerer.message(), question.map(String::from));
    let record = eventually("the answer is in Kafka", || kafka.consume("device-answers", "%k %s %h").pop());
    assert!(record.starts_with("program re: how warm? "), "{record}");
    assert!(
        record.contains("mqtt.correlation-data=seven") && record.contains("from=answerer"),
        "{record}"
    );
}
