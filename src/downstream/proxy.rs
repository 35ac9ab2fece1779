//! The PROXY protocol, versions 1 and 2 (HAProxy's `proxy-protocol.txt`): who the client of a balancer is.
//!
//! The header is read exactly: what follows it, a TLS handshake perhaps, stays in the socket.

use std::fmt;
use std::net::SocketAddr;

use ppp::{v1, v2};

/// A header of version 1 is no longer, its line end included.
const LONGEST_V1: usize = 107;
/// What both versions have at least.
const SHORTEST: usize = 12;
const SHORTEST_V2: usize = 16;
/// Addresses and the values behind them in version 2. A certificate's names and an authority fit; certificates are not asked for.
const LONGEST_V2: usize = SHORTEST_V2 + 2048;

/// Version 2 and its command of a connection that is the balancer's own.
const LOCAL: u8 = 0x20;
/// What the header says of TLS that has ended at the balancer.
const TLS: u8 = 0x20;
/// In there: the common name of the client's certificate.
const COMMON_NAME: u8 = 0x22;
/// In there: the client has shown a certificate on this connection, or earlier in this TLS session.
const HAS_SHOWN_CERTIFICATE: u8 = 0x02 | 0x04;

/// What a balancer says of its client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Where the client comes from; `None`: the connection is the balancer's own (a health check), or it does not say.
    pub source: Option<SocketAddr>,
    /// The common name in the client's certificate, if the balancer has verified it.
    pub common_name: Option<String>,
}

/// How far the reading of a header is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// So many bytes more belong to it at least, and are to be read next.
    More(usize),
    /// It is whole.
    Whole(Header),
}

/// The bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault(&'static str);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Fault {}

/// Looks at what has been read so far; never asks for a byte behind the header.
///
/// # Errors
/// It is none, or longer than any that is needed.
pub fn parse(bytes: &[u8]) -> Result<Progress, Fault> {
    let begins = |prefix: &[u8]| bytes.iter().zip(prefix).all(|(a, b)| a == b);
    if begins(v2::PROTOCOL_PREFIX) {
        parse_v2(bytes)
    } else if begins(b"PROXY ") {
        parse_v1(bytes)
    } else {
        Err(Fault("no PROXY header"))
    }
}

fn parse_v1(bytes: &[u8]) -> Result<Progress, Fault> {
    if bytes.len() < SHORTEST {
        return Ok(Progress::More(SHORTEST - bytes.len()));
    }
    if !bytes.ends_with(b"\r\n") {
        // Its two last bytes are known, so two can be missing unless the first of them is there.
        let missing = if bytes.ends_with(b"\r") { 1 } else { 2 };
        return if bytes.len() + missing <= LONGEST_V1 {
            Ok(Progress::More(missing))
        } else {
            Err(Fault("a PROXY header of version 1 over 107 bytes"))
        };
    }
    // What stands between the word and the end of the line is to be ignored, whatever it is.
    if bytes
        .strip_prefix(b"PROXY UNKNOWN")
        .is_some_and(|rest| rest.starts_with(b" ") || rest == b"\r\n")
    {
        return Ok(Progress::Whole(Header::default()));
    }
    let header = v1::Header::try_from(bytes).map_err(|_| Fault("an illegal PROXY header of version 1"))?;
    let source = match header.addresses {
        v1::Addresses::Unknown => None,
        v1::Addresses::Tcp4(tcp) => Some(SocketAddr::from((tcp.source_address, tcp.source_port))),
        v1::Addresses::Tcp6(tcp) => Some(SocketAddr::from((tcp.source_address, tcp.source_port))),
    };
    Ok(Progress::Whole(Header { source, common_name: None }))
}

fn parse_v2(bytes: &[u8]) -> Result<Progress, Fault> {
    // Twelve first: a version 1 header may be as short, and which one it is shows only then.
    if bytes.len() < SHORTEST {
        return Ok(Progress::More(SHORTEST - bytes.len()));
    }
    if bytes.len() < SHORTEST_V2 {
        return Ok(Progress::More(SHORTEST_V2 - bytes.len()));
    }
    let length = SHORTEST_V2 + usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    if length > LONGEST_V2 {
        return Err(Fault("a PROXY header of version 2 over 2 KiB"));
    }
    if bytes.len() < length {
        return Ok(Progress::More(length - bytes.len()));
    }
    // The family and all that stands behind it are to be ignored, whatever they are.
    if bytes[SHORTEST] == LOCAL {
        return Ok(Progress::Whole(Header::default()));
    }
    let header = v2::Header::try_from(bytes).map_err(|_| Fault("an illegal PROXY header of version 2"))?;
    let source = match header.addresses {
        v2::Addresses::IPv4(ip) => Some(SocketAddr::from((ip.source_address, ip.source_port))),
        v2::Addresses::IPv6(ip) => Some(SocketAddr::from((ip.source_address, ip.source_port))),
        v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
    };
    // Of no family there are no addresses, and what the library takes for them are values: so says a balancer's Unix socket who its client is.
    let values = match header.addresses {
        v2::Addresses::Unspecified => &bytes[SHORTEST_V2..length],
        _ => header.tlv_bytes(),
    };
    let common_name = value(values, TLS).and_then(verified_name);
    Ok(Progress::Whole(Header { source, common_name }))
}

/// The value of a type among type-length-values; `None` also where they are cut off.
fn value(mut bytes: &[u8], kind: u8) -> Option<&[u8]> {
    while let [found, high, low, rest @ ..] = bytes {
        let (value, next) = rest.split_at_checked(u16::from_be_bytes([*high, *low]).into())?;
        if *found == kind {
            return Some(value);
        }
        bytes = next;
    }
    None
}

/// The common name, if the balancer says that it has verified a certificate: 0 is success.
fn verified_name(tls: &[u8]) -> Option<String> {
    let [client, verify @ ..] = tls else { return None };
    let (verify, values) = verify.split_first_chunk::<4>()?;
    if client & HAS_SHOWN_CERTIFICATE == 0 || *verify != [0; 4] {
        return None;
    }
    let name = value(values, COMMON_NAME).filter(|name| !name.is_empty())?;
    String::from_utf8(name.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x0a\0\0\x07\x7f\0\0\x01\x10\0\x07\x5b";

    /// What is read if nobody knows more than `parse` tells, and what is left in the socket.
    fn read(mut socket: &[u8]) -> Result<(Header, &[u8]), Fault> {
        let mut bytes = Vec::new();
        loop {
            match parse(&bytes)? {
                Progress::Whole(header) => return Ok((header, socket)),
                Progress::More(count) => {
                    assert!(count > 0);
                    let (part, rest) = socket.split_at_checked(count).ok_or(Fault("the end"))?;
                    bytes.extend_from_slice(part);
                    socket = rest;
                }
            }
        }
    }

    fn source(bytes: &[u8]) -> Result<Option<String>, Fault> {
        let (header, rest) = read(&[bytes, b"\x10\x0d"].concat()).map(|(header, rest)| (header, rest.to_vec()))?;
        assert_eq!(rest, b"\x10\x0d", "what follows stays in the socket");
        Ok(header.source.map(|source| source.to_string()))
    }

    fn with_tls(client: u8, verify: u32, name: &[u8]) -> Vec<u8> {
        let mut tls = vec![client];
        tls.extend_from_slice(&verify.to_be_bytes());
        tls.extend_from_slice(&[0x21, 0, 3]);
        tls.extend_from_slice(b"1.3");
        tls.extend_from_slice(&[0x22, 0, name.len() as u8]);
        tls.extend_from_slice(name);
        let mut header = V2.to_vec();
        header[15] += 3 + tls.len() as u8;
        header.extend_from_slice(&[0x20, 0, tls.len() as u8]);
        header.extend_from_slice(&tls);
        header
    }

    #[test]
    fn both_versions_say_who_is_there() {
        for (bytes, address) in [
            (&b"PROXY TCP4 10.0.0.7 127.0.0.1 4096 1883\r\n"[..], Some("10.0.0.7:4096")),
            (b"PROXY TCP6 2001:db8::7 ::1 65535 1\r\n", Some("[2001:db8::7]:65535")),
            (b"PROXY UNKNOWN\r\n", None),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None),
            (b"PROXY UNKNOWN a b c d e \xff \r\n", None),
            (V2, Some("10.0.0.7:4096")),
            // LOCAL: a health check.
            (b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", None),
            (b"\r\n\r\n\0\r\nQUIT\n\x20\x11\0\x04\x0a\0\0\x07", None),
            (b"\r\n\r\n\0\r\nQUIT\n\x20\x31\0\0", None),
            (b"\r\n\r\n\0\r\nQUIT\n\x20\xff\0\x01x", None),
            (b"\r\n\r\n\0\r\nQUIT\n\x21\0\0\0", None),
        ] {
            assert_eq!(source(bytes), Ok(address.map(str::to_owned)), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn what_is_no_header_is_refused_as_early_as_it_shows() {
        for bytes in [
            &b"\x10\x0d\0\x04MQTT\x04\x02"[..],
            b"PROXX UNKNOWN\r\n",
            b"PROXY UNKNOWNS a\r\n",
            b"PROXY TCP4 10.0.0.7 127.0.0.1 4096\r\n",
            b"PROXY TCP4 10.0.0.7 127.0.0.1 4096 66000\r\n",
            b"PROXY TCP4 10.0.0.300 127.0.0.1 1 2\r\n",
            b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c\x0a\0\0\x07\x7f\0\0\x01\x10\0\x07\x5b",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x04\x0a\0\0\x07",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
            b"\r\n\r\n\0\r\nQUIT\n\x20\x11\xff\xff",
            b"\r\n\r\n\0\r\nQUIT\n\x30\x11\0\0",
        ] {
            assert!(
                source(bytes).is_err_and(|fault| fault != Fault("the end")),
                "{}",
                bytes.escape_ascii()
            );
        }
        let endless = [b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat();
        assert_eq!(source(&endless), Err(Fault("a PROXY header of version 1 over 107 bytes")));
        assert_eq!(parse(b"\x10"), Err(Fault("no PROXY header")));
    }

    #[test]
    fn a_name_counts_only_if_the_balancer_has_verified_it() {
        let name = |bytes: &[u8]| read(bytes).unwrap().0.common_name;
        assert_eq!(name(&with_tls(0x07, 0, b"vin42")).as_deref(), Some("vin42"));
        assert_eq!(
            name(&with_tls(0x05, 0, b"vin42")).as_deref(),
            Some("vin42"),
            "shown earlier in the session"
        );
        assert_eq!(name(&with_tls(0x01, 0, b"vin42")), None, "no certificate was shown");
        assert_eq!(name(&with_tls(0x07, 1, b"vin42")), None, "it is not good");
        assert_eq!(name(&with_tls(0x07, 0, b"\xff")), None);
        assert_eq!(name(&with_tls(0x07, 0, b"")), None);
        // Of no family, as HAProxy says it of who comes by its Unix socket.
        let mut nowhere = with_tls(0x07, 0, b"vin42");
        nowhere.drain(SHORTEST_V2..V2.len());
        (nowhere[13], nowhere[15]) = (0, nowhere[15] - 12);
        assert_eq!(name(&nowhere).as_deref(), Some("vin42"));
        nowhere[12] = 0x20;
        assert_eq!(name(&nowhere), None, "the connection is the balancer's own");
        let mut cut = with_tls(0x07, 0, b"vin42");
        cut[15] -= 1;
        cut.pop();
        // The library finds the fault, or we take no name out of what is cut.
        assert!(read(&cut).is_ok_and(|(header, _)| header.common_name.is_none()) || read(&cut).is_err());
    }
}
