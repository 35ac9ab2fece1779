//! TLS and SASL towards Kafka: what a connection needs before it may carry requests.
//!
//! Certificates, keys, passwords and tokens are read when a connection is opened, so replacing a file is all that a rotation takes.
//! Whatever only an operator can mend is [`CallError::Refused`](super::connection::CallError), told in one line and not tried again at
//! once.

mod authenticate;
mod gate;
mod settings;
mod tls;

use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::connection::CallError;
use gate::Gate;
use tls::Tls;

pub(super) use authenticate::authenticate;
pub use settings::{SaslSettings, Secret, SecuritySettings, TlsSettings};
pub(super) use tls::Peer;

/// What the connections of one client share.
pub(crate) struct Security {
    tls: Option<Arc<Tls>>,
    pub(super) sasl: Option<SaslSettings>,
    pub(super) gate: Gate,
}

impl Security {
    pub(crate) fn new(settings: &SecuritySettings) -> Self {
        Self {
            tls: settings.tls.clone().map(|tls| Arc::new(Tls::new(tls))),
            sasl: settings.sasl.clone(),
            gate: Gate::default(),
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
