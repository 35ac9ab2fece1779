//! Functions that programs may call beside those of the interpreter's library, of which the ones are left out that reach outside of a
//! run (the clock, the environment, the process) or whose cost nobody counts.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jaq_core::load::{self, parse::Def};
use jaq_core::native::{Fun, bome, run, unary, v};
use jaq_core::{DataT, RunPtr, ValR};

use super::fuel::{CutOff, charge, charge_bytes, charge_values, end};
use super::matching::{DEFINITIONS, Wanted, apply};
use super::program::Kind;
use super::value::Value;
use crate::mapping::said::time_of;
use crate::mapping::tables::Table;

type Error = jaq_core::Error<Value>;

/// Definitions of the library that are not for programs here, or are functions below.
const LEFT_OUT: &[&str] = &[
    "stderr",
    "debug",
    "halt",
    "halt_error",
    "nan",
    "infinite",
    "isnan",
    "logb",
    "significand",
    "drem",
    "nexttoward",
    "scalb",
    "gamma",
    "pow10",
    "test",
    "scan_",
    "match",
    "capture",
    "capture_of_match",
    "split",
    "splits",
    "sub",
    "gsub",
    "scan",
    "@html",
    "@htmld",
    "todate",
    "fromdate",
    "tonumber",
    "type",
];

/// Definitions in the language itself.
const OWN: &str = r#"
def todate: todateiso8601;
def fromdate: fromdateiso8601;
def in(xs): . as $x | xs | has($x);
def inside(xs): . as $x | xs | contains($x);
def index($i): indices($i)[0];
def rindex($i): indices($i)[-1];
def split($by): . / $by;
def to_entries: [key_values[] | {key: .[0], value: .[1]}];
def from_entries: reduce .[] as $x ({}; . + {($x | if has("key") then .key elif has("k") then .k elif has("name") then .name else .Name end | if type == "string" then . else tojson end): ($x | if has("value") then .value else .v end)});
def with_entries(f): to_entries | map(f) | from_entries;
def isempty(g): label $out | (first(g) | false, break $out), true;
def any: reduce .[] as $x (false; . or $x);
def all: reduce .[] as $x (true; . and $x);
def any(f): isempty(first(.[] | f | select(.))) | not;
def all(f): isempty(first(.[] | f | select(. | not)));
def any(g; f): isempty(first(g | f | select(.))) | not;
def all(g; f): isempty(first(g | f | select(. | not)));
def transpose: [range([.[] | length] | max // 0) as $i | [.[][$i]]];
def @json: tojson;
def @csv: [.[] | if type == "string" then "\"" + ([(. / "\"")[]] | join("\"\"")) + "\"" elif . == null then "" else tojson end] | join(",");
"#;

/// What programs are compiled with before themselves.
pub(super) fn definitions() -> impl Iterator<Item = Def<&'static str>> {
    let library = jaq_core::defs().chain(jaq_std::defs());
    let own = [OWN, DEFINITIONS].map(|text| load::parse(text, |parser| parser.defs()).expect("our own definitions are tested"));
    library.filter(|def| !LEFT_OUT.contains(&def.name)).chain(own.into_iter().flatten())
}

/// All functions in the place of which there is code.
pub(super) fn functions() -> impl Iterator<Item = Fun<Kind>> {
    let library = jaq_core::funs().chain(jaq_std::base_funs()).filter(|(name, ..)| *name != "halt");
    library
        .chain(own::<Kind>().into_iter().map(run::<Kind>))
        .chain(mathematics::<Kind>().into_iter().map(run::<Kind>))
        .chain(of_program().into_iter().map(run::<Kind>))
}

/// Those that look into what the program was compiled with.
fn of_program() -> Vec<Function<Kind>> {
    vec![
        ("lookup", v(2), |mut cv| {
            let (key, name) = (cv.0.pop_var(), cv.0.pop_var());
            bome(row(cv.0.data().tables, &name, &key))
        }),
        ("test", v(2), |cv| matched(cv, Wanted::Test)),
        ("matches_of", v(2), |cv| matched(cv, Wanted::Matches)),
        ("captures_of", v(2), |cv| matched(cv, Wanted::Captures)),
        ("scans_of", v(2), |cv| matched(cv, Wanted::Scans)),
        ("splits_of", v(2), |cv| matched(cv, Wanted::Splits)),
        ("pieces_of", v(2), |cv| matched(cv, Wanted::Pieces)),
    ]
}

fn matched<'a>(mut cv: jaq_core::Cv<'a, Kind>, wanted: Wanted) -> jaq_core::ValXs<'a, Value> {
    let (flags, pattern) = (cv.0.pop_var(), cv.0.pop_var());
    bome(apply(cv.0.data().expressions, &cv.1, &pattern, &flags, wanted))
}

type Function<D> = jaq_core::native::Filter<RunPtr<D>>;

fn own<D: for<'a> DataT<V<'a> = Value>>() -> Vec<Function<D>> {
    vec![
        ("length", v(0), |cv| bome(cv.1.length())),
        ("type", v(0), |cv| bome(Ok(Value::text(cv.1.kind())))),
        ("tojson", v(0), |cv| bome(Ok(Value::text(&cv.1.to_json())))),
        ("fromjson", v(0), |cv| bome(from_json(&cv.1))),
        ("tonumber", v(0), |cv| bome(to_number(cv.1))),
        ("has", v(1), |cv| unary(cv, |value, index| Ok(value.part(&index)?.is_some().into()))),
        ("contains", v(1), |cv| unary(cv, |a, b| Ok(a.contains(&b).into()))),
        ("indices", v(1), |cv| unary(cv, |a, b| a.indices(&b))),
        ("encode_base64", v(0), |cv| {
            bome(text(&cv.1).map(|text| Value::text(&STANDARD.encode(text))))
        }),
        ("decode_base64", v(0), |cv| {
            bome(text(&cv.1).and_then(|text| {
                let bytes = STANDARD.decode(text).map_err(|_| Error::str("not base64"))?;
                Ok(Value::text(&String::from_utf8_lossy(&bytes)))
            }))
        }),
        ("encode_uri", v(0), |cv| {
            bome(text(&cv.1).map(|text| Value::text(&encode_uri(text))))
        }),
        ("decode_uri", v(0), |cv| {
            bome(text(&cv.1).map(|text| Value::text(&decode_uri(text))))
        }),
        ("todateiso8601", v(0), |cv| bome(to_date(&cv.1))),
        ("fromdateiso8601", v(0), |cv| bome(from_date(&cv.1))),
        ("record", v(1), |cv| unary(cv, |value, with| envelope(value, &with))),
    ]
}

fn mathematics<D: for<'a> DataT<V<'a> = Value>>() -> Vec<Function<D>> {
    vec![
        ("nan", v(0), |_| bome(Ok(Value::Float(f64::NAN)))),
        ("infinite", v(0), |_| bome(Ok(Value::Float(f64::INFINITY)))),
        ("isnan", v(0), |cv| bome(number(&cv.1).map(|n| n.is_nan().into()))),
        ("fabs", v(0), |cv| double(&cv.1, f64::abs)),
        ("sqrt", v(0), |cv| double(&cv.1, f64::sqrt)),
        ("cbrt", v(0), |cv| double(&cv.1, f64::cbrt)),
        ("trunc", v(0), |cv| double(&cv.1, f64::trunc)),
        ("exp", v(0), |cv| double(&cv.1, f64::exp)),
        ("exp2", v(0), |cv| double(&cv.1, f64::exp2)),
        ("exp10", v(0), |cv| double(&cv.1, |n| 10_f64.powf(n))),
        ("log", v(0), |cv| double(&cv.1, f64::ln)),
        ("log2", v(0), |cv| double(&cv.1, f64::log2)),
        ("log10", v(0), |cv| double(&cv.1, f64::log10)),
        ("sin", v(0), |cv| double(&cv.1, f64::sin)),
        ("cos", v(0), |cv| double(&cv.1, f64::cos)),
        ("tan", v(0), |cv| double(&cv.1, f64::tan)),
        ("asin", v(0), |cv| double(&cv.1, f64::asin)),
        ("acos", v(0), |cv| double(&cv.1, f64::acos)),
        ("atan", v(0), |cv| double(&cv.1, f64::atan)),
        ("pow", v(2), |mut cv| {
            let (exponent, base) = (cv.0.pop_var(), cv.0.pop_var());
            bome(number(&base).and_then(|base| Ok(Value::Float(base.powf(number(&exponent)?)))))
        }),
        ("atan2", v(2), |mut cv| {
            let (x, y) = (cv.0.pop_var(), cv.0.pop_var());
            bome(number(&y).and_then(|y| Ok(Value::Float(y.atan2(number(&x)?)))))
        }),
    ]
}

/// The row of a table, `null` if there is none of this key.
fn row(tables: &[(String, Arc<Table>)], name: &Value, key: &Value) -> ValR<Value> {
    let table = name.as_text().and_then(|name| tables.iter().find(|(known, _)| known == name));
    let (_, table) = table.ok_or_else(|| Error::str(format_args!("there is no table {name}")))?;
    let row = match key {
        Value::Text(key) => table.row(key),
        Value::Int(_) | Value::Float(_) | Value::Bool(_) => table.row(&key.to_json()),
        Value::Null => Ok(None),
        other => return Err(Error::typ(other.clone(), "key of a table: a string, number or truth value")),
    };
    // No `try` and no `//` of a program makes an answer of what is not known.
    Ok(row.unwrap_or_else(|lack| end(CutOff::Lacks(lack))).unwrap_or_default())
}

/// A value with what its record has beside it: a thing of its own, so no payload can pass for one.
fn envelope(value: Value, with: &Value) -> ValR<Value> {
    let fields = with
        .fields()
        .ok_or_else(|| Error::typ(with.clone(), "object of what a record has"))?;
    Ok(Value::envelope(value, fields.clone()))
}

fn double<'a>(value: &Value, f: impl Fn(f64) -> f64) -> jaq_core::ValXs<'a, Value> {
    bome(number(value).map(|number| Value::Float(f(number))))
}

fn number(value: &Value) -> Result<f64, Error> {
    value.number().ok_or_else(|| Error::typ(value.clone(), "number"))
}

/// Text that is about to be read as a whole.
fn text(value: &Value) -> Result<&str, Error> {
    let text = value.as_text().ok_or_else(|| Error::typ(value.clone(), "string"))?;
    // What is made of it is three times as long at most.
    charge_bytes(4 * text.len());
    Ok(text)
}

fn from_json(value: &Value) -> ValR<Value> {
    let text = text(value)?;
    // A value for every other byte at most.
    charge(text.len() as u64);
    Value::from_json(text.as_bytes()).map_err(|error| Error::str(format_args!("not JSON: {error}")))
}

fn to_number(value: Value) -> ValR<Value> {
    match value {
        Value::Int(_) | Value::Float(_) => Ok(value),
        Value::Text(ref written) => {
            charge_bytes(written.len());
            match Value::from_json(written.trim().as_bytes()) {
                Ok(number @ (Value::Int(_) | Value::Float(_))) => Ok(number),
                _ => Err(Error::str(format_args!("{value} is no number"))),
            }
        }
        other => Err(Error::typ(other, "number")),
    }
}

/// Seconds since the epoch as RFC 3339 in UTC.
fn to_date(value: &Value) -> ValR<Value> {
    let seconds = number(value)?;
    let millis = (seconds * 1e3).round();
    if !(0.0..=253_402_300_799_000.0).contains(&millis) {
        return Err(Error::str(format_args!("{value} is no time from 1970 to 9999, in seconds")));
    }
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(millis as u64);
    Ok(Value::text(&if millis % 1e3 == 0.0 {
        humantime::format_rfc3339_seconds(time).to_string()
    } else {
        humantime::format_rfc3339_millis(time).to_string()
    }))
}

fn from_date(value: &Value) -> ValR<Value> {
    let written = text(value)?;
    let time = Some(written).filter(|written| written.contains('-')).and_then(time_of);
    let millis = time.ok_or_else(|| Error::str(format_args!("{value} is no RFC 3339 time in UTC")))?;
    Ok(if millis % 1000 == 0 {
        Value::int(i128::from(millis / 1000))
    } else {
        Value::Float(millis as f64 / 1e3)
    })
}

/// All but the unreserved characters of RFC 3986 as `%XX`.
fn encode_uri(text: &str) -> String {
    use std::fmt::Write;
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => write!(out, "%{byte:02X}").expect("a String takes all"),
        }
        out
    })
}

fn decode_uri(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut left = text.as_bytes();
    while let Some((&byte, rest)) = left.split_first() {
        let hex = rest.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.filter(|_| byte == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(decoded) => {
                bytes.push(decoded);
                left = &rest[2..];
            }
            None => {
                bytes.push(byte);
                left = rest;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Value {
    /// What jq calls its type.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Int(_) | Value::Float(_) => "number",
            Value::Text(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
            Value::Envelope(_) => "record",
        }
    }

    fn length(&self) -> ValR<Value> {
        Ok(match self {
            Value::Null => Value::Int(0),
            Value::Bool(_) => return Err(Error::str(format_args!("{self} has no length"))),
            Value::Int(number) => Value::int(number.abs()),
            Value::Float(number) => Value::Float(number.abs()),
            Value::Text(text) => {
                charge_bytes(text.len());
                Value::from(text.chars().count())
            }
            Value::Array(array) => Value::from(array.items.len()),
            Value::Object(object) => Value::from(object.fields.len()),
            Value::Envelope(_) => return Err(Error::str("a record has no length")),
        })
    }

    /// Whether all that is in `other` is in this one: parts of text, items of arrays in any order, fields of objects.
    fn contains(&self, other: &Value) -> bool {
        charge(1);
        match (self, other) {
            (Value::Text(a), Value::Text(b)) => {
                charge_bytes(a.len());
                a.contains(&**b)
            }
            (Value::Array(a), Value::Array(b)) => b.items.iter().all(|b| a.items.iter().any(|a| a.contains(b))),
            (Value::Object(a), Value::Object(b)) => b.fields.iter().all(|(name, b)| a.fields.get(name).is_some_and(|a| a.contains(b))),
            (a, b) => a == b,
        }
    }

    /// Where `other` begins in this text, in characters, or array.
    pub(super) fn indices(&self, other: &Value) -> ValR<Value> {
        let places: Vec<usize> = match (self, other) {
            (Value::Null, _) => return Ok(Value::Null),
            (Value::Text(a), Value::Text(b)) if !b.is_empty() => {
                charge_bytes(a.len().saturating_mul(b.len()));
                let at = a.char_indices().enumerate();
                at.filter(|(_, (byte, _))| a[*byte..].starts_with(&**b))
                    .map(|(place, _)| place)
                    .collect()
            }
            (Value::Array(a), Value::Array(b)) if !b.items.is_empty() => {
                let at = a.items.windows(b.items.len()).enumerate();
                at.filter(|(_, part)| *part == b.items).map(|(place, _)| place).collect()
            }
            (Value::Text(_), Value::Text(_)) | (Value::Array(_), Value::Array(_)) => Vec::new(),
            (Value::Array(a), b) => a
                .items
                .iter()
                .enumerate()
                .filter(|(_, a)| *a == b)
                .map(|(place, _)| place)
                .collect(),
            (a, b) => return Err(Error::index(a.clone(), b.clone())),
        };
        charge_values(places.len());
        Ok(places.into_iter().map(Value::from).collect())
    }
}
