//! `kafka.security`: TLS and SASL towards the brokers. The files that it names are read here, too, so that what is wrong with them is told
//! with line and column like everything else.

use std::path::PathBuf;

use crate::pem::{self, Fault};
use crate::upstream::{SecuritySettings, TlsSettings};

use super::tree::Node;
use super::walk::{Keys, Section, Walk};

const SECURITY: Keys = Keys {
    known: &["protocol", "sasl", "tls"],
    later: &[],
};
const TLS: Keys = Keys {
    known: &["ca", "certificate", "key"],
    later: &[],
};
/// `protocol`: whether TLS, whether SASL.
#[derive(Clone, Copy)]
struct Protocol {
    tls: bool,
    sasl: bool,
}

const fn protocol(tls: bool, sasl: bool) -> Protocol {
    Protocol { tls, sasl }
}

const PROTOCOLS: [(&str, Protocol); 4] = [
    ("plaintext", protocol(false, false)),
    ("ssl", protocol(true, false)),
    ("sasl_plaintext", protocol(false, true)),
    ("sasl_ssl", protocol(true, true)),
];

impl Walk<'_> {
    /// `kafka.security`. `None`: at fault, which is noted.
    pub(super) fn security(&mut self, node: &Node) -> Option<SecuritySettings> {
        let section = self.section(node, "kafka.security", &SECURITY)?;
        let protocol = match self.optional(&section, "protocol") {
            None => Some(protocol(false, false)),
            Some(node) => self.choice(node, "kafka.security.protocol", &PROTOCOLS, &[]),
        };
        let tls = self.optional(&section, "tls").map(|n| self.kafka_tls(n));
        let sasl = self.optional(&section, "sasl").map(|n| self.sasl(n));
        let protocol = protocol?;
        self.fits(&section, "tls", protocol.tls, "`ssl` or `sasl_ssl`");
        self.fits(&section, "sasl", protocol.sasl, "`sasl_ssl` or `sasl_plaintext`");
        if protocol.sasl && section.get("sasl").is_none() {
            let example = "sasl: {mechanism: SCRAM-SHA-512, username: proxy, password: \"${KAFKA_PASSWORD}\"}";
            self.fault(
                section.place,
                "`kafka.security.protocol` asks for SASL, but there is no `sasl`",
                format!("add `{example}`"),
            );
            return None;
        }
        Some(SecuritySettings {
            tls: match tls {
                Some(tls) if protocol.tls => Some(tls?),
                _ => protocol.tls.then(TlsSettings::default),
            },
            sasl: match sasl {
                Some(sasl) if protocol.sasl => Some(sasl?),
                _ => None,
            },
        })
    }

    /// A table that the protocol does not use would be one that is believed to protect.
    fn fits(&mut self, section: &Section<'_>, key: &str, used: bool, protocols: &str) {
        if let Some(node) = section.get(key).filter(|_| !used) {
            self.fault(
                node.place,
                format!("`kafka.security.{key}` with a `protocol` that does not use it"),
                format!("write `protocol:` {protocols}, or remove `{key}`"),
            );
        }
    }

    fn kafka_tls(&mut self, node: &Node) -> Option<TlsSettings> {
        let section = self.section(node, "kafka.security.tls", &TLS)?;
        let file = |walk: &mut Self, key: &str| {
            let node = walk.optional(&section, key)?;
            Some((node, walk.path(node, &section.path(key))))
        };
        let ca =
            file(self, "ca").map(|(node, path)| self.readable(node, "kafka.security", path, |path| pem::authorities(path, "ca").map(drop)));
        let certificate = file(self, "certificate").map(|(node, path)| {
            self.readable(node, "kafka.security", path, |path| {
                pem::certificates(path, "certificate").map(drop)
            })
        });
        let key =
            file(self, "key").map(|(node, path)| self.readable(node, "kafka.security", path, |path| pem::private_key(path).map(drop)));
        let identity = match (certificate, key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some(self.pair(&section, certificate?, key?)?),
            (one, _) => {
                let (there, missing) = if one.is_some() {
                    ("certificate", "key")
                } else {
                    ("key", "certificate")
                };
                let place = section.get(there).map_or(section.place, |n| n.place);
                self.fault(
                    place,
                    format!("`kafka.security.tls.{there}` without `{missing}`"),
                    format!("add `{missing}`: brokers are shown both or none"),
                );
                return None;
            }
        };
        Some(TlsSettings {
            ca: match ca {
                Some(ca) => Some(ca?),
                None => None,
            },
            identity,
        })
    }

    /// A file, looked into; what is wrong with it is noted at its key, as of `name`.
    pub(super) fn readable(
        &mut self,
        node: &Node,
        name: &str,
        path: Option<PathBuf>,
        look: impl FnOnce(&std::path::Path) -> Result<(), Fault>,
    ) -> Option<PathBuf> {
        let path = path?;
        match look(&path) {
            Ok(()) => Some(path),
            Err((wrong, remedy)) => {
                self.unfit(node.place, &format!("`{name}`: {wrong}"), remedy);
                Some(path).filter(|_| self.lenient)
            }
        }
    }

    fn pair(&mut self, section: &Section<'_>, certificate: PathBuf, key: PathBuf) -> Option<(PathBuf, PathBuf)> {
        let Err((wrong, remedy)) = pem::pair(&certificate, &key) else {
            return Some((certificate, key));
        };
        let wrong = self.without_secrets(&wrong);
        let place = section.get("key").map_or(section.place, |n| n.place);
        self.fault(place, format!("`kafka.security.tls`: {wrong}"), remedy);
        None
    }
}
