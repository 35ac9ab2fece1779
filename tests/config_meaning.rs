//! Files without a fault: what is written is what is meant, and `proxy.yaml` of the project is one of them.

// clippy.toml allows it in test functions; the functions they share are not seen as such.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mqtt_kafka_proxy::config::{self, Config, LoadError};
use mqtt_kafka_proxy::downstream::{
    Address, ClientAuth, ListenerLimits, Protocol, ProxySettings, TicketKeys, TlsSettings, WebSocketSettings,
};
use mqtt_kafka_proxy::kafka::{Acks, Compression};
use mqtt_kafka_proxy::mapping::{Acknowledge, Direction, OnError, Overflow, PartitionSpec, Tombstones, Unmapped};
use mqtt_kafka_proxy::mqtt::QoS;
use mqtt_kafka_proxy::relay::{SharedKind, StateTopics};
use mqtt_kafka_proxy::session::Expiry;
use mqtt_kafka_proxy::upstream::{Isolation, StateTopic};

fn environment(name: &str) -> Option<String> {
    let value = match name {
        "SERVERS" => "a:1, b:2,[::1]:3",
        "TICKETS" => "bmV3ZXI= b2xkZXI=",
        "PATH_OF_TICKETS" => "file:tickets",
        _ => return None,
    };
    Some(value.to_owned())
}

#[track_caller]
fn parse(text: &str) -> Config {
    config::parse(text, Path::new("/etc/proxy"), &environment).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn all_that_is_written_is_meant() {
    let config = parse(
        r#"
listeners:
  - {name: tcp, address: "0.0.0.0:1883", protocol: mqtt, authentication: none}
  - name: tls
    address: "[::]:8883"
    protocol: mqtts
    authentication: [{method: certificate}]
    tls: {certificate: server.pem, key: /keys/server.key, client_ca: ../ca.pem, client_auth: required,
      client_crl: ca.crl, ticket_keys: "file:tickets", more: [{certificate: b.pem, key: b.key}]}
limits: {connections: 7, connect_rate: 8/s, packet_size: 9KiB, connect_timeout: 2s, receive_maximum: 10, keep_alive: {max: 1h}}
kafka:
  bootstrap_servers: ["${SERVERS}", "${GONE:-kafka:9092}"]
  security: {protocol: plaintext}
  producer: {linger: 0ms, batch_size: 64KiB, compression: {codec: zstd, level: 19}, memory: 2MiB, delivery_timeout: 1m, qos2_connections: 3}
  consumer: {max_wait: 100ms, fetch_size: 3MiB, isolation: read_uncommitted, rack: eu-1a, sweeps: 2, cache: 48MiB}
  topics: {sessions: s, retained: r, create: false, partitions: 8, replication: 2}
rules:
  - name: telemetry
    direction: publish
    mqtt: "v/{vin}"
    acknowledge: on-receipt
    overflow: drop
    retain: deny
    on_error: {dead_letter: d}
    kafka: {topic: t, key: "{vin}", partition: 3, headers: {a: "{vin}", b: c}, timestamp: receipt, acks: leader, compression: gzip, client_header: false}
  - {name: commands, direction: subscribe, mqtt: "c/{key}", qos: 1, kafka: {topic: c, tombstones: deliver}}
unmapped: drop
payload_format_check: true
sessions: {expiry: {default: 5m, max: 1d}, takeover: local, instance_timeout: 7s, damaged: fresh, shared: share-group, group_prefix: "floor-"}
retained: {memory: 2MiB}
admin: {address: "127.0.0.1:9090", hosts: [metrics.example.org]}
"#,
    );
    let [tcp, tls] = config.listeners.as_slice() else {
        panic!("{:?}", config.listeners)
    };
    assert_eq!(
        (tcp.name.as_str(), &tcp.address, &tcp.protocol),
        ("tcp", &address("0.0.0.0:1883").into(), &Protocol::Mqtt)
    );
    let files = TlsSettings {
        certificate: PathBuf::from("/etc/proxy/server.pem"),
        key: PathBuf::from("/keys/server.key"),
        client_ca: Some(PathBuf::from("/etc/proxy/../ca.pem")),
        client_auth: ClientAuth::Required,
        more: vec![(PathBuf::from("/etc/proxy/b.pem"), PathBuf::from("/etc/proxy/b.key"))],
        client_crl: Some(PathBuf::from("/etc/proxy/ca.crl")),
        ticket_keys: Some(TicketKeys::File(PathBuf::from("/etc/proxy/tickets"))),
    };
    assert_eq!(
        (&tls.address, &tls.protocol),
        (&address("[::]:8883").into(), &Protocol::Mqtts(files))
    );
    assert_eq!((config.limits.connections, config.limits.connect_rate.map(u32::from)), (7, Some(8)));
    assert_eq!(
        (config.limits.connect_timeout, config.session.connect_timeout),
        (Duration::from_secs(2), Duration::from_secs(2))
    );
    assert_eq!((config.session.maximum_packet_size, config.session.receive_maximum), (9216, 10));
    assert_eq!(config.session.keep_alive_max, Some(Duration::from_secs(3600)));
    assert_eq!(config.session.expiry, Some(Expiry { default: 300, max: 86_400 }));
    let store = config.store.as_ref().unwrap();
    assert_eq!((store.topic.as_str(), store.instance_timeout), ("s", Duration::from_secs(7)));
    assert!(store.local_takeover && store.fresh_if_damaged);
    assert_eq!(config.kafka.bootstrap_servers, ["a:1", "b:2", "[::1]:3", "kafka:9092"]);
    let producer = &config.kafka.producer;
    assert_eq!(
        (producer.linger, producer.delivery_timeout, producer.qos2_connections),
        (Duration::ZERO, Duration::from_secs(60), 3)
    );
    assert_eq!(
        (producer.batch_size, producer.memory, producer.compression),
        (65_536, 2_097_152, Compression::Zstd { level: 19 })
    );
    let consumer = &config.kafka.consumer;
    assert_eq!((consumer.max_wait, consumer.fetch_size), (Duration::from_millis(100), 3_145_728));
    assert_eq!(consumer.isolation, Isolation::ReadUncommitted);
    assert_eq!((config.sweeps.per_partition, config.sweeps.memory), (2, 50_331_648));
    assert_eq!(consumer.rack.as_deref(), Some("eu-1a"));
    let topic = |name: &str| StateTopic {
        name: name.to_owned(),
        partitions: 8,
        replication: 2,
        create: false,
    };
    let (sessions, retained) = (topic("s"), topic("r"));
    assert_eq!(config.state_topics, StateTopics { sessions, retained });
    assert_eq!((&*config.group_prefix, config.shared), ("floor-", SharedKind::ShareGroup));
    assert!(config.payload_format_check);
    // No rule that publishes takes retained messages, and CONNACK says so.
    assert_eq!((config.retained_memory, config.session.retain_available), (2 << 20, false));
    assert_eq!((config.rules.len(), config.rules.unmapped()), (2, Unmapped::Drop));
    let [telemetry, commands] = config.rules.iter().map(|(_, rule)| rule).collect::<Vec<_>>()[..] else {
        panic!("two rules")
    };
    assert_eq!(
        (telemetry.direction, telemetry.acknowledge, telemetry.overflow, telemetry.on_error),
        (Direction::Publish, Acknowledge::OnReceipt, Overflow::Drop, OnError::DeadLetter)
    );
    assert_eq!(telemetry.dead_letter.as_deref(), Some("d"));
    assert_eq!((&telemetry.partition, telemetry.client_header), (&PartitionSpec::Number(3), false));
    assert_eq!(
        (commands.direction, commands.qos, commands.tombstones),
        (Direction::Subscribe, QoS::AtLeastOnce, Tombstones::Deliver)
    );
    assert_eq!(
        (telemetry.acks, telemetry.compression),
        (Acks::Leader, Some(Compression::Gzip { level: 6 }))
    );
    let admin = config.admin.unwrap();
    assert_eq!(
        (admin.address, &admin.hosts[..]),
        (address("127.0.0.1:9090"), &["metrics.example.org".to_owned()][..])
    );
}

#[test]
fn aliases_stand_for_what_they_name() {
    let config = parse(
        r#"
listeners: [{name: tcp, address: "0.0.0.0:1883", protocol: mqtt, authentication: none}]
kafka: {bootstrap_servers: ["a:1"]}
rules:
  - {name: a, mqtt: a, kafka: &k {topic: t}}
  - {name: b, mqtt: b, kafka: *k}
"#,
    );
    assert_eq!(config.rules.len(), 2);
    assert_eq!(config.admin, None);
    let retained = StateTopic {
        name: "mqtt-retained".to_owned(),
        partitions: 16,
        replication: 3,
        create: true,
    };
    assert_eq!(config.state_topics.retained, retained);
    assert_eq!((config.retained_memory, config.session.retain_available), (256 << 20, true));
}

#[test]
fn all_addresses_are_those_of_ipv6_only_where_one_of_ipv4_is_named_too() {
    let config = parse(
        r#"
listeners:
  - {name: a, address: "[::]:1883", protocol: mqtt}
  - {name: b, address: "0.0.0.0:1883", protocol: mqtt}
  - {name: c, address: "[::]:1884", protocol: mqtt}
  - {name: d, address: "[::]:9090", protocol: mqtt}
  - {name: e, address: "[::]:0", protocol: mqtt}
  - {name: f, address: "0.0.0.0:0", protocol: mqtt}
  - {name: g, address: "127.0.0.1:1885", protocol: mqtt}
  - {name: h, address: "[::]:1885", protocol: mqtt}
  - {name: i, address: "[::1]:1883", protocol: mqtt}
  - {name: j, address: "[::1]:1884", protocol: mqtt}
admin: {address: "192.0.2.1:9090"}
kafka: {bootstrap_servers: ["a:1"]}
rules: [{name: a, mqtt: a, kafka: {topic: t}}]
authentication: none
"#,
    );
    let found: Vec<&Address> = config.listeners.iter().map(|listener| &listener.address).collect();
    let all = |text: &str| Address::Ip(text.parse().unwrap());
    let only = |text: &str| Address::OnlyIpv6(text.parse().unwrap());
    let expected = [
        only("[::]:1883"),
        all("0.0.0.0:1883"),
        all("[::]:1884"),
        only("[::]:9090"),
        all("[::]:0"),
        all("0.0.0.0:0"),
        all("127.0.0.1:1885"),
        only("[::]:1885"),
        all("[::1]:1883"),
        all("[::1]:1884"),
    ];
    assert_eq!(found, expected.iter().collect::<Vec<_>>());
}

#[test]
fn the_admin_listener_is_of_ipv6_only_where_a_listener_has_an_address_of_ipv4() {
    for (listener, only_ipv6) in [
        ("127.0.0.1:9090", true),
        ("0.0.0.0:9090", true),
        ("0.0.0.0:1883", false),
        ("[::1]:9090", false),
    ] {
        let config = parse(&format!(
            r#"
listeners: [{{name: a, address: "{listener}", protocol: mqtt}}]
admin: {{address: "[::]:9090"}}
kafka: {{bootstrap_servers: ["a:1"]}}
rules: [{{name: a, mqtt: a, kafka: {{topic: t}}}}]
authentication: none
"#
        ));
        assert_eq!(config.admin.unwrap().only_ipv6, only_ipv6, "{listener}");
    }
}

#[test]
fn listeners_of_every_kind() {
    let config = parse(
        r#"
listeners:
  - {name: a, address: "unix:run/mqtt.sock", protocol: mqtt}
  - {name: b, address: "systemd:0", protocol: ws}
  - {name: c, address: "[::1]:80", protocol: ws, path: "*", frame_size: 64KiB,
     origins: ["https://app.example.org", "HTTP://LocalHost:8080"]}
  - {name: d, address: "[::1]:81", protocol: mqtt, proxy_protocol: true, proxy_from: ["10.1.0.0/16", "::1"], proxy_identity: true,
     limits: {connections: 5, connect_rate: 6/s}}
limits: {connections_per_address: 7, connect_packet_size: 1KiB, topic_length: 200B, topic_levels: 9, subscriptions: 11,
  message_rate: 12/s, byte_rate: 13KiB, packet_timeout: 14s, send_timeout: 15s}
kafka: {bootstrap_servers: ["a:1"]}
rules: [{name: a, mqtt: a, kafka: {topic: t}}]
authentication: none
"#,
    );
    let [a, b, c, d] = config.listeners.as_slice() else {
        panic!("{:?}", config.listeners)
    };
    assert_eq!(a.address, Address::Unix(PathBuf::from("/etc/proxy/run/mqtt.sock")));
    assert_eq!(b.address, Address::Inherited(0));
    let mqtt = WebSocketSettings {
        path: Some("/mqtt".to_owned()),
        frame_size: 16 << 20,
        origins: None,
    };
    assert_eq!(b.protocol, Protocol::Ws(mqtt));
    let any = WebSocketSettings {
        path: None,
        frame_size: 64 << 10,
        origins: Some(vec!["https://app.example.org".to_owned(), "http://localhost:8080".to_owned()]),
    };
    assert_eq!(c.protocol, Protocol::Ws(any));
    assert_eq!((&c.proxy, c.limits), (&None, ListenerLimits::default()));
    let proxy = ProxySettings {
        from: vec!["10.1.0.0/16".parse().unwrap(), "::1/128".parse().unwrap()],
        identity: true,
    };
    assert_eq!(d.proxy, Some(proxy));
    assert_eq!((d.limits.connections, d.limits.connect_rate.map(u32::from)), (Some(5), Some(6)));
    assert_eq!(config.limits.connections_per_address, Some(7));
    let session = config.session;
    assert_eq!(
        (session.connect_packet_size, session.topic_length, session.topic_levels),
        (1024, 200, 9)
    );
    assert_eq!(
        (session.subscriptions_maximum, session.packet_timeout, session.send_timeout),
        (11, Duration::from_secs(14), Duration::from_secs(15))
    );
    let rate = (config.rate.messages.map(u32::from), config.rate.bytes.map(u32::from));
    assert_eq!(rate, (Some(12), Some(13_312)));
}

/// Keys stand in a file or in a variable, and what a variable holds is never taken as a path.
#[test]
fn keys_of_tickets_are_of_a_file_or_of_the_environment() {
    let file = |path: &str| TicketKeys::File(PathBuf::from(path));
    let text = |keys: &str| TicketKeys::Text(keys.to_owned().into());
    for (written, meant) in [
        ("file:tickets", file("/etc/proxy/tickets")),
        ("file:/run/${GONE:-tickets}", file("/run/tickets")),
        ("${TICKETS}", text("bmV3ZXI= b2xkZXI=")),
        ("${GONE:-bmV3ZXI=} ${TICKETS}", text("bmV3ZXI= bmV3ZXI= b2xkZXI=")),
        ("${PATH_OF_TICKETS}", text("file:tickets")),
    ] {
        let config = parse(&format!(
            r#"
listeners: [{{name: a, address: "0.0.0.0:8883", protocol: mqtts, tls: {{certificate: a.pem, key: a.key, ticket_keys: "{written}"}}}}]
kafka: {{bootstrap_servers: ["a:1"]}}
rules: [{{name: a, mqtt: a, kafka: {{topic: t}}}}]
authentication: none
"#
        ));
        let Protocol::Mqtts(tls) = &config.listeners[0].protocol else {
            panic!("{:?}", config.listeners)
        };
        // Compared where a failure shows no key.
        assert!(tls.ticket_keys == Some(meant), "{written}: {tls:?}");
        assert!(!format!("{config:?}").contains("bmV3ZXI="), "{written}");
    }
}

#[test]
fn the_projects_own_file_is_good() {
    let config = config::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("proxy.yaml")).unwrap_or_else(|e| panic!("{e}"));
    let listeners = config.listeners.iter().map(|l| format!("{} {}", l.protocol.as_str(), l.address));
    let listeners: Vec<String> = listeners.collect();
    assert_eq!(
        listeners,
        [
            "mqtt 0.0.0.0:1883",
            "mqtts 0.0.0.0:8883",
            "ws 0.0.0.0:8083",
            "wss 0.0.0.0:8084",
            "mqtt 127.0.0.1:1884"
        ]
    );
    let names: Vec<&str> = config.rules.iter().map(|(_, rule)| rule.name.as_str()).collect();
    assert_eq!(names, ["telemetry", "alarms", "lines", "commands", "plants"]);
}

/// The examples of `kafka.security` in the project's file, as somebody uses them who puts a space instead of each `#`.
#[test]
fn what_the_projects_own_file_shows_in_comments_is_good() {
    let text = include_str!("../proxy.yaml");
    let (before, rest) = text.split_once("# security:\n").unwrap();
    let (security, rest) = rest.split_once("#   sasl:\n").unwrap();
    let (password, rest) = rest.split_once("#   sasl:").unwrap();
    let (_, rest) = rest.split_once('\n').unwrap();
    let (token, rest) = rest.split_once("# Certificates, keys").unwrap();
    let before = before
        .lines()
        .filter(|line| !line.starts_with("  security:"))
        .collect::<Vec<_>>()
        .join("\n");
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("certs")).unwrap();
    let made = rcgen::generate_simple_self_signed(["kafka.example".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    for (file, text) in [("kafka-ca.pem", &certificate), ("proxy.pem", &certificate), ("proxy.key", &key)] {
        std::fs::write(folder.path().join("certs").join(file), text).unwrap();
    }
    for sasl in [password, token] {
        let shown = format!("# security:\n{security}#   sasl:\n{sasl}")
            .replace("\n#", "\n ")
            .replacen('#', " ", 1);
        let text = format!("{before}\n{shown}# Certificates, keys{rest}");
        let secret = |name: &str| {
            ["KAFKA_PASSWORD", "KAFKA_CLIENT_SECRET"]
                .contains(&name)
                .then(|| "secret".to_owned())
        };
        let config = config::parse(&text, folder.path(), &secret).unwrap_or_else(|problems| panic!("{problems:#?}\n{text}"));
        let security = format!("{:?}", config.kafka.security);
        let named = if sasl == password { "proxy" } else { "mqtt-kafka-proxy" };
        assert!(security.contains(named) && security.contains("kafka-ca.pem"), "{security}");
    }
}

#[test]
fn the_example_of_the_readme_is_good() {
    let (_, rest) = include_str!("../README.md").split_once("```yaml\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let config = parse(example);
    assert_eq!((config.listeners.len(), config.rules.len()), (2, 2));
}

#[test]
fn a_file_that_cannot_be_read_is_told_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("gone.yaml");
    assert!(matches!(config::load(&missing), Err(LoadError::Unreadable { path, .. }) if path == missing));
    let large = folder.path().join("large.yaml");
    std::fs::write(&large, vec![b'#'; usize::try_from(config::LARGEST_FILE).unwrap() + 1]).unwrap();
    let told = config::load(&large).unwrap_err().to_string();
    assert!(told.contains("larger than 4 MiB"), "{told}");
    let latin = folder.path().join("latin.yaml");
    std::fs::write(&latin, b"a: 1\nb: caf\xe9\n").unwrap();
    let told = config::load(&latin).unwrap_err().to_string();
    assert!(
        told.ends_with("latin.yaml:2:7: this is not UTF-8; save the file as UTF-8"),
        "{told}"
    );
}

#[test]
fn a_byte_order_mark_and_windows_lines_do_no_harm() {
    let text = "\u{feff}listeners: [{name: tcp, address: \"0.0.0.0:1883\", protocol: mqtt, authentication: none}]\r\nkafka: {bootstrap_servers: [\"a:1\"]}\r\n\
                rules: [{name: a, mqtt: a, kafka: {topic: t}}]\r\n";
    assert_eq!(parse(text).rules.len(), 1);
}

#[test]
fn a_file_that_many_rules_look_into_is_one_table() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("sites.csv"), "vin,site\n42,north\n").unwrap();
    let rule = |name: &str, table: &str| {
        format!("  - {{name: {name}, mqtt: {name}, lookup: {{sites: {table}}}, transform: 'lookup(\"sites\"; .)', kafka: {{topic: t}}}}\n")
    };
    let rules: String = [
        ("a", "sites.csv"),
        ("b", "{file: sites.csv}"),
        ("c", "sites.csv"),
        ("d", "{file: sites.csv, key: site}"),
        ("e", "{file: sites.csv, key: site}"),
    ]
    .iter()
    .map(|(name, table)| rule(name, table))
    .collect();
    let text = format!(
        "listeners: [{{name: tcp, address: \"0.0.0.0:1883\", protocol: mqtt, authentication: none}}]\nkafka: {{bootstrap_servers: [\"a:1\"]}}\nrules:\n{rules}"
    );
    let config = config::parse(&text, folder.path(), &environment).unwrap();
    let tables = config.rules.tables();
    assert_eq!(tables.len(), 2, "one for each key that rows are found by");
    let rows = |key: &str| tables.iter().filter_map(|table| table.row_as_json(key)).count();
    assert_eq!((rows("42"), rows("north")), (1, 1));
}
