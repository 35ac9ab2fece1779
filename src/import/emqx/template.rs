//! Templates of EMQX, `${clientid}`, as templates of rules.

/// A piece of one.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'t> {
    /// Stands for itself.
    Text(&'t str),
    /// A placeholder: its path, without the `.` that may stand in front. Empty: all there is, `${.}`.
    Hole(&'t str),
}

/// Splits a template.
pub(super) fn pieces(template: &str) -> Vec<Piece<'_>> {
    let (mut pieces, mut rest) = (Vec::new(), template);
    while let Some((before, after)) = rest.split_once("${") {
        let Some((path, behind)) = after.split_once('}') else { break };
        if !before.is_empty() {
            pieces.push(Piece::Text(before));
        }
        pieces.push(Piece::Hole(path.trim().trim_start_matches('.')));
        rest = behind;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    pieces
}

/// Text as it stands in a template of a rule.
pub(super) fn literal(text: &str) -> String {
    text.replace('{', "{{").replace('}', "}}")
}

/// A template over a message, for a key, a header or a partition.
///
/// # Errors
/// The placeholders that have no equal, in words.
pub(super) fn of_message(template: &str) -> Result<String, String> {
    let piece = |piece: &Piece<'_>| match piece {
        Piece::Text(text) => Ok(literal(text)),
        Piece::Hole("clientid") => Ok("{client}".to_owned()),
        Piece::Hole("username") => Ok("{identity}".to_owned()),
        Piece::Hole("timestamp" | "publish_received_at") => Ok("{now}".to_owned()),
        Piece::Hole("topic") => Err(format!(
            "{}, unless the filter captures it: `{{topic#}}` in `mqtt` (for `#`), and `{{topic}}` in the template",
            no_equal("topic")
        )),
        Piece::Hole(path) => {
            let field = path.strip_prefix("payload.").filter(|field| is_name(field));
            let user = path.strip_prefix("pub_props.User-Property.").filter(|name| is_name(name));
            match (field, user) {
                (Some(field), _) => Ok(format!("{{payload.{field}}}")),
                (_, Some(name)) => Ok(format!("{{user.{name}}}")),
                _ => Err(no_equal(path)),
            }
        }
    };
    let made: Vec<Result<String, String>> = pieces(template).iter().map(piece).collect();
    let wrong: Vec<&str> = made.iter().filter_map(|piece| piece.as_ref().err()).map(String::as_str).collect();
    match wrong.as_slice() {
        [] => made.into_iter().collect(),
        wrong => Err(wrong.join("; ")),
    }
}

/// A template over a record, for an MQTT topic.
///
/// # Errors
/// The first placeholder that has no equal, in words.
pub(super) fn of_record(template: &str) -> Result<String, String> {
    let pieces = pieces(template);
    let last = pieces.len();
    let piece = |(place, piece): (usize, &Piece<'_>)| match piece {
        Piece::Text(text) => Ok(literal(text)),
        // There it may be several levels.
        Piece::Hole("key") if place + 1 == last => Ok("{key#}".to_owned()),
        Piece::Hole("key") => Ok("{key}".to_owned()),
        Piece::Hole("topic") => Ok("{topic}".to_owned()),
        Piece::Hole(path) => match path.strip_prefix("headers.").filter(|name| is_name(name)) {
            Some(name) => Ok(format!("{{header.{name}}}")),
            None => Err(no_equal(path)),
        },
    };
    pieces.iter().enumerate().map(piece).collect()
}

/// Whether a name can stand in a placeholder of a rule.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

fn no_equal(path: &str) -> String {
    format!("`${{{path}}}` has no equal in a template")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_have_the_same_meaning() {
        for (theirs, ours) in [
            ("${clientid}-${.username}", "{client}-{identity}"),
            ("a{b}${payload.x.y}", "a{{b}}{payload.x.y}"),
            ("${pub_props.User-Property.unit}", "{user.unit}"),
            ("", ""),
        ] {
            assert_eq!(of_message(theirs).as_deref(), Ok(ours));
        }
        assert!(of_message("${.}").is_err() && of_message("${peerhost}").unwrap_err().contains("peerhost"));
        assert_eq!(of_record("out/${.key}/x/${key}").as_deref(), Ok("out/{key}/x/{key#}"));
        assert_eq!(of_record("${topic}/${headers.to}").as_deref(), Ok("{topic}/{header.to}"));
        assert!(of_record("${offset}").is_err());
    }
}
