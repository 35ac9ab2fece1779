//! Certificate authorities of the tests, made anew for each run.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use std::fs;
use std::path::{Path, PathBuf};

/// An authority; what it issues lies in its folder as `NAME.pem` and `NAME.key`, and for Kafka both as `NAME.store`.
pub struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    /// What stands behind the certificates that it issues: its own, if it is no root.
    chain: String,
}

impl Authority {
    pub fn new(folder: &Path, name: &str) -> Self {
        let folder = folder.join(name);
        fs::create_dir_all(&folder).unwrap();
        let (params, key) = (Self::params(name), KeyPair::generate().unwrap());
        fs::write(folder.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        let issuer = Issuer::new(params, key);
        let chain = String::new();
        Self { folder, issuer, chain }
    }

    /// One that this one has signed, in a folder of that name in its own.
    pub fn intermediate(&self, name: &str) -> Self {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder).unwrap();
        let (mut params, key) = (Self::params(name), KeyPair::generate().unwrap());
        params.serial_number = Some(serial(name));
        let chain = params.signed_by(&key, &self.issuer).unwrap().pem() + &self.chain;
        let issuer = Issuer::new(params, key);
        Self { folder, issuer, chain }
    }

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
    }

    /// The path of one of its files.
    pub fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// Issues a certificate for these host names and addresses; with none it is a client's. The empty name is none.
    pub fn issue(&self, name: &str, hosts: &[&str]) {
        self.issue_until(name, hosts, 2099);
    }

    /// The same, good until the end of a year.
    pub fn issue_until(&self, name: &str, hosts: &[&str], year: i32) {
        self.issue_edited(name, hosts, |params| params.not_after = date_time_ymd(year, 12, 31));
    }

    /// The same, good until 2099, and edited before it is signed.
    pub fn issue_edited(&self, name: &str, hosts: &[&str], edit: impl FnOnce(&mut CertificateParams)) {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let usage = if hosts.is_empty() {
            ExtendedKeyUsagePurpose::ClientAuth
        } else {
            ExtendedKeyUsagePurpose::ServerAuth
        };
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "fleet");
        if !name.is_empty() {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        params.serial_number = Some(serial(name));
        params.extended_key_usages = vec![usage];
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2099, 12, 31);
        edit(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem() + &self.chain;
        fs::write(self.folder.join(format!("{name}.pem")), &certificate).unwrap();
        fs::write(self.folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
        fs::write(self.folder.join(format!("{name}.store")), key.serialize_pem() + &certificate).unwrap();
    }

    /// Writes its list `ca.crl`, of the certificates of these names.
    pub fn revoke(&self, names: &[&str]) {
        let revoked = names.iter().map(|name| RevokedCertParams {
            serial_number: serial(name),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2099, 1, 1),
            crl_number: SerialNumber::from(names.len() as u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.issuer).unwrap().pem().unwrap();
        fs::write(self.folder.join("ca.crl"), list).unwrap();
    }
}

/// A number for each name.
fn serial(name: &str) -> SerialNumber {
    SerialNumber::from_slice(&[&[1], name.as_bytes()].concat())
}
