//! The file that runs, for `/config` of the admin listener: as it is written, in JSON, without what is secret.
//!
//! Values from the environment are not filled in, files are named and not opened: what is not here cannot leak. What
//! is left are texts of the file itself. The walk notes where it takes a secret, so a new one cannot be forgotten here,
//! and an alias, which keeps the place of what it repeats, shows none. Addresses lose their user, password and query.

use std::collections::BTreeSet;

use super::tree::{Kind, Node, Place};

/// What stands in place of a secret.
pub(super) const HIDDEN: &str = "…";

/// From here on values are left out, in bytes: aliases may multiply a long text.
const LONGEST: usize = 16 << 20;

/// The whole file. `secrets` are the places of values that are some.
pub(super) fn file(root: &Node, secrets: &BTreeSet<Place>) -> String {
    let mut shown = Shown {
        out: String::new(),
        secrets,
    };
    shown.node(root, 0);
    shown.out.push('\n');
    shown.out
}

/// A text as it may be shown: what looks like an address has neither user nor password nor query.
pub(super) fn without_credentials(text: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find("://") {
        let (before, behind) = rest.split_at(at + 3);
        out.push_str(before);
        let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`');
        let (address, others) = behind.split_at(behind.find(ends).unwrap_or(behind.len()));
        // The last of them: a password that is not escaped may hold `@`, `/` and `?`.
        let address = match address.rsplit_once('@') {
            Some((_, host)) => {
                out.push_str(HIDDEN);
                out.push('@');
                host
            }
            None => address,
        };
        match address.split_once('?') {
            Some((path, _)) => out.extend([path, "?", HIDDEN]),
            None => out.push_str(address),
        }
        rest = others;
    }
    out.push_str(rest);
    out
}

struct Shown<'s> {
    out: String,
    secrets: &'s BTreeSet<Place>,
}

impl Shown<'_> {
    fn node(&mut self, node: &Node, depth: usize) {
        if self.out.len() > LONGEST {
            return self.text(HIDDEN);
        }
        match &node.kind {
            Kind::Scalar { text, .. } if self.secrets.contains(&node.place) => self.text(origin(text)),
            Kind::Scalar { .. } if node.is_nothing() => self.out.push_str("null"),
            Kind::Scalar { text, quoted, .. } if !quoted && is_literal(text) => self.out.push_str(text),
            Kind::Scalar { text, .. } => self.text(&without_credentials(text)),
            Kind::List(list) => self.block(['[', ']'], list, depth, |shown, node| shown.node(node, depth + 1)),
            Kind::Table(entries) => self.block(['{', '}'], entries, depth, |shown, (key, node)| {
                shown.text(&key.text);
                shown.out.push_str(": ");
                shown.node(node, depth + 1);
            }),
        }
    }

    fn block<T>(&mut self, [open, close]: [char; 2], items: &[T], depth: usize, item: impl Fn(&mut Self, &T)) {
        self.out.push(open);
        for (n, value) in items.iter().enumerate() {
            self.out.push_str(if n == 0 { "\n" } else { ",\n" });
            self.indent(depth + 1);
            item(self, value);
        }
        if !items.is_empty() {
            self.out.push('\n');
            self.indent(depth);
        }
        self.out.push(close);
    }

    fn indent(&mut self, depth: usize) {
        self.out.extend(std::iter::repeat_n("  ", depth));
    }

    fn text(&mut self, text: &str) {
        self.out.push_str(&serde_json::Value::from(text).to_string());
    }
}

/// Where a secret comes from, if that is all that is written: a file, or a variable without default.
pub(super) fn origin(text: &str) -> &str {
    let name = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    // A path may have a variable in it, and what its default is might be meant for another place.
    let is_path = text.starts_with("file:") && !text.contains(":-");
    if is_path || name.is_some_and(is_name) { text } else { HIDDEN }
}

/// What JSON takes without quotes.
fn is_literal(text: &str) -> bool {
    matches!(text, "true" | "false") || serde_json::from_str::<serde_json::Number>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::super::tree::read;
    use super::*;

    fn show(text: &str) -> String {
        file(&read(text).0.unwrap(), &BTreeSet::new())
    }

    #[test]
    fn a_file_is_shown_as_it_is_written() {
        let text = "a: [1, 1.5, 0x1, 01, \"1\", true, yes, ~]\nb: {c: \"x\\\"y\", d: {}, e: []}\nf: \"${NAME:-d}\"\n";
        let shown: serde_json::Value = serde_json::from_str(&show(text)).unwrap();
        let meant = serde_json::json!({
            "a": [1, 1.5, "0x1", "01", "1", true, "yes", null],
            "b": {"c": "x\"y", "d": {}, "e": []},
            "f": "${NAME:-d}",
        });
        assert_eq!(shown, meant);
        assert_eq!(show("{a: [1], b: {}}"), "{\n  \"a\": [\n    1\n  ],\n  \"b\": {}\n}\n");
    }

    #[test]
    fn of_a_secret_is_shown_where_it_comes_from() {
        for (written, shown) in [
            ("${NAME}", "${NAME}"),
            ("file:a/b", "file:a/b"),
            ("${NAME:-canary}", "…"),
            ("canary${NAME}", "…"),
            ("${NAME}${OTHER}", "…"),
            ("file:${NAME:-canary}", "…"),
            ("canary", "…"),
        ] {
            let root = read(&format!("a: &x \"{written}\"\nb: *x\n")).0.unwrap();
            let Kind::Table(entries) = &root.kind else { panic!("a table") };
            let all = file(&root, &BTreeSet::from([entries[0].1.place]));
            let all: serde_json::Value = serde_json::from_str(&all).unwrap();
            assert_eq!(all, serde_json::json!({"a": shown, "b": shown}), "{written}");
        }
    }

    #[test]
    fn addresses_lose_their_credentials() {
        for (written, shown) in [
            ("https://a.example/b#c", "https://a.example/b#c"),
            ("https://user:canary@a/b", "https://…@a/b"),
            ("https://user:can@a/ry@a/b?c", "https://…@a/b?…"),
            ("${URL:-http://canary@a/}", "${URL:-http://…@a/}"),
            ("https://a/b?key=canary", "https://a/b?…"),
            ("\"http://x@a\" + 'http://y@b'?", "\"http://…@a\" + 'http://…@b'?"),
            ("me@a ://", "me@a ://"),
        ] {
            assert_eq!(without_credentials(written), shown);
        }
    }

    #[test]
    fn aliases_cannot_make_it_endless() {
        let long = "x".repeat(1 << 20);
        let text = format!("a: &x {long}\nb: [{}]\n", vec!["*x"; 40].join(", "));
        let shown = show(&text);
        assert!(shown.len() < LONGEST + (2 << 20), "{}", shown.len());
        assert!(serde_json::from_str::<serde_json::Value>(&shown).is_ok());
    }
}
