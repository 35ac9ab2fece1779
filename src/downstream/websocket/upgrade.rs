//! The request that makes an HTTP connection a WebSocket (RFC 6455 §4.2): bounded, for one path, for MQTT only.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::task::{Context, Poll, ready};

use tungstenite::handshake::machine::TryParse;
use tungstenite::handshake::server::{Request, create_response, write_response};
use tungstenite::http::HeaderValue;
use tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;

use crate::downstream::settings::WebSocketSettings;
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
