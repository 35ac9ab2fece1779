//! Steps of the exchange at which a test may have this process die, as by `kill -9`. Compiled in for tests only.

/// Dies here if `MQTT_KAFKA_PROXY_DIES_AT` is `step:n` and this is the `n`-th time.
#[cfg(feature = "failure_points")]
pub fn step(name: &str) {
    use std::sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    };
    static WANTED: LazyLock<Option<(String, AtomicU32)>> = LazyLock::new(|| {
        let wanted = std::env::var("MQTT_KAFKA_PROXY_DIES_AT").ok()?;
        let (name, times) = wanted.split_once(':')?;
        Some((name.to_owned(), AtomicU32::new(times.parse().ok()?)))
    });
    if let Some((wanted, times)) = &*WANTED
        && wanted == name
        && times.fetch_sub(1, Ordering::Relaxed) == 1
    {
        std::process::abort();
    }
}

/// Nothing.
#[cfg(not(feature = "failure_points"))]
#[inline(always)]
pub fn step(_name: &str) {}
