//! Re-authentication (KIP-368): before the broker stops believing us, we say again who we are, on the same connection.
//!
//! A broker serves a connection's requests one after the other, and between `SaslHandshake` and the end of the authentication it takes
//! nothing else. So requests that come in between are held back ([`Wire::hold`]), and those before it are answered as always.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::{
    Security,
    authenticate::{Credentials, Session, exchange, prepare},
    settings::SaslSettings,
};
use crate::upstream::{backoff, connection::CallError, wire::Wire};

/// Brokers refuse a second re-authentication within a second.
const SOONEST: Duration = Duration::from_millis(1_100);
/// The part of a session after which it is renewed, ±20 %: early enough for requests in line before it.
const RENEWED_AFTER: f64 = 0.6;
/// The wait after the first failure to read or get the credentials, and the longest.
const FIRST: Duration = Duration::from_millis(200);
const MOST: Duration = Duration::from_secs(5);

/// Renews the session of a connection as long as both live. `patience` bounds one exchange.
pub(crate) async fn renew(wire: Arc<Wire>, address: Arc<str>, security: Arc<Security>, session: Session, patience: Duration) {
    let Some(sasl) = &security.sasl else { return };
    let Session { mut lifetime, versions } = session;
    loop {
        let ends = Instant::now() + lifetime;
        let part = lifetime.mul_f64(RENEWED_AFTER);
        sleep(backoff::wait(0, part, part).max(SOONEST)).await;
        let Some(credentials) = ready(&security, sasl, &address, ends).await else {
            // The broker ends the connection at the next request, and whoever opens another learns why.
            return;
        };
        let answered = wire.hold().unwrap_or_else(Instant::now);
        let until = answered.max(Instant::now()) + patience;
        let exchanged = timeout_at(until, exchange(&wire, versions, &security, sasl, credentials, until)).await;
        match exchanged {
            Ok(Ok(next)) => {
                wire.release();
                wire.counters.reauthentications.inc();
                match next {
                    Some(next) => lifetime = next,
                    None => return,
                }
            }
            Ok(Err(CallError::Refused(why))) => {
                let told: Arc<str> = format!("{address}: {why}").into();
                security.gate.refused(&address, &told, std::time::Instant::now());
                wire.poison_as(CallError::Refused(told));
                return security.withdrawn.notify_one();
            }
            Ok(Err(why)) => return drop(wire.poison_as(why)),
            Err(_) => return drop(wire.poison("no end of the re-authentication within the time to connect")),
        }
    }
}

/// The credentials, read or asked for again until the session ends.
async fn ready(security: &Security, sasl: &SaslSettings, address: &str, ends: Instant) -> Option<Credentials> {
    let mut attempt = 0;
    loop {
        match timeout_at(ends, prepare(security, sasl)).await {
            Ok(Ok(credentials)) => return Some(credentials),
            Ok(Err(why)) if attempt == 0 => tracing::warn!(broker = address, %why, "the session with a broker cannot be renewed yet"),
            Ok(Err(_)) => {}
            Err(_) => return None,
        }
        let again = Instant::now() + backoff::wait(attempt, FIRST, MOST);
        if again >= ends {
            return None;
        }
        sleep_until(again).await;
        attempt += 1;
    }
}
