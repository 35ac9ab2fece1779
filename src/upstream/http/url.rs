//! The address of what is asked by HTTP.

use std::{fmt, str::FromStr};

use hyper::Uri;

/// An `http://` or `https://` URL.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpUrl(Uri);

impl FromStr for HttpUrl {
    type Err = &'static str;

    /// # Errors
    /// What it is instead; never a piece of it, which may hold a secret.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let uri: Uri = text.parse().map_err(|_| "is no URL")?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err("does not begin with http:// or https://");
        }
        let authority = uri.authority().ok_or("names no host")?;
        if authority.as_str().contains('@') {
            return Err("holds a user or a password");
        }
        if authority.host().is_empty() {
            return Err("names no host");
        }
        // The library has no port for one that is none, and the scheme's would be asked.
        let port = authority.as_str().strip_prefix(authority.host()).filter(|port| !port.is_empty());
        if port.is_some_and(|port| !is_port(port)) {
            return Err("has no port from 1 to 65535 behind its host and `:`");
        }
        Ok(Self(uri))
    }
}

/// Whether it is a colon and a port.
fn is_port(text: &str) -> bool {
    let digits = text
        .strip_prefix(':')
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|digits| digits.parse::<u16>().ok()).is_some_and(|port| port != 0)
}

impl fmt::Display for HttpUrl {
    /// Without what stands behind `?`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls() { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.0.path())
    }
}

impl fmt::Debug for HttpUrl {
    /// As [`Display`](fmt::Display): a query may hold a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl HttpUrl {
    /// Whether TLS is spoken.
    pub fn is_tls(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }

    /// `host` or `host:port`, as it is written.
    pub fn authority(&self) -> &str {
        self.0.authority().map_or("", |authority| authority.as_str())
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        let port = self.0.port_u16().unwrap_or(if self.is_tls() { 443 } else { 80 });
        format!("{}:{port}", self.0.host().unwrap_or(""))
    }

    /// What is asked for there.
    pub fn path(&self) -> &str {
        self.0.path_and_query().map_or("/", |path| path.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let url: HttpUrl = "https://login.example/realms/a/token?x=y".parse().unwrap();
        assert!(url.is_tls());
        assert_eq!((url.address().as_str(), url.authority()), ("login.example:443", "login.example"));
        assert_eq!(
            (url.path(), url.to_string().as_str()),
            ("/realms/a/token?x=y", "https://login.example/realms/a/token")
        );
        let url: HttpUrl = "http://[::1]:8080".parse().unwrap();
        assert!(!url.is_tls());
        assert_eq!((url.address().as_str(), url.path()), ("[::1]:8080", "/"));
        let url: HttpUrl = "http://[::1]".parse().unwrap();
        assert_eq!(url.address(), "[::1]:80");
    }

    #[test]
    fn what_is_no_address_of_one_is_refused() {
        for (text, words) in [
            ("", "no URL"),
            ("login.example/token", "no URL"),
            ("/token", "does not begin"),
            ("ftp://a/b", "does not begin"),
            ("https://user:secret@a/b", "a user or a password"),
            ("https://a:0/", "no port from 1 to 65535"),
            ("http://a:99999/", "no port from 1 to 65535"),
            ("http://a:/", "no port from 1 to 65535"),
            ("http://a:", "no port from 1 to 65535"),
            ("http://a:+80/", "no port from 1 to 65535"),
            ("http://[::1]:65536/", "no port from 1 to 65535"),
            ("http://:80/", "names no host"),
            ("https:// a/", "no URL"),
        ] {
            let fault = text.parse::<HttpUrl>().unwrap_err();
            assert!(fault.contains(words), "{text}: {fault}");
        }
    }
}
