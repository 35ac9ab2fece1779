//! Devices that go on with their TLS session at another instance where a certificate is required, by OpenSSL's client: they are who they were,
//! without showing it again, until they are revoked.

use super::authority::Authority;
use crate::attackers::{greeting, packet};
use crate::shared_kafka;
use crate::stage::{Kafka, Proxy, certificates, eventually};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const VERSIONS: [&str; 2] = ["-tls1_2", "-tls1_3"];

/// A connection of OpenSSL's client that stays open.
struct Visit {
    openssl: Child,
    input: ChildStdin,
    output: ChildStdout,
    /// What it said, of the handshake too.
    said: Vec<u8>,
}

impl Visit {
    /// Connects as a client of that id.
    fn begin(at: SocketAddr, version: &str, id: &str, more: &[String]) -> Self {
        let mut openssl = Command::new("openssl")
            .args(["s_client", "-connect", &at.to_string(), version, "-verify_return_error", "-CAfile"])
            .arg(certificates().join("ca.pem"))
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl can be run");
        let input = openssl.stdin.take().expect("its input is a pipe");
        let output = openssl.stdout.take().expect("its output is a pipe");
        let mut visit = Self {
            openssl,
            input,
            output,
            said: vec![],
        };
        visit.says(&greeting(id));
        visit
    }

    /// Once it is let in, `None` if it is not.
    fn enter(at: SocketAddr, version: &str, id: &str, more: &[String]) -> Option<Self> {
        let mut visit = Self::begin(at, version, id, more);
        visit.hears([0x20, 2, 0, 0]).then_some(visit)
    }

    /// Who is refused may have ended already.
    fn says(&mut self, packet: &[u8]) {
        let _ = self.input.write_all(packet);
    }

    /// Whether that comes before the connection ends.
    fn hears(&mut self, answer: [u8; 4]) -> bool {
        let (from, mut byte) = (self.said.len(), [0]);
        while !self.said[from..].ends_with(&answer) {
            if !self.output.read(&mut byte).is_ok_and(|read| read == 1) {
                return false;
            }
            self.said.push(byte[0]);
        }
        true
    }

    /// Whether that is acknowledged.
    fn publishes(&mut self, topic: &str, value: &str) -> bool {
        let body = [&[0, topic.len() as u8], topic.as_bytes(), &[0, 1], value.as_bytes()].concat();
        self.says(&packet(0x32, &body));
        self.hears([0x40, 2, 0, 1])
    }

    /// Whether it goes on with a session, as OpenSSL says.
    fn is_resumed(&self) -> bool {
        let said = String::from_utf8_lossy(&self.said);
        let (new, reused) = (said.contains("New, TLSv1."), said.contains("Reused, TLSv1."));
        assert_ne!(new, reused, "it says one of them: {said}");
        reused
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let _ = self.openssl.kill();
        let _ = self.openssl.wait();
    }
}

/// Two instances that have the keys of tickets, authority and list in common, and let devices publish below their own name.
struct Stage {
    fleet: Authority,
    instances: [Proxy; 2],
    folder: tempfile::TempDir,
}

impl Stage {
    fn start(kafka: &Kafka, topic: &str) -> Self {
        kafka.topic(topic, 1);
        let folder = tempfile::tempdir().unwrap();
        let fleet = Authority::new(folder.path(), "fleet");
        ["vin42", "vin43"].iter().for_each(|name| fleet.issue(name, &[]));
        fleet.revoke(&[]);
        let own = ["ca.pem", "ca.crl"].map(|name| fleet.file(name));
        let rules = format!(
            "  - {{name: {topic}, mqtt: \"{topic}/+\", kafka: {{topic: {topic}, key: \"{{identity}}\"}}}}\n\
             authentication: [{{method: certificate}}]\n\
             authorization: [{{allow: [publish], topics: [\"{topic}/{{identity}}\"]}}]"
        );
        let instances = [(); 2].map(|()| Proxy::start_requiring(&own, &kafka.bootstrap, &rules));
        Self { fleet, instances, folder }
    }

    /// What a device shows.
    fn shows(&self, name: &str) -> [String; 4] {
        let [certificate, key] = ["pem", "key"].map(|kind| self.fleet.file(&format!("{name}.{kind}")));
        ["-cert".to_owned(), certificate, "-key".to_owned(), key]
    }

    /// The session of that name, to be kept (`-sess_out`) or gone on with (`-sess_in`).
    fn session(&self, how: &str, name: &str) -> [String; 2] {
        [how.to_owned(), self.folder.path().join(name).display().to_string()]
    }

    /// A full handshake of a device, whose session is kept under its name and the version.
    fn first(&self, at: &Proxy, version: &str, device: &str, id: &str) -> Visit {
        let kept = self.session("-sess_out", &format!("{device}{version}"));
        let visit = Visit::enter(at.tls, version, id, &[&self.shows(device)[..], &kept].concat());
        let visit = visit.unwrap_or_else(|| panic!("{device} is let in, {version}\n{}", at.log()));
        assert!(!visit.is_resumed(), "{device}, {version}: there was a session");
        visit
    }

    /// It goes on with that session, and shows nothing but it.
    fn again(&self, at: &Proxy, version: &str, device: &str, id: &str) -> Option<Visit> {
        let former = self.session("-sess_in", &format!("{device}{version}"));
        Visit::enter(at.tls, version, id, &former)
    }
}

#[test]
fn a_session_goes_on_at_the_other_instance_as_the_same_device_which_shows_no_certificate_again() {
    let kafka = shared_kafka();
    let topic = "resumed";
    let stage = Stage::start(&kafka, topic);
    let [a, b] = &stage.instances;
    let (own, others) = (format!("{topic}/vin42"), format!("{topic}/vin43"));
    let mut stored = vec![];
    for version in VERSIONS {
        for (way, from, to) in [("there", a, b), ("back", b, a)] {
            let mut first = stage.first(from, version, "vin42", "first");
            assert!(first.publishes(&own, &format!("{way} {version}, first")));
            let mut second = stage.again(to, version, "vin42", "second").expect("the session is taken");
            assert!(second.is_resumed(), "{way} {version}: a full handshake would want the certificate");
            assert!(second.publishes(&own, &format!("{way} {version}, second")));
            assert!(!second.publishes(&others, "no"), "{way} {version}: it publishes for another");
            stored.extend(["first", "second"].map(|which| format!("vin42|{way} {version}, {which}")));
        }
    }
    assert_eq!(kafka.consume(topic, "%k|%s"), stored, "as whom it came, and nothing else");
}

#[test]
fn a_session_of_a_revoked_device_is_worth_nothing_at_either_instance_and_others_show_their_certificate_again() {
    let kafka = shared_kafka();
    let topic = "resumed-revoked";
    let stage = Stage::start(&kafka, topic);
    let [a, b] = &stage.instances;
    let own = format!("{topic}/vin42");
    let mut open = vec![];
    for version in VERSIONS {
        stage.first(a, version, "vin43", "other");
        open.push((
            format!("full{version}"),
            stage.first(a, version, "vin42", &format!("full{version}")),
        ));
        for (at, proxy) in [("a", a), ("b", b)] {
            let id = format!("resumed-{at}{version}");
            let visit = stage.again(proxy, version, "vin42", &id).expect("it is not revoked yet");
            assert!(visit.is_resumed(), "{id}");
            open.push((id, visit));
        }
    }
    stage.fleet.revoke(&["vin42"]);
    for proxy in [a, b] {
        for version in VERSIONS {
            // Lists are looked at once a second. Until then it goes on with its session.
            let again = || stage.again(proxy, version, "vin42", "again");
            eventually("the session is worth nothing", || again().is_none().then_some(()));
            let with_both = [&stage.shows("vin42")[..], &stage.session("-sess_in", &format!("vin42{version}"))].concat();
            let with_session = Visit::enter(proxy.tls, version, "again", &with_both);
            assert!(with_session.is_none(), "{version}: nor is the certificate beside it");
            let alone = Visit::enter(proxy.tls, version, "again", &stage.shows("vin42"));
            assert!(alone.is_none(), "{version}: nor is the certificate alone");
            others_go_on(&stage, proxy, version);
        }
        for reason in ["certificate_missing", "certificate_revoked"] {
            let log = proxy.log();
            let mut lines = log.lines().filter(|line| line.contains("event=\"certificate_refused\""));
            assert!(lines.any(|line| line.contains(reason)), "no {reason} in {log}");
        }
    }
    let mut stored = vec![];
    for (id, visit) in &mut open {
        assert!(visit.publishes(&own, id), "{id}: who is connected stays");
        stored.push(format!("vin42|{id}"));
    }
    assert_eq!(kafka.consume(topic, "%k|%s"), stored);
}

/// Who is good: its session is of before the list, too, and costs a full handshake. The next one goes on.
fn others_go_on(stage: &Stage, proxy: &Proxy, version: &str) {
    let old = stage.again(proxy, version, "vin43", "other");
    assert!(old.is_none(), "{version}: the session rests on another list");
    let kept = stage.session("-sess_out", "new");
    let with_both = [
        &stage.shows("vin43")[..],
        &stage.session("-sess_in", &format!("vin43{version}")),
        &kept,
    ];
    let visit = Visit::enter(proxy.tls, version, "other", &with_both.concat()).expect("it has shown its certificate");
    assert!(!visit.is_resumed(), "{version}: the session rests on another list");
    let next = Visit::enter(proxy.tls, version, "other", &stage.session("-sess_in", "new"));
    assert!(next.expect("the new session is taken").is_resumed(), "{version}");
}
