//! How often the rights are asked, and where clients come from.

use super::*;
use crate::{
    auth::{Binding, CertificateName, Pattern, Right, Who},
    mqtt::{Connect, Packet},
};

fn rights(allow: bool) -> Arc<Rights> {
    let right = Right {
        allow,
        publish: true,
        subscribe: false,
        who: Who::default(),
        topics: vec![Pattern::parse("#").unwrap()],
        max_qos: QoS::ExactlyOnce,
        retain: true,
    };
    Arc::new(Rights::new(vec![right]))
}

fn guard(rights: Arc<Rights>) -> Guard {
    Guard {
        peer: "127.0.0.1:1".parse().unwrap(),
        chain: None,
        rights: Some(rights),
        certificate: None,
        named: None,
        principal: None,
        enhanced: None,
        counted: None,
        expires: None,
        allowed: Vec::new(),
    }
}

/// About how many of these messages the rights are asked. They allow all: what is allowed while they would deny it was not asked about.
fn decisions(guard: &mut Guard, messages: &[(&str, QoS, bool)]) -> usize {
    let mut asked = 0;
    for &(topic, qos, retain) in messages {
        guard.rights = Some(rights(false));
        if !guard.may_publish("c", topic, qos, retain) {
            asked += 1;
            guard.rights = Some(rights(true));
            assert!(guard.may_publish("c", topic, qos, retain), "a refusal is not remembered");
        }
    }
    asked
}

fn message(topic: &str) -> (&str, QoS, bool) {
    (topic, QoS::AtLeastOnce, false)
}

#[test]
fn what_was_allowed_is_decided_once() {
    let mut guard = guard(rights(true));
    let own = message("a/b");
    assert_eq!(decisions(&mut guard, &[own]), 1);
    assert_eq!(decisions(&mut guard, &[own; 1000]), 0);
    let others = [message("a/c"), ("a/b", QoS::ExactlyOnce, false), ("a/b", QoS::AtLeastOnce, true)];
    assert_eq!(decisions(&mut guard, &others), 3, "another topic, another QoS, RETAIN");
    assert_eq!(decisions(&mut guard, &[others, [own; 3]].concat()), 0);
}

#[test]
fn the_topics_used_last_are_remembered() {
    let mut guard = guard(rights(true));
    let topics: Vec<String> = (0..=MOST_REMEMBERED).map(|n| format!("a/{n}")).collect();
    let all: Vec<_> = topics.iter().map(|topic| message(topic)).collect();
    let (&last, most) = all.split_last().unwrap();
    assert_eq!(decisions(&mut guard, most), MOST_REMEMBERED);
    assert_eq!(decisions(&mut guard, &most.repeat(3)), 0);
    // The oldest one is used again, so the next one goes when there is one too many.
    assert_eq!(decisions(&mut guard, &[most[0], last, most[0]]), 1);
    assert_eq!(decisions(&mut guard, &[most[1]]), 1);
    assert_eq!(guard.allowed.len(), MOST_REMEMBERED);
    let (longest, longer) = ("a".repeat(LONGEST_REMEMBERED), "a".repeat(LONGEST_REMEMBERED + 1));
    assert_eq!(decisions(&mut guard, &[message(&longest); 2]), 1);
    assert_eq!(decisions(&mut guard, &[message(&longer); 2]), 2, "it is too long");
}

#[test]
fn who_comes_by_a_unix_socket_has_no_address() {
    let address = |peer: &str| {
        let peer = peer.parse().unwrap();
        let guard = Guard {
            peer,
            ..guard(rights(true))
        };
        guard.address()
    };
    assert_eq!(address("0.0.0.0:0"), None);
    for known in ["10.1.2.3:4", "[2001:db8::1]:4"] {
        assert_eq!(address(known), Some(known.parse().unwrap()));
    }
}

/// Whom the audit log names where SCRAM is refused that said no name.
#[test]
fn who_begins_enhanced_authentication_is_named_by_user_or_certificate() {
    let named = |username, user: Option<&str>| {
        let mut connect = Connect {
            version: Version::V5,
            clean_start: true,
            keep_alive: 0,
            client_id: "c",
            will: None,
            username,
            password: None,
            properties: Default::default(),
        };
        connect.properties.authentication_method = Some("SCRAM-SHA-256");
        let now = Instant::now();
        let mut session = Session::new(Arc::default(), now);
        session.handle(&Packet::Connect(Box::new(connect)), now);
        let certificate = CertificateIdentity {
            common_name: Some("vin42".to_owned()),
            ..CertificateIdentity::default()
        };
        let chain = Chain::new(vec![(Method::Certificate(CertificateName::CommonName), Binding::Any)]);
        let mut guard = Guard {
            certificate: Some(Box::new(certificate)),
            chain: Some(Arc::new(chain)),
            ..guard(rights(true))
        };
        assert!(guard.begun(&session, user).is_some());
        assert!(guard.certificate.is_none(), "it is kept no longer");
        guard.named.unwrap().into_string()
    };
    assert_eq!(named(None, None), "vin42");
    assert_eq!(named(Some("any"), None), "any");
    assert_eq!(named(Some("any"), Some("vin43")), "vin43");
}
