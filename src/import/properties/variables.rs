//! What Compose fills in of a value: `$NAME`, `${NAME}` and `${NAME:-default}`, which mean the same in `proxy.yaml`, stay variables. The proxy has them
//! from its own environment, as Compose has them from its: nobody knows here what they hold. Until all is written each is a word of letters that no file
//! has (of a plane for private use), so that nothing that takes a value apart looks into it.

/// What is added to a character of a variable: the private plane's first.
const PRIVATE: u32 = 0xF_0000;

/// A value as Compose means it: `$$` is a `$`, and variables that mean the same to the proxy are marked. Others stay as they are.
pub(super) fn marked(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let behind = &rest[at + 1..];
        rest = if let Some(after) = behind.strip_prefix('$') {
            out.push('$');
            after
        } else if let Some((variable, after)) = variable(behind) {
            out.extend(format!("${{{variable}}}").chars().map(hidden));
            after
        } else {
            out.push('$');
            let (unknown, after) = behind.split_at(braces(behind));
            out.push_str(unknown);
            after
        };
    }
    out.push_str(rest);
    out
}

/// The variables that are marked in a value, as the proxy has them.
pub(in crate::import) fn kept(value: &str) -> Vec<String> {
    let marked = value.split(|c| shown(c).is_none()).filter(|piece| !piece.is_empty());
    // Two may stand side by side.
    let each = marked.flat_map(|piece| piece.split_inclusive(hidden('}')));
    each.map(restored).collect()
}

/// A text with its variables as `proxy.yaml` has them.
pub(in crate::import) fn restored(text: &str) -> String {
    text.chars().map(|c| shown(c).unwrap_or(c)).collect()
}

/// What stands in the braces of a variable that means the same to the proxy, and what follows it; `text` is behind its `$`.
fn variable(text: &str) -> Option<(&str, &str)> {
    let Some(inside) = text.strip_prefix('{') else {
        let end = text.find(|c: char| !is_of_name(c)).unwrap_or(text.len());
        return is_name(&text[..end]).then(|| text.split_at(end));
    };
    let (inside, after) = inside.split_once('}')?;
    let (name, default) = inside.split_once(":-").unwrap_or((inside, ""));
    // What would have to be escaped in what is written stays text.
    let is_plain = default.chars().all(|c| (' '..='~').contains(&c) && !matches!(c, '"' | '\\' | '$'));
    (is_name(name) && is_plain).then_some((inside, after))
}

/// Bytes of the braces that a text begins with, those within them included.
fn braces(text: &str) -> usize {
    let mut open = 0_usize;
    let mut ends = text.char_indices().map(|(at, c)| {
        match c {
            '{' => open += 1,
            '}' => open = open.saturating_sub(1),
            _ => {}
        }
        (open == 0).then_some(at)
    });
    match text.starts_with('{') {
        true => ends.find_map(|end| end).map_or(text.len(), |end| end + 1),
        false => 0,
    }
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && text.chars().all(is_of_name)
}

fn hidden(c: char) -> char {
    char::from_u32(PRIVATE + u32::from(c)).unwrap_or(c)
}

fn shown(c: char) -> Option<char> {
    let ascii = u32::from(c).checked_sub(PRIVATE).filter(|code| *code < 128)?;
    char::from_u32(ascii)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_the_same_to_the_proxy_is_kept_and_looked_into_by_nobody() {
        for (written, meant, variables) in [
            ("a${B}c", "a${B}c", &["${B}"][..]),
            ("$B/$C_1.x", "${B}/${C_1}.x", &["${B}", "${C_1}"]),
            (
                "${B:-k:9092,l:9092}${C}",
                "${B:-k:9092,l:9092}${C}",
                &["${B:-k:9092,l:9092}", "${C}"],
            ),
            ("x$$", "x$", &[]),
            ("$${B}", "${B}", &[]),
        ] {
            let value = marked(written);
            assert_eq!(
                (restored(&value).as_str(), kept(&value)),
                (meant, variables.iter().map(|&v| v.to_owned()).collect())
            );
            assert_eq!(value.contains("${"), written.starts_with("$$"), "{written}");
            assert!(!value.contains([',', ':']), "{written}");
        }
        for text in [
            "${B-x}",
            "${B:?no}",
            "${B:+x}",
            "${B:-${C}}",
            "${B:-\"}",
            "${",
            "$",
            "$1",
            "a$",
            "${9}",
        ] {
            assert_eq!(marked(text), text, "the proxy does not know it");
        }
    }
}
