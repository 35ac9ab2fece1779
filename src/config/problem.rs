//! What is wrong with a file, where, and what would be right.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::downstream::ListenerSettings;

use super::hidden::Hidden;

/// One fault of the file. All of a file are told at once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Line in the file, from 1.
    pub line: u32,
    /// Column in that line, in characters, from 1.
    pub column: u32,
    /// What is wrong. Never the value of an environment variable.
    pub message: String,
    /// What would be right.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}; {}", self.line, self.column, self.message, self.remedy)
    }
}

impl Problem {
    /// `line:column: warning: what is so; what would be otherwise`.
    pub fn as_warning(&self) -> String {
        format!("{}:{}: warning: {}; {}", self.line, self.column, self.message, self.remedy)
    }
}

/// Why there is no configuration.
#[derive(Debug)]
pub enum LoadError {
    /// The file itself cannot be had.
    Unreadable {
        /// As it was given.
        path: PathBuf,
        /// The operating system's words, or that it is too large.
        why: String,
    },
    /// It says things that are wrong; at least one, in the order of the file.
    Faults {
        /// As it was given.
        path: PathBuf,
        /// All of them.
        problems: Vec<Problem>,
        /// The listeners that can be read all the same: their files may be judged, too.
        listeners: Vec<ListenerSettings>,
        /// What their errors must not show.
        hidden: Hidden,
    },
}

impl fmt::Display for LoadError {
    /// One line for each fault: `file:line:column: what is wrong; what would be right`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, why } => write!(f, "{}: {why}", path.display()),
            Self::Faults { path, problems, .. } => {
                for (i, problem) in problems.iter().enumerate() {
                    let end = if i + 1 < problems.len() { "\n" } else { "" };
                    write!(f, "{}:{problem}{end}", path.display())?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for LoadError {}

impl LoadError {
    /// The file that it is about.
    pub fn path(&self) -> &Path {
        match self {
            Self::Unreadable { path, .. } | Self::Faults { path, .. } => path,
        }
    }
}

/// A fault is one line wherever it comes from: what a template, an expression or a filter quotes of the file may hold line ends.
pub(super) fn one_line(text: String) -> String {
    let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    if !text.contains(breaks) {
        return text;
    }
    let mut line = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if breaks(c) { line.extend(c.escape_debug()) } else { line.push(c) }
    }
    line
}

/// A piece of the file in an error: in backticks, on one line, not endless.
pub(super) fn quoted(written: &str) -> String {
    const LONGEST: usize = 60;
    let mut shown: String = written.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if written.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    // What `escape_debug` does to quotes is for Rust, not for YAML.
    format!("`{}`", shown.replace("\\\"", "\"").replace("\\'", "'"))
}

/// The nearest of `known`, if one is near enough to be a slip of the pen. Capitals are one: no word of the file has any.
pub(super) fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written = &*written.to_ascii_lowercase();
    let length = written.chars().count();
    // A word of which nothing is left is no slip.
    let near = |distance: usize, known: &str| distance <= length.div_ceil(2).clamp(1, 3) && distance < length.min(known.len());
    known
        .into_iter()
        .map(|k| (distance(written, k), k))
        .filter(|(d, k)| near(*d, k))
        .min()
        .map(|(_, k)| k)
}

/// Edits from one to the other: a character more, less, another, or two neighbours that changed places (the optimal
/// string alignment). Both are names of a few dozen characters; longer ones are near nothing.
fn distance(a: &str, b: &str) -> usize {
    const LONGEST: usize = 64;
    if a.len().max(b.len()) > LONGEST {
        return usize::MAX;
    }
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut edits = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            edits[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let other = edits[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let least = other.min(edits[i - 1][j] + 1).min(edits[i][j - 1] + 1);
                let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                if swapped { least.min(edits[i - 2][j - 2] + 1) } else { least }
            };
        }
    }
    edits[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_a_slip_away() {
        assert_eq!(nearest("lisener", ["rules", "listeners", "limits"]), Some("listeners"));
        assert_eq!(nearest("qso", ["also", "qos"]), Some("qos"));
        assert_eq!(nearest("PLAINTEXT", ["plaintext"]), Some("plaintext"));
        assert_eq!(nearest("Kafka", ["name", "kafka"]), Some("kafka"));
        assert_eq!(nearest("3", ["0", "1"]), None);
        assert_eq!(nearest("password", ["name", "address"]), None);
        assert_eq!(nearest(&"x".repeat(1_000), ["name"]), None);
    }

    #[test]
    fn a_quoted_piece_stays_on_one_line() {
        assert_eq!(quoted("a\nb \"c\""), "`a\\nb \"c\"`");
        assert_eq!(one_line("a \"b\"\r\nc\u{2028}é".to_owned()), "a \"b\"\\r\\nc\\u{2028}é");
        assert_eq!(quoted(&"x".repeat(100)).chars().count(), 63);
    }
}
