//! How long an answer may be used, as its server says (RFC 9111 §5.2.2).

use std::time::Duration;

use hyper::header::{AGE, CACHE_CONTROL, HeaderMap};

/// For how long; `None`: it is not said.
pub(super) fn lifetime(headers: &HeaderMap) -> Option<Duration> {
    let directives = || {
        let values = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).map(str::trim)
    };
    let is = |name: &'static str| move |directive: &str| directive.split('=').next().is_some_and(|d| d.eq_ignore_ascii_case(name));
    if directives().any(is("no-store")) || directives().any(is("no-cache")) {
        return Some(Duration::ZERO);
    }
    let seconds = directives().find(|directive| is("max-age")(directive))?.split('=').nth(1)?;
    let seconds: u64 = seconds.trim_matches('"').parse().ok()?;
    // What a cache on the way has kept it for.
    let age = headers.get(AGE).and_then(|age| age.to_str().ok()?.trim().parse().ok());
    Some(Duration::from_secs(seconds.saturating_sub(age.unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_servers_say_is_understood() {
        let read = |lines: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(*name, value.parse().unwrap());
            }
            lifetime(&headers).map(|d| d.as_secs())
        };
        for (lines, expected) in [
            (&[][..], None),
            (&[("cache-control", "public, max-age=300, must-revalidate")], Some(300)),
            (&[("cache-control", "Max-Age=\"7\"")], Some(7)),
            (&[("cache-control", "public"), ("cache-control", "max-age=9")], Some(9)),
            (&[("cache-control", "max-age=300"), ("age", "100")], Some(200)),
            (&[("cache-control", "max-age=300"), ("age", "400")], Some(0)),
            (&[("cache-control", "max-age=300, no-cache")], Some(0)),
            (&[("cache-control", "no-store")], Some(0)),
            (&[("cache-control", "s-maxage=5")], None),
            (&[("cache-control", "max-age=-1")], None),
            (&[("cache-control", "max-age")], None),
            (&[("cache-control", "max-age=99999999999999999999")], None),
        ] {
            assert_eq!(read(lines), expected, "{lines:?}");
        }
    }
}
