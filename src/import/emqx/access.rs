//! Who is let in, and what he may do: what stands there of it is to be decided here, so that nobody is let in unasked.

use super::Import;

/// `authentication` and `authorization` of the broker.
pub(super) fn access(import: &mut Import) {
    if authentication(import, &[]) {
        import.asks_all = true;
    }
    let sources = import.tree.below(&["authorization", "sources"]);
    let mut asked = Vec::new();
    for number in sources {
        let path = ["authorization", "sources", &number];
        if import.tree.is_off(&path) {
            import.tree.leave(&path, "it is switched off");
        } else {
            asked.push(import.tree.take(&[&path[..], &["type"]].concat()).unwrap_or(number));
        }
    }
    let denies = import.tree.take(&["authorization", "no_match"]).is_some_and(|word| word == "deny");
    if denies {
        asked.push("no_match = deny".to_owned());
    }
    if asked.is_empty() {
        import.tree.leave(&["authorization"], "it forbids nothing");
        return;
    }
    let asked = asked.join(", ");
    import.tree.leave(&["authorization"], "see what is to be decided");
    import.open(format!(
        "authorization ({asked}): here devices may publish to, and subscribe to, all that rules map: write `authorization`, see proxy.yaml"
    ));
}

/// `authentication` of the broker, or of a listener: one method or a list of them. Whether there is any.
fn authentication(import: &mut Import, owner: &[&str]) -> bool {
    let path = [owner, &["authentication"]].concat();
    let word = import.tree.take(&path);
    let below = import.tree.below(&path);
    let is_list = below.iter().all(|name| name.parse::<usize>().is_ok());
    let methods = match is_list {
        true => below.iter().map(|number| [&path[..], &[number.as_str()]].concat()).collect(),
        false => vec![path.clone()],
    };
    let mut asked: Vec<String> = word.into_iter().collect();
    for method in methods {
        if import.tree.is_off(&method) {
            import.tree.leave(&method, "it is switched off");
            continue;
        }
        let mut take = |key: &str| import.tree.take(&[&method[..], &[key]].concat());
        let words: Vec<String> = ["mechanism", "backend"].into_iter().filter_map(&mut take).collect();
        import.tree.leave(&method, "see what is to be decided");
        asked.push(words.join(" of "));
    }
    match owner {
        _ if asked.is_empty() => {}
        [] => import.open(format!(
            "{} ({}): devices log in there, and here nobody is let in before it is decided: write `authentication`, see proxy.yaml: `password_file` for \
             users of EMQX's own database, each anew by `mqtt-kafka-proxy password`; `jwt`; `http`, of which docs/logins.md says what is asked",
            path.join("."),
            asked.join(", ")
        )),
        _ => import.open(format!(
            "{} ({}): devices log in there, and here nobody is let in before it is decided: write `authentication` of this listener, or what is \
             written for all counts",
            path.join("."),
            asked.join(", ")
        )),
    }
    !asked.is_empty()
}

/// What a listener asks of who connects there, or does with his topics. Whether it asks who a client is in another way than the others do.
pub(super) fn of_listener(import: &mut Import, path: &[&str]) -> bool {
    let name = path.join(".");
    let mut asks = authentication(import, path);
    let take = |import: &mut Import, key: &str| import.tree.take(&[path, &[key]].concat());
    if let Some(word) = take(import, "enable_authn").filter(|word| word != "true") {
        // The third word refuses who shows nothing.
        asks |= word != "false";
        let what = match asks {
            true => "does not ask as the others do: write `authentication` of its own",
            false => "asks nobody: `authentication: none` of its own does so",
        };
        import.open(format!("{name}.enable_authn = {word}: this listener {what}"));
    }
    if let Some(mountpoint) = take(import, "mountpoint").filter(|point| !point.is_empty()) {
        import.open(format!(
            "{name}.mountpoint = {mountpoint}: rules see it in front of each topic of who connects there, and here they do not: \
             take it off their filters, or have devices write it"
        ));
    }
    if take(import, "proxy_protocol").is_some_and(|on| on == "true") {
        import.open(format!(
            "{name}.proxy_protocol: add `proxy_protocol: true` with the balancers' addresses, which do not stand there: `proxy_from: [\"10.0.0.0/24\"]`"
        ));
    }
    let rules: Vec<String> = import
        .tree
        .below(&[path, &["access_rules"]].concat())
        .iter()
        .filter_map(|number| import.tree.take(&[path, &["access_rules", number]].concat()))
        .collect();
    if rules.iter().any(|rule| rule != "allow all") {
        import.open(format!(
            "{name}.access_rules ({}): here who connects is not chosen by his address: let a firewall do it",
            rules.join(", ")
        ));
    }
    asks
}

/// Why another setting of a listener has no equal.
pub(super) fn why_of_listener(path: &[String]) -> &'static str {
    match path.get(3).map(String::as_str) {
        _ if path.get(1).is_some_and(|kind| kind == "quic") => "there is no QUIC",
        Some("max_connections" | "max_conn_rate") => "`limits` of a listener may bound it: `connections`, `connect_rate`",
        Some("messages_rate" | "bytes_rate" | "limiter") => "`limits` of all may bound it: `message_rate`, `byte_rate`",
        Some("proxy_protocol_timeout") => "`limits.connect_timeout` bounds it",
        Some("acceptors" | "tcp_options" | "tcp_backend" | "nodelay" | "parse_unit") => "sockets are the system's",
        Some("ssl_options") => "TLS is 1.2 and 1.3, with the cipher suites of rustls",
        Some("websocket") => "frames are bounded by `frame_size`",
        _ => "not known",
    }
}
