//! The request that makes an HTTP connection a WebSocket (RFC 6455 §4.2): bounded, for one path, for MQTT only.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::task::{Context, Poll, ready};

use tungstenite::handshake::machine::TryParse;
use tungstenite::handshake::server::{Request, create_response, write_response};
use tungstenite::http::HeaderValue;
use tungstenite::http::header::{ORIGIN, SEC_WEBSOCKET_PROTOCOL};

use crate::downstream::settings::{WebSocketSettings, origin};
use crate::downstream::stream::Stream;
use crate::mqtt::outbox::Outbox;

use super::WebSocket;

/// A request is no larger. Browsers send cookies of the host along.
const LARGEST_REQUEST: usize = 16 * 1024;

/// [MQTT-6.0.0-3], [MQTT-6.0.0-4]
const SUBPROTOCOL: &str = "mqtt";

/// Status and reason of the answer to a request that is refused.
type Refusal = (u16, &'static str);

/// Why a connection did not become a WebSocket.
#[derive(Debug)]
pub(in crate::downstream) enum Refused {
    /// Its request was answered with this status and reason.
    Request(u16, &'static str),
    /// The socket, or TLS.
    Io(io::Error),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(status, reason) => write!(f, "answered with HTTP status {status}: {reason}"),
            Self::Io(e) => e.fmt(f),
        }
    }
}

impl From<io::Error> for Refused {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

/// Reads the request and answers it. The caller keeps the time.
pub(in crate::downstream) async fn upgrade(mut stream: Stream, settings: &WebSocketSettings) -> Result<Stream, Refused> {
    let mut bytes = Vec::new();
    let answered = loop {
        match parse(&bytes, settings) {
            Ok(None) => {}
            Ok(Some((used, answer))) => break Ok((used, answer)),
            Err(refusal) => break Err(refusal),
        }
        if poll_fn(|cx| read_more(&mut stream, cx, &mut bytes)).await? == 0 {
            return Err(Refused::Io(ErrorKind::UnexpectedEof.into()));
        }
    };
    match answered {
        Ok((used, answer)) => {
            write(&mut stream, &answer).await?;
            bytes.drain(..used);
            let websocket = WebSocket::new(stream, bytes, settings.frame_size);
            Ok(Stream::WebSocket(Box::new(websocket)))
        }
        Err((status, reason)) => {
            let answer = format!(
                "HTTP/1.1 {status} {reason}\r\nConnection: close\r\nContent-Length: 0\r\n{}\r\n",
                if status == 426 {
                    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                } else {
                    ""
                }
            );
            write(&mut stream, answer.as_bytes()).await?;
            Err(Refused::Request(status, reason))
        }
    }
}

/// The length of the request and the answer to it; `None` while it is not whole.
fn parse(bytes: &[u8], settings: &WebSocketSettings) -> Result<Option<(usize, Vec<u8>)>, Refusal> {
    let Some((used, request)) = Request::try_parse(bytes).map_err(|_| (400, "Bad Request"))? else {
        return if bytes.len() < LARGEST_REQUEST {
            Ok(None)
        } else {
            Err((431, "Request Header Fields Too Large"))
        };
    };
    if settings.path.as_deref().is_some_and(|path| path != request.uri().path()) {
        return Err((404, "Not Found"));
    }
    if !may_come(&request, settings) {
        return Err((403, "Forbidden"));
    }
    let mut answer = create_response(&request).map_err(|_| (426, "Upgrade Required"))?;
    if !offers_mqtt(&request) {
        return Err((400, "Subprotocol mqtt is missing"));
    }
    answer
        .headers_mut()
        .insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    let mut out = Vec::new();
    write_response(&mut out, &answer).map_err(|_| (500, "Internal Server Error"))?;
    Ok(Some((used, out)))
}

/// Whether the web page that asks may (§10.2). A browser says which it is, and no page can keep it from that; who says nothing is no browser.
fn may_come(request: &Request, settings: &WebSocketSettings) -> bool {
    let Some(origins) = &settings.origins else { return true };
    let mut said = request.headers().get_all(ORIGIN).iter();
    said.all(|value| value.to_str().ok().and_then(origin).is_some_and(|origin| origins.contains(&origin)))
}

fn offers_mqtt(request: &Request) -> bool {
    let offered = request.headers().get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    offered
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(|name| name.trim() == SUBPROTOCOL))
}

fn read_more(stream: &mut Stream, cx: &mut Context<'_>, bytes: &mut Vec<u8>) -> Poll<io::Result<usize>> {
    let mut part = [0; 2048];
    let count = ready!(stream.poll_read(cx, &mut part))?;
    bytes.extend_from_slice(&part[..count]);
    Poll::Ready(Ok(count))
}

async fn write(stream: &mut Stream, bytes: &[u8]) -> io::Result<()> {
    let mut outbox = Outbox::default();
    outbox.buffer().extend_from_slice(bytes);
    poll_fn(|cx| {
        while !stream.try_flush(&mut outbox)? {
            ready!(stream.socket().poll_write_ready(cx))?;
        }
        Poll::Ready(Ok(()))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "GET /mqtt?x=1 HTTP/1.1\r\nHost: proxy.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: other, mqtt\r\n\r\n";

    fn status(request: &str) -> Option<u16> {
        match parse(request.as_bytes(), &WebSocketSettings::default()) {
            Ok(None) => None,
            Ok(Some(_)) => Some(101),
            Err((status, _)) => Some(status),
        }
    }

    #[test]
    fn a_request_is_taken_however_it_comes_and_nothing_behind_it() {
        let settings = WebSocketSettings::default();
        for cut in 0..GOOD.len() {
            assert_eq!(parse(&GOOD.as_bytes()[..cut], &settings), Ok(None), "the first {cut} bytes");
        }
        let more = [GOOD.as_bytes(), b"\x82\x80"].concat();
        let (used, answer) = parse(&more, &settings).unwrap().unwrap();
        assert_eq!(used, GOOD.len());
        let answer = String::from_utf8(answer).unwrap().to_ascii_lowercase();
        assert!(answer.starts_with("http/1.1 101 ") && answer.ends_with("\r\n\r\n"), "{answer}");
        assert!(answer.contains("\r\nsec-websocket-protocol: mqtt\r\n"), "{answer}");
        // RFC 6455 §1.3 has this key and its answer.
        assert!(
            answer.contains("\r\nsec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"),
            "{answer}"
        );
    }

    #[test]
    fn what_is_no_such_request_is_refused_with_a_status() {
        assert_eq!(status(GOOD), Some(101));
        for (from, to, refused) in [
            ("GET /mqtt?x=1", "GET /other", 404),
            ("GET", "POST", 400),
            ("HTTP/1.1", "HTTP/1.0", 400),
            ("HTTP/1.1", "HTTP/2.0", 400),
            ("Upgrade: websocket", "Upgrade: h2c", 426),
            ("keep-alive, Upgrade", "close", 426),
            ("Version: 13", "Version: 8", 426),
            ("Sec-WebSocket-Key", "X-Key", 426),
            ("other, mqtt", "mqttv3.1", 400),
            ("Host: ", "Ho st: ", 400),
            ("proxy.test", "proxy\0test", 400),
        ] {
            let request = GOOD.replace(from, to);
            assert_ne!(request, GOOD);
            assert_eq!(status(&request), Some(refused), "{request}");
        }
    }

    #[test]
    fn only_pages_of_the_origins_that_are_written_may_come_and_who_is_no_browser() {
        let only = WebSocketSettings {
            origins: Some(vec!["https://app.example.org".to_owned(), "http://localhost:8080".to_owned()]),
            ..WebSocketSettings::default()
        };
        let any = WebSocketSettings::default();
        let status = |origins: &[&str], settings| {
            let lines: String = origins.iter().map(|origin| format!("\r\nOrigin: {origin}")).collect();
            let request = GOOD.replace("\r\n\r\n", &(lines + "\r\n\r\n"));
            parse(request.as_bytes(), settings)
                .map(|whole| whole.is_some())
                .map_err(|refusal| refusal.0)
        };
        for taken in [
            &[][..],
            &["https://app.example.org"],
            &["HTTPS://App.Example.ORG"],
            &["http://localhost:8080"],
        ] {
            assert_eq!(status(taken, &only), Ok(true), "{taken:?}");
        }
        for refused in [
            &["https://evil.example"][..],
            &["null"],
            &[""],
            &["http://app.example.org"],
            &["https://app.example.org:8443"],
            &["https://app.example.org.evil.example"],
            &["https://app.example.org/"],
            &["http://localhost"],
            &["https://app.example.org", "https://evil.example"],
            &["https://app.example.org https://evil.example"],
            &["\u{e4}"],
        ] {
            assert_eq!(status(refused, &only), Err(403), "{refused:?}");
            assert_eq!(status(refused, &any), Ok(true), "{refused:?}");
        }
    }

    #[test]
    fn one_that_does_not_end_is_refused_before_it_is_large() {
        let endless = GOOD.replace("\r\n\r\n", "\r\nCookie: ") + &"x".repeat(LARGEST_REQUEST);
        assert_eq!(status(&endless[..LARGEST_REQUEST - 1]), None);
        assert_eq!(status(&endless[..LARGEST_REQUEST]), Some(431));
        let many = GOOD.replace("\r\n\r\n", &("\r\na: b".repeat(1000) + "\r\n\r\n"));
        assert_eq!(status(&many), Some(400), "more headers than are looked at");
    }

    #[test]
    fn no_byte_of_it_leads_to_a_panic() {
        let settings = WebSocketSettings::default();
        for at in 0..GOOD.len() {
            for byte in 0..=u8::MAX {
                let mut touched = GOOD.as_bytes().to_vec();
                touched[at] = byte;
                match parse(&touched, &settings) {
                    Ok(None) => {}
                    Ok(Some((used, answer))) => assert!(used <= touched.len() && answer.starts_with(b"HTTP/1.1 101 ")),
                    Err((status, _)) => assert!([400, 404, 426].contains(&status), "{status}"),
                }
            }
        }
    }
}
