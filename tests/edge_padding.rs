//! TLS records that are filled up, or have nothing in them: they cost as much to read as what carries something.

// clippy.toml allows it in test functions; the functions they share are not seen as such.
#![allow(clippy::unwrap_used)]

mod edge_stage;

use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use edge_stage::{Files, PATIENCE};
use mqtt_kafka_proxy::downstream::{
    Address, ClientAuth, Fill, Gate, Limits, Link, Listener, ListenerLimits, ListenerSettings, Protocol, WebSocketSettings,
};
use mqtt_kafka_proxy::metrics::Metrics;
use rustls::pki_types::ServerName;
use rustls::{CipherSuite, ClientConnection, ConnectionTrafficSecrets, version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Makes the records of a device of TLS 1.3, behind its handshake.
struct Sealer {
    key: LessSafeKey,
    iv: [u8; 12],
    number: u64,
}

impl Sealer {
    fn of(session: ClientConnection) -> Self {
        let (number, secrets) = session.dangerous_extract_secrets().unwrap().tx;
        let ConnectionTrafficSecrets::Aes256Gcm { key, iv } = secrets else {
            panic!("another cipher")
        };
        Self {
            key: LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_ref()).unwrap()),
            iv: iv.as_ref().try_into().unwrap(),
            number,
        }
    }

    /// Application data with so many zeros behind it (RFC 8446 §5.2, §5.4).
    fn record(&mut self, content: &[u8], padding: usize) -> Vec<u8> {
        let mut inner = [content, &[23], &vec![0; padding]].concat();
        let length = u16::try_from(inner.len() + 16).unwrap().to_be_bytes();
        let header = [23, 3, 3, length[0], length[1]];
        let mut nonce = self.iv;
        for (byte, number) in nonce[4..].iter_mut().zip(self.number.to_be_bytes()) {
            *byte ^= number;
        }
        self.number += 1;
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.key.seal_in_place_append_tag(nonce, Aad::from(header), &mut inner).unwrap();
        [&header[..], &inner].concat()
    }
}

/// A connection as the relay has it, and its device.
async fn connected() -> (Link, Sealer, TcpStream) {
    let files = Files::new();
    connected_by(Protocol::Mqtts(files.settings(ClientAuth::None)), &files, b"").await
}

/// The same over this protocol, of which the device says this first.
async fn connected_by(protocol: Protocol, files: &Files, first: &[u8]) -> (Link, Sealer, TcpStream) {
    let settings = ListenerSettings {
        name: "tls".to_owned(),
        address: Address::Ip("127.0.0.1:0".parse().unwrap()),
        protocol,
        proxy: None,
        limits: ListenerLimits::default(),
    };
    let listener = Listener::bind(&settings, &Gate::new(Limits::default()), &Arc::new(Metrics::new())).unwrap();
    let address = listener.local_address().unwrap();
    let (tell, mut links) = mpsc::channel(1);
    let on_link = move |link| {
        let tell = tell.clone();
        async move { drop(tell.send(link).await) }
    };
    tokio::spawn(listener.run(on_link, std::future::pending()));
    let mut config = files.client(&[&version::TLS13], None);
    config.enable_secret_extraction = true;
    let mut session = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    while session.is_handshaking() || session.wants_write() {
        let mut bytes = Vec::new();
        while session.wants_write() {
            session.write_tls(&mut bytes).unwrap();
        }
        stream.write_all(&bytes).await.unwrap();
        if session.is_handshaking() {
            let mut bytes = [0; 4096];
            let count = timeout(PATIENCE, stream.read(&mut bytes)).await.unwrap().unwrap();
            let mut rest = &bytes[..count];
            while !rest.is_empty() {
                session.read_tls(&mut rest).unwrap();
                session.process_new_packets().unwrap();
            }
        }
    }
    let suite = session.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(suite, CipherSuite::TLS13_AES_256_GCM_SHA384);
    let mut sealer = Sealer::of(session);
    if !first.is_empty() {
        stream.write_all(&sealer.record(first, 0)).await.unwrap();
    }
    (timeout(PATIENCE, links.recv()).await.unwrap().unwrap(), sealer, stream)
}

/// Fills until `count` bytes are there.
async fn fill_to(link: &mut Link, count: usize) {
    while link.input().len() < count {
        assert_eq!(timeout(PATIENCE, link.fill()).await.unwrap().unwrap(), Fill::Bytes);
    }
}

#[tokio::test]
async fn what_fills_up_records_is_counted_and_what_each_needs_is_not() {
    let (mut link, mut sealer, mut device) = connected().await;
    link.served();
    let bytes: Vec<u8> = (0..100).flat_map(|byte| sealer.record(&[byte], 0)).collect();
    // In pieces, which end anywhere in them.
    for piece in bytes.chunks(77) {
        device.write_all(piece).await.unwrap();
    }
    fill_to(&mut link, 100).await;
    assert_eq!(link.carried_nothing(), 0, "however small they are");
    link.consume(100);
    for (content, padding) in [(&b"x"[..], 10_000), (b"x", 1_000), (b"", 500), (b"", 0)] {
        let records = [sealer.record(content, padding), sealer.record(b"end", 0)];
        device.write_all(&records.concat()).await.unwrap();
        fill_to(&mut link, content.len() + 3).await;
        link.consume(content.len() + 3);
        let nothing = link.carried_nothing();
        let all = records[0].len();
        assert!(nothing <= all && nothing + 60 >= all, "{nothing} of {all}");
    }
}

#[tokio::test]
async fn of_a_stranger_no_more_than_64_kib_of_it_is_read() {
    let (mut link, mut sealer, mut device) = connected().await;
    let records: Vec<u8> = b"abcdefgh".iter().flat_map(|byte| sealer.record(&[*byte], 16_000)).collect();
    device.write_all(&records).await.unwrap();
    let error = loop {
        match timeout(PATIENCE, link.fill()).await.unwrap() {
            Ok(fill) => assert_eq!(fill, Fill::Bytes),
            Err(e) => break e.to_string(),
        }
    };
    assert_eq!(error, "too much TLS that carries nothing before CONNECT");
    assert!(link.input().starts_with(b"abcd"), "what came before it stands: {:?}", link.input());
    assert!(link.input().len() < 8);
}

/// Who floods with it neither keeps a core nor escapes the count.
#[tokio::test]
async fn who_is_let_in_has_it_read_with_pauses_of_which_the_reader_is_told() {
    let (mut link, mut sealer, mut device) = connected().await;
    link.served();
    // One byte in each eighth: no library takes records without any for ever.
    let flood: Vec<u8> = (0..80)
        .flat_map(|number| sealer.record(if number % 8 == 0 { b"x" } else { b"" }, 16_000))
        .collect();
    let writes = async { device.write_all(&flood).await.unwrap() };
    let reads = async {
        let (mut told, mut nothing) = (0, 0);
        while link.input().len() < 10 || nothing + 2_000 < flood.len() {
            assert_eq!(timeout(PATIENCE, link.fill()).await.unwrap().unwrap(), Fill::Bytes);
            told += 1;
            let at_once = link.carried_nothing();
            assert!(at_once <= (64 << 10) + 32_000, "{at_once}");
            nothing += at_once;
        }
        told
    };
    let (told, ()) = tokio::join!(reads, writes);
    assert!(told >= flood.len() / (64 << 10), "{told}");
}

/// What a record carries may be nothing in its turn.
#[tokio::test]
async fn over_wss_the_pauses_are_the_same() {
    let files = Files::new();
    let protocol = Protocol::Wss(files.settings(ClientAuth::None), WebSocketSettings::default());
    let upgrade = b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";
    let (mut link, mut sealer, mut device) = connected_by(protocol, &files, upgrade).await;
    link.served();
    // Pings without a word, each byte of them in a record that is filled up.
    let pings = b"\x89\x80\0\0\0\0".repeat(12);
    let flood: Vec<u8> = pings.iter().flat_map(|byte| sealer.record(&[*byte], 16_000)).collect();
    let writes = async { device.write_all(&flood).await.unwrap() };
    let reads = async {
        let mut nothing = 0;
        // The last of them fill no pause.
        while nothing + (64 << 10) <= flood.len() {
            assert_eq!(timeout(PATIENCE, link.fill()).await.unwrap().unwrap(), Fill::Bytes);
            let at_once = link.carried_nothing();
            assert!(at_once <= (64 << 10) + 32_000, "{at_once}");
            nothing += at_once;
        }
    };
    tokio::join!(reads, writes);
}
