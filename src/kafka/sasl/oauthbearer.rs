//! OAUTHBEARER (RFC 7628 §3, KIP-255).

use super::{Message, shown};

/// What a client says to an error before the broker ends the exchange (§3.2.3).
pub(super) const ACKNOWLEDGED: u8 = 0x01;

/// The only message of an exchange that goes well.
pub(super) fn message(token: &str) -> Message {
    const PARTS: [&str; 2] = ["n,,\x01auth=Bearer ", "\x01\x01"];
    let mut message = Message::new(Vec::with_capacity(PARTS[0].len() + token.len() + PARTS[1].len()));
    message.extend_from_slice(PARTS[0].as_bytes());
    message.extend_from_slice(token.as_bytes());
    message.extend_from_slice(PARTS[1].as_bytes());
    message
}

/// The `status` of an error answer: JSON (§3.2.2), of which no more is wanted than this word.
pub(super) fn status(answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(answer);
    let word = text
        .split_once("\"status\"")
        .and_then(|(_, rest)| rest.trim_start().strip_prefix(':'))
        .and_then(|rest| rest.trim_start().strip_prefix('"'))
        .and_then(|rest| rest.split_once('"'))
        .map(|(word, _)| word);
    shown(word.unwrap_or("the broker gives no reason"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_found_or_not() {
        assert_eq!(status(br#"{"scope":"x", "status" : "insufficient_scope"}"#), "insufficient_scope");
        for strange in [
            &b""[..],
            b"{}",
            b"\xff\xfe",
            br#"{"status":7}"#,
            br#"{"status":"#,
            br#"{"status":""#,
        ] {
            assert_eq!(status(strange), "the broker gives no reason");
        }
    }
}
