//! TCP to a host by name: all addresses that the name has, a little apart, and the first that answers (RFC 8305, Happy Eyeballs).
//!
//! One after the other would not do: a name gives its addresses in the same order each time, and one that swallows packets would take all the
//! time that a connection may take, at each attempt.
//!
//! Nor would one call do that is long under way: of a host that is gone the packets are swallowed, TCP repeats its own ever more seldom (after
//! 1, 3, 7 s), and the name may have another address when it comes back. So each second it is dialled anew, beside those before.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpStream, lookup_host},
    task::JoinSet,
    time::{Instant, error::Elapsed, sleep, sleep_until, timeout},
};

/// The next address is tried after this time, or as soon as one has failed (§5 of the RFC).
const APART: Duration = Duration::from_millis(250);
/// Addresses of a name that are tried.
const MOST: usize = 32;
/// A call without an answer is repeated after this time.
const AGAIN: Duration = Duration::from_secs(1);
/// And given up after this one, counted from its last address: so few are under way at a time, and one of them may take a way that is slow.
const GIVEN_UP: Duration = Duration::from_secs(4);

/// Connects to `host:port`. The caller bounds the time. Cancel-safe.
///
/// # Errors
/// The name has no address, or none of them answers: what the last one said.
pub(crate) async fn dial(address: &str) -> io::Result<TcpStream> {
    let look_up = || async { Ok(lookup_host(address).await?.take(MOST).collect()) };
    again_and_again(look_up, first_of).await
}

/// The first result of calls that begin a second apart. The name is looked up for each, which may take its time: a resolver asks the next
/// name server after five seconds.
async fn again_and_again<L, F>(look_up: impl Fn() -> L, call: impl Fn(Vec<SocketAddr>) -> F) -> io::Result<TcpStream>
where
    L: Future<Output = io::Result<Vec<SocketAddr>>>,
    F: Future<Output = io::Result<TcpStream>> + Send + 'static,
{
    let mut calls = JoinSet::new();
    loop {
        let addresses = tokio::select! {
            biased;
            result = answered(&mut calls) => return result,
            addresses = look_up() => addresses?,
        };
        let within = GIVEN_UP + APART * addresses.len() as u32;
        calls.spawn(timeout(within, call(addresses)));
        tokio::select! {
            biased;
            result = answered(&mut calls) => return result,
            () = sleep(AGAIN) => {}
        }
    }
}

/// The first result of calls that were not given up. Never ends without one. Cancel-safe.
async fn answered(calls: &mut JoinSet<Result<io::Result<TcpStream>, Elapsed>>) -> io::Result<TcpStream> {
    while let Some(ended) = calls.join_next().await {
        // Else it was given up, or the runtime ends.
        if let Ok(Ok(result)) = ended {
            return result;
        }
    }
    std::future::pending().await
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
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

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

    /// TCP itself calls again 7 s after the first time.
    /// The first call is never answered: its packets were swallowed.
    #[tokio::test]
    async fn a_host_that_comes_back_is_reached_by_the_next_call() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let count = AtomicUsize::new(0);
        let call = |_| {
            let first = count.fetch_add(1, Relaxed) == 0;
            async move {
                if first {
                    std::future::pending::<()>().await;
                }
                TcpStream::connect(at).await
            }
        };
        let since = Instant::now();
        again_and_again(|| async { Ok(vec![at]) }, call).await.unwrap();
        assert!((AGAIN..2 * AGAIN).contains(&since.elapsed()), "{:?}", since.elapsed());
    }

    /// Of two name servers the first says nothing.
    #[tokio::test]
    async fn a_name_may_take_longer_than_a_call() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let look_up = || async {
            sleep(GIVEN_UP + AGAIN).await;
            Ok(vec![at])
        };
        again_and_again(look_up, first_of).await.unwrap();
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
