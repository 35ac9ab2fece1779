//! Walks over the retained messages of a subscription that its SUBSCRIBE has begun, and that are not over (§3.3.1.3).
//!
//! They go in the order of topic names, so a name says how far one has come. In a value, as long as there is any:
//!
//! ```json
//! "walks":[{"filter":"vehicles/#","behind":"vehicles/42/vin"}]
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Fault;

/// A walk that is not over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walk {
    /// The topic that was given last; empty: it stands at the beginning.
    pub behind: String,
    /// The subscription stood already when its client asked for it: what has come as an ordinary message before is given, too.
    pub again: bool,
}

/// By filter.
pub type Walks = BTreeMap<Box<str>, Walk>;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WalkText {
    filter: Box<str>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    behind: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    again: bool,
}

pub(super) fn to_texts(walks: &Walks) -> Vec<WalkText> {
    let texts = walks.iter().map(|(filter, walk)| WalkText {
        filter: filter.clone(),
        behind: walk.behind.clone(),
        again: walk.again,
    });
    texts.collect()
}

pub(super) fn from_texts(texts: &[WalkText]) -> Result<Walks, Fault> {
    let mut walks = Walks::new();
    for WalkText { filter, behind, again } in texts {
        if walks.last_key_value().is_some_and(|(last, _)| last >= filter) {
            return Err(Fault::Damaged("walks out of order"));
        }
        let (behind, again) = (behind.clone(), *again);
        walks.insert(filter.clone(), Walk { behind, again });
    }
    Ok(walks)
}
