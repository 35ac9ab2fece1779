//! The admin listener over real sockets: what each path answers, and what it refuses.

// clippy.toml allows it in test functions; the functions they share are not seen as such.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;

use mqtt_kafka_proxy::admin::{Admin, Pages, Ready, Settings};
use mqtt_kafka_proxy::metrics::Metrics;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};

async fn start() -> (SocketAddr, watch::Sender<Ready>, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    start_known_as(&[]).await
}

async fn start_known_as(hosts: &[&str]) -> (SocketAddr, watch::Sender<Ready>, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let admin = Admin::bind(&Settings {
        address: "127.0.0.1:0".parse().unwrap(),
        only_ipv6: false,
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
    })
    .await
    .unwrap();
    let address = admin.local_address().unwrap();
    let (ready, snapshot) = watch::channel(Ready::No("Kafka is away".to_owned()));
    let (stop, stopped) = oneshot::channel::<()>();
    let pages = Pages {
        metrics: Arc::new(Metrics::new()),
        ready: snapshot,
        configuration: "{\"rules\": []}\n".into(),
    };
    let running = tokio::spawn(admin.run(pages, async { drop(stopped.await) }));
    (address, ready, stop, running)
}

/// Status line and headers, then the body.
async fn ask(address: SocketAddr, request: &str) -> (String, String) {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a whole head");
    (head.to_owned(), body.to_owned())
}

fn request(method: &str, path: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")
}

#[tokio::test]
async fn the_paths_answer() {
    let (address, ready, _stop, _running) = start().await;
    let (head, body) = ask(address, &request("GET", "/healthz")).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(body, "alive\n");
    let (head, body) = ask(address, &request("GET", "/readyz")).await;
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert_eq!(body, "not ready: Kafka is away\n");
    let gauge = |body: &str| {
        body.lines()
            .find_map(|line| line.strip_prefix("mqtt_kafka_proxy_ready ").map(str::to_owned))
    };
    assert_eq!(gauge(&ask(address, &request("GET", "/metrics")).await.1).as_deref(), Some("0"));
    ready.send(Ready::Yes).unwrap();
    assert!(ask(address, &request("GET", "/readyz")).await.0.starts_with("HTTP/1.1 200 "));
    let (head, body) = ask(address, &request("GET", "/metrics")).await;
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(
        gauge(&body).as_deref() == Some("1")
            && body.contains("mqtt_kafka_proxy_build_info{")
            && body.contains("process_resident_memory_bytes "),
        "{body}"
    );
    let (head, body) = ask(address, &request("GET", "/config")).await;
    assert!(
        head.starts_with("HTTP/1.1 200 ") && head.contains("content-type: application/json") && head.contains("cache-control: no-store"),
        "{head}"
    );
    assert_eq!(body, "{\"rules\": []}\n");
    let (head, body) = ask(address, &request("HEAD", "/metrics")).await;
    assert!(head.starts_with("HTTP/1.1 200 ") && body.is_empty(), "{head}\n{body}");
}

#[tokio::test]
async fn everything_else_is_refused() {
    let (address, _ready, _stop, _running) = start().await;
    assert!(ask(address, &request("GET", "/")).await.0.starts_with("HTTP/1.1 404 "));
    let (head, _) = ask(address, &request("POST", "/metrics")).await;
    assert!(head.starts_with("HTTP/1.1 405 ") && head.contains("allow: GET, HEAD"), "{head}");
    assert!(ask(address, &request("PUT", "/config")).await.0.starts_with("HTTP/1.1 405 "));
    let huge = format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "y".repeat(7 * 1024));
    assert!(
        ask(address, &huge).await.0.starts_with("HTTP/1.1 200 "),
        "7 KiB of headers still fit"
    );
    let mut socket = TcpStream::connect(address).await.unwrap();
    // It may close while we still write; what counts is that it answers nothing but a refusal.
    let _ = socket
        .write_all(format!("GET /healthz HTTP/1.1\r\nx: {}", "y".repeat(20 * 1024)).as_bytes())
        .await;
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer).await;
    assert!(
        answer.is_empty() || answer.starts_with(b"HTTP/1.1 431 "),
        "{}",
        String::from_utf8_lossy(&answer)
    );
}

/// A page of somebody else whose name was led to the browser's own machine.
#[tokio::test]
async fn a_browser_that_a_foreign_page_leads_here_reads_nothing() {
    let (address, _ready, _stop, _running) = start_known_as(&["metrics.test"]).await;
    let status = async |head: String| ask(address, &format!("{head}\r\n\r\n")).await.0[9..12].to_owned();
    for path in ["/config", "/metrics", "/healthz", "/readyz", "/"] {
        let (head, body) = ask(
            address,
            &format!("GET {path} HTTP/1.1\r\nhost: evil.test:{}\r\n\r\n", address.port()),
        )
        .await;
        assert!(
            head.starts_with("HTTP/1.1 421 ") && !body.contains("rules"),
            "{path}: {head}\n{body}"
        );
    }
    assert_eq!(
        status("GET http://evil.test/config HTTP/1.1\r\nhost: localhost".to_owned()).await,
        "421"
    );
    assert_eq!(
        status("GET /config HTTP/1.1\r\nhost: localhost\r\nhost: evil.test".to_owned()).await,
        "421"
    );
    assert_eq!(status("GET /config HTTP/1.0".to_owned()).await, "200", "a balancer names no host");
    for host in [&address.to_string(), "localhost", "[::1]:80", "Metrics.Test:8080"] {
        assert_eq!(status(format!("GET /config HTTP/1.1\r\nhost: {host}")).await, "200", "{host}");
    }
}

#[tokio::test]
async fn a_taken_port_is_one_clear_line_and_a_stop_stops() {
    let (address, _ready, stop, running) = start().await;
    let settings = Settings {
        address,
        only_ipv6: false,
        hosts: vec![],
    };
    let error = Admin::bind(&settings).await.unwrap_err().to_string();
    assert_eq!(
        error,
        format!("admin: address {address} is in use; stop the other process or give another port in admin.address")
    );
    stop.send(()).unwrap();
    running.await.unwrap();
    Admin::bind(&settings).await.expect("the port is free again");
}

#[tokio::test]
async fn all_addresses_of_ipv6_leave_one_of_ipv4_to_a_listener_with_the_same_port() {
    let ipv4 = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let settings = Settings {
        address: (std::net::Ipv6Addr::UNSPECIFIED, ipv4.local_addr().unwrap().port()).into(),
        only_ipv6: true,
        hosts: vec![],
    };
    let admin = Admin::bind(&settings).await.unwrap();
    assert_eq!(admin.local_address().unwrap(), settings.address);
}
