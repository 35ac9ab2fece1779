//! `include` of HOCON: the parser passes over a file that is not there, as the language has it, and so its settings would be lost unseen.

use hocon::{HoconError, ParseOptions};

use crate::import::Source;

/// How files that a source includes are found: beside it.
pub(super) fn options(source: &Source) -> ParseOptions {
    let folder = std::path::Path::new(&source.name).parent().unwrap_or("".as_ref());
    ParseOptions::defaults().with_base_dir(folder.to_owned())
}

/// What is to be said of the files that a source includes and that are not there.
pub(super) fn missing(source: &Source) -> Vec<String> {
    let mut told = Vec::new();
    for Include { line, form, name } in includes(&source.text) {
        // Such a one is a fault of the parser's own.
        if form.contains("required") {
            continue;
        }
        let closed = ")".repeat(form.matches('(').count());
        let asked = format!("include required({form}\"{name}\"{closed})");
        let read = hocon::parse_string_with_options(&asked, options(source).with_resolve_substitutions(false));
        if matches!(read, Err(HoconError::Resolve(error)) if error.message.starts_with("required include file not found")) {
            told.push(format!(
                "{}:{line}: include \"{name}\": that file is not there, and what it says is not here: import where it is, or with it as one more file",
                source.name
            ));
        }
    }
    told
}

/// Whether a text includes others.
pub(super) fn has_some(text: &str) -> bool {
    !includes(text).is_empty()
}

struct Include<'t> {
    line: usize,
    /// What stands in front of the name: nothing, `file(` or `required(`.
    form: &'t str,
    name: &'t str,
}

/// Those outside of comments and quotations.
fn includes(text: &str) -> Vec<Include<'_>> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        if begins_a_field(&text[..at])
            && let Some((form, name)) = rest.strip_prefix("include").and_then(named)
        {
            let line = 1 + text[..at].matches('\n').count();
            found.push(Include { line, form, name });
        }
        at += match first {
            '"' => quotation(rest),
            '#' => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            other => other.len_utf8(),
        };
    }
    found
}

fn begins_a_field(before: &str) -> bool {
    let before = before.trim_end_matches([' ', '\t']);
    before.is_empty() || before.ends_with(['\n', '{', ','])
}

/// What stands between `include` and its file, and the file.
fn named(after: &str) -> Option<(&str, &str)> {
    let (form, rest) = after.split_once('"')?;
    let is_form = form.chars().all(|c| c.is_whitespace() || c.is_ascii_alphabetic() || c == '(');
    let (name, _) = rest.split_once('"')?;
    is_form.then_some((form.trim(), name))
}

/// How long a text in quotes is, with them.
fn quotation(rest: &str) -> usize {
    if let Some(inner) = rest.strip_prefix("\"\"\"") {
        return inner.find("\"\"\"").map_or(rest.len(), |end| end + 6);
    }
    let mut is_escaped = false;
    let end = rest[1..].find(|c| {
        let ends = c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        ends
    });
    end.map_or(rest.len(), |end| end + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn includes_are_found_where_they_are_none_of_the_text() {
        let text = "a = 1\ninclude \"x.hocon\"\nb { include file(\"y.conf\") }\n# include \"c\"\n// include \"c\"\nd = \"\"\"\ninclude \"e\"\n\"\"\"\n\
                    f = \"\\\" {include \"\ninclude required(\"z\")\nincluded = \"g\"";
        let found: Vec<(usize, &str, &str)> = includes(text).iter().map(|one| (one.line, one.form, one.name)).collect();
        assert_eq!(found, [(2, "", "x.hocon"), (3, "file(", "y.conf"), (10, "required(", "z")]);
    }
}
