//! SCRAM-SHA-256 by AUTH through the whole proxy: right, wrong, unknown and malformed, and again on a connection that lives. The client's part is
//! the one that speaks to Kafka's brokers, which shares no line with the server's.
#![allow(clippy::unwrap_used)] // Test code: a failed unwrap is a failed test.

mod audit_log;
mod fake_broker;
mod relay_stage;

use std::path::Path;

use audit_log::Log;
use fake_broker::Fake;
use mqtt_kafka_proxy::{
    auth::{passwords::with_line, scram},
    kafka::sasl::{Conversation, Hash, Step},
    mqtt::{
        Auth, Connect, Packet, ReasonCode, Version,
        codec::{Decoder, Role},
        encode::encode,
    },
};
use relay_stage::{
    Stage,
    device::{Device, login},
};
use tokio::io::AsyncReadExt;

const RULES: &str = "rules: [{name: all, mqtt: \"{topic#}\", kafka: {topic: t, key: \"{topic}\"}}]\n";
const METHOD: &str = "SCRAM-SHA-256";

fn users(path: &Path, users: &[(&str, &str)]) {
    let text = users.iter().fold(String::new(), |text, (user, password)| {
        with_line(&text, user, &scram::entry(user, password, &[7; scram::SALT]).unwrap())
    });
    std::fs::write(path, text).unwrap();
}

/// A proxy with `vin42` and `vin43`, whose client ids are bound so.
async fn stage(client_id: &str, more: &str) -> (Stage, tempfile::NamedTempFile) {
    let fake = Fake::start(1).await;
    fake.topic("t", 1);
    let file = tempfile::NamedTempFile::new().unwrap();
    users(file.path(), &[("vin42", "s3cret"), ("vin43", "other")]);
    let rules = format!(
        "{RULES}authentication:\n- {{method: scram, file: \"{}\", client_id: {client_id}}}\n{more}",
        file.path().display()
    );
    (Stage::start(fake, &rules).await, file)
}

/// A device that speaks AUTH.
struct Client {
    device: Device,
    input: Vec<u8>,
}

/// What comes to it.
#[derive(Debug, PartialEq)]
struct Told {
    name: &'static str,
    reason: u8,
    method: String,
    data: Vec<u8>,
}

impl Client {
    async fn connect(stage: &Stage, client: &str, method: &str, data: &[u8]) -> Self {
        Self::connect_as(stage, client, None, method, data).await
    }

    /// The same with a user name in its CONNECT.
    async fn connect_as(stage: &Stage, client: &str, username: Option<&str>, method: &str, data: &[u8]) -> Self {
        let mut connect = Connect {
            version: Version::V5,
            clean_start: true,
            keep_alive: 0,
            client_id: client,
            will: None,
            username,
            password: None,
            properties: Default::default(),
        };
        connect.properties.authentication_method = Some(method);
        connect.properties.authentication_data = Some(data);
        let mut client = Self {
            device: Device::open(stage.address, 5).await,
            input: Vec::new(),
        };
        client.send(&Packet::Connect(Box::new(connect))).await;
        client
    }

    async fn send(&mut self, packet: &Packet<'_>) {
        let mut out = Vec::new();
        encode(packet, Version::V5, &mut out).unwrap();
        self.device.bytes(&out).await;
    }

    async fn auth(&mut self, reason: ReasonCode, data: &[u8]) {
        self.send(&Packet::Auth(Auth {
            reason,
            method: Some(METHOD),
            data: Some(data),
            reason_string: None,
            user: Default::default(),
        }))
        .await;
    }

    /// The next packet; `None` at the end.
    async fn told(&mut self) -> Option<Told> {
        let decoder = Decoder {
            version: Some(Version::V5),
            role: Role::Client,
            max_packet_size: u32::MAX,
        };
        loop {
            if let Some((packet, used)) = decoder.decode(&self.input).unwrap() {
                let (name, reason, method, data) = match &packet {
                    Packet::Auth(auth) => ("auth", auth.reason, auth.method, auth.data),
                    Packet::ConnAck(ack) => {
                        let properties = &ack.properties;
                        (
                            "connack",
                            ack.reason,
                            properties.authentication_method,
                            properties.authentication_data,
                        )
                    }
                    Packet::Disconnect(disconnect) => ("disconnect", disconnect.reason, None, None),
                    Packet::PubAck(ack) => ("puback", ack.reason, None, None),
                    other => panic!("{other:?}"),
                };
                let told = Told {
                    name,
                    reason: reason.as_u8(),
                    method: method.unwrap_or_default().to_owned(),
                    data: data.unwrap_or_default().to_vec(),
                };
                self.input.drain(..used);
                return Some(told);
            }
            let read = tokio::time::timeout(relay_stage::PATIENCE, self.device.stream.read_buf(&mut self.input));
            if read.await.expect("nothing comes").unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// Goes through a conversation that was begun; how it ends.
    async fn go_through(&mut self, mut conversation: Conversation) -> (&'static str, u8) {
        loop {
            let told = self.told().await.unwrap();
            if told.reason >= 0x80 {
                return (told.name, told.reason);
            }
            assert_eq!(told.method, METHOD, "{told:?}");
            match conversation.answer(&told.data).unwrap() {
                Step::Send(message) => {
                    assert_eq!((told.name, told.reason), ("auth", 0x18));
                    self.auth(ReasonCode::ContinueAuthentication, &message).await;
                }
                Step::Done => return (told.name, told.reason),
            }
        }
    }

    async fn again(&mut self, user: &str, password: &str) -> (&'static str, u8) {
        let (conversation, first) = Conversation::scram(Hash::Sha256, user, password, "chance");
        self.auth(ReasonCode::ReAuthenticate, &first).await;
        self.go_through(conversation).await
    }
}

async fn enter(stage: &Stage, client: &str, user: &str, password: &str) -> (Client, (&'static str, u8)) {
    let (conversation, first) = Conversation::scram(Hash::Sha256, user, password, "chance");
    let mut client = Client::connect(stage, client, METHOD, &first).await;
    let end = client.go_through(conversation).await;
    (client, end)
}

#[tokio::test]
async fn who_knows_the_password_is_let_in_and_hears_that_we_know_it_too() {
    let rights = "authorization: [{allow: [publish], topics: [\"own/{identity}\"]}]\n";
    let (stage, file) = stage("identity_prefix", rights).await;
    let (mut client, end) = enter(&stage, "vin42~a", "vin42", "s3cret").await;
    assert_eq!(end, ("connack", 0));
    for (topic, reason) in [("own/vin42", 0), ("own/vin43", 0x87)] {
        client.device.publish(topic, 1, 1, "x").await;
        let told = client.told().await.unwrap();
        assert_eq!((told.name, told.reason), ("puback", reason), "{topic}");
    }
    for (client, user, password, reason) in [
        ("vin42", "vin42", "wrong", 0x86),
        ("vin42", "nobody", "s3cret", 0x86),
        ("vin43", "vin42", "s3cret", 0x87),
    ] {
        let (mut client, end) = enter(&stage, client, user, password).await;
        assert_eq!(end, ("connack", reason), "{user} {password}");
        assert_eq!(client.told().await, None, "and the connection ends");
    }
    for why in ["wrong_password", "unknown_credentials", "client_id_not_of_identity"] {
        assert_eq!(stage.metric(&format!("refusals_total{{reason=\"{why}\"}}")), 1, "{why}");
    }
    // Another password counts from the next second's look on.
    users(file.path(), &[("vin42", "another"), ("vin43", "other")]);
    let began = std::time::Instant::now();
    while enter(&stage, "vin42~b", "vin42", "another").await.1 != ("connack", 0) {
        assert!(began.elapsed() < relay_stage::PATIENCE, "the new password is never taken");
    }
    assert_eq!(enter(&stage, "vin42~c", "vin42", "s3cret").await.1, ("connack", 0x86));
}

#[tokio::test]
async fn what_is_not_there_or_no_message_is_refused() {
    let (stage, _file) = stage("identity", "").await;
    for (method, data, reason) in [
        ("SCRAM-SHA-1", &b"n,,n=vin42,r=abc"[..], 0x8C),
        ("", b"n,,n=vin42,r=abc", 0x8C),
        (METHOD, b"", 0x86),
        (METHOD, b"\xff\xfe", 0x86),
        (METHOD, b"p=tls-exporter,,n=vin42,r=abc", 0x86),
    ] {
        let mut client = Client::connect(&stage, "vin42", method, data).await;
        let told = client.told().await.unwrap();
        assert_eq!((told.name, told.reason), ("connack", reason), "{method} {data:?}");
        assert_eq!(client.told().await, None);
    }
    let mut client = Client::connect(&stage, "vin42", METHOD, b"n,,n=vin42,r=abc").await;
    assert_eq!(client.told().await.unwrap().name, "auth");
    client.auth(ReasonCode::ContinueAuthentication, b"c=biws,r=abc,p=AAAA").await;
    assert_eq!(client.told().await.unwrap().reason, 0x86);
    // A password is no proof here, and none of the methods is for who shows nothing.
    for (version, wrong) in [(5, "connack 0x86"), (4, "connack 0x04")] {
        let mut device = Device::open(stage.address, version).await;
        device.connect(&login("vin42", "vin42", "s3cret")).await;
        assert_eq!(device.line().await, wrong);
    }
}

/// Whoever is to prove something yet is not given the room of those who have.
#[tokio::test]
async fn a_large_packet_in_the_middle_is_refused() {
    let (stage, _file) = stage("any", "limits: {connect_packet_size: 1KiB}\n").await;
    let mut client = Client::connect(&stage, "vin42", METHOD, b"n,,n=vin42,r=abc").await;
    assert_eq!(client.told().await.unwrap().name, "auth");
    client.auth(ReasonCode::ContinueAuthentication, &[b'x'; 2_000]).await;
    assert_eq!(
        client.told().await.unwrap(),
        Told {
            name: "connack",
            reason: 0x95,
            method: String::new(),
            data: vec![]
        }
    );
    let (mut client, end) = enter(&stage, "vin42", "vin42", "s3cret").await;
    assert_eq!(end, ("connack", 0));
    client.device.publish("a", 1, 1, "x".repeat(2_000)).await;
    assert_eq!(client.told().await.unwrap().name, "puback");
}

#[tokio::test]
async fn a_client_that_lives_authenticates_again() {
    let (stage, file) = stage("any", "").await;
    let (mut client, _) = enter(&stage, "vin42", "vin42", "s3cret").await;
    for _ in 0..3 {
        assert_eq!(client.again("vin42", "s3cret").await, ("auth", 0));
    }
    client.device.publish("a", 1, 1, "x").await;
    assert_eq!(client.told().await.unwrap().name, "puback");
    for (user, password) in [("vin42", "wrong"), ("vin43", "other"), ("nobody", "x")] {
        let (mut client, _) = enter(&stage, "vin42", "vin42", "s3cret").await;
        assert_eq!(client.again(user, password).await, ("disconnect", 0x87), "{user}");
        assert_eq!(client.told().await, None);
    }
    assert_eq!(stage.metric("refusals_total{reason=\"another_identity\"}"), 1);
    // Who is taken out of the file cannot do it again.
    let (mut client, _) = enter(&stage, "vin42", "vin42", "s3cret").await;
    users(file.path(), &[("vin43", "other")]);
    let began = std::time::Instant::now();
    while client.again("vin42", "s3cret").await == ("auth", 0) {
        assert!(began.elapsed() < relay_stage::PATIENCE, "it is let in for ever");
    }
    assert_eq!(client.told().await, None);
}

/// By who it was until then, whoever it says it is now.
#[tokio::test]
async fn the_audit_log_tells_who_could_not_authenticate_again() {
    let (log, _logging) = Log::listen();
    let (stage, _file) = stage("any", "").await;
    for (id, user, password, reason) in [
        ("a", "vin42", "wrong", "wrong_password"),
        ("b", "vin43", "other", "another_identity"),
        ("c", "nobody", "x", "unknown_credentials"),
    ] {
        let (mut client, end) = enter(&stage, id, "vin42", "s3cret").await;
        assert_eq!(end, ("connack", 0));
        assert_eq!(client.again("vin42", "s3cret").await, ("auth", 0));
        assert!(log.told("login_refused", id).is_empty(), "nothing was refused yet");
        assert_eq!(client.again(user, password).await, ("disconnect", 0x87), "{user}");
        log.assert_told("login_refused", id, "vin42", "", reason);
        assert_eq!(log.told("login_refused", id).len(), 1, "{id}");
    }
}

/// By whom the first message names, as its CONNECT has no user name; nobody has verified it.
#[tokio::test]
async fn the_audit_log_tells_who_could_not_authenticate() {
    let (log, _logging) = Log::listen();
    let (stage, _file) = stage("any", "").await;
    for (id, user, password, reason) in [
        ("a", "vin42", "wrong", "wrong_password"),
        ("b", "nobody", "x", "unknown_credentials"),
    ] {
        let (_client, end) = enter(&stage, id, user, password).await;
        assert_eq!(end, ("connack", 0x86), "{user}");
        log.assert_told("login_refused", id, user, "", reason);
        assert_eq!(log.told("login_refused", id).len(), 1, "{id}");
    }
    let mut client = Client::connect_as(&stage, "e", Some("any"), METHOD, b"n,,n=vin42,r=abc").await;
    assert_eq!(client.told().await.unwrap().name, "auth");
    client.auth(ReasonCode::ContinueAuthentication, b"c=biws,r=other,p=AAAA").await;
    assert_eq!(client.told().await.unwrap().reason, 0x86);
    log.assert_told("login_refused", "e", "vin42", "", "scram_malformed");
    // What no message of the method says, the user name does.
    for (id, method, message, named, code, reason) in [
        ("c", METHOD, "n,,r=abc,n=vin42", "any", 0x86, "scram_malformed"),
        ("d", "SCRAM-SHA-1", "n,,n=vin42,r=abc", "any", 0x8C, "authentication_method"),
    ] {
        let mut client = Client::connect_as(&stage, id, Some("any"), method, message.as_bytes()).await;
        let told = client.told().await.unwrap();
        assert_eq!((told.name, told.reason), ("connack", code), "{message}");
        log.assert_told("login_refused", id, named, "", reason);
    }
}

/// Who is shown salt and iterations and says nothing more is in the log as well as who says something wrong.
#[tokio::test]
async fn the_audit_log_tells_who_did_not_finish_to_authenticate() {
    let (log, _logging) = Log::listen();
    let (stage, _file) = stage("any", "limits: {connect_timeout: 1s}\n").await;
    let begin = async |id| {
        let mut client = Client::connect(&stage, id, METHOD, b"n,,n=vin42,r=abc").await;
        assert_eq!(client.told().await.unwrap().name, "auth");
        client
    };
    let mut silent = begin("a").await;
    let mut other = begin("b").await;
    other.send(&Packet::PingReq).await;
    let mut broken = begin("c").await;
    broken.device.bytes(b"\xf0\x01\x55").await;
    for (client, id, reason) in [(&mut silent, "a", 0x87), (&mut other, "b", 0x82), (&mut broken, "c", 0x81)] {
        let told = client.told().await.unwrap();
        assert_eq!((told.name, told.reason), ("connack", reason), "{id}");
        assert_eq!(client.told().await, None);
        log.assert_told("login_refused", id, "vin42", "", "authentication_unfinished");
        assert_eq!(log.told("login_refused", id).len(), 1, "{id}");
    }
    assert_eq!(stage.metric("refusals_total{reason=\"authentication_unfinished\"}"), 3);
    // Who goes by itself was not refused.
    let mut gone = begin("d").await;
    gone.device.bytes(b"\xe0\0").await;
    assert_eq!(gone.told().await, None);
    assert!(log.told("login_refused", "d").is_empty());
}

/// There is no user name in its CONNECT: who it is was proved by AUTH.
#[tokio::test]
async fn the_audit_log_tells_who_comes_with_a_client_id_that_is_not_its_own() {
    let (log, _logging) = Log::listen();
    let (stage, _file) = stage("identity", "").await;
    let (_client, end) = enter(&stage, "vin43", "vin42", "s3cret").await;
    assert_eq!(end, ("connack", 0x87));
    log.assert_told("login_refused", "vin43", "vin42", "", "client_id_not_of_identity");
    assert_eq!(log.told("login_refused", "vin43").len(), 1);
}

/// A list without the method, and none at all.
#[tokio::test]
async fn without_the_method_nobody_is_let_in_by_it() {
    let (log, _logging) = Log::listen();
    for (id, more, named) in [("a", "", ""), ("b", "authentication: [{method: anonymous}]\n", "vin42")] {
        let fake = Fake::start(1).await;
        fake.topic("t", 1);
        let stage = Stage::start(fake, &format!("{RULES}{more}")).await;
        let mut client = Client::connect(&stage, id, METHOD, b"n,,n=vin42,r=abc").await;
        let told = client.told().await.unwrap();
        assert_eq!((told.name, told.reason), ("connack", 0x8C));
        assert_eq!(stage.metric("refusals_total{reason=\"authentication_method\"}"), 1);
        // Its address, too, where nobody is asked who he is.
        log.assert_told("login_refused", id, named, "", "authentication_method");
    }
}
