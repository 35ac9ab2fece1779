//! TCP to a host by name: all addresses that the name has, a little apart, and the first that answers (RFC 8305, Happy Eyeballs).
//!
//! One after the other would not do: a name gives its addresses in the same order each time, and one that swallows packets would take all the
//! time that a connection may take, at each attempt.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpStream, lookup_host},
    task::JoinSet,
    time::{Instant, sleep_until},
};

/// The next address is tried after this time, or as soon as one has failed (§5 of the RFC).
const APART: Duration = Duration::from_millis(250);
/// Addresses of a name that are tried.
const MOST: usize = 32;

/// Connects to `host:port`. The caller bounds the time. Cancel-safe.
///
/// # Errors
/// The name has no address, or none of them answers: what the last one said.
pub(crate) async fn dial(address: &str) -> io::Result<TcpStream> {
    first_of(lookup_host(address).await?.take(MOST).collect()).await
}

async fn first_of(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let mut rest = addresses.into_iter().peekable();
    let mut trying = JoinSet::new();
    let mut next = Instant::now();
    loop {
        tokio::select! {
            biased;
            Some(tried) = trying.join_next(), if !trying.is_empty() => match tried {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(e)) => {
                    failed = e;
                    next = Instant::now();
                }
                // The runtime ends.
                Err(_) => {}
            },
            () = sleep_until(next), if rest.peek().is_some() => {
                rest.next().map(|address| trying.spawn(TcpStream::connect(address)));
                next = Instant::now() + APART;
            }
            else => return Err(failed),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        net::{TcpListener, TcpSocket},
        time::timeout,
    };

    use super::*;

    /// A port whose queue is full: it answers no SYN any more. What fills it must be held.
    async fn black_hole() -> (SocketAddr, TcpListener, Vec<TcpStream>) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let (listener, mut held) = (socket.listen(1).unwrap(), Vec::new());
        let at = listener.local_addr().unwrap();
        while let Ok(stream) = timeout(Duration::from_millis(500), TcpStream::connect(at)).await {
            held.push(stream.unwrap());
        }
        (at, listener, held)
    }

    #[tokio::test]
    async fn an_address_that_swallows_packets_costs_a_moment() {
        let (hole, _listener, _held) = black_hole().await;
        let there = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = there.local_addr().unwrap();
        let began = Instant::now();
        let stream = first_of(vec![hole, hole, at]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), at);
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn who_refuses_is_not_waited_for_and_the_last_says_why() {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let there = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = there.local_addr().unwrap();
        assert_eq!(first_of(vec![closed, at]).await.unwrap().peer_addr().unwrap(), at);
        let refused = first_of(vec![closed; 8]).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(first_of(vec![]).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
