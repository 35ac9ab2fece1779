//! The proxy's own certificate changes while devices publish: none of them notices, and who comes next is shown the new one.

use super::authority::Authority;
use crate::publish::rule;
use crate::shared_kafka;
use crate::stage::{Proxy, eventually};
use std::fs;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

const TOPIC: &str = "certified";
const DEVICES: usize = 4;
const CHANGES: usize = 4;
const HOSTS: [&str; 2] = ["localhost", "127.0.0.1"];

/// A mosquitto that publishes one number after the other over one TLS connection.
struct Device {
    mosquitto: Child,
    /// Gives how many it was told to publish.
    tells: JoinHandle<u32>,
    enough: Arc<AtomicBool>,
}

impl Device {
    fn start(proxy: &Proxy, authority: &Authority, number: usize) -> Self {
        let (port, topic) = (proxy.tls.port().to_string(), format!("{TOPIC}/{number}/telemetry/rpm"));
        let mut mosquitto = Command::new("mosquitto_pub")
            .args(["-h", "127.0.0.1", "-p", &port, "--cafile", &authority.file("ca.pem")])
            .args(["-i", &format!("certified-{number}"), "-q", "1", "-t", &topic, "-l"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("mosquitto_pub can be run");
        let mut lines = mosquitto.stdin.take().expect("its input is a pipe");
        let enough = Arc::new(AtomicBool::new(false));
        let until = enough.clone();
        let tells = spawn(move || {
            let mut count = 0;
            while !until.load(Ordering::Relaxed) {
                writeln!(lines, "{count}").expect("mosquitto_pub goes on");
                count += 1;
                // The load: some hundred messages a second of each.
                sleep(Duration::from_millis(2));
            }
            count
        });
        Self { mosquitto, tells, enough }
    }

    /// Once all that it was told is acknowledged: how many that were.
    fn end(mut self) -> u32 {
        self.enough.store(true, Ordering::Relaxed);
        let count = self.tells.join().expect("mosquitto_pub took all");
        let status = self.mosquitto.wait().expect("a child can be waited for");
        assert!(status.success(), "mosquitto_pub: {status}");
        count
    }
}

/// The certificate that a client is shown which trusts the authority; each handshake must come about.
fn shown(proxy: &Proxy, authority: &Authority) -> String {
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &proxy.tls.to_string(), "-verify_return_error", "-CAfile"])
        .arg(authority.file("ca.pem"))
        .stdin(Stdio::null())
        .output()
        .expect("openssl can be run");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let (begin, end) = ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----");
    let from = said.find(begin).expect("it shows the certificate");
    said[from..].split_inclusive(end).next().expect("there is a first").to_owned()
}

#[test]
fn a_certificate_changes_while_devices_publish_and_nobody_is_thrown_out_or_turned_away() {
    let kafka = shared_kafka();
    kafka.topic(TOPIC, 2);
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "devices");
    authority.issue("server", &HOSTS);
    let pair = ["server.pem", "server.key"].map(|name| authority.file(name));
    let proxy = Proxy::start_as(&pair, &kafka.bootstrap, &rule(TOPIC));
    let devices: Vec<_> = (0..DEVICES).map(|number| Device::start(&proxy, &authority, number)).collect();
    let (mut handshakes, mut records) = (0, 0.0);
    for _ in 0..CHANGES {
        authority.issue("server", &HOSTS);
        let new = fs::read_to_string(&pair[0]).unwrap();
        eventually("the next handshake shows the new certificate", || {
            handshakes += 1;
            (shown(&proxy, &authority) == new.trim_end()).then_some(())
        });
        records = eventually("they publish meanwhile", || {
            Some(proxy.metric(&["messages_total", "to_kafka"])).filter(|stored| *stored > records)
        });
    }
    let told: Vec<_> = devices.into_iter().map(Device::end).collect();
    let opened = proxy.metric(&["connections_opened_total", "listener=\"tls\""]);
    assert_eq!(opened, (DEVICES + handshakes) as f64, "each device has had one connection");
    let stored = kafka.consume(TOPIC, "%k %s");
    for (number, count) in told.into_iter().enumerate() {
        let own = format!("{number} ");
        let its: Vec<_> = stored.iter().filter_map(|line| line.strip_prefix(&own)).collect();
        let wanted: Vec<_> = (0..count).map(|n| n.to_string()).collect();
        assert_eq!(its, wanted, "device {number}");
    }
}
