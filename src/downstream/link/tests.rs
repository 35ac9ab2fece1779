//! A [`Link`] over a real socket: where its input lies, what it gives back, what a slow or vanished peer does to it.
//! One thread does everything here, so the pool's count of lent buffers is exact.

use std::task::Waker;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::super::gate::{Gate, ListenerState};
use super::super::settings::{Limits, ListenerLimits};
use super::super::socket::Socket;
use super::*;
use crate::metrics::Metrics;

async fn pair() -> (Link, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (client, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    let state = std::sync::Arc::new(ListenerState::new("tcp", Metrics::new().listener("tcp"), ListenerLimits::default()));
    let (tcp, peer) = accepted.unwrap();
    let seat = Gate::new(Limits::default()).admit(&state, peer).unwrap();
    (Link::new(Stream::Plain(Socket::Tcp(tcp)), Instant::now(), seat), client.unwrap())
}

/// Fills until `count` unconsumed bytes are there.
async fn fill_to(link: &mut Link, count: usize) {
    while link.input().len() < count {
        assert_eq!(link.fill().await.unwrap(), Fill::Bytes);
    }
}

fn pending(link: &mut Link) -> bool {
    link.poll_fill(&mut Context::from_waker(Waker::noop())).is_pending()
}

#[tokio::test]
async fn an_idle_link_owns_no_buffer_before_or_after_input() {
    let (mut link, mut client) = pair().await;
    assert!(pending(&mut link));
    assert_eq!((link.buffered_capacity(), pool::count::lent()), (0, 0));
    client.write_all(b"two packets").await.unwrap();
    fill_to(&mut link, 11).await;
    assert_eq!(pool::count::lent(), 1);
    link.consume(4);
    assert_eq!(link.input(), b"packets");
    link.consume(7);
    assert_eq!((link.buffered_capacity(), pool::count::lent()), (0, 0));
}

#[tokio::test]
async fn part_of_a_packet_costs_its_own_bytes_only() {
    let (mut link, mut client) = pair().await;
    client.write_all(&[7; 100]).await.unwrap();
    fill_to(&mut link, 100).await;
    link.consume(40);
    assert!(pending(&mut link));
    assert_eq!((link.input(), link.buffered_capacity(), pool::count::lent()), (&[7; 60][..], 60, 0));
    client.write_all(&[8; 5]).await.unwrap();
    fill_to(&mut link, 65).await;
    assert_eq!(link.input(), [&[7; 60][..], &[8; 5]].concat());
    drop(link);
    assert_eq!(pool::count::lent(), 0, "dropping the link gives its buffer back");
}

#[tokio::test]
async fn bytes_stay_in_order_whatever_is_consumed_when() {
    let (mut link, mut client) = pair().await;
    let sent: Vec<u8> = (0..1_500_000u32).map(|i| (i % 251) as u8).collect();
    let expected = sent.clone();
    let writer = tokio::spawn(async move {
        client.write_all(&sent).await.unwrap();
        client
    });
    let (mut at, mut largest) = (0, 0);
    // Packets from one byte to several reads long, so that every way of keeping a rest is used.
    for size in [1, 100, 40_000, 70_000, 200_000, 3, 65_536, 33_000, 150_000].into_iter().cycle() {
        let size = size.min(expected.len() - at);
        fill_to(&mut link, size).await;
        largest = largest.max(link.buffered_capacity());
        assert!(link.input()[..size] == expected[at..at + size], "at {at}");
        link.consume(size);
        at += size;
        if at == expected.len() {
            break;
        }
    }
    assert!(largest <= 3 * 264_000, "{largest} bytes held for packets of at most 200,000");
    drop(writer.await.unwrap());
    assert_eq!(link.fill().await.unwrap(), Fill::End);
    assert_eq!((link.buffered_capacity(), pool::count::lent()), (0, 0));
}

#[tokio::test]
async fn an_endless_packet_is_refused_at_the_maximum() {
    let (mut link, mut client) = pair().await;
    link.set_max_packet_size(100_000);
    let flood = tokio::spawn(async move { while client.write_all(&[0; 10_000]).await.is_ok() {} });
    let error = loop {
        if let Err(e) = link.fill().await {
            break e;
        }
    };
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert!(link.input().len() <= 100_000 + BUFFER_SIZE);
    drop(link);
    flood.await.unwrap();
}

#[tokio::test]
async fn of_a_stranger_no_more_is_taken_than_its_packet_may_have() {
    let (mut link, mut client) = pair().await;
    link.set_max_packet_size(1_000);
    client.write_all(&[7; 10_000]).await.unwrap();
    fill_to(&mut link, 1_001).await;
    link.park();
    assert_eq!((link.input().len(), link.buffered_capacity()), (1_001, 1_001));
    link.consume(901);
    fill_to(&mut link, 1_001).await;
    assert_eq!(link.input().len(), 1_001);
    link.consume(1_001);
    link.served();
    link.set_max_packet_size(100_000);
    fill_to(&mut link, 8_098).await;
    assert_eq!(link.input(), [7; 8_098]);
}

#[tokio::test]
async fn a_fill_that_is_dropped_loses_nothing() {
    let (mut link, mut client) = pair().await;
    for round in 0..50u8 {
        client.write_all(&[round]).await.unwrap();
        while link.input().len() <= usize::from(round) {
            tokio::select! {
                biased;
                filled = link.fill() => assert_eq!(filled.unwrap(), Fill::Bytes),
                () = tokio::task::yield_now() => {}
            }
        }
    }
    assert_eq!(link.input(), (0..50).collect::<Vec<u8>>());
}

#[tokio::test]
async fn a_slow_reader_gets_every_byte_once_although_flushes_are_dropped() {
    let (mut link, mut client) = pair().await;
    let sent: Vec<u8> = (0..12_000_000u32).map(|i| (i % 253) as u8).collect();
    let mut outbox = Outbox::default();
    outbox.buffer().extend_from_slice(b"head");
    outbox.push_shared(sent.clone().into());
    outbox.buffer().extend_from_slice(b"tail");
    assert!(!link.try_flush(&mut outbox).unwrap(), "12 MB fit in no socket");
    assert!(!outbox.is_empty());
    let mut got = Vec::new();
    let mut part = vec![0; 300_000];
    let mut dropped = 0;
    while !outbox.is_empty() {
        // Each read that is done first drops a flush half-way: what it wrote must have left the outbox.
        tokio::select! {
            biased;
            flushed = link.flush(&mut outbox) => flushed.unwrap(),
            count = client.read(&mut part) => {
                got.extend_from_slice(&part[..count.unwrap()]);
                dropped += 1;
            }
        }
    }
    assert!(dropped > 10, "only {dropped} flushes were dropped");
    link.close_and_read(&mut client, &mut got).await;
    assert!(got == [b"head", &sent[..], b"tail"].concat());
}

#[tokio::test]
async fn a_peer_that_is_gone_is_an_error_and_no_panic() {
    let (mut link, client) = pair().await;
    client.set_zero_linger().unwrap();
    drop(client);
    assert_eq!(link.fill().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let mut outbox = Outbox::default();
    outbox.buffer().extend_from_slice(b"anybody?");
    link.flush(&mut outbox).await.unwrap_err();
    link.close().await;
}

#[tokio::test]
async fn the_last_packet_arrives_although_input_was_left_unread() {
    let (mut link, mut client) = pair().await;
    client.write_all(&[0; 20_000]).await.unwrap();
    let mut outbox = Outbox::default();
    outbox.buffer().extend_from_slice(b"\xe0\x02\x81\x00");
    link.flush(&mut outbox).await.unwrap();
    let mut got = Vec::new();
    link.close_and_read(&mut client, &mut got).await;
    assert_eq!(got, b"\xe0\x02\x81\x00");
}

#[tokio::test]
async fn an_abort_is_a_reset() {
    let (link, mut client) = pair().await;
    link.abort();
    assert_eq!(client.read_u8().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_link_is_small() {
    let (mut link, _client) = pair().await;
    let fill = size_of_val(&link.fill());
    println!(
        "Link {} bytes, future of fill {fill}, of close {}",
        size_of::<Link>(),
        size_of_val(&link.close())
    );
    assert!(size_of::<Link>() <= 256);
    assert!(fill <= 64);
}

impl Link {
    /// Closes while the peer reads to the end and then closes too.
    async fn close_and_read(self, client: &mut TcpStream, got: &mut Vec<u8>) {
        let reading = async {
            client.read_to_end(got).await.unwrap();
            client.shutdown().await.unwrap();
        };
        tokio::join!(self.close(), reading);
    }
}
