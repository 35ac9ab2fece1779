//! Sessions that Kafka ends after four seconds (`connections.max.reauth.ms`, KIP-368): renewed under load, on the same connections.

use super::issuer::{CLIENT, Issuer, SECRET};
use super::listeners::{PASSWORD, USER, scratch};
use super::secure_kafka;
use crate::away::connections;
use crate::load::client::Version;
use crate::load::ledger;
use crate::load::publish::{Load, Progress, run};
use crate::load::subscribe::{Audience, seat};
use crate::publish::{crowd, rule};
use crate::stage::{DEADLINE, Proxy, eventually};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::runtime::Runtime;

const CLIENTS: u32 = 10;
/// Of each client, 50 in a second: twelve seconds.
const MESSAGES: u64 = 600;

/// All that is published under load comes back to a subscriber, once and in order, while the sessions are renewed again and again.
async fn under_load(proxy: &Proxy, topic: &str) {
    let audience = Audience {
        address: proxy.mqtt,
        version: Version::V5,
        clients: 2,
        filter: format!("{topic}/+/telemetry/#"),
        qos: 1,
        receive_maximum: None,
        name: format!("{topic}-seat-"),
        patience: DEADLINE,
    };
    let load = Load {
        rate: Some(500.0),
        ..crowd(proxy.mqtt, topic, CLIENTS, MESSAGES)
    };
    let seated = seat(&audience).await.unwrap();
    let all = tokio::spawn(seated.receive(u64::from(CLIENTS) * MESSAGES));
    let report = run(&load, &Arc::new(Progress::default())).await.unwrap();
    assert_eq!(report.acknowledged, u64::from(CLIENTS) * MESSAGES);
    for one in all.await.unwrap().unwrap() {
        one.ledger.exact(CLIENTS, MESSAGES).unwrap();
    }
}

#[test]
fn sessions_are_renewed_under_load_and_no_message_is_lost() {
    let secure = secure_kafka();
    let ca = secure.ours.file("ca.pem");
    // Its tokens are renewed after 16 of these seconds, so each session has 4 of them at least. It is renewed after 2.9 of those at the latest,
    // behind a fetch that waits for half a second: what is left is for a machine that has other things to do.
    let issuer = Issuer::start(None, 20);
    let url = format!("http://127.0.0.1:{}/token", issuer.port);
    let ways = [
        (
            "renew-plain",
            "mechanism: PLAIN, username: proxy, password: \"${PASSWORD}\"".to_owned(),
        ),
        (
            "renew-scram",
            format!("mechanism: SCRAM-SHA-512, username: \"{USER}\", password: \"${{PASSWORD}}\""),
        ),
        (
            "renew-oauth",
            format!("mechanism: OAUTHBEARER, token_endpoint: \"{url}\", client_id: {CLIENT}, client_secret: \"${{SECRET}}\""),
        ),
    ];
    let server = format!("127.0.0.1:{}", secure.brief);
    let proxies = ways.map(|(topic, sasl)| {
        secure.kafka.topic(topic, 3);
        let security = format!(", security: {{protocol: sasl_ssl, sasl: {{{sasl}}}, tls: {{ca: \"{ca}\"}}}}");
        let environment = [("PASSWORD", PASSWORD), ("SECRET", SECRET)];
        (topic, Proxy::launch_in(&environment, &server, &rule(topic), &security))
    });
    for (_, proxy) in &proxies {
        eventually("ready", || (proxy.get("/readyz").ok()?.0 == 200).then_some(()));
    }
    Runtime::new().unwrap().block_on(async {
        let [(a, first), (b, second), (c, third)] = &proxies;
        tokio::join!(under_load(first, a), under_load(second, b), under_load(third, c));
    });
    for (topic, proxy) in &proxies {
        ledger::read_topic(&secure.kafka.bootstrap, topic)
            .unwrap()
            .exact(CLIENTS, MESSAGES)
            .unwrap();
        let (renewed, ended) = (proxy.metric(&["kafka_reauthentications"]), proxy.metric(&["kafka_disconnects"]));
        // Those that stay: others are opened for one question, the more of them the busier Kafka is when it has started.
        let open = eventually("metadata, records in and records out have one each", || {
            Some(connections(proxy.id(), secure.brief)).filter(|open| *open >= 3)
        });
        println!("{topic}: {open} connections, {renewed} renewals, {ended} ended");
        assert_eq!(ended, 0.0, "{topic}: a connection ended");
        // Some are opened later than others.
        assert!(renewed >= 2.0 * open as f64, "{topic}: {renewed} renewals of {open} connections");
        assert_eq!(proxy.metric(&["kafka_produce_retries"]), 0.0, "{topic}");
    }
    eventually("a second token", || (issuer.given.load(Relaxed) >= 2).then_some(()));
}

#[test]
fn credentials_that_are_withdrawn_end_the_session_and_are_told() {
    let (secure, folder) = (secure_kafka(), scratch());
    let password = folder.path().join("password");
    fs::write(&password, PASSWORD).unwrap();
    let ca = secure.ours.file("ca.pem");
    let file = password.display();
    let sasl = format!("{{mechanism: PLAIN, username: proxy, password: \"file:{file}\"}}");
    let security = format!(", security: {{protocol: sasl_ssl, sasl: {sasl}, tls: {{ca: \"{ca}\"}}}}");
    let proxy = Proxy::start(&format!("127.0.0.1:{}", secure.brief), &rule("nothing"), &security);
    fs::write(&password, "withdrawn").unwrap();
    eventually("it is refused", || {
        let (status, why) = proxy.get("/readyz").ok()?;
        (status == 503 && why.contains("SASL PLAIN: Authentication failed")).then_some(())
    });
    fs::write(&password, PASSWORD).unwrap();
    eventually("it is taken", || (proxy.get("/readyz").ok()?.0 == 200).then_some(()));
}
