//! The side of the devices: listeners that accept, TLS, WebSocket, and the [`Link`] that carries one connection's bytes.
//!
//! Nothing here knows what a packet means, nor that there is a Kafka. The flow: [`Listener::run`] accepts and spawns;
//! in the new task the handshakes (TLS, WebSocket) run under the connect deadline; then the caller's future owns the [`Link`].
//!
//! What is bounded here: connections and their rate ([`Gate`], shared by all listeners), the time of a handshake, the
//! bytes of an incomplete packet ([`Link::set_max_packet_size`]) and the time of a close. An idle connection owns no
//! buffer: reading borrows one from its thread ([`Link::fill`]).

mod addresses;
mod doors;
mod entrance;
mod gate;
mod identity;
mod link;
mod listener;
mod nothing;
mod pool;
pub mod proxy;
mod ready;
mod records;
mod settings;
mod socket;
mod socket_file;
mod stream;
mod tls;
mod turns;
pub mod websocket;

pub use addresses::network_of;
pub use doors::unnamed_sockets;
pub use gate::{Gate, Seat};
pub use identity::CertificateIdentity;
pub use link::{Fill, Link};
pub use listener::Listener;
pub use ready::Ready;
pub use settings::{
    Address, BindError, ClientAuth, Limits, ListenerLimits, ListenerSettings, Protocol, ProxySettings, TicketKeys, TlsSettings,
    WebSocketSettings, origin,
};
#[cfg(test)]
pub(crate) use turns::was_served;
