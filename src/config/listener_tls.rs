//! `tls` of a listener: certificates, whether devices show one, revocation, keys of session tickets.

use std::path::PathBuf;

use zeroize::Zeroizing;

use crate::downstream::{ClientAuth, TicketKeys, TlsSettings};

use super::tree::{Kind, Node};
use super::walk::{Keys, Section, Walk, is_filled};

const TLS: Keys = Keys {
    known: &[
        "certificate",
        "key",
        "more",
        "client_ca",
        "client_auth",
        "client_crl",
        "ticket_keys",
    ],
    later: &[],
};
const PAIR: Keys = Keys {
    known: &["certificate", "key"],
    later: &[],
};
impl Walk<'_> {
    /// `tls` of a listener.
    pub(super) fn tls(&mut self, node: &Node) -> Option<TlsSettings> {
        let section = self.section(node, "tls", &TLS)?;
        let certificate = self
            .required(&section, "certificate", "server.pem")
            .and_then(|n| self.path(n, "tls.certificate"));
        let key = self.required(&section, "key", "server.key").and_then(|n| self.path(n, "tls.key"));
        let client_ca = self.optional(&section, "client_ca").and_then(|n| self.path(n, "tls.client_ca"));
        let client_auth = self.client_auth(&section);
        let client_crl = self.client_crl(&section);
        let ticket_keys = self.ticket_keys(&section);
        let more = match self.optional(&section, "more") {
            Some(node) => self.list(node, "tls.more").iter().map(|n| self.further_pair(n)).collect(),
            None => Some(vec![]),
        };
        Some(TlsSettings {
            certificate: certificate?,
            key: key?,
            more: more?,
            client_ca,
            client_auth: client_auth?,
            client_crl: client_crl?,
            ticket_keys: ticket_keys?,
        })
    }

    /// An entry of `tls.more`.
    fn further_pair(&mut self, node: &Node) -> Option<(PathBuf, PathBuf)> {
        let section = self.section(node, "tls.more[]", &PAIR)?;
        let certificate = self
            .required(&section, "certificate", "other.pem")
            .and_then(|n| self.path(n, "tls.more[].certificate"));
        let key = self
            .required(&section, "key", "other.key")
            .and_then(|n| self.path(n, "tls.more[].key"));
        Some((certificate?, key?))
    }

    /// A revocation list says nothing where nobody shows a certificate.
    fn client_crl(&mut self, section: &Section<'_>) -> Option<Option<PathBuf>> {
        let Some(node) = self.optional(section, "client_crl") else {
            return Some(None);
        };
        if section.get("client_ca").is_none() {
            self.fault(
                node.place,
                "`client_crl` without `client_ca`",
                "add `client_ca: ca.pem` and `client_auth`",
            );
            return None;
        }
        self.path(node, "tls.client_crl").map(Some)
    }

    /// Keys are secrets: they come from a file or the environment.
    fn ticket_keys(&mut self, section: &Section<'_>) -> Option<Option<TicketKeys>> {
        let Some(node) = self.optional(section, "ticket_keys") else {
            return Some(None);
        };
        self.secrets.insert(node.place);
        let text = Zeroizing::new(self.text(node, "tls.ticket_keys")?);
        // As written: what a variable holds is never taken as a path.
        let is_path = matches!(&node.kind, Kind::Scalar { text, .. } if text.starts_with("file:"));
        match text.strip_prefix("file:").filter(|path| is_path && !path.is_empty()) {
            Some(path) => {
                self.shown_as_written(node, "file:", path);
                Some(Some(TicketKeys::File(self.folder().join(path))))
            }
            None if is_filled(node) && !is_path => Some(Some(TicketKeys::Text(text))),
            None => {
                self.fault(
                    node.place,
                    "`tls.ticket_keys` is no file",
                    "write for example \"file:certs/tickets\", or \"${NAME}\", which the environment holds",
                );
                None
            }
        }
    }

    /// A CA without `client_auth`, and the reverse, would leave open whether devices must show a certificate.
    fn client_auth(&mut self, section: &Section<'_>) -> Option<ClientAuth> {
        let words = [
            ("none", ClientAuth::None),
            ("optional", ClientAuth::Optional),
            ("required", ClientAuth::Required),
        ];
        let written = self.optional(section, "client_auth");
        let client_auth = match written {
            None => ClientAuth::None,
            Some(node) => self.choice(node, "tls.client_auth", &words, &[])?,
        };
        match (section.get("client_ca"), written) {
            (Some(ca), None) => {
                self.fault(
                    ca.place,
                    "`client_ca` without `client_auth`",
                    "add `client_auth: required`, or `optional`",
                );
                None
            }
            (None, Some(node)) if client_auth != ClientAuth::None => {
                self.fault(
                    node.place,
                    "`client_auth` without `client_ca`",
                    "add `client_ca: ca.pem`: who signs the devices' certificates",
                );
                None
            }
            _ => Some(client_auth),
        }
    }
}
