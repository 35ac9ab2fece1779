//! Logins that a server decides: what it is asked, what it may say, and what becomes of clients when it does not answer.
#![allow(clippy::unwrap_used)] // Test code: a failed unwrap is a failed test.

mod audit_log;
mod fake_broker;
mod http_server;
mod relay_stage;

use std::time::SystemTime;

use audit_log::Log;
use fake_broker::{Fake, client::until};
use http_server::HttpServer;
use relay_stage::{
    PATIENCE, Stage,
    device::{Device, connect, login},
};

const RULES: &str = "rules: [{name: all, mqtt: \"{topic#}\", kafka: {topic: t, key: \"{topic}\"}}]\n";

/// A proxy that asks this server, with these keys more.
async fn stage(server: &HttpServer, method: &str, more: &str) -> Stage {
    let fake = Fake::start(1).await;
    fake.topic("t", 1);
    let url = server.url("/mqtt/login");
    let rules = format!("{RULES}authentication:\n- {{method: http, url: \"{url}\"{method}}}\n{more}");
    Stage::start(fake, &rules).await
}

async fn answer(stage: &Stage, version: u8, connect: &mqttbytes::v5::Connect) -> String {
    let mut device = Device::open(stage.address, version).await;
    device.connect(connect).await;
    device.line().await
}

fn json(request: &str) -> serde_json::Value {
    let (_, body) = request.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap()
}

#[tokio::test]
async fn a_server_decides_and_says_who_it_is() {
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "t0ken\n").unwrap();
    let expires = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() + 600;
    let body = format!(r#"{{"result":"allow","identity":"vin42","claims":{{"fleet":"north"}},"expires_at":{expires}}}"#);
    let server = HttpServer::start(&body).await;
    let rights = "authorization: [{allow: [publish], topics: [\"fleet/{claim.fleet}/{identity}\"]}]\n";
    let stage = stage(&server, &format!(", token: \"file:{}\"", token.path().display()), rights).await;
    let mut device = Device::connected_as(stage.address, 5, &login("a", "any", "s3cret")).await;
    device.publish("fleet/north/vin42", 1, 1, "mine").await;
    assert_eq!(device.line().await, "puback 1");
    device.publish("fleet/south/vin42", 1, 2, "not mine").await;
    assert_eq!(device.line().await, "puback 2 0x87 not_authorized");
    let asked = server.asked();
    let [request] = &asked[..] else { panic!("{asked:?}") };
    assert!(request.starts_with("POST /mqtt/login HTTP/1.1\r\n"), "{request}");
    assert!(
        request.to_ascii_lowercase().contains("\r\nauthorization: bearer t0ken\r\n"),
        "{request}"
    );
    let expected = serde_json::json!({"client": "a", "username": "any", "password": "s3cret", "address": "127.0.0.1"});
    assert_eq!(json(request), expected);
    server.answer("200 OK", "", r#"{"result":"deny"}"#);
    assert_eq!(answer(&stage, 5, &login("b", "any", "s3cret")).await, "connack 0x86");
    assert_eq!(answer(&stage, 4, &login("b", "any", "s3cret")).await, "connack 0x04");
    assert_eq!(
        answer(&stage, 5, &connect("b")).await,
        "connack 0x87",
        "who shows nothing is not asked about"
    );
    assert_eq!(stage.metric("refusals_total{reason=\"denied_by_server\"}"), 2);
    assert_eq!(stage.metric("login_requests_total"), 2);
    assert_eq!(stage.metric("login_cache_hits_total"), 1);
}

#[tokio::test]
async fn answers_are_known_for_a_while_and_to_the_same_question() {
    let server = HttpServer::start(r#"{"result":"allow"}"#).await;
    let stage = stage(&server, "", "").await;
    for _ in 0..5 {
        assert_eq!(answer(&stage, 5, &login("a", "vin42", "s3cret")).await, "connack 0x00");
    }
    assert_eq!(server.asked().len(), 1);
    server.answer("200 OK", "cache-control: no-store\r\n", r#"{"result":"deny"}"#);
    for other in [
        login("a", "vin42", "other"),
        login("a", "vin43", "s3cret"),
        login("b", "vin42", "s3cret"),
    ] {
        for _ in 0..2 {
            assert_eq!(answer(&stage, 5, &other).await, "connack 0x86");
        }
    }
    assert_eq!(server.asked().len(), 7, "what the server wants not to be stored is not");
}

/// The server says until when: then the connection ends, and the next login is asked about, whatever `cache` says.
#[tokio::test]
async fn an_answer_is_known_no_longer_than_it_holds() {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let until = |seconds: u64| format!(r#"{{"result":"allow","expires_at":{}}}"#, now + seconds);
    let server = HttpServer::start(&until(3)).await;
    let stage = stage(&server, ", cache: 10m", "").await;
    let mut device = Device::connected_as(stage.address, 5, &login("a", "vin42", "s3cret")).await;
    server.answer("200 OK", "", &until(600));
    assert_eq!(device.rest().await, ["disconnect 0x87"]);
    assert!(SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() >= now + 3, "it ended too early");
    assert_eq!(answer(&stage, 5, &login("a", "vin42", "s3cret")).await, "connack 0x00");
    assert_eq!(answer(&stage, 5, &login("a", "vin42", "s3cret")).await, "connack 0x00");
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
async fn what_is_no_answer_lets_nobody_in() {
    let server = HttpServer::start("").await;
    let stage = stage(&server, ", timeout: 1s", "- {method: anonymous}\n").await;
    for (status, body) in [
        ("200 OK", ""),
        ("200 OK", "<html>"),
        ("200 OK", r#"{"result":true}"#),
        ("200 OK", r#"{"result":"allow","identity":""}"#),
        ("204 No Content", ""),
        ("302 Found", r#"{"result":"allow"}"#),
        ("401 Unauthorized", r#"{"result":"allow"}"#),
        ("500 Oops", r#"{"result":"allow"}"#),
    ] {
        server.answer(status, "", body);
        assert_eq!(
            answer(&stage, 5, &login("a", "vin42", "s3cret")).await,
            "connack 0x88",
            "{status} {body}"
        );
    }
    server.answer("200 OK", "", &format!("{{\"result\":\"allow\",\"x\":\"{}\"}}", "x".repeat(100_000)));
    assert_eq!(answer(&stage, 5, &login("a", "vin42", "s3cret")).await, "connack 0x88", "too long");
    server.go_away();
    assert_eq!(answer(&stage, 4, &login("a", "vin42", "s3cret")).await, "connack 0x03");
    server.fall_silent();
    assert_eq!(answer(&stage, 5, &login("a", "vin42", "s3cret")).await, "connack 0x88");
    assert_eq!(stage.metric("login_request_failures_total"), 11);
    assert_eq!(
        answer(&stage, 5, &connect("a")).await,
        "connack 0x00",
        "who shows nothing is anonymous"
    );
    server.answer("200 OK", "", r#"{"result":"allow"}"#);
    assert_eq!(
        answer(&stage, 5, &login("a", "vin42", "s3cret")).await,
        "connack 0x00",
        "it is back"
    );
}

/// Twenty that have sent CONNECT.
async fn twenty(stage: &Stage) -> Vec<Device> {
    let mut waiting = vec![];
    for n in 0..20 {
        let mut device = Device::open(stage.address, 5).await;
        device.connect(&login(&format!("w{n}"), "vin42", "s3cret")).await;
        waiting.push(device);
    }
    waiting
}

/// A server that does not answer holds up those whom it is to decide about, as many as may be asked at a time and the others in line, and
/// nobody else. All of them hear within the time-out.
#[tokio::test]
async fn a_silent_server_holds_up_nobody_else() {
    let server = HttpServer::start("").await;
    server.fall_silent();
    let stage = stage(&server, ", timeout: 1s, concurrency: 2", "- {method: anonymous}\n").await;
    let mut there = stage.v5("there").await;
    let waiting = twenty(&stage).await;
    there.publish("t/a", 1, 1, "through").await;
    assert_eq!(there.line().await, "puback 1");
    let mut late = stage.v5("late").await;
    assert_eq!(late.fence().await, [] as [&str; 0]);
    for mut device in waiting {
        assert_eq!(device.line().await, "connack 0x88");
    }
}

/// However many wait, the server is asked about two of them, and about the next when it has answered.
#[tokio::test]
async fn no_more_are_asked_at_a_time_than_may_be() {
    let server = HttpServer::start("").await;
    server.fall_silent();
    let stage = stage(&server, ", timeout: 60s, concurrency: 2", "- {method: anonymous}\n").await;
    let mut there = stage.v5("there").await;
    let waiting = twenty(&stage).await;
    until("two are asked about", || server.asked().len() >= 2).await;
    there.publish("t/a", 1, 1, "through").await;
    assert_eq!(there.line().await, "puback 1");
    assert_eq!(stage.v5("late").await.fence().await, [] as [&str; 0]);
    assert_eq!(server.asked().len(), 2, "two at a time");
    server.answer("200 OK", "", r#"{"result":"allow"}"#);
    for mut device in waiting {
        assert_eq!(device.line().await, "connack 0x00");
    }
    assert_eq!(server.asked().len(), 20, "one after the other");
}

/// However it goes: nobody is asked about a client that is gone. Long before its connect deadline, which is beyond our patience.
#[tokio::test]
async fn who_has_gone_is_not_asked_about_any_more() {
    for reset in [false, true] {
        let server = HttpServer::start("").await;
        server.fall_silent();
        let fake = Fake::start(1).await;
        fake.topic("t", 1);
        let url = server.url("/mqtt/login");
        let method = format!("{RULES}authentication:\n- {{method: http, url: \"{url}\", timeout: 60s, concurrency: 1}}\n");
        let stage = Stage::with(fake, &method, |config| {
            (config.limits.connect_timeout, config.session.connect_timeout) = (PATIENCE * 3, PATIENCE * 3);
        })
        .await;
        let mut gone = Device::open(stage.address, 5).await;
        gone.connect(&login("gone", "vin42", "s3cret")).await;
        until("it is asked about", || server.asked().len() == 1).await;
        let mut stays = Device::open(stage.address, 5).await;
        stays.connect(&login("stays", "vin42", "s3cret")).await;
        if reset {
            gone.stream.set_zero_linger().unwrap();
        }
        drop(gone);
        until("the next one is asked about", || server.asked().len() == 2).await;
        assert_eq!(json(&server.asked()[1])["client"], "stays", "reset: {reset}");
    }
}

/// `timeout` of the method may be longer than a CONNECT has.
#[tokio::test]
async fn who_is_refused_as_nobody_answers_in_time_is_told() {
    let (log, _logging) = Log::listen();
    let server = HttpServer::start("").await;
    server.fall_silent();
    let stage = stage(&server, ", timeout: 60s", "limits: {connect_timeout: 1s}\n").await;
    for (version, told) in [(5, "connack 0x88"), (4, "connack 0x03")] {
        let client = format!("c{version}");
        let answered = answer(&stage, version, &login(&client, "vin42", "s3cret")).await;
        assert!(answered.starts_with(told), "{answered}");
        log.assert_told("login_refused", &client, "vin42", "", "login_unanswered");
        assert_eq!(log.told("login_refused", &client).len(), 1);
    }
    assert_eq!(stage.metric("refusals_total{reason=\"login_unanswered\"}"), 2);
    assert_eq!(stage.metric("refusals_total{reason=\"server_unavailable\"}"), 0);
}

/// What it sends behind its CONNECT is for later.
#[tokio::test]
async fn what_comes_while_a_client_is_asked_about_is_taken_when_it_is_let_in() {
    let server = HttpServer::start("").await;
    server.fall_silent();
    let stage = stage(&server, ", timeout: 60s, concurrency: 1", "").await;
    let mut early = Device::open(stage.address, 5).await;
    early.connect(&login("early", "vin42", "s3cret")).await;
    until("it is asked about", || server.asked().len() == 1).await;
    early.publish("t/a", 1, 1, "early").await;
    let mut next = Device::open(stage.address, 5).await;
    next.connect(&login("next", "vin42", "s3cret")).await;
    server.answer("200 OK", "", r#"{"result":"allow"}"#);
    assert_eq!(early.line().await, "connack 0x00");
    assert_eq!(early.line().await, "puback 1");
    assert_eq!(next.line().await, "connack 0x00");
    assert_eq!(stage.stored("t", 1).await, ["early"]);
}

#[tokio::test]
async fn a_server_may_leave_it_to_the_next_method() {
    let users = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(users.path(), mqtt_kafka_proxy::auth::passwords::entry("vin42", b"s3cret").unwrap()).unwrap();
    let server = HttpServer::start(r#"{"result":"ignore"}"#).await;
    let more = format!("- {{method: password_file, file: \"{}\"}}\n", users.path().display());
    let stage = stage(&server, "", &more).await;
    assert_eq!(answer(&stage, 5, &login("a", "vin42", "s3cret")).await, "connack 0x00");
    assert_eq!(answer(&stage, 5, &login("a", "vin42", "wrong")).await, "connack 0x86");
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
async fn a_server_is_asked_by_tls_under_its_own_authority() {
    let (server, ca) = HttpServer::start_tls(r#"{"result":"allow"}"#).await;
    let stage = stage(&server, &format!(", ca: \"{}\"", ca.display()), "").await;
    assert_eq!(answer(&stage, 5, &login("a", "vin42", "s3cret")).await, "connack 0x00");
}
