//! Writing YAML that means what it says: every text in quotes.

/// A text as `proxy.yaml` has it: in quotes, and with nothing in it that would be taken from the environment.
pub(super) fn text(text: &str) -> String {
    let escaped = text.replace("${", "$${");
    serde_json::to_string(&escaped).expect("a text is JSON")
}

/// Where those who connect are asked nothing about who they are.
pub(super) const NOBODY_ASKED: &str =
    "\n# As there: nobody is asked who he is. Whom TLS lets in (`client_auth`) is let in, as nobody.\nauthentication: none\n";

/// A comment on lines of its own.
pub(super) fn comment(words: &str) -> String {
    words
        .lines()
        .map(|line| format!("# {}\n", line.replace(|c: char| c.is_control(), " ")))
        .collect()
}

/// A list of such comments under a title; nothing if there are none.
pub(super) fn told(out: &mut String, title: &str, words: &[String]) {
    if !words.is_empty() {
        out.push_str(&comment(title));
        words.iter().for_each(|line| out.push_str(&comment(&format!("* {line}"))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_text_is_lost_or_means_something_else() {
        assert_eq!(text("a"), "\"a\"");
        assert_eq!(text("a\"b\\c\nd"), r#""a\"b\\c\nd""#);
        assert_eq!(text("p${w}"), "\"p$${w}\"");
        assert_eq!(comment("a\nb\rc"), "# a\n# b c\n");
    }
}
