//! How the proxy logs in to Kafka.

use super::{Import, LOGIN_OF_KAFKA, Login, Property};
use crate::import::{properties::kept, yaml::text};

/// What an entry for OAUTHBEARER may say that has an equal.
const OF_TOKENS: [&str; 3] = ["clientId", "clientSecret", "scope"];

/// `sasl` of `kafka.security`.
pub(super) fn kafka_sasl(import: &mut Import) -> String {
    let mechanism = import
        .take_of_kafka("sasl.mechanism")
        .map_or_else(|| "GSSAPI".to_owned(), |p| p.value.to_uppercase());
    let config = import.take_of_kafka("sasl.jaas.config");
    let login = match &config {
        Some(config) => Login::read(&config.value),
        None => import.login(LOGIN_OF_KAFKA),
    };
    if mechanism == "OAUTHBEARER" {
        return tokens(import, config.as_ref(), login.as_ref());
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
    let password = login.as_ref().and_then(|login| login.option("password"));
    let made_of = made_of(import, config.as_ref(), password);
    import.notes.push(format!(
        "KAFKA_PASSWORD: an environment variable with the password of `sasl.jaas.config`{made_of}"
    ));
    format!("    sasl: {{mechanism: {mechanism}, username: {user}, password: \"${{KAFKA_PASSWORD}}\"}}\n")
}

/// Which variables a secret was made of, for its note: it is none that the proxy fills in, nor is what it would be without them told.
fn made_of(import: &mut Import, property: Option<&Property>, secret: Option<&str>) -> String {
    let (Some(property), Some(secret)) = (property, secret) else {
        return String::new();
    };
    let variables = kept(secret);
    let others = kept(&property.value.replacen(secret, "", 1));
    for variable in variables.iter().filter(|variable| !others.contains(variable)) {
        let (of_setting, shown) = (format!("{}: {}: ", property.place(), property.key), format!("`{variable}`"));
        import
            .notes
            .retain(|note| !(note.starts_with(&of_setting) && note.contains(&shown)));
    }
    let names: Vec<String> = variables.iter().map(|variable| without_default(variable)).collect();
    let default = match variables.iter().any(|variable| variable.contains(":-")) {
        true => ", or a default that is not shown here",
        false => "",
    };
    match names.is_empty() {
        true => String::new(),
        false => format!("; there it was made of {}{default}", names.join(", ")),
    }
}

/// A variable as it is called.
fn without_default(variable: &str) -> String {
    let name = variable.split_once(":-").map_or(variable, |(name, _)| name);
    format!("`{}`", name.trim_matches(['$', '{', '}']))
}

/// A token of a server that is asked for it, or of a file.
fn tokens(import: &mut Import, config: Option<&Property>, login: Option<&Login>) -> String {
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
    let secret = import.take_of_kafka("sasl.oauthbearer.client.credentials.client.secret");
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
    let made_of = match &secret {
        Some(secret) => made_of(import, Some(secret), Some(&secret.value)),
        None => made_of(import, config, login.and_then(|login| login.option("clientSecret"))),
    };
    import.notes.push(format!(
        "KAFKA_CLIENT_SECRET: an environment variable with the `clientSecret` of `sasl.jaas.config`{made_of}"
    ));
    let id = text(&id.unwrap_or_else(|| "mqtt-kafka-proxy".to_owned()));
    let scope = scope.map(|property| property.value).or(of_scope);
    let scope = scope.map(|scope| format!(", scope: {}", text(&scope))).unwrap_or_default();
    format!(
        "    sasl: {{mechanism: OAUTHBEARER, token_endpoint: {}, client_id: {id}, client_secret: \"${{KAFKA_CLIENT_SECRET}}\"{scope}}}\n",
        text(&url)
    )
}
