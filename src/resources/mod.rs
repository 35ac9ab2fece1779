//! What identities need from elsewhere: key sets by URL, fetched and refreshed, and handed over as immutable snapshots; servers that are asked
//! about logins, whose answers are known for a while. And what values need: schemas of registries, lookup tables from files and Kafka topics.
//!
//! A server that is away changes nothing of what is known: the last good answer stays in force. Every wait is bounded, and so is how
//! often somebody who is nobody yet can make us ask.

mod freshness;
mod key_sets;
mod known;
mod live_tables;
mod logins;
mod news;
mod registry;
pub mod table_files;

pub use key_sets::{APART, KeySetSettings, KeySets, fetch};
pub use live_tables::LiveTables;
pub use logins::{LoginServers, LoginSettings};
pub use registry::{Registries, RegistryLogin, RegistrySettings, SubjectSettings, examine};
