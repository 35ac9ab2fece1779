//! Which variables a program names, before it is compiled.

use jaq_core::load::lex::{Lexer, StrPart, Tok, Token};

use super::size::{LONGEST_PROGRAM, on_large_stack};

/// With their `$`; what stands in comments, or in strings outside of `\\(…)`, is none. `None`: the text cannot be taken apart.
pub(in crate::mapping) fn variables(text: &str) -> Option<Vec<String>> {
    // Who compiles it says so; the stack is for no more brackets than that.
    if text.len() > LONGEST_PROGRAM {
        return None;
    }
    let read = || {
        let mut names = Vec::new();
        all(&Lexer::new(text).lex().ok()?, &mut names);
        Some(names)
    };
    on_large_stack(read).ok().flatten()
}

fn all(tokens: &[Token<&str>], names: &mut Vec<String>) {
    tokens.iter().for_each(|token| one(token, names));
}

fn one(Token(written, kind): &Token<&str>, names: &mut Vec<String>) {
    match kind {
        Tok::Var => names.push((*written).to_owned()),
        Tok::Block(within) => all(within, names),
        Tok::Str(parts) => {
            for part in parts {
                if let StrPart::Term(token) = part {
                    one(token, names);
                }
            }
        }
        Tok::Word | Tok::Fmt | Tok::Num | Tok::Sym => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_named() {
        let named = |text: &str| variables(text).map(|names| names.join(" "));
        for (text, names) in [
            ("{vin: $vin, a: [.b[$i]]}", "$vin $i"),
            ("{$vin} | . as $x | $x", "$vin $x $x"),
            ("\"at \\(.a + $b) of $none\"", "$b"),
            (". # $none\n| $a", "$a"),
        ] {
            assert_eq!(named(text).as_deref(), Some(names), "{text}");
        }
        assert_eq!(named("\"without an end"), None);
        // Before brackets are counted there may be as many as a program has bytes, and of what is none those of a file.
        assert_eq!(named(&"(".repeat(1 << 16)), None);
        assert_eq!(named(&"(".repeat(4 << 20)), None);
    }
}
