//! PLAIN (RFC 4616).

use super::Message;

/// `authorization identity NUL user NUL password`, without the first: the broker derives it.
pub(super) fn message(username: &str, password: &str) -> Message {
    let mut message = Message::new(Vec::with_capacity(username.len() + password.len() + 2));
    message.push(0);
    message.extend_from_slice(username.as_bytes());
    message.push(0);
    message.extend_from_slice(password.as_bytes());
    message
}
