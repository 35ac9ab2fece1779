//! Where a JSON Schema finds those that it refers to: under their names, as they are read from wherever one of them says that it is.

use std::collections::HashSet;

use jsonschema::{Uri, uri};
use serde_json::Value;

/// Where the schema itself is unless its `$id` says otherwise. The registry's names stand beside it.
pub(super) const BASE: &str = "registry:///schema";
/// Addresses of all of them together: each is looked through for itself.
const MOST: usize = 1_000;

/// The addresses of those that are referred to, each with its place in the list.
///
/// # Errors
/// They would be too many.
pub(super) fn addresses(schema: &Value, references: &[(&str, Value)]) -> Result<Vec<(String, usize)>, String> {
    let own: Vec<String> = references.iter().map(|(name, _)| own(name)).collect();
    let mut bases: Vec<Uri<String>> = base(BASE, schema).into_iter().collect();
    bases.extend(own.iter().zip(references).filter_map(|(own, (_, referred))| base(own, referred)));
    // One that says where it is needs no other's word for it, and nobody else is there.
    let mut taken: HashSet<String> = bases.iter().map(|base| base.as_str().to_owned()).collect();
    taken.extend(own.iter().cloned());
    let mut all: Vec<(String, usize)> = own.into_iter().enumerate().map(|(at, own)| (own, at)).collect();
    for base in &bases {
        for (at, (name, _)) in references.iter().enumerate() {
            // A name that is none of an address can only be found as it was given.
            let Ok(address) = uri::resolve_against(&base.borrow(), name) else {
                continue;
            };
            if taken.insert(address.as_str().to_owned()) {
                all.push((address.as_str().to_owned(), at));
            }
        }
    }
    match all.len() <= MOST.max(references.len()) {
        true => Ok(all),
        false => Err(format!(
            "refers to schemas that would be found under {} addresses by their `$id`s, more than {MOST}",
            all.len()
        )),
    }
}

/// Beside the schema, if the name is no address itself.
fn own(name: &str) -> String {
    match name.contains("://") {
        true => name.to_owned(),
        false => format!("registry:///{}", name.trim_start_matches('/')),
    }
}

/// What the references of a schema are resolved against, which the registry has under this address; `None`: nothing can be.
fn base(address: &str, schema: &Value) -> Option<Uri<String>> {
    let address = uri::from_str(address).ok()?;
    // Draft 4 calls it `id`.
    let id = ["$id", "id"].into_iter().find_map(|key| schema.get(key)?.as_str());
    match id {
        Some(id) => uri::resolve_against(&address.borrow(), id).ok(),
        None => Some(address),
    }
}
