//! What is set of TLS and SASL, and secrets that never print.

use std::{fmt, fs::File, io::Read, path::PathBuf};

use zeroize::Zeroizing;

use crate::{kafka::sasl, upstream::http::HttpUrl};

/// Longest secret in a file; tokens are a few KiB.
const LONGEST_SECRET: u64 = 64 * 1024;

/// `security`: both absent is Kafka's PLAINTEXT, both there SASL_SSL.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SecuritySettings {
    /// TLS, to every broker.
    pub tls: Option<TlsSettings>,
    /// Who we say that we are.
    pub sasl: Option<SaslSettings>,
}

/// TLS towards brokers. The files are read again for each new connection, so they can be replaced at any time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// PEM of the authorities that sign the brokers' certificates; `None`: those that the system trusts.
    pub ca: Option<PathBuf>,
    /// Our own certificate (PEM, leaf first) and its private key, for brokers that ask for one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// SASL mechanism and credentials.
#[derive(Clone, Debug, PartialEq)]
pub enum SaslSettings {
    /// PLAIN.
    Plain {
        /// The user.
        username: String,
        /// Its password.
        password: Secret,
    },
    /// SCRAM.
    Scram {
        /// Of the mechanism.
        hash: sasl::Hash,
        /// The user.
        username: String,
        /// Its password.
        password: Secret,
    },
    /// OAUTHBEARER.
    OauthBearer(TokenSource),
}

/// Where bearer tokens come from.
#[derive(Clone, Debug, PartialEq)]
pub enum TokenSource {
    /// The token itself; whoever issues it renews the file.
    Held(Secret),
    /// An authorization server that issues them to clients (RFC 6749 §4.4).
    Endpoint(TokenEndpoint),
}

/// An authorization server, and who we are there.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenEndpoint {
    /// Where to ask.
    pub url: HttpUrl,
    /// PEM of the authorities that sign its certificate; `None`: those that the system trusts.
    pub ca: Option<PathBuf>,
    /// Our name.
    pub client_id: String,
    /// Our password.
    pub client_secret: Secret,
    /// What is asked for, as the server wants it.
    pub scope: Option<String>,
}

impl SaslSettings {
    /// The mechanism.
    pub fn mechanism(&self) -> sasl::Mechanism {
        match self {
            Self::Plain { .. } => sasl::Mechanism::Plain,
            Self::Scram { hash, .. } => sasl::Mechanism::Scram(*hash),
            Self::OauthBearer(_) => sasl::Mechanism::OauthBearer,
        }
    }
}

/// A password or token. Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// As it is.
    Text(Zeroizing<String>),
    /// The text of a file without the line break at its end; read anew each time it is needed.
    File(PathBuf),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Secret"),
            Self::File(path) => write!(f, "Secret in {}", path.display()),
        }
    }
}

impl Secret {
    /// What it is now. Reads a file: not for a task of the runtime.
    ///
    /// # Errors
    /// In words for an operator: the file cannot be read, is empty, no UTF-8 or longer than 64 KiB.
    pub fn read(&self) -> Result<Zeroizing<String>, String> {
        let path = match self {
            Self::Text(text) => return Ok(text.clone()),
            Self::File(path) => path,
        };
        let wrong = |why: &str| format!("{} {why}", path.display());
        // Room for all of it from the start: what grows leaves copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST_SECRET as usize + 1));
        let read = File::open(path).and_then(|file| file.take(LONGEST_SECRET + 1).read_to_end(&mut bytes));
        read.map_err(|e| wrong(&format!("cannot be read: {e}")))?;
        if bytes.len() as u64 > LONGEST_SECRET {
            return Err(wrong("is longer than 64 KiB"));
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| wrong("is not UTF-8"))?;
        let text = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
        if text.is_empty() {
            return Err(wrong("is empty"));
        }
        Ok(Zeroizing::new(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Secret {
        Secret::Text(Zeroizing::new(text.to_owned()))
    }

    #[test]
    fn a_secret_prints_nothing() {
        let settings = SecuritySettings {
            tls: None,
            sasl: Some(SaslSettings::Plain {
                username: "proxy".to_owned(),
                password: text("hunter2"),
            }),
        };
        let shown = format!("{settings:?} {settings:#?}");
        assert!(shown.contains("proxy") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn a_file_is_read_anew_and_without_its_last_line_break() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let secret = Secret::File(path.clone());
        assert!(secret.read().unwrap_err().contains("cannot be read"));
        for (written, meant) in [("a\n", "a"), ("b\r\n", "b"), (" c \n\n", " c \n"), ("d", "d")] {
            std::fs::write(&path, written).unwrap();
            assert_eq!(**secret.read().unwrap(), *meant);
        }
        for (bytes, words) in [
            (&b""[..], "is empty"),
            (b"\n", "is empty"),
            (b"\xff", "not UTF-8"),
            (&[b'x'; 65_537], "longer than 64 KiB"),
        ] {
            std::fs::write(&path, bytes).unwrap();
            let fault = secret.read().unwrap_err();
            assert!(fault.contains(words), "{fault}");
        }
        std::fs::write(&path, [b'x'; 65_536]).unwrap();
        assert!(secret.read().is_ok());
        assert_eq!(**text("e\n").read().unwrap(), *"e\n");
    }
}
