//! What stands for bytes, decimals, identifiers and times in JSON.

use num_bigint::{BigInt, Sign};
use serde_json::Value;
use uuid::Uuid;

use super::{Decimal, Node, UuidForm};
use crate::schema::Misfit;

/// Bytes of the largest decimal, and digits: conversions take time with their square.
const LARGEST_DECIMAL: usize = 256;
pub(super) const MOST_DIGITS: usize = 600;
/// The most that a number may lose.
pub(super) const MOST_LOSS: u8 = 2;

/// Each byte as the character of that number, as Avro's own JSON has it.
pub(super) fn bytes_as_text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// Appends the bytes of such a text, or gives what is wrong with it; how many they were.
pub(super) fn text_as_bytes(text: &str, out: &mut Vec<u8>) -> Result<(), Misfit> {
    for character in text.chars() {
        let byte = u8::try_from(character).map_err(|_| Misfit::mismatch("has a character above U+00FF, and stands for bytes"))?;
        out.push(byte);
    }
    Ok(())
}

/// A value whose bytes have no length in front.
pub(super) fn bare(node: &Node, bytes: &[u8]) -> Result<Value, Misfit> {
    match node {
        Node::Decimal(decimal) => decimal_as_text(bytes, *decimal).map(Value::from),
        Node::Uuid(UuidForm::Bytes) => uuid_as_text(bytes).map(Value::from),
        _ => Ok(bytes_as_text(bytes).into()),
    }
}

pub(super) fn uuid_as_text(bytes: &[u8]) -> Result<String, Misfit> {
    let uuid = Uuid::from_slice(bytes).map_err(|_| Misfit::damaged("is no UUID"))?;
    Ok(uuid.to_string())
}

pub(super) fn uuid(text: &str) -> Result<Uuid, Misfit> {
    text.parse().map_err(|_| Misfit::mismatch("is no UUID"))
}

/// With all digits behind the point that its scale gives.
pub(super) fn decimal_as_text(bytes: &[u8], decimal: Decimal) -> Result<String, Misfit> {
    if bytes.len() > LARGEST_DECIMAL {
        return Err(Misfit::too_much(format!("is a decimal of more than {LARGEST_DECIMAL} bytes")));
    }
    let (sign, digits) = BigInt::from_signed_bytes_be(bytes).into_parts();
    let digits = digits.to_string();
    let digits = format!("{digits:0>width$}", width = decimal.scale + 1);
    let (whole, parts) = digits.split_at(digits.len() - decimal.scale);
    let sign = if sign == Sign::Minus { "-" } else { "" };
    let point = if parts.is_empty() { "" } else { "." };
    Ok(format!("{sign}{whole}{point}{parts}"))
}

/// The bytes of a decimal that is written as a number, or as text.
pub(super) fn decimal(value: &Value, decimal: Decimal) -> Result<Vec<u8>, Misfit> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return Err(Misfit::mismatch("is neither a number nor text that is one")),
    };
    let digits = unscaled(&text, decimal)?;
    let bytes = digits.to_signed_bytes_be();
    let Some(size) = decimal.size else { return Ok(bytes) };
    let missing = size
        .checked_sub(bytes.len())
        .ok_or_else(|| Misfit::mismatch("has too many digits"))?;
    let mut fixed = vec![if digits.sign() == Sign::Minus { 0xFF } else { 0 }; missing];
    fixed.extend(bytes);
    Ok(fixed)
}

fn unscaled(text: &str, decimal: Decimal) -> Result<BigInt, Misfit> {
    let no_number = || Misfit::mismatch("is no decimal number");
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().map_err(|_| no_number())?),
        None => (text, 0),
    };
    let (negative, mantissa) = mantissa.strip_prefix('-').map_or((false, mantissa), |rest| (true, rest));
    let (whole, parts) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_number = !whole.is_empty() && whole.bytes().chain(parts.bytes()).all(|byte| byte.is_ascii_digit());
    if !is_number {
        return Err(no_number());
    }
    if text.len() > MOST_DIGITS || exponent.unsigned_abs() as usize > MOST_DIGITS {
        return Err(Misfit::too_much(format!("is a decimal of more than {MOST_DIGITS} digits")));
    }
    let mut digits = format!("{whole}{parts}");
    // How many zeros the digits lack up to the scale; below none some are too many, and must be zeros themselves.
    let missing = decimal.scale as i64 - (parts.len() as i64 - i64::from(exponent));
    if missing >= 0 {
        digits.extend(std::iter::repeat_n('0', (missing as usize).min(2 * MOST_DIGITS)));
    } else {
        let keep = digits.len().saturating_sub(missing.unsigned_abs() as usize);
        if digits[keep..].bytes().any(|digit| digit != b'0') {
            return Err(Misfit::mismatch(format!("has more than {} digits behind the point", decimal.scale)));
        }
        digits.truncate(keep);
    }
    let digits = digits.trim_start_matches('0');
    if digits.len() > decimal.precision {
        return Err(Misfit::mismatch(format!("has more than {} digits", decimal.precision)));
    }
    let unscaled: BigInt = if digits.is_empty() {
        BigInt::ZERO
    } else {
        digits.parse().map_err(|_| no_number())?
    };
    Ok(if negative { -unscaled } else { unscaled })
}

/// What a number loses as a value of this type, where a union leaves a choice: nothing, digits that no double has, or those that no
/// float has.
pub(super) fn loss(node: &Node, value: &Value) -> u8 {
    let Value::Number(number) = value else { return 0 };
    let is_double = number.as_i128().is_none_or(|int| int as f64 as i128 == int);
    match node {
        Node::Double if !is_double => 1,
        Node::Float if !is_double || !number.as_f64().is_some_and(comes_back) => MOST_LOSS,
        _ => 0,
    }
}

/// Whether a float is read again as the number that was written.
fn comes_back(number: f64) -> bool {
    (number as f32).to_string().parse() == Ok(number)
}
