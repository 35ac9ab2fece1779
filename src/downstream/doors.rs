//! The listening sockets: TCP, Unix, or one that whoever started the process hands over.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use listenfd::ListenFd;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, UnixListener};

use super::settings::{Address, BindError, ListenerSettings};
use super::socket::Socket;
use super::socket_file::{LockFault, SocketFile};

/// Handshakes the kernel completes ahead of us; it caps this at `net.core.somaxconn`.
const BACKLOG: u32 = 4096;

/// What a client of a Unix socket is known by: it has no address.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// What was handed over to this process, until a listener takes it.
static INHERITED: Mutex<Option<ListenFd>> = Mutex::new(None);

/// A listening socket.
#[derive(Debug)]
pub(super) enum Door {
    Tcp(TcpListener),
    Unix {
        /// Held for its end, and in front of the listener: the file is gone before a connection is refused, for such a file is replaced by who comes.
        _file: Option<SocketFile>,
        listener: UnixListener,
    },
}

impl Door {
    /// Takes the address. Must be called within a tokio runtime.
    pub(super) fn open(settings: &ListenerSettings) -> Result<Self, BindError> {
        let opened = match &settings.address {
            Address::Ip(address) => listen(*address, false).map(Self::Tcp),
            Address::OnlyIpv6(address) => listen(*address, true).map(Self::Tcp),
            Address::Unix(path) => SocketFile::listen(path).map(|(listener, file)| Self::Unix {
                _file: Some(file),
                listener,
            }),
            Address::Inherited(place) => inherit(*place),
        };
        opened.map_err(|e| cannot_listen(settings, &e))
    }

    pub(super) async fn accept(&self) -> io::Result<(Socket, SocketAddr)> {
        match self {
            Self::Tcp(listener) => {
                let (tcp, peer) = listener.accept().await?;
                // Answers are gathered by us; the kernel must not wait for more. Fails only on a socket that is dead already.
                let _ = tcp.set_nodelay(true);
                Ok((Socket::Tcp(tcp), plain(peer)))
            }
            Self::Unix { listener, .. } => listener.accept().await.map(|(unix, _)| (Socket::Unix(unix), NOWHERE)),
        }
    }

    /// The address taken, if it is one of TCP.
    pub(super) fn local_address(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr(),
            Self::Unix { .. } => Ok(NOWHERE),
        }
    }
}

/// A socket of both families shows a client of IPv4 as `::ffff:a.b.c.d`: one client, one address.
pub(super) fn plain(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

/// Whether those of IPv4 are a part of all addresses of IPv6 the system says (`net.ipv6.bindv6only`), unless `only_v6` leaves them to another listener.
fn listen(address: SocketAddr, only_v6: bool) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        let socket = TcpSocket::new_v6()?;
        if only_v6 {
            SockRef::from(&socket).set_only_v6(true)?;
        }
        socket
    };
    // A restart must not wait for the old connections' TIME_WAIT; a port that is listened on stays taken all the same.
    socket.set_reuseaddr(true)?;
    // Inherited by what is accepted: a device that asks for no MQTT keep alive and vanishes without a word is found out in the kernel's
    // time (two hours, if nobody set another), instead of never.
    socket.set_keepalive(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn inherit(place: usize) -> io::Result<Door> {
    let mut inherited = INHERITED.lock().unwrap_or_else(PoisonError::into_inner);
    let handed = inherited.get_or_insert_with(ListenFd::from_env);
    if let Ok(Some(tcp)) = handed.take_tcp_listener(place) {
        return adopt(tcp).map(Door::Tcp);
    }
    let unix = handed.take_unix_listener(place)?.ok_or(ErrorKind::NotFound)?;
    unix.set_nonblocking(true)?;
    UnixListener::from_std(unix).map(|listener| Door::Unix { _file: None, listener })
}

fn adopt(tcp: std::net::TcpListener) -> io::Result<TcpListener> {
    tcp.set_nonblocking(true)?;
    // As of our own: see `listen`. Who has made it may have left it out.
    SockRef::from(&tcp).set_keepalive(true)?;
    TcpListener::from_std(tcp)
}

/// The places of sockets that were handed over and are nobody's. Who connects there would wait for ever.
pub fn unnamed_sockets<'a>(named: impl Iterator<Item = &'a Address>) -> Vec<usize> {
    let mut inherited = INHERITED.lock().unwrap_or_else(PoisonError::into_inner);
    left_over(inherited.get_or_insert_with(ListenFd::from_env).len(), named)
}

fn left_over<'a>(handed: usize, named: impl Iterator<Item = &'a Address>) -> Vec<usize> {
    let named: Vec<&Address> = named.collect();
    (0..handed).filter(|place| !named.contains(&&Address::Inherited(*place))).collect()
}

fn cannot_listen(settings: &ListenerSettings, error: &io::Error) -> BindError {
    let address = &settings.address;
    let lock = error.get_ref().and_then(|inner| inner.downcast_ref::<LockFault>());
    let (message, remedy) = match (address, error.kind()) {
        (Address::Unix(_), _) if lock.is_some() => (format!("cannot listen on {address}: {error}"), lock.map_or("", LockFault::remedy)),
        (Address::Inherited(place), _) => (
            format!("no listening socket {place} was handed over: {error}"),
            "start the process by systemd with a socket unit; the first socket is systemd:0",
        ),
        (Address::Ip(_) | Address::OnlyIpv6(_), ErrorKind::AddrInUse) => (
            format!("address {address} is in use"),
            "stop the other process or give another port",
        ),
        (Address::Unix(_), ErrorKind::AddrInUse) => (
            format!("address {address} is in use"),
            "stop the other process, or remove the file if it is no socket",
        ),
        (Address::Ip(_) | Address::OnlyIpv6(_), ErrorKind::PermissionDenied) => (
            format!("no permission to listen on {address}"),
            "give a port from 1024 up, or the capability CAP_NET_BIND_SERVICE",
        ),
        (_, ErrorKind::AddrNotAvailable) => (
            format!("address {address} is not of this machine"),
            "give one of its own, or 0.0.0.0 or [::] for all of them",
        ),
        _ => (format!("cannot listen on {address}: {error}"), "check the address"),
    };
    BindError {
        listener: settings.name.clone(),
        message,
        remedy: remedy.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use tokio::net::TcpStream;

    use super::super::settings::{ListenerLimits, Protocol};
    use super::*;

    #[tokio::test]
    async fn what_is_accepted_is_looked_after_by_the_kernel() {
        let listener = listen("127.0.0.1:0".parse().unwrap(), false).unwrap();
        let _device = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        assert!(TcpSocket::from_std_stream(accepted.into_std().unwrap()).keepalive().unwrap());
    }

    #[tokio::test]
    async fn what_is_accepted_at_a_socket_that_was_handed_over_is_looked_after_too() {
        let handed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let listener = adopt(handed).unwrap();
        let _device = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        assert!(TcpSocket::from_std_stream(accepted.into_std().unwrap()).keepalive().unwrap());
    }

    #[tokio::test]
    async fn all_addresses_are_what_the_system_says_but_where_another_listener_has_one_of_ipv4() {
        let all = listen("[::]:0".parse().unwrap(), false).unwrap();
        let systems = SockRef::from(&TcpSocket::new_v6().unwrap()).only_v6().unwrap();
        assert_eq!(SockRef::from(&all).only_v6().unwrap(), systems);
        let ipv4 = listen("127.0.0.1:0".parse().unwrap(), false).unwrap();
        let beside = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), ipv4.local_addr().unwrap().port());
        let ipv6 = listen(beside, true).unwrap();
        let mut peers = vec![];
        for (listener, ip) in [(&ipv4, "127.0.0.1"), (&ipv6, "::1")] {
            let device = TcpStream::connect((ip, beside.port())).await.unwrap();
            let (_, peer) = listener.accept().await.unwrap();
            assert_eq!(peer, device.local_addr().unwrap(), "{ip}");
            peers.push(device);
        }
    }

    #[tokio::test]
    async fn a_lock_that_is_held_is_named_and_nobody_is_told_to_remove_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mqtt.sock");
        let settings = ListenerSettings {
            name: "tcp".to_owned(),
            address: Address::Unix(path.clone()),
            protocol: Protocol::Mqtt,
            proxy: None,
            limits: ListenerLimits::default(),
        };
        let _first = Door::open(&settings).unwrap();
        let told = Door::open(&settings).unwrap_err();
        let lock = format!("another proxy runs there: it holds the lock {}.lock", path.display());
        assert!(told.message.ends_with(&lock), "{}", told.message);
        assert_eq!(told.remedy, "stop it, or give another path");
    }

    #[test]
    fn sockets_that_nobody_names_are_found() {
        let named = [
            Address::Inherited(2),
            Address::Inherited(0),
            Address::Ip("127.0.0.1:0".parse().unwrap()),
        ];
        assert_eq!(left_over(4, named.iter()), [1, 3]);
        assert_eq!(left_over(0, named.iter()), [0_usize; 0]);
    }

    #[test]
    fn one_client_has_one_address() {
        assert_eq!(plain("[::ffff:10.0.0.1]:5".parse().unwrap()), "10.0.0.1:5".parse().unwrap());
        assert_eq!(plain("[2001:db8::1]:5".parse().unwrap()), "[2001:db8::1]:5".parse().unwrap());
    }
}
