//! `kafka-mqtt.properties` of the Confluent MQTT Proxy. It wrote each message to the Kafka topic of the first expression that matched its MQTT
//! topic: that as the key, the payload as the value. It delivered nothing, and took every SUBSCRIBE.

mod producer;
mod rules;
mod sasl;
mod security;
mod stores;

use std::fmt::Write;

use super::{
    Source,
    jaas::Login,
    properties::{Properties, Property, restored},
    yaml::{comment, text, told},
};

/// The entry of a JAAS file for MQTT clients.
const LOGIN_OF_CLIENTS: &str = "ConfluentKafkaMqtt";
/// The entry for Kafka.
const LOGIN_OF_KAFKA: &str = "KafkaClient";
/// What its packets have beside what it counted: type and length (§2.1 of MQTT).
const FIXED_HEADER: u64 = 5;

/// What was read, and what is to be said of it.
struct Import {
    properties: Properties,
    /// JAAS files.
    logins: Vec<Source>,
    /// What is to be done by hand, or is good to know.
    notes: Vec<String>,
    /// What would have to be decided.
    open: Vec<String>,
}

impl Import {
    fn take(&mut self, key: &str) -> Option<Property> {
        self.properties.take(key)
    }

    /// A setting of the client of Kafka: with `producer.` in front, or without.
    fn take_of_kafka(&mut self, key: &str) -> Option<Property> {
        let own = format!("producer.{key}");
        self.properties.take_first(&[&own, key])
    }

    /// The same of one that means something also without a value.
    fn take_even_empty_of_kafka(&mut self, key: &str) -> Option<Property> {
        let own = self.properties.take_even_empty(&format!("producer.{key}"));
        own.or_else(|| self.properties.take_even_empty(key))
    }

    fn login(&self, section: &str) -> Option<Login> {
        self.logins.iter().find_map(|file| Login::of_section(&file.text, section))
    }

    fn number(&mut self, property: Option<Property>) -> Option<(u64, Property)> {
        let property = property?;
        match property.value.parse() {
            Ok(number) => Some((number, property)),
            Err(_) => {
                self.open.push(format!("{}: {} is no number", property.place(), property.key));
                None
            }
        }
    }
}

/// Writes `proxy.yaml` of properties files, and of JAAS files if there are any.
///
/// # Errors
/// A file cannot be read as what it is, or says nothing that rules could be made of; in words.
pub fn confluent(sources: &[Source]) -> Result<String, String> {
    written(sources).map(|yaml| restored(&yaml)).map_err(|why| restored(&why))
}

/// The same, with what Compose would fill in still marked.
fn written(sources: &[Source]) -> Result<String, String> {
    let mut import = Import {
        properties: Properties::default(),
        logins: Vec::new(),
        notes: Vec::new(),
        open: Vec::new(),
    };
    for source in sources {
        if is_jaas(&source.text) {
            import.logins.push(source.clone());
        } else {
            import.properties.read(source)?;
        }
    }
    import.notes = import.properties.filled();
    import.open = import.properties.open();
    let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
    let of_files = |why| format!("{}: {why}", names.join(", "));
    let rules = rules::rules(&mut import).map_err(of_files)?;
    let listeners = security::listeners(&mut import).map_err(of_files)?;
    let limits = limits(&mut import);
    let kafka = kafka(&mut import).map_err(of_files)?;
    let mut out = comment(&format!("Made by `mqtt-kafka-proxy import confluent {}`.", names.join(" ")));
    told(&mut out, "To be decided:", &import.open);
    told(&mut out, "To be done, or to be known:", &import.notes);
    told(&mut out, "Without an equal:", &import.properties.left(why));
    write!(out, "\n{listeners}\n{limits}{kafka}\n{rules}").expect("a String takes all");
    Ok(out)
}

/// Whether a file holds login entries: `NAME {`. A function of a script has more than its name there.
fn is_jaas(text: &str) -> bool {
    let mut lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with(['#', '/']));
    let name = lines.next().and_then(|first| first.strip_suffix('{'));
    name.is_some_and(|name| !name.trim_end().contains(|c: char| matches!(c, '=' | '(') || c.is_whitespace()))
}

fn limits(import: &mut Import) -> String {
    let largest = import.take("mqtt.message.max.bytes");
    match import.number(largest) {
        Some((bytes, _)) => format!("limits: {{packet_size: {}B}}\n\n", (bytes + FIXED_HEADER).clamp(128, 256 << 20)),
        None => {
            import
                .notes
                .push("packets may have 1 MiB; there they had 8092 bytes unless `mqtt.message.max.bytes` said so".to_owned());
            String::new()
        }
    }
}

fn kafka(import: &mut Import) -> Result<String, String> {
    let servers = import.properties.take_first(&["producer.bootstrap.servers", "bootstrap.servers"]);
    let servers = servers.ok_or("there is no `bootstrap.servers`; give the `kafka-mqtt.properties` that has it, too")?;
    let mut addresses: Vec<String> = Vec::new();
    let mut prefixes: Vec<&str> = Vec::new();
    for server in servers.value.split(',').map(str::trim).filter(|one| !one.is_empty()) {
        let (prefix, address) = security::parted(server);
        prefixes.extend(prefix);
        addresses.push(text(address));
    }
    let mut out = format!("kafka:\n  bootstrap_servers: [{}]\n", addresses.join(", "));
    out.push_str(&security::kafka(import, &prefixes));
    out.push_str(&producer::producer(import));
    Ok(out)
}

/// Why a setting that nothing has asked for has no equal.
fn why(key: &str) -> &'static str {
    let key = key.strip_prefix("producer.").unwrap_or(key);
    match key {
        "license" | "confluent.topic" => "no licence is needed",
        _ if key.starts_with("confluent.topic.") || key.starts_with("confluent.license") || key.contains("license.topic") => {
            "no licence is needed"
        }
        "network.threads.num" | "stream.threads.num" | "streams.threads.num" => "there is a thread for each core",
        "network.epoll.enabled" => "epoll is what is used",
        "enable.idempotence" => "the producer is idempotent, unless a rule says `acks: leader` or `none`",
        "retries" | "retry.backoff.ms" | "retry.backoff.max.ms" | "reconnect.backoff.ms" | "reconnect.backoff.max.ms" => {
            "what may be tried again is, until `delivery_timeout`"
        }
        "bootstrap.servers" => "what the producer says of its own counts",
        "request.timeout.ms" | "max.block.ms" => {
            "what is late is tried again until `delivery_timeout`; a socket is not read while there is no memory"
        }
        "metadata.max.age.ms" | "connections.max.idle.ms" | "send.buffer.bytes" | "receive.buffer.bytes" | "client.dns.lookup" => {
            "the client of Kafka sees to it itself"
        }
        "max.in.flight.requests.per.connection" => "the order is kept, however many are on their way",
        "max.request.size" => "what is too large the broker says, and the device is told",
        "key.serializer" | "value.serializer" => "key and value are the bytes of topic and payload",
        "partitioner.availability.timeout.ms" | "partitioner.adaptive.partitioning.enable" => "it is of partitions without a key",
        "listeners.ssl.endpoint.identification.algorithm" => {
            "nothing is compared with the names in clients' certificates but what `authentication` says"
        }
        _ if key.starts_with("sasl.login.") || key.starts_with("sasl.oauthbearer.") => {
            "the proxy sees to its login itself, and renews tokens in time"
        }
        "key.deserializer" | "value.deserializer" | "group.id" => "it is of consumers: these rules read nothing of Kafka",
        "interceptor.classes" => "there are no interceptors: metrics are at `/metrics` of `admin`",
        _ if key.starts_with("confluent.monitoring.interceptor.") => "there are no interceptors: metrics are at `/metrics` of `admin`",
        "client.id" => "the client's name is the proxy's",
        _ if key.starts_with("metric") || key.starts_with("confluent.metrics.") => {
            "metrics are Prometheus', at `/metrics` of `admin`: see docs/metrics.md"
        }
        _ if key.contains("ssl.") => "TLS is 1.2 and 1.3, with the cipher suites of rustls",
        _ => "not known",
    }
}
