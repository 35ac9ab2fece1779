//! The proxy's own certificate changes while devices publish, some over one connection and some over another each time: none of them notices,
//! and who comes for the first time is shown the new one.

use super::authority::Authority;
use super::devices::Device;
use super::returning::{Returning, Visitor};
use crate::publish::rule;
use crate::shared_kafka;
use crate::stage::{Proxy, eventually};
use rustls::version;
use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

const TOPIC: &str = "certified";
/// Over TLS.
const DEVICES: usize = 4;
/// Over WebSocket and TLS.
const FRAMED: usize = 2;
const CHANGES: usize = 4;
const HOSTS: [&str; 2] = ["localhost", "127.0.0.1"];

fn topic(number: usize) -> String {
    format!("{TOPIC}/{number}/telemetry/rpm")
}

/// The certificate that a client is shown which trusts the authority; each handshake must come about.
fn shown(at: SocketAddr, authority: &Authority) -> String {
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &at.to_string(), "-verify_return_error", "-CAfile"])
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

/// At both listeners in both versions of TLS.
fn returning(proxy: &Proxy, authority: &Authority) -> Vec<Returning> {
    let (tls, wss) = (proxy.tls, proxy.wss);
    let versions = [&version::TLS12, &version::TLS13].into_iter();
    let ways = versions.flat_map(|version| [(tls, version), (wss, version)]);
    let start = |(number, (at, version)): (usize, (SocketAddr, _))| {
        let visitor = Visitor::new(&topic(number), at, at == wss, version, authority);
        Returning::start(visitor)
    };
    (DEVICES + FRAMED..).zip(ways).map(start).collect()
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
    let ca = authority.file("ca.pem");
    let mut devices: Vec<_> = (0..DEVICES)
        .map(|number| Device::mosquitto(proxy.tls, &topic(number), &ca, None))
        .collect();
    devices.extend((DEVICES..DEVICES + FRAMED).map(|number| Device::paho(proxy.wss, &topic(number), &ca, None)));
    let returning = returning(&proxy, &authority);
    let (mut handshakes, mut records) = ([0usize; 2], 0.0);
    for _ in 0..CHANGES {
        authority.issue("server", &HOSTS);
        let new = fs::read_to_string(&pair[0]).unwrap();
        for (at, handshakes) in [proxy.tls, proxy.wss].into_iter().zip(&mut handshakes) {
            eventually("the next handshake shows the new certificate", || {
                *handshakes += 1;
                (shown(at, &authority) == new.trim_end()).then_some(())
            });
        }
        records = eventually("they publish meanwhile", || {
            Some(proxy.metric(&["messages_total", "to_kafka"])).filter(|stored| *stored > records)
        });
        // Twice: one may have been there since before.
        let wanted: Vec<_> = returning.iter().map(|one| one.visits() + 2).collect();
        eventually("they come back with the tickets that they have", || {
            let mut all = returning.iter().zip(&wanted);
            all.all(|(one, wanted)| one.visits() >= *wanted).then_some(())
        });
    }
    let mut told: Vec<_> = devices.into_iter().map(Device::end).collect();
    let visits: Vec<_> = returning.into_iter().map(Returning::end).collect();
    for (at, (name, devices)) in [("tls", DEVICES), ("wss", FRAMED)].into_iter().enumerate() {
        let opened = proxy.metric(&["connections_opened_total", &format!("listener=\"{name}\"")]);
        // Of those who return each second one comes here.
        let visits: u32 = visits.iter().skip(at).step_by(2).sum();
        let wanted = (devices + handshakes[at]) as f64 + f64::from(visits);
        assert_eq!(opened, wanted, "{name}: each device has had one connection, or one for each visit");
    }
    told.extend(visits);
    let stored = kafka.consume(TOPIC, "%k %s");
    for (number, count) in told.into_iter().enumerate() {
        let own = format!("{number} ");
        let its: Vec<_> = stored.iter().filter_map(|line| line.strip_prefix(&own)).collect();
        let wanted: Vec<_> = (0..count).map(|n| n.to_string()).collect();
        assert_eq!(its, wanted, "device {number}");
    }
}
