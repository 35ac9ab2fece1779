//! The audit log: who was refused what. Lines of target `audit`, so that they can be sent elsewhere; bounded in their rate and their length, since
//! whoever is refused decides how often, and with which words.

use std::{
    borrow::Cow,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Lines of one kind within [`PERIOD`].
const MOST: u32 = 20;
const PERIOD: Duration = Duration::from_secs(1);
/// Characters of a text in a log line that a client has chosen: a client id may have 64 KiB, and most of it is six times as long once it is escaped.
const LONGEST: usize = 256;

/// A text that a client has chosen, as it may stand in a line of any log: its beginning, and how much was left out.
pub fn cut(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => Cow::Owned(format!("{}… ({} bytes more)", &text[..at], text.len() - at)),
        None => Cow::Borrowed(text),
    }
}

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A CONNECT was refused for who it came from.
    Login,
    /// A PUBLISH, or a will.
    Publish,
    /// A filter of a SUBSCRIBE.
    Subscribe,
    /// A connection ended because its credentials have expired.
    Expired,
    /// A connection has ended another one by connecting with its client id, or was ended so.
    Takeover,
    /// A TLS handshake was refused for the certificate that a client showed, or for none.
    Certificate,
    /// A connection was ended since its client has more in flight than it may.
    Window,
}

impl Event {
    fn name(self) -> &'static str {
        match self {
            Self::Login => "login_refused",
            Self::Publish => "publish_refused",
            Self::Subscribe => "subscribe_refused",
            Self::Expired => "credentials_expired",
            Self::Takeover => "takeover",
            Self::Certificate => "certificate_refused",
            Self::Window => "too_many_in_flight",
        }
    }
}

/// Of whom it is told.
#[derive(Clone, Copy, Debug)]
pub struct Whom<'a> {
    /// The client id.
    pub client: &'a str,
    /// The identity; of a refused login whom it names. Empty for nobody.
    pub identity: &'a str,
    /// Where it comes from, if that is known.
    pub peer: Option<SocketAddr>,
}

/// The log, with what was left out of it.
#[derive(Debug, Default)]
pub struct Audit([Mutex<Window>; 7]);

#[derive(Debug, Default)]
struct Window {
    began: Option<Instant>,
    told: u32,
    left_out: u64,
}

impl Window {
    /// Whether a line may be written, and how many were left out before it.
    fn open(&mut self, now: Instant) -> Option<u64> {
        if self.began.is_none_or(|began| now.duration_since(began) >= PERIOD) {
            (self.began, self.told) = (Some(now), 0);
        }
        if self.told == MOST {
            self.left_out += 1;
            return None;
        }
        self.told += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

impl Audit {
    /// Tells an event, unless there were too many of its kind just now: then the next line says how many.
    pub fn tell(&self, event: Event, whom: Whom<'_>, topic: &str, reason: &str, now: Instant) {
        let left_out = self.0[event as usize].lock().unwrap_or_else(PoisonError::into_inner).open(now);
        let Some(left_out) = left_out else { return };
        let [client, identity, topic] = [whom.client, whom.identity, topic].map(cut);
        let (client, identity, topic) = (&*client, &*identity, &*topic);
        let (event, address) = (event.name(), address(whom.peer));
        tracing::warn!(target: "audit", event, client, identity, address, topic, reason, left_out, "audit");
    }
}

/// Empty if it is not known, as of who comes by a Unix socket.
fn address(peer: Option<SocketAddr>) -> String {
    let known = peer.filter(|peer| !peer.ip().is_unspecified());
    known.map(|peer| peer.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_no_address_is_told_without_one() {
        let told = |peer: &str| address(Some(peer.parse().unwrap()));
        assert_eq!(told("10.0.0.7:4096"), "10.0.0.7:4096");
        assert_eq!((told("0.0.0.0:0"), address(None)), (String::new(), String::new()));
    }

    #[test]
    fn a_long_text_is_cut_between_characters_and_says_so() {
        for short in ["", "vin42", &"ä".repeat(LONGEST)] {
            assert_eq!(cut(short), short);
        }
        let (longer, longest) = ("ä".repeat(LONGEST + 1), "\u{1}".repeat(60_000));
        assert_eq!(cut(&longer), format!("{}… (2 bytes more)", &longer[..2 * LONGEST]));
        assert_eq!(cut(&longest), format!("{}… (59744 bytes more)", &longest[..LONGEST]));
    }

    #[test]
    fn a_flood_is_counted_and_not_written() {
        let (mut window, now) = (Window::default(), Instant::now());
        let written = (0..1000).filter(|_| window.open(now).is_some()).count();
        assert_eq!(written, 20);
        assert_eq!(window.open(now + PERIOD / 2), None);
        assert_eq!(window.open(now + PERIOD), Some(981), "the next line says how many are missing");
        assert_eq!(window.open(now + PERIOD), Some(0));
    }
}
