//! The two tasks of a connection: one writes what is in line, one reads what comes.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use bytes::BytesMut;
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    connection::CallError,
    frame::cut,
    stream::{ReadHalf, WriteHalf},
    wire::{CLOSED_BY_US, Wire},
};

/// Bytes of free space a read is given.
const READ_CHUNK: usize = 64 * 1024;
/// How long a failed write waits for what the reader finds: the broker's last words say why, a broken pipe does not.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Writes what is queued, and keeps the time: it is awake after each request, so it knows the oldest deadline.
pub(super) async fn write_frames(wire: Arc<Wire>, mut half: WriteHalf) {
    let far = || Instant::now() + Duration::from_secs(3600);
    while let Some(due) = wire.due() {
        if due.deadline.is_some_and(|d| d <= Instant::now()) {
            wire.poison("no answer within the request timeout");
            return;
        }
        let deadline = due.deadline.unwrap_or_else(far);
        let Some(mut frame) = due.frame else {
            // Either way the loop looks again.
            let until = due.throttled.unwrap_or(deadline).min(deadline);
            let _ = timeout_at(until, wire.outgoing.notified()).await;
            continue;
        };
        match timeout_at(deadline.min(frame.deadline), half.write_all(&mut frame.pieces.ready())).await {
            // Whoever asked may be gone.
            Ok(Ok(())) => drop(frame.written.map(|written| written.send(()))),
            Ok(Err(e)) => {
                let _ = timeout(LAST_WORDS, wire.closed()).await;
                return drop(wire.poison(&format!("write: {e}")));
            }
            Err(_) => return drop(wire.poison("the broker took no bytes within the request timeout")),
        }
    }
}

/// Cuts what comes into frames and settles them.
pub(super) async fn read_answers(wire: Arc<Wire>, mut half: ReadHalf, largest: usize) {
    let mut buffer = BytesMut::new();
    let mut answers = 0;
    let why = loop {
        match cut(&mut buffer, largest) {
            Ok(Some(frame)) => match wire.settle(frame) {
                Ok(()) => {
                    answers += 1;
                    continue;
                }
                Err(why) => break CallError::Broken(why.into()),
            },
            Ok(None) => {}
            Err(_) if answers == 0 && is_tls(&buffer) => break CallError::Refused(SPEAKS_TLS.into()),
            Err(why) => break CallError::Broken(why.into()),
        }
        if buffer.capacity() - buffer.len() < READ_CHUNK / 4 {
            buffer.reserve(READ_CHUNK);
        }
        let read = tokio::select! {
            read = half.read_buf(&mut buffer) => read,
            () = wire.poisoned.notified() => break CallError::Broken(CLOSED_BY_US.into()),
        };
        match read {
            Ok(0) => break half.ended(None, answers),
            Ok(read) => drop(wire.heard.fetch_add(read as u64, Relaxed)),
            Err(e) => break half.ended(Some(&e), answers),
        }
    };
    wire.poison_as(why);
}

const SPEAKS_TLS: &str = "this port speaks TLS: set `kafka.security.protocol` to ssl or sasl_ssl";

/// An alert of TLS instead of a frame's length.
fn is_tls(buffer: &[u8]) -> bool {
    matches!(buffer, [0x15, 0x03, ..])
}
