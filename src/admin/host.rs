//! Whether a request was meant for this listener, by the host that it names.
//!
//! A web page may lead a name of its own to an address that only the browser reaches (DNS rebinding), and then read what
//! answers there. It cannot choose what the browser says as `Host`: that is the page's own name.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use hyper::Request;
use hyper::header::HOST;

/// The hosts that requests may name.
#[derive(Clone, Debug)]
pub(super) struct Hosts {
    bound: IpAddr,
    names: Arc<[String]>,
}

impl Hosts {
    /// Of a listener that is bound to this address and known by these names.
    pub(super) fn new(bound: SocketAddr, names: &[String]) -> Self {
        Self {
            // Loopback may be written as an address of IPv6 that stands for one of IPv4.
            bound: bound.ip().to_canonical(),
            names: names.into(),
        }
    }

    /// Whether all that a request says of its host is taken. One that says nothing comes from no browser.
    pub(super) fn take<B>(&self, request: &Request<B>) -> bool {
        // Behind a port that others reach nobody has said yet what its names are.
        if !self.bound.is_loopback() && self.names.is_empty() {
            return true;
        }
        let mut said = request.headers().get_all(HOST).iter().map(|host| host.to_str().unwrap_or("?"));
        let target = request.uri().authority().map(|authority| authority.as_str());
        said.all(|host| self.knows(host)) && target.is_none_or(|host| self.knows(host))
    }

    fn knows(&self, said: &str) -> bool {
        let Some(host) = without_port(said) else { return false };
        match address(host) {
            // A page cannot be at an address that is not its server's. Loopback is reached as itself alone.
            Some(address) => address.to_canonical().is_loopback() || !self.bound.is_loopback(),
            None => host.eq_ignore_ascii_case("localhost") || self.names.iter().any(|name| host.eq_ignore_ascii_case(name)),
        }
    }
}

/// The host of `host:port` or `[address]:port`; `None` if it is neither.
fn without_port(said: &str) -> Option<&str> {
    // The colons of an address in brackets are no port's.
    let from = said.rfind(']').unwrap_or(0);
    match said[from..].rfind(':') {
        Some(colon) => {
            let (host, port) = said.split_at(from + colon);
            (port.len() > 1 && port[1..].bytes().all(|digit| digit.is_ascii_digit())).then_some(host)
        }
        None => Some(said),
    }
}

fn address(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => host.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(bound: &str, names: &[&str], hosts: &[&str]) -> bool {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut request = Request::get("/config");
        for host in hosts {
            request = request.header(HOST, *host);
        }
        Hosts::new(bound.parse().unwrap(), &names).take(&request.body(()).unwrap())
    }

    #[test]
    fn on_loopback_only_loopback_and_the_names_of_the_list_are_taken() {
        for good in [
            "localhost",
            "LocalHost:9090",
            "127.0.0.1",
            "127.0.0.1:80",
            "[::1]",
            "[::1]:9090",
            "proxy.test:1",
            "PROXY.test",
        ] {
            assert!(takes("127.0.0.1:9090", &["proxy.test"], &[good]), "{good}");
            assert!(takes("[::1]:9090", &["proxy.test"], &[good]), "{good}");
            assert!(takes("[::ffff:127.0.0.1]:9090", &["proxy.test"], &[good]), "{good}");
        }
        assert!(takes("127.0.0.1:9090", &[], &[]), "no browser leaves it out");
        for bad in [
            "evil.test",
            "evil.test:9090",
            "localhost.evil.test",
            "127.0.0.1.evil.test",
            "10.0.0.1",
            "localhost@evil.test",
            "localhost:80@evil.test",
            "localhost:",
            ":9090",
            "",
            "[::1",
            "[evil]:1",
            "::1]",
            "]:",
            "localhost:9090:1",
            "0.0.0.0:9090",
            "[::]:9090",
            "proxy.test",
        ] {
            assert!(!takes("127.0.0.1:9090", &[], &[bad]), "{bad:?}");
            assert!(!takes("[::ffff:127.0.0.1]:9090", &[], &[bad]), "{bad:?}");
        }
        assert!(!takes("127.0.0.1:9090", &[], &["localhost", "evil.test"]), "each of two");
    }

    #[test]
    fn elsewhere_names_are_taken_until_there_is_a_list() {
        assert!(takes("0.0.0.0:9090", &[], &["evil.test"]));
        assert!(!takes("0.0.0.0:9090", &["proxy.test"], &["evil.test:9090"]));
        for good in ["proxy.test", "localhost:1", "10.0.0.5:9090", "[fd00::1]:9090"] {
            assert!(takes("0.0.0.0:9090", &["proxy.test"], &[good]), "{good}");
        }
    }

    #[test]
    fn the_target_of_a_request_counts_too() {
        let hosts = Hosts::new("127.0.0.1:9090".parse().unwrap(), &[]);
        let of = |target: &str| hosts.take(&Request::get(target).header(HOST, "localhost").body(()).unwrap());
        assert!(of("http://localhost:9090/config"));
        assert!(!of("http://evil.test/config"));
    }
}
