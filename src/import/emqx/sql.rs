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
    let words = words(sql.trim().trim_end_matches(';'))?;
    let is = |word: &Word, keyword: &str| matches!(word, Word::Bare(bare) if bare.eq_ignore_ascii_case(keyword));
    let mut words = words.into_iter();
    match words.next() {
        Some(first) if is(&first, "select") => {}
        Some(first) if is(&first, "foreach") => return Err("`FOREACH` makes several messages of one".to_owned()),
        _ => return Err("it is no `SELECT`".to_owned()),
    }
    let all: Vec<Word> = words.collect();
    let at = all.iter().position(|word| is(word, "from")).ok_or("it has no `FROM`")?;
    let fields = match &all[..at] {
        [Word::Bare(star)] if star == "*" => None,
        list => Some(names(list, |word| match word {
            Word::Bare(name) if name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') => Some(name.clone()),
            _ => None,
        })?),
    };
    if let Some(word) = all[at + 1..].iter().find(|word| is(word, "where")) {
        return Err(format!(
            "`{}` chooses messages: write it as a `transform`, `select(…)`",
            word.text()
        ));
    }
    let from = names(&all[at + 1..], |word| match word {
        Word::Quoted(topic) => Some(topic.clone()),
        Word::Bare(_) => None,
    })?;
    Ok(Select { fields, from })
}

enum Word {
    Bare(String),
    Quoted(String),
}

impl Word {
    fn text(&self) -> &str {
        let (Word::Bare(text) | Word::Quoted(text)) = self;
        text
    }
}

/// What stands between commas, each a word alone.
fn names(words: &[Word], name: impl Fn(&Word) -> Option<String>) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    for one in words.split(|word| matches!(word, Word::Bare(comma) if comma == ",")) {
        match one {
            [word] => names.push(name(word).ok_or_else(|| more_than(word.text()))?),
            more => return Err(more_than(more.first().map_or("", Word::text))),
        }
    }
    Ok(names)
}

fn more_than(word: &str) -> String {
    format!("`{word}` is more than a name")
}

fn words(sql: &str) -> Result<Vec<Word>, String> {
    let (mut words, mut rest) = (Vec::new(), sql.trim_start());
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '"' | '\'' => {
                let end = rest[1..].find(first).ok_or("a quotation has no end")?;
                words.push(Word::Quoted(rest[1..=end].to_owned()));
                end + 2
            }
            ',' => {
                words.push(Word::Bare(",".to_owned()));
                1
            }
            _ => {
                let end = rest
                    .find(|c: char| c.is_whitespace() || matches!(c, ',' | '"' | '\''))
                    .unwrap_or(rest.len());
                words.push(Word::Bare(rest[..end].to_owned()));
                end
            }
        };
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
            ("FOREACH payload.list FROM \"t\"", "several"),
            ("SELECT *", "no `FROM`"),
            ("SELECT * FROM \"t", "no end"),
            ("", "no `SELECT`"),
        ] {
            assert!(select(sql).unwrap_err().contains(why), "{sql}");
        }
    }
}
