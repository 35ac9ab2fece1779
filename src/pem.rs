//! PEM files of both sides' TLS: certificates, keys, authorities; each fault with its path and its remedy.

use std::path::Path;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, crypto};

/// What is wrong, what to do.
pub type Fault = (String, String);

/// All certificates of a file, at least one, in its order. `key` is what the configuration calls the file.
///
/// # Errors
/// It cannot be read, is no PEM, or holds none.
pub fn certificates(path: &Path, key: &str) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = read.map_err(|e| unreadable(key, path, &e))?;
    if found.is_empty() {
        return Err((
            format!("{key} {} holds no certificate", path.display()),
            "it must be PEM with BEGIN CERTIFICATE".to_owned(),
        ));
    }
    Ok(found)
}

/// The first private key of a file.
///
/// # Errors
/// It cannot be read, is no PEM, or holds none that is in the clear.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Fault> {
    PrivateKeyDer::from_pem_file(path).map_err(|e| match e {
        pem::Error::NoItemsFound => (
            format!("key {} holds no private key", path.display()),
            "it must be PEM with BEGIN PRIVATE KEY, without a pass phrase".to_owned(),
        ),
        e => unreadable("key", path, &e),
    })
}

/// The certificates of a file as those whose signature is trusted.
///
/// # Errors
/// As [`certificates`], and one that cannot be an authority.
pub fn authorities(path: &Path, key: &str) -> Result<RootCertStore, Fault> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, key)? {
        roots.add(certificate).map_err(|e| {
            (
                format!("{key} {} holds a certificate that cannot be an authority: {e}", path.display()),
                "remove it".to_owned(),
            )
        })?;
    }
    Ok(roots)
}

/// The revocation lists of a file, at least one.
///
/// # Errors
/// It cannot be read, is no PEM, or holds none.
pub fn revocations(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, Fault> {
    let read = CertificateRevocationListDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = read.map_err(|e| unreadable("client_crl", path, &e))?;
    if found.is_empty() {
        return Err((
            format!("client_crl {} holds no revocation list", path.display()),
            "it must be PEM with BEGIN X509 CRL".to_owned(),
        ));
    }
    Ok(found)
}

/// A certificate with its intermediates, and the key that belongs to it.
///
/// # Errors
/// As [`certificates`] and [`private_key`], and a key that belongs to another certificate.
pub fn pair(certificate: &Path, key: &Path) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Fault> {
    let chain = certificates(certificate, "certificate")?;
    let private = private_key(key)?;
    CertifiedKey::from_der(chain.clone(), private.clone_key(), &crypto::aws_lc_rs::default_provider())
        .map_err(|e| unfit(certificate, key, &e))?;
    Ok((chain, private))
}

/// Why rustls does not take a certificate with its key.
pub fn unfit(certificate: &Path, key: &Path, error: &rustls::Error) -> Fault {
    let (certificate, key) = (certificate.display(), key.display());
    match error {
        rustls::Error::InconsistentKeys(_) => (
            format!("key {key} does not belong to certificate {certificate}"),
            "give the key that the certificate was requested with; the certificate itself stands first in its file".to_owned(),
        ),
        e => (
            format!("certificate {certificate} with key {key} cannot be used: {e}"),
            "give an RSA, ECDSA or Ed25519 pair".to_owned(),
        ),
    }
}

fn unreadable(key: &str, path: &Path, error: &pem::Error) -> Fault {
    match error {
        pem::Error::Io(e) => (
            format!("{key} {} cannot be read: {e}", path.display()),
            "give the path of a PEM file that this user may read".to_owned(),
        ),
        e => (
            format!("{key} {} is not PEM: {}", path.display(), defect(e)),
            "convert it, for example with openssl x509 or openssl pkey; line ends must be kept".to_owned(),
        ),
    }
}

/// In words of our own: the library shows the line, and of a key that has lost its line ends that is all of it.
fn defect(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "what begins with BEGIN has no such END",
        pem::Error::IllegalSectionStart { .. } => "a line with BEGIN does not end as it must",
        pem::Error::Base64Decode(_) => "between BEGIN and END there is something that is no base64",
        pem::Error::SectionTooLarge => "it is too large",
        _ => "it cannot be understood",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As they come out of variables and editors: on one line, with `\n` in two characters, cut, or with something in between.
    #[test]
    fn of_a_damaged_key_nothing_is_told() {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = made.signing_key.serialize_pem();
        let body: String = key.lines().skip(1).take(3).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.key");
        let on_one_line = key.replace('\n', "");
        for (damaged, said) in [
            (on_one_line.clone(), "not PEM"),
            (key.replace('\n', " "), "not PEM"),
            (key.replace('\n', "\\n"), "not PEM"),
            (on_one_line[..on_one_line.len() - 5].to_owned(), "not PEM"),
            (key[..key.len() - 10].to_owned(), "has no such END"),
            (format!("{}!{}", &key[..40], &key[41..]), "no base64"),
        ] {
            std::fs::write(&path, &damaged).unwrap();
            for (message, remedy) in [
                private_key(&path).unwrap_err(),
                certificates(&path, "certificate").unwrap_err(),
                revocations(&path).unwrap_err(),
            ] {
                let told = format!("{message}; {remedy}");
                assert!(told.contains("a.key"), "{told}");
                for at in 0..body.len() - 8 {
                    let piece = &body[at..at + 8];
                    let numbers = format!("{:?}", piece.as_bytes());
                    let numbers = numbers.trim_matches(['[', ']']);
                    assert!(!told.contains(piece) && !told.contains(numbers), "{piece} is told");
                }
            }
            let (message, _) = private_key(&path).unwrap_err();
            assert!(message.contains(said), "{damaged:.40}: {message}");
        }
    }
}
