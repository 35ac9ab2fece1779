//! `import emqx`: what it writes of EMQX's files is a configuration that `check` takes, and that makes the same records.

// clippy.toml allows it in test functions; the functions they share are not seen as such.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Output};

fn run(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt-kafka-proxy"));
    let command = command.args(arguments).current_dir(folder).env("KAFKA_PASSWORD", "hunter2");
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// The folder of an import, and what was written.
#[track_caller]
fn written(text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("cluster.hocon"), text).unwrap();
    let (code, yaml, err) = run(folder.path(), &["import", "emqx", "cluster.hocon"]);
    assert_eq!((code, err.as_str()), (0, ""), "{yaml}");
    std::fs::write(folder.path().join("proxy.yaml"), &yaml).unwrap();
    (folder, yaml)
}

/// The same, which `check` takes.
#[track_caller]
fn imported(text: &str) -> (tempfile::TempDir, String) {
    let (folder, yaml) = written(text);
    let (code, out, err) = run(folder.path(), &["check"]);
    assert!(code == 0 && out.contains("ok"), "{out}{err}\n{yaml}");
    // Who a client is the files of EMQX do not tell: the import says that it is to be configured, and so does `check`.
    let of_identity = "`{identity}` with `authentication: none`";
    let mut warnings = err.lines().filter(|line| line.contains("warning"));
    assert!(warnings.all(|line| line.contains(of_identity)), "{err}\n{yaml}");
    assert_eq!(err.contains(of_identity), yaml.contains("\"{identity}\""), "{err}\n{yaml}");
    (folder, yaml)
}

#[track_caller]
fn explained(folder: &Path, arguments: &[&str]) -> serde_json::Value {
    let (_, out, err) = run(folder, &[&["explain"], arguments, &["--json"]].concat());
    serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}"))
}

/// Topic, key and value of a record.
fn record(told: &serde_json::Value, at: usize) -> [&str; 3] {
    ["topic", "key", "value"].map(|key| told["records"][at][key].as_str().unwrap())
}

#[track_caller]
fn has(yaml: &str, words: &[&str]) {
    for words in words {
        assert!(yaml.contains(words), "no `{words}` in\n{yaml}");
    }
}

const PLANT: &str = r#"
listeners.tcp.default { bind = "0.0.0.0:1883" }
listeners.ws.default { bind = 8083, websocket.mqtt_path = "/mqtt" }
dashboard.listeners.http.bind = 18083
connectors.kafka_producer.plant {
  bootstrap_hosts = "kafka-1:9092, kafka-2"
  authentication { mechanism = scram_sha_512, username = emqx, password = "s3cret-of-kafka" }
  ssl { enable = true, verify = verify_peer }
  connect_timeout = 5s
  resource_opts { health_check_interval = 15s }
}
actions.kafka_producer {
  readings {
    connector = plant
    parameters {
      topic = plant-readings
      message { key = "${.clientid}", value = "${.payload}", timestamp = "${.timestamp}" }
      partition_strategy = key_dispatch
      required_acks = leader_only
      compression = snappy
      kafka_ext_headers = [{ kafka_ext_header_key = source, kafka_ext_header_value = "${username}" }]
      max_inflight = 10
    }
  }
  audit {
    connector = plant
    parameters { topic = plant-audit, message { key = "${topic}", value = "${.}" } }
  }
}
rule_engine {
  rules {
    readings {
      sql = """~
        SELECT
          *
        FROM
          "plant/+/reading"~"""
      actions = ["kafka_producer:readings", "http:elsewhere"]
    }
    audit { sql = "SELECT * FROM \"plant/#\"", actions = ["kafka_producer:audit"] }
    hot { sql = "SELECT * FROM \"plant/#\" WHERE payload.t > 90", actions = ["kafka_producer:audit"] }
    off { enable = false, sql = "SELECT * FROM \"x\"", actions = ["kafka_producer:audit"] }
  }
}
"#;

#[test]
fn what_rules_send_to_kafka_is_sent() {
    let (folder, yaml) = imported(PLANT);
    let told = explained(
        folder.path(),
        &["plant/7/reading", "--payload", "21.5", "--client", "meter", "--identity", "who"],
    );
    assert_eq!(
        told["records"].as_array().unwrap().len(),
        2,
        "every rule that matches has its say: {told}"
    );
    assert_eq!(record(&told, 0), ["plant-readings", "meter", "21.5"]);
    let headers = told["records"][0]["headers"].to_string();
    assert!(headers.contains(r#"{"name":"source","value":"who"}"#), "{headers}");
    let [topic, key, value] = record(&told, 1);
    assert_eq!((topic, key), ("plant-audit", "plant/7/reading"));
    let value: serde_json::Value = serde_json::from_str(value).unwrap();
    assert_eq!(
        (&value["payload"], &value["clientid"], &value["qos"]),
        (&"21.5".into(), &"meter".into(), &1.into())
    );
    // Only the second rule takes it there.
    let told = explained(folder.path(), &["plant/7/state", "--payload", "on", "--client", "meter"]);
    assert_eq!(told["records"].as_array().unwrap().len(), 1);
    assert_eq!(record(&told, 0)[0], "plant-audit");
    has(
        &yaml,
        &[
            "bootstrap_servers: [\"kafka-1:9092\", \"kafka-2:9092\"]",
            "protocol: sasl_ssl",
            "mechanism: SCRAM-SHA-512",
            "acks: leader",
            "compression: snappy",
            "name: \"ws-default\", address: \"0.0.0.0:8083\", protocol: ws, path: \"/mqtt\"",
            "# * rule_engine.rules.hot: its SQL: `WHERE` chooses messages",
            "# * rule_engine.rules.off: it is switched off",
            "# * rule_engine.rules.readings.actions.1: not about Kafka",
            "# * dashboard: not about Kafka",
            "# * connectors.kafka_producer.plant.resource_opts: what may be tried again is",
            "# * actions.kafka_producer.readings.parameters.max_inflight: the order is kept",
        ],
    );
    assert!(!yaml.contains("s3cret"), "a password is not copied\n{yaml}");
}

#[test]
fn what_is_read_from_kafka_is_read() {
    let (folder, yaml) = imported(
        r#"
connectors.kafka_consumer.c { bootstrap_hosts = "k:9092" }
sources.kafka_consumer.orders { connector = c, parameters { topic = vehicle-orders, group_id = emqx } }
rule_engine.rules.out {
  sql = "SELECT * FROM \"$sources/kafka_consumer:orders\""
  actions = [
    { function = republish, args { topic = "vehicles/${key}/orders", payload = "${value}", qos = 1 } }
    { function = republish, args { topic = "all", payload = "${.}" } }
  ]
}
"#,
    );
    let told = explained(folder.path(), &["--kafka", "vehicle-orders", "--key", "42", "--payload", "stop"]);
    assert_eq!(
        (&told["message"]["topic"], &told["message"]["payload"]),
        (&"vehicles/42/orders".into(), &"stop".into()),
        "{told}"
    );
    has(
        &yaml,
        &[
            "qos: 1",
            "to `all`: the payload `${.}` is not the record's value",
            "parameters.group_id: subscribers read",
        ],
    );
}

#[test]
fn what_is_switched_off_stays_off() {
    let source = |source: &str, connector: &str| {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            r#"
connectors.kafka_consumer.c {{ {connector} bootstrap_hosts = "k:9092" }}
connectors.kafka_consumer.d {{ bootstrap_hosts = "k:9092" }}
sources.kafka_consumer.orders {{ {source} connector = c, parameters {{ topic = vehicle-orders }} }}
sources.kafka_consumer.others {{ connector = d, parameters {{ topic = others }} }}
rule_engine.rules.one {{
  sql = "SELECT * FROM \"$sources/kafka_consumer:orders\", \"$sources/kafka_consumer:others\""
  actions = [{{ function = republish, args {{ topic = "one/${{key}}", payload = "${{value}}" }} }}]
}}
rule_engine.rules.two {{
  sql = "SELECT * FROM \"$sources/kafka_consumer:orders\""
  actions = [{{ function = republish, args {{ topic = "two/${{key}}", payload = "${{value}}" }} }}]
}}
"#
        );
        std::fs::write(folder.path().join("cluster.hocon"), text).unwrap();
        let (code, yaml, err) = run(folder.path(), &["import", "emqx", "cluster.hocon"]);
        assert_eq!((code, err.as_str()), (0, ""), "{yaml}");
        (
            ["vehicle-orders", "others"].map(|topic| yaml.contains(&format!("{{topic: \"{topic}\"}}"))),
            yaml,
        )
    };
    assert_eq!(source("", "").0, [true, true]);
    assert_eq!(source("enable = true,", "enable = true,").0, [true, true]);
    let (made, yaml) = source("enable = false,", "");
    assert_eq!(made, [false, true], "{yaml}");
    has(
        &yaml,
        &[
            "`$sources/kafka_consumer:orders` is read, and switched off",
            "# * sources.kafka_consumer.orders: it is switched off",
        ],
    );
    let (made, yaml) = source("", "enable = false,");
    assert_eq!(made, [false, true], "{yaml}");
    has(
        &yaml,
        &[
            "`connectors.kafka_consumer.c` is switched off",
            "# * connectors.kafka_consumer.c: it is switched off",
        ],
    );
}

#[test]
fn what_devices_get_in_base64_they_get_in_base64() {
    let import = |parameters: &str, args: &str| {
        imported(&format!(
            r#"
connectors.kafka_consumer.c {{ bootstrap_hosts = "k:9092" }}
sources.kafka_consumer.orders {{ connector = c, parameters {{ topic = vehicle-orders, {parameters} }} }}
sources.kafka_consumer.others {{ connector = c, parameters {{ topic = others, {parameters} }} }}
rule_engine.rules.all {{
  sql = "SELECT * FROM \"$sources/kafka_consumer:orders\""
  actions = [{{ function = republish, args {{ topic = "all", payload = "${{value}}", {args} }} }}]
}}
rule_engine.rules.by {{
  sql = "SELECT * FROM \"$sources/kafka_consumer:others\""
  actions = [{{ function = republish, args {{ topic = "by/${{key}}", payload = "${{value}}" }} }}]
}}
bridges.kafka_consumer.down {{
  bootstrap_hosts = "k:9092"
  {parameters}
  topic_mapping = [
    {{ kafka_topic = downs, mqtt_topic = "down", qos = 2, payload_template = "${{.value}}" }}
    {{ kafka_topic = keyed, mqtt_topic = "down/${{.key}}", qos = 2, payload_template = "${{.value}}" }}
  ]
}}
"#
        ))
    };
    let payload = |folder: &Path, topic: &str| {
        let told = explained(folder, &["--kafka", topic, "--key", "7", "--payload-base64", "/w=="]);
        told["message"]["payload"].as_str().map(str::to_owned)
    };
    let plain = "key_encoding_mode = none, value_encoding_mode = none";
    let (folder, yaml) = import(plain, "retain = false");
    for topic in ["vehicle-orders", "downs", "keyed"] {
        assert_eq!(payload(folder.path(), topic).as_deref(), Some("\\xff"), "{yaml}");
    }
    assert!(!yaml.contains("encoding_mode") && !yaml.contains("To be decided"), "{yaml}");
    let (folder, yaml) = import("value_encoding_mode = base64", "retain = \"${retain}\"");
    for topic in ["vehicle-orders", "downs", "keyed"] {
        assert_eq!(payload(folder.path(), topic).as_deref(), Some("/w=="), "{yaml}");
    }
    assert!(!yaml.contains("encoding_mode") && !yaml.contains("To be decided"), "{yaml}");
    // A topic has the key as it is.
    let (folder, yaml) = import("key_encoding_mode = base64", "");
    assert_eq!(payload(folder.path(), "downs").as_deref(), Some("\\xff"), "{yaml}");
    assert_eq!(payload(folder.path(), "keyed"), None, "{yaml}");
    has(
        &yaml,
        &[
            "to `by/${key}`: `key_encoding_mode`",
            "from `keyed` to `down/${.key}`: `key_encoding_mode`",
        ],
    );
    let (folder, yaml) = import("", "retain = true");
    assert_eq!(payload(folder.path(), "vehicle-orders"), None, "{yaml}");
    has(&yaml, &["to `all`: `retain`"]);
}

#[test]
fn what_a_message_may_lack_is_told() {
    let notes = |key: &str| {
        let file = r#"
connectors.kafka_producer.c { bootstrap_hosts = "k:9092" }
actions.kafka_producer.a { connector = c, parameters { topic = t, message { key = "KEY", value = "${payload}" } } }
rule_engine.rules.r { sql = "SELECT * FROM \"x/+\"", actions = ["kafka_producer:a"] }
"#;
        let (folder, yaml) = imported(&file.replace("KEY", key));
        (
            folder,
            ["configure `authentication`", "lacks the field"].map(|words| yaml.contains(words)),
        )
    };
    assert_eq!(notes("${clientid}").1, [false, false]);
    let (folder, told) = notes("${username}");
    assert_eq!(told, [true, false]);
    let sent = explained(folder.path(), &["x/1"]);
    assert!(sent["why"].as_str().unwrap().starts_with("refused: "), "{sent}");
    let (folder, told) = notes("${payload.x}");
    assert_eq!(told, [false, true]);
    let sent = explained(folder.path(), &["x/1", "--payload", "junk"]);
    assert!(sent["why"].as_str().unwrap().starts_with("refused: "), "{sent}");
}

#[test]
fn bridges_of_older_releases_are_read() {
    let (folder, yaml) = imported(
        r#"
bridges.kafka.up {
  bootstrap_hosts = "k:9092"
  local_topic = "up/+"
  kafka { topic = ups, message { key = "", value = "${payload}" } }
}
bridges.kafka_consumer.down {
  bootstrap_hosts = "k:9092"
  topic_mapping = [{ kafka_topic = downs, mqtt_topic = "down/${.key}", qos = 2, payload_template = "${.value}" }]
}
bridges.kafka.elsewhere { bootstrap_hosts = "other:9092", local_topic = "e", kafka { topic = es } }
"#,
    );
    let told = explained(folder.path(), &["up/1", "--payload", "x"]);
    assert_eq!(record(&told, 0), ["ups", "", "x"]);
    let told = explained(folder.path(), &["--kafka", "downs", "--key", "a/b", "--payload", "y"]);
    assert_eq!(told["message"]["topic"], "down/a/b", "{told}");
    has(&yaml, &["`bridges.kafka.elsewhere` is of another Kafka"]);
}

#[test]
fn of_several_that_publish_records_of_one_topic_the_first_is_kept() {
    let (folder, yaml) = imported(
        r#"
connectors.kafka_consumer.c { bootstrap_hosts = "k:9092" }
sources.kafka_consumer.orders { connector = c, parameters { topic = vehicle-orders } }
rule_engine.rules.one {
  sql = "SELECT * FROM \"$sources/kafka_consumer:orders\""
  actions = [
    { function = republish, args { topic = "none", payload = "${.}" } }
    { function = republish, args { topic = "no/+", payload = "${value}" } }
    { function = republish, args { topic = "by/${key}", payload = "${value}" } }
    { function = republish, args { topic = "all", payload = "${value}" } }
  ]
}
rule_engine.rules.two {
  sql = "SELECT * FROM \"$sources/kafka_consumer:orders\""
  actions = [{ function = republish, args { topic = "by/${key}", payload = "${value}" } }]
}
"#,
    );
    let told = explained(folder.path(), &["--kafka", "vehicle-orders", "--key", "42", "--payload", "stop"]);
    assert_eq!(told["message"]["topic"], "by/42", "{told}");
    assert_eq!(told["rules"].as_array().unwrap().len(), 1, "{told}");
    has(
        &yaml,
        &[
            "to `none`: the payload",
            "to `no/+`: that is no topic",
            "to `all`: a record becomes one message here, and those of `vehicle-orders` are messages of `by/${key}` already",
            "to `by/${key}`: a record becomes one message here",
        ],
    );
}

/// A bridge that a later release has made a source of still has its topics in a list.
#[test]
fn topics_of_bridges_that_became_sources_are_read() {
    let (folder, yaml) = imported(
        r#"
connectors.kafka_consumer.c { bootstrap_hosts = "k:9092" }
sources.kafka_consumer.down {
  connector = c
  parameters {
    topic = downs
    value_encoding_mode = base64
    topic_mapping = [
      { kafka_topic = downs, mqtt_topic = "down/${.key}", qos = 2, payload_template = "${.value}" }
      { kafka_topic = events, mqtt_topic = "events", qos = 1 }
      { kafka_topic = silent, mqtt_topic = "" }
    ]
  }
}
sources.kafka_consumer.off {
  enable = false, connector = c
  parameters { topic = offs, topic_mapping = [{ kafka_topic = offs, mqtt_topic = "off", payload_template = "${.value}" }] }
}
rule_engine.rules.silent {
  sql = "SELECT * FROM \"$bridges/kafka_consumer:down\""
  actions = [{ function = republish, args { topic = "rule/${topic}", payload = "${value}" } }]
}
"#,
    );
    let message = |topic: &str| {
        let told = explained(folder.path(), &["--kafka", topic, "--key", "7", "--payload", "x"]);
        ["topic", "payload"].map(|key| told["message"][key].as_str().map(str::to_owned))
    };
    // The rule hears of all topics of its source, and comes first.
    for topic in ["downs", "events", "silent"] {
        assert_eq!(message(topic), [Some(format!("rule/{topic}")), Some("eA==".to_owned())], "{yaml}");
    }
    assert_eq!(message("offs"), [None, None], "{yaml}");
    has(
        &yaml,
        &[
            "from `downs` to `down/${.key}`: a record becomes one message here",
            "from `events` to `events`: the payload `${.}` is not the record's value",
            "# * sources.kafka_consumer.off: it is switched off",
        ],
    );
    assert!(!yaml.contains("topic_mapping") && !yaml.contains("`silent` to"), "{yaml}");

    let (folder, yaml) = imported(
        r#"
connectors.kafka_consumer.c { bootstrap_hosts = "k:9092" }
sources.kafka_consumer.down {
  connector = c
  parameters { topic = downs, topic_mapping = [{ kafka_topic = downs, mqtt_topic = "down/${.key}", qos = 2, payload_template = "${.value}" }] }
}
"#,
    );
    let told = explained(folder.path(), &["--kafka", "downs", "--key", "a/b", "--payload", "y"]);
    assert_eq!(
        (&told["message"]["topic"], &told["message"]["qos"]),
        (&"down/a/b".into(), &2.into()),
        "{yaml}"
    );
    assert!(!yaml.contains("To be decided"), "{yaml}");
}

#[test]
fn what_no_rule_can_be_made_of_is_told() {
    let folder = tempfile::tempdir().unwrap();
    for (text, why) in [
        ("a {", "cluster.hocon:1:"),
        ("a = 1\nb = }", "cluster.hocon:2:"),
        ("a = }", "; mend the HOCON"),
        ("listeners.tcp.default.bind = 1883", "no rule that sends to Kafka"),
        (
            "connectors.kafka_producer.c.bootstrap_hosts = k\nactions.kafka_producer.a { connector = c, parameters { topic = \"${topic}\", message.value = \"${payload}\" } }\n\
             rule_engine.rules.r { sql = \"SELECT * FROM \\\"a/b\\\"\", actions = [\"kafka_producer:a\"] }",
            "`${topic}` is no Kafka topic where `a/b` has several levels",
        ),
    ] {
        std::fs::write(folder.path().join("cluster.hocon"), text).unwrap();
        let (code, out, err) = run(folder.path(), &["import", "emqx", "cluster.hocon"]);
        assert!(code != 0 && out.is_empty() && err.contains(why), "{text}: {code} {out}{err}");
    }
}

/// Rules of the engine that send what their filters match to one action, or to two.
fn sends(from: &str, actions: &str, more: &str) -> String {
    let filters: Vec<String> = from.split(' ').map(|filter| format!("\\\"{filter}\\\"")).collect();
    format!(
        r#"
connectors.kafka_producer.c {{ bootstrap_hosts = "k:9092" }}
actions.kafka_producer.a {{ connector = c, parameters {{ topic = as, message.value = "${{payload}}" }} }}
actions.kafka_producer.b {{ connector = c, parameters {{ topic = bs, message.value = "${{payload}}" }} }}
rule_engine.rules.r {{ sql = "SELECT * FROM {}", actions = [{actions}] }}
{more}
"#,
        filters.join(", ")
    )
}

#[test]
fn a_rule_whose_filters_overlap_is_done_once_for_a_message() {
    let topics = |folder: &Path, topic: &str| -> Vec<String> {
        let told = explained(folder, &[topic, "--payload", "x", "--client", "d"]);
        let records = told["records"].as_array().cloned().unwrap_or_default();
        records.iter().map(|one| one["topic"].as_str().unwrap().to_owned()).collect()
    };
    let one = r#""kafka_producer:a""#;
    for from in ["t/# t/a", "t/a t/#", "t/# t/#", "t/# t/+ t/a"] {
        let (folder, yaml) = imported(&sends(from, one, ""));
        assert_eq!(topics(folder.path(), "t/a"), ["as"], "{yaml}");
        assert_eq!(yaml.matches("direction: publish").count(), 1, "{yaml}");
        has(&yaml, &["# * rule `r`: all that `", "` matches `t/#` does, too"]);
        assert!(!yaml.contains("To be decided"), "{yaml}");
    }
    // Neither covers the other: the first that matches takes a message.
    let (folder, yaml) = imported(&sends("t/+ +/a", one, ""));
    for topic in ["t/a", "t/b", "u/a"] {
        assert_eq!(topics(folder.path(), topic), ["as"], "{topic}\n{yaml}");
    }
    assert!(!yaml.contains("To be decided"), "{yaml}");
    // Copies know nothing of each other.
    let twice = "what both `t/+` and `+/a` match goes to `actions.kafka_producer.b` twice";
    let (folder, yaml) = imported(&sends("t/+ +/a", r#""kafka_producer:a", "kafka_producer:b""#, ""));
    assert_eq!(topics(folder.path(), "u/a"), ["as", "bs"], "{yaml}");
    has(&yaml, &["To be decided", twice]);
    // Two rules are two.
    let other = r#"rule_engine.rules.s { sql = "SELECT * FROM \"t/#\"", actions = ["kafka_producer:b"] }"#;
    let (folder, yaml) = imported(&sends("t/a t/#", one, other));
    assert_eq!(topics(folder.path(), "t/a"), ["as", "bs"], "{yaml}");
    assert!(!yaml.contains("To be decided"), "{yaml}");
    // One that no rule can be made of takes nothing from the others.
    let (folder, yaml) = imported(&sends("t/# t", one, "").replace("topic = as", "topic = \"${topic}\""));
    assert_eq!(topics(folder.path(), "t"), ["t"], "{yaml}");
}

#[test]
fn who_is_let_in_there_is_asked_about() {
    // Whether somebody is asked there: then nobody is let in before it is decided who is.
    let open = |more: &str, is_asked: bool| -> (Vec<String>, String) {
        let text = sends("t/#", r#""kafka_producer:a""#, more);
        let (_folder, yaml) = if is_asked { undecided(&text) } else { imported(&text) };
        assert_eq!(yaml.contains("\nauthentication: none\n"), !is_asked, "{yaml}");
        let lines = yaml.lines().skip_while(|line| *line != "# To be decided:").skip(1);
        let open = lines.take_while(|line| line.starts_with("# * "));
        (open.map(|line| line["# * ".len()..].to_owned()).collect(), yaml)
    };
    for (is_asked, more, told) in [
        (
            true,
            "authentication = [{ mechanism = password_based, backend = built_in_database, user_id_type = username }, { mechanism = jwt, secret = s3cret }]",
            "authentication (password_based of built_in_database, jwt): devices log in there, and here nobody is let in before it is decided: write `authentication`, see",
        ),
        (
            true,
            "authentication { mechanism = password_based, backend = http }",
            "authentication (password_based of http): devices log in there",
        ),
        (
            false,
            "authorization { no_match = deny, sources = [{ type = file, path = \"etc/acl.conf\" }] }",
            "authorization (file, no_match = deny): here devices may publish to",
        ),
        (
            false,
            "listeners.tcp.default { bind = 1883, mountpoint = \"site/\" }",
            "listeners.tcp.default.mountpoint = site/: rules see it",
        ),
        (
            false,
            "listeners.tcp.default { bind = 1883, enable_authn = false }",
            "listeners.tcp.default.enable_authn = false: this listener",
        ),
        (
            true,
            "listeners.tcp.default { bind = 1883, enable_authn = quick_deny_anonymous }",
            "listeners.tcp.default.enable_authn = quick_deny_anonymous: this listener",
        ),
        (
            true,
            "listeners.tcp.default { bind = 1883, authentication = [{ mechanism = jwt }] }",
            "listeners.tcp.default.authentication (jwt): devices log in there",
        ),
        (
            false,
            "listeners.tcp.default { bind = 1883, proxy_protocol = true, proxy_protocol_timeout = 3s }",
            "listeners.tcp.default.proxy_protocol: add `proxy_protocol: true` with the balancers' addresses",
        ),
        (
            false,
            "listeners.tcp.default { bind = 1883, access_rules = [\"allow 10.0.0.0/8\", \"deny all\"] }",
            "listeners.tcp.default.access_rules (allow 10.0.0.0/8, deny all): here who connects is not chosen",
        ),
    ] {
        let (open, yaml) = open(more, is_asked);
        assert!(open.len() == 1 && open[0].starts_with(told), "{more}\n{yaml}");
        assert!(!yaml.contains("not about Kafka") && !yaml.contains("s3cret"), "{more}\n{yaml}");
    }
    // What forbids nothing there needs no answer.
    for more in [
        "authentication = [{ mechanism = password_based, backend = built_in_database, enable = false }]",
        "authorization { no_match = allow, deny_action = ignore, cache { enable = true }, sources = [{ type = file, enable = false }] }",
        "listeners.tcp.default { bind = 1883, mountpoint = \"\", enable_authn = true, proxy_protocol = false, access_rules = [\"allow all\"] }",
    ] {
        let (open, yaml) = open(more, false);
        assert!(open.is_empty() && !yaml.contains("not about Kafka"), "{more}\n{yaml}");
    }
}

/// An import of which all is written but who is let in.
#[track_caller]
fn undecided(text: &str) -> (tempfile::TempDir, String) {
    let (folder, yaml) = written(text);
    let (code, _, err) = run(folder.path(), &["check"]);
    let is_omitted = |line: &str| line.contains("has no `authentication`");
    assert!(
        code == 64 && err.lines().count() == 1 && err.lines().all(is_omitted),
        "{err}\n{yaml}"
    );
    std::fs::write(
        folder.path().join("proxy.yaml"),
        format!("{yaml}authentication: [{{method: certificate}}]\n"),
    )
    .unwrap();
    let (code, out, err) = run(folder.path(), &["check"]);
    assert!(code == 0 && out.contains("ok"), "{out}{err}\n{yaml}");
    (folder, yaml)
}

/// It may stand in a file that was not given.
#[test]
fn that_nothing_stands_there_of_who_is_let_in_is_to_be_known() {
    let words = [
        "# * no `authentication` of all listeners counts in these files",
        "# * no listener stands in these files",
    ];
    for (more, told) in [
        ("", [true, true]),
        ("listeners.tcp.default { bind = 1883 }", [true, false]),
        ("authentication = [{ mechanism = jwt, enable = false }]", [true, true]),
    ] {
        let (_folder, yaml) = imported(&sends("t/#", r#""kafka_producer:a""#, more));
        assert_eq!(words.map(|words| yaml.contains(words)), told, "{more}\n{yaml}");
    }
}

/// What asks there, and cannot be written, has nothing open in its place.
#[test]
fn where_somebody_may_be_asked_nobody_is_let_in_before_that_is_decided() {
    for (more, open) in [
        (
            "listeners.tcp.default { authentication = [{ mechanism = jwt }] }",
            &["listeners.tcp.default.authentication (jwt)"][..],
        ),
        (
            "listeners.tcp.default { bind = \"mqtt.example:1883\", authentication = [{ mechanism = jwt }] }",
            &["listeners.tcp.default.authentication (jwt)", "listeners.tcp.default.bind"],
        ),
        (
            "listeners.tcp.default { bind = \"mqtt.example:1883\", enable_authn = quick_deny_anonymous }\nlisteners.ws.default { bind = 8083 }",
            &["listeners.tcp.default.enable_authn", "listeners.tcp.default.bind"],
        ),
        ("listeners.tcp.default { bind = 1883, enable = false }", &["listeners: those"]),
        (
            "listeners.quic.default { bind = 14567, authentication = [{ mechanism = jwt }] }",
            &[],
        ),
        ("authentication = jwt", &["authentication (jwt)"]),
        ("include \"gone.hocon\"", &["cluster.hocon:"]),
    ] {
        let (_folder, yaml) = undecided(&sends("t/#", r#""kafka_producer:a""#, more));
        assert!(!yaml.contains("authentication: none"), "{more}\n{yaml}");
        let told = under(&yaml, "# To be decided:");
        assert_eq!(told.len(), open.len(), "{more}\n{yaml}");
        for (told, open) in told.iter().zip(open) {
            assert!(told.starts_with(open), "{more}\n{yaml}");
        }
    }
}

/// What the others are let in by stays theirs.
#[test]
fn a_listener_that_asks_by_itself_is_the_one_to_be_decided_about() {
    let listeners = "listeners.tcp.default { bind = 1883, authentication = [{ mechanism = jwt }] }\nlisteners.ws.default { bind = 8083 }";
    let (_folder, yaml) = undecided(&sends("t/#", r#""kafka_producer:a""#, listeners));
    let line = |name: &str| yaml.lines().find(|line| line.contains(&format!("name: \"{name}\""))).unwrap();
    assert!(!line("tcp-default").contains("authentication"), "{yaml}");
    assert!(line("ws-default").ends_with("protocol: ws, authentication: none}"), "{yaml}");
    // Where all ask, none is open.
    let all = format!("authentication = [{{ mechanism = jwt }}]\n{listeners}");
    let (_folder, yaml) = undecided(&sends("t/#", r#""kafka_producer:a""#, &all));
    assert!(!yaml.contains("authentication: none"), "{yaml}");
}

/// Releases 5.0 and 5.1 write `enabled`.
#[test]
fn what_is_switched_off_by_its_older_name_stays_off_too() {
    let connectors = r#"
connectors.kafka_producer.c { bootstrap_hosts = "k:9092" }
connectors.kafka_producer.d { enabled = false, bootstrap_hosts = "k:9092" }
actions.kafka_producer.a { connector = c, enabled = true, parameters { topic = as, message.value = "${payload}" } }
actions.kafka_producer.b { connector = c, enabled = false, parameters { topic = bs, message.value = "${payload}" } }
actions.kafka_producer.e { connector = d, parameters { topic = es, message.value = "${payload}" } }
rule_engine.rules.r { sql = "SELECT * FROM \"t/#\"", actions = ["kafka_producer:a", "kafka_producer:b", "kafka_producer:e"] }
rule_engine.rules.s { enabled = false, sql = "SELECT * FROM \"u/#\"", actions = ["kafka_producer:a"] }
bridges.kafka.f { enabled = false, bootstrap_hosts = "k:9092", local_topic = "f", kafka { topic = fs } }
"#;
    let listeners = "listeners.tcp.default { bind = 1883, enabled = false }\nlisteners.tcp.other { bind = 1884, enabled = true }";
    let (_folder, yaml) = imported(&format!("{connectors}{listeners}"));
    has(
        &yaml,
        &[
            "address: \"0.0.0.0:1884\"",
            "# * listeners.tcp.default: it is switched off",
            "`actions.kafka_producer.b` is sent to, and switched off",
            "`connectors.kafka_producer.d` is switched off",
            "# * rule_engine.rules.s: it is switched off",
            "`bridges.kafka.f` is sent to, and switched off",
        ],
    );
    assert!(!yaml.contains(":1883") && yaml.matches("direction: publish").count() == 1, "{yaml}");
    // A proxy listens somewhere.
    let (_folder, yaml) = undecided(&format!("{connectors}listeners.tcp.default {{ bind = 1883, enabled = false }}"));
    has(
        &yaml,
        &["listeners: those that are there are switched off", "address: \"0.0.0.0:1883\""],
    );
}

#[test]
fn bridges_of_5_0_have_their_topics_elsewhere() {
    let (folder, yaml) = imported(
        r#"
bridges.kafka.up {
  bootstrap_hosts = "k:9092"
  producer { mqtt { topic = "up/+" }, kafka { topic = ups, message { key = "", value = "${payload}" } } }
}
bridges.kafka.both {
  bootstrap_hosts = "k:9092", local_topic = "both"
  kafka { topic = boths, message { value = "${payload}" } }
}
bridges.kafka.ruled {
  bootstrap_hosts = "k:9092"
  producer { mqtt { topic = "" }, kafka { topic = ruleds, message { value = "${payload}" } } }
}
rule_engine.rules.r { sql = "SELECT * FROM \"r/#\"", actions = ["kafka:ruled", "kafka:both"] }
"#,
    );
    for (topic, kafka) in [("up/1", vec!["ups"]), ("r/1", vec!["ruleds", "boths"]), ("both", vec!["boths"])] {
        let told = explained(folder.path(), &[topic, "--payload", "x", "--client", "d"]);
        let made: Vec<&str> = (0..told["records"].as_array().unwrap().len())
            .map(|at| record(&told, at)[0])
            .collect();
        assert_eq!(made, kafka, "{topic}\n{yaml}");
    }
    assert!(!yaml.contains("To be decided") && !yaml.contains("mqtt.topic"), "{yaml}");
}

#[test]
fn an_event_of_a_payload_that_is_no_text_is_refused_and_that_is_told() {
    let words = "a message is refused if its payload is no UTF-8 where the event `${.}` is written";
    let event = sends("t/#", r#""kafka_producer:a""#, "").replace("${payload}", "${.}");
    let (folder, yaml) = imported(&event);
    let told = explained(folder.path(), &["t/1", "--payload-base64", "/w==", "--client", "d"]);
    assert!(told["why"].as_str().unwrap().starts_with("refused: "), "{told}");
    has(&yaml, &[words, "value: {format: json, payload: text}"]);
    // What is told to be done helps.
    let bytes = yaml.replace("payload: text", "payload: bytes");
    std::fs::write(folder.path().join("proxy.yaml"), bytes).unwrap();
    let told = explained(folder.path(), &["t/1", "--payload-base64", "/w==", "--client", "d"]);
    assert!(record(&told, 0)[2].contains("\"payload\":\"/w==\""), "{told}");
    for (from, with) in [("${.}", "${payload}"), ("SELECT *", "SELECT clientid, topic")] {
        let (_folder, yaml) = imported(&event.replace(from, with));
        assert!(!yaml.contains(words), "{yaml}");
    }
}

/// The lines under a title.
fn under(yaml: &str, title: &str) -> Vec<String> {
    let lines = yaml.lines().skip_while(|line| *line != title).skip(1);
    let told = lines.take_while(|line| line.starts_with("# * "));
    told.map(|line| line["# * ".len()..].to_owned()).collect()
}

/// What they send or read nobody does: `unmapped: drop` would hide it.
#[test]
fn rules_of_another_kafka_are_named() {
    let (_folder, yaml) = imported(&sends(
        "t/#",
        r#""kafka_producer:a""#,
        r#"
connectors.kafka_producer.k2 { bootstrap_hosts = "other:9092", resource_opts.health_check_interval = 15s }
connectors.kafka_consumer.k3 { bootstrap_hosts = "other:9092" }
actions.kafka_producer.o { connector = k2, parameters { topic = os, message.value = "${payload}", max_inflight = 10, unheard_of = 1 } }
sources.kafka_consumer.s { connector = k3, parameters { topic = ss, group_id = g, unheard_of = 1 } }
sources.kafka_consumer.m {
  connector = k3
  parameters { topic = ms, topic_mapping = [{ kafka_topic = ms, mqtt_topic = "ms", payload_template = "${.value}" }] }
}
bridges.kafka.u { bootstrap_hosts = "other:9092", local_topic = "u/#", kafka { topic = us } }
rule_engine.rules.r2 { sql = "SELECT * FROM \"site/#\", \"x\"", actions = ["kafka_producer:o", "kafka:u"] }
rule_engine.rules.r3 {
  sql = "SELECT * FROM \"$sources/kafka_consumer:s\""
  actions = [{ function = republish, args { topic = "down/${key}", payload = "${value}" } }]
}
"#,
    ));
    let other = |connector: &str| format!("is not here: `{connector}` is of another Kafka: a proxy has one");
    assert_eq!(
        under(&yaml, "# To be decided:"),
        [
            format!(
                "rule `r2` (`site/#`, `x` to `actions.kafka_producer.o`) {}",
                other("connectors.kafka_producer.k2")
            ),
            format!("rule `r2` (`site/#`, `x` to `bridges.kafka.u`) {}", other("bridges.kafka.u")),
            format!(
                "rule `r3` (from `$sources/kafka_consumer:s` to `down/${{key}}`) {}",
                other("connectors.kafka_consumer.k3")
            ),
            format!("rule `u` (`u/#` to `bridges.kafka.u`) {}", other("bridges.kafka.u")),
            format!(
                "what `sources.kafka_consumer.m` publishes {}",
                other("connectors.kafka_consumer.k3")
            ),
        ],
        "{yaml}"
    );
    for words in ["not known", "subscribers read:", "the order is kept", "what may be tried again"] {
        assert!(!yaml.contains(words), "{words}\n{yaml}");
    }
    has(&yaml, &["# * actions.kafka_producer.o: not imported, see what is to be decided"]);
}

#[test]
fn files_that_are_included_and_not_there_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let within = folder.path().join("conf");
    std::fs::create_dir(&within).unwrap();
    let text = format!(
        "# include \"no.hocon\"\ninclude \"other.hocon\"\n{}",
        sends("t/#", r#""kafka_producer:a""#, "")
    );
    std::fs::write(within.join("cluster.hocon"), &text).unwrap();
    let import = || {
        let (code, yaml, err) = run(folder.path(), &["import", "emqx", "conf/cluster.hocon"]);
        assert_eq!((code, err.as_str()), (0, ""), "{yaml}");
        yaml
    };
    let yaml = import();
    let open = under(&yaml, "# To be decided:");
    assert_eq!(open.len(), 1, "{yaml}");
    assert!(
        open[0].starts_with("conf/cluster.hocon:2: include \"other.hocon\": that file is not there"),
        "{yaml}"
    );
    // It is looked for beside the file that includes it.
    std::fs::write(within.join("other.hocon"), "listeners.tcp.default.bind = 1999").unwrap();
    let yaml = import();
    assert!(yaml.contains(":1999\"") && !yaml.contains("To be decided"), "{yaml}");
}

#[test]
fn packets_and_sessions_have_their_equals() {
    let import = |more: &str| imported(&sends("t/#", r#""kafka_producer:a""#, more)).1;
    let yaml = import("mqtt { max_packet_size = 2MB, session_expiry_interval = 2h, max_topic_levels = 64 }");
    has(
        &yaml,
        &[
            "\nlimits: {packet_size: 2MiB}\n",
            "# * mqtt.session_expiry_interval = 2h: `sessions.expiry` is the equal",
            "# * mqtt: not about Kafka",
        ],
    );
    let yaml = import("mqtt.max_packet_size = 300MB");
    has(&yaml, &["# * mqtt.max_packet_size = 300MB: `limits.packet_size` is the equal"]);
    assert!(!yaml.contains("limits: {"), "{yaml}");
}

#[test]
fn what_no_rule_uses_is_told_as_that() {
    let (_folder, yaml) = imported(&sends(
        "t/#",
        r#""kafka_producer:a", "kafka_producer:d""#,
        r#"
connectors.kafka_producer.second { bootstrap_hosts = "k:9092", authentication = none, ssl.enable = false }
connectors.kafka_producer.third { bootstrap_hosts = "k:9092", authentication { mechanism = plain, username = u, password = s3cret } }
connectors.kafka_producer.spare { bootstrap_hosts = "k:9092" }
actions.kafka_producer.d { connector = second, parameters { topic = ds, message.value = "${payload}" } }
actions.kafka_producer.e { connector = third, parameters { topic = es, message.value = "${payload}" } }
actions.kafka_producer.a.fallback_actions = [{ kind = reference, type = http, name = alarm }, { kind = republish, args { topic = lost } }]
sources.kafka_consumer.s { connector = spare, parameters { topic = ss, group_id = g } }
rule_engine.rules.e { sql = "SELECT * FROM \"e\"", actions = ["kafka_producer:e"] }
"#,
    ));
    assert_eq!(
        under(&yaml, "# Without an equal:"),
        [
            "actions.kafka_producer.a.fallback_actions: not imported, see what is to be decided",
            "connectors.kafka_producer.third.authentication: a proxy logs in to Kafka once, as the first of its connectors does: `kafka.security`",
            "actions.kafka_producer.b: no imported rule uses it",
            "sources.kafka_consumer.s: no imported rule uses it",
            "connectors.kafka_producer.spare: no imported rule uses it",
        ],
        "{yaml}"
    );
    has(
        &yaml,
        &["# * actions.kafka_producer.a.fallback_actions (`http:alarm`, `republish`): there gets a message that Kafka does not take"],
    );
}

#[test]
fn what_a_rule_lacks_is_told_with_its_filter() {
    let (folder, yaml) = imported(&sends(
        "t/#",
        r#""kafka_producer:a""#,
        r#"
actions.kafka_producer.k { connector = c, parameters { topic = ks, message { key = "${topic}-${qos}", value = "${payload}" } } }
rule_engine.rules.as { sql = "SELECT *, payload as p FROM \"as/#\", \"x\"", actions = ["kafka_producer:a"] }
rule_engine.rules.keyed { sql = "SELECT * FROM \"keyed/#\"", actions = ["kafka_producer:k"] }
rule_engine.rules.shared { sql = "SELECT * FROM \"$share/g/q/#\"", actions = ["kafka_producer:a"] }
"#,
    ));
    has(
        &yaml,
        &[
            "# * rule_engine.rules.as: its SQL: `payload as p` is more than a name (FROM `as/#`, `x`)",
            "# * from `keyed/#` to `actions.kafka_producer.k`: `${topic}` has no equal in a template, unless the filter captures it: `{topic#}`",
            "; `${qos}` has no equal in a template",
            "# * from `$share/g/q/#` to `actions.kafka_producer.a`: rules see what is published",
            "is `q/#` meant?",
        ],
    );
    assert_eq!(yaml.matches("direction: publish").count(), 1, "{yaml}");
    let told = explained(folder.path(), &["q/1", "--payload", "x"]);
    assert!(told["records"].as_array().is_none_or(Vec::is_empty), "{told}");
}
