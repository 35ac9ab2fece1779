//! What a balancer says of its clients, in HAProxy's own bytes: where they come from (PROXY protocol 1 and 2), and whose certificates it
//! has verified if it ends TLS and asks devices for them (version 2 with its TLS fields).

use crate::logins::clients::told_by_paho;
use crate::security::authority::Authority;
use crate::shared_kafka;
use crate::stage::{Proxy, eventually, free_address};
use serde_json::json;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// HAProxy, as long as it is wanted.
struct Haproxy(Child);

impl Haproxy {
    /// With these sections, which listen there.
    fn start(folder: &Path, sections: &str, addresses: &[SocketAddr]) -> Self {
        let path = folder.join("haproxy.cfg");
        let defaults = "defaults\n    mode tcp\n    timeout connect 5s\n    timeout client 1m\n    timeout server 1m\n";
        fs::write(&path, [defaults, sections].concat()).unwrap();
        let child = Command::new("haproxy")
            .args(["-db", "-f"])
            .arg(&path)
            .stdin(Stdio::null())
            .spawn()
            .expect("haproxy can be run (make test installs it)");
        let haproxy = Self(child);
        for address in addresses {
            eventually("HAProxy listens", || TcpStream::connect(address).ok());
        }
        haproxy
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One in front of one listener that ends TLS and asks devices for certificates.
struct Terminator {
    _haproxy: Haproxy,
    address: SocketAddr,
}

impl Terminator {
    fn start(folder: &Path, authority: &Authority, behind: SocketAddr) -> Self {
        let address = free_address();
        let (pair, ca) = (authority.file("server.store"), authority.file("ca.pem"));
        let sections = format!(
            "frontend mqtts\n    bind {address} ssl crt {pair} ca-file {ca} verify optional\n    default_backend instances\n\
             backend instances\n    server a {behind} send-proxy-v2-ssl-cn\n"
        );
        Self {
            _haproxy: Haproxy::start(folder, &sections, &[address]),
            address,
        }
    }

    /// Publishes by mosquitto with the certificate of that name, if it has one. Whether it was let in.
    fn publishes(&self, authority: &Authority, device: Option<&str>) -> bool {
        let mut mosquitto = Command::new("mosquitto_pub");
        mosquitto
            .args(["-h", "127.0.0.1", "-p", &self.address.port().to_string()])
            .args(["--cafile", &authority.file("ca.pem"), "-i", "behind-haproxy"])
            .args(["-q", "1", "-t", "verified/a", "-m", device.unwrap_or("nobody")]);
        if let Some(name) = device {
            let [certificate, key] = ["pem", "key"].map(|kind| authority.file(&format!("{name}.{kind}")));
            mosquitto.args(["--cert", &certificate, "--key", &key]);
        }
        let output = mosquitto.output().expect("mosquitto_pub can be run (make test installs it)");
        output.status.success()
    }
}

#[test]
fn who_a_balancer_has_verified_is_let_in_by_the_common_name() {
    let kafka = shared_kafka();
    kafka.topic("verified", 1);
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "devices");
    authority.issue("server", &["localhost", "127.0.0.1"]);
    ["vin7", "vin8"].iter().for_each(|device| authority.issue(device, &[]));
    let rules = "  - {name: verified, direction: publish, mqtt: \"verified/#\", kafka: {topic: verified, key: \"{identity}\"}}\n\
                 authentication: [{method: certificate}]";
    let proxy = Proxy::start_edited(&kafka.bootstrap, rules, |text| {
        let plain = "protocol: mqtt}";
        assert!(text.contains(plain));
        let told = "protocol: mqtt, proxy_protocol: true, proxy_from: [\"127.0.0.1\"], proxy_identity: true}";
        text.replacen(plain, told, 1)
    });
    let haproxy = Terminator::start(folder.path(), &authority, proxy.mqtt);
    assert!(haproxy.publishes(&authority, Some("vin7")));
    assert!(!haproxy.publishes(&authority, None), "it shows no certificate");
    assert!(haproxy.publishes(&authority, Some("vin8")));
    assert_eq!(kafka.consume("verified", "%k %s"), ["vin7 vin7", "vin8 vin8"]);
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
    let _haproxy = Haproxy::start(folder.path(), &sections, &addresses);
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
