//! Any bytes as the frames of a WebSocket client: nothing panics, nothing is made up, and where the bytes are cut makes no difference.

use mqtt_kafka_proxy::downstream::websocket::{Decoder, End};

/// Reads `bytes[1..]` as a whole, and in pieces of `bytes[0]`; whether they carried something.
pub fn check(bytes: &[u8]) -> bool {
    let Some((&cut, frames)) = bytes.split_first() else {
        return false;
    };
    let whole = read(frames, frames.len().max(1));
    let pieces = read(frames, usize::from(cut).max(1));
    assert_eq!(whole, pieces, "cut every {cut} bytes");
    assert!(whole.0.len() <= frames.len(), "more than there was");
    !whole.0.is_empty()
}

/// The data, how it ended, and the last ping.
fn read(frames: &[u8], piece: usize) -> (Vec<u8>, Option<End>, Option<Vec<u8>>) {
    let (mut decoder, mut data, mut end) = (Decoder::new(1 << 16), Vec::new(), None);
    for part in frames.chunks(piece) {
        let mut part = part.to_vec();
        let (carried, ended) = decoder.decode(&mut part);
        data.extend_from_slice(&part[..carried]);
        if ended.is_some() {
            end = ended;
            break;
        }
    }
    let ping = decoder.take_ping();
    assert!(ping.as_ref().is_none_or(|ping| ping.len() <= 125), "a control frame is small");
    (data, end, ping)
}
