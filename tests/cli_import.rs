//! `import`: what it writes of another gateway's files is a configuration that `check` takes, and that makes the same records.

// clippy.toml allows it in test functions; the functions they share are not seen as such.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};

fn run(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt-kafka-proxy"));
    let secrets = [("KAFKA_PASSWORD", "hunter2"), ("KAFKA_CLIENT_SECRET", "hunter3")];
    let command = command.args(arguments).current_dir(folder).envs(secrets);
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// The folder of an import that `check` takes, and what was written.
#[track_caller]
fn imported(files: &[(&str, &str)]) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
    let (code, yaml, err) = run(folder.path(), &[&["import", "confluent"], &names[..]].concat());
    assert_eq!((code, err.as_str()), (0, ""), "{yaml}");
    std::fs::write(folder.path().join("proxy.yaml"), &yaml).unwrap();
    (folder, yaml)
}

#[track_caller]
fn checked(folder: &Path, yaml: &str) {
    let (code, out, err) = run(folder, &["check"]);
    assert!(code == 0 && out.contains("ok"), "{out}{err}\n{yaml}");
    assert!(!err.contains("warning"), "{err}\n{yaml}");
}

/// Puts the files that an import names where it names them: its certificates are all that of one pair, and one user has a password.
fn provide(folder: &Path, yaml: &str) {
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let said = yaml.lines().filter(|line| !line.starts_with('#'));
    for name in said.flat_map(|line| line.split([' ', ',', '"', '{', '}', '[', ']'])) {
        let text = match Path::new(name).extension().and_then(|kind| kind.to_str()) {
            Some("pem") => pair.cert.pem(),
            Some("key") => pair.signing_key.serialize_pem(),
            Some("txt") => mqtt_kafka_proxy::auth::passwords::entry("vin42", b"s3cret").unwrap(),
            _ => continue,
        };
        let file = folder.join(name);
        assert!(file.starts_with(folder), "{name} lies elsewhere");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }
}

/// What the imported rules make of a message: Kafka topic, key and value.
#[track_caller]
fn record(folder: &Path, topic: &str, payload: &str) -> Option<(String, String, String)> {
    let (_, out, _) = run(folder, &["explain", topic, "--payload", payload, "--json"]);
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    let record = told["records"].get(0)?;
    let text = |key: &str| record[key].as_str().unwrap().to_owned();
    Some((text("topic"), text("key"), text("value")))
}

#[test]
fn the_first_expression_that_matches_names_the_kafka_topic_and_the_mqtt_topic_is_the_key() {
    let properties = "\
# A development setup.
listeners=0.0.0.0:1883
bootstrap.servers=PLAINTEXT://broker-1:9092,broker-2:9092
topic.regex.list=temperature:.*temperature, brightness:.*/(light|brightness), numbered:dev/\\\\d{1,3}/.*, rest:.*, late:x
stream.threads.num=1
producer.acks=1
producer.linger.ms=5
producer.compression.type=lz4
confluent.topic.replication.factor=1
";
    let (folder, yaml) = imported(&[("kafka-mqtt-dev.properties", properties)]);
    checked(folder.path(), &yaml);
    let made = |topic: &str| record(folder.path(), topic, "21").map(|(kafka, key, value)| (kafka, key == topic, value));
    for (topic, kafka) in [
        ("car/engine/temperature", "temperature"),
        ("temperature", "temperature"),
        ("house/light", "brightness"),
        ("dev/42/x", "numbered"),
        // Java's `\d` is ASCII.
        ("dev/٤٢/x", "rest"),
        ("anything", "rest"),
        ("x", "rest"),
    ] {
        assert_eq!(made(topic), Some((kafka.to_owned(), true, "21".to_owned())), "{topic}\n{yaml}");
    }
    for words in [
        "bootstrap_servers: [\"broker-1:9092\", \"broker-2:9092\"]",
        "producer: {linger: 5ms, compression: lz4}",
        "acks: leader",
        "# late:x is never reached",
        "kafka-mqtt-dev.properties:5: stream.threads.num: there is a thread for each core",
        "kafka-mqtt-dev.properties:9: confluent.topic.replication.factor: no licence is needed",
    ] {
        assert!(yaml.contains(words), "{words}\n{yaml}");
    }
    assert!(!yaml.contains("To be decided"), "{yaml}");
}

#[test]
fn a_cluster_that_asks_for_a_login_is_written_with_it() {
    let properties = "\
topic.regex.list=fleet:.*
listeners=127.0.0.1:1883
bootstrap.servers=pkc-1.example:9092
producer.security.protocol=SASL_SSL
producer.ssl.endpoint.identification.algorithm=https
producer.sasl.mechanism=PLAIN
producer.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \\
  username=\"K\\\\\"E${Y}\" password=\"secret;\";
confluent.topic.bootstrap.servers=pkc-1.example:9092
confluent.topic.security.protocol=SASL_SSL
confluent.topic.sasl.mechanism=PLAIN
";
    let (folder, yaml) = imported(&[("kafka-mqtt.properties", properties)]);
    checked(folder.path(), &yaml);
    assert!(yaml.contains("protocol: sasl_ssl"), "{yaml}");
    let login = r#"sasl: {mechanism: PLAIN, username: "K\"E$${Y}", password: "${KAFKA_PASSWORD}"}"#;
    assert!(yaml.contains(login) && !yaml.contains("secret"), "{yaml}");
    assert!(!yaml.contains("To be decided"), "{yaml}");
    assert_eq!(record(folder.path(), "v/1", "x").unwrap().0, "fleet");
}

#[test]
fn clients_with_passwords_over_tls_are_asked_by_a_password_file() {
    let properties = "\
topic.regex.list=fleet:.*
listeners=tcp://0.0.0.0:8883
listeners.security.protocol=SASL_SSL
listeners.ssl.keystore.location=proxy.jks
listeners.ssl.keystore.password=changeit
listeners.ssl.key.password=changeit
listeners.ssl.truststore.location=trust.jks
listeners.ssl.client.auth=required
mqtt.message.max.bytes=65536
bootstrap.servers=localhost:9092
";
    let jaas = "\
// For the listeners
ConfluentKafkaMqtt {
  io.confluent.mqtt.protocol.security.PropertyFileLoginModule required
  file=\"/etc/mqtt/credentials.txt\";
};
";
    let (folder, yaml) = imported(&[("kafka-mqtt.properties", properties), ("mqtt.jaas", jaas)]);
    for words in [
        r#"{name: mqtts, address: "0.0.0.0:8883", protocol: mqtts, tls: {certificate: "proxy.pem", key: "proxy.key", client_ca: "client-ca.pem", client_auth: required}}"#,
        "authentication: [{method: password_file, file: users.txt}]",
        "for each user of /etc/mqtt/credentials.txt: mqtt-kafka-proxy password users.txt NAME",
        "keytool -importkeystore -srckeystore proxy.jks",
        "limits: {packet_size: 65541B}",
    ] {
        assert!(yaml.contains(words), "{words}\n{yaml}");
    }
    assert!(!yaml.contains("changeit") && !yaml.contains("To be decided"), "{yaml}");
    assert!(!yaml.contains("authentication: none"), "{yaml}");
    // Once what is to be done by hand is done.
    assert_eq!(run(folder.path(), &["check"]).0, 64, "{yaml}");
    provide(folder.path(), &yaml);
    checked(folder.path(), &yaml);
    assert_eq!(record(folder.path(), "v/1", "x").unwrap().0, "fleet");
}

/// Of two settings that say something of who logs in the stricter one counts, and where it is not plain nobody is let in.
#[test]
fn who_may_have_to_log_in_is_never_let_in_unasked() {
    let properties = |more: &str| format!("topic.regex.list=fleet:.*\nbootstrap.servers=localhost:9092\n{more}\n");
    let list = "authentication: [{method: password_file, file: users.txt}]";
    for more in [
        "listeners=SASL_PLAINTEXT://0.0.0.0:1884",
        "listeners=sasl_plaintext://0.0.0.0:1884\nlisteners.security.protocol=PLAINTEXT",
    ] {
        let (_folder, yaml) = imported(&[("p", &properties(more))]);
        assert!(yaml.contains(list) && !yaml.contains("authentication: none"), "{yaml}");
        assert!(yaml.contains("0.0.0.0:1884` has clients log in, and"), "{yaml}");
    }
    let jaas = "ConfluentKafkaMqtt {\n  a.PropertyFileLoginModule required file=\"f\";\n};\n";
    let (folder, yaml) = imported(&[("p", &properties("")), ("mqtt.jaas", jaas)]);
    assert!(
        yaml.contains("To be decided") && yaml.contains("no client logs in") && !yaml.contains("authentication: "),
        "{yaml}"
    );
    assert_eq!(run(folder.path(), &["check"]).0, 64, "{yaml}");
}

#[test]
fn what_has_no_equal_is_told_and_the_rest_is_written() {
    let properties = "\
topic.regex.list=a:(?=x).*,b:b/{1,2}.*,c:c/.*
bootstrap.servers=localhost:9092
listeners=edge.example:1884
producer.linger.ms=5000
producer.max.request.size=100
no.such.setting=1
";
    let (folder, yaml) = imported(&[("p", properties)]);
    checked(folder.path(), &yaml);
    for words in [
        "the expression `(?=x).*` of `a`",
        "`linger` is 1000ms, its bound",
        "p:5: producer.max.request.size: what is too large",
        "p:6: no.such.setting: not known",
        "\nauthentication: none\n",
        "`edge.example` is a name",
    ] {
        assert!(yaml.contains(words), "{words}\n{yaml}");
    }
    assert_eq!(record(folder.path(), "b//x", "1").unwrap().0, "b");
    assert_eq!(record(folder.path(), "c/x", "1").unwrap().0, "c");
    assert_eq!(record(folder.path(), "d", "1"), None);
}

#[test]
fn what_no_rule_can_be_made_of_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (text, why) in [
        ("listeners=0.0.0.0:1883\n", "there is no `topic.regex.list`"),
        ("topic.regex.list=a:.*\n", "there is no `bootstrap.servers`"),
        ("topic.regex.list=a:(\nbootstrap.servers=x:1\n", "no rule can be made"),
        (
            "topic.regex.list=a:.*\nbootstrap.servers=x:1\nlisteners.security.protocol=X\n",
            "`X` is not known",
        ),
        (
            "topic.regex.list=a:.*\nbootstrap.servers=x:1\nlisteners=0.0.0.0:1883,ws://0.0.0.0:80\n",
            "`listeners`: `ws://` is not known",
        ),
    ] {
        std::fs::write(folder.path().join("p"), text).unwrap();
        let (code, out, err) = run(folder.path(), &["import", "confluent", "p"]);
        assert_eq!((code, out.as_str()), (65, ""), "{text}");
        assert!(err.starts_with("p: ") && err.contains(why), "{err}");
    }
    let (code, _, err) = run(folder.path(), &["import", "confluent", "nowhere"]);
    assert!(code == 66 && err.contains("nowhere: cannot be read"), "{err}");
}

#[test]
fn a_wrong_file_is_told_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("conf.d")).unwrap();
    let properties = b"topic.regex.list=a:.*\nbootstrap.servers=k:1\n";
    for (name, bytes) in [
        ("good", properties.to_vec()),
        ("latin", [&properties[..], b"# f\xfcr alle\n"].concat()),
        ("server.jks", vec![0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2]),
        ("plain", b"node { name = x }\n".to_vec()),
        ("other.yaml", b"rules: []\nlisteners: []\n".to_vec()),
        ("bare", b"listeners=0.0.0.0:1883\ntopic.regex.list=a:.*\n".to_vec()),
    ] {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    for (from, files, code, told) in [
        ("confluent", &["good", "conf.d"][..], 66, "conf.d: cannot be read: "),
        ("confluent", &["good", "latin"], 65, "latin:3: is not UTF-8; save the file as UTF-8"),
        ("confluent", &["good", "server.jks"], 65, "server.jks: is no text; "),
        (
            "confluent",
            &["other.yaml"],
            65,
            "other.yaml: there is no `topic.regex.list`; give the `kafka-mqtt.properties`",
        ),
        ("confluent", &["bare"], 65, "bare: there is no `bootstrap.servers`; "),
        ("emqx", &["conf.d"], 66, "conf.d: cannot be read: "),
        ("emqx", &["server.jks"], 65, "server.jks: is no text; "),
        (
            "emqx",
            &["plain"],
            65,
            "plain: no rule can be made: there is no rule that sends to Kafka",
        ),
    ] {
        let (exit, out, err) = run(folder.path(), &[&["import", from], files].concat());
        assert_eq!((exit, out.as_str()), (code, ""), "{files:?}: {err}");
        assert!(err.starts_with(told) && err.lines().count() == 1, "{files:?}: {err}");
    }
}

/// Configurations as the pages of Confluent's documentation of its MQTT Proxy have them, each with its settings: the quick start, the image (which
/// writes its environment down as properties), Confluent Cloud, and secured listeners and brokers.
const DOCUMENTED: [(&str, &str, &str); 7] = [
    (
        "image's environment",
        "      KAFKA_MQTT_BOOTSTRAP_SERVERS: kafka:9092\n      KAFKA_MQTT_LISTENERS: 0.0.0.0:1883\n\
         KAFKA_MQTT_TOPIC_REGEX_LIST: 'temperature:.*temperature, brightness:.*brightness'\n\
         KAFKA_MQTT_CONFLUENT_TOPIC_REPLICATION_FACTOR=1\nKAFKA_MQTT_PRODUCER_COMPRESSION_TYPE=\"lz4\"\n",
        "",
    ),
    // As tutorials have it, down to a slip of the pen that the proxy took.
    (
        "compose file",
        "services:\n  proxy:\n    image: confluentinc/cp-kafka-mqtt\n    hostname: proxy\n    ports:\n      - \"1884:1884\"\n    environment:\n      \
         KAFKA_MQTT_TOPIC_REGEX_LIST: 'temperature:.*temperature,lamps:.*lamp-[a-z]+'\n      KAFKA_MQTT_LISTENERS: 0.0.0.0:1884\n      \
         KAFKA_MQTT_BOOTSTRAP_SERVERS: PLAINTEXT://broker-1:9092,broker-2:9093\n      KAFKA_MQTT_CONFLUENT_TOPIC_REPLICATIN_FACTOR: 1\n      \
         KAFKA_MQTT_KEY_DESERIALIZER: org.apache.kafka.common.serialization.StringDeserializer\n      KAFKA_MQTT_PRODUCER_GROUP_ID: proxies\n",
        "",
    ),
    (
        "quick start",
        "topic.regex.list=temperature:.*temperature, brightness:.*brightness\nlisteners=0.0.0.0:1883\n\
         bootstrap.servers=PLAINTEXT://localhost:9092\nconfluent.topic.replication.factor=1\n",
        "",
    ),
    (
        "image",
        "bootstrap.servers=kafka:9092\nlisteners=0.0.0.0:1883\ntopic.regex.list=temperature:.*temperature\nstream.threads.num=1\n\
         confluent.topic.replication.factor=1\nconfluent.license=\nproducer.client.id=proxy\n",
        "",
    ),
    (
        "Confluent Cloud",
        "topic.regex.list=temperature:.*temperature\nlisteners=0.0.0.0:1883\nbootstrap.servers=cloud.example:9092\n\
         producer.bootstrap.servers=cloud.example:9092\nproducer.security.protocol=SASL_SSL\nproducer.sasl.mechanism=PLAIN\n\
         producer.ssl.endpoint.identification.algorithm=https\n\
         producer.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username=\"KEY\" password=\"SECRET\";\n\
         confluent.topic.bootstrap.servers=cloud.example:9092\nconfluent.topic.security.protocol=SASL_SSL\n\
         confluent.topic.sasl.mechanism=PLAIN\nconfluent.topic.ssl.endpoint.identification.algorithm=https\n\
         confluent.topic.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username=\"KEY\" password=\"SECRET\";\n\
         confluent.topic.replication.factor=3\n",
        "",
    ),
    (
        "secured listeners",
        "topic.regex.list=temperature:.*temperature\nlisteners=0.0.0.0:8883\nbootstrap.servers=localhost:9092\n\
         listeners.security.protocol=SASL_TLS\nlisteners.ssl.keystore.location=server.keystore.jks\nlisteners.ssl.keystore.password=SECRET\n\
         listeners.ssl.key.password=SECRET\nlisteners.ssl.truststore.location=server.truststore.jks\n\
         listeners.ssl.truststore.password=SECRET\nlisteners.ssl.client.auth=required\n",
        "ConfluentKafkaMqtt {\n  io.confluent.mqtt.protocol.security.PropertyFileLoginModule required\n  file=\"/tmp/credentials.txt\";\n};\n",
    ),
    (
        "secured brokers",
        "topic.regex.list=temperature:.*temperature\nlisteners=0.0.0.0:1883\nbootstrap.servers=localhost:9093\n\
         producer.security.protocol=SSL\nproducer.ssl.truststore.location=/certs/client.truststore.jks\n\
         producer.ssl.truststore.password=SECRET\nproducer.ssl.keystore.location=/certs/client.keystore.jks\n\
         producer.ssl.keystore.password=SECRET\nproducer.ssl.key.password=SECRET\n",
        "",
    ),
];

#[test]
fn what_the_documentation_shows_leaves_no_question_open() {
    for (page, properties, jaas) in DOCUMENTED {
        let files = [("kafka-mqtt.properties", properties), ("mqtt.jaas", jaas)];
        let given = if jaas.is_empty() { &files[..1] } else { &files[..] };
        let (folder, yaml) = imported(given);
        for word in ["To be decided", "not known", "SECRET"] {
            assert!(!yaml.contains(word), "{page}: {word}\n{yaml}");
        }
        assert!(
            yaml.contains("topic: \"temperature\"") || yaml.contains("topic: temperature"),
            "{page}\n{yaml}"
        );
        assert_eq!(yaml.contains("compression: lz4"), page == "image's environment");
        // Of the pages only that of secured brokers names a folder; here it is one of the test's.
        let yaml = yaml.replace("\"/certs/", &format!("\"{}/certs/", folder.path().display()));
        std::fs::write(folder.path().join("proxy.yaml"), &yaml).unwrap();
        let names_files = page.starts_with("secured");
        assert_eq!(run(folder.path(), &["check"]).0, if names_files { 64 } else { 0 }, "{page}");
        provide(folder.path(), &yaml);
        checked(folder.path(), &yaml);
        let (kafka, key, _) = record(folder.path(), "house/room/temperature", "20C").unwrap();
        assert_eq!((kafka.as_str(), key.as_str()), ("temperature", "house/room/temperature"), "{page}");
    }
}

/// All settings of its reference, also those that nobody sets.
#[test]
fn every_documented_setting_is_known() {
    let properties = "\
listeners=0.0.0.0:8883
network.threads.num=4
network.epoll.enabled=true
mqtt.message.max.bytes=8092
listeners.security.protocol=TLS
listeners.ssl.protocol=TLS
listeners.ssl.provider=SunJSSE
listeners.ssl.cipher.suites=TLS_AES_128_GCM_SHA256
listeners.ssl.enabled.protocols=TLSv1.2,TLSv1.3
listeners.ssl.keystore.type=JKS
listeners.ssl.keystore.location=server.jks
listeners.ssl.keystore.password=SECRET
listeners.ssl.key.password=SECRET
listeners.ssl.truststore.type=JKS
listeners.ssl.truststore.location=trust.jks
listeners.ssl.truststore.password=SECRET
listeners.ssl.keymanager.algorithm=SunX509
listeners.ssl.trustmanager.algorithm=PKIX
listeners.ssl.endpoint.identification.algorithm=https
listeners.ssl.secure.random.implementation=SHA1PRNG
listeners.ssl.client.auth=requested
topic.regex.list=temperature:.*temperature
stream.threads.num=2
bootstrap.servers=localhost:9092
producer.acks=all
producer.linger.ms=5
producer.batch.size=16384
producer.buffer.memory=33554432
producer.compression.type=snappy
producer.delivery.timeout.ms=120000
producer.retries=3
producer.max.in.flight.requests.per.connection=1
producer.enable.idempotence=true
producer.request.timeout.ms=30000
producer.max.block.ms=60000
producer.metadata.max.age.ms=300000
producer.client.id=proxy
confluent.license=
confluent.topic=_confluent-command
confluent.topic.bootstrap.servers=localhost:9092
confluent.topic.replication.factor=3
confluent.license.topic=_confluent-license
confluent.license.topic.replication.factor=1
KAFKA_MQTT_LICENSE_TOPIC_REPLICATION_FACTOR=1
key.deserializer=org.apache.kafka.common.serialization.ByteArrayDeserializer
producer.group.id=proxy
producer.interceptor.classes=io.confluent.monitoring.clients.interceptor.MonitoringProducerInterceptor
producer.confluent.monitoring.interceptor.ssl.truststore.password=SECRET
metric.reporters=
metrics.num.samples=2
confluent.metrics.reporter.sasl.jaas.config=SECRET
";
    let (folder, yaml) = imported(&[("kafka-mqtt.properties", properties)]);
    for word in ["To be decided", "not known", "SECRET"] {
        assert!(!yaml.contains(word), "{word}\n{yaml}");
    }
    provide(folder.path(), &yaml);
    checked(folder.path(), &yaml);
    assert_eq!(record(folder.path(), "room/temperature", "20C").unwrap().0, "temperature");
}

#[test]
fn what_java_means_otherwise_is_written_so_or_said() {
    let list = r"letters:\\p{Alpha}+/\\p{L}+,signs:[!-]+[+]*,lines:(?i)x/.*,blocks:\\p{InGreek},giving:a*+b";
    let properties = format!("listeners=0.0.0.0:1883\nbootstrap.servers=b:9092\ntopic.regex.list={list}\n");
    let (folder, yaml) = imported(&[("kafka-mqtt.properties", &properties)]);
    checked(folder.path(), &yaml);
    for (topic, kafka) in [
        ("abc/é", Some("letters")),
        ("é/abc", None),
        ("!-", Some("signs")),
        ("X/1", Some("lines")),
    ] {
        let made = record(folder.path(), topic, "1").map(|(kafka, ..)| kafka);
        assert_eq!(made.as_deref(), kafka, "{topic}\n{yaml}");
    }
    for words in [
        "topics with line ends in them",
        "`(?i)` is true of all letters",
        "`\\p{InGreek}` of `blocks`",
        "`a*+` never gives back",
    ] {
        assert!(yaml.contains(words), "{words}\n{yaml}");
    }
}

/// There such a message is stored like any other.
#[test]
fn a_retained_message_is_taken_whatever_is_acknowledged() {
    for acks in ["all", "1", "0"] {
        let properties = format!("topic.regex.list=fleet:.*\nbootstrap.servers=k:9092\nproducer.acks={acks}\n");
        let (folder, yaml) = imported(&[("kafka-mqtt.properties", &properties)]);
        checked(folder.path(), &yaml);
        let rules = mqtt_kafka_proxy::config::load(&folder.path().join("proxy.yaml")).unwrap().rules;
        assert!(
            rules
                .iter()
                .all(|(_, rule)| rule.retain == mqtt_kafka_proxy::mapping::Retain::Allow),
            "{yaml}"
        );
        assert!(rules.takes_retained() && !rules.keeps_retained(), "{yaml}");
    }
}

const LEAST: &str = "topic.regex.list=fleet:.*\nbootstrap.servers=k:9092\n";

#[test]
fn what_is_of_licences_consumers_and_reporters_is_told_with_its_answer() {
    let (licence, consumer) = ("no licence is needed", "it is of consumers");
    let (interceptor, metrics) = ("there are no interceptors", "metrics are Prometheus', at `/metrics`");
    let settings = [
        ("confluent.license", licence),
        ("confluent.license.topic", licence),
        ("confluent.license.topic.replication.factor", licence),
        ("license.topic.replication.factor", licence),
        ("producer.license.topic", licence),
        ("key.deserializer", consumer),
        ("producer.value.deserializer", consumer),
        ("group.id", consumer),
        ("producer.group.id", consumer),
        ("interceptor.classes", interceptor),
        ("producer.confluent.monitoring.interceptor.bootstrap.servers", interceptor),
        ("confluent.monitoring.interceptor.ssl.protocol", interceptor),
        ("metric.reporters", metrics),
        ("confluent.metrics.reporter.bootstrap.servers", metrics),
        ("confluent.metrics.reporter.ssl.protocol", metrics),
    ];
    let written: String = settings.iter().map(|(key, _)| format!("{key}=x\n")).collect();
    let (folder, yaml) = imported(&[("p", &format!("{LEAST}{written}"))]);
    checked(folder.path(), &yaml);
    for (at, (key, why)) in settings.iter().enumerate() {
        let told = format!("* p:{}: {key}: {why}", at + 3);
        assert!(yaml.contains(&told), "{told}\n{yaml}");
    }
    assert!(!yaml.contains("not known"), "{yaml}");
}

#[test]
fn each_listener_is_what_its_scheme_says() {
    let listeners = "ssl://127.0.0.1:8883,tcp://127.0.0.1:1883, MQTTS://127.0.0.1:8884/,127.0.0.1:1884,tls://127.0.0.1:8885,mqtt://:1885";
    let (folder, yaml) = imported(&[("p", &format!("{LEAST}listeners={listeners}\n"))]);
    let tls = "tls: {certificate: \"server.pem\", key: \"server.key\"}";
    for line in [
        format!("  - {{name: mqtts, address: \"127.0.0.1:8883\", protocol: mqtts, {tls}}}"),
        "  - {name: mqtt, address: \"127.0.0.1:1883\", protocol: mqtt}".to_owned(),
        format!("  - {{name: mqtts-2, address: \"127.0.0.1:8884\", protocol: mqtts, {tls}}}"),
        "  - {name: mqtt-2, address: \"127.0.0.1:1884\", protocol: mqtt}".to_owned(),
        format!("  - {{name: mqtts-3, address: \"127.0.0.1:8885\", protocol: mqtts, {tls}}}"),
        "  - {name: mqtt-3, address: \"0.0.0.0:1885\", protocol: mqtt}".to_owned(),
    ] {
        assert!(yaml.lines().any(|written| written == line), "{line}\n{yaml}");
    }
    // How the one store becomes PEM files is told once.
    assert_eq!(yaml.matches("openssl pkcs12 -in server.p12 -nokeys").count(), 1, "{yaml}");
    assert!(!yaml.contains("contradict"), "{yaml}");
    provide(folder.path(), &yaml);
    checked(folder.path(), &yaml);
}

#[test]
fn of_a_scheme_and_a_protocol_that_contradict_each_other_the_one_that_protects_wins() {
    for (protocol, listener, word, contradicts) in [
        ("SSL", "tcp://127.0.0.1:8883", "mqtts", true),
        ("PLAINTEXT", "ssl://127.0.0.1:8883", "mqtts", true),
        ("TLS", "plaintext://127.0.0.1:8883", "mqtts", true),
        ("SSL", "mqtts://127.0.0.1:8883", "mqtts", false),
        ("SSL", "127.0.0.1:8883", "mqtts", false),
        ("PLAINTEXT", "tcp://127.0.0.1:8883", "mqtt", false),
    ] {
        let properties = format!("{LEAST}listeners={listener}\nlisteners.security.protocol={protocol}\n");
        let (folder, yaml) = imported(&[("p", &properties)]);
        let line = format!("  - {{name: {word}, address: \"127.0.0.1:8883\", protocol: {word}");
        assert!(yaml.contains(&line), "{properties}\n{yaml}");
        let note = format!("`{listener}` and `listeners.security.protocol={protocol}` contradict each other: it has TLS");
        assert_eq!(yaml.contains(&note), contradicts, "{properties}\n{yaml}");
        provide(folder.path(), &yaml);
        checked(folder.path(), &yaml);
    }
}

#[test]
fn a_protocol_in_front_of_servers_is_that_of_kafka_unless_another_is_written() {
    let of_servers = "it is not written; ";
    let contradiction = "it is what counts; `bootstrap.servers` contradict it: ";
    for (servers, written, protocol, told) in [
        ("SASL_SSL://a:9092", "", Some("sasl_ssl"), of_servers),
        ("ssl://a:9092,b:9092", "", Some("ssl"), of_servers),
        ("SSL://a:9092,PLAINTEXT://b:9092", "", Some("ssl"), "which contradict each other"),
        (
            "SSL://a:9092,SASL_PLAINTEXT://b:9092",
            "",
            Some("sasl_ssl"),
            "which contradict each other",
        ),
        ("PLAINTEXT://a:9092", "producer.security.protocol=SSL", Some("ssl"), contradiction),
        ("SSL://a:9092", "security.protocol=PLAINTEXT", Some("plaintext"), contradiction),
        ("SSL://a:9092", "security.protocol=SSL", Some("ssl"), ""),
        ("PLAINTEXT://a:9092", "", None, ""),
        ("INTERNAL://a:9092", "", None, "`INTERNAL://` is no protocol"),
        ("INTERNAL://a:9092", "security.protocol=SSL", Some("ssl"), ""),
    ] {
        let properties = format!("topic.regex.list=fleet:.*\nsasl.mechanism=PLAIN\nbootstrap.servers={servers}\n{written}\n");
        let (folder, yaml) = imported(&[("p", &properties)]);
        checked(folder.path(), &yaml);
        let found = yaml.lines().find_map(|line| line.strip_prefix("    protocol: "));
        assert_eq!(found, protocol, "{properties}\n{yaml}");
        assert!(yaml.contains("bootstrap_servers: [\"a:9092\""), "{properties}\n{yaml}");
        assert!(yaml.contains(told), "{properties}\n{yaml}");
        for other in [of_servers, contradiction, "is no protocol"] {
            assert!(!told.is_empty() || !yaml.contains(other), "{properties}\n{yaml}");
        }
    }
}

/// Of a compose file what is before the variables of the proxy.
const COMPOSE: &str = r#"services:
  kafka:
    image: confluentinc/cp-kafka
    environment:
      KAFKA_BROKER_ID: 1
      bootstrap.servers: elsewhere:1
      security.protocol: SSL
      PS1: "\u@\h"
  proxy:
    image: confluentinc/cp-kafka-mqtt # the newest
    ports:
      - "1883:1883"
    healthcheck:
      retries: 3
    environment:
"#;

const COMPOSE_LIST: &str = r#"
      # Kafka
      - KAFKA_MQTT_BOOTSTRAP_SERVERS=kafka:9092
      - "KAFKA_MQTT_LISTENERS=127.0.0.1:1883"
      - 'KAFKA_MQTT_TOPIC_REGEX_LIST=temperature:.*temperature, numbered:dev/\\d+/.*' # and no more
      - KAFKA_MQTT_PRODUCER_COMPRESSION_TYPE="lz4"
      - KAFKA_MQTT_PRODUCER_LINGER_MS=5 # more is too late
      - KAFKA_MQTT_LICENSE_TOPIC_REPLICATION_FACTOR=1
      - KAFKA_MQTT_NO_SUCH_SETTING=1
      - JAVA_OPTS=-Xmx1g
    restart: always
"#;

const COMPOSE_MAPPING: &str = r#"
      # Kafka
      KAFKA_MQTT_BOOTSTRAP_SERVERS: kafka:9092
      "KAFKA_MQTT_LISTENERS": "127.0.0.1:1883"
      KAFKA_MQTT_TOPIC_REGEX_LIST: >-
        temperature:.*temperature,
        numbered:dev/\\d+/.*
      KAFKA_MQTT_PRODUCER_COMPRESSION_TYPE: 'lz4' # it's quick
      KAFKA_MQTT_PRODUCER_LINGER_MS: 5
      KAFKA_MQTT_LICENSE_TOPIC_REPLICATION_FACTOR: "1"
      KAFKA_MQTT_NO_SUCH_SETTING: 1
      JAVA_OPTS: -Xmx1g
    restart: always
"#;

#[test]
fn of_a_compose_file_the_variables_of_the_image_are_read_in_both_forms() {
    let said = |yaml: &str| -> Vec<String> { yaml.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect() };
    let mut written = Vec::new();
    for variables in [COMPOSE_LIST, COMPOSE_MAPPING] {
        let compose = format!("{COMPOSE}{variables}");
        let (folder, yaml) = imported(&[("compose.yaml", &compose)]);
        checked(folder.path(), &yaml);
        for (topic, kafka) in [("room/temperature", "temperature"), ("dev/42/x", "numbered")] {
            assert_eq!(record(folder.path(), topic, "1").unwrap().0, kafka, "{yaml}");
        }
        let line = 1 + compose.lines().position(|line| line.contains("NO_SUCH_SETTING")).unwrap();
        for words in [
            "{name: mqtt, address: \"127.0.0.1:1883\", protocol: mqtt}",
            "bootstrap_servers: [\"kafka:9092\"]",
            "producer: {linger: 5ms, compression: lz4}",
            "license.topic.replication.factor: no licence is needed",
            "* compose.yaml:1: what is no `KAFKA_MQTT_*`: it is of compose",
            &format!("* compose.yaml:{line}: no.such.setting: not known"),
        ] {
            assert!(yaml.contains(words), "{words}\n{yaml}");
        }
        assert_eq!(yaml.matches("* compose.yaml:").count(), 3, "{yaml}");
        assert!(!yaml.contains("To be decided") && !yaml.contains("security:"), "{yaml}");
        written.push(said(&yaml));
    }
    assert_eq!(written[0], written[1]);
}

/// What looks like neither is still told line by line.
#[test]
fn what_is_beside_variables_that_stand_alone_is_told() {
    let variables = "KAFKA_MQTT_BOOTSTRAP_SERVERS=k:9092\nKAFKA_MQTT_TOPIC_REGEX_LIST=fleet:.*\nlistenres=0.0.0.0:1\n";
    let (folder, yaml) = imported(&[("proxy.env", variables)]);
    checked(folder.path(), &yaml);
    assert!(yaml.contains("* proxy.env:3: listenres: not known"), "{yaml}");
}

#[test]
fn what_compose_itself_means_by_quotes_and_dollars_is_heeded_or_told() {
    let variables = r#"
      KAFKA_MQTT_BOOTSTRAP_SERVERS: ${BROKERS:-kafka:9092}
      KAFKA_MQTT_TOPIC_REGEX_LIST: 'temperature:.*temperature$$'
      KAFKA_MQTT_LISTENERS: SASL_SSL://127.0.0.1:8883
      KAFKA_MQTT_LISTENERS_SECURITY_PROTOCOL: SASL_SSL
      KAFKA_MQTT_PRODUCER_SECURITY_PROTOCOL: SASL_SSL
      KAFKA_MQTT_PRODUCER_SASL_MECHANISM: PLAIN
      KAFKA_MQTT_PRODUCER_SASL_JAAS_CONFIG: 'org.apache.kafka.common.security.plain.PlainLoginModule required username="it''s" password="p";'
"#;
    let (_folder, yaml) = imported(&[("compose.yaml", &format!("{COMPOSE}{variables}"))]);
    for words in [
        "bootstrap.servers: Compose would have put `${BROKERS:-kafka:9092}` in its place",
        "bootstrap_servers: [\"${BROKERS:-kafka:9092}\"]",
        "{name: mqtts, address: \"127.0.0.1:8883\", protocol: mqtts",
        "username: \"it's\"",
        ".*temperature$",
    ] {
        assert!(yaml.contains(words), "{words}\n{yaml}");
    }
    assert!(!yaml.contains("temperature$$"), "{yaml}");
}

/// Two proxies in one file are two configurations.
#[test]
fn of_a_compose_file_with_two_proxies_nothing_is_mixed() {
    let service = |name: &str, topic: &str| {
        format!(
            "  {name}: # one of the two\n    environment:\n    - KAFKA_MQTT_BOOTSTRAP_SERVERS=k:9092\n    - KAFKA_MQTT_TOPIC_REGEX_LIST={topic}:.*\n    restart: always\n"
        )
    };
    let kafka = "services:\n  kafka:\n    environment:\n      KAFKA_BROKER_ID: 1\n";
    let folder = tempfile::tempdir().unwrap();
    let import = |files: &[(&str, String)]| {
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
        run(folder.path(), &[&["import", "confluent"], &names[..]].concat())
    };
    let (north, south) = (service("north", "a"), service("\"south\"", "b"));
    let both = format!("{kafka}{north}{south}");
    let (code, out, err) = import(&[("compose.yaml", both)]);
    let told = "compose.yaml:10: the services `north` (compose.yaml:5) and `south` both have `KAFKA_MQTT_*` variables, \
                and one configuration is made; keep only one of them in the file, and import each for itself\n";
    assert_eq!((code, out.as_str(), err.as_str()), (65, "", told));
    let apart = [("a.yaml", format!("{kafka}{north}")), ("b.yaml", format!("{kafka}{south}"))];
    let (code, _, err) = import(&apart);
    assert!(
        code == 65 && err.starts_with("b.yaml:5: the services `north` (a.yaml:5) and `south` both"),
        "{err}"
    );
    // One alone is imported, also with what its own override says or what services share.
    for (files, topic) in [
        (vec![apart[0].clone()], "topic: \"a\""),
        (
            vec![apart[0].clone(), ("over.yaml", format!("services:\n{}", service("north", "c")))],
            "topic: \"c\"",
        ),
        (
            vec![(
                "x.yaml",
                format!("x-base:\n  environment:\n    KAFKA_MQTT_LISTENERS: 127.0.0.1:1\n{kafka}{north}"),
            )],
            "topic: \"a\"",
        ),
    ] {
        let (code, yaml, err) = import(&files);
        assert_eq!((code, err.as_str()), (0, ""), "{files:?}");
        assert!(yaml.contains(topic), "{yaml}");
    }
}

/// Nobody knows here what a variable holds: where the proxy's own have the same form they stay, and anything else is told.
#[test]
fn a_variable_of_compose_stays_one_where_the_proxy_has_such() {
    let variables = r#"
      KAFKA_MQTT_BOOTSTRAP_SERVERS: $T_BROKER:9092,${T_OTHER:-l:9093}
      KAFKA_MQTT_TOPIC_REGEX_LIST: 'fleet:${T_SITE:-north}/.*,cost:.*[$$]'
      KAFKA_MQTT_LISTENERS: "127.0.0.1:${T_PORT:-1884}"
      KAFKA_MQTT_PRODUCER_ACKS: ${T_ACKS-all}
      KAFKA_MQTT_PRODUCER_LINGER_MS: ${T_LINGER}
"#;
    let (folder, yaml) = imported(&[("compose.yaml", &format!("{COMPOSE}{variables}"))]);
    let line = |name: &str| 1 + COMPOSE.lines().count() + variables.lines().position(|line| line.contains(name)).unwrap();
    let told = |name: &str, key: &str, variable: &str| {
        let place = format!("* compose.yaml:{}: {key}: ", line(name));
        format!("{place}Compose would have put `{variable}` in its place, from its own environment or `.env`; here the proxy does")
    };
    for words in [
        "bootstrap_servers: [\"${T_BROKER}:9092\", \"${T_OTHER:-l:9093}\"]",
        "mqtt_regex: \"${T_SITE:-north}/",
        "address: \"127.0.0.1:${T_PORT:-1884}\"",
        "linger.ms is no number",
        &told("BOOTSTRAP", "bootstrap.servers", "${T_BROKER}"),
        &told("BOOTSTRAP", "bootstrap.servers", "${T_OTHER:-l:9093}"),
        &told("REGEX", "topic.regex.list", "${T_SITE:-north}"),
        &format!(
            "* compose.yaml:{}: producer.acks: Compose would have put a variable in the place of `${{…}}`, in a form that the proxy does not know",
            line("ACKS")
        ),
    ] {
        assert!(yaml.contains(words), "{words}\n{yaml}");
    }
    assert!(yaml.contains("[$]") && !yaml.contains("[$$]"), "{yaml}");
    assert_eq!(run(folder.path(), &["check"]).0, 64, "there is no T_BROKER");
    std::fs::write(folder.path().join("proxy.yaml"), yaml.replace("${T_BROKER}", "${T_BROKER:-k}")).unwrap();
    checked(folder.path(), &yaml);
    assert_eq!(record(folder.path(), "north/x", "1").unwrap().0, "fleet");
}

/// What an import leaves to be decided.
fn decided(yaml: &str) -> Vec<&str> {
    let lines = yaml.lines().skip_while(|line| *line != "# To be decided:").skip(1);
    lines.map_while(|line| line.strip_prefix("# * ")).collect()
}

#[test]
fn a_setting_without_a_value_does_not_vanish() {
    let properties = format!(
        "{LEAST}listeners=127.0.0.1:8883\nlisteners.security.protocol=SSL\nlisteners.ssl.keystore.type=\nlisteners.ssl.client.auth=\n\
         producer.security.protocol=SSL\nproducer.ssl.endpoint.identification.algorithm=\nproducer.linger.ms=\nproducer.acks=\n\
         ssl.endpoint.identification.algorithm=https\n"
    );
    let (folder, yaml) = imported(&[("p", &properties)]);
    provide(folder.path(), &yaml);
    checked(folder.path(), &yaml);
    let empty = "it is empty, and taken as if it were not there";
    for words in [
        &format!("* p:5: listeners.ssl.keystore.type: {empty}"),
        &format!("* p:6: listeners.ssl.client.auth: {empty}"),
        "* p:8: producer.ssl.endpoint.identification.algorithm: brokers' names are compared with their certificates here, and that cannot be switched off",
        &format!("* p:9: producer.linger.ms: {empty}"),
        &format!("* p:10: producer.acks: {empty}"),
    ] {
        assert!(yaml.contains(words), "{words}\n{yaml}");
    }
    assert!(!yaml.contains("as `https` says"), "{yaml}");
}

#[test]
fn clients_are_not_let_in_without_certificates_by_a_word_that_nobody_knows() {
    for (word, auth, is_open) in [
        ("required", Some("required"), false),
        ("REQUIRED", Some("required"), false),
        ("Requested", Some("optional"), false),
        ("none", None, false),
        ("true", Some("required"), true),
        ("want", Some("required"), true),
        ("requierd", Some("required"), true),
    ] {
        let properties = format!(
            "{LEAST}listeners=127.0.0.1:8883\nlisteners.security.protocol=SSL\nlisteners.ssl.truststore.location=trust.jks\n\
             listeners.ssl.client.auth={word}\n"
        );
        let (folder, yaml) = imported(&[("p", &properties)]);
        let written = auth.map(|auth| format!("client_ca: \"client-ca.pem\", client_auth: {auth}"));
        assert_eq!(yaml.contains("client_auth:"), written.is_some(), "{yaml}");
        assert!(written.is_none_or(|written| yaml.contains(&written)), "{word}\n{yaml}");
        let told = format!("p:6: listeners.ssl.client.auth = {word} is not known");
        assert_eq!(decided(&yaml).iter().any(|open| open.starts_with(&told)), is_open, "{yaml}");
        provide(folder.path(), &yaml);
        checked(folder.path(), &yaml);
    }
}

/// The example of its documentation.
#[test]
fn a_listener_of_https_has_tls() {
    let (_folder, yaml) = imported(&[("p", &format!("{LEAST}listeners=tcp://127.0.0.1:1883, https://0.0.0.0:8081\n"))]);
    for line in [
        "address: \"127.0.0.1:1883\", protocol: mqtt}",
        "address: \"0.0.0.0:8081\", protocol: mqtts, tls: {",
    ] {
        assert!(yaml.contains(line), "{line}\n{yaml}");
    }
}

#[test]
fn stores_that_stand_in_the_properties_are_asked_for_as_files() {
    let properties = format!(
        "{LEAST}listeners=127.0.0.1:8883\nlisteners.security.protocol=SSL\n\
         listeners.ssl.keystore.type=PEM\nlisteners.ssl.keystore.certificate.chain=CHAIN\nlisteners.ssl.keystore.key=SECRET\n\
         listeners.ssl.truststore.type=PEM\nlisteners.ssl.truststore.certificates=TRUST\nlisteners.ssl.client.auth=required\n\
         producer.security.protocol=SSL\nproducer.ssl.truststore.type=PEM\nproducer.ssl.truststore.certificates=TRUST\n\
         ssl.keystore.type=PEM\nssl.keystore.certificate.chain=CHAIN\nssl.keystore.key=SECRET\nssl.key.password=SECRET\n"
    );
    let (folder, yaml) = imported(&[("p", &properties)]);
    for words in [
        "tls: {certificate: \"server.pem\", key: \"server.key\", client_ca: \"client-ca.pem\", client_auth: required}",
        "tls: {ca: \"kafka-ca.pem\", certificate: \"kafka.pem\", key: \"kafka.key\"}",
    ] {
        assert!(yaml.contains(words), "{words}\n{yaml}");
    }
    let open = decided(&yaml);
    let told = [
        "p:6: listeners.ssl.keystore.certificate.chain: put the text into the file server.pem",
        "p:7: listeners.ssl.keystore.key: put the text into the file server.key",
        "p:9: listeners.ssl.truststore.certificates: put the text into the file client-ca.pem",
        "p:13: producer.ssl.truststore.certificates: put the text into the file kafka-ca.pem",
        "p:15: ssl.keystore.certificate.chain: put the text into the file kafka.pem",
        "p:16: ssl.keystore.key: put the text into the file kafka.key",
    ];
    assert_eq!(open.len(), told.len(), "{yaml}");
    assert!(open.iter().zip(told).all(|(open, told)| open.starts_with(told)), "{yaml}");
    for secret in ["SECRET", "CHAIN", "TRUST", "keytool", "cipher suites"] {
        assert!(!yaml.contains(secret), "{secret}\n{yaml}");
    }
    provide(folder.path(), &yaml);
    checked(folder.path(), &yaml);
}

#[test]
fn the_partitioner_is_the_partition_of_rules() {
    let of_kafka = "org.apache.kafka.clients.producer";
    for (settings, partition, told) in [
        (
            format!("producer.partitioner.class={of_kafka}.RoundRobinPartitioner"),
            Some("round-robin"),
            "",
        ),
        (
            format!("producer.partitioner.class={of_kafka}.UniformStickyPartitioner"),
            Some("sticky"),
            "",
        ),
        ("producer.partitioner.ignore.keys=true".to_owned(), Some("sticky"), ""),
        ("producer.partitioner.ignore.keys=false".to_owned(), None, ""),
        (
            format!("producer.partitioner.class={of_kafka}.internals.DefaultPartitioner"),
            None,
            "p:3: producer.partitioner.class: the partition is murmur2 of the key",
        ),
        (
            "producer.partitioner.class=example.ByColour".to_owned(),
            None,
            "p:3: producer.partitioner.class = example.ByColour: the class is not known",
        ),
    ] {
        let (folder, yaml) = imported(&[("p", &format!("{LEAST}{settings}\nproducer.acks=1\n"))]);
        checked(folder.path(), &yaml);
        let written = partition.map(|word| format!(", partition: {word}")).unwrap_or_default();
        let kafka = format!("kafka: {{topic: \"fleet\"{written}, acks: leader}}");
        assert!(yaml.contains(&kafka) && yaml.contains(told), "{settings}\n{yaml}");
        assert_eq!(!decided(&yaml).is_empty(), told.contains("not known"), "{yaml}");
    }
}

#[test]
fn tokens_of_a_server_are_asked_for_as_there() {
    let module = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required";
    let import = |settings: &str| {
        let common = "producer.security.protocol=SASL_SSL\nproducer.sasl.mechanism=OAUTHBEARER\n";
        imported(&[("p", &format!("{LEAST}{common}{settings}"))])
    };
    let url = "producer.sasl.oauthbearer.token.endpoint.url=https://login.example/token\n";
    let (folder, yaml) = import(&format!(
        "{url}producer.sasl.jaas.config={module} clientId=\"gate\" clientSecret=\"s3cret\" scope=\"kafka all\";\n\
         producer.sasl.login.callback.handler.class=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginCallbackHandler\n"
    ));
    checked(folder.path(), &yaml);
    let sasl = r#"sasl: {mechanism: OAUTHBEARER, token_endpoint: "https://login.example/token", client_id: "gate", client_secret: "${KAFKA_CLIENT_SECRET}", scope: "kafka all"}"#;
    assert!(yaml.contains(sasl), "{yaml}");
    for word in ["To be decided", "not known", "s3cret", "KAFKA_PASSWORD"] {
        assert!(!yaml.contains(word), "{word}\n{yaml}");
    }
    assert!(yaml.contains("KAFKA_CLIENT_SECRET: an environment variable"), "{yaml}");
    // As later releases write it.
    let (folder, yaml) = import(&format!(
        "{url}producer.sasl.oauthbearer.client.credentials.client.id=gate\n\
         producer.sasl.oauthbearer.client.credentials.client.secret=s3cret\nproducer.sasl.oauthbearer.scope=kafka all\n"
    ));
    checked(folder.path(), &yaml);
    assert!(
        yaml.contains(sasl) && !yaml.contains("s3cret") && decided(&yaml).is_empty(),
        "{yaml}"
    );
    // What the server or the brokers would miss is asked about.
    let (folder, yaml) = import(&format!(
        "{url}producer.sasl.jaas.config={module} clientSecret=\"s3cret\" extension_logicalCluster=\"lkc\" ssl.truststore.location=\"t.jks\";\n"
    ));
    checked(folder.path(), &yaml);
    let open = decided(&yaml);
    for told in [
        "sasl.jaas.config: `extension_logicalCluster`: extensions are not sent",
        "sasl.jaas.config: `ssl.truststore.location`: give its authorities as `token_endpoint_ca`",
        "sasl.jaas.config: it names no `clientId`",
    ] {
        assert!(open.iter().any(|open| open.starts_with(told)), "{told}\n{yaml}");
    }
    // A token that lies in a file, or nowhere.
    let (_folder, yaml) = import("producer.sasl.oauthbearer.token.endpoint.url=file:///run/kafka.token\n");
    assert!(
        yaml.contains("{mechanism: OAUTHBEARER, token: \"file:/run/kafka.token\"}") && decided(&yaml).is_empty(),
        "{yaml}"
    );
    let (_folder, yaml) = import("");
    assert!(
        decided(&yaml)
            .iter()
            .any(|open| open.starts_with("sasl.oauthbearer.token.endpoint.url: it is not written")),
        "{yaml}"
    );
}

const COMMAND: &str = r#"#!/bin/sh
# KAFKA_MQTT_LISTENERS is the proxy's.
docker run -d --name kafka -e KAFKA_BROKER_ID=1 confluentinc/cp-kafka
docker run -d --name=proxy -p 1883:1883 --env-file more.env \
  -e KAFKA_MQTT_BOOTSTRAP_SERVERS=kafka:9092 --env KAFKA_MQTT_LISTENERS="127.0.0.1:1883" \
  -e 'KAFKA_MQTT_TOPIC_REGEX_LIST=temperature:.*temperature, cost:price/.*[$]' \
  --env=KAFKA_MQTT_PRODUCER_COMPRESSION_TYPE=lz4 -eKAFKA_MQTT_PRODUCER_LINGER_MS=5 \
  -e KAFKA_MQTT_PRODUCER_CLIENT_ID \
  -e "KAFKA_MQTT_PRODUCER_ACKS=${T_ACKS:-1}" -e KAFKA_MQTT_NO_SUCH_SETTING=`hostname` \
  confluentinc/cp-kafka-mqtt && echo it\'s there
"#;

#[test]
fn of_a_command_that_runs_the_image_its_variables_are_read() {
    let (folder, yaml) = imported(&[("run.sh", COMMAND)]);
    for words in [
        "{name: mqtt, address: \"127.0.0.1:1883\", protocol: mqtt}",
        "bootstrap_servers: [\"kafka:9092\"]",
        "producer: {linger: 5ms, compression: lz4}",
        "* run.sh:4: what is no `KAFKA_MQTT_*`: it is of the command, not of the proxy",
        "* run.sh:4: --env-file: give that file, too",
        "* run.sh:8: producer.client.id: the command takes it from its own environment",
        "* run.sh:9: producer.acks: the shell would have put `${T_ACKS:-1}` in its place, from its own environment; here the proxy does",
        "no.such.setting: the shell would have put a variable in the place of ``…``",
        "no.such.setting: not known",
    ] {
        assert!(yaml.contains(words), "{words}\n{yaml}");
    }
    checked(folder.path(), &yaml);
    for (topic, kafka) in [("room/temperature", "temperature"), ("price/7$", "cost")] {
        assert_eq!(record(folder.path(), topic, "1").unwrap().0, kafka, "{yaml}");
    }
    // Two proxies are two configurations.
    let second = "podman run --name other -e KAFKA_MQTT_BOOTSTRAP_SERVERS=k:1 cp-kafka-mqtt\n";
    std::fs::write(folder.path().join("run.sh"), format!("{COMMAND}{second}")).unwrap();
    let (code, out, err) = run(folder.path(), &["import", "confluent", "run.sh"]);
    assert_eq!((code, out.as_str()), (65, ""));
    assert!(
        err.starts_with("run.sh:11: the commands `proxy` (run.sh:4) and `other` both have `KAFKA_MQTT_*` variables"),
        "{err}"
    );
}

const MANIFEST: &str = r#"apiVersion: apps/v1
kind: Deployment
metadata:
  name: proxy
spec:
  template:
    spec:
      containers:
        - name: mqtt
          image: confluentinc/cp-kafka-mqtt
          env:
            - name: KAFKA_MQTT_BOOTSTRAP_SERVERS
              value: "$(BROKER):9092" # of the cluster
            - name: KAFKA_MQTT_LISTENERS
              value: 127.0.0.1:1883
            - name: KAFKA_MQTT_TOPIC_REGEX_LIST
              value: >-
                temperature:.*temperature,
                cost:price/.*[$]
            - {name: KAFKA_MQTT_PRODUCER_LINGER_MS, value: "5"}
            - name: KAFKA_MQTT_PRODUCER_SASL_JAAS_CONFIG
              valueFrom:
                secretKeyRef: {name: kafka, key: jaas}
            - name: JAVA_OPTS
              value: -Xmx1g
"#;

#[test]
fn of_a_manifest_of_kubernetes_the_variables_of_its_container_are_read() {
    let (folder, yaml) = imported(&[("proxy.yaml.k8s", MANIFEST)]);
    for words in [
        "{name: mqtt, address: \"127.0.0.1:1883\", protocol: mqtt}",
        "bootstrap_servers: [\"$(BROKER):9092\"]",
        "producer: {linger: 5ms}",
        "* proxy.yaml.k8s:1: what is no `KAFKA_MQTT_*`: it is of Kubernetes, not of the proxy",
        "* proxy.yaml.k8s:12: bootstrap.servers: Kubernetes would have put a variable in the place of `$(…)`",
        "* proxy.yaml.k8s:21: producer.sasl.jaas.config: Kubernetes takes it from elsewhere (`valueFrom`)",
    ] {
        assert!(yaml.contains(words), "{words}\n{yaml}");
    }
    std::fs::write(folder.path().join("proxy.yaml"), yaml.replace("$(BROKER)", "k")).unwrap();
    checked(folder.path(), &yaml);
    for (topic, kafka) in [("room/temperature", "temperature"), ("price/7$", "cost")] {
        assert_eq!(record(folder.path(), topic, "1").unwrap().0, kafka, "{yaml}");
    }
    // Two containers are two configurations.
    let second = MANIFEST.replace("name: mqtt", "name: other");
    std::fs::write(folder.path().join("two"), format!("{MANIFEST}---\n{second}")).unwrap();
    let (code, out, err) = run(folder.path(), &["import", "confluent", "two"]);
    assert_eq!((code, out.as_str()), (65, ""));
    assert!(
        err.starts_with("two:37: the containers `mqtt` (two:11) and `other` both have `KAFKA_MQTT_*` variables"),
        "{err}"
    );
}

#[test]
fn of_a_manifest_of_kubernetes_its_config_map_is_read_and_what_stands_elsewhere_asked_about() {
    let manifest = r#"apiVersion: v1
metadata: {name: proxy}
data:
  KAFKA_MQTT_LISTENERS: "127.0.0.1:1883"
  # "\d" of a digit
  KAFKA_MQTT_TOPIC_REGEX_LIST: "temperature:a/\\\\d+,\ncost:.*price"
kind: ConfigMap
---
apiVersion: v1
kind: Secret
data:
  KAFKA_MQTT_PRODUCER_SASL_JAAS_CONFIG: b3Jn
---
kind: Deployment
spec:
  containers:
    - name: mqtt
      envFrom:
        - configMapRef: {name: proxy}
        - configMapRef:
            name: elsewhere
        - secretRef: {name: secrets}
      env:
        - name: KAFKA_MQTT_BOOTSTRAP_SERVERS
    # It is another one elsewhere.

          value: kafka:9092
        - name: KAFKA_MQTT_PRODUCER_CLIENT_ID
          value: "gate\x41"
"#;
    let (folder, yaml) = imported(&[("k8s", manifest)]);
    checked(folder.path(), &yaml);
    assert!(yaml.contains("{name: mqtt, address: \"127.0.0.1:1883\", protocol: mqtt}"), "{yaml}");
    assert!(yaml.contains("bootstrap_servers: [\"kafka:9092\"]"), "{yaml}");
    for (topic, kafka) in [("a/17", "temperature"), ("b/price", "cost")] {
        assert_eq!(record(folder.path(), topic, "1").unwrap().0, kafka, "{yaml}");
    }
    assert_eq!(record(folder.path(), "a/d", "1"), None, "{yaml}");
    let open = decided(&yaml);
    for told in [
        "k8s:12: producer.sasl.jaas.config: it was not read",
        "k8s:18: envFrom: Kubernetes takes variables from the ConfigMap `elsewhere`: give it, too",
        "k8s:18: envFrom: Kubernetes takes variables from the Secret `secrets`: write those that it has",
        "k8s:28: producer.client.id: of its escapes only",
    ] {
        assert!(open.iter().any(|open| open.starts_with(told)), "{told}\n{yaml}");
    }
    assert_eq!(open.len(), 4, "{yaml}");
}

#[test]
fn escapes_of_double_quotes_in_a_compose_file_are_undone_or_asked_about() {
    let variables = r#"
      KAFKA_MQTT_BOOTSTRAP_SERVERS: kafka:9092
      KAFKA_MQTT_TOPIC_REGEX_LIST: "temperature:a/\\\\d+"
      KAFKA_MQTT_PRODUCER_CLIENT_ID: "gate\x41"
"#;
    let (folder, yaml) = imported(&[("compose.yaml", &format!("{COMPOSE}{variables}"))]);
    checked(folder.path(), &yaml);
    assert_eq!(record(folder.path(), "a/17", "1").unwrap().0, "temperature", "{yaml}");
    let open = decided(&yaml);
    assert!(
        open.len() == 1 && open[0].contains("producer.client.id: of its escapes only"),
        "{yaml}"
    );
}

#[test]
fn a_script_that_begins_with_a_function_holds_no_logins() {
    for function in ["start() {", "function start {"] {
        let script = format!(
            "#!/bin/sh\n{function}\n  docker run -e KAFKA_MQTT_BOOTSTRAP_SERVERS=k:9092 -e KAFKA_MQTT_TOPIC_REGEX_LIST=fleet:.* cp-kafka-mqtt\n}}\nstart\n"
        );
        let (folder, yaml) = imported(&[("run.sh", &script)]);
        checked(folder.path(), &yaml);
        assert_eq!(record(folder.path(), "a/b", "1").unwrap().0, "fleet", "{yaml}");
    }
}

/// What an import refuses with.
#[track_caller]
fn refused(name: &str, text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(name), text).unwrap();
    let (code, out, err) = run(folder.path(), &["import", "confluent", name]);
    assert_eq!((code, out.as_str()), (65, ""), "{err}");
    err
}

#[test]
fn what_stands_beside_the_services_of_a_compose_file_or_is_taken_from_elsewhere_is_asked_about() {
    let shared =
        "x-common: &common\n  environment: &shared\n    KAFKA_MQTT_PRODUCER_ACKS: 0\n    KAFKA_MQTT_PRODUCER_LINGER_MS: \"\\x41\"\n";
    let own = "      KAFKA_MQTT_BOOTSTRAP_SERVERS: kafka:9092\n      KAFKA_MQTT_TOPIC_REGEX_LIST: fleet:.*\n";
    let (folder, yaml) = imported(&[("compose.yaml", &format!("{shared}{COMPOSE}{own}"))]);
    checked(folder.path(), &yaml);
    let mut written = yaml.lines().filter(|line| !line.starts_with('#'));
    assert!(!written.any(|line| line.contains("acks:")), "{yaml}");
    let open = decided(&yaml);
    let told = [
        "compose.yaml:3: producer.acks: it was not read",
        "compose.yaml:4: producer.linger.ms: it was not read",
    ];
    for (open, told) in open.iter().zip(told) {
        assert!(open.starts_with(told), "{yaml}");
    }
    assert_eq!(open.len(), 2, "{yaml}");
    let of_service = |text: &str| COMPOSE.replace("    ports:\n", &format!("{text}    ports:\n"));
    for (compose, key) in [
        (
            of_service("    env_file: proxy.env\n"),
            "env_file: Compose takes variables from elsewhere: give that file, too",
        ),
        (
            of_service("    env_file:\n      - proxy.env\n"),
            "env_file: Compose takes variables from elsewhere",
        ),
        (
            of_service("    extends: base\n"),
            "extends: Compose takes what that service has, too",
        ),
        (
            of_service("    extends:\n      service: base\n"),
            "extends: Compose takes what that service has, too",
        ),
        (of_service("    <<: *common\n"), "<<: merge keys are not followed"),
        (format!("{COMPOSE}      <<: *shared\n"), "<<: merge keys are not followed"),
    ] {
        let (folder, yaml) = imported(&[("compose.yaml", &format!("{compose}{own}"))]);
        checked(folder.path(), &yaml);
        let open = decided(&yaml);
        assert!(open.len() == 1 && open[0].contains(key), "{key}\n{yaml}");
    }
    // What another service takes is nothing to the proxy; what is all that there is is told with the refusal.
    let of_kafka = COMPOSE.replace("confluentinc/cp-kafka\n", "confluentinc/cp-kafka\n    env_file: kafka.env\n");
    let (_folder, yaml) = imported(&[("compose.yaml", &format!("{of_kafka}{own}"))]);
    assert!(yaml.contains("topic: \"fleet\"") && decided(&yaml).is_empty(), "{yaml}");
    let err = refused("c", &format!("{shared}services:\n  proxy:\n    environment: *shared\n"));
    assert!(
        err.contains("c:7: environment: aliases are not followed") && err.contains("c:3: producer.acks: it was not read"),
        "{err}"
    );
}

#[test]
fn what_a_compose_file_says_in_brackets_or_braces_is_asked_about() {
    let own = "      KAFKA_MQTT_BOOTSTRAP_SERVERS: kafka:9092\n      KAFKA_MQTT_TOPIC_REGEX_LIST: fleet:.*\n";
    let line = 1 + COMPOSE.lines().count() + own.lines().count();
    for (second, at) in [
        ("{environment: {KAFKA_MQTT_LISTENERS: \"127.0.0.1:1\"}}", line),
        ("\n    environment: [KAFKA_MQTT_LISTENERS=127.0.0.1:1]", line + 1),
        (
            "\n    environment: {\n      KAFKA_MQTT_LISTENERS: \"127.0.0.1:1\",\n    }",
            line + 2,
        ),
    ] {
        let compose = format!("{COMPOSE}{own}  second: {second}\n  third:\n    ports: [\"${{KAFKA_MQTT_PORT}}:1883\"] # [ KAFKA_MQTT_ ]\n");
        let (folder, yaml) = imported(&[("compose.yaml", &compose)]);
        checked(folder.path(), &yaml);
        let open = decided(&yaml);
        let told = format!("compose.yaml:{at}: listeners: it");
        assert!(
            open.len() == 1 && open[0].starts_with(&told) && open[0].contains("not read"),
            "{yaml}"
        );
        assert!(!yaml.contains("127.0.0.1:1\""), "{yaml}");
    }
    let err = refused(
        "c",
        "services:\n  proxy:\n    environment: [KAFKA_MQTT_BOOTSTRAP_SERVERS=k:1, KAFKA_MQTT_LISTENERS=:1]\n",
    );
    assert!(
        err.contains("c:3: bootstrap.servers: it, and what is beside it, was not read"),
        "{err}"
    );
    assert!(err.contains("write one a line"), "{err}");
}

/// As Kubernetes has it: what `env` says counts, wherever the ConfigMap stands.
#[test]
fn of_a_config_map_and_the_env_of_a_container_the_latter_counts() {
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  labels:\n    name: other\n  name: proxy\ndata:\n  KAFKA_MQTT_LISTENERS: 127.0.0.1:1\n  \
               KAFKA_MQTT_TOPIC_REGEX_LIST: |\n    a:a/.*,\n\n    b:b/.*\n";
    let pod = "kind: Pod\nspec:\n  containers:\n  - envFrom:\n    - configMapRef:\n        name: proxy\n    env:\n    - name: KAFKA_MQTT_BOOTSTRAP_SERVERS\n      \
               value: kafka:9092\n    - name: KAFKA_MQTT_LISTENERS\n      value: 127.0.0.1:1883\n";
    for files in [
        vec![("k8s", format!("{map}---\n{pod}"))],
        vec![("k8s", format!("{pod}---\n{map}"))],
        vec![("map", map.to_owned()), ("pod", pod.to_owned())],
        vec![("pod", pod.to_owned()), ("map", map.to_owned())],
    ] {
        let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let (folder, yaml) = imported(&files);
        checked(folder.path(), &yaml);
        assert!(yaml.contains("address: \"127.0.0.1:1883\""), "{yaml}");
        // A text goes on behind its blank lines; and nobody asks for what was given.
        assert_eq!(record(folder.path(), "b/1", "1").unwrap().0, "b", "{yaml}");
        assert!(decided(&yaml).is_empty(), "{yaml}");
    }
    let second = map.replace("name: proxy", "name: second");
    let (_folder, yaml) = imported(&[("k8s", &format!("{map}---\n{second}---\n{pod}"))]);
    let told = "k8s:14: the ConfigMaps `proxy` (k8s:1) and `second` both have `KAFKA_MQTT_*` variables, which became one configuration";
    assert!(decided(&yaml).iter().any(|open| open.starts_with(told)), "{yaml}");
}

#[test]
fn the_data_of_a_secret_is_no_value_whatever_else_a_manifest_has() {
    let map = "- apiVersion: v1\n  data:\n    KAFKA_MQTT_BOOTSTRAP_SERVERS: kafka:9092\n    KAFKA_MQTT_TOPIC_REGEX_LIST: fleet:.*\n  kind: ConfigMap\n  metadata:\n    name: proxy\n";
    let secret = "- apiVersion: v1\n  data:\n    KAFKA_MQTT_LISTENERS: MTI3LjAuMC4xOjE=\n  kind: Secret\n  metadata:\n    name: proxy\n";
    let (folder, yaml) = imported(&[("list", &format!("apiVersion: v1\nitems:\n{map}{secret}kind: List\n"))]);
    checked(folder.path(), &yaml);
    assert_eq!(record(folder.path(), "a", "1").unwrap().0, "fleet", "{yaml}");
    let open = decided(&yaml);
    assert!(
        open.len() == 1 && open[0].starts_with("list:12: listeners: it was not read") && !yaml.contains("MTI3"),
        "{yaml}"
    );
    let lone =
        "apiVersion: v1\nkind: Secret\ndata:\n  KAFKA_MQTT_BOOTSTRAP_SERVERS: azo5MDky\n  KAFKA_MQTT_TOPIC_REGEX_LIST: Zjouf\nmore:\n- x\n";
    let err = refused("secret", lone);
    assert!(
        err.contains("secret:4: bootstrap.servers: it was not read") && !err.contains("azo5"),
        "{err}"
    );
}

#[test]
fn of_a_password_made_of_a_variable_one_comment_tells_and_none_shows_it() {
    let variables = r#"
      KAFKA_MQTT_BOOTSTRAP_SERVERS: kafka:9092
      KAFKA_MQTT_TOPIC_REGEX_LIST: fleet:.*
      KAFKA_MQTT_PRODUCER_SECURITY_PROTOCOL: SASL_SSL
      KAFKA_MQTT_PRODUCER_SASL_MECHANISM: PLAIN
      KAFKA_MQTT_PRODUCER_SASL_JAAS_CONFIG: 'org.x.PlainLoginModule required username="${T_WHO:-u}" password="${PW:-abc}";'
"#;
    let (folder, yaml) = imported(&[("compose.yaml", &format!("{COMPOSE}{variables}"))]);
    checked(folder.path(), &yaml);
    let note = "# * KAFKA_PASSWORD: an environment variable with the password of `sasl.jaas.config`; there it was made of `PW`, or a default that is not shown here\n";
    assert!(yaml.contains(note) && yaml.matches("PW").count() == 1, "{yaml}");
    assert!(!yaml.contains("abc") && yaml.contains("put `${T_WHO:-u}` in its place"), "{yaml}");
    assert!(
        yaml.contains("username: \"${T_WHO:-u}\", password: \"${KAFKA_PASSWORD}\""),
        "{yaml}"
    );
}

#[test]
fn a_variable_in_a_form_that_the_proxy_does_not_know_is_to_be_decided() {
    let variables = "      KAFKA_MQTT_BOOTSTRAP_SERVERS: kafka:9092\n      KAFKA_MQTT_TOPIC_REGEX_LIST: fleet:.*\n      KAFKA_MQTT_LISTENERS: 127.0.0.1:${PORT-1883}\n";
    let (_folder, yaml) = imported(&[("compose.yaml", &format!("{COMPOSE}{variables}"))]);
    let open = decided(&yaml);
    assert!(
        open.len() == 1 && open[0].contains(": listeners: Compose would have put a variable in the place of `${…}`"),
        "{yaml}"
    );
}

#[test]
fn a_list_of_rules_that_another_replaces_is_asked_about() {
    let properties = "bootstrap.servers=k:9092\ntopic.regex.list=a:a/.*\ntopic.regex.list=b:b/.*\n";
    let (folder, yaml) = imported(&[("p", properties)]);
    checked(folder.path(), &yaml);
    assert_eq!(record(folder.path(), "b/1", "1").unwrap().0, "b", "{yaml}");
    let open = decided(&yaml);
    assert!(
        open.len() == 1 && open[0].starts_with("p:2: topic.regex.list: set again below"),
        "{yaml}"
    );
}
