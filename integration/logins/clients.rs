//! Real clients that log in: mosquitto and paho over TLS, MQTT.js in Chromium and, where certificates are shown, paho over WebSocket and TLS.
//! What each says of its login is one of `in`, `refused CODE` and `closed`.

use super::{Case, Login};
use crate::browser::told_by_browser;
use crate::stage::{Proxy, certificates, root};
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Stdio};

/// As MQTT writes them.
pub const VERSIONS: [u8; 2] = [4, 5];

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Client {
    Mosquitto,
    Paho,
    /// paho over WebSocket and TLS.
    Framed,
    Browser,
}

/// One login, of a client in a version.
pub struct Attempt<'a> {
    pub client: Client,
    pub version: u8,
    pub case: &'a Case,
    pub proxy: &'a Proxy,
    /// Where it publishes.
    pub topic: &'a str,
}

impl Client {
    pub const ALL: [Self; 3] = [Self::Mosquitto, Self::Paho, Self::Browser];
    /// Those that may come where a certificate is required, over WebSocket, too.
    pub const WITH_CERTIFICATES: [Self; 3] = [Self::Mosquitto, Self::Paho, Self::Framed];

    /// Whether it has such a login: browsers show no certificate over WebSocket, and of these only MQTT.js answers AUTH. The others can begin with what
    /// no challenge follows.
    pub fn knows(self, login: &Login, version: u8) -> bool {
        match login {
            Login::Certificate(_) => self != Self::Browser,
            Login::Scram { first, .. } => version == 5 && (self == Self::Browser || *first != "proven"),
            Login::Nothing | Login::User(_) | Login::Password(..) => true,
        }
    }

    /// CONNACK's code of version 5 as this client tells it: paho makes those of 3.1.1 such.
    pub fn code(self, version: u8, code: u8) -> u8 {
        match (self, version, code) {
            (Self::Paho | Self::Framed, ..) | (_, 5, _) => code,
            (.., 0x86) => 4,
            (.., 0x87) => 5,
            _ => 3,
        }
    }
}

impl Attempt<'_> {
    /// What it publishes.
    pub fn value(&self) -> String {
        format!("{} {} {:?} {}", self.case.method, self.case.state, self.client, self.version)
    }

    fn as_json(&self) -> Value {
        let id = format!("login-{:?}-{}", self.client, self.version);
        let mut all = json!({"version": self.version, "client_id": id, "topic": self.topic, "value": self.value()});
        match &self.case.login {
            Login::Nothing | Login::Certificate(_) => {}
            Login::User(user) => all["user"] = json!(user),
            Login::Password(user, password) => (all["user"], all["password"]) = (json!(user), json!(password)),
            Login::Scram { user, password, first } => {
                (all["user"], all["password"], all["enhanced"]) = (json!(user), json!(password), json!(first));
            }
        }
        all
    }
}

/// What becomes of each, in their order, which are of one client.
pub fn outcomes(client: Client, attempts: &[Attempt<'_>]) -> Vec<String> {
    match client {
        Client::Mosquitto => attempts.iter().map(mosquitto).collect(),
        Client::Paho | Client::Framed => paho(attempts),
        Client::Browser => {
            let told = attempts.iter().map(|attempt| {
                let mut all = attempt.as_json();
                all["url"] = json!(format!("wss://localhost:{}/mqtt", attempt.proxy.wss.port()));
                all
            });
            told_by_browser(&told.collect::<Vec<_>>())
        }
    }
}

pub fn mosquitto(attempt: &Attempt<'_>) -> String {
    let version = if attempt.version == 5 { "mqttv5" } else { "mqttv311" };
    let mut command = Command::new("mosquitto_pub");
    command
        .args([
            "-h",
            "127.0.0.1",
            "-p",
            &attempt.proxy.tls.port().to_string(),
            "-V",
            version,
            "--cafile",
        ])
        .arg(certificates().join("ca.pem"))
        .args(["-q", "1", "-t", attempt.topic, "-m", &attempt.value()]);
    match &attempt.case.login {
        Login::Nothing => &mut command,
        Login::Scram { first, .. } => {
            command
                .args(["-D", "connect", "authentication-method", "SCRAM-SHA-256"])
                .args(["-D", "connect", "authentication-data", first])
        }
        Login::User(user) => command.args(["-u", user]),
        Login::Password(user, password) => command.args(["-u", user, "-P", password]),
        Login::Certificate([certificate, key]) => command.args(["--cert", certificate, "--key", key]),
    };
    told_by_mosquitto(&mut command)
}

/// What one of its programs says of a login, or of what it did then: also `puback CODE`, and with `-d` `granted QOS` and `suback CODE`.
pub fn told_by_mosquitto(command: &mut Command) -> String {
    let output = command
        .stdin(Stdio::null())
        .output()
        .expect("mosquitto's clients (make test installs them)");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let subscribed = said.lines().find_map(|line| line.strip_prefix("Subscribed (mid: 1): "));
    let suback: Option<u8> = subscribed.and_then(|code| code.parse().ok());
    match (output.status.code(), suback) {
        (Some(0), Some(qos @ ..=2)) => format!("granted {qos}"),
        (Some(0), Some(code)) => format!("suback {code}"),
        (Some(0), None) if said.is_empty() => "in".to_owned(),
        // What PUBACK says it tells by the words for 0x87, and ends well.
        (Some(0), None) if said.starts_with("Warning: Publish 1 failed: Not authorized.") => "puback 135".to_owned(),
        // What CONNACK says is its exit code then.
        (Some(code), None) if said.starts_with("Connection error: ") => format!("refused {code}"),
        (Some(1..), None) if said.contains("Error") => "closed".to_owned(),
        (other, _) => format!("{other:?}: {said}"),
    }
}

fn paho(attempts: &[Attempt<'_>]) -> Vec<String> {
    let logins = attempts.iter().map(|attempt| {
        let mut all = attempt.as_json();
        let (at, transport) = match attempt.client {
            Client::Framed => (attempt.proxy.wss, "websockets"),
            _ => (attempt.proxy.tls, "tcp"),
        };
        (all["port"], all["transport"]) = (json!(at.port()), json!(transport));
        all["ca"] = json!(certificates().join("ca.pem"));
        if let Login::Certificate(pair) = &attempt.case.login {
            all["certificate"] = json!(pair);
        }
        all
    });
    told_by_paho(&logins.collect::<Vec<_>>())
}

/// What becomes of each login, in their order.
pub fn told_by_paho(logins: &[Value]) -> Vec<String> {
    let mut python = Command::new(root().join(".run/python/bin/python"))
        .arg(root().join("integration/paho_login.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("paho (make test installs it)");
    let mut lines = python.stdin.take().expect("its input is a pipe");
    for login in logins {
        writeln!(lines, "{login}").expect("it reads");
    }
    drop(lines);
    let output = python.wait_with_output().expect("it ends");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}
