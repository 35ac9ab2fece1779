//! Names of rules that come from elsewhere.

use std::collections::HashSet;

/// Longest name of a rule.
const LONGEST: usize = 64;

/// A name for a rule, like this and of its own.
pub(super) fn name(like: &str, names: &mut HashSet<String>) -> String {
    let legal: String = like
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        .take(LONGEST - 6)
        .collect();
    let stem = if legal.is_empty() { "rule".to_owned() } else { legal };
    let numbered = (2..).map(|number| format!("{stem}-{number}"));
    let name = std::iter::once(stem.clone()).chain(numbered).find(|name| !names.contains(name));
    let name = name.expect("there are more numbers than rules");
    names.insert(name.clone());
    name
}
