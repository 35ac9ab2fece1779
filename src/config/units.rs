//! Values with units: durations, sizes, rates. And plain numbers. A number without the unit it needs is refused:
//! whether `30` was seconds or milliseconds is nothing to guess.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::tree::Node;
use super::walk::Walk;

/// What is wrong, and what would be right.
type Wrong = (String, String);

const DURATIONS: &[(&str, u64)] = &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZES: &[(&str, u64)] = &[("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
const RATES: &[(&str, u64)] = &[("/s", 1)];

impl Walk<'_> {
    /// A whole number.
    pub(super) fn number(&mut self, node: &Node, name: &str, range: RangeInclusive<u64>) -> Option<u64> {
        self.parsed(node, name, |text| {
            let (digits, unit) = split(text);
            match (digits, unit) {
                (Some(n), "") if range.contains(&n) => Ok(n),
                (Some(_), "") => Err(("is out of range".to_owned(), format!("give {} to {}", range.start(), range.end()))),
                _ => Err((
                    "is not a whole number".to_owned(),
                    format!("give {} to {}", range.start(), range.end()),
                )),
            }
        })
    }

    /// `5ms`, `30s`, `10m`, `1h`, `7d`.
    pub(super) fn duration(&mut self, node: &Node, name: &str, range: RangeInclusive<Duration>) -> Option<Duration> {
        let in_ms = |d: &Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        let range = in_ms(range.start())..=in_ms(range.end());
        self.parsed(node, name, |text| {
            with_unit(text, "duration", DURATIONS, &range, "5ms, 30s, 10m, 1h or 7d")
        })
        .map(Duration::from_millis)
    }

    /// Bytes: `512B`, `256KiB`, `1MiB`, `1GiB`.
    pub(super) fn size(&mut self, node: &Node, name: &str, range: RangeInclusive<u64>) -> Option<u64> {
        self.parsed(node, name, |text| {
            with_unit(text, "size", SIZES, &range, "512B, 256KiB, 1MiB or 1GiB")
        })
    }

    /// `5000/s`.
    pub(super) fn rate(&mut self, node: &Node, name: &str, range: RangeInclusive<u64>) -> Option<u64> {
        self.parsed(node, name, |text| with_unit(text, "rate", RATES, &range, "5000/s"))
    }
}

/// The digits in front, unless there are none or too many, and what follows them.
fn split(text: &str) -> (Option<u64>, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (text[..end].parse().ok(), &text[end..])
}

fn with_unit(text: &str, what: &str, units: &[(&str, u64)], range: &RangeInclusive<u64>, examples: &str) -> Result<u64, Wrong> {
    let (number, unit) = split(text);
    let Some(number) = number else {
        return Err((format!("is not a {what}"), format!("write for example {examples}")));
    };
    if unit.is_empty() {
        let likely: Vec<String> = units.iter().take(3).map(|(unit, _)| format!("{number}{unit}")).collect();
        return Err(("has no unit".to_owned(), format!("write {}", likely.join(" or "))));
    }
    let Some((_, factor)) = units.iter().find(|(u, _)| *u == unit) else {
        let remedy = match meant(unit, units) {
            Some(unit) => format!("write {number}{unit}"),
            None => format!("the units are {}", units.iter().map(|(u, _)| *u).collect::<Vec<_>>().join(", ")),
        };
        return Err(("has a wrong unit".to_owned(), remedy));
    };
    match number.checked_mul(*factor) {
        Some(value) if range.contains(&value) => Ok(value),
        _ => Err((
            "is out of range".to_owned(),
            format!("give {} to {}", written(*range.start(), units), written(*range.end(), units)),
        )),
    }
}

/// The unit that a near miss means: `MB`, `mb`, `M`, ` MiB`, `sec`.
fn meant<'u>(unit: &str, units: &[(&'u str, u64)]) -> Option<&'u str> {
    let bare = unit.trim().to_ascii_lowercase();
    let named = match bare.as_str() {
        "k" | "kb" | "ki" => "KiB",
        "m" | "mb" | "mi" if units == SIZES => "MiB",
        "g" | "gb" | "gi" => "GiB",
        "byte" | "bytes" => "B",
        "msec" | "millis" => "ms",
        "sec" | "secs" | "second" | "seconds" => "s",
        "min" | "mins" | "minute" | "minutes" => "m",
        "hour" | "hours" => "h",
        "day" | "days" => "d",
        "/sec" | "/second" | "ps" => "/s",
        other => other,
    };
    units.iter().map(|(u, _)| *u).find(|u| u.eq_ignore_ascii_case(named))
}

/// A value in the largest unit that holds it exactly.
fn written(value: u64, units: &[(&str, u64)]) -> String {
    let exact = units
        .iter()
        .rev()
        .find(|(_, factor)| value >= *factor && value.is_multiple_of(*factor));
    let (unit, factor) = exact.unwrap_or(&units[0]);
    format!("{}{unit}", value / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn duration(text: &str) -> Result<u64, Wrong> {
        with_unit(text, "duration", DURATIONS, &(0..=86_400_000), "5ms")
    }

    fn size(text: &str) -> Result<u64, Wrong> {
        with_unit(text, "size", SIZES, &(1..=1 << 30), "1MiB")
    }

    #[test]
    fn units_mean_what_they_say() {
        assert_eq!(duration("5ms"), Ok(5));
        assert_eq!(duration("0s"), Ok(0));
        assert_eq!(duration("30s"), Ok(30_000));
        assert_eq!(duration("2m"), Ok(120_000));
        assert_eq!(duration("1h"), Ok(3_600_000));
        assert_eq!(duration("1d"), Ok(86_400_000));
        assert_eq!(size("512B"), Ok(512));
        assert_eq!(size("256KiB"), Ok(262_144));
        assert_eq!(size("1GiB"), Ok(1_073_741_824));
        assert_eq!(with_unit("5000/s", "rate", RATES, &(1..=10_000), ""), Ok(5_000));
    }

    #[test]
    fn a_wrong_unit_is_refused_with_what_would_be_right() {
        for (result, wrong, remedy) in [
            (duration("30"), "has no unit", "write 30ms or 30s or 30m"),
            (duration("30sec"), "wrong unit", "write 30s"),
            (duration("1.5s"), "wrong unit", "the units are ms, s, m, h, d"),
            (duration("-1s"), "not a duration", "for example 5ms"),
            (duration("2d"), "out of range", "0ms to 1d"),
            (duration("99999999999999999d"), "out of range", "0ms to 1d"),
            (duration("99999999999999999999d"), "not a duration", "for example 5ms"),
            (duration("5 s"), "wrong unit", "write 5s"),
            (size("64MB"), "wrong unit", "write 64MiB"),
            (size("1M"), "wrong unit", "write 1MiB"),
            (size("4096"), "has no unit", "write 4096B"),
            (size("0B"), "out of range", "1B to 1GiB"),
            (size(""), "not a size", "for example 1MiB"),
        ] {
            let (is, should) = result.unwrap_err();
            assert!(is.contains(wrong) && should.contains(remedy), "{is}; {should}");
        }
    }
}
