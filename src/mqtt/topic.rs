//! Topic names and filters (§4.7), shared subscriptions (§4.8.2).

use crate::wire::read::holds_null_or_wildcard;

/// What is wrong with a name or filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicError {
    /// At least one character [MQTT-4.7.3-1].
    Empty,
    /// U+0000 [MQTT-4.7.3-2].
    Null,
    /// More than 65,535 bytes [MQTT-4.7.3-3].
    TooLong,
    /// A wildcard in a name [MQTT-3.3.2-2].
    Wildcard,
    /// `#` that is not the whole last level [MQTT-4.7.1-1].
    MultiLevel,
    /// `+` that is not a whole level [MQTT-4.7.1-2].
    SingleLevel,
    /// `$share/` without a name [MQTT-4.8.2-1].
    ShareName,
    /// `$share/` with a wildcard in its name, or without a filter [MQTT-4.8.2-2].
    Share,
}

impl TopicError {
    /// The normative statement of version 5 that is broken.
    pub fn rule(self) -> &'static str {
        match self {
            TopicError::Empty => "MQTT-4.7.3-1",
            TopicError::Null => "MQTT-4.7.3-2",
            TopicError::TooLong => "MQTT-4.7.3-3",
            TopicError::Wildcard => "MQTT-4.7.0-1",
            TopicError::MultiLevel => "MQTT-4.7.1-1",
            TopicError::SingleLevel => "MQTT-4.7.1-2",
            TopicError::ShareName => "MQTT-4.8.2-1",
            TopicError::Share => "MQTT-4.8.2-2",
        }
    }

    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            TopicError::Empty => "a topic has at least one character",
            TopicError::Null => "U+0000 in a topic",
            TopicError::TooLong => "a topic of more than 65,535 bytes",
            TopicError::Wildcard => "a wildcard in a topic name",
            TopicError::MultiLevel => "# must be the whole last level",
            TopicError::SingleLevel => "+ must be a whole level",
            TopicError::ShareName => "$share needs a name of at least one character",
            TopicError::Share => "$share needs a name without wildcards and a filter",
        }
    }
}

/// A shared subscription, `$share/<name>/<filter>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedFilter<'a> {
    /// Share name.
    pub name: &'a str,
    /// Filter within.
    pub filter: &'a str,
}

fn validate(text: &str) -> Result<(), TopicError> {
    match text.len() {
        0 => Err(TopicError::Empty),
        65_536.. => Err(TopicError::TooLong),
        _ if text.as_bytes().contains(&0) => Err(TopicError::Null),
        _ => Ok(()),
    }
}

/// Checks a topic name.
///
/// # Errors
/// The first rule that it breaks.
#[inline]
pub fn validate_name(name: &str) -> Result<(), TopicError> {
    if !name.is_empty() && name.len() < 65_536 && !holds_null_or_wildcard(name.as_bytes()) {
        return Ok(());
    }
    validate(name).and(Err(TopicError::Wildcard))
}

/// Checks a topic filter; `$share/…` by the rules of shared subscriptions, too.
///
/// # Errors
/// The first rule that it breaks.
pub fn validate_filter(filter: &str) -> Result<(), TopicError> {
    validate(filter)?;
    match parse_share(filter)? {
        Some(shared) => validate_levels(shared.filter),
        None => validate_levels(filter),
    }
}

/// Checks a topic filter as 3.1 and 3.1.1 know it: `$share` is a level like any other.
///
/// # Errors
/// The first rule that it breaks.
pub fn validate_plain_filter(filter: &str) -> Result<(), TopicError> {
    validate(filter)?;
    validate_levels(filter)
}

fn validate_levels(filter: &str) -> Result<(), TopicError> {
    if !holds_null_or_wildcard(filter.as_bytes()) {
        return Ok(());
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        if level.contains('#') && (level != "#" || levels.peek().is_some()) {
            return Err(TopicError::MultiLevel);
        }
        if level.contains('+') && level != "+" {
            return Err(TopicError::SingleLevel);
        }
    }
    Ok(())
}

/// The parts of a shared subscription; `None` if the filter is an ordinary one.
///
/// # Errors
/// [`TopicError::ShareName`] or [`TopicError::Share`] if it begins as one, with `$share/`, and is none.
pub fn parse_share(filter: &str) -> Result<Option<SharedFilter<'_>>, TopicError> {
    let Some(rest) = filter.strip_prefix("$share/") else {
        return Ok(None);
    };
    let (name, filter) = rest.split_once('/').unwrap_or((rest, ""));
    if name.is_empty() {
        return Err(TopicError::ShareName);
    }
    if name.contains(['+', '#']) || filter.is_empty() {
        return Err(TopicError::Share);
    }
    Ok(Some(SharedFilter { name, filter }))
}

/// The levels of a name or filter.
pub fn levels(topic: &str) -> impl Iterator<Item = &str> + Clone {
    topic.split('/')
}

/// Whether a valid, not shared filter matches a valid name (§4.7.1, §4.7.2).
pub fn matches(filter: &str, name: &str) -> bool {
    // [MQTT-4.7.2-1]
    if name.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let (mut filters, mut names) = (levels(filter), levels(name));
    loop {
        match (filters.next(), names.next()) {
            (Some("#"), _) => return true,
            (Some("+"), Some(_)) => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "/", "a/b", "$SYS/x", " ", "a//b", "日本"] {
            assert_eq!(validate_name(good), Ok(()), "{good}");
        }
        for (bad, error) in [
            ("", TopicError::Empty),
            ("a/+", TopicError::Wildcard),
            ("#", TopicError::Wildcard),
            ("a\0", TopicError::Null),
        ] {
            assert_eq!(validate_name(bad), Err(error), "{bad:?}");
        }
        assert_eq!(validate_name(&"x".repeat(65_535)), Ok(()));
        assert_eq!(validate_name(&"x".repeat(65_536)), Err(TopicError::TooLong));
    }

    #[test]
    fn filters() {
        for good in [
            "#",
            "+",
            "a/#",
            "+/+",
            "/+",
            "a/+/b",
            "$share/g/a/#",
            "$share/g/+",
            "$sharex",
            "$share",
            "a/$share",
        ] {
            assert_eq!(validate_filter(good), Ok(()), "{good}");
        }
        for (bad, error) in [
            ("a#", TopicError::MultiLevel),
            ("#/a", TopicError::MultiLevel),
            ("a/#/b", TopicError::MultiLevel),
            ("a+", TopicError::SingleLevel),
            ("a/+b/c", TopicError::SingleLevel),
            ("$share/", TopicError::ShareName),
            ("$share/g", TopicError::Share),
            ("$share/g/", TopicError::Share),
            ("$share//a", TopicError::ShareName),
            ("$share/+/a", TopicError::Share),
            ("$share/g/a#", TopicError::MultiLevel),
            ("", TopicError::Empty),
        ] {
            assert_eq!(validate_filter(bad), Err(error), "{bad}");
        }
    }

    #[test]
    fn matching_as_the_examples_of_the_specification() {
        let filter = "sport/tennis/player1/#";
        for name in [
            "sport/tennis/player1",
            "sport/tennis/player1/ranking",
            "sport/tennis/player1/score/wimbledon",
        ] {
            assert!(matches(filter, name), "{name}");
        }
        assert!(matches("sport/#", "sport"));
        assert!(matches("sport/tennis/+", "sport/tennis/player1"));
        assert!(!matches("sport/tennis/+", "sport/tennis/player1/ranking"));
        assert!(!matches("sport/+", "sport"));
        assert!(matches("sport/+", "sport/"));
        assert!(matches("+/+", "/finance") && matches("/+", "/finance") && !matches("+", "/finance"));
        assert!(!matches("#", "$SYS/monitor") && !matches("+/monitor", "$SYS/monitor"));
        assert!(matches("$SYS/#", "$SYS/monitor") && matches("$SYS/monitor/+", "$SYS/monitor/Clients"));
        assert!(!matches("ACCOUNTS", "Accounts") && !matches("a", "a/b"));
    }
}
