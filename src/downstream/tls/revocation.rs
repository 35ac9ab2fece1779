//! Which revocation lists the certificates of a device are looked for in.
//!
//! rustls asks either each certificate of a chain for the list of its issuer, or the device's own alone. By the first nobody gets in whose
//! operator has only the lists of those that sign devices; by the second a device gets in under an authority that was revoked. So it is asked
//! twice: the device's own certificate needs a list, those of the authorities above it are looked for in the lists that there are.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientCertVerifierBuilder, VerifierBuilderError};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

/// Verifies devices by a builder's authorities and by these lists, of which there is at least one.
pub(super) fn verifier(
    builder: ClientCertVerifierBuilder,
    lists: Vec<CertificateRevocationListDer<'static>>,
) -> Result<Arc<dyn ClientCertVerifier>, VerifierBuilderError> {
    let alone = lists.len() == 1;
    let builder = builder.with_crls(lists);
    let device = builder.clone().only_check_end_entity_revocation().build()?;
    // The device's own certificate must have it then, so it says nothing of authorities. Lists may be large, and are not held twice for nothing.
    if alone {
        return Ok(device);
    }
    let chain = builder.allow_unknown_revocation_status().build()?;
    Ok(Arc::new(WholeChain { device, chain }))
}

/// What one says is verified by both. All else they have in common.
#[derive(Debug)]
struct WholeChain {
    /// The device's own certificate must have a list.
    device: Arc<dyn ClientCertVerifier>,
    /// Nothing must be revoked by the lists that there are.
    chain: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for WholeChain {
    fn offer_client_auth(&self) -> bool {
        self.device.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.device.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.device.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.device.verify_client_cert(end_entity, intermediates, now)?;
        // Without any the device's own certificate is the whole chain.
        if intermediates.is_empty() {
            return Ok(verified);
        }
        self.chain.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.device.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.device.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.device.supported_verify_schemes()
    }
}
