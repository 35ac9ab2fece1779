//! Servers that decide in the chain.

use super::*;

fn allow(identity: &str) -> Decision {
    Decision::Allow {
        identity: Principal::new(identity),
        claims: Box::new([("fleet".into(), "north".into())]),
        expires: Some(100),
    }
}

/// Asks the server `number`, which must be asked, and goes on with its answer.
fn answered(chain: &Chain, shown: &Credentials<'_>, number: usize, decision: Decision) -> Step {
    let mut inquiry = Inquiry::default();
    assert_eq!(chain.go_on(&mut inquiry, shown, 10), Step::Ask(number));
    inquiry.hear(decision);
    chain.go_on(&mut inquiry, shown, 10)
}

#[test]
fn a_server_lets_in_refuses_and_leaves_it_to_others() {
    let chain = chain(vec![Method::Http(7), users(), Method::Anonymous], Binding::Any);
    let shown = user("vin42", "s3cret");
    let said = |decision| match answered(&chain, &shown, 7, decision) {
        Step::Decided(verdict) => said(verdict),
        Step::Ask(number) => panic!("{number} is asked, too"),
    };
    assert_eq!(said(allow("other")), Ok("other".to_owned()));
    assert_eq!(said(allow("")), Ok("vin42".to_owned()), "the user name is the identity");
    assert_eq!(said(Decision::Deny), Err((WRONG, "denied_by_server")));
    assert_eq!(said(Decision::Ignore), Ok("vin42".to_owned()), "by the password file");
    assert_eq!(
        said(Decision::Unable),
        Err((ReasonCode::ServerUnavailable, "login_server_unavailable"))
    );
    let mut inquiry = Inquiry::default();
    inquiry.hear(allow("x"));
    let expired = chain.go_on(&mut inquiry, &shown, 100);
    assert_eq!(expired, Step::Decided(refused(WRONG, "credentials_expired")));
    let Step::Decided(Verdict::Accepted { principal, expires }) = answered(&chain, &shown, 7, allow("other")) else {
        panic!("not accepted")
    };
    let end = Expiry {
        at: 100,
        reason: "decision_expired",
    };
    assert_eq!((principal.unwrap().claims[0].1.as_ref(), expires), ("north", Some(end)));
}

#[test]
fn a_server_is_asked_about_whoever_shows_something() {
    let chain = chain(vec![Method::Http(0), Method::Anonymous], Binding::Any);
    assert_eq!(said(chain.judge(&NOTHING, 0)), Ok(String::new()));
    assert!(!chain.is_slow(&NOTHING));
    for shown in [named("device", &[]), user("a", "b")] {
        assert!(chain.is_slow(&shown));
        assert_eq!(chain.go_on(&mut Inquiry::default(), &shown, 0), Step::Ask(0));
    }
    let Step::Decided(verdict) = answered(&chain, &named("device", &[]), 0, allow("")) else {
        panic!("asked again")
    };
    assert_eq!(said(verdict), Err((WRONG, "identity_not_legal")), "there is no user name to take");
}

/// Whether a file knows a user must not show in whether a server behind it is asked.
#[test]
fn a_wrong_password_takes_the_way_of_an_unknown_user() {
    let chain = chain(vec![users(), Method::Http(1), users()], Binding::Any);
    for (name, why) in [("vin42", "wrong_password"), ("vin43", "denied_by_server")] {
        passwords::HASHES.set(0);
        let step = answered(&chain, &user(name, "wrong"), 1, Decision::Deny);
        assert_eq!(step, Step::Decided(refused(WRONG, why)), "{name}");
        assert_eq!(passwords::HASHES.get(), 1, "{name}: also over the question");
    }
    for name in ["vin42", "vin43"] {
        let step = answered(&chain, &user(name, "wrong"), 1, Decision::Unable);
        let unable = refused(ReasonCode::ServerUnavailable, "login_server_unavailable");
        assert_eq!(step, Step::Decided(unable), "{name}");
    }
    let step = answered(&chain, &user("vin42", "wrong"), 1, allow("vin42"));
    assert_eq!(step, Step::Decided(refused(WRONG, "wrong_password")), "it is known, and wrong");
}

#[test]
fn servers_bind_client_ids_as_others_do() {
    let chain = chain(vec![Method::Http(0)], Binding::Equal);
    let said = |identity| match answered(&chain, &user("c", "x"), 0, allow(identity)) {
        Step::Decided(verdict) => said(verdict),
        Step::Ask(_) => panic!("asked again"),
    };
    assert_eq!(said("c"), Ok("c".to_owned()));
    assert_eq!(said("d"), Err((NO, "client_id_not_of_identity")));
}
