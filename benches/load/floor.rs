//! The socket floor: the least that a tokio server can do for a QoS 1 publish. It reads what the socket holds, finds the
//! packet ids, and acknowledges each read's worth with one write after a given delay. It validates nothing and keeps nothing:
//! what a proxy costs beyond this is what its work costs.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep_until};

/// Serves until the process ends. `delays` are taken in turn, one for each read; none: at once.
pub async fn serve(listener: TcpListener, delays: Vec<Duration>) -> io::Result<()> {
    let delays = Arc::new(delays);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let delays = Arc::clone(&delays);
        tokio::spawn(async move {
            // The end of a connection is of no interest here.
            let _ = connection(stream, &delays).await;
        });
    }
}

async fn connection(mut stream: TcpStream, delays: &[Duration]) -> io::Result<()> {
    let mut input = Vec::with_capacity(1 << 16);
    let mut turn = 0;
    let mut waiting: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    loop {
        let due = waiting.front().map(|(due, _)| *due);
        let wait = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            read = stream.read_buf(&mut input) => {
                if read? == 0 {
                    return Ok(());
                }
                let mut answers = Vec::new();
                let used = answer(&input, &mut answers);
                input.drain(..used);
                let delay = if delays.is_empty() { Duration::ZERO } else { delays[turn % delays.len()] };
                turn += 1;
                if delay.is_zero() {
                    stream.write_all(&answers).await?;
                } else if !answers.is_empty() {
                    waiting.push_back((Instant::now() + delay, answers));
                }
            }
            () = wait => {
                let now = Instant::now();
                let mut ready = Vec::new();
                while waiting.front().is_some_and(|(due, _)| *due <= now) {
                    ready.extend(waiting.pop_front().map(|(_, answers)| answers).unwrap_or_default());
                }
                stream.write_all(&ready).await?;
            }
        }
    }
}

/// Appends the answers to all whole packets and returns their length. Version 3.1.1 only.
fn answer(input: &[u8], answers: &mut Vec<u8>) -> usize {
    let mut used = 0;
    while let Some((header, body)) = frame(&input[used..]) {
        let packet = &input[used..used + header + body];
        match packet[0] {
            0x10 => answers.extend([0x20, 2, 0, 0]),
            0x32 | 0x3a => {
                let topic = usize::from(u16::from_be_bytes([packet[header], packet[header + 1]]));
                answers.extend([0x40, 2, packet[header + 2 + topic], packet[header + 3 + topic]]);
            }
            _ => {}
        }
        used += packet.len();
    }
    used
}

/// Length of the fixed header and of what follows, if the whole packet is there.
fn frame(input: &[u8]) -> Option<(usize, usize)> {
    let mut body = 0;
    for (place, byte) in input.iter().skip(1).take(4).enumerate() {
        body |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return (input.len() >= 2 + place + body).then_some((2 + place, body));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #[test]
    fn whole_packets_are_answered_and_a_part_is_left() {
        let mut input = vec![0x10, 2, 0, 0];
        input.extend([0x32, 8, 0, 3, b'a', b'/', b'b', 0x12, 0x34, b'x']);
        input.extend([0x32, 8, 0, 3]);
        let mut answers = Vec::new();
        assert_eq!(super::answer(&input, &mut answers), 14);
        assert_eq!(answers, [0x20, 2, 0, 0, 0x40, 2, 0x12, 0x34]);
    }
}
