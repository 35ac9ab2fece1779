//! A balancer that ends TLS, asks devices for certificates and says whose it has verified (PROXY protocol 2 with its TLS fields): HAProxy's own bytes.

use crate::security::authority::Authority;
use crate::shared_kafka;
use crate::stage::{Proxy, eventually, free_address};
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// HAProxy in front of one listener.
struct Terminator {
    child: Child,
    address: SocketAddr,
}

impl Terminator {
    fn start(folder: &Path, authority: &Authority, behind: SocketAddr) -> Self {
        let address = free_address();
        let (pair, ca) = (authority.file("server.store"), authority.file("ca.pem"));
        let text = format!(
            "defaults\n    mode tcp\n    timeout connect 5s\n    timeout client 1m\n    timeout server 1m\n\
             frontend mqtts\n    bind {address} ssl crt {pair} ca-file {ca} verify optional\n    default_backend instances\n\
             backend instances\n    server a {behind} send-proxy-v2-ssl-cn\n"
        );
        let path = folder.join("haproxy.cfg");
        fs::write(&path, text).unwrap();
        let child = Command::new("haproxy")
            .args(["-db", "-f"])
            .arg(&path)
            .stdin(Stdio::null())
            .spawn()
            .expect("haproxy can be run (make test installs it)");
        eventually("HAProxy listens", || TcpStream::connect(address).ok());
        Self { child, address }
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

impl Drop for Terminator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
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
