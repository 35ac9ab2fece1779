//! The order of the chain, and what each method takes for its own.

use super::*;
use crate::auth::{Certificate, passwords};

const WRONG: ReasonCode = ReasonCode::BadUserNameOrPassword;
const NO: ReasonCode = ReasonCode::NotAuthorized;

fn users() -> Method {
    let text = passwords::entry("vin42", b"s3cret").unwrap();
    Method::Passwords(Held::new("users.txt".into(), Passwords::parse(&text).unwrap()))
}

fn chain(methods: Vec<Method>, binding: Binding) -> Chain {
    Chain::new(methods.into_iter().map(|m| (m, binding)).collect())
}

fn user<'a>(username: &'a str, password: &'a str) -> Credentials<'a> {
    Credentials {
        client: "c",
        username: Some(username),
        password: Some(password.as_bytes()),
        certificate: None,
    }
}

const NOTHING: Credentials<'static> = Credentials {
    client: "c",
    username: None,
    password: None,
    certificate: None,
};

fn named<'a>(common_name: &'a str, dns: &'a [String]) -> Credentials<'a> {
    let certificate = Certificate {
        common_name: Some(common_name),
        subject: None,
        dns,
        uris: &[],
        emails: &[],
        addresses: &[],
    };
    Credentials {
        certificate: Some(certificate),
        ..NOTHING
    }
}

impl Chain {
    /// Of methods that ask nobody.
    fn judge(&self, shown: &Credentials<'_>, now: u64) -> Verdict {
        match self.go_on(&mut Inquiry::default(), shown, now) {
            Step::Decided(verdict) => verdict,
            Step::Ask(_) => panic!("a server is asked"),
        }
    }
}

/// The identity, "" for nobody, or the reason and why.
fn said(verdict: Verdict) -> Result<String, (ReasonCode, &'static str)> {
    match verdict {
        Verdict::Accepted { principal, .. } => Ok(principal.map_or(String::new(), |p| p.name.to_string())),
        Verdict::Refused { reason, why } => Err((reason, why)),
        Verdict::NotBound(_) => Err(NOT_ITS_CLIENT_ID),
    }
}

#[test]
fn a_wrong_password_never_makes_somebody_anonymous() {
    let chain = chain(vec![users(), Method::Anonymous], Binding::Any);
    assert_eq!(said(chain.judge(&user("vin42", "s3cret"), 0)), Ok("vin42".to_owned()));
    assert_eq!(said(chain.judge(&user("vin42", "wrong"), 0)), Err((WRONG, "wrong_password")));
    assert_eq!(said(chain.judge(&user("vin43", "s3cret"), 0)), Err((WRONG, "unknown_credentials")));
    assert_eq!(said(chain.judge(&NOTHING, 0)), Ok(String::new()));
    let only_name = Credentials {
        password: None,
        ..user("vin42", "")
    };
    assert_eq!(said(chain.judge(&only_name, 0)), Err((WRONG, "unknown_credentials")));
}

#[test]
fn nobody_is_let_in_by_methods_that_have_nothing_to_look_at() {
    let chain = chain(vec![Method::Certificate(CertificateName::CommonName), users()], Binding::Any);
    assert_eq!(said(chain.judge(&NOTHING, 0)), Err((NO, "no_credentials")));
    assert_eq!(said(Chain::new(vec![]).judge(&NOTHING, 0)), Err((NO, "no_credentials")));
}

#[test]
fn the_first_that_knows_the_credentials_decides() {
    let with_password = Credentials {
        certificate: named("device", &[]).certificate,
        ..user("vin42", "wrong")
    };
    let certificate = || Method::Certificate(CertificateName::CommonName);
    let first = chain(vec![certificate(), users()], Binding::Any);
    assert_eq!(said(first.judge(&with_password, 0)), Ok("device".to_owned()));
    let last = chain(vec![users(), certificate()], Binding::Any);
    assert_eq!(said(last.judge(&with_password, 0)), Err((WRONG, "wrong_password")));
}

#[test]
fn a_name_that_is_not_the_only_one_is_none() {
    let two = ["a.example".to_owned(), "b.example".to_owned()];
    let chain = chain(vec![Method::Certificate(CertificateName::Dns)], Binding::Any);
    assert_eq!(said(chain.judge(&named("x", &two[..1]), 0)), Ok("a.example".to_owned()));
    assert_eq!(said(chain.judge(&named("x", &two), 0)), Err((NO, "no_credentials")));
    assert_eq!(
        said(chain.judge(&named("x", &["a\nb".to_owned()]), 0)),
        Err((WRONG, "identity_not_legal"))
    );
}

/// Also what looks the same stays apart: an address as a DNS name is none.
#[test]
fn each_kind_of_name_is_found_among_its_own() {
    let [dns, uri, email, ip] = ["10.1.2.4", "spiffe://fleet/vin42", "vin42@fleet.example", "10.1.2.3"].map(|name| [name.to_owned()]);
    let certificate = Certificate {
        common_name: Some("vin42"),
        subject: Some("CN=vin42"),
        dns: &dns,
        uris: &uri,
        emails: &email,
        addresses: &ip,
    };
    for (name, identity) in [
        (CertificateName::CommonName, "vin42"),
        (CertificateName::Subject, "CN=vin42"),
        (CertificateName::Dns, "10.1.2.4"),
        (CertificateName::Uri, "spiffe://fleet/vin42"),
        (CertificateName::Email, "vin42@fleet.example"),
        (CertificateName::Ip, "10.1.2.3"),
    ] {
        let chain = chain(vec![Method::Certificate(name)], Binding::Any);
        let judged = |certificate| {
            said(chain.judge(
                &Credentials {
                    certificate: Some(certificate),
                    ..NOTHING
                },
                0,
            ))
        };
        assert_eq!(judged(certificate), Ok(identity.to_owned()), "{name:?}");
        let without = Certificate {
            addresses: &[],
            ..certificate
        };
        assert_eq!(judged(without).is_ok(), name != CertificateName::Ip, "{name:?}");
    }
}

#[test]
fn client_ids_are_bound() {
    for (binding, client, holds) in [
        (Binding::Any, "other", true),
        (Binding::Equal, "vin4", true),
        (Binding::Equal, "vin4~a", false),
        (Binding::Equal, "", false),
        (Binding::Prefix, "vin4", true),
        (Binding::Prefix, "vin4~a", true),
        (Binding::Prefix, "vin4~a~b", true),
        (Binding::Prefix, "vin4~", true),
        // These may be other identities.
        (Binding::Prefix, "vin4-a", false),
        (Binding::Prefix, "vin42", false),
        (Binding::Prefix, "~vin4", false),
        (Binding::Prefix, "", false),
        (Binding::Prefix, "vin4ä", false),
        (Binding::Prefix, "vin", false),
    ] {
        let chain = chain(vec![Method::Certificate(CertificateName::CommonName)], binding);
        let verdict = said(chain.judge(
            &Credentials {
                client,
                ..named("vin4", &[])
            },
            0,
        ));
        let expected = if holds {
            Ok("vin4".to_owned())
        } else {
            Err((NO, "client_id_not_of_identity"))
        };
        assert_eq!(verdict, expected, "{binding:?} {client}");
    }
}

#[test]
fn logs_call_a_client_by_its_user_name_or_by_what_its_certificate_is_asked_for() {
    let dns = ["vin42.example".to_owned()];
    let both = named("any", &dns);
    let by = |name| {
        chain(
            vec![users(), Method::Certificate(name), Method::Certificate(CertificateName::Subject)],
            Binding::Any,
        )
    };
    for (name, found) in [
        (CertificateName::Dns, Some("vin42.example")),
        (CertificateName::CommonName, Some("any")),
        // Not another one, which the authority need not vouch for.
        (CertificateName::Uri, None),
    ] {
        let chain = by(name);
        assert_eq!(chain.named(&both), found);
        for (username, told) in [("", found), ("vin43", Some("vin43"))] {
            let username = Some(username);
            assert_eq!(chain.named(&Credentials { username, ..both }), told, "{username:?}");
        }
        assert_eq!(chain.named(&NOTHING), None);
    }
    let by_server = chain(vec![Method::Http(0)], Binding::Any);
    assert_eq!(by_server.named(&both), Some("any"));
}

#[test]
fn only_what_costs_time_is_slow() {
    let chain = chain(vec![Method::Certificate(CertificateName::CommonName), users()], Binding::Any);
    assert!(chain.is_slow(&user("a", "b")));
    assert!(!chain.is_slow(&named("x", &[])));
}

/// `vin4~a` may be a device of `vin4`: nobody else may be called so, by whichever method.
#[test]
fn identities_whose_client_id_would_be_anothers_are_none() {
    for (binding, expected) in [
        (Binding::Any, Ok("vin4~a".to_owned())),
        (Binding::Equal, Err((WRONG, "identity_not_legal"))),
        (Binding::Prefix, Err((WRONG, "identity_not_legal"))),
    ] {
        let chain = chain(vec![Method::Certificate(CertificateName::CommonName)], binding);
        let shown = Credentials {
            client: "vin4~a",
            ..named("vin4~a", &[])
        };
        assert_eq!(said(chain.judge(&shown, 0)), expected, "{binding:?}");
    }
}

#[test]
fn where_client_ids_are_bound_nobody_has_one_of_his_choice() {
    let unnamed = Credentials { client: "", ..NOTHING };
    for binding in [Binding::Equal, Binding::Prefix] {
        let chain = Chain::new(vec![(users(), binding), (Method::Anonymous, Binding::Any)]);
        let taken = Credentials {
            client: "vin42",
            ..NOTHING
        };
        assert_eq!(said(chain.judge(&taken, 0)), Err((NO, "client_id_not_of_identity")));
        assert_eq!(said(chain.judge(&unnamed, 0)), Ok(String::new()));
    }
}

/// What takes time must not depend on whether and where there is such a user.
#[test]
fn several_password_files_cost_one_hash() {
    let file = |user| {
        let text = passwords::entry(user, b"s3cret").unwrap();
        Method::Passwords(Held::new("users.txt".into(), Passwords::parse(&text).unwrap()))
    };
    let chain = chain(vec![file("one"), file("two"), file("three")], Binding::Any);
    let judged = |name, password| {
        passwords::HASHES.set(0);
        let verdict = said(chain.judge(&user(name, password), 0));
        (verdict, passwords::HASHES.get())
    };
    for name in ["one", "two", "three"] {
        assert_eq!(judged(name, "wrong"), (Err((WRONG, "wrong_password")), 1), "{name}");
        assert_eq!(judged(name, "s3cret"), (Ok(name.to_owned()), 1), "{name}");
    }
    assert_eq!(judged("four", "s3cret"), (Err((WRONG, "unknown_credentials")), 1));
    let name_only = Credentials {
        password: None,
        ..user("one", "")
    };
    passwords::HASHES.set(0);
    assert_eq!(said(chain.judge(&name_only, 0)), Err((WRONG, "unknown_credentials")));
    assert_eq!(passwords::HASHES.get(), 0);
}

/// Whoever comes before the keys do is not told that its token is wrong.
#[test]
fn without_keys_yet_nobody_can_tell() {
    let keys = Arc::<Fetched>::default();
    let demands = Demands {
        claim: "sub".to_owned(),
        issuer: None,
        audience: None,
        leeway: std::time::Duration::ZERO,
        kept: vec![],
    };
    let method = Method::Jwt {
        keys: Keys::Fetched(keys.clone()),
        demands,
    };
    let chain = chain(vec![method, Method::Anonymous], Binding::Any);
    // `{"alg":"EdDSA"}`, no claims, no signature.
    let token = user("any", "eyJhbGciOiJFZERTQSJ9.e30.AAAA");
    let mut inquiry = Inquiry::default();
    let step = chain.go_on(&mut inquiry, &token, 0);
    assert_eq!(step, Step::Decided(refused(ReasonCode::ServerUnavailable, "key_set_unavailable")));
    assert!(inquiry.wants_newer_keys());
    assert_eq!(said(chain.judge(&user("any", "no token"), 0)), Err((WRONG, "unknown_credentials")));
    assert_eq!(chain.fetched().count(), 1);
    let set = r#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    keys.set(jwt::KeySet::parse(set).unwrap());
    let step = chain.go_on(&mut inquiry, &token, 0);
    assert_eq!(step, Step::Decided(refused(WRONG, "token_signature")), "it was looked at again");
    assert!(!inquiry.wants_newer_keys(), "its key is there");
}

/// Nor whether newer keys are waited for.
#[test]
fn a_known_user_s_token_wants_keys_as_an_unknown_one_s() {
    let demands = Demands {
        claim: "sub".to_owned(),
        issuer: None,
        audience: None,
        leeway: std::time::Duration::ZERO,
        kept: vec![],
    };
    let keys = Keys::Fetched(Arc::default());
    let chain = chain(vec![users(), Method::Jwt { keys, demands }], Binding::Any);
    for name in ["vin42", "vin43"] {
        let mut inquiry = Inquiry::default();
        let step = chain.go_on(&mut inquiry, &user(name, "eyJhbGciOiJFZERTQSJ9.e30.AAAA"), 0);
        assert!(inquiry.wants_newer_keys(), "{name}");
        assert_eq!(
            step,
            Step::Decided(refused(ReasonCode::ServerUnavailable, "key_set_unavailable")),
            "{name}"
        );
    }
}

#[path = "chain_server_tests.rs"]
mod servers;
