//! The SQL of EMQX's rules, as far as it is a plain mapping: what is selected, and from which topics.

/// `SELECT … FROM …`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Select {
    /// Fields by their names; `None`: all, `*`.
    pub(super) fields: Option<Vec<String>>,
    /// Topic filters, and names of sources.
    pub(super) from: Vec<String>,
}

impl Select {
    /// Whether a template may use what begins with this name.
    pub(super) fn has(&self, path: &str) -> bool {
        let first = path.split('.').next().unwrap_or_default();
        self.fields.as_ref().is_none_or(|fields| fields.iter().any(|field| field == first))
    }
}

/// Reads a statement.
///
/// # Errors
/// It is more than a plain mapping; what, in words.
pub(super) fn select(sql: &str) -> Result<Select, String> {
    let sql = sql.trim().trim_end_matches(';');
    let all = words(sql)?;
    let all = match all.split_first() {
        Some((first, all)) if first.is("select") => all,
        Some((first, _)) if first.is("foreach") => return Err("`FOREACH` makes several messages of one".to_owned()),
        _ => return Err("it is no `SELECT`".to_owned()),
    };
    let at = all.iter().position(|word| word.is("from")).ok_or("it has no `FROM`")?;
    let is_field = |name: &str| name == "*" || !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let fields = names(sql, &all[..at], |word| is_field(word.text).then(|| word.text.to_owned()))?;
    if let Some(word) = all[at + 1..].iter().find(|word| word.is("where")) {
        return Err(format!("`{}` chooses messages: write it as a `transform`, `select(…)`", word.text));
    }
    let from = names(sql, &all[at + 1..], |word| word.quoted().map(str::to_owned))?;
    // All has the others, too.
    let fields = (!fields.iter().any(|field| field == "*")).then_some(fields);
    Ok(Select { fields, from })
}

/// What is named as `FROM`, whatever else there is to the statement.
pub(super) fn filters(sql: &str) -> Vec<String> {
    let words = words(sql).unwrap_or_default();
    let from = words.iter().skip_while(|word| !word.is("from")).skip(1);
    let named = from.take_while(|word| word.quoted().is_some() || word.is(","));
    named.filter_map(Word::quoted).map(str::to_owned).collect()
}

/// A word as it stands, with its quotes, and where.
struct Word<'s> {
    text: &'s str,
    at: usize,
}

impl<'s> Word<'s> {
    fn is(&self, keyword: &str) -> bool {
        self.text.eq_ignore_ascii_case(keyword)
    }

    /// What stands in quotes.
    fn quoted(&self) -> Option<&'s str> {
        let quote = self.text.chars().next().filter(|first| matches!(first, '"' | '\''))?;
        self.text[1..].strip_suffix(quote)
    }
}

/// What stands between commas, each a word alone; those within brackets are of one.
fn names<'s>(sql: &str, words: &[Word<'s>], name: impl Fn(&Word<'s>) -> Option<String>) -> Result<Vec<String>, String> {
    let mut depth = 0_usize;
    let is_between = |word: &Word<'s>| {
        if word.quoted().is_none() {
            depth += word.text.matches(['(', '[']).count();
            depth = depth.saturating_sub(word.text.matches([')', ']']).count());
        }
        depth == 0 && word.text == ","
    };
    let mut names = Vec::new();
    for one in words.split(is_between) {
        let own = match one {
            [word] => name(word),
            _ => None,
        };
        names.push(own.ok_or_else(|| more_than(sql, one))?);
    }
    Ok(names)
}

fn more_than(sql: &str, words: &[Word<'_>]) -> String {
    let all = match (words.first(), words.last()) {
        (Some(first), Some(last)) => &sql[first.at..last.at + last.text.len()],
        _ => "",
    };
    let all: Vec<&str> = all.split_whitespace().collect();
    format!("`{}` is more than a name", all.join(" "))
}

fn words(sql: &str) -> Result<Vec<Word<'_>>, String> {
    let mut words = Vec::new();
    let mut rest = sql.trim_start();
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '"' | '\'' => rest[1..].find(first).ok_or("a quotation has no end")? + 2,
            ',' => 1,
            _ => rest
                .find(|c: char| c.is_whitespace() || matches!(c, ',' | '"' | '\''))
                .unwrap_or(rest.len()),
        };
        let at = sql.len() - rest.len();
        words.push(Word { text: &rest[..end], at });
        rest = rest[end..].trim_start();
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_statements_are_read_and_others_are_told() {
        let all = select("SELECT\n  *\nFROM\n  \"t/#\", 'u/+';").unwrap();
        assert_eq!((all.fields, all.from), (None, vec!["t/#".to_owned(), "u/+".to_owned()]));
        let some = select("select payload, clientid from \"t\"").unwrap();
        assert!(some.has("payload.x") && some.has("clientid") && !some.has("topic"));
        for (sql, why) in [
            ("SELECT * FROM \"t\" WHERE qos > 0", "transform"),
            ("SELECT payload.x as y FROM \"t\"", "more than a name"),
            ("SELECT upper(topic) FROM \"t\"", "more than a name"),
            ("SELECT *, payload  as p FROM \"t\"", "`payload as p` is more than a name"),
            (
                "SELECT clientid, nth(2, tokens(topic, '/')) as x, qos FROM \"t\"",
                "`nth(2, tokens(topic, '/')) as x` is more than a name",
            ),
            ("SELECT , FROM \"t\"", "`` is more than a name"),
            ("FOREACH payload.list FROM \"t\"", "several"),
            ("SELECT *", "no `FROM`"),
            ("SELECT * FROM \"t", "no end"),
            ("", "no `SELECT`"),
        ] {
            assert!(select(sql).unwrap_err().contains(why), "{sql}");
        }
        assert_eq!(select("SELECT *, clientid FROM \"t\"").unwrap().fields, None);
    }

    #[test]
    fn filters_are_found_in_any_statement() {
        assert_eq!(filters("SELECT f(a, 'x') FROM \"t/#\", 'u' WHERE a = 'b'"), ["t/#", "u"]);
        assert!(filters("SELECT *").is_empty() && filters("SELECT * FROM \"t").is_empty());
    }
}
