//! The listening sockets: TCP, Unix, or one that whoever started the process hands over.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use listenfd::ListenFd;
use tokio::net::{TcpListener, TcpSocket, UnixListener};

use super::settings::{Address, BindError, ListenerSettings};
use super::socket::Socket;

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
        listener: UnixListener,
        /// Held for its end.
        _file: Option<OwnPath>,
    },
}

/// The file of a Unix socket, removed with the listener.
#[derive(Debug)]
pub(super) struct OwnPath(PathBuf);

impl Drop for OwnPath {
    fn drop(&mut self) {
        // Somebody else may have removed it.
        let _ = fs::remove_file(&self.0);
    }
}

impl Door {
    /// Takes the address. Must be called within a tokio runtime.
    pub(super) fn open(settings: &ListenerSettings) -> Result<Self, BindError> {
        let opened = match &settings.address {
            Address::Ip(address) => listen(*address).map(Self::Tcp),
            Address::Unix(path) => listen_at(path).map(|listener| {
                let _file = Some(OwnPath(path.clone()));
                Self::Unix { listener, _file }
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

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // A restart must not wait for the old connections' TIME_WAIT; a port that is listened on stays taken all the same.
    socket.set_reuseaddr(true)?;
    // Inherited by what is accepted: a device that asks for no MQTT keep alive and vanishes without a word is found out in the kernel's
    // time (two hours, if nobody set another), instead of never.
    socket.set_keepalive(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// A socket left behind by a process that is gone refuses connections, and only such a one is replaced.
fn listen_at(path: &Path) -> io::Result<UnixListener> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    let refuses = || std::os::unix::net::UnixStream::connect(path).is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused);
    if is_socket && refuses() {
        fs::remove_file(path)?;
    }
    UnixListener::bind(path)
}

fn inherit(place: usize) -> io::Result<Door> {
    let mut inherited = INHERITED.lock().unwrap_or_else(PoisonError::into_inner);
    let handed = inherited.get_or_insert_with(ListenFd::from_env);
    if let Ok(Some(tcp)) = handed.take_tcp_listener(place) {
        tcp.set_nonblocking(true)?;
        return TcpListener::from_std(tcp).map(Door::Tcp);
    }
    let unix = handed.take_unix_listener(place)?.ok_or(ErrorKind::NotFound)?;
    unix.set_nonblocking(true)?;
    UnixListener::from_std(unix).map(|listener| Door::Unix { listener, _file: None })
}

fn cannot_listen(settings: &ListenerSettings, error: &io::Error) -> BindError {
    let address = &settings.address;
    let (message, remedy) = match (address, error.kind()) {
        (Address::Inherited(place), _) => (
            format!("no listening socket {place} was handed over: {error}"),
            "start the process by systemd with a socket unit; the first socket is systemd:0",
        ),
        (Address::Ip(_), ErrorKind::AddrInUse) => (
            format!("address {address} is in use"),
            "stop the other process or give another port",
        ),
        (Address::Unix(_), ErrorKind::AddrInUse) => (
            format!("address {address} is in use"),
            "stop the other process, or remove the file if it is no socket",
        ),
        (Address::Ip(_), ErrorKind::PermissionDenied) => (
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
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn what_is_accepted_is_looked_after_by_the_kernel() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let _device = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        assert!(TcpSocket::from_std_stream(accepted.into_std().unwrap()).keepalive().unwrap());
    }

    #[tokio::test]
    async fn a_socket_left_behind_is_replaced_and_one_in_use_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mqtt.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "left behind");
        let own = listen_at(&path).unwrap();
        assert_eq!(listen_at(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
        drop(own);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "no socket").unwrap();
        assert_eq!(listen_at(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
        assert_eq!(fs::read(&path).unwrap(), b"no socket");
    }

    #[test]
    fn one_client_has_one_address() {
        assert_eq!(plain("[::ffff:10.0.0.1]:5".parse().unwrap()), "10.0.0.1:5".parse().unwrap());
        assert_eq!(plain("[2001:db8::1]:5".parse().unwrap()), "[2001:db8::1]:5".parse().unwrap());
    }
}
