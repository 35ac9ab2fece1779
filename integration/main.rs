//! The whole proxy against a real Apache Kafka, with real clients: mosquitto, paho, kcat, and the load generator's.
//!
//! One Kafka serves all tests of a run; a test that hurts it has it alone. Nothing here is skipped: without Kafka, Java or one of
//! the clients these tests fail (`make test` installs what they need).

#![allow(clippy::unwrap_used)] // all of this is test code

mod access;
mod agreement;
mod attackers;
mod away;
mod balancer;
mod behind;
mod browser;
mod chaos;
mod company;
mod compression;
mod conversation;
mod cookbook;
mod crew;
mod deliver;
mod edge;
mod fetch;
mod groups;
mod haproxy;
mod hostile;
mod impatient;
mod kinds;
#[path = "../benches/load/mod.rs"]
mod load;
mod logins;
mod machine;
mod migration;
mod names;
mod network;
mod oldest;
mod publish;
mod retained;
mod rules;
mod scales;
mod security;
mod sessions;
mod share_groups;
mod shared;
mod stage;
mod state_topics;
mod table;
mod tls;
mod trouble;
mod values;
mod verified;
mod wire;

use stage::Kafka;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

static KAFKA: RwLock<Option<Kafka>> = RwLock::new(None);

/// The Kafka of this run, shared with the other tests. It ends with the process (see `stage`).
struct Shared {
    kafka: RwLockReadGuard<'static, Option<Kafka>>,
    _beside: machine::Beside,
}

/// The same for a test that measures: no other that needs a Kafka runs beside it.
struct Measured {
    kafka: RwLockReadGuard<'static, Option<Kafka>>,
    _alone: machine::Alone,
}

/// The same, while no other test uses it.
struct Alone(RwLockWriteGuard<'static, Option<Kafka>>);

fn started() -> RwLockReadGuard<'static, Option<Kafka>> {
    let guard = KAFKA.read().unwrap_or_else(PoisonError::into_inner);
    if guard.is_some() {
        return guard;
    }
    drop(guard);
    drop(alone_with_kafka());
    started()
}

// Kafka first, the machine then, for all: who waits for the machine keeps Kafka only from those who want it alone.
fn shared_kafka() -> Shared {
    Shared {
        kafka: started(),
        _beside: machine::Beside::others(),
    }
}

fn kafka_to_measure() -> Measured {
    Measured {
        kafka: started(),
        _alone: machine::Alone::on_it(),
    }
}

/// One of the test's own with a gigabyte of memory, while no other test that needs one runs. Bound in this order, it ends before others go on.
fn kafka_in_full_to_measure() -> (machine::Alone, Kafka) {
    let kafka = Kafka::start_in_full();
    (machine::Alone::on_it(), kafka)
}

fn alone_with_kafka() -> Alone {
    let mut guard = KAFKA.write().unwrap_or_else(PoisonError::into_inner);
    guard.get_or_insert_with(|| Kafka::start().for_all());
    Alone(guard)
}

impl std::ops::Deref for Shared {
    type Target = Kafka;
    fn deref(&self) -> &Kafka {
        self.kafka.as_ref().unwrap()
    }
}

impl std::ops::Deref for Measured {
    type Target = Kafka;
    fn deref(&self) -> &Kafka {
        self.kafka.as_ref().unwrap()
    }
}

impl std::ops::Deref for Alone {
    type Target = Kafka;
    fn deref(&self) -> &Kafka {
        self.0.as_ref().unwrap()
    }
}
