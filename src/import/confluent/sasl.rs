//! How the proxy logs in to Kafka.

use super::{Import, LOGIN_OF_KAFKA, Login};
use crate::import::yaml::text;

/// What an entry for OAUTHBEARER may say that has an equal.
const OF_TOKENS: [&str; 3] = ["clientId", "clientSecret", "scope"];

/// `sasl` of `kafka.security`.
pub(super) fn kafka_sasl(import: &mut Import) -> String {
    let mechanism = import
        .take_of_kafka("sasl.mechanism")
        .map_or_else(|| "GSSAPI".to_owned(), |p| p.value.to_uppercase());
    let login = match import.take_of_kafka("sasl.jaas.config") {
        Some(config) => Login::read(&config.value),
        None => import.login(LOGIN_OF_KAFKA),
    };
    if mechanism == "OAUTHBEARER" {
        return tokens(import, login.as_ref());
    }
    let user = login.as_ref().and_then(|login| login.option("username"));
    if !["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"].contains(&mechanism.as_str()) {
        import.open.push(format!(
            "sasl.mechanism: `{mechanism}` is to be replaced by one of those that proxy.yaml shows"
        ));
    }
    let has_password = login.as_ref().is_some_and(|login| login.option("password").is_some());
    if user.is_none() || !has_password {
        import
            .open
            .push("sasl.jaas.config: it names no user with a password; the name is taken from the environment, KAFKA_USER, too".to_owned());
    }
    let user = user.map_or_else(|| "\"${KAFKA_USER:-proxy}\"".to_owned(), text);
    let mechanism = if mechanism == "GSSAPI" { "SCRAM-SHA-512" } else { &mechanism };
    // No secret stands in `proxy.yaml`.
    let note = "KAFKA_PASSWORD: an environment variable with the password of `sasl.jaas.config`";
    import.notes.push(note.to_owned());
    format!("    sasl: {{mechanism: {mechanism}, username: {user}, password: \"${{KAFKA_PASSWORD}}\"}}\n")
}

/// A token of a server that is asked for it, or of a file.
fn tokens(import: &mut Import, login: Option<&Login>) -> String {
    let url = import.take_of_kafka("sasl.oauthbearer.token.endpoint.url").map(|p| p.value);
    if let Some(path) = url.as_deref().and_then(|url| url.strip_prefix("file:")) {
        let path = format!("/{}", path.trim_start_matches('/'));
        return format!("    sasl: {{mechanism: OAUTHBEARER, token: {}}}\n", text(&format!("file:{path}")));
    }
    let Some(url) = url else {
        import.open.push(
            "sasl.oauthbearer.token.endpoint.url: it is not written: is there a server that gives tokens (`token_endpoint`), or who renews the file \
             that `token` names?"
                .to_owned(),
        );
        return "    sasl: {mechanism: OAUTHBEARER, token: \"file:kafka.token\"}\n".to_owned();
    };
    // Later releases have settings of their own for what stood in the entry.
    let id = import.take_of_kafka("sasl.oauthbearer.client.credentials.client.id");
    let _secret = import.take_of_kafka("sasl.oauthbearer.client.credentials.client.secret");
    let scope = import.take_of_kafka("sasl.oauthbearer.scope");
    let [of_id, _, of_scope] = OF_TOKENS.map(|name| login.and_then(|login| login.option(name)).map(str::to_owned));
    for option in login.map(Login::options).unwrap_or_default() {
        let why = match option {
            known if OF_TOKENS.contains(&known) => continue,
            "ssl.truststore.location" | "ssl.truststore.certificates" => "give its authorities as `token_endpoint_ca`, a file in PEM",
            other if other.starts_with("ssl.truststore.") => continue,
            other if other.starts_with("extension_") => "extensions are not sent to brokers: ask whether these go without",
            _ => "it has no equal",
        };
        import.open.push(format!("sasl.jaas.config: `{option}`: {why}"));
    }
    let id = id.map(|property| property.value).or(of_id);
    if id.is_none() {
        import.open.push("sasl.jaas.config: it names no `clientId`".to_owned());
    }
    let note = "KAFKA_CLIENT_SECRET: an environment variable with the `clientSecret` of `sasl.jaas.config`";
    import.notes.push(note.to_owned());
    let id = text(&id.unwrap_or_else(|| "mqtt-kafka-proxy".to_owned()));
    let scope = scope.map(|property| property.value).or(of_scope);
    let scope = scope.map(|scope| format!(", scope: {}", text(&scope))).unwrap_or_default();
    format!(
        "    sasl: {{mechanism: OAUTHBEARER, token_endpoint: {}, client_id: {id}, client_secret: \"${{KAFKA_CLIENT_SECRET}}\"{scope}}}\n",
        text(&url)
    )
}
