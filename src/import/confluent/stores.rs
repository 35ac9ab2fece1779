//! Stores of keys and certificates as PEM files. Those of Java are no PEM; how that is made of them is told.

use std::path::Path;

use super::Import;

/// A key and its certificate.
pub(super) struct Pem {
    pub(super) certificate: String,
    pub(super) key: String,
}

/// What a key store may be written as, behind its name.
const KEY_STORES: [&str; 3] = [".location", ".certificate.chain", ".key"];
/// The same of a trust store.
const TRUST_STORES: [&str; 2] = [".location", ".certificates"];

/// The name under which the client of Kafka has a store: with `producer.` in front, or without.
fn of_kafka(import: &Import, name: &str, forms: &[&str]) -> Option<String> {
    let names = [format!("producer.{name}"), name.to_owned()];
    let is_there = |name: &&String| forms.iter().any(|form| import.properties.has(&format!("{name}{form}")));
    names.iter().find(is_there).cloned()
}

/// What the proxy shows brokers, if anything.
pub(super) fn store_of_kafka(import: &mut Import) -> Option<Pem> {
    let name = of_kafka(import, "ssl.keystore", &KEY_STORES)?;
    Some(store(import, &name, "kafka"))
}

/// Who signs the brokers' certificates, if that is written.
pub(super) fn trust_of_kafka(import: &mut Import) -> Option<String> {
    let name = of_kafka(import, "ssl.truststore", &TRUST_STORES)?;
    trust(import, &name, "kafka-ca")
}

/// The certificate and key of a store.
pub(super) fn store(import: &mut Import, key: &str, otherwise: &str) -> Pem {
    let location = import.take(&format!("{key}.location")).map(|p| p.value);
    let kind = import.take(&format!("{key}.type")).map(|p| p.value.to_uppercase());
    let inline = inline_store(import, key, otherwise);
    let password = import.take(&format!("{key}.password"));
    let of_key = import.take(&format!("{}.key.password", key.trim_end_matches(".keystore")));
    let secrets = [password, of_key].into_iter().flatten();
    secrets.for_each(|secret| import.properties.leave(secret, "PEM files have no password"));
    if location.is_none()
        && let Some(inline) = inline
    {
        return inline;
    }
    match (location, kind.as_deref()) {
        (Some(path), Some("PEM")) => Pem {
            certificate: path.clone(),
            key: path,
        },
        (location, kind) => {
            let path = location.unwrap_or_else(|| format!("{otherwise}.jks"));
            let stem = Path::new(&path).with_extension("");
            let stem = stem.display();
            import.notes.push(format!("{key}: make PEM files of the store:"));
            if kind != Some("PKCS12") {
                import.notes.push(format!(
                    "  keytool -importkeystore -srckeystore {path} -destkeystore {stem}.p12 -deststoretype PKCS12"
                ));
            }
            let p12 = if kind == Some("PKCS12") {
                path.clone()
            } else {
                format!("{stem}.p12")
            };
            import.notes.push(format!("  openssl pkcs12 -in {p12} -nokeys -out {stem}.pem"));
            import
                .notes
                .push(format!("  openssl pkcs12 -in {p12} -nocerts -nodes -out {stem}.key"));
            Pem {
                certificate: format!("{stem}.pem"),
                key: format!("{stem}.key"),
            }
        }
    }
}

/// A store whose texts stand in the properties themselves (KIP-651).
fn inline_store(import: &mut Import, key: &str, otherwise: &str) -> Option<Pem> {
    let (certificate, of_key) = (format!("{otherwise}.pem"), format!("{otherwise}.key"));
    let texts = [
        in_file(import, &format!("{key}.certificate.chain"), &certificate, ""),
        in_file(
            import,
            &format!("{key}.key"),
            &of_key,
            "; if it has a password, take it off: openssl pkcs8 -in FILE -out FILE",
        ),
    ];
    texts.contains(&true).then_some(Pem { certificate, key: of_key })
}

/// Whether a text in PEM is written there, which is to be put into a file; what it says is not copied.
fn in_file(import: &mut Import, key: &str, file: &str, more: &str) -> bool {
    let Some(property) = import.take(key) else {
        return false;
    };
    import.open.push(format!(
        "{}: {key}: put the text into the file {file}, in PEM{more}",
        property.place()
    ));
    true
}

/// The authorities of a trust store.
pub(super) fn trust(import: &mut Import, key: &str, otherwise: &str) -> Option<String> {
    let location = import.take(&format!("{key}.location"));
    let kind = import.take(&format!("{key}.type")).map(|p| p.value.to_uppercase());
    if let Some(password) = import.take(&format!("{key}.password")) {
        import.properties.leave(password, "PEM files have no password");
    }
    let inline = format!("{otherwise}.pem");
    let is_inline = in_file(import, &format!("{key}.certificates"), &inline, "");
    let Some(path) = location.map(|p| p.value) else {
        return is_inline.then_some(inline);
    };
    if kind.as_deref() == Some("PEM") {
        return Some(path);
    }
    let pem = Path::new(&path).with_file_name(format!("{otherwise}.pem")).display().to_string();
    import.notes.push(format!(
        "{key}: make a PEM file of the store: keytool -list -rfc -keystore {path} > {pem}"
    ));
    Some(pem)
}
