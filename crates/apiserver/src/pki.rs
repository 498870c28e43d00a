//! Certificates, tokens and kubeconfigs of one twin. Nothing is written here: the caller decides
//! where the files go.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use uuid::Uuid;

/// Why certificates could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A name that no certificate can have, or no randomness.
    #[error("cannot make a certificate")]
    Make(#[from] rcgen::Error),
    /// Not the PEM that it should be.
    #[error("cannot read PEM")]
    Read(#[from] rustls_pki_types::pem::Error),
}

/// A CA, the server's certificate and the tokens. All certificates and keys are PEM.
pub struct Pki {
    /// The CA's certificate.
    pub ca_certificate: String,
    /// The CA's key.
    pub ca_key: String,
    /// The server's certificate.
    pub server: Certified,
    /// The token of people.
    pub admin_token: String,
    /// The token of nodes, and of this server towards kubelets.
    pub node_token: String,
}

/// A certificate and its key, as PEM.
pub struct Certified {
    /// The certificate.
    pub certificate: String,
    /// Its key (PKCS #8).
    pub key: String,
}

/// Makes a CA, a server certificate for `names` (DNS names and addresses) and fresh tokens.
///
/// # Errors
/// A name that no certificate can have.
pub fn generate(names: impl IntoIterator<Item = String>) -> Result<Pki, PkiError> {
    let key = KeyPair::generate()?;
    let params = ca_params();
    let ca_certificate = params.self_signed(&key)?.pem();
    let ca_key = key.serialize_pem();
    let server = issue(&ca_key, "kube-apiserver", names)?;
    Ok(Pki { ca_certificate, ca_key, server, admin_token: token(), node_token: token() })
}

/// A certificate for `names` from the CA of this key, for servers and clients alike; kubelets get
/// theirs so.
///
/// # Errors
/// PEM that cannot be read, or a name that no certificate can have.
pub fn issue(
    ca_key: &str,
    common_name: &str,
    names: impl IntoIterator<Item = String>,
) -> Result<Certified, PkiError> {
    // Every CA made here has the same name; its key is what tells it apart.
    let issuer = Issuer::new(ca_params(), KeyPair::from_pem(ca_key)?);
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names.into_iter().collect::<Vec<_>>())?;
    params.distinguished_name = named(common_name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(Certified { certificate: params.signed_by(&key, &issuer)?.pem(), key: key.serialize_pem() })
}

fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("kilter");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// 244 random bits.
fn token() -> String {
    format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())
}

impl Certified {
    /// The parts as TLS wants them.
    ///
    /// # Errors
    /// PEM that cannot be read.
    pub fn parse(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), PkiError> {
        Ok((certificates(&self.certificate)?, PrivateKeyDer::from_pem_slice(self.key.as_bytes())?))
    }
}

/// The certificates in some PEM.
///
/// # Errors
/// PEM that cannot be read.
pub fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    Ok(CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>()?)
}

/// A kubeconfig with one cluster, one user and one context, all named `context`.
pub fn kubeconfig(server: &str, ca_pem: &str, token: &str, context: &str) -> String {
    let config = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": context, "cluster": {"server": server, "certificate-authority-data": base64(ca_pem.as_bytes())}}],
        "users": [{"name": context, "user": {"token": token}}],
        "contexts": [{"name": context, "context": {"cluster": context, "user": context}}],
        "current-context": context,
    });
    // JSON is YAML, and every reader of kubeconfigs takes it.
    format!("{config:#}\n")
}

/// Standard base64 with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0u32, |acc, b| acc << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let digit = (group >> (18 - 6 * i)) & 63;
            out.push(if i <= chunk.len() { DIGITS[digit as usize] as char } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_the_usual_one() {
        for (bytes, expected) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(bytes.as_bytes()), expected);
        }
    }

    #[test]
    fn what_is_made_can_be_read() {
        let pki = generate(["127.0.0.1".to_owned(), "localhost".to_owned()]).expect("made");
        assert_eq!(pki.server.parse().expect("readable").0.len(), 1);
        assert_eq!(certificates(&pki.ca_certificate).expect("readable").len(), 1);
        assert_ne!(pki.admin_token, pki.node_token);
        let kubelet = issue(&pki.ca_key, "node-1", ["10.240.0.11".to_owned()]).expect("made");
        assert!(kubelet.parse().is_ok());
    }
}
