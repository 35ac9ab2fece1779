//! What is counted of the servers that say who clients are.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

/// The counters of all of them.
#[derive(Clone, Debug, Default)]
pub struct OutsideCounters {
    /// Key sets fetched.
    pub key_set_fetches: Counter,
    /// Attempts that brought none, or one that cannot be used.
    pub key_set_failures: Counter,
}

impl OutsideCounters {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let new = Self::default();
        registry.register("key_set_fetches", "Key sets fetched", new.key_set_fetches.clone());
        let help = "Attempts to fetch a key set that brought none, or one that cannot be used";
        registry.register("key_set_fetch_failures", help, new.key_set_failures.clone());
        new
    }
}
