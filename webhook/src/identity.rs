//! The certificate that the listeners show, swapped while they run.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::certificate::{Bundle, first_validity};

/// A certificate and key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to read the certificate chain")]
    Chain(#[source] rustls::pki_types::pem::Error),
    #[error("failed to read the private key")]
    Key(#[source] rustls::pki_types::pem::Error),
    #[error("the private key is of a kind that cannot be used")]
    Unusable(#[source] rustls::Error),
    #[error("no crypto provider is installed in this process")]
    NoProvider,
    #[error("failed to make a certificate for the time before the first one is stored")]
    Placeholder(#[source] rcgen::Error),
    #[error("failed to set up TLS")]
    Config(#[source] rustls::Error),
}

/// Holds the certificate in use; cheap to clone, shared by all listeners.
#[derive(Clone)]
pub struct Identity {
    current: Arc<RwLock<Current>>,
}

struct Current {
    key: Arc<CertifiedKey>,
    /// The leaf as PEM, to see whether a new bundle brings anything new. Empty for the placeholder.
    leaf: String,
    not_after: i64,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identity")
    }
}

impl Identity {
    /// Starts with a throw-away certificate: health can be asked before the real one exists, and nobody trusts it.
    ///
    /// # Errors
    /// When a key cannot be made, or no crypto provider is installed.
    pub fn placeholder() -> Result<Self, Error> {
        let made =
            rcgen::generate_simple_self_signed(vec!["ers-operator.invalid".to_owned()]).map_err(Error::Placeholder)?;
        let key = certified(&made.cert.pem(), &made.signing_key.serialize_pem())?;
        Ok(Identity { current: Arc::new(RwLock::new(Current { key, leaf: String::new(), not_after: 0 })) })
    }

    /// Shows this bundle's leaf from the next handshake on. Tells whether it is another one than before.
    ///
    /// # Errors
    /// When the certificate or key cannot be used; the one before stays.
    pub fn replace(&self, bundle: &Bundle) -> Result<bool, Error> {
        let key = certified(&bundle.leaf, &bundle.leaf_key)?;
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let changed = current.leaf != bundle.leaf;
        let not_after = first_validity("tls.crt", &bundle.leaf).map_or(0, |validity| validity.not_after);
        *current = Current { key, leaf: bundle.leaf.clone(), not_after };
        Ok(changed)
    }

    /// Whether a stored certificate is shown, not the placeholder.
    pub fn is_loaded(&self) -> bool {
        !self.current.read().unwrap_or_else(PoisonError::into_inner).leaf.is_empty()
    }

    /// When the certificate that is shown ends, in seconds since the Unix epoch; 0 for the placeholder.
    pub fn not_after(&self) -> i64 {
        self.current.read().unwrap_or_else(PoisonError::into_inner).not_after
    }

    /// TLS 1.2 and newer with this certificate, no client certificates.
    ///
    /// # Errors
    /// When no crypto provider is installed.
    pub fn server_config(&self) -> Result<rustls::ServerConfig, Error> {
        let provider = rustls::crypto::CryptoProvider::get_default().ok_or(Error::NoProvider)?;
        Ok(rustls::ServerConfig::builder_with_provider(Arc::clone(provider))
            .with_safe_default_protocol_versions()
            .map_err(Error::Config)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(self.clone())))
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).key))
    }
}

fn certified(chain: &str, key: &str) -> Result<Arc<CertifiedKey>, Error> {
    let provider = rustls::crypto::CryptoProvider::get_default().ok_or(Error::NoProvider)?;
    let mut certificates = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(chain.as_bytes()) {
        certificates.push(certificate.map_err(Error::Chain)?);
    }
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(Error::Key)?;
    let key = CertifiedKey::from_der(certificates, key, provider).map_err(Error::Unusable)?;
    Ok(Arc::new(key))
}
