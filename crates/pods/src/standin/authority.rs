//! Certificates of stand-ins, all from one authority of the twin, so that a client in a pod can do as it
//! does with the real thing: trust the authority and verify the name.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SigningKey};

/// Names for which a pod keeps certificates; a client that asks for more names has them made anew.
const NAMES: usize = 64;

/// Makes an authority: its certificate and its key, PEM.
///
/// # Errors
/// Where there is no randomness.
pub fn make_authority() -> anyhow::Result<(String, String)> {
    let key = KeyPair::generate().context("make the key of the stand-ins' authority")?;
    let certificate = params().self_signed(&key).context("make the certificate of the stand-ins' authority")?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// Issues the certificates of all stand-ins of a node.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// One for all: a lab's certificates keep no secret from each other.
    key: KeyPair,
    signing: Arc<dyn SigningKey>,
}

impl Authority {
    /// The one whose key this is.
    ///
    /// # Errors
    /// PEM that is no key.
    pub fn new(key: &str) -> anyhow::Result<Self> {
        let own = KeyPair::from_pem(key).context("read the key of the stand-ins' authority")?;
        let key = KeyPair::generate()?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(&der)?;
        Ok(Self { issuer: Issuer::new(params(), own), key, signing })
    }

    fn issue(&self, names: Vec<String>) -> Result<CertifiedKey, rcgen::Error> {
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = named("kilter stand-in");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&self.key, &self.issuer)?;
        Ok(CertifiedKey::new(vec![certificate.der().clone()], self.signing.clone()))
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// Every authority made here has the same name; its key is what tells it apart.
fn params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("kilter stand-ins");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// The certificates that one pod shows: for the name that a client asks for (SNI, RFC 6066), whatever it
/// is, and for the pod's addresses. Which names the real image would have is nobody's knowledge here;
/// what a client can verify is that it speaks to a stand-in of this twin.
#[derive(Debug)]
pub(super) struct Certificates {
    authority: Arc<Authority>,
    addresses: Vec<IpAddr>,
    made: Mutex<HashMap<String, Arc<CertifiedKey>>>,
}

impl Certificates {
    pub(super) fn new(authority: Arc<Authority>, addresses: Vec<IpAddr>) -> Self {
        Self { authority, addresses, made: Mutex::default() }
    }

    fn of(&self, name: &str) -> Result<Arc<CertifiedKey>, rcgen::Error> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = made.get(name) {
            return Ok(known.clone());
        }
        let addresses = self.addresses.iter().map(ToString::to_string);
        let names = Some(name).filter(|name| !name.is_empty()).map(str::to_owned).into_iter().chain(addresses);
        let certified = Arc::new(self.authority.issue(names.collect())?);
        if made.len() >= NAMES {
            made.clear();
        }
        made.insert(name.to_owned(), certified.clone());
        Ok(certified)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().unwrap_or_default();
        self.of(name).inspect_err(|error| tracing::warn!(%error, name, "make a stand-in's certificate")).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_asks_for_many_names_fills_no_memory() {
        let (_, key) = make_authority().unwrap();
        let authority = Arc::new(Authority::new(&key).unwrap());
        let certificates = Certificates::new(authority, vec!["10.244.0.5".parse().unwrap()]);
        let first = certificates.of("payments.shop").unwrap();
        assert!(Arc::ptr_eq(&first, &certificates.of("payments.shop").unwrap()));
        for number in 0..3 * NAMES {
            certificates.of(&format!("host-{number}")).unwrap();
        }
        assert!(certificates.made.lock().unwrap().len() <= NAMES);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let error = Authority::new("nonsense").unwrap_err();
        assert_eq!(error.to_string(), "read the key of the stand-ins' authority");
    }
}
