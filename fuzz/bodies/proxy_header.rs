//! Any bytes as what a balancer sends first: nothing panics, the header is bounded, and nothing behind it is taken.

use mqtt_kafka_proxy::downstream::proxy::{Progress, parse};

/// The longest header that is taken, of either version.
const LONGEST: usize = 16 + 2048;

/// Reads as a listener does; whether a header came whole.
pub fn check(bytes: &[u8]) -> bool {
    let mut read = 0;
    loop {
        match parse(&bytes[..read]) {
            Err(_) => return false,
            Ok(Progress::Whole(header)) => {
                assert!(read <= LONGEST, "{read} bytes");
                assert!(header.common_name.is_none_or(|name| !name.is_empty()), "a name of nobody");
                return true;
            }
            Ok(Progress::More(count)) => {
                assert!(count > 0, "it would wait for nothing");
                read += count;
                assert!(read <= LONGEST, "{read} bytes");
                if read > bytes.len() {
                    return false;
                }
            }
        }
    }
}
