//! Who is let in and what they may do, through the whole proxy: CONNACK, PUBACK, SUBACK, expiry, files that change.
#![allow(clippy::unwrap_used)] // Test code: a failed unwrap is a failed test.

mod fake_broker;
mod relay_stage;

use std::{path::Path, time::SystemTime};

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHasher, phc::PasswordHash},
};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use fake_broker::Fake;
use mqtt_kafka_proxy::auth::{Chain, Method, passwords};
use relay_stage::{
    PATIENCE, Stage,
    device::{Device, connect, login, subscribe, taking, will},
};

const RULES: &str = "rules: [{name: all, mqtt: \"{topic#}\", kafka: {topic: t, key: \"{topic}\"}}]\n";

async fn stage(more: &str) -> Stage {
    let fake = Fake::start(1).await;
    fake.topic("t", 1);
    Stage::start(fake, &format!("{RULES}{more}")).await
}

/// A password file with `vin42`, whose password is "s3cret".
fn users() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    write(file.path(), "s3cret");
    file
}

fn write(path: &Path, password: &str) {
    std::fs::write(path, passwords::entry("vin42", password.as_bytes()).unwrap()).unwrap();
}

fn by_password(file: &Path, more: &str) -> String {
    format!("authentication: [{{method: password_file, file: \"{}\"{more}}}]\n", file.display())
}

/// What CONNECT is answered with.
async fn answer(stage: &Stage, version: u8, connect: &mqttbytes::v5::Connect) -> String {
    let mut device = Device::open(stage.address, version).await;
    device.connect(connect).await;
    device.line().await
}

#[tokio::test]
async fn passwords_right_wrong_unknown_and_missing() {
    let file = users();
    let stage = stage(&by_password(file.path(), "")).await;
    for (version, wrong, missing) in [(5, "connack 0x86", "connack 0x87"), (4, "connack 0x04", "connack 0x05")] {
        assert_eq!(answer(&stage, version, &login("a", "vin42", "s3cret")).await, "connack 0x00");
        for refused in [login("b", "vin42", "wrong"), login("b", "vin43", "s3cret")] {
            assert_eq!(answer(&stage, version, &refused).await, wrong, "{refused:?}");
        }
        assert_eq!(answer(&stage, version, &connect("c")).await, missing);
    }
    assert_eq!(stage.metric("refusals_total{reason=\"wrong_password\"}"), 2);
    assert_eq!(stage.metric("refusals_total{reason=\"no_credentials\"}"), 2);
    assert_eq!(stage.metric("refusals_total{reason=\"unknown_credentials\"}"), 2);
}

#[tokio::test]
async fn whoever_is_refused_takes_nobodys_session() {
    let file = users();
    let stage = stage(&by_password(file.path(), ", client_id: identity")).await;
    let mut device = Device::connected_as(stage.address, 5, &login("vin42", "vin42", "s3cret")).await;
    assert_eq!(answer(&stage, 5, &login("vin42", "vin42", "wrong")).await, "connack 0x86");
    assert_eq!(answer(&stage, 5, &login("vin43", "vin42", "s3cret")).await, "connack 0x87");
    assert_eq!(device.fence().await, [] as [&str; 0]);
}

/// A stage whose file asks for passwords, and its listener for what this says.
async fn stage_of_its_own(users: &Path, own: Option<Chain>) -> Stage {
    let fake = Fake::start(1).await;
    fake.topic("t", 1);
    Stage::with(fake, &format!("{RULES}{}", by_password(users, "")), |config| {
        config.access.listeners.insert("tcp".to_owned(), own.map(Into::into));
    })
    .await
}

#[tokio::test]
async fn a_listener_has_its_own_methods() {
    let file = users();
    let open = Chain::new(vec![(Method::Anonymous, Default::default())]);
    let stage = stage_of_its_own(file.path(), Some(open)).await;
    assert_eq!(answer(&stage, 5, &connect("a")).await, "connack 0x00");
    assert_eq!(answer(&stage, 5, &login("a", "vin42", "s3cret")).await, "connack 0x86");
}

/// `authentication: none`.
#[tokio::test]
async fn a_listener_that_asks_nobody_lets_in_whoever_comes_whatever_name_or_password_he_shows() {
    let file = users();
    let stage = stage_of_its_own(file.path(), None).await;
    for version in [4, 5] {
        for shown in [
            connect("a"),
            login("a", "vin42", "s3cret"),
            login("a", "vin42", "wrong"),
            login("a", "vin43", ""),
        ] {
            assert_eq!(answer(&stage, version, &shown).await, "connack 0x00", "{shown:?}");
        }
    }
}

#[tokio::test]
async fn a_file_that_changes_is_read_again() {
    let file = users();
    let stage = stage(&by_password(file.path(), "")).await;
    assert_eq!(answer(&stage, 5, &login("a", "vin42", "s3cret")).await, "connack 0x00");
    write(file.path(), "another");
    let began = SystemTime::now();
    while answer(&stage, 5, &login("a", "vin42", "another")).await != "connack 0x00" {
        assert!(began.elapsed().unwrap() < PATIENCE, "the new password is never taken");
    }
    assert_eq!(answer(&stage, 5, &login("a", "vin42", "s3cret")).await, "connack 0x86");
    // What cannot be used changes nothing; the look at it is seen by the time it takes, so ask beyond the second between looks.
    std::fs::write(file.path(), "no password file").unwrap();
    let began = SystemTime::now();
    while began.elapsed().unwrap().as_millis() < 1_200 {
        assert_eq!(answer(&stage, 5, &login("a", "vin42", "another")).await, "connack 0x00");
    }
}

/// A password file with `vin42` whose hash takes four times what ours take: 80 ms of a core.
fn costly_users() -> tempfile::NamedTempFile {
    let params = Params::new(Params::DEFAULT_M_COST, 4 * Params::DEFAULT_T_COST, Params::DEFAULT_P_COST, None).unwrap();
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash: PasswordHash = argon2.hash_password(b"s3cret").unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("vin42:{hash}")).unwrap();
    file
}

/// Meanwhile connections that are there go on, and the process does no more than its cores allow. All of the proxy is on this one thread,
/// but for the hashes.
#[tokio::test]
async fn a_flood_of_wrong_passwords_hurts_nobody_who_is_there() {
    let file = costly_users();
    let stage = stage(&by_password(file.path(), "")).await;
    let mut device = Device::connected_as(stage.address, 5, &login("a", "vin42", "s3cret")).await;
    let mut flood = vec![];
    for _ in 0..60 {
        flood.push(Device::open(stage.address, 5).await);
    }
    for (n, hostile) in flood.iter_mut().enumerate() {
        hostile.connect(&login(&format!("h{n}"), "vin42", "wrong")).await;
    }
    device.publish("t/a", 1, 1, "through").await;
    assert_eq!(device.line().await, "puback 1");
    // Were they hashed where connections are served, this answer would have come behind theirs.
    let answered = stage.metric("refusals_total{reason=\"wrong_password\"}");
    assert!(answered < 30, "{answered} of 60 were answered before");
    // Half of them leave: their questions are asked for nobody, and must not be in the way.
    flood.truncate(30);
    for mut hostile in flood {
        assert_eq!(hostile.line().await, "connack 0x86");
    }
}

const RIGHTS: &str = "authentication: [{method: anonymous}]\n\
    authorization:\n\
    - {deny: [publish, subscribe], topics: [\"own/secret/#\"]}\n\
    - {allow: [publish, subscribe], topics: [\"own/{client}/#\", \"own/secret/#\"], qos: 1}\n";

#[tokio::test]
async fn what_is_not_allowed_is_not_stored_and_not_delivered() {
    let stage = stage(RIGHTS).await;
    let mut five = stage.v5("five").await;
    five.publish("own/five/a", 1, 1, "allowed").await;
    assert_eq!(five.line().await, "puback 1");
    five.publish("own/five/a", 1, 2, "allowed again").await;
    assert_eq!(five.line().await, "puback 2");
    for (topic, qos, told) in [
        ("own/four/a", 1, "puback 3 0x87 not_authorized"),
        ("own/secret/a", 1, "puback 3 0x87 not_authorized"),
        ("own/five/a", 2, "pubrec 3 0x87 not_authorized"),
    ] {
        five.publish(topic, qos, 3, "refused").await;
        assert_eq!(five.line().await, told, "{topic}");
    }
    five.publish("own/four/a", 0, 0, "refused").await;
    for (filter, told) in [
        ("own/five/#", "suback 1 1"),
        ("own/#", "suback 1 0x87"),
        ("own/secret/a", "suback 1 0x87"),
        ("#", "suback 1 0x87"),
    ] {
        five.send_subscribe(&subscribe(filter, 1)).await;
        assert_eq!(five.line().await, told, "{filter}");
    }
    // The right is one up to QoS 1, and a subscription is not made at a lower one than was asked for.
    five.send_subscribe(&subscribe("own/five/#", 2)).await;
    assert_eq!(five.line().await, "suback 1 0x87");
    let mut four = stage.v4("four").await;
    four.send_subscribe(&subscribe("own/five/#", 1)).await;
    assert_eq!(four.line().await, "suback 1 0x80");
    four.publish("own/five/a", 1, 1, "refused").await;
    assert_eq!(four.line().await, "closed");
    assert_eq!(stage.stored("t", 2).await, ["allowed", "allowed again"]);
    assert_eq!(stage.metric("refusals_total{reason=\"not_authorized\"}"), 10);
}

/// More topics than are remembered of a connection, twice and in turn with what looks alike: nothing is allowed for what was before it.
#[tokio::test]
async fn what_was_allowed_once_is_no_right_to_anything_else() {
    let stage = stage(RIGHTS).await;
    let mut five = stage.v5("five").await;
    let mut wanted = vec![];
    for round in 0..3 {
        for n in 0..12 {
            for (topic, qos, told) in [
                (format!("own/five/{n}"), 1, "puback 7"),
                (format!("own/five/{n}"), 2, "pubrec 7 0x87 not_authorized"),
                (format!("own/four/{n}"), 1, "puback 7 0x87 not_authorized"),
            ] {
                five.publish(&topic, qos, 7, format!("{round} {n}")).await;
                assert_eq!(five.line().await, told, "{topic}");
            }
            wanted.push(format!("{round} {n}"));
        }
    }
    assert_eq!(stage.stored("t", wanted.len()).await, wanted);
}

#[tokio::test]
async fn three_one_one_may_be_acknowledged_and_dropped() {
    let stage = stage(&format!("{RIGHTS}unauthorized: drop\n")).await;
    let mut four = stage.v4("four").await;
    four.publish("own/five/a", 1, 1, "refused").await;
    assert_eq!(four.line().await, "puback 1");
    four.publish("own/four/a", 1, 2, "allowed").await;
    assert_eq!(four.line().await, "puback 2");
    let mut five = stage.v5("five").await;
    five.publish("own/four/a", 1, 1, "refused").await;
    assert_eq!(five.line().await, "puback 1 0x87 not_authorized");
    assert_eq!(stage.stored("t", 1).await, ["allowed"]);
}

/// What needs no answer ends the connection as what would.
#[tokio::test]
async fn three_one_one_is_closed_for_what_it_must_not_publish_at_each_qos() {
    for (more, closed) in [("", true), ("unauthorized: close\n", true), ("unauthorized: drop\n", false)] {
        let stage = stage(&format!("{RIGHTS}{more}")).await;
        for qos in [0, 1] {
            let mut four = stage.v4("four").await;
            four.publish("own/five/a", qos, u16::from(qos), "refused").await;
            match (closed, qos) {
                (true, _) => assert_eq!(four.line().await, "closed", "{more}{qos}"),
                (false, 0) => assert_eq!(four.fence().await, [] as [&str; 0]),
                (false, _) => assert_eq!(four.line().await, "puback 1"),
            }
        }
        let mut five = stage.v5("five").await;
        five.publish("own/four/a", 0, 0, "refused").await;
        assert_eq!(five.fence().await, [] as [&str; 0], "{more}");
        assert_eq!(stage.metric("refusals_total{reason=\"not_authorized\"}"), 3, "{more}");
    }
}

/// Or its client, which has heard nothing of them, would send them again, and the other one, too, and so on.
#[tokio::test]
async fn what_is_refused_at_qos_0_ends_behind_the_answers_of_those_before_it() {
    let stage = stage(RIGHTS).await;
    let mut four = stage.v4("four").await;
    // All in one write: Kafka has answered nothing by the time the third one is refused.
    let topic = |topic: &str| [&[0, topic.len() as u8][..], topic.as_bytes()].concat();
    let publish = |qos: u8, name: &str, id: &[u8]| {
        let body = [&topic(name)[..], id, b"x"].concat();
        [&[0x30 | qos << 1, body.len() as u8][..], &body].concat()
    };
    let batch = [
        publish(1, "own/four/a", &[0, 1]),
        publish(1, "own/four/b", &[0, 2]),
        publish(0, "own/five/a", &[]),
        publish(0, "own/five/a", &[]),
        // Not taken: it would be stored now, and again when the client comes back.
        publish(1, "own/four/c", &[0, 3]),
    ];
    four.bytes(&batch.concat()).await;
    for told in ["puback 1", "puback 2", "closed"] {
        assert_eq!(four.line().await, told);
    }
    assert_eq!(stage.stored("t", 2).await, ["x", "x"]);
}

#[tokio::test]
async fn a_will_needs_the_right_to_be_published() {
    let stage = stage(RIGHTS).await;
    for (version, told) in [(5, "connack 0x87"), (4, "connack 0x05")] {
        let mut connect = connect("a");
        connect.last_will = will("own/b/gone");
        assert_eq!(answer(&stage, version, &connect).await, told);
        connect.last_will = will("own/a/gone");
        assert_eq!(answer(&stage, version, &connect).await, "connack 0x00");
    }
}

fn token(key: &Ed25519KeyPair, claims: &str) -> String {
    let signed = format!("{}.{}", BASE64.encode(r#"{"alg":"EdDSA"}"#), BASE64.encode(claims));
    let signature = BASE64.encode(key.sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

/// A key, the file that has it, and what asks for tokens under it.
fn by_token() -> (Ed25519KeyPair, tempfile::NamedTempFile, String) {
    let key = Ed25519KeyPair::generate().unwrap();
    let jwks = tempfile::NamedTempFile::new().unwrap();
    let x = BASE64.encode(key.public_key());
    std::fs::write(
        jwks.path(),
        format!(r#"{{"keys": [{{"kty": "OKP", "crv": "Ed25519", "x": "{x}"}}]}}"#),
    )
    .unwrap();
    let method = format!(
        "authentication: [{{method: jwt, jwks: \"{}\", leeway: 0s}}]\n",
        jwks.path().display()
    );
    (key, jwks, method)
}

/// It is not waited for until `connect_timeout`, and not over and over again until then.
#[tokio::test]
async fn a_token_that_expires_before_kafka_is_there_is_refused() {
    let (key, _jwks, method) = by_token();
    let fake = Fake::start(1).await;
    fake.topic("t", 1);
    fake.paused.send_replace(true);
    let stage = Stage::launch(fake, &format!("{RULES}{method}"), |config| {
        (config.limits.connect_timeout, config.session.connect_timeout) = (PATIENCE * 2, PATIENCE * 2);
    })
    .await;
    for (version, told) in [(5, "connack 0x87 the credentials have expired"), (4, "connack 0x05")] {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let brief = token(&key, &format!(r#"{{"sub": "vin42", "exp": {}}}"#, now + 2));
        let mut connect = login("a", "any", &brief);
        connect.last_will = will("a/gone");
        assert_eq!(answer(&stage, version, &connect).await, told);
        assert!(
            SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() >= now + 2,
            "it was good until then"
        );
    }
    assert_eq!(stage.fake.all_values("t"), [] as [&str; 0]);
}

#[tokio::test]
async fn a_token_lets_in_until_it_expires() {
    let (key, _jwks, method) = by_token();
    let rights = "authorization: [{allow: [publish], topics: [\"fleet/{claim.fleet}/{identity}\"]}]\n";
    let stage = stage(&format!("{method}{rights}")).await;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let good = token(&key, &format!(r#"{{"sub": "vin42", "exp": {}, "fleet": "north"}}"#, now + 3));
    let old = token(&key, &format!(r#"{{"sub": "vin42", "exp": {}}}"#, now - 1));
    let other = token(
        &Ed25519KeyPair::generate().unwrap(),
        &format!(r#"{{"sub": "vin42", "exp": {}}}"#, now + 60),
    );
    for bad in [&old, &other, &good[..good.len() - 4], "eyJ.x.y", "no token"] {
        assert_eq!(answer(&stage, 5, &login("a", "any", bad)).await, "connack 0x86", "{bad}");
    }
    let mut five = Device::connected_as(stage.address, 5, &login("a", "any", &good)).await;
    let mut four = Device::connected_as(stage.address, 4, &login("b", "any", &good)).await;
    five.publish("fleet/north/vin42", 1, 1, "mine").await;
    assert_eq!(five.line().await, "puback 1");
    five.publish("fleet/south/vin42", 1, 2, "not mine").await;
    assert_eq!(five.line().await, "puback 2 0x87 not_authorized");
    assert_eq!(five.line().await, "disconnect 0x87");
    assert_eq!(five.line().await, "closed");
    assert_eq!(four.line().await, "closed");
    let ended = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    assert!(ended >= now + 3, "not before the token expired");
    assert_eq!(answer(&stage, 5, &login("a", "any", &good)).await, "connack 0x86");
}

/// Clocks differ by as much: at the login and on the connection alike.
#[tokio::test]
async fn a_token_is_good_for_its_leeway_more() {
    let (key, _jwks, method) = by_token();
    let stage = stage(&method.replace("leeway: 0s", "leeway: 5s")).await;
    let now = || SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let expires = now() - 1;
    let late = token(&key, &format!(r#"{{"sub": "vin42", "exp": {expires}}}"#));
    let mut device = Device::connected_as(stage.address, 5, &login("a", "any", &late)).await;
    assert_eq!(device.line().await, "disconnect 0x87");
    assert_eq!(device.line().await, "closed");
    assert!(now() >= expires + 5, "not before the leeway is over");
    assert_eq!(answer(&stage, 5, &login("a", "any", &late)).await, "connack 0x86");
}

#[tokio::test]
async fn an_identity_has_so_many_clients_and_no_more() {
    let file = users();
    std::fs::write(
        file.path(),
        passwords::with_user(&std::fs::read_to_string(file.path()).unwrap(), "vin43", b"s3cret").unwrap(),
    )
    .unwrap();
    let methods = by_password(file.path(), "}, {method: anonymous");
    let stage = stage(&format!("limits: {{connections_per_identity: 2}}\n{methods}")).await;
    let enter = async |client| Device::connected_as(stage.address, 5, &login(client, "vin42", "s3cret")).await;
    let (mut first, _second) = (enter("a").await, enter("b").await);
    for (version, told) in [(5, "connack 0x97"), (4, "connack 0x03")] {
        assert_eq!(answer(&stage, version, &login("c", "vin42", "s3cret")).await, told);
    }
    assert_eq!(
        answer(&stage, 5, &login("c", "vin43", "s3cret")).await,
        "connack 0x00",
        "another has its own"
    );
    for client in ["d", "e", "f"] {
        assert_eq!(answer(&stage, 5, &connect(client)).await, "connack 0x00", "nobody is no identity");
    }
    assert_eq!(stage.metric("refusals_total{reason=\"identity_limit\"}"), 2);
    // A client that comes back takes its former connection over, which counts as long as it ends.
    let again = enter("a").await;
    assert_eq!(first.line().await, "disconnect 0x8e");
    assert_eq!(answer(&stage, 5, &login("c", "vin42", "s3cret")).await, "connack 0x97");
    drop(again);
    let began = SystemTime::now();
    while answer(&stage, 5, &login("c", "vin42", "s3cret")).await != "connack 0x00" {
        assert!(began.elapsed().unwrap() < PATIENCE, "its place is never free");
    }
}

/// Its former connection hangs: it is taken over, and must not shut its own client out.
#[tokio::test]
async fn who_comes_back_with_the_client_id_that_it_was_given_is_the_same_client() {
    let file = users();
    let methods = by_password(file.path(), "");
    let stage = stage(&format!("limits: {{connections_per_identity: 1}}\n{methods}")).await;
    let mut first = Device::open(stage.address, 5).await;
    first.connect(&login("", "vin42", "s3cret")).await;
    let given = first.assigned_id().await;
    for other in ["", "b"] {
        assert_eq!(
            answer(&stage, 5, &login(other, "vin42", "s3cret")).await,
            "connack 0x97",
            "{other:?}"
        );
    }
    let _again = Device::connected_as(stage.address, 5, &login(&given, "vin42", "s3cret")).await;
    assert_eq!(first.line().await, "disconnect 0x8e");
}

/// A stored subscription to which its client has lost the right is left out, and is back with the right, unless it was unsubscribed meanwhile.
#[tokio::test]
async fn who_unsubscribes_what_it_has_no_right_to_any_more_does_not_get_it_back_with_the_right() {
    let fake = std::sync::Arc::new(Fake::start(1).await);
    fake.topic("t", 1);
    fake.topic("mqtt-sessions", 1);
    let all = format!("{RULES}sessions: {{expiry: {{}}}}\n");
    let some = format!("{all}authorization: [{{allow: [publish, subscribe], topics: [\"a\"]}}]\n");
    let mut staying = taking("d", 10);
    staying.clean_session = false;
    staying.properties.as_mut().unwrap().session_expiry_interval = Some(600);
    let first = Stage::start(fake.clone(), &all).await;
    let mut device = Device::connected_as(first.address, 5, &staying).await;
    for filter in ["a", "b", "c"] {
        device.subscribed(filter, 1).await;
    }
    device.disconnect(0).await;
    assert_eq!(device.rest().await, [] as [&str; 0]);
    let second = Stage::start(fake.clone(), &some).await;
    let mut device = Device::connected_as(second.address, 5, &staying).await;
    device.unsubscribe("b").await;
    device.disconnect(0).await;
    assert_eq!(device.rest().await, [] as [&str; 0]);
    let mut device = Device::connected_as(first.address, 5, &staying).await;
    for (id, topic) in (1..).zip(["a", "b", "c"]) {
        device.publish(topic, 1, id, topic).await;
    }
    let mut heard = Vec::new();
    while heard.last().is_none_or(|last| last != "c") {
        let line = device.line().await;
        heard.extend(line.strip_prefix("publish ").map(|rest| rest.split(' ').nth(1).unwrap().to_owned()));
    }
    assert_eq!(heard, ["a", "c"]);
}
