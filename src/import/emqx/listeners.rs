//! `listeners`: TCP, TLS, and both under WebSocket.

use core::net::SocketAddr;
use std::fmt::Write;

use super::{Import, access};
use crate::import::naming::name;
use crate::import::yaml::{NOBODY_ASKED, text};

/// Types there, and protocols here.
const TYPES: [(&str, &str); 4] = [("tcp", "mqtt"), ("ssl", "mqtts"), ("ws", "ws"), ("wss", "wss")];

/// `listeners`, and `authentication` where it is plain that nobody is asked. Where somebody was, it is left out: nobody is let in unasked.
pub(super) fn listeners(import: &mut Import) -> String {
    let mut found: Vec<(String, bool)> = Vec::new();
    let are_there = !import.tree.below(&["listeners"]).is_empty();
    if !import.asks_all {
        import.note(
            "no `authentication` of all listeners counts in these files: EMQX lets everybody in then; if another of its files has some, give that one, too",
        );
    }
    let mut names = std::collections::HashSet::new();
    let mut are_off = false;
    for (kind, protocol) in TYPES {
        for listener in import.tree.below(&["listeners", kind]) {
            let path = ["listeners", kind, &listener];
            if import.tree.is_off(&path) {
                import.tree.leave(&path, "it is switched off");
                are_off = true;
                continue;
            }
            let asks = access::of_listener(import, &path);
            let Some(address) = import.tree.take(&[&path[..], &["bind"]].concat()).and_then(|bind| {
                let address = address(&bind);
                if address.is_none() {
                    import.open(format!("{}.bind: `{bind}` is no address with a port", path.join(".")));
                }
                address
            }) else {
                // What stands in its place must not be open instead.
                import.asks_all |= asks;
                continue;
            };
            let mut more = String::new();
            if let Some(path) = import.tree.take(&[&path[..], &["websocket", "mqtt_path"]].concat()) {
                write!(more, ", path: {}", text(&path)).expect("a String takes all");
            }
            if matches!(protocol, "mqtts" | "wss") {
                more.push_str(&tls(import, &path));
            }
            let name = text(&name(&format!("{kind}-{listener}"), &mut names));
            found.push((
                format!("name: {name}, address: {}, protocol: {protocol}{more}", text(&address)),
                asks,
            ));
        }
    }
    if found.is_empty() {
        if are_off {
            import.open("listeners: those that are there are switched off, and one there must be: which?".to_owned());
        } else if !are_there {
            import.note("no listener stands in these files: EMQX's default for TCP is written");
        }
        // It stands in for one that is not known.
        import.asks_all |= are_there;
        found.push(("name: tcp, address: \"0.0.0.0:1883\", protocol: mqtt".to_owned(), false));
    }
    let asks_all = import.asks_all;
    let some_ask = asks_all || found.iter().any(|(_, asks)| *asks);
    let mut out = String::from("listeners:\n");
    for (listener, asks) in found {
        let own = if some_ask && !asks_all && !asks {
            ", authentication: none"
        } else {
            ""
        };
        writeln!(out, "  - {{{listener}{own}}}").expect("a String takes all");
    }
    if !some_ask {
        out.push_str(NOBODY_ASKED);
    }
    out
}

/// `PORT`, `:PORT` or an address with one.
fn address(bind: &str) -> Option<String> {
    let port = bind.trim_start_matches(':');
    if port.parse::<u16>().is_ok() {
        return Some(format!("0.0.0.0:{port}"));
    }
    bind.parse::<SocketAddr>().ok().map(|address| address.to_string())
}

fn tls(import: &mut Import, path: &[&str]) -> String {
    let mut take = |key: &str| import.tree.take(&[path, &["ssl_options", key]].concat());
    let [certificate, key, ca] = ["certfile", "keyfile", "cacertfile"].map(&mut take);
    let (verify, must) = (take("verify"), take("fail_if_no_peer_cert"));
    let mut out = String::new();
    let file = |path: Option<String>, default: &str| text(&file(&path.unwrap_or_else(|| default.to_owned())));
    write!(
        out,
        "certificate: {}, key: {}",
        file(certificate, "certs/cert.pem"),
        file(key, "certs/key.pem")
    )
    .expect("a String takes all");
    if verify.as_deref() == Some("verify_peer") {
        let auth = if must.as_deref() == Some("true") { "required" } else { "optional" };
        write!(out, ", client_ca: {}, client_auth: {auth}", file(ca, "certs/cacert.pem")).expect("a String takes all");
    }
    format!(", tls: {{{out}}}")
}

/// A file, of which EMQX names the folder by a variable.
pub(super) fn file(path: &str) -> String {
    path.replace("${EMQX_ETC_DIR}", "/etc/emqx").replace("$EMQX_ETC_DIR", "/etc/emqx")
}
