//! Topics for the rules of `packets`, chosen and at random: empty levels, levels that mean something elsewhere, of other scripts, long ones.

use super::Random;

/// Topics of rules, and some that fall between two of them.
pub(super) const CHOSEN: [&str; 27] = [
    "pk/at/a",
    "pk/at/a/b",
    "pk/at//x",
    "pk/at/",
    "pk/at/sessions/x",
    "pk/at/retained",
    "pk/at/é",
    "pk/at/$x",
    "pk/quiet/a",
    "pk/quiet/é",
    "pk/quiet/",
    "pk/quiet/%2F",
    "pk/between/a/b",
    "pk/between/a/b/c",
    "pk/between/b%7/x",
    "pk/between/a",
    "pk/said/a",
    "pk/said/{x}",
    "pk/said/'\"",
    "pk/skips/a",
    "pk/skips/%2F",
    "pk/skips/",
    "pk/held/a",
    "pk/held/a/",
    "pk/whole/a",
    "$pk/a",
    "/pk//a",
];
/// Beginnings of topics, of rules and of none.
const BEGINNINGS: [&str; 14] = [
    "pk/whole",
    "pk/held",
    "pk/at",
    "pk/quiet",
    "pk/between",
    "pk/said",
    "pk/skips",
    "$pk",
    "/pk/",
    "pk",
    "pk/wholes",
    "PK/whole",
    "$SYS",
    "",
];
/// Those that a Kafka topic's name can have make one that is there, or one of the proxy's own state.
const LEVELS: [&str; 16] = [
    "", "a", "b%7", "a b", "é", "e\u{301}", "🦀", "{x}", "%2F", "\\", "'\"", "$pk", "*", "sessions", "retained", LONG,
];
const LONG: &str = concat!(
    "long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-",
    "long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-long-end",
);

/// One of the chosen, or levels behind a beginning.
pub(super) fn topic(random: &mut Random) -> String {
    if random.below(2) == 0 {
        return random.of(&CHOSEN).to_owned();
    }
    let mut levels = vec![random.of(&BEGINNINGS)];
    (0..random.below(4)).for_each(|_| levels.push(random.of(&LEVELS)));
    match levels.join("/") {
        // The one text that is no topic.
        empty if empty.is_empty() => "/".to_owned(),
        topic => topic,
    }
}
