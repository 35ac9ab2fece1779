//! Regular expressions of Java as `mqtt_regex` takes them.

use regex_syntax::ast::{
    self, Assertion, AssertionKind, Ast, ClassPerl, ClassPerlKind, ClassSetBinaryOp, ClassSetBinaryOpKind, ClassSetItem, ClassUnicode,
    ClassUnicodeKind, Flag, Flags, GroupKind, Literal, Span,
};

/// The same expression as the Rust crate `regex` reads it, without captures, and what it does not mean in quite the same way. Java's `\d`, `\w`,
/// `\s` and `\p{Alpha}` are ASCII.
///
/// # Errors
/// It has no equal, and why.
pub(super) fn rust(java: &str) -> Result<(String, Vec<&'static str>), String> {
    let java = unquoted(java);
    let parsed = ast::parse::Parser::new().parse(&java).map_err(|error| error.kind().to_string())?;
    let reader = Changes {
        java: &java,
        changes: vec![],
        notes: vec![],
    };
    let Changes { mut changes, notes, .. } = ast::visit(&parsed, reader)?;
    changes.sort_by_key(|(span, _)| span.start.offset);
    let (mut out, mut at) = (String::new(), 0);
    for (span, with) in changes {
        out.push_str(&java[at..span.start.offset]);
        out.push_str(&with);
        at = span.end.offset;
    }
    out.push_str(&java[at..]);
    // Java knows properties of characters (`\p{InGreek}`) that are parsed here, but not known.
    regex_syntax::parse(&out).map_err(|error| match error {
        regex_syntax::Error::Translate(error) => error.kind().to_string(),
        other => other.to_string(),
    })?;
    Ok((out, notes))
}

/// Without `\Q…\E`, what stands between is meant literally.
fn unquoted(java: &str) -> String {
    let mut out = String::new();
    let mut left = java;
    while let Some(at) = left.find('\\') {
        let (before, escape) = left.split_at(at);
        out.push_str(before);
        if let Some(quoted) = escape.strip_prefix("\\Q") {
            let (literal, after) = quoted.split_once("\\E").unwrap_or((quoted, ""));
            out.push_str(&regex_syntax::escape(literal));
            left = after;
        } else {
            // An escaped backslash does not escape what follows it.
            let length = escape.chars().take(2).map(char::len_utf8).sum();
            out.push_str(&escape[..length]);
            left = &escape[length..];
        }
    }
    out + left
}

const LINE_ENDS: &str = "topics with line ends in them may be taken by other expressions than there: for `.` and `$` of Java \\r, U+0085, U+2028 and U+2029 are some, too";
const CASES: &str = "`(?i)` is true of all letters, there of those of ASCII alone";
const WORDS: &str = "`\\b` goes by the letters and digits of Unicode; from Java 19 on by those of ASCII";
const VERTICAL: &str = r"[\n\x0B\f\r\x{85}\x{2028}\x{2029}]";

/// What is to be written instead of pieces, and what is to be said.
struct Changes<'a> {
    java: &'a str,
    changes: Vec<(Span, String)>,
    notes: Vec<&'static str>,
}

impl Changes<'_> {
    fn note(&mut self, words: &'static str) {
        if !self.notes.contains(&words) {
            self.notes.push(words);
        }
    }

    fn class(&mut self, class: &ClassPerl) {
        let not = if class.negated { "^" } else { "" };
        let of = match class.kind {
            ClassPerlKind::Digit => "0-9",
            ClassPerlKind::Space => r" \t\n\x0B\f\r",
            ClassPerlKind::Word => "a-zA-Z_0-9",
        };
        self.changes.push((class.span, format!("[{not}{of}]")));
    }

    /// The classes of POSIX have the names of properties of Unicode, and are ASCII.
    fn property(&mut self, class: &ClassUnicode) {
        const POSIX: [&str; 13] = [
            "Lower", "Upper", "ASCII", "Alpha", "Digit", "Alnum", "Punct", "Graph", "Print", "Blank", "Cntrl", "XDigit", "Space",
        ];
        if let ClassUnicodeKind::Named(name) = &class.kind
            && POSIX.contains(&name.as_str())
        {
            let not = if class.negated { "^" } else { "" };
            self.changes.push((class.span, format!("[[:{not}{}:]]", name.to_lowercase())));
        }
    }

    fn literal(&mut self, literal: &Literal) {
        let written = &self.java[literal.span.start.offset..literal.span.end.offset];
        if written == "\\v" {
            self.changes.push((literal.span, VERTICAL.to_owned()));
        }
    }

    fn flags(&mut self, flags: &Flags) -> Result<(), String> {
        for flag in [Flag::SwapGreed, Flag::CRLF] {
            if flags.flag_state(flag).is_some() {
                return Err(format!(
                    "its flags mean something else here: {}",
                    &self.java[flags.span.start.offset..flags.span.end.offset]
                ));
            }
        }
        if flags.flag_state(Flag::Unicode) == Some(false) {
            return Err("`-u` means something else here".to_owned());
        }
        if flags.flag_state(Flag::CaseInsensitive) == Some(true) && flags.flag_state(Flag::Unicode).is_none() {
            self.note(CASES);
        }
        Ok(())
    }

    fn assertion(&mut self, assertion: &Assertion) {
        match assertion.kind {
            AssertionKind::EndLine | AssertionKind::StartLine => self.note(LINE_ENDS),
            AssertionKind::WordBoundary | AssertionKind::NotWordBoundary => self.note(WORDS),
            // An escaped sign is itself.
            AssertionKind::WordBoundaryStartAngle => self.changes.push((assertion.span, "<".to_owned())),
            AssertionKind::WordBoundaryEndAngle => self.changes.push((assertion.span, ">".to_owned())),
            _ => {}
        }
    }
}

impl ast::Visitor for Changes<'_> {
    type Output = Self;
    type Err = String;

    fn finish(self) -> Result<Self, String> {
        Ok(self)
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), String> {
        match ast {
            Ast::Group(group) => match &group.kind {
                GroupKind::NonCapturing(flags) => self.flags(flags)?,
                _ => {
                    let mut head = group.span;
                    head.end = group.ast.span().start;
                    self.changes.push((head, "(?:".to_owned()));
                }
            },
            Ast::Flags(flags) => self.flags(&flags.flags)?,
            Ast::Repetition(outer) if matches!(*outer.ast, Ast::Repetition(_)) => {
                return Err(format!(
                    "`{}` never gives back what it has taken, which no linear expression can say",
                    &self.java[outer.span.start.offset..outer.span.end.offset]
                ));
            }
            Ast::Dot(_) => self.note(LINE_ENDS),
            Ast::Assertion(assertion) => self.assertion(assertion),
            Ast::ClassPerl(class) => self.class(class),
            Ast::ClassUnicode(class) => self.property(class),
            Ast::Literal(literal) => self.literal(literal),
            _ => {}
        }
        Ok(())
    }

    fn visit_class_set_item_pre(&mut self, item: &ClassSetItem) -> Result<(), String> {
        match item {
            ClassSetItem::Perl(class) => self.class(class),
            ClassSetItem::Unicode(class) => self.property(class),
            ClassSetItem::Literal(literal) => self.literal(literal),
            ClassSetItem::Ascii(class) => {
                let written = &self.java[class.span.start.offset..class.span.end.offset];
                return Err(format!("`{written}` is a class here, and some characters in Java: write them out"));
            }
            _ => {}
        }
        Ok(())
    }

    fn visit_class_set_binary_op_pre(&mut self, op: &ClassSetBinaryOp) -> Result<(), String> {
        match op.kind {
            ClassSetBinaryOpKind::Intersection => Ok(()),
            _ => Err("`--` and `~~` in a class are characters in Java, and signs here: write them as `\\-` and `\\~`".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_java_means_is_written_for_rust() {
        for (java, expected) in [
            (".*temperature", ".*temperature"),
            (r"dev/(\d+)/(?<kind>a|b)", "dev/(?:[0-9]+)/(?:a|b)"),
            (r"[\w-]+/\S", r"[[a-zA-Z_0-9]-]+/[^ \t\n\x0B\f\r]"),
            (r"\Qa.b\E/.*", r"a\.b/.*"),
            (r"(?:x|y)\+", r"(?:x|y)\+"),
            // Not possessive.
            (r"\p{L}+", r"\p{L}+"),
            (r"[*+]+[+]+\*+", r"[*+]+[+]+\*+"),
            (r"(?:a*)+", r"(?:a*)+"),
            (r"\p{Alpha}\P{Upper}[\p{Punct}/]", r"[[:alpha:]][[:^upper:]][[[:punct:]]/]"),
            (r"\\Qa", r"\\Qa"),
            (r"\<a\>\v", r"<a>[\n\x0B\f\r\x{85}\x{2028}\x{2029}]"),
        ] {
            assert_eq!(rust(java).map(|(rust, _)| rust).as_deref(), Ok(expected), "{java}");
        }
        for java in [
            "(?=a)b",
            r"(a)\1",
            "a*+",
            "(",
            "(?<!x)y",
            r"\\*+",
            r"\p{L}++",
            "a{2}+",
            "(?U)\\w",
            r"\p{InGreek}",
            "[[:alpha:]]",
            "[+--]",
            "(?-u)é",
        ] {
            assert!(rust(java).is_err(), "{java}");
        }
    }

    #[test]
    fn what_is_not_quite_the_same_is_said() {
        for (java, expected) in [
            ("a/b+", &[][..]),
            ("a/.*$", &[LINE_ENDS]),
            ("(?i)a.", &[CASES, LINE_ENDS]),
            ("(?iu:é)", &[]),
            (r"\ba", &[WORDS]),
        ] {
            assert_eq!(rust(java).unwrap().1, expected, "{java}");
        }
    }
}
