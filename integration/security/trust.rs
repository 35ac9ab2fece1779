//! Whom devices' certificates are believed by, and which are revoked, changes while they publish: who is there stays, and the next handshake
//! is judged by the new files, or by the former ones where the new ones cannot be used.

use super::authority::Authority;
use super::devices::Device;
use crate::logins::clients::{told_by_mosquitto, told_by_paho};
use crate::shared_kafka;
use crate::stage::{Proxy, certificates, eventually};
use serde_json::json;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

const TOPIC: &str = "trusted";
/// Over TLS, and over WebSocket and TLS.
const DEVICES: [usize; 2] = [3, 2];
const LISTENERS: [&str; 2] = ["tls", "wss"];

/// A device that comes for the first time: its authority and its name.
type Newcomer<'a> = (&'a Authority, &'a str);

/// Paths of what it shows.
fn pair((authority, name): Newcomer<'_>) -> [String; 2] {
    ["pem", "key"].map(|kind| authority.file(&format!("{name}.{kind}")))
}

/// The proxy, its two files, and who has come for the first time so far.
struct Stage {
    proxy: Proxy,
    folder: tempfile::TempDir,
    ca: String,
    /// At each listener.
    tries: [usize; 2],
    /// What they have published.
    stored: Vec<String>,
}

impl Stage {
    /// The path of a file that the proxy reads.
    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// In one step, so that nobody reads a half.
    fn replace(&self, name: &str, content: &[u8]) {
        let new = self.file("new");
        fs::write(&new, content).unwrap();
        fs::rename(new, self.file(name)).unwrap();
    }

    /// The same of all that these have in a file of that name.
    fn replace_by(&self, name: &str, authorities: &[&Authority]) {
        let all = authorities.iter().map(|authority| fs::read(authority.file(name)).unwrap());
        self.replace(name, &all.collect::<Vec<_>>().concat());
    }

    /// One login: mosquitto over TLS, paho over WebSocket. What the client says of it.
    fn comes(&mut self, listener: usize, who: Newcomer<'_>) -> String {
        let (name, [certificate, key]) = (who.1, pair(who));
        self.tries[listener] += 1;
        let value = format!("{} at {}", self.tries[listener], LISTENERS[listener]);
        let topic = format!("{TOPIC}/{name}");
        let told = if listener == 0 {
            let port = self.proxy.tls.port().to_string();
            let mut mosquitto = Command::new("mosquitto_pub");
            mosquitto
                .args([
                    "-h",
                    "127.0.0.1",
                    "-p",
                    &port,
                    "--cafile",
                    &self.ca,
                    "--cert",
                    &certificate,
                    "--key",
                    &key,
                ])
                .args(["-q", "1", "-t", &topic, "-m", &value]);
            told_by_mosquitto(&mut mosquitto)
        } else {
            let login = json!({
                "port": self.proxy.wss.port(), "transport": "websockets", "version": 5, "client_id": name, "topic": topic, "value": value,
                "ca": self.ca, "certificate": [certificate, key],
            });
            told_by_paho(&[login]).concat()
        };
        if told == "in" {
            self.stored.push(format!("{name} {value}"));
        }
        told
    }

    /// At each listener it comes to be so: files are looked at once a second.
    fn becomes(&mut self, who: Newcomer<'_>, wanted: &str) {
        for (listener, name) in LISTENERS.into_iter().enumerate() {
            let what = format!("{} of {} is told {wanted:?} at {name}", who.1, who.0.file(""));
            eventually(&what, || (self.comes(listener, who) == wanted).then_some(()));
        }
    }

    /// At each listener it is so.
    fn is(&mut self, who: Newcomer<'_>, wanted: &str) {
        for (listener, name) in LISTENERS.into_iter().enumerate() {
            assert_eq!(self.comes(listener, who), wanted, "{} at {name}", who.1);
        }
    }

    /// Lines of the log with all of these, of a listener.
    fn lines(&self, listener: &str, words: &[&str]) -> usize {
        let listener = format!("listener=\"{listener}\"");
        let log = self.proxy.log();
        let has = |line: &&str| line.contains(&listener) && words.iter().all(|word| line.contains(word));
        log.lines().filter(has).count()
    }

    /// Those that say that files cannot be used, of each listener.
    fn faults(&self, words: &[&str]) -> [usize; 2] {
        LISTENERS.map(|listener| self.lines(listener, &[&["the former certificates stay"], words].concat()))
    }

    /// All but the last bytes of a file are there: what was read before stays, and the log says so. Then all of it.
    fn breaks(&mut self, name: &str, key: &str, good: Newcomer<'_>, bad: &[Newcomer<'_>]) {
        let whole = fs::read(self.file(name)).unwrap();
        self.replace(name, &whole[..whole.len() - 40]);
        eventually("the log says it", || (self.faults(&[key, name]) == [1, 1]).then_some(()));
        self.is(good, "in");
        bad.iter().for_each(|who| self.is(*who, "closed"));
        let read = |stage: &Self| LISTENERS.map(|listener| stage.lines(listener, &["certificates were read again"]));
        let before = read(self);
        self.replace(name, &whole);
        eventually("it is read", || (read(self) == before.map(|count| count + 1)).then_some(()));
        self.is(good, "in");
        assert_eq!(self.faults(&[key, name]), [1, 1], "each fault is told once");
    }
}

/// They have certificates of this authority, and go on until the end.
fn devices(proxy: &Proxy, ca: &str, authority: &Authority) -> Vec<(String, Device)> {
    let [tls, wss] = DEVICES;
    let start = |number| {
        let name = format!("load-{number}");
        authority.issue(&name, &[]);
        let (topic, shown) = (format!("{TOPIC}/{name}"), pair((authority, &name)));
        let device = if number < tls {
            Device::mosquitto(proxy.tls, &topic, ca, Some(&shown))
        } else {
            Device::paho(proxy.wss, &topic, ca, Some(&shown))
        };
        (name, device)
    };
    (0..tls + wss).map(start).collect()
}

/// A proxy that believes this authority.
fn start(bootstrap: &str, authority: &Authority) -> Stage {
    let folder = tempfile::tempdir().unwrap();
    let own = ["ca.pem", "ca.crl"].map(|name| {
        let path = folder.path().join(name);
        fs::copy(authority.file(name), &path).unwrap();
        path.display().to_string()
    });
    let rules = format!(
        "  - {{name: {TOPIC}, mqtt: \"{TOPIC}/+\", kafka: {{topic: {TOPIC}, key: \"{{identity}}\"}}}}\n\
         authentication: [{{method: certificate}}]"
    );
    Stage {
        proxy: Proxy::start_requiring(&own, bootstrap, &rules),
        folder,
        ca: certificates().join("ca.pem").display().to_string(),
        tries: [0; 2],
        stored: vec![],
    }
}

/// From one authority to the next, and to a list of the next one's that has grown.
fn changes(stage: &mut Stage, former: &Authority, heir: &Authority) {
    let (old, new, lost) = ((former, "vin1"), (heir, "vin2"), (heir, "vin3"));
    stage.is(old, "in");
    stage.is(new, "closed");
    stage.replace_by("ca.crl", &[former, heir]);
    stage.replace_by("ca.pem", &[former, heir]);
    stage.becomes(new, "in");
    stage.is(old, "in");
    stage.replace_by("ca.pem", &[heir]);
    stage.becomes(old, "closed");
    stage.is(new, "in");
    stage.is(lost, "in");
    heir.revoke(&["vin3"]);
    stage.replace_by("ca.crl", &[former, heir]);
    stage.becomes(lost, "closed");
    stage.is(new, "in");
    assert_eq!(stage.faults(&[]), [0, 0], "no file was at fault");
    stage.breaks("ca.pem", "client_ca", new, &[old, lost]);
    stage.breaks("ca.crl", "client_crl", new, &[old, lost]);
}

#[test]
fn authorities_and_lists_change_while_devices_publish_and_the_next_handshake_is_judged_by_them() {
    let kafka = shared_kafka();
    kafka.topic(TOPIC, 2);
    let folder = tempfile::tempdir().unwrap();
    let [former, heir] = ["former", "heir"].map(|name| Authority::new(folder.path(), name));
    former.issue("vin1", &[]);
    ["vin2", "vin3"].iter().for_each(|name| heir.issue(name, &[]));
    [&former, &heir].iter().for_each(|authority| authority.revoke(&[]));
    let mut stage = start(&kafka.bootstrap, &former);
    let devices = devices(&stage.proxy, &stage.ca, &former);
    // Who comes later would be a newcomer.
    eventually("each is let in, and publishes", || {
        let from = kafka.consume(TOPIC, "%k");
        devices.iter().all(|(name, _)| from.contains(name)).then_some(())
    });
    changes(&mut stage, &former, &heir);
    let ended: Vec<_> = devices.into_iter().map(|(name, device)| (name, device.end())).collect();
    for ((listener, devices), tries) in LISTENERS.into_iter().zip(DEVICES).zip(stage.tries) {
        let opened = stage
            .proxy
            .metric(&["connections_opened_total", &format!("listener=\"{listener}\"")]);
        assert_eq!(opened, (devices + tries) as f64, "{listener}: each device has had one connection");
    }
    let log = stage.proxy.log();
    for reason in ["certificate_of_unknown_authority", "certificate_revoked"] {
        assert!(log.contains(reason), "no {reason} in the audit log");
    }
    let mut found = kafka.consume(TOPIC, "%k %s");
    for (name, count) in ended {
        let own = format!("{name} ");
        let its: Vec<_> = found.iter().filter_map(|line| line.strip_prefix(&own)).collect();
        let wanted: Vec<_> = (0..count).map(|n| n.to_string()).collect();
        assert_eq!(its, wanted, "{name}");
    }
    found.retain(|line| !line.starts_with("load-"));
    found.sort_unstable();
    stage.stored.sort_unstable();
    assert_eq!(found, stage.stored, "who was let in, and nobody else");
}
