//! `listeners`, and `admin`: where the process listens, and with which certificates.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;

use ipnet::{IpNet, Ipv4Net};

use crate::admin;
use crate::downstream::{Address, ListenerLimits, ListenerSettings, Protocol, ProxySettings};

use super::problem::quoted;
use super::tree::{Node, Place};
use super::walk::{Keys, Section, Walk};

const LISTENER: Keys = Keys {
    known: &[
        "name",
        "address",
        "protocol",
        "tls",
        "path",
        "frame_size",
        "origins",
        "proxy_protocol",
        "proxy_from",
        "proxy_identity",
        "limits",
        "authentication",
    ],
    later: &[],
};
const LISTENER_LIMITS: Keys = Keys {
    known: &["connections", "connect_rate"],
    later: &[],
};
const ADMIN: Keys = Keys {
    known: &["address", "hosts"],
    later: &[],
};

/// What the system takes for the path of a Unix socket (`sun_path`).
const LONGEST_SOCKET_PATH: usize = 107;

/// Longest name that the DNS has (RFC 1035 §2.3.4).
const LONGEST_HOST: usize = 253;

/// Longest name of a listener or a rule: they are labels of metrics.
pub(super) const NAME_LENGTH: usize = 64;

/// Names and addresses that are taken, with the line that took them, and what of listeners is read with its like.
#[derive(Default)]
pub(super) struct Taken<'t> {
    names: HashMap<String, u32>,
    addresses: HashMap<Address, u32>,
    /// `authentication` of each listener.
    pub(super) authentication: Vec<Own<'t>>,
}

/// `authentication` of one listener.
pub(super) struct Own<'t> {
    /// Of the listener, if it can be read.
    pub(super) name: Option<String>,
    pub(super) place: Place,
    /// The key may be misspelt, or stand there without a value: that is noted.
    pub(super) is_there: bool,
    pub(super) node: Option<&'t Node>,
}

impl Walk<'_> {
    /// `listeners`: at least one, with names and addresses of their own.
    pub(super) fn listeners<'t>(&mut self, node: &'t Node, taken: &mut Taken<'t>) -> Vec<ListenerSettings> {
        let list = self.list(node, "listeners");
        list.iter().filter_map(|entry| self.listener(entry, taken)).collect()
    }

    /// `[::]` leaves an address of IPv4 to who names it with the same port; elsewhere it is the system's to say whether it stands for those of IPv4, too.
    pub(super) fn divide(listeners: &mut [ListenerSettings], admin: Option<&mut admin::Settings>, taken: &Taken<'_>) {
        let is_divided = |address: SocketAddr| {
            let is_its = |other: &Address| matches!(other, Address::Ip(SocketAddr::V4(ipv4)) if ipv4.port() == address.port());
            address.is_ipv6() && address.ip().is_unspecified() && taken.addresses.keys().any(is_its)
        };
        for listener in listeners {
            if let Address::Ip(address) = listener.address
                && is_divided(address)
            {
                listener.address = Address::OnlyIpv6(address);
            }
        }
        if let Some(admin) = admin {
            admin.only_ipv6 = is_divided(admin.address);
        }
    }

    fn listener<'t>(&mut self, node: &'t Node, taken: &mut Taken<'t>) -> Option<ListenerSettings> {
        let Some(section) = self.section(node, "listeners[]", &LISTENER) else {
            // What it has cannot be read.
            taken.authentication.push(Own {
                name: None,
                place: node.place,
                is_there: true,
                node: None,
            });
            return None;
        };
        let name = self
            .required(&section, "name", "tcp")
            .and_then(|n| self.name(n, "listeners[].name", &mut taken.names));
        taken.authentication.push(Own {
            name: name.clone(),
            place: section.place,
            is_there: section.get("authentication").is_some() || section.means("authentication"),
            node: self.optional(&section, "authentication"),
        });
        let address = self
            .required(&section, "address", "\"0.0.0.0:1883\"")
            .and_then(|n| self.place(n, "listeners[].address", &mut taken.addresses));
        let words = ["mqtt", "mqtts", "ws", "wss"].map(|word| (word, word));
        let protocol = self
            .required(&section, "protocol", "mqtt")
            .and_then(|n| self.choice(n, "listeners[].protocol", &words, &[]));
        let protocol = self.protocol(&section, protocol);
        let proxy = self.proxy(&section);
        let limits = self.listener_limits(&section);
        Some(ListenerSettings {
            name: name?,
            address: address?,
            protocol: protocol?,
            proxy: proxy?,
            limits,
        })
    }

    /// `proxy_protocol`, with those who may say who their clients are.
    fn proxy(&mut self, section: &Section<'_>) -> Option<Option<ProxySettings>> {
        let on = self.optional(section, "proxy_protocol");
        let on = on.map_or(Some(false), |node| self.flag(node, "listeners[].proxy_protocol"));
        let from = self.optional(section, "proxy_from");
        let networks = from.and_then(|node| {
            let list = self.list(node, "proxy_from");
            let read: Vec<Option<IpNet>> = list.iter().map(|n| self.parsed(n, "proxy_from", network)).collect();
            read.into_iter().collect::<Option<Vec<_>>>().filter(|from| !from.is_empty())
        });
        let identity = self.optional(section, "proxy_identity");
        let by_certificate = identity.map_or(Some(false), |node| self.flag(node, "listeners[].proxy_identity"));
        let on = on?;
        let stray = from.map(|n| ("proxy_from", n)).or(identity.map(|n| ("proxy_identity", n)));
        match (on, from, stray) {
            (false, _, None) => Some(None),
            (false, _, Some((key, node))) => {
                let remedy = format!("add `proxy_protocol: true`, or remove `{key}`");
                self.fault(node.place, format!("`{key}` without `proxy_protocol`"), remedy);
                None
            }
            (true, None, _) => {
                let remedy = "add the balancers' addresses: `proxy_from: [\"10.0.0.0/24\"]`";
                self.fault(
                    section.place,
                    "`proxy_protocol` without `proxy_from`: anybody could say who he is",
                    remedy,
                );
                None
            }
            (true, Some(_), _) => Some(Some(ProxySettings {
                from: networks?,
                identity: by_certificate?,
            })),
        }
    }

    /// `limits` of one listener.
    fn listener_limits(&mut self, section: &Section<'_>) -> ListenerLimits {
        let mut limits = ListenerLimits::default();
        let Some(section) = self
            .optional(section, "limits")
            .and_then(|n| self.section(n, "listeners[].limits", &LISTENER_LIMITS))
        else {
            return limits;
        };
        if let Some(node) = self.optional(&section, "connections") {
            let connections = self.number(node, "listeners[].limits.connections", 1..=10_000_000);
            limits.connections = connections.map(|n| u32::try_from(n).expect("the range is below 2^32"));
        }
        if let Some(node) = self.optional(&section, "connect_rate") {
            let rate = self.rate(node, "listeners[].limits.connect_rate", 1..=1_000_000);
            limits.connect_rate = rate.and_then(|n| NonZeroU32::new(u32::try_from(n).expect("the range is below 2^32")));
        }
        limits
    }

    /// What the protocol of a listener needs, and nothing that belongs to another. `None`: it is not known, and what each would need is looked
    /// at all the same.
    fn protocol(&mut self, section: &Section<'_>, word: Option<&str>) -> Option<Protocol> {
        let tls = self.optional(section, "tls").map(|n| (n.place, self.tls(n)));
        let websocket = self.websocket(section);
        let word = word?;
        let (secure, framed) = (matches!(word, "mqtts" | "wss"), matches!(word, "ws" | "wss"));
        let stray = ["path", "frame_size", "origins"]
            .into_iter()
            .find_map(|key| Some((key, section.get(key)?)));
        if let Some((key, node)) = stray.filter(|_| !framed) {
            let message = format!("`{key}` on a listener with `protocol: {word}`");
            self.fault(node.place, message, format!("write `protocol: ws` or `wss`, or remove `{key}`"));
            return None;
        }
        match (secure, tls) {
            (false, None) if framed => Some(Protocol::Ws(websocket?)),
            (false, None) => Some(Protocol::Mqtt),
            (false, Some((place, _))) => {
                let remedy = format!("write `protocol: {}`, or remove `tls`", if framed { "wss" } else { "mqtts" });
                self.fault(place, format!("`tls` on a listener with `protocol: {word}`"), remedy);
                None
            }
            (true, None) => {
                let example = "tls: {certificate: server.pem, key: server.key}";
                self.fault(
                    section.place,
                    format!("`protocol: {word}` without `tls`"),
                    format!("add `{example}`"),
                );
                None
            }
            (true, Some((_, tls))) if framed => Some(Protocol::Wss(tls?, websocket?)),
            (true, Some((_, tls))) => Some(Protocol::Mqtts(tls?)),
        }
    }

    /// `admin`: its address is none of the listeners'.
    pub(super) fn admin(&mut self, node: &Node, taken: &mut Taken<'_>) -> Option<admin::Settings> {
        let section = self.section(node, "admin", &ADMIN)?;
        let address = self.required(&section, "address", "\"127.0.0.1:9090\"");
        let address = address.and_then(|n| self.address(n, "admin.address", &mut taken.addresses));
        let hosts = self.optional(&section, "hosts").map_or_else(Vec::new, |node| {
            let list = self.list(node, "admin.hosts");
            list.iter().filter_map(|n| self.parsed(n, "admin.hosts", host)).collect()
        });
        Some(admin::Settings {
            address: address?,
            only_ipv6: false,
            hosts,
        })
    }

    /// A name that is a label: short, one word, and taken only once.
    pub(super) fn name(&mut self, node: &Node, path: &str, taken: &mut HashMap<String, u32>) -> Option<String> {
        let name = self.parsed(node, path, |text| {
            let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if !text.is_empty() && text.len() <= NAME_LENGTH && text.chars().all(legal) {
                return Ok(text.to_owned());
            }
            Err((
                "is no name".to_owned(),
                format!("use 1 to {NAME_LENGTH} letters, digits, `-`, `_`, `.`"),
            ))
        })?;
        self.once(node.place, &name, path, taken);
        Some(name)
    }

    fn once(&mut self, place: Place, name: &str, path: &str, taken: &mut HashMap<String, u32>) {
        if let Some(line) = taken.get(name) {
            self.fault(
                place,
                format!("`{path}`: {} is taken in line {line}", self.without_secrets(&quoted(name))),
                "give another name",
            );
        } else {
            taken.insert(name.to_owned(), place.line);
        }
    }

    /// An address, a Unix socket, or a socket that is handed over.
    fn place(&mut self, node: &Node, path: &str, taken: &mut HashMap<Address, u32>) -> Option<Address> {
        let text = self.text(node, path)?;
        if let Some(socket) = text.strip_prefix("unix:") {
            // The system is given the path as it is from this file's folder.
            let joined = self.folder().join(socket);
            let length = joined.as_os_str().len();
            self.shown_as_written(node, "unix:", socket);
            let address = Address::Unix(joined);
            if socket.is_empty() || length > LONGEST_SOCKET_PATH {
                let message = match socket.is_empty() {
                    true => format!("`{path}`: no path of a socket"),
                    false => format!("`{path}`: a path of {length} bytes, folder included, and {LONGEST_SOCKET_PATH} are possible"),
                };
                self.fault(node.place, message, "write for example \"unix:/run/mqtt.sock\"");
                return None;
            }
            return self.untaken(node.place, address, path, taken);
        }
        if let Some(place) = text.strip_prefix("systemd:") {
            let Ok(place) = place.parse::<u8>() else {
                let message = format!("`{path}`: no place of a socket");
                self.fault(
                    node.place,
                    message,
                    "write \"systemd:0\" for the first socket that systemd hands over",
                );
                return None;
            };
            return self.untaken(node.place, Address::Inherited(place.into()), path, taken);
        }
        self.address(node, path, taken).map(Address::Ip)
    }

    fn address(&mut self, node: &Node, path: &str, taken: &mut HashMap<Address, u32>) -> Option<SocketAddr> {
        let address = self.parsed(node, path, |text| text.parse().map_err(|_| not_an_address(text)))?;
        self.untaken(node.place, Address::Ip(address), path, taken)?;
        Some(address)
    }

    fn untaken(&mut self, place: Place, address: Address, path: &str, taken: &mut HashMap<Address, u32>) -> Option<Address> {
        // Port 0 is "any free port", each time another.
        if matches!(&address, Address::Ip(ip) if ip.port() == 0) {
            return Some(address);
        }
        if let Some(line) = taken.get(&address) {
            let message = format!("`{path}`: the address is taken in line {line}");
            self.fault(place, message, "give another port");
            return None;
        }
        taken.insert(address.clone(), place.line);
        Some(address)
    }
}

/// A range of addresses, or one. One of IPv4 that is written as IPv6 is of IPv4, as clients are known that a socket of both families shows so.
fn network(text: &str) -> Result<IpNet, (String, String)> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    let network = address.or_else(|_| text.parse::<IpNet>());
    network.map(|network| of_ipv4(network).unwrap_or(network)).map_err(|_| {
        (
            "is no range of addresses".to_owned(),
            "write for example \"10.0.0.0/24\", \"2001:db8::/32\" or \"127.0.0.1\"".to_owned(),
        )
    })
}

/// `::ffff:a.b.c.d/104` as `a.b.c.d/8`.
fn of_ipv4(network: IpNet) -> Option<IpNet> {
    let IpNet::V6(written) = network else { return None };
    let length = written.prefix_len().checked_sub(96)?;
    let address = written.addr().to_ipv4_mapped()?;
    Ipv4Net::new(address, length).ok().map(IpNet::V4)
}

/// A name as requests say it, without a port.
fn host(text: &str) -> Result<String, (String, String)> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !text.is_empty() && text.len() <= LONGEST_HOST && text.chars().all(legal) {
        return Ok(text.to_owned());
    }
    Err((
        "is no name of a host".to_owned(),
        "write it without scheme and port, for example \"metrics.example.org\"".to_owned(),
    ))
}

fn not_an_address(text: &str) -> (String, String) {
    let wrong = "is no IP address with a port".to_owned();
    let remedy = match text.rsplit_once(':') {
        Some(("" | "*", port)) if port.parse::<u16>().is_ok() => format!("write \"0.0.0.0:{port}\" for all addresses"),
        Some(("localhost", port)) if port.parse::<u16>().is_ok() => format!("write \"127.0.0.1:{port}\""),
        _ => "write for example \"0.0.0.0:1883\" or \"[::]:1883\"".to_owned(),
    };
    (wrong, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_of_ipv4_are_so_however_they_are_written() {
        for (text, inside, outside) in [
            ("::ffff:10.0.0.0/104", "10.1.2.3", "11.0.0.1"),
            ("::ffff:10.1.2.3", "10.1.2.3", "10.1.2.4"),
            ("::ffff:0:0/96", "192.0.2.1", "2001:db8::1"),
            ("10.0.0.0/8", "10.1.2.3", "11.0.0.1"),
            ("2001:db8::/32", "2001:db8::1", "10.1.2.3"),
            ("::/0", "2001:db8::1", "10.1.2.3"),
        ] {
            let holds = |address: &str| network(text).unwrap().contains(&address.parse::<IpAddr>().unwrap());
            assert!(holds(inside) && !holds(outside), "{text}");
        }
        for text in ["10.0.0.0/33", "::ffff:10.0.0.0/129", "a"] {
            assert!(network(text).is_err(), "{text}");
        }
    }
}
