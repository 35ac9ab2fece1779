//! Days and times as people write them, of the years that RFC 3339 has: 0001 to 9999.

use crate::schema::Misfit;

const SECONDS_OF_A_DAY: i64 = 86_400;
const NANOSECONDS: u32 = 1_000_000_000;
/// From the first day of the year 1 to the epoch.
const BEFORE_THE_EPOCH: i64 = 719_162;
const MONTHS: [i64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// A day, `YYYY-MM-DD`, as days since the epoch.
pub(super) fn day(text: &str) -> Result<i32, Misfit> {
    let days = days(text.as_bytes()).and_then(|days| i32::try_from(days).ok());
    days.ok_or_else(|| Misfit::mismatch("is no day (YYYY-MM-DD, of the years 0001 to 9999)"))
}

/// A time of RFC 3339 in so many parts of a second since the epoch. What is finer is cut off.
pub(super) fn moment(text: &str, parts: u32) -> Result<i64, Misfit> {
    let no_time = || Misfit::mismatch("is no time (RFC 3339, in UTC, of the years 0001 to 9999)");
    let (seconds, nanoseconds) = instant(text.as_bytes()).ok_or_else(no_time)?;
    let whole = i128::from(seconds) * i128::from(parts);
    let moment = whole + i128::from(nanoseconds / (NANOSECONDS / parts));
    i64::try_from(moment).map_err(|_| Misfit::mismatch("is a time too far away"))
}

/// Seconds since the epoch, and nanoseconds after that.
fn instant(text: &[u8]) -> Option<(i64, u32)> {
    let (day, rest) = text.split_at_checked(10)?;
    let time = rest.strip_suffix(b"Z").or_else(|| rest.strip_suffix(b"+00:00"))?;
    let (time, fraction) = time.split_at_checked(9)?;
    let &[b'T', h, hh, b':', m, mm, b':', s, ss] = time else {
        return None;
    };
    let (hours, minutes, seconds) = (number(&[h, hh])?, number(&[m, mm])?, number(&[s, ss])?);
    if hours > 23 || minutes > 59 || seconds > 60 {
        return None;
    }
    // A leap second is no other one here than that before it.
    let seconds = (hours * 60 + minutes) * 60 + seconds.min(59);
    Some((days(day)? * SECONDS_OF_A_DAY + seconds, nanoseconds(fraction)?))
}

/// Of what stands behind the seconds: nothing, or a point and digits.
fn nanoseconds(fraction: &[u8]) -> Option<u32> {
    let digits = match fraction {
        [] => return Some(0),
        [b'.', digits @ ..] if !digits.is_empty() => digits,
        _ => return None,
    };
    number(digits)?;
    let nine = digits.iter().chain(std::iter::repeat(&b'0')).take(9);
    Some(nine.fold(0, |number, digit| number * 10 + u32::from(digit - b'0')))
}

fn days(text: &[u8]) -> Option<i64> {
    let &[y, yy, yyy, yyyy, b'-', m, mm, b'-', d, dd] = text else {
        return None;
    };
    let (year, month, day) = (number(&[y, yy, yyy, yyyy])?, number(&[m, mm])?, number(&[d, dd])?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = |month: usize| MONTHS[month] + i64::from(leap && month == 1);
    let month = usize::try_from(month - 1).ok().filter(|month| *month < MONTHS.len())?;
    if year == 0 || day == 0 || day > length(month) {
        return None;
    }
    let years = year - 1;
    let before = years * 365 + years / 4 - years / 100 + years / 400;
    Some(before + (0..month).map(length).sum::<i64>() + day - 1 - BEFORE_THE_EPOCH)
}

/// What digits say, as far as there is room for it.
fn number(digits: &[u8]) -> Option<i64> {
    let mut digits = digits.iter();
    digits.try_fold(0i64, |number, digit| {
        digit
            .is_ascii_digit()
            .then(|| number.wrapping_mul(10).wrapping_add(i64::from(digit - b'0')))
    })
}
