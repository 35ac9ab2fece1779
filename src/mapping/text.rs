//! Templates of a rule as written, compiled against the captures of its filter.

use super::fault::{Faults, Field};
use super::filter::Filter;
use super::said::Said;
use super::template::{Piece, Template, Token, lex};

/// Compiles a template. Without a filter, which could not be read, only its syntax can be told.
pub(super) fn template(written: &str, field: Field, filter: Option<&Filter>, faults: &mut Faults) -> Template {
    let mut pieces = Vec::new();
    let tokens = lex(written).unwrap_or_else(|wrong| {
        faults.wrong(field, wrong);
        // A literal that is legal anywhere, so that one fault is not told twice.
        vec![Token::Text { at: 0, text: "x".into() }]
    });
    for token in tokens {
        match token {
            Token::Text { text, .. } => pieces.push(Piece::Text(text)),
            Token::Hole { at, name, rest } => match hole(at, &name, rest, field, filter, faults) {
                Some(piece) => pieces.push(piece),
                None => pieces.push(Piece::Text("x".into())),
            },
        }
    }
    Template { pieces }
}

/// What a placeholder stands for; `None` if that is a fault or cannot be known.
fn hole(at: usize, name: &str, rest: bool, field: Field, filter: Option<&Filter>, faults: &mut Faults) -> Option<Piece> {
    // A subscribe rule has no key and no headers at all, which is told elsewhere.
    let filter = filter?;
    if name == "client" && !rest {
        // The Kafka topic has a check of its own for it.
        return (field != Field::KafkaTopic).then_some(Piece::Client);
    }
    if let Some(said) = Said::named(name).filter(|_| !rest) {
        return (field != Field::KafkaTopic).then_some(Piece::Said(said));
    }
    match filter.capture(name) {
        Some(i) if !rest => return Some(Piece::Capture(i)),
        Some(_) => {
            let message = format!("`{{{name}#}}`: the `#` belongs to the filter");
            faults.add(field, Some(at), message, format!("write `{{{name}}}` here"));
        }
        None => {
            let names: Vec<String> = filter.captures.iter().map(|(name, _)| format!("`{{{name}}}`")).collect();
            let names = if names.is_empty() {
                "no capture".to_owned()
            } else {
                names.join(", ")
            };
            let remedy = format!(
                "the filter has {names}; of the message are `{{client}}`, `{{identity}}`, `{{now}}`, `{{user.NAME}}` and `{{payload.FIELD}}`"
            );
            let mark = if rest { "#" } else { "" };
            let key = if filter.expression.is_some() { "mqtt_regex" } else { "mqtt" };
            faults.add(field, Some(at), format!("`{{{name}{mark}}}` is not a capture of `{key}`"), remedy);
        }
    }
    None
}
