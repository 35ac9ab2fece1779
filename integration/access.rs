//! Several methods in one list, and what an identity may then do, by mosquitto and paho in both versions.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};

use crate::logins::clients::told_by_paho;
use crate::shared_kafka;
use crate::stage::{Kafka, Proxy, certificates, eventually};

/// What became of one PUBLISH at QoS 1 of a client that logs in so.
fn mosquitto(proxy: &Proxy, version: &str, topic: &str, message: &str, login: &[&str]) -> Result<(), String> {
    let (port, ca) = (proxy.tls.port().to_string(), certificates().join("ca.pem"));
    let output = Command::new("mosquitto_pub")
        .args([
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "--cafile",
            ca.to_str().expect("a path of ours"),
            "-V",
            version,
        ])
        .args(["-q", "1", "-t", topic, "-m", message])
        .args(login)
        .stdin(Stdio::null())
        .output()
        .expect("mosquitto_pub (make test installs it)");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    // It ends with 0 although the broker refused a PUBLISH in version 5: it says so then.
    if output.status.success() && !said.contains("Not authorized") {
        Ok(())
    } else {
        Err(said)
    }
}

/// The same of paho, whose message is its version.
fn paho(proxy: &Proxy, version: u8, user: &str, password: &str, topic: &str) -> String {
    let login = serde_json::json!({
        "port": proxy.mqtt.port(), "version": version, "client_id": format!("paho-{version}"),
        "topic": topic, "value": format!("paho {version}"), "user": user, "password": password,
    });
    told_by_paho(&[login]).concat()
}

fn token(key: &Ed25519KeyPair, subject: &str, expires: u64) -> String {
    token_with(key, r#"{"alg":"EdDSA"}"#, subject, expires)
}

/// With a header of its own.
pub fn token_with(key: &Ed25519KeyPair, header: &str, subject: &str, expires: u64) -> String {
    let claims = format!(r#"{{"sub": "{subject}", "exp": {expires}}}"#);
    let signed = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
    let signature = BASE64.encode(key.sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

/// A proxy that takes certificates, tokens and passwords, in this order, and lets each identity publish and subscribe below its own name.
fn proxy(kafka: &Kafka, topic: &str, key: &Ed25519KeyPair) -> Proxy {
    let folder = tempfile::tempdir().expect("a folder for files").keep();
    let users = mqtt_kafka_proxy::auth::passwords::entry("vin42", b"s3cret").expect("a legal name");
    fs::write(folder.join("users.txt"), users).expect("the folder was just made");
    let x = BASE64.encode(key.public_key());
    let keys = format!(r#"{{"keys": [{{"kty": "OKP", "crv": "Ed25519", "x": "{x}"}}]}}"#);
    fs::write(folder.join("keys.json"), keys).expect("the folder was just made");
    let folder = folder.display();
    let rules = format!(
        "  - {{name: {topic}, mqtt: \"{topic}/{{who}}\", kafka: {{topic: {topic}, key: \"{{who}}\"}}}}\n\
         authentication:\n  \
           - {{method: certificate}}\n  \
           - {{method: jwt, jwks: \"{folder}/keys.json\"}}\n  \
           - {{method: password_file, file: \"{folder}/users.txt\"}}\n\
         authorization: [{{allow: [publish, subscribe], topics: [\"{topic}/{{identity}}\"]}}]"
    );
    Proxy::start(&kafka.bootstrap, &rules, "")
}

#[test]
fn real_clients_are_let_in_with_what_is_right_and_with_nothing_else() {
    let kafka = shared_kafka();
    kafka.topic("logins", 1);
    let key = Ed25519KeyPair::generate().expect("a key");
    let proxy = proxy(&kafka, "logins", &key);
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("the clock runs").as_secs();
    let (good, old) = (token(&key, "tok7", now + 3600), token(&key, "tok7", now - 60));
    let forged = token(&Ed25519KeyPair::generate().expect("a key"), "tok7", now + 3600);
    let certs = certificates();
    let file = |name: &str| certs.join(name).display().to_string();
    let (device, device_key) = (file("device.pem"), file("device.key"));
    let certificate = ["--cert", &device, "--key", &device_key];
    let mut stored = vec![];
    for version in ["mqttv311", "mqttv5"] {
        for (who, login) in [
            ("vin42", &["-u", "vin42", "-P", "s3cret"][..]),
            ("tok7", &["-u", "any", "-P", &good]),
            ("device-1", &certificate),
        ] {
            mosquitto(&proxy, version, &format!("logins/{who}"), version, login).unwrap_or_else(|said| panic!("{version} {who}: {said}"));
            stored.push(format!("{who}|{version}"));
            assert!(
                mosquitto(&proxy, version, "logins/other", "no", login).is_err(),
                "{version} {who} publishes for another"
            );
        }
        for login in [
            &["-u", "vin42", "-P", "wrong"][..],
            &["-u", "vin43", "-P", "s3cret"],
            &["-u", "vin42"],
            &["-u", "any", "-P", &old],
            &["-u", "any", "-P", &forged],
            &["-u", "any", "-P", "eyJ.eyJ.x"],
            &[],
        ] {
            let refused = mosquitto(&proxy, version, "logins/vin42", "no", login);
            let said = refused.expect_err("it was let in");
            let said = said.to_lowercase();
            let refused = ["not authori", "bad user name or password"];
            assert!(refused.iter().any(|words| said.contains(words)), "{login:?}: {said}");
        }
    }
    for version in [4, 5] {
        assert_eq!(paho(&proxy, version, "vin42", "s3cret", "logins/vin42"), "in", "paho {version}");
        stored.push(format!("vin42|paho {version}"));
        let refused = "refused 134";
        assert_eq!(paho(&proxy, version, "vin42", "wrong", "logins/vin42"), refused, "paho {version}");
        assert_eq!(paho(&proxy, version, "any", &old, "logins/tok7"), refused, "paho {version}");
    }
    assert_eq!(paho(&proxy, 5, "vin42", "s3cret", "logins/other"), "puback 135");
    let mut found = eventually("all that was allowed", || {
        let found = kafka.consume("logins", "%k|%s");
        (found.len() >= stored.len()).then_some(found)
    });
    stored.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, stored, "that, and nothing else");
    let log = proxy.log();
    for words in ["login_refused", "wrong_password", "token_expired", "publish_refused"] {
        assert!(log.contains(words), "no {words} in the audit log: {log}");
    }
    for secret in ["s3cret", good.as_str(), old.as_str(), forged.as_str()] {
        assert!(!log.contains(secret), "a secret in the log");
    }
}

/// A line of the audit log for each, with who it was and where.
#[test]
fn whoever_is_refused_or_replaced_is_in_the_audit_log() {
    let kafka = shared_kafka();
    kafka.topic("audited", 1);
    let key = Ed25519KeyPair::generate().expect("a key");
    let proxy = proxy(&kafka, "audited", &key);
    let port = proxy.mqtt.port().to_string();
    let as_vin42 = ["-i", "device-7", "-u", "vin42", "-P", "s3cret"];
    mosquitto(
        &proxy,
        "mqttv5",
        "audited/vin42",
        "no",
        &["-i", "device-7", "-u", "vin42", "-P", "wrong"],
    )
    .expect_err("refused");
    mosquitto(&proxy, "mqttv5", "audited/other", "no", &as_vin42).expect_err("refused");
    let subscriber = |more: &[&str]| {
        let mut command = Command::new("mosquitto_sub");
        command
            .args(["-h", "127.0.0.1", "-p", &port, "-V", "mqttv5"])
            .args(as_vin42)
            .args(more);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("mosquitto_sub (make test installs it)")
    };
    let _ = subscriber(&["-t", "audited/#", "-E"]).wait();
    let told = |event: &str, topic: &str, reason: &str| {
        let (event, rest) = (
            format!("event=\"{event}\""),
            format!("topic=\"{topic}\" reason=\"{reason}\" left_out="),
        );
        eventually(&format!("{event} {reason}"), || {
            let log = proxy.log();
            let line = log.lines().find(|line| line.contains(&event) && line.contains(&rest))?;
            let whom = "client=\"device-7\" identity=\"vin42\" address=\"127.0.0.1:";
            assert!(line.contains(whom), "{line}");
            Some(())
        });
    };
    told("login_refused", "", "wrong_password");
    told("publish_refused", "audited/other", "no_right");
    told("subscribe_refused", "audited/#", "no_right");
    let opened = || proxy.metric(&["connections_opened_total", "listener=\"tcp\""]);
    let before = opened();
    let mut former = subscriber(&["-t", "audited/vin42"]);
    eventually("it has come", || (opened() > before).then_some(()));
    let mut other = subscriber(&["-t", "audited/vin42"]);
    told("takeover", "", "takes_the_client_id");
    told("takeover", "", "client_id_taken");
    for child in [&mut former, &mut other] {
        child.kill().expect("it is ours");
        child.wait().expect("it is ours");
    }
}

/// A server that answers each request by its path and its body, if that is JSON. Its address.
pub fn server(says: impl Fn(&str, &serde_json::Value) -> String + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it has one");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream.try_clone().expect("descriptors are left"));
            let (mut head, mut length) = (String::new(), 0);
            while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).is_ok_and(|read| read > 0) {
                let line = head.lines().last().unwrap_or_default().to_ascii_lowercase();
                length = line
                    .strip_prefix("content-length:")
                    .map_or(length, |n| n.trim().parse().unwrap_or(0));
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap_or_default();
            let asked: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
            let answer = says(head.split(' ').nth(1).unwrap_or_default(), &asked);
            let length = answer.len();
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{answer}"
            );
        }
    });
    format!("http://{address}")
}

#[test]
fn real_clients_are_let_in_by_keys_and_decisions_of_a_server() {
    let kafka = shared_kafka();
    let topic = "logins-by-server";
    kafka.topic(topic, 1);
    let key = Ed25519KeyPair::generate().expect("a key");
    let x = BASE64.encode(key.public_key());
    let keys = format!(r#"{{"keys": [{{"kty": "OKP", "crv": "Ed25519", "x": "{x}"}}]}}"#);
    let url = server(move |path, asked| match path {
        "/keys" => keys.clone(),
        _ if asked["password"] == "0pen-up" => r#"{"result": "allow", "identity": "web7"}"#.to_owned(),
        _ => r#"{"result": "deny"}"#.to_owned(),
    });
    let rules = format!(
        "  - {{name: {topic}, mqtt: \"{topic}/{{who}}\", kafka: {{topic: {topic}, key: \"{{who}}\"}}}}\n\
         authentication:\n  \
           - {{method: jwt, jwks: \"{url}/keys\"}}\n  \
           - {{method: http, url: \"{url}/login\"}}\n\
         authorization: [{{allow: [publish], topics: [\"{topic}/{{identity}}\"]}}]"
    );
    let proxy = Proxy::start(&kafka.bootstrap, &rules, "");
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("the clock runs").as_secs();
    let (good, old) = (token(&key, "tok7", now + 3600), token(&key, "tok7", now - 60));
    let mut stored = vec![];
    for version in ["mqttv311", "mqttv5"] {
        for (who, login) in [("tok7", ["-u", "any", "-P", &good]), ("web7", ["-u", "any", "-P", "0pen-up"])] {
            let topic = format!("{topic}/{who}");
            mosquitto(&proxy, version, &topic, version, &login).unwrap_or_else(|said| panic!("{version} {who}: {said}"));
            stored.push(format!("{who}|{version}"));
        }
        for login in [&["-u", "any", "-P", &old][..], &["-u", "any", "-P", "wrong"], &[]] {
            assert!(
                mosquitto(&proxy, version, &format!("{topic}/web7"), "no", login).is_err(),
                "{login:?}"
            );
        }
    }
    for version in [4, 5] {
        let own = format!("{topic}/web7");
        assert_eq!(paho(&proxy, version, "any", "0pen-up", &own), "in", "paho {version}");
        stored.push(format!("web7|paho {version}"));
        assert_eq!(paho(&proxy, version, "any", "wrong", &own), "refused 134", "paho {version}");
    }
    let mut found = eventually("all that was allowed", || {
        let found = kafka.consume(topic, "%k|%s");
        (found.len() >= stored.len()).then_some(found)
    });
    stored.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, stored, "that, and nothing else");
    assert!(
        !proxy.log().contains(&good) && !proxy.log().contains("right\""),
        "a secret in the log"
    );
}
