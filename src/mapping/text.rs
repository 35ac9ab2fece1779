//! Templates of a rule as written, compiled against the captures of its filter.

use super::fault::{Faults, Field};
use super::filter::Filter;
use super::template::{Piece, Template, Token, lex};

pub(super) fn template(written: &str, field: Field, filter: Option<&Filter>, known: bool, faults: &mut Faults) -> Template {
    let mut pieces = Vec::new();
    let tokens = lex(written).unwrap_or_else(|wrong| {
        faults.wrong(field, wrong);
        // A literal that is legal anywhere, so that one fault is not told twice.
        vec![Token::Text { at: 0, text: "x".into() }]
    });
    for token in tokens {
        match token {
            Token::Text { text, .. } => pieces.push(Piece::Text(text)),
            Token::Hole { name, rest: false, .. } if name == "client" => pieces.push(Piece::Client),
            Token::Hole { at, name, rest } => match filter.and_then(|filter| filter.capture(&name)) {
                Some(_) if rest => {
                    faults.add(
                        field,
                        Some(at),
                        format!("`{{{name}#}}`: the `#` belongs to the filter"),
                        format!("write `{{{name}}}` here"),
                    );
                }
                Some(i) => pieces.push(Piece::Capture(i)),
                None if known => {
                    let captures = filter.map(|filter| filter.captures.iter().map(|(name, _)| format!("`{{{name}}}`")).collect::<Vec<_>>());
                    let names = captures
                        .filter(|names| !names.is_empty())
                        .map_or("no capture".to_owned(), |names| names.join(", "));
                    let remedy = format!("the filter has {names}; `{{client}}` is the client id in key and headers");
                    faults.add(field, Some(at), format!("`{{{name}}}` is not a capture of `mqtt`"), remedy);
                }
                None => pieces.push(Piece::Text("x".into())),
            },
        }
    }
    Template { pieces }
}
