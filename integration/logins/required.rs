//! Listeners that let nobody in without a certificate, `mqtts` and `wss`: each state of it, by each real client that shows one. Browsers do not.

use super::Wanted::{Closed, In};
use super::clients::{Client, VERSIONS};
use super::{Case, Login, NOT_AUTHORIZED, certificate, certificates, rules, run_by};
use crate::security::Authority;
use crate::shared_kafka;
use crate::stage::{Proxy, eventually};
use rcgen::date_time_ymd;
use std::path::Path;

/// The Kafka topic, and the MQTT topic that each publishes to.
const TOPIC: &str = "logins-required";

/// Who signs certificates.
struct Authorities {
    fleet: Authority,
    strangers: Authority,
    /// Of the same name as the fleet's, with another key.
    pretenders: Authority,
}

impl Authorities {
    fn new(folder: &Path) -> Self {
        let fleet = certificates::fleet(folder);
        fleet.issue("", &[]);
        fleet.issue_until("old", &[], 2021);
        fleet.issue_edited("early", &[], |params| params.not_before = date_time_ymd(2098, 1, 1));
        let strangers = Authority::new(folder, "strangers");
        let pretenders = Authority::new(&folder.join("other"), "fleet");
        strangers.issue("vin42", &[]);
        pretenders.issue("vin42", &[]);
        Self {
            fleet,
            strangers,
            pretenders,
        }
    }

    /// Who is refused in the handshake: the state, what is shown, and the reason that the audit log has.
    fn refused(&self) -> Vec<(&'static str, Login, &'static str)> {
        let of_fleet = |name| certificate(&self.fleet, name);
        let password = Login::Password("vin42", "s3cret".to_owned());
        vec![
            ("wrong", certificate(&self.strangers, "vin42"), "certificate_of_unknown_authority"),
            (
                "wrong: an authority of that name",
                certificate(&self.pretenders, "vin42"),
                "certificate_not_legal",
            ),
            ("wrong: a server's", of_fleet("server"), "certificate_not_legal"),
            ("missing", Login::Nothing, "certificate_missing"),
            ("missing, a password", password, "certificate_missing"),
            ("expired", of_fleet("old"), "certificate_expired"),
            ("not yet good", of_fleet("early"), "certificate_not_valid_yet"),
            ("revoked", of_fleet("withdrawn"), "certificate_revoked"),
            ("revoked: an authority between", of_fleet("plant/vin42"), "certificate_revoked"),
            ("malformed: no DER", of_fleet("broken"), "certificate_not_legal"),
        ]
    }
}

#[test]
fn where_a_certificate_is_required_a_good_one_is_let_in_and_nobody_else() {
    let kafka = shared_kafka();
    kafka.topic(TOPIC, 1);
    let folder = tempfile::tempdir().unwrap();
    let authorities = Authorities::new(folder.path());
    let fleet = &authorities.fleet;
    let own = ["ca.pem", "ca.crl"].map(|name| fleet.file(name));
    let proxy = Proxy::start_requiring(&own, &kafka.bootstrap, &rules(TOPIC, "certificate", ""));
    let case = |state, login, wanted| Case {
        method: "certificate, required",
        state,
        login,
        wanted,
    };
    let refused = authorities.refused();
    let reasons: Vec<_> = refused.iter().map(|(state, _, reason)| (*state, *reason)).collect();
    let mut cases: Vec<_> = refused.into_iter().map(|(state, login, _)| case(state, login, Closed)).collect();
    cases.extend([
        case("right", certificate(fleet, "vin42"), In("vin42")),
        case("right: an authority between", certificate(fleet, "depot/vin42"), In("vin42")),
        case("malformed: no name", certificate(fleet, ""), NOT_AUTHORIZED),
    ]);
    let (table, mut stored) = run_by(&Client::WITH_CERTIFICATES, &cases, TOPIC, |_| &proxy);
    println!("{table}");
    let mut found = kafka.consume(TOPIC, "%k|%s");
    found.sort_unstable();
    stored.sort_unstable();
    assert_eq!(found, stored, "who was let in, as whom, and nobody else");
    for (listener, clients) in [("tls", 2), ("wss", 1)] {
        let wanted = (reasons.len() * VERSIONS.len() * clients) as f64;
        let words = [
            "connections_refused_total",
            &format!("listener=\"{listener}\""),
            "reason=\"handshake\"",
        ];
        eventually("each refused handshake is counted, once", || {
            (proxy.metric(&words) == wanted).then_some(())
        });
    }
    // The first client alone makes as many lines as are written in a second, so none of its reasons is left out.
    let log = proxy.log();
    let refused: Vec<_> = log.lines().filter(|line| line.contains("event=\"certificate_refused\"")).collect();
    for (state, reason) in reasons {
        let told = refused.iter().any(|line| line.contains(&format!("reason=\"{reason}\"")));
        assert!(told, "{state}: no {reason} in {log}");
    }
    assert!(log.contains("event=\"login_refused\""), "who has no name: {log}");
}
