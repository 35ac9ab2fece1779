//! Connectors: where Kafka is, and how one logs in there.

use std::fmt::Write;

use super::Import;
use crate::import::yaml::text;

/// Of which connector.
pub(super) struct Connector<'p> {
    /// Where its settings are.
    pub(super) path: &'p [&'p str],
}

impl Connector<'_> {
    /// Whether this is the one Kafka there is; the first that is asked for is. `Err`: why a rule of it cannot be made.
    pub(super) fn is_ours(&self, import: &mut Import) -> Result<(), String> {
        let name = self.path.join(".");
        if let Some(known) = import.connectors.get(&name) {
            return known.clone();
        }
        let told = self.read(import, &name);
        if told.is_err() {
            import.leave_out(self.path);
        }
        import.connectors.insert(name, told.clone());
        told
    }

    fn read(&self, import: &mut Import, name: &str) -> Result<(), String> {
        if import.tree.is_off(self.path) {
            import.tree.leave(self.path, "it is switched off");
            return Err(format!("`{name}` is switched off"));
        }
        let hosts = import.tree.take(&[self.path, &["bootstrap_hosts"]].concat());
        let hosts = hosts.map(|hosts| servers(&hosts)).filter(|hosts| !hosts.is_empty());
        let hosts = hosts.ok_or_else(|| format!("`{name}` has no `bootstrap_hosts`, or is of another Kafka"))?;
        match &import.servers {
            Some(known) if *known != hosts => return Err(format!("`{name}` is of another Kafka: a proxy has one")),
            Some(_) => security_of_another(import, self.path),
            None => {
                import.servers = Some(hosts);
                import.security = security(import, self.path);
            }
        }
        Ok(())
    }
}

/// Connectors that nothing imported uses.
pub(super) fn unused(import: &mut Import) {
    for kind in ["kafka_producer", "kafka_consumer"] {
        for name in import.tree.below(&["connectors", kind]) {
            let path = ["connectors", kind, &name];
            if !import.connectors.contains_key(&path.join(".")) {
                import.leave_unused(&path);
            }
        }
    }
}

/// One proxy logs in once: what a further connector of its Kafka says of that is not needed.
fn security_of_another(import: &mut Import, path: &[&str]) {
    for (key, none) in [(&["authentication"][..], "none"), (&["ssl", "enable"], "false")] {
        let at = [path, key].concat();
        match import.tree.take(&at) {
            Some(word) if word != none => import.tree.leave_told(&at.join("."), OF_THE_FIRST),
            _ => {}
        }
    }
    for key in ["authentication", "ssl"] {
        import.tree.leave(&[path, &[key]].concat(), OF_THE_FIRST);
    }
}

const OF_THE_FIRST: &str = "a proxy logs in to Kafka once, as the first of its connectors does: `kafka.security`";

/// With the port that there is the default.
fn servers(hosts: &str) -> Vec<String> {
    let hosts = hosts.split(',').map(str::trim).filter(|host| !host.is_empty());
    let host = |host: &str| match host.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_ok() => host.to_owned(),
        _ => format!("{host}:9092"),
    };
    hosts.map(host).collect()
}

/// `kafka`.
pub(super) fn kafka(import: &mut Import) -> Result<String, String> {
    let servers = import.servers.clone().ok_or("no connector has `bootstrap_hosts`")?;
    let servers: Vec<String> = servers.iter().map(|server| text(server)).collect();
    Ok(format!(
        "kafka:\n  bootstrap_servers: [{}]\n{}",
        servers.join(", "),
        import.security
    ))
}

/// `security` of `kafka`; nothing if there is none.
fn security(import: &mut Import, path: &[&str]) -> String {
    let mut take = |key: &[&str]| import.tree.take(&[path, key].concat());
    let is_tls = take(&["ssl", "enable"]).is_some_and(|on| on == "true");
    let [ca, certificate, key] = ["cacertfile", "certfile", "keyfile"].map(|key| take(&["ssl", key]));
    let verify = take(&["ssl", "verify"]);
    let mechanism = take(&["authentication", "mechanism"]);
    let username = take(&["authentication", "username"]);
    let password = take(&["authentication", "password"]);
    let other = take(&["authentication"]).filter(|word| word != "none");
    let mechanism = mechanism.as_deref().and_then(|mechanism| match mechanism {
        "plain" => Some("PLAIN"),
        "scram_sha_256" => Some("SCRAM-SHA-256"),
        "scram_sha_512" => Some("SCRAM-SHA-512"),
        _ => None,
    });
    let name = path.join(".");
    if let Some(word) = other {
        import.open(format!("{name}.authentication: `{word}` has no equal"));
    } else if mechanism.is_none() && !import.tree.below(&[path, &["authentication"]].concat()).is_empty() {
        import.open(format!("{name}.authentication: write it as `kafka.security.sasl`, see proxy.yaml"));
    }
    if is_tls && verify.as_deref() != Some("verify_peer") {
        import.note("the certificates of brokers are verified here in any case");
    }
    let protocol = match (is_tls, mechanism) {
        (false, None) => return String::new(),
        (true, None) => "ssl",
        (false, Some(_)) => "sasl_plaintext",
        (true, Some(_)) => "sasl_ssl",
    };
    let mut out = format!("  security:\n    protocol: {protocol}\n");
    let files = [("ca", ca), ("certificate", certificate), ("key", key)];
    let files: Vec<String> = files
        .into_iter()
        .filter_map(|(key, path)| Some(format!("{key}: {}", text(&super::listeners::file(&path?)))))
        .collect();
    if is_tls && !files.is_empty() {
        writeln!(out, "    tls: {{{}}}", files.join(", ")).expect("a String takes all");
    }
    if let Some(mechanism) = mechanism {
        let username = text(&username.unwrap_or_default());
        writeln!(
            out,
            "    sasl: {{mechanism: {mechanism}, username: {username}, password: \"${{KAFKA_PASSWORD}}\"}}"
        )
        .expect("a String takes all");
        if password.is_some() {
            import.note("the password of Kafka is not copied: give it in the environment as KAFKA_PASSWORD");
        }
    }
    out
}
