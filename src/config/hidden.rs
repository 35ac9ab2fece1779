//! What came out of the environment, so that errors can be freed of it.
//!
//! A variable may hold a secret, also where a path belongs: who writes `key: "${TLS_KEY}"` may have the key itself in it.
//! So each error passes through here before it is told.

use std::collections::HashMap;
use std::fmt;

use zeroize::Zeroize;

use crate::downstream::BindError;

use super::problem::quoted;
use super::shown::{HIDDEN, origin, without_credentials};
use super::tree::{Kind, Node};
use super::walk::{Walk, is_filled};

/// Shorter ones, in characters, are in many words by chance, and are no secret: they are hidden where they stand alone.
const SHORT: usize = 4;
/// So much of a value, in characters, is hidden where a message was cut.
const PIECE: usize = 8;
/// How messages end that were cut.
const CUTS: [&str; 2] = ["…", "..."];

/// Values of the environment, and what errors show instead. `Debug` shows none.
#[derive(Clone, Default)]
pub struct Hidden {
    values: HashMap<String, String>,
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden")
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        self.values.drain().for_each(|(mut value, _)| value.zeroize());
    }
}

impl Hidden {
    /// Notes what a variable holds.
    pub(super) fn value(&mut self, value: &str) {
        for form in forms(value).into_iter().filter(|form| !form.is_empty()) {
            // A path is another's whole text, too.
            self.values.entry(form).or_insert_with(|| HIDDEN.to_owned());
        }
    }

    /// Notes a text that variables have a part in. Short values would be seen in it.
    pub(super) fn whole(&mut self, text: &str, values: &[String]) {
        if values.iter().any(|value| is_short(value)) {
            self.value(text);
        }
    }

    /// Notes a path that variables may have a part in: it is shown as the file has it, which says what to look at.
    fn path(&mut self, path: &str, written: &str) {
        if !path.is_empty() && self.values.keys().any(|value| path.contains(value.as_str())) {
            self.values.insert(path.to_owned(), written.to_owned());
        }
    }

    /// Words that others made of values, without what came out of the environment.
    pub fn without(&self, words: &str) -> String {
        let mut found = self.found(words);
        // Of those that begin at one place the longest comes first.
        found.sort_unstable_by_key(|(start, end, _)| (*start, usize::MAX - end));
        let mut parts: Vec<(usize, usize, &str)> = Vec::with_capacity(found.len());
        for (start, end, shown) in found {
            match parts.last_mut() {
                // Of two that overlap neither may leave a rest.
                Some((_, last, instead)) if start < *last => {
                    if end > *last {
                        (*last, *instead) = (end, HIDDEN);
                    }
                }
                _ => parts.push((start, end, shown)),
            }
        }
        let (mut out, mut from) = (String::with_capacity(words.len()), 0);
        for (start, end, shown) in parts {
            out.extend([&words[from..start], shown]);
            from = end;
        }
        out + &words[from..]
    }

    /// Where values are in words: from, to, and what is shown instead.
    fn found(&self, words: &str) -> Vec<(usize, usize, &str)> {
        let cuts: Vec<usize> = CUTS.iter().flat_map(|cut| words.match_indices(cut)).map(|(at, _)| at).collect();
        let mut found = vec![];
        for (value, shown) in &self.values {
            let (mut from, step) = (0, value.chars().next().map_or(1, char::len_utf8));
            // One that overlaps with itself is found each time.
            while let Some(at) = words.get(from..).and_then(|rest| rest.find(value.as_str())) {
                let (start, end) = (from + at, from + at + value.len());
                if !is_short(value) || stands_alone(&words[..start], &words[end..]) {
                    found.push((start, end, shown.as_str()));
                }
                from = start + step;
            }
            for cut in &cuts {
                let piece = longest_piece(value, &words[..*cut]);
                found.extend(piece.map(|length| (cut - length, *cut, HIDDEN)));
            }
        }
        found
    }

    /// The error of a listener. What to do about it is the same for all values.
    pub fn without_in(&self, error: BindError) -> BindError {
        let message = self.without(&error.message);
        BindError { message, ..error }
    }
}

/// A value as messages may have it: as it is, without blanks around it, escaped, and each line of several by itself.
fn forms(value: &str) -> Vec<String> {
    let json = serde_json::Value::from(value).to_string();
    let lines = value.lines().map(str::trim).filter(|line| !is_short(line));
    let mut forms = vec![
        value.to_owned(),
        value.trim().to_owned(),
        value.escape_debug().to_string(),
        json[1..json.len() - 1].to_owned(),
    ];
    forms.extend(lines.map(str::to_owned));
    forms
}

fn is_short(value: &str) -> bool {
    value.chars().count() < SHORT
}

/// Whether what stands between the two is no piece of a word.
fn stands_alone(before: &str, behind: &str) -> bool {
    let in_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    !in_word(before.chars().next_back()) && !in_word(behind.chars().next())
}

/// Bytes of the longest beginning of a value that words end with, if it is long enough to tell.
fn longest_piece(value: &str, words: &str) -> Option<usize> {
    let ends = value.char_indices().map(|(at, _)| at).skip(PIECE);
    ends.filter(|end| words.ends_with(&value[..*end])).last()
}

impl Walk<'_> {
    /// Has errors show a path as it is written, where variables have a part in it. `scheme` is what stands before it in the file.
    pub(super) fn shown_as_written(&self, node: &Node, scheme: &str, path: &str) {
        let Kind::Scalar { text, .. } = &node.kind else { return };
        if !is_filled(node) {
            return;
        }
        let written = match self.secrets.contains(&node.place) {
            true => origin(text).to_owned(),
            false => quoted(&without_credentials(text)).trim_matches('`').to_owned(),
        };
        let written = written.strip_prefix(scheme).unwrap_or(&written);
        self.hidden.borrow_mut().path(path, written);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hidden(values: &[&str]) -> Hidden {
        let mut hidden = Hidden::default();
        values.iter().for_each(|value| hidden.value(value));
        hidden
    }

    #[test]
    fn nothing_is_left_of_values_that_overlap() {
        for values in [["kafka", "kafka-s3cret"], ["kafka-s3cret", "kafka"]] {
            assert_eq!(hidden(&values).without("kafka-s3cret and kafka"), "… and …");
        }
        assert_eq!(hidden(&["abcd", "cdef"]).without("xabcdefx"), "x…x");
        assert_eq!(hidden(&["abcabca"]).without("abcabcabca!"), "…!", "one that overlaps with itself");
        assert_eq!(hidden(&["äbcä"]).without("äbcäbcä"), "…");
        assert_eq!(hidden(&["abcd"]).without("abcdabcd"), "……");
    }

    #[test]
    fn short_values_are_hidden_where_they_stand_alone() {
        let hidden = hidden(&["a", "ca"]);
        assert_eq!(hidden.without("client_ca: a cat in certs/a.pem"), "client_…: … cat in certs/….pem");
    }

    #[test]
    fn values_are_found_in_each_form() {
        let hidden = hidden(&[" first line\nse\"cond\n"]);
        for (words, told) in [
            ("<  first line\nse\"cond\n>", "< …>"),
            ("< first line\\nse\\\"cond\\n>", "<…>"),
            ("<first line\nse\"cond>", "<…>"),
            ("only `se\"cond`", "only `…`"),
            ("cut: first line\nse…", "cut:……"),
            ("cut: first line\\ns...", "cut:…..."),
            ("it goes on…", "it goes on…"),
        ] {
            assert_eq!(hidden.without(words), told);
        }
    }

    #[test]
    fn a_path_is_shown_as_it_is_written() {
        let mut hidden = hidden(&["s3cret"]);
        hidden.path("certs/s3cret.pem", "certs/${NAME}.pem");
        hidden.path("certs/other.pem", "${OTHER:-certs/other.pem}");
        assert_eq!(
            hidden.without("/etc/certs/s3cret.pem, certs/other.pem, s3cret"),
            "/etc/certs/${NAME}.pem, certs/other.pem, …"
        );
        assert_eq!(format!("{hidden:?}"), "Hidden");
    }
}
