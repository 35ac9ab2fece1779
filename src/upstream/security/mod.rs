//! TLS and SASL towards Kafka: what a connection needs before it may carry requests.
//!
//! Certificates, keys, passwords and tokens are read when a connection is opened, so replacing a file is all that a rotation takes.
//! Whatever only an operator can mend is [`CallError::Refused`](super::connection::CallError), told in one line and not tried again at
//! once.

mod authenticate;
mod gate;
mod peer;
mod renewal;
mod settings;
mod tls;
mod token;

use std::sync::Arc;

use tokio::{net::TcpStream, sync::Notify};
use tokio_rustls::client::TlsStream;

use super::connection::CallError;
use gate::Gate;
use token::Tokens;

pub(super) use authenticate::authenticate;
pub(super) use peer::Peer;
pub use peer::{OF_KEY_SETS, OF_LOGINS, OF_REGISTRIES, OF_TOKEN_ENDPOINTS, Remedies};
pub(super) use renewal::renew;
pub use settings::{SaslSettings, Secret, SecuritySettings, TlsSettings, TokenEndpoint, TokenSource};
pub(super) use tls::Tls;

/// What the connections of one client share.
pub(crate) struct Security {
    tls: Option<Arc<Tls>>,
    pub(super) sasl: Option<SaslSettings>,
    tokens: Option<Tokens>,
    pub(super) gate: Gate,
    /// Rung when a broker ends a session because it does not believe us any more.
    pub(super) withdrawn: Notify,
}

impl Security {
    pub(crate) fn new(settings: &SecuritySettings) -> Self {
        Self {
            tls: settings.tls.clone().map(|tls| Arc::new(Tls::new(tls, peer::OF_BROKERS))),
            tokens: match &settings.sasl {
                Some(SaslSettings::OauthBearer(source)) => Some(Tokens::new(source.clone())),
                _ => None,
            },
            sasl: settings.sasl.clone(),
            gate: Gate::default(),
            withdrawn: Notify::new(),
        }
    }

    /// Whether brokers are spoken to by TLS.
    pub(super) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// The handshake; to be called only if [`is_tls`](Self::is_tls).
    pub(super) async fn secure(&self, tcp: TcpStream, address: &str) -> Result<(TlsStream<TcpStream>, Peer), CallError> {
        self.tls.as_ref().expect("TLS is set").connect(tcp, address).await
    }
}
