//! `test`, `match`, `capture`, `scan`, `split`, `sub` and `gsub`: what programs call regular expressions by.

use jaq_core::ValR;

use super::expression::{Expression, Expressions, Flags, Groups, Places, unknown_flag, with};
use super::value::{Fields, Value};

type Error = jaq_core::Error<Value>;

/// Definitions in the language, over the functions below.
pub(super) const DEFINITIONS: &str = r#"
def test($re): test($re; null);
def match($re; $flags): matches_of($re; $flags)[];
def match($re): match($re; null);
def capture($re; $flags): captures_of($re; $flags)[];
def capture($re): capture($re; null);
def scan($re; $flags): scans_of($re; $flags)[];
def scan($re): scan($re; null);
def split($re; $flags): splits_of($re; $flags);
def splits($re; $flags): splits_of($re; $flags)[];
def splits($re): splits($re; null);
def sub($re; by; $flags): reduce pieces_of($re; $flags)[] as $piece (""; . + if $piece | type == "string" then $piece else ($piece | by) end);
def sub($re; by): sub($re; by; "");
def gsub($re; by; $flags): sub($re; by; "g" + $flags);
def gsub($re; by): sub($re; by; "g");
"#;

/// What is made of the matches.
#[derive(Clone, Copy)]
pub(super) enum Wanted {
    /// Whether there is one.
    Test,
    /// jq's objects.
    Matches,
    /// An object of the groups that have names.
    Captures,
    /// The texts of all matches, or of their groups.
    Scans,
    /// What lies between all of them.
    Splits,
    /// Texts between them, and in their place what `Captures` makes.
    Pieces,
}

/// What a function gives for a text.
pub(super) fn apply(known: &Expressions, text: &Value, pattern: &Value, flags: &Value, wanted: Wanted) -> ValR<Value> {
    let string = |value: &Value| Error::typ(value.clone(), "string");
    let of_text = text.as_text().ok_or_else(|| string(text))?;
    // jq takes both in an array, too.
    let (pattern, flags) = match (pattern.items(), flags) {
        (Some([pattern]), Value::Null) => (pattern, &Value::Null),
        (Some([pattern, flags]), Value::Null) => (pattern, flags),
        _ => (pattern, flags),
    };
    let pattern = pattern.as_text().ok_or_else(|| string(pattern))?;
    let flags = match flags {
        Value::Null => Flags::default(),
        flags => Flags::read(flags.as_text().ok_or_else(|| string(flags))?).map_err(|flag| Error::str(unknown_flag(flag)))?,
    };
    let made = with(known, pattern, flags, |expression| make(expression, of_text, flags, wanted));
    made.map_err(|why| Error::str(format_args!("not a regular expression: {why}")))
}

fn make(expression: &Expression, text: &str, flags: Flags, wanted: Wanted) -> Value {
    let all = flags.everywhere();
    let (mut made, mut places, mut behind) = (Vec::new(), Places::of(text), 0);
    match wanted {
        Wanted::Test => return expression.is_in(text, flags.not_empty).into(),
        Wanted::Matches => expression.matches(text, flags, |groups| made.push(whole(expression, &mut places, &groups))),
        Wanted::Captures => expression.matches(text, flags, |groups| made.push(captures(expression, text, &groups))),
        Wanted::Scans => expression.matches(text, all, |groups| made.push(scanned(text, &groups))),
        Wanted::Splits => expression.matches(text, all, |groups| {
            made.push(before(text, &mut behind, &groups));
        }),
        Wanted::Pieces => expression.matches(text, flags, |groups| {
            made.push(before(text, &mut behind, &groups));
            made.push(captures(expression, text, &groups));
        }),
    }
    if matches!(wanted, Wanted::Splits | Wanted::Pieces) {
        made.push(Value::text(&text[behind..]));
    }
    Value::array(made)
}

/// The text between the match before and this one.
fn before(text: &str, behind: &mut usize, groups: &Groups) -> Value {
    let Some(Some(whole)) = groups.first() else { return Value::Null };
    let between = Value::text(&text[*behind..whole.start]);
    *behind = whole.end;
    between
}

fn scanned(text: &str, groups: &Groups) -> Value {
    let part = |group: &Option<std::ops::Range<usize>>| group.clone().map_or(Value::Null, |group| Value::text(&text[group]));
    match groups.as_slice() {
        [whole] => part(whole),
        groups => groups.iter().skip(1).map(part).collect(),
    }
}

fn captures(expression: &Expression, text: &str, groups: &Groups) -> Value {
    let named = expression.names().zip(groups).filter_map(|(name, group)| Some((name?, group)));
    let fields = named.map(|(name, group)| {
        let held = group.clone().map_or(Value::Null, |group| Value::text(&text[group]));
        (name.into(), held)
    });
    Value::object(fields.collect())
}

/// jq's object of a match, with one for each of its groups.
fn whole(expression: &Expression, places: &mut Places<'_>, groups: &Groups) -> Value {
    let mut parts = expression.names().zip(groups).map(|(name, group)| {
        let (offset, length, string) = match group {
            None => (Value::int(-1), 0, Value::Null),
            Some(group) => {
                let (start, end) = (places.at(group.start), places.at(group.end));
                (start.into(), end - start, Value::text(places.part(group)))
            }
        };
        let fields = [("offset", offset), ("length", length.into()), ("string", string)];
        (
            fields.map(|(name, value)| (name.into(), value)),
            name.map_or(Value::Null, Value::text),
        )
    });
    let own = parts.next().map(|(fields, _)| fields);
    let groups = parts.map(|(fields, name)| {
        let mut fields: Fields = fields.into_iter().collect();
        fields.insert("name".into(), name);
        Value::object(fields)
    });
    let groups = Value::array(groups.collect());
    let mut fields: Fields = own.into_iter().flatten().collect();
    fields.insert("captures".into(), groups);
    Value::object(fields)
}
