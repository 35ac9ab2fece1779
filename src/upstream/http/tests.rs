//! A server that counts connections, and closes them as servers do.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;

/// Answers `ok` so many times on each connection, then closes it.
struct Server {
    url: String,
    connections: Arc<AtomicUsize>,
}

impl Server {
    async fn start(answers: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/asked?x=y", listener.local_addr().unwrap());
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, SeqCst);
                tokio::spawn(async move {
                    for _ in 0..answers {
                        let mut text = Vec::new();
                        while !text.ends_with(b"\r\n\r\n") {
                            if stream.read_buf(&mut text).await.unwrap_or(0) == 0 {
                                return;
                            }
                        }
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
                    }
                });
            }
        });
        Self { url, connections }
    }

    fn client(&self, most_idle: usize) -> HttpClient {
        let settings = HttpSettings {
            url: self.url.parse().unwrap(),
            ca: None,
        };
        HttpClient::new(settings, OF_KEY_SETS, 64, most_idle)
    }

    fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }
}

async fn ask(client: &HttpClient) -> Result<Bytes, String> {
    let request = client.request(Method::GET).body(Full::default()).unwrap();
    client.ask(request).await.map(Response::into_body)
}

#[tokio::test]
async fn a_connection_is_used_again_where_that_is_wanted() {
    let server = Server::start(usize::MAX).await;
    let client = server.client(2);
    for _ in 0..5 {
        assert_eq!(ask(&client).await.unwrap(), "ok");
    }
    assert_eq!(server.connections(), 1);
    let client = server.client(0);
    for _ in 0..2 {
        assert_eq!(ask(&client).await.unwrap(), "ok");
    }
    assert_eq!(server.connections(), 3);
}

/// The server closes while nothing is asked, or as soon as something is.
#[tokio::test]
async fn a_kept_connection_that_breaks_costs_nobody_an_answer() {
    let server = Server::start(1).await;
    let client = server.client(2);
    for _ in 0..20 {
        assert_eq!(ask(&client).await.unwrap(), "ok");
    }
    assert_eq!(server.connections(), 20);
}

#[tokio::test]
async fn no_more_connections_are_kept_than_said() {
    let server = Server::start(usize::MAX).await;
    let client = Arc::new(server.client(2));
    let mut asked = JoinSet::new();
    for _ in 0..8 {
        let client = Arc::clone(&client);
        asked.spawn(async move { ask(&client).await });
    }
    while let Some(answer) = asked.join_next().await {
        assert_eq!(answer.unwrap().unwrap(), "ok");
    }
    assert!(client.idle.lock().unwrap().len() <= 2);
}
