//! An authorization server of the tests' own: gives tokens that Kafka takes (unsecured JSON Web Signatures) to one client.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

pub const CLIENT: &str = "proxy";
pub const SECRET: &str = "hunter2-of-the-client";

/// A token of so many seconds.
pub fn token(seconds: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let claims = format!(r#"{{"sub":"proxy","iat":{},"exp":{}}}"#, now.min(now + seconds) - 1, now + seconds);
    format!("{}.{}.", part(r#"{"alg":"none"}"#), part(&claims))
}

/// It runs until the process ends.
pub struct Issuer {
    pub port: u16,
    /// Tokens that were given.
    pub given: Arc<AtomicU64>,
}

impl Issuer {
    /// `tls`: paths of certificate and key. Its tokens are good for so many seconds.
    pub fn start(tls: Option<(&str, &str)>, seconds: i64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let config = tls.map(|(certificate, key)| {
            let chain = CertificateDer::pem_file_iter(certificate).unwrap().map(Result::unwrap).collect();
            let key = PrivateKeyDer::from_pem_file(key).unwrap();
            let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
            let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
            Arc::new(builder.with_single_cert(chain, key).unwrap())
        });
        let given = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&given);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // Who goes away in the middle is the client's affair.
                let _ = match &config {
                    None => serve(stream, seconds, &count),
                    Some(config) => {
                        let session = ServerConnection::new(Arc::clone(config)).unwrap();
                        serve(StreamOwned::new(session, stream), seconds, &count)
                    }
                };
            }
        });
        Self { port, given }
    }
}

fn serve(mut stream: impl Read + Write, seconds: i64, given: &AtomicU64) -> io::Result<()> {
    let mut text = String::new();
    while !text.contains("grant_type=client_credentials") {
        let mut piece = [0; 4096];
        match stream.read(&mut piece)? {
            0 => return Ok(()),
            n => text.push_str(&String::from_utf8_lossy(&piece[..n])),
        }
    }
    let login = STANDARD.encode(format!("{CLIENT}:{SECRET}"));
    let known = text
        .lines()
        .any(|line| line.eq_ignore_ascii_case(&format!("authorization: Basic {login}")));
    let (status, body) = if known {
        given.fetch_add(1, Relaxed);
        let token = token(seconds);
        (
            "200 OK",
            format!(r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":{seconds}}}"#),
        )
    } else {
        ("401 Unauthorized", r#"{"error":"invalid_client"}"#.to_owned())
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )?;
    stream.flush()
}
