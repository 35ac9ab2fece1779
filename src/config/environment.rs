//! `${NAME}` and `${NAME:-default}` in scalars.
//!
//! `$${` stands for `${`. A default ends at the next `}` and holds no further `${`. Values are put in as they are and
//! not looked at again, so what a variable holds cannot read another.

/// Longest text that may come out.
const LONGEST: usize = 64 * 1024;

/// What is wrong with a `${…}`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ExpandFault {
    /// Byte in the text as written.
    pub(super) at: usize,
    pub(super) message: String,
    /// What is said of a secret, if the message holds a piece of the text.
    pub(super) instead: Option<&'static str>,
    pub(super) remedy: String,
    /// There is no such variable, and no default.
    pub(super) is_unset: bool,
}

/// All variables of `text` that are not there.
pub(super) fn unset(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Vec<ExpandFault> {
    let (mut faults, mut from) = (vec![], 0);
    while let Err(fault) = expand(&text[from..], environment) {
        let at = from + fault.at;
        // Behind its `${`.
        from = at + 2;
        faults.extend(fault.is_unset.then_some(ExpandFault { at, ..fault }));
    }
    faults
}

/// Fills `text` in.
pub(super) fn expand(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> Result<String, ExpandFault> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(found) = rest.find("${") {
        let at = text.len() - rest.len() + found;
        if let Some(before) = rest[..found].strip_suffix('$') {
            out.push_str(before);
            out.push_str("${");
            rest = &rest[found + 2..];
            continue;
        }
        out.push_str(&rest[..found]);
        let inside = &rest[found + 2..];
        let Some(end) = inside.find('}') else {
            let message = "`${` without `}`".to_owned();
            return Err(ExpandFault {
                at,
                message,
                instead: None,
                remedy: "close it, or write `$${` for the characters themselves".to_owned(),
                is_unset: false,
            });
        };
        out.push_str(&value(&inside[..end], at, environment)?);
        rest = &inside[end + 1..];
        if out.len() > LONGEST {
            let message = format!("more than {LONGEST} bytes with what the environment holds");
            return Err(ExpandFault {
                at,
                message,
                instead: None,
                remedy: "check the variables".to_owned(),
                is_unset: false,
            });
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn value(inside: &str, at: usize, environment: &dyn Fn(&str) -> Option<String>) -> Result<String, ExpandFault> {
    let (name, default) = inside
        .split_once(":-")
        .map_or((inside, None), |(name, default)| (name, Some(default)));
    let legal =
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !legal {
        let message = format!("{} is not the name of a variable", super::problem::quoted(name));
        return Err(ExpandFault {
            at,
            message,
            instead: Some("what stands in a `${…}` is not the name of a variable"),
            remedy: "write ${NAME} or ${NAME:-default}; `$${` for the characters themselves".to_owned(),
            is_unset: false,
        });
    }
    // As in a shell, `:-` also replaces what is set but empty.
    match (environment(name), default) {
        (Some(value), Some(default)) if value.is_empty() => Ok(default.to_owned()),
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => {
            let message = format!("the environment has no `{name}`, or not as UTF-8");
            Err(ExpandFault {
                at,
                message,
                instead: None,
                remedy: format!("set it, or give a default: ${{{name}:-value}}"),
                is_unset: true,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("kafka".to_owned()),
            "EMPTY" => Some(String::new()),
            "SLY" => Some("${HOST}".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn variables_are_filled_in() {
        for (written, meant) in [
            ("plain", "plain"),
            ("${HOST}:9092", "kafka:9092"),
            ("${HOST}${HOST}", "kafkakafka"),
            ("${GONE:-localhost:9092}", "localhost:9092"),
            ("${EMPTY:-x}", "x"),
            ("${EMPTY}", ""),
            ("${GONE:-}", ""),
            ("$${HOST}", "${HOST}"),
            ("${SLY}", "${HOST}"),
            ("{vin}$", "{vin}$"),
        ] {
            assert_eq!(expand(written, &environment).as_deref(), Ok(meant), "{written}");
        }
    }

    #[test]
    fn what_cannot_be_filled_in_is_told_with_its_place() {
        for (written, at, words) in [
            ("a${GONE}", 1, "no `GONE`"),
            ("${HOST}${", 7, "without `}`"),
            ("${}", 0, "not the name"),
            ("${a b}", 0, "not the name"),
            ("${9}", 0, "not the name"),
        ] {
            let fault = expand(written, &environment).unwrap_err();
            assert_eq!(fault.at, at, "{written}");
            assert!(fault.message.contains(words), "{written}: {}", fault.message);
        }
    }

    #[test]
    fn each_variable_that_is_not_there_is_found() {
        for (written, places) in [
            ("${HOST}", &[][..]),
            ("${GONE}-${HOST}-${LOST}", &[0, 16]),
            ("$${GONE}${GONE:-x}${LOST}", &[18]),
            ("${a b}${GONE}${", &[6]),
        ] {
            let found: Vec<usize> = unset(written, &environment).iter().map(|fault| fault.at).collect();
            assert_eq!(found, places, "{written}");
        }
    }
}
