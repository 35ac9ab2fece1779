//! What is counted of the servers that are asked: who clients are, and what schemas say.

use prometheus_client::metrics::{counter::Counter, histogram::Histogram};
use prometheus_client::registry::{Registry, Unit};

/// The counters of all of them.
#[derive(Clone, Debug)]
pub struct OutsideCounters {
    /// Key sets fetched.
    pub key_set_fetches: Counter,
    /// Attempts that brought none, or one that cannot be used.
    pub key_set_failures: Counter,
    /// Questions about logins that servers were asked.
    pub login_requests: Counter,
    /// Of these, those without an answer that could be used.
    pub login_failures: Counter,
    /// Logins decided by an answer that was known.
    pub login_cached: Counter,
    /// Questions to schema registries.
    pub registry_requests: Counter,
    /// Of these, those without an answer that could be used; that there is no such schema is one.
    pub registry_failures: Counter,
    /// From a question, its turn included, to its answer.
    pub login_latency: Histogram,
}

impl OutsideCounters {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let new = Self {
            key_set_fetches: Counter::default(),
            key_set_failures: Counter::default(),
            login_requests: Counter::default(),
            login_failures: Counter::default(),
            login_cached: Counter::default(),
            registry_requests: Counter::default(),
            registry_failures: Counter::default(),
            login_latency: Histogram::new([0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0]),
        };
        registry.register("key_set_fetches", "Key sets fetched", new.key_set_fetches.clone());
        let help = "Attempts to fetch a key set that brought none, or one that cannot be used";
        registry.register("key_set_fetch_failures", help, new.key_set_failures.clone());
        let help = "Questions about logins that servers were asked";
        registry.register("login_requests", help, new.login_requests.clone());
        let help = "Questions about logins without an answer that could be used";
        registry.register("login_request_failures", help, new.login_failures.clone());
        let help = "Logins decided by what a server had answered before";
        registry.register("login_cache_hits", help, new.login_cached.clone());
        let help = "From a question about a login to its answer";
        registry.register_with_unit("login_request_latency", help, Unit::Seconds, new.login_latency.clone());
        let help = "Questions to schema registries";
        registry.register("schema_registry_requests", help, new.registry_requests.clone());
        let help = "Questions to schema registries without an answer that could be used";
        registry.register("schema_registry_failures", help, new.registry_failures.clone());
        new
    }
}
