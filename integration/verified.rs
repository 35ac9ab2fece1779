//! What a balancer says of its clients, in HAProxy's own bytes: where they come from (PROXY protocol 1 and 2), and whose certificates it
//! has verified if it ends TLS and asks devices for them (version 2 with its TLS fields); also where it has not.

use crate::haproxy::Haproxy;
use crate::logins::clients::told_by_paho;
use crate::security::authority::Authority;
use crate::shared_kafka;
use crate::stage::{Proxy, free_address};
use serde_json::json;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

/// HAProxy with these sections in a folder, which listen there.
fn haproxy(folder: &Path, sections: &str, addresses: &[SocketAddr]) -> Haproxy {
    let defaults = "defaults\n    mode tcp\n    timeout connect 5s\n    timeout client 1m\n    timeout server 1m\n";
    Haproxy::start(&folder.join("haproxy.cfg"), &[defaults, sections].concat(), addresses)
}

/// What a balancer makes of the certificate that a device shows.
#[derive(Clone, Copy, Debug)]
enum Door {
    /// It is asked for, and has to be good if it comes.
    Strict,
    /// It is asked for, and whatever is wrong with it is handed on.
    Lenient,
    /// It is not asked for.
    Careless,
}
use Door::{Careless, Lenient, Strict};

const DOORS: [Door; 3] = [Strict, Lenient, Careless];

impl Door {
    fn bind(self, ca: &str) -> String {
        match self {
            Strict => format!("ca-file {ca} verify optional"),
            Lenient => format!("ca-file {ca} verify optional ca-ignore-err all crt-ignore-err all"),
            Careless => "verify none".to_owned(),
        }
    }
}

/// A device: its name, whose its certificate is if it has one, and its name in that.
type Device<'a> = (&'a str, Option<(&'a Authority, &'a str)>);

/// One in front of one listener that ends TLS, with all doors.
struct Terminator<'a> {
    _haproxy: Haproxy,
    authority: &'a Authority,
    addresses: [SocketAddr; 3],
}

impl<'a> Terminator<'a> {
    fn start(folder: &Path, authority: &'a Authority, behind: SocketAddr) -> Self {
        let addresses = DOORS.map(|_| free_address());
        let (pair, ca) = (authority.file("server.store"), authority.file("ca.pem"));
        let mut sections = format!("backend instances\n    server a {behind} send-proxy-v2-ssl-cn\n");
        for (door, address) in DOORS.iter().zip(addresses) {
            let asking = door.bind(&ca);
            sections += &format!("frontend {door:?}\n    bind {address} ssl crt {pair} {asking}\n    default_backend instances\n");
        }
        Self {
            _haproxy: haproxy(folder, &sections, &addresses),
            authority,
            addresses,
        }
    }

    /// Publishes by mosquitto as "device door", which is its client id, too. Whether it was acknowledged.
    fn publishes(&self, door: Door, (name, certificate): Device<'_>, topic: &str) -> bool {
        let (value, address) = (format!("{name} {door:?}"), self.addresses[door as usize]);
        let mut mosquitto = Command::new("mosquitto_pub");
        mosquitto
            .args(["-h", "127.0.0.1", "-p", &address.port().to_string()])
            .args(["--cafile", &self.authority.file("ca.pem"), "-i", &value])
            .args(["-V", "mqttv311", "-q", "1", "-t", topic, "-m", &value]);
        if let Some((authority, name)) = certificate {
            let [certificate, key] = ["pem", "key"].map(|kind| authority.file(&format!("{name}.{kind}")));
            mosquitto.args(["--cert", &certificate, "--key", &key]);
        }
        let output = mosquitto.output().expect("mosquitto_pub can be run (make test installs it)");
        output.status.success()
    }
}

/// A rule that stores what comes as a device's, and a proxy whose plain listener is told by a balancer who that is.
fn told_proxy(bootstrap: &str, topic: &str, more: &str) -> Proxy {
    let rules =
        format!("  - {{name: {topic}, direction: publish, mqtt: \"{topic}/#\", kafka: {{topic: {topic}, key: \"{{identity}}\"}}}}\n{more}");
    Proxy::start_edited(bootstrap, &rules, |text| {
        let plain = "protocol: mqtt}";
        assert!(text.contains(plain));
        let told = "protocol: mqtt, proxy_protocol: true, proxy_from: [\"127.0.0.1\"], proxy_identity: true}";
        text.replacen(plain, told, 1)
    })
}

/// An authority that has issued a server's certificate, and those of devices.
fn devices(folder: &Path) -> Authority {
    let authority = Authority::new(folder, "devices");
    authority.issue("server", &["localhost", "127.0.0.1"]);
    ["vin7", "vin8"].iter().for_each(|device| authority.issue(device, &[]));
    authority
}

/// Another one, whose devices have the same names.
fn strangers(folder: &Path) -> Authority {
    let authority = Authority::new(folder, "strangers");
    authority.issue("vin7", &[]);
    authority
}

#[test]
fn who_a_balancer_has_verified_is_let_in_by_the_common_name() {
    let kafka = shared_kafka();
    kafka.topic("verified", 1);
    let folder = tempfile::tempdir().unwrap();
    let authority = devices(folder.path());
    let proxy = told_proxy(&kafka.bootstrap, "verified", "authentication: [{method: certificate}]");
    let haproxy = Terminator::start(folder.path(), &authority, proxy.mqtt);
    let publishes = |device| haproxy.publishes(Strict, device, "verified/a");
    assert!(publishes(("vin7", Some((&authority, "vin7")))));
    assert!(!publishes(("nobody", None)), "it shows no certificate");
    assert!(publishes(("vin8", Some((&authority, "vin8")))));
    assert_eq!(kafka.consume("verified", "%k %s"), ["vin7 vin7 Strict", "vin8 vin8 Strict"]);
}

/// The balancer hands on a certificate that it has not found good, with the name in it.
#[test]
fn a_name_that_a_balancer_has_not_verified_lets_nobody_in() {
    let kafka = shared_kafka();
    kafka.topic("unverified", 1);
    let folder = tempfile::tempdir().unwrap();
    let (authority, foreign) = (devices(folder.path()), strangers(folder.path()));
    authority.issue_until("vin9", &[], 2021);
    let proxy = told_proxy(&kafka.bootstrap, "unverified", "authentication: [{method: certificate}]");
    let haproxy = Terminator::start(folder.path(), &authority, proxy.mqtt);
    let vin7 = ("vin7", Some((&authority, "vin7")));
    let publishes = |door, device| haproxy.publishes(door, device, "unverified/a");
    assert!(publishes(Strict, vin7));
    let refused = [
        ("foreign", Some((&foreign, "vin7"))),
        ("expired", Some((&authority, "vin9"))),
        ("nobody", None),
    ];
    for device in refused {
        for door in [Lenient, Careless] {
            assert!(!publishes(door, device), "{} {door:?}", device.0);
        }
    }
    assert!(!publishes(Careless, vin7), "nobody has looked at its certificate");
    assert!(publishes(Lenient, vin7), "what is wrong with others is not with it");
    assert_eq!(kafka.consume("unverified", "%k %s"), ["vin7 vin7 Strict", "vin7 vin7 Lenient"]);
    // Who was refused has come through the balancer, and all the way to its CONNECT.
    let log = proxy.log();
    for client in [
        "foreign Lenient",
        "expired Lenient",
        "nobody Lenient",
        "foreign Careless",
        "vin7 Careless",
    ] {
        let whom = format!("client=\"{client}\" identity=\"\"");
        let mut refused = log.lines().filter(|line| line.contains("event=\"login_refused\""));
        assert!(refused.any(|line| line.contains(&whom)), "no {whom} in {log}");
    }
}

/// Where `anonymous` lets in who shows nothing, such a certificate is nothing.
#[test]
fn who_comes_with_a_name_that_was_not_verified_is_nobody() {
    let kafka = shared_kafka();
    ["somebodys", "anybodys"].iter().for_each(|topic| kafka.topic(topic, 1));
    let folder = tempfile::tempdir().unwrap();
    let (authority, foreign) = (devices(folder.path()), strangers(folder.path()));
    let more = "  - {name: anybodys, direction: publish, mqtt: \"anybodys/#\", kafka: {topic: anybodys, key: \"{client}\"}}\n\
                authentication: [{method: certificate}, {method: anonymous}]";
    let proxy = told_proxy(&kafka.bootstrap, "somebodys", more);
    let haproxy = Terminator::start(folder.path(), &authority, proxy.mqtt);
    let stranger = ("foreign", Some((&foreign, "vin7")));
    for door in [Lenient, Careless] {
        assert!(haproxy.publishes(door, stranger, "anybodys/a"), "{door:?}: it is let in");
        assert!(!haproxy.publishes(door, stranger, "somebodys/a"), "{door:?}: as vin7");
    }
    assert!(haproxy.publishes(Lenient, ("vin7", Some((&authority, "vin7"))), "somebodys/a"));
    assert_eq!(kafka.consume("somebodys", "%k %s"), ["vin7 vin7 Lenient"]);
    let let_in = ["foreign Lenient", "foreign Careless"].map(|client| format!("{client}|{client}"));
    assert_eq!(kafka.consume("anybodys", "%k|%s"), let_in);
}

#[test]
fn where_a_client_comes_from_is_what_a_balancer_says_in_either_version() {
    let kafka = shared_kafka();
    kafka.topic("addresses", 1);
    let folder = tempfile::tempdir().unwrap();
    let rules = "  - {name: addresses, direction: publish, mqtt: \"addresses/{which}\", kafka: {topic: addresses, key: \"{which}\"}}\n\
                 authentication: [{method: anonymous}]\n\
                 authorization: [{allow: [publish], topics: [\"addresses/right\"]}]";
    let proxy = Proxy::start_edited(&kafka.bootstrap, rules, |mut text| {
        for plain in ["protocol: mqtt}", "protocol: ws}"] {
            assert!(text.contains(plain));
            let told = plain.replace('}', ", proxy_protocol: true, proxy_from: [\"127.0.0.1\"]}");
            text = text.replacen(plain, &told, 1);
        }
        text
    });
    let (mut sections, mut doors) = (String::new(), vec![]);
    for (transport, behind) in [("tcp", proxy.mqtt), ("websockets", proxy.ws)] {
        for form in ["send-proxy", "send-proxy-v2"] {
            let (name, address) = (format!("{transport}-{form}"), free_address());
            sections += &format!("listen {name}\n    bind {address}\n    server a {behind} {form}\n");
            doors.push((name, transport, address));
        }
    }
    let addresses: Vec<_> = doors.iter().map(|(.., address)| *address).collect();
    let _haproxy = haproxy(folder.path(), &sections, &addresses);
    // Each from an address of its own, none of which is HAProxy's.
    let logins = (1..).zip(&doors).flat_map(|(number, (name, transport, address))| {
        ["right", "wrong"].map(|which| {
            json!({
                "port": address.port(), "version": 5, "client_id": name, "topic": format!("addresses/{which}"),
                "value": name, "transport": transport, "source": format!("127.0.9.{number}"),
            })
        })
    });
    let told = told_by_paho(&logins.collect::<Vec<_>>());
    assert_eq!(told, ["in", "puback 135"].repeat(doors.len()));
    let let_in: Vec<_> = doors.iter().map(|(name, ..)| format!("right {name}")).collect();
    assert_eq!(kafka.consume("addresses", "%k %s"), let_in);
    let log = proxy.log();
    for (number, (name, ..)) in (1..).zip(&doors) {
        let whom = format!("client=\"{name}\" identity=\"\" address=\"127.0.9.{number}:");
        let mut refused = log.lines().filter(|line| line.contains("event=\"publish_refused\""));
        assert!(refused.any(|line| line.contains(&whom)), "no {whom} in {log}");
    }
}
