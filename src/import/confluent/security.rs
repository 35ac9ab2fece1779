//! Listeners, and TLS and SASL on both sides.

use core::net::{IpAddr, SocketAddr};
use std::fmt::Write;

use super::sasl::kafka_sasl;
use super::stores::{store, store_of_kafka, trust, trust_of_kafka};
use super::{Import, LOGIN_OF_CLIENTS, Property};
use crate::import::yaml::{NOBODY_ASKED, text};

const DEFAULT_LISTENER: &str = "0.0.0.0:1883";
/// Protocols of Kafka; the lowest bit of their number is TLS, the other a login.
const PROTOCOLS: [&str; 4] = ["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"];

/// What stands in front of an address, `SCHEME://`, and the address.
pub(super) fn parted(address: &str) -> (Option<&str>, &str) {
    match address.rsplit_once("://") {
        Some((scheme, place)) => (Some(scheme), place),
        None => (None, address),
    }
}

/// `listeners`, and `authentication`: where clients do not log in nobody asked them who they are.
pub(super) fn listeners(import: &mut Import) -> Result<String, String> {
    let protocol = import.take("listeners.security.protocol").map(|p| p.value.to_uppercase());
    let (is_tls, mut logs_in) = match protocol.as_deref() {
        None | Some("PLAINTEXT") => (false, false),
        Some("SSL" | "TLS") => (true, false),
        Some("SASL_PLAINTEXT") => (false, true),
        Some("SASL_SSL" | "SASL_TLS") => (true, true),
        Some(other) => return Err(format!("`listeners.security.protocol`: `{other}` is not known")),
    };
    let written = import.take("listeners").map_or_else(|| DEFAULT_LISTENER.to_owned(), |p| p.value);
    let (mut of_tls, mut counts): (Option<String>, [usize; 2]) = (None, [0, 0]);
    let mut out = String::from("listeners:\n");
    for listener in written.split(',').map(str::trim).filter(|one| !one.is_empty()) {
        let (scheme, place) = parted(listener);
        let of_scheme = scheme.map(is_tls_by_scheme).transpose()?.unwrap_or(is_tls);
        if scheme.is_some_and(|scheme| scheme.to_lowercase().starts_with("sasl")) && !logs_in {
            let told = format!("listeners: `{listener}` has clients log in, and `listeners.security.protocol` does not: they do");
            import.notes.push(told);
            logs_in = true;
        }
        if let Some(protocol) = protocol.as_ref().filter(|_| of_scheme != is_tls) {
            import.notes.push(format!(
                "listeners: `{listener}` and `listeners.security.protocol={protocol}` contradict each other: it has TLS"
            ));
        }
        let has_tls = of_scheme || is_tls;
        let (word, tls) = if has_tls {
            ("mqtts", of_tls.get_or_insert_with(|| tls(import)).as_str())
        } else {
            ("mqtt", "")
        };
        let count = &mut counts[usize::from(has_tls)];
        *count += 1;
        let name = if *count == 1 { word.to_owned() } else { format!("{word}-{count}") };
        let address = text(&address(import, place));
        writeln!(out, "  - {{name: {name}, address: {address}, protocol: {word}{tls}}}").expect("a String takes all");
    }
    if logs_in {
        out.push_str(&authentication(import));
    } else if import.login(LOGIN_OF_CLIENTS).is_some() {
        import.open.push(format!(
            "who is let in: the login module `{LOGIN_OF_CLIENTS}` is there, and by `listeners.security.protocol` no client logs in: write `authentication`"
        ));
    } else {
        out.push_str(NOBODY_ASKED);
    }
    Ok(out)
}

/// Whether the scheme of a listener means TLS.
fn is_tls_by_scheme(scheme: &str) -> Result<bool, String> {
    match scheme.to_lowercase().as_str() {
        // Its documentation has `https` in its example.
        "ssl" | "tls" | "mqtts" | "https" | "sasl_ssl" | "sasl_tls" => Ok(true),
        "tcp" | "mqtt" | "plaintext" | "sasl_plaintext" => Ok(false),
        _ => Err(format!("`listeners`: `{scheme}://` is not known")),
    }
}

/// Where a listener listens, as a number.
fn address(import: &mut Import, place: &str) -> String {
    let place = place.trim_end_matches('/');
    if place.parse::<SocketAddr>().is_ok() {
        return place.to_owned();
    }
    let (host, port) = place.rsplit_once(':').unwrap_or((place, "1883"));
    match host {
        "localhost" => format!("127.0.0.1:{port}"),
        "" => format!("0.0.0.0:{port}"),
        // Compose would have put the port in.
        host if host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() => format!("{host}:{port}"),
        host => {
            import.notes.push(format!(
                "listeners: `{host}` is a name; 0.0.0.0 listens at all addresses, of which you may write one"
            ));
            format!("0.0.0.0:{port}")
        }
    }
}

fn tls(import: &mut Import) -> String {
    let pem = store(import, "listeners.ssl.keystore", "server");
    let client = import
        .properties
        .take_first(&["listeners.ssl.client.auth", "listeners.ssl.client.authentication"]);
    let client_auth = client.and_then(|property| client_auth(import, &property));
    let mut out = format!(", tls: {{certificate: {}, key: {}", text(&pem.certificate), text(&pem.key));
    let ca = trust(import, "listeners.ssl.truststore", "client-ca");
    match (client_auth, ca) {
        (Some(client_auth), ca) => {
            let ca = ca.unwrap_or_else(|| "client-ca.pem".to_owned());
            write!(out, ", client_ca: {}, client_auth: {client_auth}", text(&ca)).expect("a String takes all");
        }
        (None, Some(_)) => import
            .notes
            .push("listeners.ssl.truststore: not used, as no client shows a certificate".to_owned()),
        (None, None) => {}
    }
    out.push('}');
    out
}

/// Whether clients show certificates. In what nobody understands nobody is let in without one.
fn client_auth(import: &mut Import, property: &Property) -> Option<&'static str> {
    match property.value.to_lowercase().as_str() {
        "required" => Some("required"),
        "requested" => Some("optional"),
        "none" => None,
        _ => {
            import.open.push(format!(
                "{}: {} = {} is not known, and clients must show certificates until it is: `client_auth` is `required` or `optional`; without it and \
                 `client_ca` they show none",
                property.place(),
                property.key,
                property.value
            ));
            Some("required")
        }
    }
}

fn authentication(import: &mut Import) -> String {
    let login = import.login(LOGIN_OF_CLIENTS);
    let module = login.as_ref().map(|login| login.module.as_str()).unwrap_or_default();
    if module.ends_with(".PropertyFileLoginModule") {
        let file = login.as_ref().and_then(|login| login.option("file")).unwrap_or("its file");
        import.notes.push(format!(
            "users.txt: for each user of {file}: mqtt-kafka-proxy password users.txt NAME"
        ));
    } else {
        let which = if module.is_empty() {
            "is in no file that was given"
        } else {
            "is no file of passwords"
        };
        import.open.push(format!(
            "who is let in: the login module `{LOGIN_OF_CLIENTS}` {which}; `authentication` asks a password file"
        ));
    }
    "\nauthentication: [{method: password_file, file: users.txt}]\n".to_owned()
}

/// `kafka.security`, or nothing; `prefixes` is what stands in front of `bootstrap.servers`.
pub(super) fn kafka(import: &mut Import, prefixes: &[&str]) -> String {
    let Some(word) = kafka_protocol(import, prefixes) else {
        return String::new();
    };
    let mut out = format!("  security:\n    protocol: {word}\n");
    if word.ends_with("ssl") {
        out.push_str(&kafka_tls(import));
    }
    if word.starts_with("sasl") {
        out.push_str(&kafka_sasl(import));
    }
    out
}

/// `security.protocol`, or, where that is not written, what protects most of what stands in front of servers.
fn kafka_protocol(import: &mut Import, prefixes: &[&str]) -> Option<&'static str> {
    let of_servers: Vec<usize> = prefixes.iter().filter_map(|prefix| protocol_number(prefix)).collect();
    if let Some(property) = import.take_of_kafka("security.protocol") {
        let said = format!("{}: {} = {}", property.place(), property.key, property.value);
        if let Some(written) = protocol_number(&property.value) {
            if let Some(other) = of_servers.iter().find(|number| **number != written) {
                let other = PROTOCOLS[*other];
                import.notes.push(format!(
                    "{said}: it is what counts; `bootstrap.servers` contradict it: `{other}://`"
                ));
            }
            return Some(PROTOCOLS[written]);
        }
        import.open.push(format!("{said} is not known"));
    }
    // Names of listeners are none.
    if let Some(name) = prefixes.iter().find(|prefix| protocol_number(prefix).is_none()) {
        import.open.push(format!(
            "bootstrap.servers: `{name}://` is no protocol, and `security.protocol` says none: is there TLS, or a login?"
        ));
    }
    let most = of_servers.iter().fold(0, |most: usize, number| most | *number);
    if most == 0 {
        return None;
    }
    let word = PROTOCOLS[most];
    let contradiction = if of_servers.iter().all(|number| *number == most) {
        ""
    } else {
        ", which contradict each other: it is what protects most"
    };
    import.notes.push(format!(
        "security.protocol: it is not written; {word} is of what stands in front of `bootstrap.servers`{contradiction}"
    ));
    Some(word)
}

fn protocol_number(word: &str) -> Option<usize> {
    PROTOCOLS.iter().position(|known| known.eq_ignore_ascii_case(word))
}

fn kafka_tls(import: &mut Import) -> String {
    let key = "ssl.endpoint.identification.algorithm";
    match import.take_even_empty_of_kafka(key) {
        Some(property) if property.value.eq_ignore_ascii_case("https") => {
            let note = "brokers' names are compared with their certificates, as `https` says";
            import.notes.push(note.to_owned());
        }
        Some(property) => import.properties.leave(
            property,
            "brokers' names are compared with their certificates here, and that cannot be switched off: brokers are refused whose certificates do not have \
             the names of `bootstrap.servers` and of their `advertised.listeners`: give them such certificates (a subject alternative name), or reach them by \
             the names that they have",
        ),
        None => {}
    }
    let mut parts = Vec::new();
    if let Some(ca) = trust_of_kafka(import) {
        parts.push(format!("ca: {}", text(&ca)));
    }
    if let Some(pem) = store_of_kafka(import) {
        parts.push(format!("certificate: {}, key: {}", text(&pem.certificate), text(&pem.key)));
    }
    match parts.is_empty() {
        true => String::new(),
        false => format!("    tls: {{{}}}\n", parts.join(", ")),
    }
}
