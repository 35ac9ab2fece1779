//! Regular expressions of Java as `mqtt_regex` takes them.

use regex_syntax::ast::{self, Ast, ClassPerl, ClassPerlKind, ClassSetItem, GroupKind, Span};

/// The same expression as the Rust crate `regex` reads it, without captures. Java's `\d`, `\w` and `\s` are ASCII.
///
/// # Errors
/// It has no equal, and why.
pub(super) fn rust(java: &str) -> Result<String, String> {
    let java = unquoted(java);
    for possessive in ["*+", "++", "?+", "}+"] {
        if java.contains(possessive) && !java.contains(&format!("\\{possessive}")) {
            return Err(format!(
                "`{possessive}` never gives back what it has taken, which no linear expression can say"
            ));
        }
    }
    let parsed = ast::parse::Parser::new().parse(&java).map_err(|error| error.kind().to_string())?;
    let Ok(mut changes) = ast::visit(&parsed, Changes::default());
    changes.sort_by_key(|(span, _)| span.start.offset);
    let (mut out, mut at) = (String::new(), 0);
    for (span, with) in changes {
        out.push_str(&java[at..span.start.offset]);
        out.push_str(&with);
        at = span.end.offset;
    }
    out.push_str(&java[at..]);
    Ok(out)
}

/// Without `\Q…\E`, what stands between is meant literally.
fn unquoted(java: &str) -> String {
    let mut out = String::new();
    let mut left = java;
    while let Some((before, quoted)) = left.split_once("\\Q") {
        out.push_str(before);
        let (literal, after) = quoted.split_once("\\E").unwrap_or((quoted, ""));
        out.push_str(&regex_syntax::escape(literal));
        left = after;
    }
    out + left
}

/// What is to be written instead of pieces.
#[derive(Default)]
struct Changes(Vec<(Span, String)>);

impl Changes {
    fn class(&mut self, class: &ClassPerl) {
        let not = if class.negated { "^" } else { "" };
        let of = match class.kind {
            ClassPerlKind::Digit => "0-9",
            ClassPerlKind::Space => r" \t\n\x0B\f\r",
            ClassPerlKind::Word => "a-zA-Z_0-9",
        };
        self.0.push((class.span, format!("[{not}{of}]")));
    }
}

impl ast::Visitor for Changes {
    type Output = Vec<(Span, String)>;
    type Err = std::convert::Infallible;

    fn finish(self) -> Result<Self::Output, Self::Err> {
        Ok(self.0)
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), Self::Err> {
        match ast {
            Ast::Group(group) if !matches!(group.kind, GroupKind::NonCapturing(_)) => {
                let mut head = group.span;
                head.end = group.ast.span().start;
                self.0.push((head, "(?:".to_owned()));
            }
            Ast::ClassPerl(class) => self.class(class),
            _ => {}
        }
        Ok(())
    }

    fn visit_class_set_item_pre(&mut self, item: &ClassSetItem) -> Result<(), Self::Err> {
        if let ClassSetItem::Perl(class) = item {
            self.class(class);
        }
        Ok(())
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
        ] {
            assert_eq!(rust(java).as_deref(), Ok(expected), "{java}");
        }
        for java in ["(?=a)b", r"(a)\1", "a*+", "(", "(?<!x)y"] {
            assert!(rust(java).is_err(), "{java}");
        }
    }
}
