//! JAAS login entries, as `sasl.jaas.config` and JAAS files have them: `MODULE FLAG NAME="VALUE" …;`.

/// A login entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Login {
    /// The class.
    pub(super) module: String,
    options: Vec<(String, String)>,
}

impl Login {
    /// The value of an option.
    pub(super) fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// The names of all of them.
    pub(super) fn options(&self) -> Vec<&str> {
        self.options.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// The first login entry of a text. `None`: it is none.
    pub(super) fn read(text: &str) -> Option<Login> {
        let mut words = words(text)?.into_iter();
        let (module, _flag) = (words.next()?, words.next()?);
        let mut options = Vec::new();
        let mut words = words.peekable();
        while let Some(name) = words.next().filter(|word| word != ";") {
            if words.next()? != "=" {
                return None;
            }
            options.push((name, words.next()?));
        }
        Some(Login { module, options })
    }

    /// The first entry of a section of a JAAS file: `NAME { … };`.
    pub(super) fn of_section(text: &str, name: &str) -> Option<Login> {
        let uncommented: String = text
            .lines()
            .filter(|line| !line.trim_start().starts_with(['#', '/']))
            .flat_map(|line| [line, "\n"])
            .collect();
        let after = uncommented.split_once(name)?.1.trim_start().strip_prefix('{')?;
        Login::read(after)
    }
}

/// Words, texts in quotes without these, `=` and `;`.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut left = text.trim_start();
    while let Some(first) = left.chars().next() {
        if matches!(first, '}' | '{') {
            break;
        }
        let end = match first {
            '=' | ';' => {
                words.push(first.to_string());
                1
            }
            '"' | '\'' => {
                let (word, end) = in_quotes(left, first)?;
                words.push(word);
                end
            }
            _ => {
                let end = left
                    .find(|c: char| c.is_whitespace() || matches!(c, '=' | ';' | '"'))
                    .unwrap_or(left.len());
                words.push(left[..end].to_owned());
                end
            }
        };
        left = left[end..].trim_start();
    }
    Some(words)
}

/// A text in quotes, and where it ends.
fn in_quotes(text: &str, quote: char) -> Option<(String, usize)> {
    let mut word = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => word.push(chars.next()?.1),
            c if c == quote => return Some((word, at + 1)),
            c => word.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_read_with_its_options() {
        let login = Login::read(r#"org.x.PlainLoginModule required username="a b" password="p\"q;=" ;"#).unwrap();
        assert_eq!(login.module, "org.x.PlainLoginModule");
        assert_eq!((login.option("username"), login.option("password")), (Some("a b"), Some("p\"q;=")));
        assert_eq!(login.option("other"), None);
        for wrong in ["", "Module", "Module required a", "Module required a=\"b"] {
            assert_eq!(Login::read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_section_of_a_file_is_found() {
        let text = "# X {\nKafkaClient {\n  y.Z required a=\"1\";\n};\nConfluentKafkaMqtt {\n  m.P required\n  file=\"/tmp/c\";\n};\n";
        let login = Login::of_section(text, "ConfluentKafkaMqtt").unwrap();
        assert_eq!((login.module.as_str(), login.option("file")), ("m.P", Some("/tmp/c")));
        assert_eq!(Login::of_section(text, "Other"), None);
    }
}
