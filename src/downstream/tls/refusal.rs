//! What is wrong with the certificate of a client, in a word for the audit log.

use std::io;

use rustls::{CertificateError, Error};

/// `None`: the handshake failed for something else.
pub(in crate::downstream) fn certificate_fault(error: &io::Error) -> Option<&'static str> {
    match error.get_ref()?.downcast_ref::<Error>()? {
        Error::NoCertificatesPresented => Some("certificate_missing"),
        Error::InvalidCertificate(fault) => Some(match fault {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "certificate_expired",
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "certificate_not_valid_yet",
            CertificateError::Revoked => "certificate_revoked",
            CertificateError::UnknownIssuer => "certificate_of_unknown_authority",
            CertificateError::UnknownRevocationStatus => "certificate_without_revocation_list",
            _ => "certificate_not_legal",
        }),
        _ => None,
    }
}
